"""Plug-and-play ADMM with the autoencoder as the proximal step (Abitbul and Dar, 2023, arXiv:2310.02897).

Splits `min_x 1/2 |Hx - y|^2 + lambda s_f(x)` into a data step with a closed form and one application of the
autoencoder. It queries the autoencoder once an iteration and needs no gradients. With `Alternating()` it is the paper's
blind method, with `Known()` the paper's oracle. Convergence is certain only if `f` is non-expansive, which a trained
autoencoder need not be; a small `penalty` can diverge.

We do not know the paper's penalty, number of iterations and stopping rule; those here are our own.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from memorization.components import SettingError, number
from memorization.recovery.problem import Method, Problem, rms, starting_image

LEAST_PENALTY = 1e-6  # below, and above its inverse, float32 rounds the data or the autoencoder away


class State(NamedTuple):
    """What one step hands to the next, (B, C, H, W) each."""

    v: Tensor  # agrees with the autoencoder
    u: Tensor  # the scaled dual variable


@dataclass(frozen=True)
class PnPADMM(Method):
    """Settings of the splitting; see the module."""

    penalty: float = 0.5  # rho of the augmented Lagrangian; 1 weighs data and autoencoder equally
    max_iterations: int = 100
    tolerance: float = 1e-5  # of the primal and the dual residual

    def __post_init__(self) -> None:
        super().__post_init__()
        if not LEAST_PENALTY <= number(self.penalty) <= 1 / LEAST_PENALTY:
            raise SettingError("penalty", self.penalty, f"it must be from {LEAST_PENALTY:g} to {1 / LEAST_PENALTY:g}")

    def start(self, problem: Problem, start: int = 0) -> State:
        v = starting_image(problem, start, own="measurement")
        return State(v=v, u=torch.zeros_like(v))

    def step(self, problem: Problem, state: State, progress: float) -> State:
        penalty = self.penalty / problem.trust.view(-1, 1, 1, 1)
        scratch = state.v - state.u
        x = problem.operator.solve(problem.y, scratch, penalty)
        z = torch.add(x, state.u, out=scratch)  # a new tensor costs more than the sum
        v = problem.autoencoder(z)
        return State(v=v, u=z - v)

    def answer(self, state: State) -> Tensor:
        return state.v

    def residual(self, previous: State, state: State) -> Tensor:
        change = state.u - previous.u  # what x and v differ by
        primal = rms(change)
        return torch.maximum(primal, self.penalty * rms(torch.sub(state.v, previous.v, out=change)))
