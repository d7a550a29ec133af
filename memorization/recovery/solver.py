"""The one loop that drives every recovery method.

Each image of a batch has its own residual and status. An image that converged or diverged leaves the batch: it costs
nothing more, and it cannot change the other images.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from typing import Any

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
FIXED = 1e-3  # in pixels of [0, 1]: a fixed point moves by no more under the autoencoder, root mean square
MOVED, SETTLING = 0.025, 10  # a solved image that is none yet settles at one no farther away in so many iterations
SETTLED = 40  # iterations after which an answer that is not solved is started from again
LEEWAY = 3.0  # times the root of the train loss: both distances are no smaller
LATE = 0.8  # share of the iterations that a start from the bank passes over: its image may be the answer as it is
LONGER = 4  # times the iterations, where an image was not solved before
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
    start: Tensor  # int64 (B,), the number of the start that won; below 0 images of the bank, then settled answers
    hypothesis: Tensor  # int64 (B,), of the operator knowledge, in that start
    energy: Tensor  # (B,): misfit + |x - f(x)|^2 of the answer x, by which it won; NaN if only one start was planned
    solved: Tensor  # bool (B,): needs no other start, see `solve`; False unless restarts are automatic
    estimates: dict[str, Tensor] = field(default_factory=dict)  # what the knowledge reports of its estimate, (B,) each
    mask: Tensor | None = None  # (B, 1, H, W), the belief that a pixel was observed, None unless the operator is a mask
    trace: Tensor | None = field(default=None, repr=False)
    path: Tensor | None = field(default=None, repr=False)


Source = Enum("Source", ["point", "bank", "settled"])  # starting point, image of the bank, what an answer settles at


@dataclass(frozen=True)
class Start:
    """One try at the images."""

    index: int = 0  # of the starting point, or of the image of the bank, the best first
    hypothesis: int | None = 0  # of the operator knowledge; None: that of the best answer so far
    longer: int = 1  # times the iterations of the method
    source: Source = Source.point


FORMED = 3e-3  # train loss above which no image is held as a fixed point, so that no restart would find one
AGAIN = Start(hypothesis=None, source=Source.settled)
AUTOMATIC = (  # in turn, after the first start and the recalled ones
    *(AGAIN, Start(0, 1), Start(0, 2), AGAIN, Start(1, None), AGAIN),
    *(Start(0, None, LONGER), AGAIN, Start(1, None, LONGER), AGAIN),
)


def solve(
    autoencoder: Autoencoder,
    measurement: Measurement,
    method: Method,
    operator: OperatorKnowledge | None = None,
    *,
    starts: int = 0,
    bank: Tensor | None = None,
    recall: int = 0,
    loss: float | None = None,
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
        images of `starting_image`. 0 is automatic: one start, and where method and knowledge have `restarts` others for
        the images that are not solved (`AUTOMATIC`): from the image at which the best answer so far settles under the
        autoencoder, with the other hypotheses, from the other starting image, and with more iterations. An image is
        solved if its answer explains `y` (`OperatorKnowledge.solved`) and the autoencoder holds it: it is a fixed
        point, or a few queries settle at one near it.
    bank: images (M, C, H, W) to recall, which may hold the answers: those that were extracted from the autoencoder.
    recall: starts from images of the bank, beside the others: for each measurement from those that explain it best.
    loss: the train loss of the autoencoder, None if unknown.
    path: numbers of iterations after which the answers are kept (of the start that won), at the cost of an image each
        in memory.
    bounded: answers are clipped to [0, 1]; an iteration that is to be gone on with needs them as they are.
    on_iteration: called with the number of iterations gone by, in all those of `iterations_of`, for a progress bar.
    """
    check_starts(method, starts, recall)
    _check_measurement(measurement)
    knowledge = operator if operator and asks_operator(method, starts, recall) else Known()
    formed = loss is None or not loss > FORMED
    planned = starts_of(method, starts, recall, knowledge, formed)
    if knowledge.blind and measurement.y.shape[2:] != measurement.erased.shape[2:]:
        sides = "x".join(map(str, measurement.y.shape[2:]))
        what = f"what made a measurement of {sides} pixels of a larger image"
        raise ValueError(f"operator: {type(knowledge).__name__} cannot suppose {what}: use Known()")
    with torch.inference_mode(False):  # under which no input could be checked, and no gradient taken
        measurement = replace(measurement, y=_ordinary(measurement.y))
        level = LEEWAY * math.sqrt(loss) if loss is not None and loss >= 0 else 0.0
        solver = Solver(
            autoencoder,
            measurement,
            method,
            knowledge,
            rate=len(planned) > 1,
            judge=len(planned) > 1 and not starts,
            level=level,
            trace=trace,
            path=tuple(path),
            bounded=bounded,
            on_iteration=on_iteration,
        )
        if recall:
            solver = replace(solver, bank=recall, recalled=_recalled(bank, recall, knowledge, measurement))
        best = solver.run(planned[0])
        settled = torch.full_like(best.images, torch.nan)  # the answers that were settled already
        for start in planned[1:]:
            rows = (torch.ones_like(best.solved) if starts else ~best.solved).nonzero().flatten()
            if start.source is Source.settled:
                rows = rows[(best.images[rows] != settled[rows]).flatten(1).any(1)]
                settled[rows] = best.images[rows]
            best = solver.again(best, start, rows)
    return best


def starts_of(
    method: Method, starts: int, recall: int, knowledge: OperatorKnowledge | None, formed: bool = True
) -> list[Start]:
    """What `solve` tries in turn: recalled images come after the first start. `formed`: see `FORMED`."""
    hypotheses = knowledge.hypotheses if knowledge else 1
    first, *others = [Start(*divmod(number, hypotheses)) for number in range(starts or 1)]
    if restarts(method, starts, knowledge) and formed:
        others = list(AUTOMATIC)
    return [first, *(Start(k, source=Source.bank) for k in range(recall)), *others]


def restarts(method: Method, starts: int, knowledge: OperatorKnowledge | None) -> bool:
    """Are images that are not solved started again by themselves? Not unless both parts, others' included, say so."""
    return not starts and all(getattr(part, "restarts", False) for part in (method, knowledge))


def iterations_of(method: Method, starts: int, recall: int = 0, knowledge: OperatorKnowledge | None = None) -> int:
    """The most iterations that `solve` takes with an image, over all starts."""
    return method.max_iterations * sum(start.longer for start in starts_of(method, starts, recall, knowledge))


def asks_operator(method: Method, starts: int, recall: int = 0) -> bool:
    """Does `method` ask what `H` is, in its steps, or to make and to choose among several starts?"""
    return method.uses_operator or starts > 1 or recall > 0


def check_starts(method: Method, starts: int, recall: int = 0) -> None:
    """Raise `SettingError` for numbers of starts that `solve` cannot give to `method`."""
    for name, value in (("starts", starts), ("recall", recall)):
        check_whole(name, value, 0)
    for name, value, least in (("starts", starts, 1), ("recall", recall, 0)):
        if value > least and method.access == Access.none:
            raise SettingError(name, value, f"{type(method).__name__} has one start: set it to {least}")


def _recalled(bank: Tensor | None, count: int, knowledge: OperatorKnowledge, measurement: Measurement) -> Tensor:
    """(B, K, C, H, W): for each measurement the `count` images of `bank` that explain it best, the best first.

    There are fewer if the bank has fewer.
    """
    y, shape = measurement.y, (measurement.y.shape[1], *measurement.erased.shape[2:])
    if bank is None:
        raise SettingError("recall", count, "there is no bank to recall images from: set it to 0")
    if bank.shape[1:] != shape or not bank.isfinite().all():
        got = f"{tuple(bank.shape)}" if bank.shape[1:] != shape else "not finite"
        raise ValueError(f"bank is {got}; give finite images (M, {', '.join(map(str, shape))})")
    bank = _ordinary(bank).to(y)
    misfit = knowledge.unlikely(measurement, bank)
    return bank[misfit.argsort(dim=1, stable=True)[:, :count]]


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
    """What `solve` was asked for; `run` solves it from one starting point.

    rate: is the answers' energy asked for? judge: and is it asked whether they are solved?
    level: how far from fixed points the autoencoder holds images, by its train loss.
    recalled: (B, K, C, H, W), images of a bank to start from. bank: how many were asked for.
    """

    autoencoder: Autoencoder
    measurement: Measurement
    method: Method
    knowledge: OperatorKnowledge
    rate: bool = False
    trace: bool = False
    path: tuple[int, ...] = ()
    bounded: bool = True
    on_iteration: Callable[[int], None] | None = None
    judge: bool = False
    level: float = 0.0
    bank: int = 0
    recalled: Tensor = field(default_factory=lambda: torch.empty(0, 0))

    @torch.no_grad()
    def run(self, start: Start) -> Recovery:
        """The recovery from one start."""
        method: Any = self.method
        if start.longer > 1:
            method = replace(method, max_iterations=start.longer * method.max_iterations)
        late = start.source is Source.bank and method.access != Access.none
        first = int(LATE * method.max_iterations) if late else 0
        self.tell(first)
        attempt, count = _Attempt(replace(self, method=method), start, first), first
        while len(attempt.active):
            attempt.step(count)
            count += 1
            self.tell(1)
        self.tell(method.max_iterations - count)
        return attempt.finish()

    def again(self, best: Recovery, start: Start, rows: Tensor) -> Recovery:
        """`best` with the images `rows` tried once more."""
        hypothesis, solver = start.hypothesis, self
        if hypothesis is not None and hypothesis >= self.knowledge.hypotheses:
            rows = rows[:0]
        elif self.judge and hypothesis:
            rows = rows[self.of(rows).differs(hypothesis)] if len(rows) else rows
        if start.source is Source.bank and start.index >= self.recalled.shape[1]:
            rows = rows[:0]
        of_best = best.hypothesis[rows]
        for k in of_best.unique().tolist() if hypothesis is None else [hypothesis] * bool(len(rows)):
            part = rows[of_best == k] if hypothesis is None else rows
            tried = solver.of(part)
            if start.source is Source.settled:
                tried = replace(tried, recalled=self._settled(best.images[part]).unsqueeze(1))
                best.queries[part] += SETTLED
            best = _lower(best, tried.run(replace(start, hypothesis=k)), part)
            solver = replace(self, on_iteration=None)  # one of several parts is told of
        if solver is self:
            self.tell(self.method.max_iterations * start.longer)
        return best

    def differs(self, hypothesis: int) -> Tensor:
        """(B,) bool: does the knowledge start otherwise with `hypothesis` than with its first?"""
        one, other = (self.knowledge.start(self.measurement, k) for k in (0, hypothesis))
        pairs = [(one.y, other.y), *((one.details[name], other.details[name]) for name in one.details)]
        if one.mask is not None and other.mask is not None:
            pairs.append((one.mask, other.mask))
        return torch.stack([(a != b).flatten(1).any(1) for a, b in pairs]).any(0)

    @torch.no_grad()
    def _settled(self, images: Tensor) -> Tensor:
        """What `images` settle at under the autoencoder; an image that diverges as it is."""
        x = images
        for _ in range(SETTLED):
            x = self.query(x)
        return torch.where((rms(x) <= 1).view(-1, 1, 1, 1), x, images)

    def of(self, rows: Tensor) -> "Solver":
        """The same for the images `rows` alone."""
        if len(rows) == len(self.measurement.y):
            return self
        whole = self.measurement
        part = Measurement(whole.y[rows], whole.operator.select(rows), whole.sigma, whole.erased[rows])
        return replace(self, measurement=part, recalled=self.recalled[rows] if len(self.recalled) else self.recalled)

    def tell(self, count: int) -> None:
        """`count` iterations have gone by."""
        if self.on_iteration:
            self.on_iteration(count)

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

    first: the iteration to begin with.
    active: indices of the images still in the batch. `y`, `estimate` and `state` are those of these images alone.
    found, status: the recovery so far, and the index into `STATUSES` of each image.
    """

    def __init__(self, solver: Solver, start: Start, first: int = 0) -> None:
        self.first = first
        self.solver, self.y = solver, solver.measurement.y
        self.active = torch.arange(len(self.y), device=self.y.device)
        self.queries = torch.zeros_like(self.active)
        shape = (self.y.shape[1], *solver.measurement.erased.shape[2:])
        self.neutral = neutral_image(solver.autoencoder, solver.method.access, shape, self.y)
        knowledge, hypothesis, index = solver.knowledge, start.hypothesis or 0, start.index
        if start.source is Source.point:
            number = index * knowledge.hypotheses + hypothesis
            self.estimate = knowledge.start(solver.measurement, hypothesis)
            self.state = solver.method.start(self._problem(), index)
        else:
            number = -1 - (index if start.source is Source.bank else solver.bank)
            image = solver.recalled[:, index]
            self.estimate = knowledge.recall(solver.measurement, image, hypothesis)
            self.state = solver.method.start(replace(self._problem(), recalled=image), -1)
        self.status = torch.zeros_like(self.active)
        self.found = self._nothing_found(number, hypothesis)
        self.trace: list[Tensor] = []
        # a method that asks the autoencoder for nothing takes one step, on the first estimate
        self.annealed = 0.0 if solver.method.access == Access.none else solver.knowledge.annealed

    def step(self, k: int) -> None:
        """Iteration `k`, from 0 on; the images that are done after it leave, after the last one all of them."""
        method = self.solver.method
        progress = k / method.max_iterations
        if k > self.first:
            answer = method.answer(self.state)
            self.estimate = self.solver.knowledge.update(self.estimate, self.y, answer, k, progress)
        previous, self.state = self.state, method.step(self._problem(), self.state, progress)
        answer, change = method.answer(self.state), method.residual(previous, self.state)

        diverged = ~(rms(answer) <= DIVERGENCE) | ~torch.isfinite(change)  # NaN is never below
        converged = ~diverged & (change <= method.tolerance) & (progress >= self.annealed)
        found, residual = self.found, torch.where(diverged, torch.inf, change)
        found.residual[self.active], found.iterations[self.active] = residual, k + 1 - self.first
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
            if count == k + 1 - self.first and found.path is not None:
                found.path[self.active, place] = method.answer(self.state).clamp(0, 1)

    def finish(self) -> Recovery:
        """What was found, once all images have left."""
        found = self.found
        found.status = [STATUSES[code] for code in self.status.tolist()]
        if self.solver.trace:
            found.trace = torch.stack(self.trace, 1)
        if self.solver.rate:
            found.queries += 1
            difference = found.images - self.solver.query(found.images)
            if self.solver.judge:
                found.solved &= self._is_held(difference)
            gap = difference.flatten(1).square().sum(1)
            found.energy = (found.energy + gap).nan_to_num(nan=torch.inf, posinf=torch.inf)
        return found

    def _is_held(self, difference: Tensor) -> Tensor:
        """(B,) bool: is each answer `x` a fixed point, or does it settle near by? difference: `x - f(x)`."""
        level, found = self.solver.level, self.found
        held = rms(difference) <= max(FIXED, level)
        rows = (found.solved & ~held & difference.flatten(1).isfinite().all(1)).nonzero().flatten()
        if len(rows):
            image = found.images[rows]
            before = image
            for _ in range(SETTLING):
                before, image = image, self.solver.query(image)
            found.queries[rows] += SETTLING
            moved, change = rms(image - found.images[rows]), rms(image - before)
            held[rows] = (moved <= max(MOVED, level)) & (change <= max(FIXED, level))
        return held

    def _query(self, x: Tensor) -> Tensor:
        self.queries[self.active] += 1
        return self.solver.query(x)

    def _problem(self) -> Problem:
        h = self.estimate
        return Problem(self.y, h.y, h.operator, h.sigma, self._query, self.neutral)

    def _nothing_found(self, start: int, hypothesis: int) -> Recovery:
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
            hypothesis=torch.full_like(self.queries, hypothesis),
            energy=nowhere,
            solved=torch.zeros_like(self.queries, dtype=torch.bool),
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
            failed = status == STATUSES.index(Status.diverged)
            found.energy[which] = torch.where(failed, torch.inf, misfit)
            if self.solver.judge:
                explained = knowledge.solved(estimate, self.y[leaving], images, max(FIXED, self.solver.level))
                found.solved[which] = ~failed & explained
        keep = ~leaving
        self.active, self.y, self.estimate = self.active[keep], self.y[keep], self.estimate.select(keep)
        self.state = type(self.state)(*(tensor[keep] for tensor in self.state))


def _lower(best: Recovery, other: Recovery, rows: Tensor) -> Recovery:
    """`best`, with the images `rows` from `other`, a recovery of these alone, where it has the lower energy.

    One that is solved, and need not be asked for, comes before one that is not. The queries are those of both.
    """
    wins = torch.where(other.solved == best.solved[rows], other.energy < best.energy[rows], other.solved)
    won = rows[wins]
    if best.trace is not None and other.trace is not None:
        length = max(best.trace.shape[1], other.trace.shape[1])
        padded = (functional.pad(t, (0, length - t.shape[1]), value=torch.nan) for t in (best.trace, other.trace))
        best, other = (replace(r, trace=trace) for r, trace in zip((best, other), padded, strict=True))

    def put(into: Tensor, values: Tensor) -> Tensor:
        into = into.clone()
        into[won] = values[wins]
        return into

    tensors = {
        name: put(into, getattr(other, name))
        for name in (
            "images",
            "iterations",
            "residual",
            "start",
            "hypothesis",
            "energy",
            "solved",
            "mask",
            "trace",
            "path",
        )
        if (into := getattr(best, name)) is not None
    }
    status, queries = list(best.status), best.queries.clone()
    for row, i in zip(won.tolist(), wins.nonzero().flatten().tolist(), strict=True):
        status[row] = other.status[i]
    queries[rows] += other.queries
    estimates = {name: put(best.estimates[name], other.estimates[name]) for name in best.estimates}
    return replace(best, **tensors, status=status, queries=queries, estimates=estimates)


def _finite(images: Tensor, neutral: Tensor) -> Tensor:
    """A copy of `images` (B, C, H, W) with `neutral` (C, H, W) in the place of each that holds NaN or infinity."""
    return torch.where(images.flatten(1).isfinite().all(1).view(-1, 1, 1, 1), images, neutral)


def _ordinary(tensor: Tensor) -> Tensor:
    """`tensor`, or a copy of one made under `torch.inference_mode()`, which autograd does not take."""
    return tensor.clone() if tensor.is_inference() else tensor
