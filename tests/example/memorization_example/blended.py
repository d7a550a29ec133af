"""Blended iteration (Krasnoselskii, 1955) with the measurement put back: a method of another package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from memorization.recovery import Access, Problem


class State(NamedTuple):
    """What one step hands to the next."""

    x: Tensor  # (B, C, H, W)


@dataclass(frozen=True)
class Blended:
    """`x <- (1 - share) x + share f(x)`, then the data step."""

    share: float = 0.5
    max_iterations: int = 20
    tolerance: float = 1e-4

    revision: ClassVar[int] = 1
    access: ClassVar[Access] = Access.queries
    knows: ClassVar[str] = "the measurement, and H as the operator setting says"
    uses_operator: ClassVar[bool] = True

    def start(self, problem: Problem, start: int = 0) -> State:
        return State(problem.image)

    def step(self, problem: Problem, state: State, progress: float) -> State:
        x = torch.lerp(state.x, problem.autoencoder(state.x), self.share)
        return State(problem.operator.solve(problem.y, x, 0.1))

    def answer(self, state: State) -> Tensor:
        return state.x

    def residual(self, previous: State, state: State) -> Tensor:
        return (state.x - previous.x).flatten(1).square().mean(1).sqrt()
