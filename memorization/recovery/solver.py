"""The one loop that drives every recovery method.

Each image of a batch has its own residual and status. An image that converged or diverged leaves the batch: it costs
nothing more, and it cannot change the other images.
"""

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
from memorization.recovery.knowledge.estimate import OperatorKnowledge
from memorization.recovery.knowledge.known import Known
from memorization.recovery.problem import Access, Method, Problem, neutral_image, rms

REVISION = 1  # of the loop, as `revision` is of a part: raised whenever the same settings may give other numbers
DIVERGENCE = 100.0  # an answer whose root mean square exceeds this has left the image range [0, 1] for good


Status = StrEnum("Status", ["iteration_limit", "converged", "diverged"])  # how the recovery of an image ended
STATUSES = tuple(status.value for status in Status)


@dataclass
class Recovery:
    """The answers of a batch, one entry an image.

    trace: residuals of all images after each iteration (B, iterations), NaN once an image has left; None unless asked.
    path: answers (B, P, C, H, W) after the P numbers of iterations asked for, clipped to [0, 1]; NaN from the iteration
        on at which an image left. 0 iterations are the start.
    """

    images: Tensor  # (B, C, H, W), finite, clipped to [0, 1] unless `solve` was told otherwise
    status: list[str]  # words of `Status`; the image of `diverged` is the last finite one, or the neutral one
    iterations: Tensor  # int64 (B,)
    queries: Tensor  # int64 (B,): evaluations of the autoencoder, over all starts
    residual: Tensor  # (B,), as the method defines it
    start: Tensor  # int64 (B,), the starting point that won
    energy: Tensor  # (B,): misfit + |x - f(x)|^2 of the answer x, by which it won; NaN if there was only one start
    estimates: dict[str, Tensor] = field(default_factory=dict)  # what the knowledge reports of its estimate, (B,) each
    mask: Tensor | None = None  # (B, 1, H, W), the belief that a pixel was observed, None unless the operator is a mask
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
    bounded: bool = True,
    on_iteration: Callable[[int], None] | None = None,
) -> Recovery:
    """Recover the images behind `measurement` with `method`; `operator` says what it knows of `H` (default: all).

    A method that does not use the operator is told the truth, to make an image of a smaller measurement.

    The autoencoder is called as it is: put it in eval mode before. It must map float (B, C, H, W) to the same shape and
    dtype, leave its input as it is, and give derivatives to a method with `gradients`. `solve` may be called under
    `torch.inference_mode()`. Raises `ValueError` for an autoencoder or a measurement that cannot be used. Numerical
    failure is a status of the image concerned, never an exception.

    starts: starting points, one after the other. Each image keeps the answer of the lowest energy, which costs one more
        query a start. They take turns through the hypotheses of the operator knowledge, then through the starting
        images of `starting_image`.
    path: numbers of iterations after which the answers are kept (of the start that won), at the cost of an image each
        in memory.
    bounded: answers are clipped to [0, 1]; an iteration that is to be gone on with needs them as they are.
    on_iteration: called with the number of iterations gone by, in all `starts * max_iterations`, for a progress bar.
    """
    check_starts(method, starts)
    _check_measurement(measurement)
    knowledge = operator if operator and asks_operator(method, starts) else Known()
    if knowledge.blind and measurement.y.shape[2:] != measurement.erased.shape[2:]:
        sides = "x".join(map(str, measurement.y.shape[2:]))
        what = f"what made a measurement of {sides} pixels of a larger image"
        raise ValueError(f"operator: {type(knowledge).__name__} cannot suppose {what}: use Known()")
    with torch.inference_mode(False):  # under which no input could be checked, and no gradient taken
        measurement = replace(measurement, y=_ordinary(measurement.y))
        solver = Solver(
            autoencoder, measurement, method, knowledge, starts > 1, trace, tuple(path), bounded, on_iteration
        )
        best = solver.run(0)
        for start in range(1, starts):
            best = _lower(best, solver.run(start))
    return best


def asks_operator(method: Method, starts: int) -> bool:
    """Does `method` ask what `H` is, in its steps, or to make and to choose among several starts?"""
    return method.uses_operator or starts > 1


def check_starts(method: Method, starts: int) -> None:
    """Raise `SettingError` for a number of starts that `solve` cannot give to `method`."""
    check_whole("starts", starts, 1)
    if starts > 1 and method.access == Access.none:
        raise SettingError("starts", starts, f"{type(method).__name__} has one start: set it to 1")


def _check_measurement(measurement: Measurement) -> None:
    if not len(measurement.y):
        raise ValueError("measurement.y holds no image")
    if measurement.y.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"measurement.y is {measurement.y.dtype}; give float32 or float64")
    if bad := [i for i, finite in enumerate(measurement.y.flatten(1).isfinite().all(1).tolist()) if not finite]:
        where = f"image {bad[0]} of the batch ({len(bad)} in all)"
        raise ValueError(f"measurement.y is not finite in {where}: leave it out")


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
    bounded: bool = True
    on_iteration: Callable[[int], None] | None = None

    @torch.no_grad()
    def run(self, start: int) -> Recovery:
        """The recovery from the starting point of number `start`."""
        attempt, count, told = _Attempt(self, start), 0, self.on_iteration or (lambda _: None)
        while len(attempt.active):
            attempt.step(count)
            count += 1
            told(1)
        told(self.method.max_iterations - count)
        return attempt.finish()

    def query(self, x: Tensor) -> Tensor:
        """`f(x)`; raises `ValueError` if `f` breaks its contract."""
        version = x._version
        output = self.autoencoder(x)
        if output.shape != x.shape or output.dtype != x.dtype:
            given, got = (f"{tuple(images.shape)}, {images.dtype}" for images in (x, output))
            raise ValueError(f"the autoencoder maps {given} to {got}; it must keep shape and dtype")
        if x._version != version:
            raise ValueError("the autoencoder changes its input in place; give lambda x: autoencoder(x.clone())")
        if x.requires_grad and not output.requires_grad:
            raise ValueError("the autoencoder gives no gradients; choose a method that only queries it, as PnPADMM()")
        return _ordinary(output)


class _Attempt:
    """A batch on its way from one starting point. Images that are done leave it; what was found of them is kept.

    active: indices of the images still in the batch. `y`, `estimate` and `state` are those of these images alone.
    found, status: the recovery so far, and the index into `STATUSES` of each image.
    """

    def __init__(self, solver: Solver, start: int) -> None:
        self.solver, self.y = solver, solver.measurement.y
        self.active = torch.arange(len(self.y), device=self.y.device)
        self.queries = torch.zeros_like(self.active)
        shape = (self.y.shape[1], *solver.measurement.erased.shape[2:])
        self.neutral = neutral_image(solver.autoencoder, solver.method.access, shape, self.y)
        image, hypothesis = divmod(start, solver.knowledge.hypotheses)
        self.estimate = solver.knowledge.start(solver.measurement, hypothesis)
        self.state = solver.method.start(self._problem(), image)
        self.status = torch.zeros_like(self.active)
        self.found = self._nothing_found(start)
        self.trace: list[Tensor] = []
        # a method that asks the autoencoder for nothing takes one step, on the first estimate
        self.annealed = 0.0 if solver.method.access == Access.none else solver.knowledge.annealed

    def step(self, k: int) -> None:
        """Iteration `k`, from 0 on; the images that are done after it leave, after the last one all of them."""
        method = self.solver.method
        progress = k / method.max_iterations
        if k > 0:
            answer = method.answer(self.state)
            self.estimate = self.solver.knowledge.update(self.estimate, self.y, answer, k, progress)
        previous, self.state = self.state, method.step(self._problem(), self.state, progress)
        answer, change = method.answer(self.state), method.residual(previous, self.state)

        diverged = ~(rms(answer) <= DIVERGENCE) | ~torch.isfinite(change)  # NaN is never below
        converged = ~diverged & (change <= method.tolerance) & (progress >= self.annealed)
        found, residual = self.found, torch.where(diverged, torch.inf, change)
        found.residual[self.active], found.iterations[self.active] = residual, k + 1
        if self.solver.trace:
            self.trace.append(torch.full_like(found.residual, torch.nan))
            self.trace[-1][self.active] = residual
        done = converged | diverged
        leaving = torch.ones_like(done) if k == method.max_iterations - 1 else done
        if leaving.any():
            before = _finite(method.answer(previous)[leaving], self.neutral)
            images = torch.where(diverged[leaving].view(-1, 1, 1, 1), before, answer[leaving])
            images = images.clamp(0, 1) if self.solver.bounded else images
            self._leave(leaving, images, (converged + 2 * diverged)[leaving])
        for place, count in enumerate(self.solver.path):
            if count == k + 1 and found.path is not None:
                found.path[self.active, place] = method.answer(self.state).clamp(0, 1)

    def finish(self) -> Recovery:
        """What was found, once all images have left."""
        found = self.found
        found.status = [STATUSES[code] for code in self.status.tolist()]
        if self.solver.trace:
            found.trace = torch.stack(self.trace, 1)
        if self.solver.rate:
            found.queries += 1
            gap = (found.images - self.solver.query(found.images)).flatten(1).square().sum(1)
            found.energy = (found.energy + gap).nan_to_num(nan=torch.inf, posinf=torch.inf)
        return found

    def _query(self, x: Tensor) -> Tensor:
        self.queries[self.active] += 1
        return self.solver.query(x)

    def _problem(self) -> Problem:
        h = self.estimate
        return Problem(self.y, h.y, h.operator, h.sigma, self._query, self.neutral)

    def _nothing_found(self, start: int) -> Recovery:
        """The recovery before the first step, whose images are the starting ones."""
        images, mask = _finite(self.solver.method.answer(self.state), self.neutral), self.estimate.mask
        size, nowhere = len(images), images.new_full((len(images),), torch.nan)
        at = [torch.full_like(images, torch.nan) if count else images.clamp(0, 1) for count in self.solver.path]
        report = self.solver.knowledge.report(self.estimate)
        return Recovery(
            images=images,
            status=[],
            iterations=torch.zeros_like(self.queries),
            queries=self.queries,
            residual=torch.full_like(nowhere, torch.inf),
            start=torch.full_like(self.queries, start),
            energy=nowhere,
            estimates={name: torch.full_like(value, torch.nan) for name, value in report.items()},
            mask=None if mask is None else mask.expand(size, -1, -1, -1).clone(),
            path=torch.stack(at, 1) if at else None,
        )

    def _leave(self, leaving: Tensor, images: Tensor, status: Tensor) -> None:
        """Keep the answers `images` (L, C, H, W), in [0, 1], of the L images that `leaving` (B,) names, and drop them.

        status: (L,), indices into `STATUSES`.
        """
        knowledge, found = self.solver.knowledge, self.found
        which, estimate = self.active[leaving], self.estimate.select(leaving)
        found.images[which] = images
        self.status[which] = status
        for name, value in knowledge.report(estimate).items():
            found.estimates[name][which] = value
        if found.mask is not None and estimate.mask is not None:
            found.mask[which] = estimate.mask
        if self.solver.rate:
            misfit = knowledge.misfit(estimate, self.y[leaving], images)
            found.energy[which] = torch.where(status == STATUSES.index(Status.diverged), torch.inf, misfit)
        keep = ~leaving
        self.active, self.y, self.estimate = self.active[keep], self.y[keep], self.estimate.select(keep)
        self.state = type(self.state)(*(tensor[keep] for tensor in self.state))


def _lower(a: Recovery, b: Recovery) -> Recovery:
    """Of each image the recovery of the lower energy, with the queries of both."""
    better = b.energy < a.energy

    def pick(of_a: Tensor, of_b: Tensor) -> Tensor:
        return torch.where(better.view(-1, *[1] * (of_a.dim() - 1)), of_b, of_a)

    if a.trace is not None and b.trace is not None:
        length = max(a.trace.shape[1], b.trace.shape[1])
        padded = (functional.pad(t, (0, length - t.shape[1]), value=torch.nan) for t in (a.trace, b.trace))
        a, b = (replace(r, trace=trace) for r, trace in zip((a, b), padded, strict=True))
    tensors = {
        name: pick(getattr(a, name), getattr(b, name))
        for name in ("images", "iterations", "residual", "start", "energy", "mask", "trace", "path")
        if getattr(a, name) is not None
    }
    status = [pair[other] for *pair, other in zip(a.status, b.status, better.tolist(), strict=True)]
    estimates = {name: pick(a.estimates[name], b.estimates[name]) for name in a.estimates}
    return replace(a, **tensors, status=status, queries=a.queries + b.queries, estimates=estimates)


def _finite(images: Tensor, neutral: Tensor) -> Tensor:
    """A copy of `images` (B, C, H, W) with `neutral` (C, H, W) in the place of each that holds NaN or infinity."""
    return torch.where(images.flatten(1).isfinite().all(1).view(-1, 1, 1, 1), images, neutral)


def _ordinary(tensor: Tensor) -> Tensor:
    """`tensor`, or a copy of one made under `torch.inference_mode()`, which autograd does not take."""
    return tensor.clone() if tensor.is_inference() else tensor
