"""Plain iteration of the autoencoder, the baseline: `x <- f(x)` from the measurement.

Finds training images that are attracting fixed points of `f` (Radhakrishnan, Belkin and Uhler, 2020) if the
measurement lies in their basin. It needs no operator, and forgets the measurement after the first step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from memorization.recovery.problem import Access, Problem, check_budget, rms, starting_image


class State(NamedTuple):
    """What one step hands to the next."""

    x: Tensor  # (B, C, H, W)


@dataclass(frozen=True)
class Iterate:
    """Settings of the iteration; see the module."""

    max_iterations: int = 100
    tolerance: float = 1e-5  # of the change in one iteration

    revision: ClassVar[int] = 1
    access: ClassVar[Access] = Access.queries
    knows: ClassVar[str] = (
        "the measurement; H to enlarge a smaller one; with several starts, H as the operator setting says"
    )
    uses_operator: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_budget(self.max_iterations, self.tolerance)

    def start(self, problem: Problem, start: int = 0) -> State:
        return State(starting_image(problem, start, own="measurement"))

    def step(self, problem: Problem, state: State, progress: float) -> State:
        return State(problem.autoencoder(state.x))

    def answer(self, state: State) -> Tensor:
        return state.x

    def residual(self, previous: State, state: State) -> Tensor:
        return rms(state.x - previous.x)
