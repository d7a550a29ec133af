"""The member nearest to the measurement: what a holder of the training set would answer (a ceiling)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from memorization.recovery.problem import Access, Problem


class State(NamedTuple):
    """What one step hands to the next."""

    x: Tensor  # (B, C, H, W)


@dataclass(frozen=True, eq=False)
class NearestMember:
    """A recovery method that holds the training set: the member `x` (of (N, C, H, W)) of least `|H x - y|^2`."""

    members: Tensor
    max_iterations: int = 1
    tolerance: float = 0.0

    label: ClassVar[str] = "nearest"
    revision: ClassVar[int] = 1
    access: ClassVar[Access] = Access.none
    knows: ClassVar[str] = "the measurement, H, and all members; not f"
    uses_operator: ClassVar[bool] = True

    def start(self, problem: Problem, start: int = 0) -> State:
        return State(problem.image)

    def step(self, problem: Problem, state: State, progress: float) -> State:
        members = self.members.to(problem.y)
        least = problem.y.new_full((len(problem.y),), torch.inf)
        nearest = torch.zeros(len(problem.y), dtype=torch.int64, device=problem.y.device)
        for i, member in enumerate(members):
            misfit = problem.operator.misfit(member.expand_as(state.x), problem.y)
            nearest = torch.where(misfit < least, i, nearest)
            least = torch.minimum(misfit, least)
        return State(members[nearest])

    def answer(self, state: State) -> Tensor:
        return state.x

    def residual(self, previous: State, state: State) -> Tensor:
        return state.x.new_zeros(len(state.x))
