"""The recovery of a batch: attempts from one start after another, of which each image keeps the best."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from memorization.architectures.autoencoder import Autoencoder
from memorization.components import SettingError
from memorization.degradations import Measurement
from memorization.recovery.attempt import LEEWAY, Recovery, Task, ordinary
from memorization.recovery.knowledge.estimate import OperatorKnowledge
from memorization.recovery.knowledge.known import Known
from memorization.recovery.problem import Method, rms
from memorization.recovery.tries import Source, Start, Tries

REVISION = 1  # of the loop, as `revision` is of a part: raised whenever the same settings may give other numbers
SETTLED = 40  # iterations after which an answer that is not solved is started from again


def solve(
    autoencoder: Autoencoder,
    measurement: Measurement,
    method: Method,
    operator: OperatorKnowledge | None = None,
    *,
    starts: int = 0,
    bank: Tensor | None = None,
    recall: int | None = None,
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

    A method with `last` steps ends the images that these solve; see `Method.last`.

    starts: starting points, one after the other. Each image keeps the answer of the lowest energy, which costs one more
        query a start. They take turns through the hypotheses of the operator knowledge, then through the starting
        images of `starting_image`. 0 is automatic: one start, and where method and knowledge have `restarts` others for
        the images that are not solved: from images of the bank, from the image at which the best answer so far settles
        under the autoencoder, with the other hypotheses, and from the other starting image. An image is solved if its
        answer explains `y` (`OperatorKnowledge.solved`) and the autoencoder holds it: it is a fixed point, or a few
        queries settle at one near it.
    bank: images (M, C, H, W) to recall, which may hold the answers: those that were extracted from the autoencoder.
    recall: starts from images of the bank, beside the others: for each measurement from those that explain it best.
        None is automatic: `RECALLED` with automatic restarts and a bank, else none.
    loss: the train loss of the autoencoder, None if unknown.
    path: numbers of iterations after which the answers are kept (of the start that won), at the cost of an image each
        in memory.
    bounded: answers are clipped to [0, 1]; an iteration that is to be gone on with needs them as they are.
    on_iteration: called with the number of iterations gone by, in all `Tries.iterations`, for a progress bar.
    """
    tries = Tries(method, operator, starts, recall)
    _check_measurement(measurement)
    knowledge = operator if operator and tries.asks_operator else Known()
    if knowledge.blind and measurement.y.shape[2:] != measurement.erased.shape[2:]:
        sides = "x".join(map(str, measurement.y.shape[2:]))
        what = f"what made a measurement of {sides} pixels of a larger image"
        raise ValueError(f"operator: {type(knowledge).__name__} cannot suppose {what}: use Known()")
    tries = replace(tries, knowledge=knowledge)
    first, *others = tries.plan(loss)
    with torch.inference_mode(False):  # under which no input could be checked, and no gradient taken
        measurement = replace(measurement, y=ordinary(measurement.y))
        task = Task(
            autoencoder,
            measurement,
            method,
            knowledge,
            rate=bool(others),
            judge=bool(others) and not starts,
            level=LEEWAY * math.sqrt(loss) if loss is not None and loss >= 0 else 0.0,
            trace=trace,
            path=tuple(path),
            bounded=bounded,
            on_iteration=on_iteration,
        )
        if recall and bank is None:
            raise SettingError("recall", recall, "there is no bank to recall images from: set it to 0")
        attempts = _Attempts(task, task.attempt(first))
        if bank is not None and (count := tries.recalls(loss)):
            attempts.recall(_checked(bank, measurement), count)
        for start in others:
            attempts.again(start)
        task.tell(tries.iterations - method.max_iterations * (1 + len(others)))  # at a high loss there are fewer starts
    return attempts.best


@dataclass
class _Attempts:
    """The best of the attempts so far."""

    task: Task
    best: Recovery

    def __post_init__(self) -> None:
        self.settled = torch.full_like(self.best.images, torch.nan)  # the answers that were settled already
        self.recalled = self.settled.unsqueeze(1)[:, :0]  # (B, K, C, H, W), images of the bank

    def recall(self, bank: Tensor, count: int) -> None:
        """Recall for each image that is tried once more the `count` of `bank` that explain its measurement best.

        The best first; fewer if the bank has fewer.
        """
        rows = self._open()
        self.recalled = self.best.images.new_zeros(len(self.best.images), min(count, len(bank)), *bank.shape[1:])
        if len(rows):
            misfit = self.task.knowledge.unlikely(self.task.of(rows).measurement, bank)
            self.recalled[rows] = bank[misfit.argsort(dim=1, stable=True)[:, :count]]

    def _open(self) -> Tensor:
        """The images that are not solved, or all where that is not asked."""
        solved = self.best.solved
        return (~solved if self.task.judge else torch.ones_like(solved)).nonzero().flatten()

    def again(self, start: Start) -> None:
        """Try the images once more that are not solved."""
        tried, hypothesis, rows = self.task, start.hypothesis, self._rows(start)
        of_best = self.best.hypothesis[rows]
        for k in of_best.unique().tolist() if hypothesis is None else [hypothesis] * bool(len(rows)):
            part = rows[of_best == k] if hypothesis is None else rows
            other = tried.of(part).attempt(replace(start, hypothesis=k), self._image(start, part))
            self.best = _lower(self.best, other, part)
            tried = replace(self.task, on_iteration=None)  # one of several parts is told of
        if tried is self.task:
            self.task.tell(self.task.method.max_iterations)

    def _rows(self, start: Start) -> Tensor:
        """The images that `start` is tried with."""
        rows, knowledge = self._open(), self.task.knowledge
        absent = (start.hypothesis or 0) >= knowledge.hypotheses
        if absent or (start.source is Source.bank and start.index >= self.recalled.shape[1]):
            return rows[:0]
        if start.source is Source.settled:
            return rows[(self.best.images[rows] != self.settled[rows]).flatten(1).any(1)]
        if self.task.judge and start.hypothesis and len(rows):
            return rows[differs(knowledge, self.task.of(rows).measurement, start.hypothesis)]
        return rows

    @torch.no_grad()
    def _image(self, start: Start, rows: Tensor) -> Tensor | None:
        """(R, C, H, W): what the R images `rows` are started from, if it is an image."""
        if start.source is Source.bank:
            return self.recalled[rows, start.index]
        if start.source is Source.point:
            return None
        self.settled[rows] = x = self.best.images[rows]
        self.best.queries[rows] += SETTLED
        for _ in range(SETTLED):
            x = self.task.query(x)
        diverged = ~(rms(x) <= 1)
        return torch.where(diverged.view(-1, 1, 1, 1), self.best.images[rows], x)


def differs(knowledge: OperatorKnowledge, measurement: Measurement, hypothesis: int) -> Tensor:
    """(B,) bool: does the knowledge start otherwise with `hypothesis` than with its first?"""
    one, other = (knowledge.start(measurement, k) for k in (0, hypothesis))
    pairs = [(one.y, other.y), *((one.details[name], other.details[name]) for name in one.details)]
    if one.mask is not None and other.mask is not None:
        pairs.append((one.mask, other.mask))
    return torch.stack([(a != b).flatten(1).any(1) for a, b in pairs]).any(0)


def _checked(bank: Tensor, measurement: Measurement) -> Tensor:
    """`bank` as the measurement is; raises `ValueError` for images that it cannot be of."""
    shape = (measurement.y.shape[1], *measurement.erased.shape[2:])
    if bank.shape[1:] != shape or not bank.isfinite().all():
        got = f"{tuple(bank.shape)}" if bank.shape[1:] != shape else "not finite"
        raise ValueError(f"bank is {got}; give finite images (M, {', '.join(map(str, shape))})")
    return ordinary(bank).to(measurement.y)


def _check_measurement(measurement: Measurement) -> None:
    if not len(measurement.y):
        raise ValueError("measurement.y holds no image")
    if measurement.y.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"measurement.y is {measurement.y.dtype}; give float32 or float64")
    if bad := [i for i, finite in enumerate(measurement.y.flatten(1).isfinite().all(1).tolist()) if not finite]:
        where = f"image {bad[0]} of the batch ({len(bad)} in all)"
        raise ValueError(f"measurement.y is not finite in {where}: leave it out")


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
