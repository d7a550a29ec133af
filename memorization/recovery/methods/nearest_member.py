"""The member nearest to the measurement: what a holder of the training set would answer. It is the ceiling."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memorization.recovery.problem import Access, ImageState, Method, Problem


@dataclass(frozen=True, eq=False)
class NearestMember(Method):
    """Answers with the one of `members` (N, C, H, W) that has the least `|H x - y|^2`."""

    members: Tensor
    max_iterations: int = 1
    tolerance: float = 0.0

    label: ClassVar[str] = "nearest"
    access = Access.none
    knows = "the measurement, H, and all members; not f"

    def step(self, problem: Problem, state: ImageState, progress: float) -> ImageState:
        members = self.members.to(problem.y)
        least = problem.y.new_full((len(problem.y),), torch.inf)
        nearest = torch.zeros(len(problem.y), dtype=torch.int64, device=problem.y.device)
        for i, member in enumerate(members):
            misfit = problem.operator.misfit(member.expand_as(state.x), problem.y)
            nearest = torch.where(misfit < least, i, nearest)
            least = torch.minimum(misfit, least)
        return ImageState(members[nearest])

    def residual(self, previous: ImageState, state: ImageState) -> Tensor:
        return state.x.new_zeros(len(state.x))
