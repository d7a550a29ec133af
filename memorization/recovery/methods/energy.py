"""Descent of the fixed-point energy with gradients through the autoencoder (our own method).

    E(x) = w |H x - y|^2 + lambda |x - f(x)|^2

`w` is 1 without noise and less with noise (`Problem.trust`). `lambda` grows from a hundredth to 1: with few pixels
observed, a prior that is strict from the start holds `x` at the nearest fixed point, whatever was measured.

A memorised image is a fixed point of `f`, so its energy is near zero. Descent does not need that the fixed point
attracts, as an iteration of `f` does, nor that `f` is non-expansive, as a proximal splitting does. It needs white-box
access. It is Adam on `x`, each image on its own; the answer is `f(x)`. It starts from the measurement where it was
observed, and elsewhere from the neutral image, which is the members' mean only if the autoencoder itself holds it. An
attempt that begins late, from an image of a bank, begins with empty running means, while the correction of their bias
counts from the first iteration: its steps are up to twice as long.

Most members are nearly found after a fifth of the iterations, before the learning rate falls. At a few iterations the
solver therefore tries to take the last steps of images near a fixed point by L-BFGS (`quasi_newton`). An image that is
solved by it is done; any other goes on as if nothing had been tried. With `lambda` at its end, an image whose energy no
longer falls has converged, solved or not.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from memorization.degradations.checks import check_flag, check_positive
from memorization.recovery.methods.quasi_newton import QuasiNewton, energy_gradient
from memorization.recovery.problem import Access, Method, Problem, rms, starting_image

NEAR = 0.025  # root mean square of x - f(x), in pixels of [0, 1], at which an answer may be near
LOOK, FALL = 0.05, 0.01  # in this share of the iterations the energy falls by this share of lambda |x - f(x)|^2


class State(NamedTuple):
    """What one step hands to the next; all of shape (B, C, H, W) unless said otherwise."""

    x: Tensor  # (B, C, H, W)
    fx: Tensor  # f at the x before the last step
    residual: Tensor  # (B,), see `Energy.residual`
    first: Tensor  # Adam's running mean of gradients
    second: Tensor  # and of squared gradients
    gap: Tensor  # (B,), the root mean square of x - f(x) before the last step
    before: Tensor  # (B,), the energy a pixel when it was last looked at
    stalled: Tensor  # (B,) bool, was it looked at in the last step and found not to fall?


@dataclass(frozen=True)
class Energy(Method):
    """Settings of the descent; see the module."""

    weight: float = 1.0  # lambda at the end
    first_weight: float = 0.01  # lambda at the start; it grows over the first half of the iterations
    learning_rate: float = 0.1  # of Adam, falls to a hundredth over the iterations
    max_iterations: int = 200
    tolerance: float = 1e-4  # of the root mean square of the gradient times the last lambda over the present one
    ending: bool = True  # is an image ended before the last iteration, when it is solved or gets nowhere?

    access = Access.gradients
    restarts = True
    revision = 2
    knows = (
        "the measurement, the model's own mean image if it holds one, H as far as it is told; where it recalls, "
        "a bank of images extracted from f with queries alone"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "weight", "first_weight", "learning_rate")
        check_flag("ending", self.ending)

    def start(self, problem: Problem, start: int = 0) -> State:
        x = starting_image(problem, start, own="neutral")
        zeros = torch.zeros_like(x)
        nothing = x.new_full((len(x),), torch.inf)
        return State(x, x, nothing, zeros, zeros, nothing, nothing, torch.zeros_like(nothing, dtype=torch.bool))

    def step(self, problem: Problem, state: State, progress: float) -> State:
        weight = self.weight * (self.first_weight / self.weight) ** max(0.0, 1 - 2 * progress)
        fx, gradient = energy_gradient(problem, state.x, weight)

        steps = 1 + round(progress * self.max_iterations)
        first = torch.lerp(state.first, gradient, 0.1)
        second = torch.lerp(state.second, gradient.square(), 0.01)
        scale = (second / (1 - 0.99**steps)).sqrt_().add_(1e-8)
        rate = self.learning_rate * 0.01**progress / (1 - 0.9**steps)
        residual = rms(gradient) * self.weight / weight
        gap = rms(state.x - fx)
        before, stalled = state.before, torch.zeros_like(state.stalled)
        if weight == self.weight and steps % max(2, round(LOOK * self.max_iterations)) == 0:
            energy = problem.trust * problem.operator.misfit(state.x, problem.y) / fx[0].numel() + weight * gap.square()
            before, stalled = energy, energy > before - FALL * weight * gap.square()
        x = torch.addcdiv(state.x, first, scale, value=-rate)
        return State(x, fx, residual, first, second, gap, before, stalled)

    def answer(self, state: State) -> Tensor:
        return state.fx

    def residual(self, previous: State, state: State) -> Tensor:
        return state.residual

    @property
    def last(self) -> QuasiNewton | None:
        return QuasiNewton(self.weight, 0.2 * self.tolerance) if self.ending else None

    def near(self, state: State) -> Tensor:
        return state.gap <= NEAR

    def stalled(self, state: State) -> Tensor:
        return state.stalled & self.ending
