"""Null-space iteration: `z = f(x)` fills in what was not measured, `x <- z + t H^+ (y - H z)` restores what was.

The component of the image that `H` sees comes from the measurement, the component in its null space from the
autoencoder: the range/null-space decomposition of DDNM (Wang, Yu and Zhang, 2023, arXiv:2212.00490) with `f` as the
denoiser. It is not DDNM, which samples with a diffusion model; it is half-quadratic splitting in the limit of a
vanishing penalty. One query an iteration and no parameter to choose; use it with a known operator and little noise.
Unlike ADMM it does not accumulate the misfit, so an attracting image that contradicts the measurement can hold it. The
gradient steps of regularisation by denoising (Romano, Elad and Milanfar, 2017, arXiv:1611.02862) have the fixed points
of this iteration for some `t < 1` where `H` is a mask.

Our own choices: `t` is 1 without noise and less with (`Problem.trust`); operators other than masks are inverted with
the ridge that `t` stands for, `1 / t - 1` but at least `RIDGE` (`ITERATED` in a chain), so that noise is not blown up;
the weight `w` of an estimated mask scales the correction, `x <- z + t w (y - z)`; the null space starts grey.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from memorization.operators import Composition, Mask
from memorization.recovery.problem import Problem, check_budget, rms, starting_image

RIDGE = 1e-6  # leaves to f what an operator that is no mask passes on with less than a thousandth of its size
ITERATED = 1e-3  # the same where the operator is inverted by conjugate gradients, which a smaller one keeps from ending


class State(NamedTuple):
    """What one step hands to the next."""

    z: Tensor  # (B, C, H, W), an output of f after the first step


@dataclass(frozen=True)
class NullSpace:
    """Settings of the iteration; see the module."""

    max_iterations: int = 100
    tolerance: float = 1e-5  # of the change in one iteration

    access: ClassVar[str] = "queries"
    knows: ClassVar[str] = "the measurement, and H as the operator setting says"
    uses_operator: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_budget(self.max_iterations, self.tolerance)

    def start(self, problem: Problem, start: int = 0) -> State:
        return State(starting_image(problem, start, own="neutral"))

    def step(self, problem: Problem, state: State, progress: float) -> State:
        return State(problem.autoencoder(_corrected(problem, state.z)))

    def answer(self, state: State) -> Tensor:
        return state.z

    def residual(self, previous: State, state: State) -> Tensor:
        return rms(state.z - previous.z)


def _corrected(problem: Problem, z: Tensor) -> Tensor:
    """`z + t H^+ (y - H z)`, (B, C, H, W) as `z` is."""
    h, trust = problem.operator, problem.trust.view(-1, 1, 1, 1)
    if isinstance(h, Mask):
        return torch.lerp(z, problem.y, trust * h.weight)
    return h.solve(problem.y, z, (1 / trust - 1).clamp_min(ITERATED if isinstance(h, Composition) else RIDGE))
