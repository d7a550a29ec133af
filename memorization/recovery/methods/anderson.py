"""Anderson extrapolation of a method's iteration (Walker and Ni, 2011, doi:10.1137/10078356X).

The step of the method must be a fixed-point map `g` of its state `s`. The next state is not `g(s)`, but a combination
of the last `depth + 1` values of `g`. Its weights add up to 1 and cancel the residuals `g(s) - s` best, for each image
by itself. Answer and residual remain those of `g(s)`. Use it where queries are expensive or an iteration settles
slowly; it costs `2 depth + 2` copies of the state. It is no recovery method of its own, and is not for descent.

Our own choices: it begins only where the root mean square of `g(s) - s` is at most `NEAR`; far from a fixed point it
changes which one is reached, for the worse. An image whose residual doubles forgets its past and takes the plain step.
A blind operator changes `g` between iterations. The past is then that of other maps, which costs iterations, but does
not move the fixed point, because the data step is always the current one.
"""

from collections import namedtuple
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from memorization.components import SettingError, number
from memorization.degradations.checks import check_whole
from memorization.recovery.problem import Access, Method, Problem

RIDGE = 1e-6  # of the least squares, relative to the largest of its squared columns
GROWTH = 2.0
NEAR = 1e-3  # in pixels of [0, 1]
DEEPEST = 50  # steps that are kept of each image


@cache
def _state(fields: tuple[str, ...]) -> Any:
    """A state with the `fields` of a method, which hold `g(s)` of the last step, and those of the extrapolation.

    point: (B, fields, C, H, W), the `s` of the next step. residual: (B, n), `g(s) - s` of the last step, n numbers a
    state. images, residuals: (B, depth, n), how `g(s)` and the residual changed in the last steps, the latest first.
    """
    return namedtuple("State", (*fields, "point", "residual", "images", "residuals"))


@dataclass(frozen=True)
class Anderson(Method):
    """`method` with its last `depth` steps extrapolated; see the module."""

    method: Method
    depth: int = 3

    def __post_init__(self) -> None:
        if not isinstance(self.method, Method):
            raise SettingError("method", self.method, "give an object, such as Iterate()")
        for name in ("knows", "uses_operator", "max_iterations", "tolerance"):
            object.__setattr__(self, name, getattr(self.method, name))
        if number(self.depth) < 1:
            raise SettingError("depth", self.depth, "it must be at least 1")
        check_whole("depth", self.depth, 1)
        if self.depth > DEEPEST:
            raise SettingError("depth", self.depth, f"it is at most {DEEPEST}: so many steps are kept of each image")
        if self.method.access != Access.queries:
            name = type(self.method).__name__
            raise SettingError("depth", self.depth, f"it is of a fixed-point iteration, which {name} is not")

    def start(self, problem: Problem, start: int = 0) -> Any:
        inner = self.method.start(problem, start)
        point = torch.stack(tuple(inner), 1)
        past = point.new_zeros(len(point), self.depth, point[0].numel())
        return _state(inner._fields)(*inner, point, past[:, 0], past, past)

    def step(self, problem: Problem, state: Any, progress: float) -> Any:
        image = torch.stack(tuple(self.method.step(problem, _at(state), progress)), 1)  # g(s), like state.point
        before = torch.stack(tuple(state[: image.shape[1]]), 1)
        residual = (image - state.point).flatten(1)
        images = torch.cat([(image - before).flatten(1).unsqueeze(1), state.images[:, :-1]], 1)
        residuals = torch.cat([(residual - state.residual).unsqueeze(1), state.residuals[:, :-1]], 1)
        size, last = residual.square().sum(1), state.residual.square().sum(1)
        near = (last > 0) & (size <= NEAR**2 * residual.shape[1])  # the first step has no past
        good = (near & (size <= GROWTH**2 * last)).view(-1, 1, 1)
        images, residuals = torch.where(good, images, 0), torch.where(good, residuals, 0)
        gram = residuals @ residuals.mT  # (B, depth, depth)
        largest = gram.diagonal(dim1=1, dim2=2).amax(1).view(-1, 1, 1)
        ridge = torch.where(largest > 0, RIDGE * largest, 1) * torch.eye(self.depth).to(gram)
        weights = torch.linalg.solve_ex(gram + ridge, residuals @ residual.unsqueeze(2))[0]  # (B, depth, 1)
        following = (image.flatten(1) - (images.mT @ weights).squeeze(2)).view_as(image)
        return type(state)(*image.unbind(1), following, residual, images, residuals)

    def answer(self, state: Any) -> Tensor:
        return self.method.answer(state)

    def residual(self, previous: Any, state: Any) -> Tensor:
        return self.method.residual(_at(previous), state)


def _at(state: Any) -> Any:
    """`state` with the point of the next step in the fields of the method."""
    return state._replace(**dict(zip(state._fields, state.point.unbind(1), strict=False)))
