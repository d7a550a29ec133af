"""Basins: how far may a member be disturbed before a recovery no longer brings it back?

For each member, the strength of a disturbance up to which at least half of the tries come back. A disturbance is
Gaussian noise of a standard deviation, or the erasure of a share of the pixels, chosen at random. The strength is
bracketed by bisection. This assumes that a member comes back less often the more it is disturbed. Each try draws the
same noise at all strengths, only scaled, and nested sets of pixels. All members bisect together: a step recovers all
tries of all members, each at the strength of its member.

The Jacobian at a fixed point (`memorization.attractors`) says whether there is a basin; this says how large it is.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from memorization.architectures.external.contract import BATCH, check_contract, evaluating
from memorization.components import SettingError, choose, number
from memorization.data import as_float
from memorization.data.split import check_images, check_seed, check_tensor
from memorization.degradations import Degradation, Fill, Mask, Measurement, Noise, RandomPixels, image_seeds
from memorization.degradations.checks import check_whole
from memorization.evaluation import metrics
from memorization.evaluation.batch import as_numbers, check_parts
from memorization.evaluation.statistics import columns, proportion_interval
from memorization.recovery import Autoencoder, Known, Method, OperatorKnowledge, PnPADMM, Status, solve
from memorization.recovery.knowledge.estimate import Estimate

# What is bisected: the standard deviation of the noise, in pixels of [0, 1]; the share of the pixels that is erased.
Disturbance = StrEnum("Disturbance", ["noise", "erased"])
# Where the edge of the basin is: between two strengths that were tried, above the largest, below the smallest.
Edge = StrEnum("Edge", ["bracketed", "above", "below"])

LARGEST_NOISE = 1.0  # in pixels of [0, 1]: beyond the whole range of a pixel

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@torch.inference_mode(False)  # under which no gradient could be taken
def basins(
    autoencoder: Autoencoder,
    members: Tensor,
    recovery: Method | None = None,
    operator: OperatorKnowledge | None = None,
    *,
    kinds: Sequence[str] = tuple(Disturbance),
    largest_noise: float = LARGEST_NOISE,
    fill: Fill = Fill.zero,
    steps: int = 8,
    tries: int = 8,
    count: int | None = None,
    indices: Sequence[int] | None = None,
    seed: int = 0,
    threshold_db: float = 25.0,
    batch_size: int = 100,
    on_batch: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """The strength up to which half of the tries bring back each of `members`, as a bracket.

    members: (N, C, H, W), float in [0, 1] or uint8; with `count`, the basins of the first so many. `autoencoder` is
    called in eval mode, and a module is put back in the modes that it was in. Defaults as for `audit`: the method of
    Abitbul and Dar, told the noise level and which pixels are erased. An `operator` that is not blind is told both.

    A try comes back if the answer did not diverge, no other member is nearer to it than its own, and its PSNR is at
    least `threshold_db`: on the erased pixels, for noise on all. A member comes back at a strength if at least half of
    its `tries` do; each has a seed of its own, from `seed` and the member's index.

    Noise is tried at 0 and at `largest_noise`, erasure (to `fill`) of one pixel and of all but one. Then the middle of
    the bracket is tried `steps` times, so that it ends `2^-steps` of that range wide.

    One row a member and kind, with the columns

    - `member`: its number in `indices` (N), by default 0, 1, 2, …;
    - `kind`: `noise` or `erased`;
    - `edge`: `bracketed`, `above` (it came back at the largest strength) or `below` (not even at the smallest);
    - `lower`, `upper`: the member comes back at `lower` and does not at `upper`, standard deviations in pixels of
      [0, 1], or shares of the pixels. `upper` is infinite where the edge is `above`, `lower` is 0 where it is `below`;
    - `back_lower`, `back_upper`: the shares of the tries that came back there, each with a 95 % Wilson interval
      (`_low`, `_high`), NaN where nothing was tried. They tell how sure the bracket is: with 8 tries, not very;
    - `tries`.

    on_batch: called with the number of tries that were recovered, at most
    `len(kinds) * (steps + 2) * tries * count` in all.

    Raises `ValueError` for images or settings out of range, and for an autoencoder that breaks its contract (see
    `contract.check_contract`).
    """
    recovery, operator = PnPADMM() if recovery is None else recovery, Known() if operator is None else operator
    check_parts(recovery=recovery, operator=operator)
    check_tensor(members, "members")
    check_whole("steps", steps, 0)
    check_whole("tries", tries, 1)
    check_whole("count", len(members) if count is None else count, 1)
    check_whole("batch_size", batch_size, 1)
    check_seed(seed)
    if not 0 < number(largest_noise) < math.inf:
        raise SettingError("largest_noise", largest_noise, "it must be above 0 and finite")
    metrics.check_threshold(threshold_db)
    if not isinstance(kinds, Sequence) or not kinds:
        raise SettingError("kinds", kinds, f"choose among {', '.join(Disturbance)}")
    several = [kinds] if isinstance(kinds, str) else kinds
    chosen, filled = [choose("kinds", kind, Disturbance) for kind in several], choose("fill", fill, Fill)
    check_images(as_float(members), "members")
    if not isinstance(indices, Sequence | np.ndarray | Tensor | None):
        raise ValueError(f"indices are {indices!r}; give a list, one for each of the {len(members)} members")
    numbers = as_numbers(range(len(members)) if indices is None else indices)
    if len(numbers) != len(members):
        raise ValueError(f"indices are {len(numbers)}; give one for each of the {len(members)} members")
    pixels = members[0, 0].numel()
    if Disturbance.erased in chosen and pixels < 2:
        raise SettingError("kinds", Disturbance.erased, "images of one pixel have none to erase: give noise alone")
    scales = {
        Disturbance.noise: _Scale(0.0, largest_noise, Noise),
        Disturbance.erased: _Scale(1 / pixels, 1 - 1 / pixels, lambda share: RandomPixels(share, filled)),
    }
    numbers = numbers[:count]
    seeds = [image_seeds(own, range(tries)) for own in image_seeds(seed, numbers)]
    trial = _Trial(
        autoencoder, members, recovery, operator, seeds, threshold_db, batch_size, on_batch or (lambda _: None)
    )
    with evaluating(autoencoder):
        check_contract(autoencoder, as_float(members[:BATCH]), recovery.access, min(batch_size, len(seeds) * tries))
        tables = [_bisected(trial, scales[kind], steps).assign(member=numbers, kind=kind.value) for kind in chosen]
    table = pd.concat(tables, ignore_index=True)
    return table[["member", "kind", *table.columns.drop(["member", "kind"])]]


@dataclass(frozen=True)
class _Scale:
    """The strengths of a kind of disturbance, and the degradation of each."""

    smallest: float
    largest: float
    degradation: Callable[[float], Degradation]


@dataclass(frozen=True)
class _KnownNoise(Known):
    """The true operator, and a noise level for each image."""

    sigma: Tensor  # (B,)

    def start(self, measurement: Measurement, hypothesis: int = 0) -> Estimate:
        return Estimate(measurement.y, measurement.operator, self.sigma)


@dataclass(frozen=True)
class _Trial:
    """How tries are recovered and judged. seeds: one for each try, of each member whose basin is asked for."""

    autoencoder: Autoencoder
    members: Tensor
    recovery: Method
    operator: OperatorKnowledge
    seeds: list[list[int]]
    threshold_db: float
    batch_size: int
    on_batch: Callable[[int], None]

    @property
    def tries(self) -> int:
        return len(self.seeds[0])

    def came_back(self, scale: _Scale, members: Counts, strengths: Floats) -> Counts:
        """(M,): how many tries of each of M `members` came back, each member disturbed with its own strength."""
        owners, levels = np.repeat(members, self.tries), np.repeat(strengths, self.tries)
        seeds = [seed for member in members.tolist() for seed in self.seeds[member]]
        back = np.zeros(len(owners), bool)
        for first in range(0, len(owners), self.batch_size):
            part = slice(first, first + self.batch_size)
            back[part] = self._recovered(scale, as_float(self.members[owners[part]]), levels[part], seeds[part])
            self.on_batch(len(back[part]))
        counts: Counts = back.reshape(len(members), self.tries).sum(1)
        return counts

    def _recovered(self, scale: _Scale, originals: Tensor, levels: Floats, seeds: Sequence[int]) -> NDArray[np.bool_]:
        """(B,): did each of `originals` (B, C, H, W) come back from a disturbance of its level?"""
        y, erased, sigma = torch.empty_like(originals), torch.zeros_like(originals[:, :1], dtype=torch.bool), levels * 0
        for level in np.unique(levels):
            rows = np.flatnonzero(levels == level)
            alike = scale.degradation(float(level))(originals[rows], [seeds[row] for row in rows.tolist()])
            y[rows], erased[rows], sigma[rows] = alike.y, alike.erased, alike.sigma
        measurement = Measurement(y, Mask((~erased).to(y.dtype)), 0.0, erased)
        operator = self.operator if self.operator.blind else _KnownNoise(torch.from_numpy(sigma).to(y))
        solution = solve(self.autoencoder, measurement, self.recovery, operator)
        _, right = metrics.nearest_member(solution.images, originals, self.members)
        close = metrics.psnr(solution.images, originals, erased) >= self.threshold_db
        solved = np.array([status != Status.diverged for status in solution.status])
        found: NDArray[np.bool_] = (right & close).cpu().numpy() & solved
        return found


def _bisected(trial: _Trial, scale: _Scale, steps: int) -> pd.DataFrame:
    """The brackets of all members; see `basins`."""
    members, tries = np.arange(len(trial.seeds)), trial.tries
    lower, upper = (np.full(len(members), end) for end in (scale.smallest, scale.largest))
    at_lower, at_upper = (np.full(len(members), np.nan) for _ in range(2))  # tries that came back
    at_lower[:] = trial.came_back(scale, members, lower)
    within = 2 * at_lower >= tries
    at_upper[within] = trial.came_back(scale, members[within], upper[within])
    above = within & (2 * at_upper >= tries)
    inside = np.flatnonzero(within & ~above)
    for _ in range(steps if len(inside) else 0):
        middle = (lower[inside] + upper[inside]) / 2
        found = trial.came_back(scale, inside, middle)
        enough = 2 * found >= tries
        lower[inside[enough]], at_lower[inside[enough]] = middle[enough], found[enough]
        upper[inside[~enough]], at_upper[inside[~enough]] = middle[~enough], found[~enough]
    upper[~within], at_upper[~within] = lower[~within], at_lower[~within]
    lower[~within], at_lower[~within] = 0.0, np.nan
    lower[above], at_lower[above] = upper[above], at_upper[above]
    upper[above], at_upper[above] = np.inf, np.nan
    edges = np.select([above, ~within], [Edge.above.value, Edge.below.value], Edge.bracketed.value)
    shares: dict[str, Floats] = {}
    for name, counts in (("back_lower", at_lower), ("back_upper", at_upper)):
        low, high = proportion_interval(np.nan_to_num(counts), np.where(np.isnan(counts), 0, tries))
        shares |= columns(name, counts / tries, low, high)
    return pd.DataFrame({"edge": edges, "lower": lower, "upper": upper} | shares | {"tries": tries})
