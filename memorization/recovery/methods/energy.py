"""Descent of the fixed-point energy with gradients through the autoencoder (our own method).

    E(x) = w |H x - y|^2 + lambda |x - f(x)|^2

`w` is 1 without noise and less with noise (`Problem.trust`). `lambda` grows from a hundredth to 1: with few pixels
observed, a prior that is strict from the start holds `x` at the nearest fixed point, whatever was measured.

A memorised image is a fixed point of `f`, so its energy is near zero. Descent does not need that the fixed point
attracts, as an iteration of `f` does, nor that `f` is non-expansive, as a proximal splitting does. It needs white-box
access. It is Adam on `x`, each image on its own; the answer is `f(x)`. It starts from the measurement where it was
observed, and elsewhere from the neutral image, which is the members' mean only if the autoencoder itself holds it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from memorization.degradations.checks import check_positive
from memorization.recovery.problem import Access, Method, Problem, rms, starting_image


class State(NamedTuple):
    """What one step hands to the next; all of shape (B, C, H, W) unless said otherwise."""

    x: Tensor  # (B, C, H, W)
    fx: Tensor  # f at the x before the last step
    residual: Tensor  # (B,), see `Energy.residual`
    first: Tensor  # Adam's running mean of gradients
    second: Tensor  # and of squared gradients


@dataclass(frozen=True)
class Energy(Method):
    """Settings of the descent; see the module."""

    weight: float = 1.0  # lambda at the end
    first_weight: float = 0.01  # lambda at the start; it grows over the first half of the iterations
    learning_rate: float = 0.1  # of Adam, falls to a hundredth over the iterations
    max_iterations: int = 200
    tolerance: float = 1e-4  # of the root mean square of the gradient times the last lambda over the present one

    access = Access.gradients
    restarts = True
    knows = (
        "the measurement, the model's own mean image if it holds one, H as far as it is told; where it recalls, "
        "a bank of images extracted from f with queries alone"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
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
