"""Null-space iteration: `z = f(x)` fills in what was not measured, `x <- z + t H^+ (y - H z)` restores what was.

The component of the image that `H` sees comes from the measurement, the component in its null space from the
autoencoder: the range/null-space decomposition of DDNM (Wang, Yu and Zhang, 2023, arXiv:2212.00490) with `f` as the
denoiser. It is not DDNM, which samples with a diffusion model; it is half-quadratic splitting in the limit of a
vanishing penalty. One query an iteration and no penalty to choose; use it with a known operator and little noise.
Unlike ADMM it does not accumulate the misfit, so an attracting image that contradicts the measurement can hold it. The
gradient steps of regularisation by denoising (Romano, Elad and Milanfar, 2017, arXiv:1611.02862) have the fixed points
of this iteration for some `t < 1` where `H` is a mask.

The correction projects `z` onto the images that were measured as `y`. `relaxation` times as long a step, up to twice,
is what relaxed projections take (Gubin, Polyak and Raik, 1967): 1 is DDNM's, and nearly 2 escapes images that
contradict the measurement.

Our own choices: `t` is `relaxation` without noise and less with (`Problem.trust`); operators other than masks are
inverted with the ridge that the trust `w` stands for, `1 / w - 1` but at least `RIDGE` (`ITERATED` in a chain), so that
noise is not blown up; the weight of an estimated mask scales the correction; the null space starts grey.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from memorization.components import SettingError
from memorization.recovery.problem import Access, Problem, check_budget, rms, starting_image

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
    relaxation: float = 1.0  # of the correction, in (0, 2]; 1 is the projection, nearly 2 tends to recover more

    revision: ClassVar[int] = 1
    access: ClassVar[Access] = Access.queries
    knows: ClassVar[str] = "the measurement, and H as the operator setting says"
    uses_operator: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_budget(self.max_iterations, self.tolerance)
        if not 0 < self.relaxation <= 2:
            raise SettingError("relaxation", self.relaxation, "it must be above 0 and at most 2")

    def start(self, problem: Problem, start: int = 0) -> State:
        return State(starting_image(problem, start, own="neutral"))

    def step(self, problem: Problem, state: State, progress: float) -> State:
        return State(problem.autoencoder(self._corrected(problem, state.z)))

    def answer(self, state: State) -> Tensor:
        return state.z

    def residual(self, previous: State, state: State) -> Tensor:
        return rms(state.z - previous.z)

    def _corrected(self, problem: Problem, z: Tensor) -> Tensor:
        """`z + t H^+ (y - H z)`, (B, C, H, W) as `z` is."""
        h, trust = problem.operator, problem.trust.view(-1, 1, 1, 1)
        if (weight := h.mask) is not None:
            return torch.lerp(z, problem.y, self.relaxation * trust * weight)
        x = h.solve(problem.y, z, (1 / trust - 1).clamp_min(ITERATED if h.iterated else RIDGE))
        return torch.lerp(z, x, self.relaxation)
