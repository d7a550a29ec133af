"""The last steps of a descent of the fixed-point energy: L-BFGS (Liu and Nocedal, 1989), each image on its own.

Near an answer the energy is nearly quadratic: its Hessian is that of the data, and `(I - J)^T (I - J)`, which is the
identity but for the few directions in which the autoencoder can move. A few steps then do what takes Adam a hundred.
A step after which the energy is not lower is halved.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from memorization.recovery.problem import Access, Method, Problem, rms, starting_image

FIRST = 0.3  # times the gradient: the first step, for a Hessian between 2, where nothing was observed, and 4
CURVED = 1e-6  # least curvature along a step, relative to the change of the gradient: else the step is not remembered
LOOK, FALL = 5, 0.03  # the energy has stalled if it falls by less than this share in so many steps
RISE = 1e-4  # of the energy, relative, that is put down to rounding


class State(NamedTuple):
    """What one step hands to the next: the best point so far, the next step from there, and what is remembered."""

    x: Tensor  # (B, C, H, W)
    fx: Tensor  # (B, C, H, W), f(x)
    gradient: Tensor  # (B, C, H, W)
    energies: Tensor  # (B, LOOK + 1), of the last steps, the latest first
    step: Tensor  # (B, C, H, W)
    moves: Tensor  # (B, memory, n), the last steps, 0 where there were none
    changes: Tensor  # (B, memory, n), of the gradient along them


@dataclass(frozen=True)
class QuasiNewton(Method):
    """Settings of the descent; see the module. A fifth of the iterations is taken, as from any recalled image."""

    weight: float = 1.0  # of |x - f(x)|^2
    tolerance: float = 1e-4  # of the root mean square of the gradient
    max_iterations: int = 200
    memory: int = 8

    access = Access.gradients

    def start(self, problem: Problem, start: int = 0) -> State:
        x = starting_image(problem, start, own="neutral")
        past = x.new_zeros(len(x), self.memory, x[0].numel())
        zeros, energies = torch.zeros_like(x), x.new_full((len(x), LOOK + 1), torch.inf)
        return State(x, x, zeros, energies, zeros, past, past)

    def step(self, problem: Problem, state: State, progress: float) -> State:
        x = state.x + state.step
        fx, gradient = energy_gradient(problem, x, self.weight)
        misfit = problem.trust * problem.operator.misfit(x, problem.y)
        energy = misfit + self.weight * (x - fx).flatten(1).square().sum(1)
        before = state.energies[:, 0]
        lower = energy <= before * (1 + RISE)

        def chosen(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(lower.view(-1, *(1,) * (new.dim() - 1)), new, old)

        first = before.isinf()
        move, change = (t.flatten(1) for t in (state.step, gradient - state.gradient))
        curvature = (move * change).sum(1)
        curved = ~first & (curvature > CURVED * change.square().sum(1))
        known = curved.view(-1, 1)
        moves = torch.cat([torch.where(known, move, 0).unsqueeze(1), state.moves[:, :-1]], 1)
        changes = torch.cat([torch.where(known, change, 0).unsqueeze(1), state.changes[:, :-1]], 1)
        x, fx, gradient = chosen(x, state.x), chosen(fx, state.fx), chosen(gradient, state.gradient)
        step = torch.where((lower | curved).view(-1, 1, 1, 1), direction(gradient, moves, changes), 0.5 * state.step)
        energies = torch.cat([chosen(energy, before).unsqueeze(1), state.energies[:, :-1]], 1)
        return State(x, fx, gradient, energies, step, moves, changes)

    def answer(self, state: State) -> Tensor:
        return state.fx

    def residual(self, previous: State, state: State) -> Tensor:
        return rms(state.gradient)

    def stalled(self, state: State) -> Tensor:
        return state.energies[:, 0] > (1 - FALL) * state.energies[:, -1]


def energy_gradient(problem: Problem, x: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """`f(x)` and the gradient of `w |H x - y|^2 + weight |x - f(x)|^2`, both (B, C, H, W)."""
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        output = problem.autoencoder(point)
    fx = output.detach()
    difference = x - fx
    (pulled,) = torch.autograd.grad(output, point, difference)  # J^T (x - f(x))
    gradient = 2 * problem.trust.view(-1, 1, 1, 1) * problem.operator.gradient(x, problem.y)
    return fx, gradient.add_(difference - pulled, alpha=2 * weight)


def direction(gradient: Tensor, moves: Tensor, changes: Tensor) -> Tensor:
    """The step of L-BFGS by its two loops, (B, C, H, W); moves, changes: (B, M, n), the latest first."""
    curvature = (moves * changes).sum(2)  # (B, M)
    inverse = torch.where(curvature > 0, 1 / curvature, 0)
    left, taken = gradient.flatten(1), []
    for i in range(moves.shape[1]):
        taken.append((inverse[:, i] * (moves[:, i] * left).sum(1)).unsqueeze(1))
        left = left - taken[i] * changes[:, i]
    latest = changes[:, 0].square().sum(1)
    scale = torch.where(latest > 0, curvature[:, 0] / latest, FIRST)
    left = scale.unsqueeze(1) * left
    for i in reversed(range(moves.shape[1])):
        back = (inverse[:, i] * (changes[:, i] * left).sum(1)).unsqueeze(1)
        left = left + (taken[i] - back) * moves[:, i]
    return -left.view_as(gradient)
