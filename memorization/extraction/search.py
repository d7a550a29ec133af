"""The search for the images to which the iteration of an autoencoder is attracted, with queries alone.

Starting images are drawn from a prior and iterated, `x <- f(x)`, until they are fixed points, periodic, or diverged.
What an answer has outside [0, 1], where images lie, is cut off: of the maps that would take an image out of the range
for good, many lead to members instead. An end that one step of the autoencoder would take out of the range by more
than `BEYOND` is held by the cut alone, and diverged; of a map that expands slowly, some such ends remain. Equal ends
are one.

It goes in rounds: each spends its batches on the arms of the prior from which new ends came at the lowest cost in
queries (Thompson sampling of Poisson rates, older rounds counting less: our own choice), until a budget is spent or, by
the estimate of `richness`, hardly any end is left to be seen, or there are ends without number.

Each batch is drawn from the seed, its number and the ends found before its round, so that a search does not depend on
how its batches are shared among processes, and one that was interrupted goes on with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memorization.architectures.autoencoder import Autoencoder
from memorization.components import Record, SettingError, number, revision_of
from memorization.degradations import Measurement
from memorization.degradations.checks import check_positive, check_whole
from memorization.degradations.measurement import nothing_erased
from memorization.degradations.operators import Scaling
from memorization.extraction.priors import PRIORS, Mixture, Prior
from memorization.extraction.richness import Richness, richness
from memorization.recovery import Anderson, Iterate, Method, Status, solve, solver
from memorization.recovery.problem import rms

REVISION = 3  # of the search, as `revision` is of a part
BATCHES_A_ROUND = 4
SLACK = 50  # a search ends within this part of its budget; without it, half of the rounds would be of one image
LEAST_STARTS = 400  # before which no estimate ends a search: of a handful, all may be the same by chance
MOST_ENDS = 10_000  # a search gives up where there are more: fixed points without number, as of a linear map
BEYOND = 0.1  # root mean square in pixels of [0, 1]: an answer that is farther out of the range is no image
PERIODS = 8  # the longest period that is recognised
PRIOR_QUERIES = 1000.0  # as if each arm had found one new end in so many queries before the search
FORGETTING = 0.9  # what an arm did counts this much less after each round


# How a starting image ended. `unsettled`: neither of the others within the iterations.
Ending = StrEnum("Ending", ["fixed", "periodic", "diverged", "unsettled"])
ENDINGS = tuple(Ending)


@dataclass(frozen=True)
class Search:
    """Settings of a search.

    max_iterations, tolerance: of the iteration, as of `Iterate`; its last steps are extrapolated from `extrapolation`
        earlier ones (Anderson), which takes a third of the queries, 0 for none.
    same: two ends are one if they are this near, root mean square in pixels of [0, 1].
    batch_size: starting images that are iterated together.
    queries: the budget: evaluations of the autoencoder. It is kept to a fiftieth if no image takes more than any did so
        far; a map that becomes slow late can overrun it by a round.
    unseen: it also ends when, after 400 images or more, no more ends than these are estimated to be unseen.
    """

    prior: Prior = field(default_factory=Mixture)
    max_iterations: int = 400
    tolerance: float = 1e-5
    extrapolation: int = 3
    same: float = 0.02
    batch_size: int = 100
    queries: int = 500_000
    unseen: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.prior, Prior):
            raise SettingError("prior", self.prior, "give an object, such as Noise() or Mixture()")
        for name, least in (("max_iterations", 1), ("extrapolation", 0), ("batch_size", 1), ("queries", 1)):
            check_whole(name, getattr(self, name), least)
        check_positive(self, "tolerance", "same")
        try:
            _ = self.method
        except SettingError as error:
            raise SettingError("extrapolation", self.extrapolation, error.reason) from error
        if not number(self.unseen) >= 0:
            raise SettingError("unseen", self.unseen, "it is a number of ends, at least 0")

    def identity(self) -> Record:
        """All that can change the ends but the autoencoder and the seed, as plain values."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "prior"}
        prior = {"name": PRIORS.name_of(self.prior), "revision": revision_of(self.prior), **self.prior.identity()}
        revisions = {"search": REVISION, "solver": solver.REVISION, "anderson": revision_of(Anderson)}
        return {**settings, "prior": prior, "revisions": revisions}

    def round(self, bank: Bank) -> list[int]:
        """How many images each batch of the next round starts; none once the budget is spent."""
        slack = self.queries // SLACK
        left = self.queries - bank.queries
        if left <= slack:
            return []
        each = (bank.most or self.max_iterations + 2 * PERIODS + 1) + max(arm.steps for arm in self.prior.arms)
        images = max((left + slack) // each, 1)
        batches = min(BATCHES_A_ROUND, -(-images // self.batch_size))
        return [min(self.batch_size, images // batches) for _ in range(batches)]

    @property
    def method(self) -> Method:
        """The iteration."""
        iterate = Iterate(self.max_iterations, self.tolerance)
        return Anderson(iterate, self.extrapolation) if self.extrapolation else iterate


TO_RECALL = Search(queries=150_000)  # finds most of what a longer search does: a bank that recoveries start from


@dataclass(frozen=True)
class Settled:
    """Where a batch of starting images ended."""

    points: Tensor  # (B, C, H, W): the fixed point, or one of the points of a cycle
    ending: Tensor  # int64 (B,), an index into `ENDINGS`
    period: Tensor  # int64 (B,): 1 of a fixed point, 0 where there is no end
    residual: Tensor  # (B,): root mean square of f(x) - x, of a cycle of its last point after a period
    queries: Tensor  # int64 (B,)


class Draw(NamedTuple):
    """A batch of `size` starting images: its `number` in the search, the `arm` it is drawn from, and its `seed`."""

    number: int
    arm: int
    seed: int
    size: int

    def starts(self, settings: Search, shape: tuple[int, int, int], ends: Tensor) -> Tensor:
        """(B, C, H, W), on the CPU."""
        state = np.random.SeedSequence([self.seed, self.number]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0] >> 1))
        return settings.prior.arms[self.arm].draw(self.size, shape, generator, ends)


def settle_draw(autoencoder: Autoencoder, draw: Draw, settings: Search, ends: Tensor, like: Tensor) -> Settled:
    """Where the batch `draw` ends; `ends` are those found before its round.

    like: (1, C, H, W), an image of the shape, dtype and device that the autoencoder takes.
    """
    channels, height, width = like.shape[1:]
    starts = draw.starts(settings, (channels, height, width), ends).to(like)
    arm = settings.prior.arms[draw.arm]
    settled = settle(autoencoder, arm.approach(partial(_cut, autoencoder), starts, ends), settings)
    settled.queries.add_(arm.steps)
    return settled


def settle(autoencoder: Autoencoder, starts: Tensor, settings: Search) -> Settled:
    """Iterate the autoencoder from `starts` (B, C, H, W) until each is at an end; raises `ValueError` as `solve` does.

    Fixed points are found by the solver of recovery, with `starts` as the measurement. What it leaves is iterated on
    for twice the longest period that is looked for. One more query of each end says whether it diverged.
    """
    cut = partial(_cut, autoencoder)
    identity = Scaling(starts.new_ones(1, 1, 1, 1))
    measurement = Measurement(starts, identity, 0.0, nothing_erased(starts))
    found = solve(cut, measurement, settings.method, bounded=False)
    code = {Status.converged: Ending.fixed, Status.diverged: Ending.diverged, Status.iteration_limit: Ending.unsettled}
    ending = torch.tensor([ENDINGS.index(code[Status(word)]) for word in found.status], device=starts.device)
    settled = Settled(found.images, ending, (ending == 0).long(), found.residual, found.queries.clone())
    left = (ending == ENDINGS.index(Ending.unsettled)).nonzero().flatten()
    if len(left):
        _find_periods(autoencoder, settled, left, settings)
    _leave_out(autoencoder, settled)
    return settled


def _cut(autoencoder: Autoencoder, x: Tensor) -> Tensor:
    return autoencoder(x).clamp(0, 1)


@torch.no_grad()
def _leave_out(autoencoder: Autoencoder, settled: Settled) -> None:
    """Take the ends back that the autoencoder itself, without the cut, would leave for outside the range of images."""
    ended = settled.period.nonzero().flatten()
    if not len(ended):
        return
    settled.queries[ended] += 1
    answers = autoencoder(settled.points[ended])
    gone = ended[~(rms(answers - answers.clamp(0, 1)) <= BEYOND)]
    settled.ending[gone], settled.period[gone] = ENDINGS.index(Ending.diverged), 0


@torch.no_grad()
def _find_periods(autoencoder: Autoencoder, settled: Settled, left: Tensor, settings: Search) -> None:
    """Of the images `left` (L,), fill in those that are periodic; a cycle of which the cut holds a point diverged."""
    orbit, beyond = [settled.points[left]], []
    for _ in range(2 * PERIODS):
        answers = autoencoder(orbit[-1])
        orbit.append(answers.clamp(0, 1))
        beyond.append(rms(answers - orbit[-1]))
    settled.queries[left] += 2 * PERIODS
    path = torch.stack(orbit, 1)  # (L, 2 PERIODS + 1, C, H, W)
    held = ~(torch.stack(beyond, 1) <= BEYOND)  # (L, 2 PERIODS): the step to the next point
    for i, image in enumerate(left.tolist()):
        own = path[i]
        gaps = [rms(own[period : period + PERIODS] - own[:PERIODS]) for period in range(1, PERIODS + 1)]
        period = next((period for period, gap in enumerate(gaps, 1) if _is_settled(gap, period, settings)), 0)
        if period and held[i, :period].any():
            settled.ending[image] = ENDINGS.index(Ending.diverged)
        elif period:
            if gaps[0].max() <= settings.same:  # no two of its points would be told apart
                period = 1
            cycle = own[:period]
            settled.points[image] = cycle[cycle.flatten(1).sum(1).argmax()]  # the brightest, whichever came last
            settled.period[image], settled.residual[image] = period, float(gaps[period - 1].max())
            settled.ending[image] = ENDINGS.index(Ending.fixed if period == 1 else Ending.periodic)


def _is_settled(gaps: Tensor, period: int, settings: Search) -> bool:
    """Do the `gaps` (PERIODS,) between points a period apart say that an end is reached?

    They are small, and at the rate at which they shrink, the end is no further than `same`. A slow spiral about a fixed
    point, whose gaps are small as well, is thus no cycle.
    """
    largest, first, last = float(gaps.max()), float(gaps[0]), float(gaps[-1])
    if not largest <= 10 * settings.tolerance:
        return False
    shrinks = (last / first) ** (period / (PERIODS - 1)) if first else 0.0  # in one period
    return largest <= settings.tolerance or (shrinks < 1 and last * shrinks / (1 - shrinks) <= settings.same)


@dataclass
class Bank:
    """The distinct ends of a search so far, and what it cost. K ends, in the order in which they were found."""

    points: Tensor  # (K, C, H, W), on the CPU
    hits: list[int] = field(default_factory=list)  # starting images that ended there
    found: list[int] = field(default_factory=list)  # queries spent until the end of the round that found it
    period: list[int] = field(default_factory=list)
    residual: list[float] = field(default_factory=list)
    arm: list[int] = field(default_factory=list)  # that found it
    queries: int = 0
    most: int = 0  # that a starting image took from where its iteration began
    endings: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ENDINGS, 0))  # of all starting images

    def __len__(self) -> int:
        return len(self.hits)

    @property
    def starts(self) -> int:
        """Starting images so far."""
        return sum(self.endings.values())

    def richness(self) -> Richness:
        """How many ends there are in all, by the hits of those found."""
        return richness(self.hits)

    def add(self, settled: Settled, arm: int, same: float) -> int:
        """Count the ends of a batch; returns how many are new."""
        known = len(self)
        for code, count in enumerate(torch.bincount(settled.ending, minlength=len(ENDINGS)).tolist()):
            self.endings[ENDINGS[code]] += count
        ended = (settled.period > 0).nonzero().flatten()
        points = settled.points[ended].cpu().float()
        every = torch.cat([self.points, points])
        distances = _distances(points, every)
        places = [*range(known)]  # of the ends, in `every`
        for i, row in enumerate(ended.tolist()):
            if places:
                distance, nearest = distances[i, places].min(0)
                if distance <= same:
                    self.hits[int(nearest)] += 1
                    continue
            places.append(known + i)
            self.hits.append(1)
            self.found.append(self.queries)
            self.period.append(int(settled.period[row]))
            self.residual.append(float(settled.residual[row]))
            self.arm.append(arm)
        self.points = every[places]
        return len(self) - known


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """(A, B): the root mean square between images, each of differences, as products would cancel."""
    pixels = a[0].numel() if len(a) else 1
    distances = torch.cdist(a.flatten(1), b.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    return torch.div(distances, pixels**0.5)


Settle = Callable[[Sequence[Draw], Tensor], Sequence[Settled]]  # batches, with the ends found before their round


def search(
    settings: Search,
    shape: tuple[int, int, int],
    settle_all: Settle,
    seed: int = 0,
    on_round: Callable[[Bank], None] | None = None,
) -> Bank:
    """The distinct ends of images of `shape` (C, H, W).

    settle_all: iterates the batches of a round, in whatever processes. on_round: is told of the bank after each round.
    """
    arms = settings.prior.arms
    bank, number = Bank(torch.empty(0, *shape)), 0

    def drawable() -> list[int]:
        return [i for i, arm in enumerate(arms) if arm.needs <= len(bank)]

    news, spent = np.zeros(len(arms)), np.zeros(len(arms))
    while counts := settings.round(bank):
        ready = drawable()
        rates = np.random.default_rng([seed, number]).gamma(news[ready] + 1, size=(len(counts), len(ready)))
        rates /= (spent[ready] + PRIOR_QUERIES) / PRIOR_QUERIES
        chosen = zip(rates.argmax(1).tolist(), counts, strict=True)
        draws = [Draw(number + i, ready[arm], seed, count) for i, (arm, count) in enumerate(chosen)]
        settled = settle_all(draws, bank.points)
        number += len(draws)
        bank.queries += sum(int(batch.queries.sum()) for batch in settled)
        news, spent = FORGETTING * news, FORGETTING * spent
        for draw, batch in zip(draws, settled, strict=True):
            bank.most = max(bank.most, int(batch.queries.max()) - arms[draw.arm].steps)
            news[draw.arm] += bank.add(batch, draw.arm, settings.same)
            spent[draw.arm] += int(batch.queries.sum())
        if on_round:
            on_round(bank)
        tried = spent[drawable()].min() > 0 or number >= 2 * len(arms)  # every arm, or enough of them
        estimate = bank.richness()
        enough = tried and bank.starts >= LEAST_STARTS
        if estimate.low >= MOST_ENDS or (enough and estimate.unseen <= settings.unseen):
            break
    return bank
