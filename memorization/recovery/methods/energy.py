"""Descent of the fixed-point energy with gradients through the autoencoder (our own method).

    E(x) = w |H x - y|^2 + lambda |x - f(x)|^2

with `w = 1` without noise and less with (`Problem.trust`). `lambda` grows from a hundredth to 1: with few pixels
observed, a prior that is strict from the start holds `x` at the nearest fixed point, whatever was measured.

A memorised image is a fixed point of `f`, so the energy is near zero there and only there; unlike an iteration of `f`,
descent needs no attraction, and unlike a proximal splitting no non-expansiveness. Adam on `x`, each image on its own;
the answer is `f(x)`. It needs white-box access. Starts from the measurement where it was observed and elsewhere from
the neutral image, which is the members' mean only where the autoencoder itself holds that image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from memorization.degradations.checks import check_positive
from memorization.recovery.problem import Access, Problem, check_budget, rms, starting_image


class State(NamedTuple):
    """What one step hands to the next; all of shape (B, C, H, W) unless said otherwise."""

    x: Tensor  # (B, C, H, W)
    fx: Tensor  # f at the x before the last step
    residual: Tensor  # (B,), see `Energy.residual`
    first: Tensor  # Adam's running mean of gradients
    second: Tensor  # and of squared gradients


@dataclass(frozen=True)
class Energy:
    """Settings of the descent; see the module."""

    weight: float = 1.0  # lambda at the end
    first_weight: float = 0.01  # lambda at the start; it grows over the first half of the iterations
    learning_rate: float = 0.1  # of Adam, falls to a hundredth over the iterations
    max_iterations: int = 200
    tolerance: float = 1e-4  # of the root mean square of the gradient times the last lambda over the present one

    revision: ClassVar[int] = 1
    access: ClassVar[Access] = Access.gradients
    knows: ClassVar[str] = "the measurement, the model's own mean image if it holds one, H as the operator setting says"
    uses_operator: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_budget(self.max_iterations, self.tolerance)
        check_positive(self, "weight", "first_weight", "learning_rate")

    def start(self, problem: Problem, start: int = 0) -> State:
        x = starting_image(problem, start, own="neutral")
        zeros = torch.zeros_like(x)
        return State(x, x, x.new_full((len(x),), torch.inf), zeros, zeros)

    def step(self, problem: Problem, state: State, progress: float) -> State:
        weight = self.weight * (self.first_weight / self.weight) ** max(0.0, 1 - 2 * progress)
        with torch.enable_grad():
            x = state.x.detach().requires_grad_()
            output = problem.autoencoder(x)
        fx = output.detach()
        difference = state.x - fx
        (pulled,) = torch.autograd.grad(output, x, difference)  # J^T (x - f(x))
        gradient = 2 * problem.trust.view(-1, 1, 1, 1) * problem.operator.gradient(state.x, problem.y)
        gradient = gradient.add_(difference - pulled, alpha=2 * weight)

        steps = 1 + round(progress * self.max_iterations)
        first = torch.lerp(state.first, gradient, 0.1)
        second = torch.lerp(state.second, gradient.square(), 0.01)
        scale = (second / (1 - 0.99**steps)).sqrt_().add_(1e-8)
        rate = self.learning_rate * 0.01**progress / (1 - 0.9**steps)
        residual = rms(gradient) * self.weight / weight
        return State(torch.addcdiv(state.x, first, scale, value=-rate), fx, residual, first, second)

    def answer(self, state: State) -> Tensor:
        return state.fx

    def residual(self, previous: State, state: State) -> Tensor:
        return state.residual
