"""The one loop that drives every recovery method.

Each image of a batch has its own residual and status. Images that converged or diverged leave the batch, so that they
cost nothing more, and cannot harm or be changed by their batch mates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

from memorization.architectures.autoencoder import Autoencoder
from memorization.components import SettingError
from memorization.degradations import Measurement
from memorization.degradations.checks import check_whole
from memorization.recovery.knowledge.estimate import Estimate, OperatorKnowledge
from memorization.recovery.knowledge.known import Known
from memorization.recovery.problem import Access, Method, Problem, neutral_image, rms

REVISION = 1  # of the loop, as `revision` is of a part: raised whenever the same settings may give other numbers


class Status(StrEnum):
    """How the recovery of an image ended."""

    iteration_limit = "iteration_limit"
    converged = "converged"
    diverged = "diverged"


ITERATION_LIMIT, CONVERGED, DIVERGED = STATUSES = tuple(status.value for status in Status)
DIVERGENCE = 100.0  # an answer whose root mean square exceeds this has left the image range [0, 1] for good


@dataclass
class Recovery:
    """The answers of a batch, one entry an image.

    images: (B, C, H, W), finite, clipped to [0, 1].
    status: `converged`, `iteration_limit` or `diverged` (then the image is the last finite one, or the neutral one).
    iterations, queries: int64 (B,); queries counts evaluations of the autoencoder, over all starts.
    residual: (B,), as the method defines it.
    start: int64 (B,), the starting point that won.
    energy: (B,) misfit + |x - f(x)|^2 of the answer x, by which it won; NaN if there was only one start.
    estimates: what the operator knowledge reports of its estimate, (B,) each.
    mask: (B, 1, H, W), the belief that a pixel was observed, None unless the operator is a mask.
    trace: residuals of all images after each iteration (B, iterations), NaN once an image has left; None unless asked.
    path: answers (B, P, C, H, W) after the P numbers of iterations asked for, clipped to [0, 1]; NaN from the iteration
        on at which an image left. 0 iterations are the start.
    """

    images: Tensor
    status: list[str]
    iterations: Tensor
    queries: Tensor
    residual: Tensor
    start: Tensor
    energy: Tensor
    estimates: dict[str, Tensor] = field(default_factory=dict)
    mask: Tensor | None = None
    trace: Tensor | None = field(default=None, repr=False)
    path: Tensor | None = field(default=None, repr=False)


def solve(
    autoencoder: Autoencoder,
    measurement: Measurement,
    method: Method,
    operator: OperatorKnowledge | None = None,
    *,
    starts: int = 1,
    trace: bool = False,
    path: Sequence[int] = (),
    on_iteration: Callable[[int], None] | None = None,
) -> Recovery:
    """Recover the images behind `measurement` with `method`; `operator` says what it knows of `H` (default: all).

    A method that asks for no operator gets the truth to make an image of a smaller measurement.

    The autoencoder is called as it is, so put it in eval mode before. It must map float (B, C, H, W) to the same shape
    and dtype, leave its input as it is, and give derivatives to a method with `gradients`; raises `ValueError`
    otherwise. Numerical failure is a status of the image concerned, never an exception. With several
    `starts`, one after the other, each image keeps the answer of the lowest energy, which costs one more query a start;
    they take turns through the hypotheses of the operator knowledge, then through the starting images of
    `starting_image`. `path` are numbers of iterations after which the answers are kept (of the start that won), an
    image each in memory and nothing else. `on_iteration` is called with the number of iterations gone by (in all,
    `starts * max_iterations`), for a progress bar.
    """
    check_starts(method, starts)
    if not len(measurement.y):
        raise ValueError("measurement.y holds no image")
    if measurement.y.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"measurement.y is {measurement.y.dtype}; give float32 or float64")
    if bad := [i for i, finite in enumerate(measurement.y.flatten(1).isfinite().all(1).tolist()) if not finite]:
        raise ValueError(
            f"measurement.y is not finite in image {bad[0]} of the batch ({len(bad)} in all): leave it out"
        )
    knowledge = operator if operator and asks_operator(method, starts) else Known()
    if knowledge.blind and measurement.y.shape[2:] != measurement.erased.shape[2:]:
        sides = "x".join(map(str, measurement.y.shape[2:]))
        raise ValueError(
            f"operator: {type(knowledge).__name__} cannot suppose what made a measurement of {sides} pixels of a "
            "larger image: use Known()"
        )
    solver = Solver(autoencoder, measurement, method, knowledge, starts > 1, trace, tuple(path), on_iteration)
    best = solver.run(0)
    for start in range(1, starts):
        best = _lower(best, solver.run(start))
    return best


def _lower(a: Recovery, b: Recovery) -> Recovery:
    """Of each image the recovery of the lower energy, with the queries of both."""
    better = b.energy < a.energy

    def pick(of_a: Tensor, of_b: Tensor) -> Tensor:
        return torch.where(better.view(-1, *[1] * (of_a.dim() - 1)), of_b, of_a)

    if a.trace is not None and b.trace is not None:
        length = max(a.trace.shape[1], b.trace.shape[1])
        a, b = (replace(r, trace=_padded(r.trace, length)) for r in (a, b))
    tensors = {
        name: pick(getattr(a, name), getattr(b, name))
        for name in ("images", "iterations", "residual", "start", "energy", "mask", "trace", "path")
        if getattr(a, name) is not None
    }
    return replace(
        a,
        **tensors,
        status=[
            theirs if other else ours for ours, theirs, other in zip(a.status, b.status, better.tolist(), strict=True)
        ],
        queries=a.queries + b.queries,
        estimates={name: pick(a.estimates[name], b.estimates[name]) for name in a.estimates},
    )


def _padded(trace: Tensor | None, length: int) -> Tensor:
    assert trace is not None
    return functional.pad(trace, (0, length - trace.shape[1]), value=torch.nan)


def asks_operator(method: Method, starts: int) -> bool:
    """Does `method` ask what `H` is, in its steps, or to make and to choose among several starts?"""
    return method.uses_operator or starts > 1


def check_starts(method: Method, starts: int) -> None:
    """Raise `SettingError` for a number of starts that `solve` cannot give to `method`."""
    check_whole("starts", starts, 1)
    if starts > 1 and method.access == Access.none:
        raise SettingError("starts", starts, f"{type(method).__name__} has one start: set it to 1")


@dataclass(frozen=True)
class Solver:
    """What `solve` was asked for; `run` solves it from one starting point. `rate`: is the answers' energy asked for?"""

    autoencoder: Autoencoder
    measurement: Measurement
    method: Method
    knowledge: OperatorKnowledge
    rate: bool = False
    trace: bool = False
    path: tuple[int, ...] = ()
    on_iteration: Callable[[int], None] | None = None

    def query(self, x: Tensor) -> Tensor:
        """`f(x)`; raises `ValueError` if `f` breaks its contract."""
        version = x._version
        output = self.autoencoder(x)
        if output.shape != x.shape or output.dtype != x.dtype:
            raise ValueError(
                f"the autoencoder maps {tuple(x.shape)}, {x.dtype} to {tuple(output.shape)}, {output.dtype}; it must "
                "keep shape and dtype"
            )
        if x._version != version:
            raise ValueError("the autoencoder changes its input in place; give lambda x: autoencoder(x.clone())")
        if x.requires_grad and not output.requires_grad:
            raise ValueError("the autoencoder gives no gradients; choose a method that only queries it, as PnPADMM()")
        return output

    @torch.no_grad()
    def run(self, start: int) -> Recovery:
        """The recovery from the starting point of number `start`."""
        method, knowledge, y = self.method, self.knowledge, self.measurement.y
        active = torch.arange(len(y), device=y.device)  # the images still in the batch
        queries = torch.zeros_like(active)

        def query(x: Tensor) -> Tensor:
            queries[active] += 1
            return self.query(x)

        neutral = self._neutral()
        image, hypothesis = divmod(start, knowledge.hypotheses)
        h = knowledge.start(self.measurement, hypothesis)
        state = method.start(Problem(y, h.y, h.operator, h.sigma, query, neutral), image)
        recovery = self._unsolved(start, _finite(method.answer(state), neutral), h, queries)
        trace: list[Tensor] = []
        annealed = 0.0 if method.access == Access.none else knowledge.annealed

        for k in range(method.max_iterations):
            progress = k / method.max_iterations
            if k > 0:
                h = knowledge.update(h, y, method.answer(state), k, progress)
            previous, state = state, method.step(Problem(y, h.y, h.operator, h.sigma, query, neutral), state, progress)
            answer, change = method.answer(state), method.residual(previous, state)

            diverged = ~(rms(answer) <= DIVERGENCE) | ~torch.isfinite(change)  # NaN is never below
            converged = ~diverged & (change <= method.tolerance) & (progress >= annealed)
            recovery.residual[active] = torch.where(diverged, torch.inf, change)
            recovery.iterations[active] = k + 1
            if self.trace:
                trace.append(torch.full_like(recovery.residual, torch.nan))
                trace[-1][active] = recovery.residual[active]

            if self.on_iteration:
                self.on_iteration(1)
            done = converged | diverged
            leaving = torch.ones_like(done) if k == method.max_iterations - 1 else done
            if leaving.any():
                last_finite = _finite(method.answer(previous)[leaving], neutral)
                found = torch.where(diverged[leaving].view(-1, 1, 1, 1), last_finite, answer[leaving])
                status = (converged + 2 * diverged)[leaving]
                self._take(recovery, active[leaving], found.clamp(0, 1), status, h.select(leaving), y[leaving])
                keep = ~leaving
                active, y, h = active[keep], y[keep], h.select(keep)
                state = type(state)(*(tensor[keep] for tensor in state))
                if len(active) == 0:
                    if self.on_iteration:
                        self.on_iteration(method.max_iterations - k - 1)
                    break
            for i, count in enumerate(self.path):
                if count == k + 1 and recovery.path is not None:
                    recovery.path[active, i] = method.answer(state).clamp(0, 1)

        if self.trace:
            recovery.trace = torch.stack(trace, 1)
        if self.rate:
            queries += 1
            gap = (recovery.images - self.query(recovery.images)).flatten(1).square().sum(1)
            recovery.energy = (recovery.energy + gap).nan_to_num(nan=torch.inf, posinf=torch.inf)
        return recovery

    def _neutral(self) -> Tensor:
        """See `Problem.neutral`."""
        y = self.measurement.y
        shape = (y.shape[1], *self.measurement.erased.shape[2:])
        if self.method.access == Access.gradients:
            return neutral_image(self.autoencoder, shape, y)
        return y.new_full(shape, 0.5)

    def _unsolved(self, start: int, images: Tensor, h: Estimate, queries: Tensor) -> Recovery:
        """A recovery before the first step, with `images` for answers; `_take` fills it in as images leave."""
        size, nowhere = len(images), images.new_full((len(images),), torch.nan)
        path = None
        if self.path:
            nothing = torch.full_like(images, torch.nan)
            path = torch.stack([nothing if count else images.clamp(0, 1) for count in self.path], 1)
        return Recovery(
            images=images,
            status=[ITERATION_LIMIT] * size,
            iterations=torch.zeros_like(queries),
            queries=queries,
            residual=torch.full_like(nowhere, torch.inf),
            start=torch.full_like(queries, start),
            energy=nowhere,
            estimates={name: torch.full_like(value, torch.nan) for name, value in self.knowledge.report(h).items()},
            mask=None if h.mask is None else h.mask.expand(size, -1, -1, -1).clone(),
            path=path,
        )

    def _take(self, recovery: Recovery, which: Tensor, found: Tensor, status: Tensor, h: Estimate, y: Tensor) -> None:
        """Images leave the batch: put what was `found`, in [0, 1], their status and their estimate `h` at `which`.

        status: an index into `STATUSES`. y: their measurement.
        """
        recovery.images[which] = found
        for i, code in zip(which.tolist(), status.tolist(), strict=True):
            recovery.status[i] = STATUSES[code]
        for name, value in self.knowledge.report(h).items():
            recovery.estimates[name][which] = value
        if recovery.mask is not None and h.mask is not None:
            recovery.mask[which] = h.mask
        if self.rate:
            diverged = status == STATUSES.index(DIVERGED)
            recovery.energy[which] = torch.where(diverged, torch.inf, self.knowledge.misfit(h, y, found))


def _finite(images: Tensor, neutral: Tensor) -> Tensor:
    """A copy of `images` (B, C, H, W) with `neutral` (C, H, W) in the place of each that holds NaN or infinity."""
    return torch.where(images.flatten(1).isfinite().all(1).view(-1, 1, 1, 1), images, neutral)
