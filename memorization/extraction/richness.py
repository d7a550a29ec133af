"""How many ends there are in all, by how often each of those that were seen was hit: capture and recapture.

Starting images are captures, ends are species, and basins are of very unequal size. So what can be said without a model
of the basins is a lower bound: iChao1 (Chiu, Wang, Walther and Chao, 2014, doi:10.1111/biom.12200), Chao's (1984) bound
improved by the ends that were hit three and four times. Its interval is log-normal (Chao, 1987), with the variance of
a bootstrap from the population that the estimate describes: each end with its share of the hits, lowered by the
coverage, and the unseen ones with equal shares of the rest (Chao et al., 2014, appendix on the bootstrap). Its lower
limit is rounded down, as ends are whole: all of them may have been seen. Where no end
was hit just once, the estimate is what was seen, and its upper limit is Chao's bound with three such ends (our own).
Where each was hit just once, nothing bounds their number from above; and from below it is bounded by that no two of `n`
hits met, `n (n - 1) / 6`: with fewer ends, however likely each is, more than three pairs would be expected to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 200  # of the bootstrap
AT_MOST = 3.0  # ends hit once may be expected where none is: the 95 % bound of a Poisson variable that is 0
Z = 1.959964  # of a two-sided 95 % interval


@dataclass(frozen=True)
class Richness:
    """How many ends were `seen`, the estimated `total`, and its 95 % interval from `low` to `high`."""

    seen: int
    total: float
    low: float
    high: float

    @property
    def unseen(self) -> float:
        """The estimated number of ends not seen yet; infinite where nothing bounds it, 0 where there was no hit."""
        return np.inf if np.isinf(self.high) else self.total - self.seen


def richness(hits: Sequence[int], seed: int = 0) -> Richness:
    """The estimate from the `hits` of each end that was seen, each at least 1; `seed` is that of the bootstrap."""
    counts = np.asarray(hits, dtype=np.int64)
    if not len(counts):
        return Richness(0, 0.0, 0.0, float("nan"))
    seen, total = len(counts), float(_total(counts.sum(), _often(counts[None]))[0])
    if counts.max() == 1:
        low = max(seen, seen * (seen - 1) / 2 / AT_MOST)
        return Richness(seen, max(total, low), low, float("inf"))
    unseen = total - seen
    if unseen <= 0:
        doubles = np.count_nonzero(counts == 2)
        most = AT_MOST**2 / (2 * doubles) if doubles else AT_MOST * (AT_MOST - 1) / 2
        return Richness(seen, float(seen), float(seen), float(seen + most))
    draws = _total(counts.sum(), _bootstrap(counts, int(np.ceil(unseen)), np.random.default_rng(seed)))
    factor = float(np.exp(Z * np.sqrt(np.log1p(np.var(draws, ddof=1) / unseen**2))))
    return Richness(seen, total, seen + float(np.floor(unseen / factor)), seen + unseen * factor)


def _often(counts: np.ndarray) -> np.ndarray:
    """How many ends of each row of `counts` (B, K) were hit at all, and once, twice, three and four times: (5, B)."""
    return np.stack([(counts > 0).sum(1), *((counts == k).sum(1) for k in (1, 2, 3, 4))])


def _total(n: int, often: np.ndarray) -> np.ndarray:
    """(B,): iChao1 of `n` hits from what `_often` gives, with Chao1 in its form without bias where no end has two."""
    seen, f1, f2, f3, f4 = often.astype(float)
    chao1 = (n - 1) / n * np.where(f2 > 0, f1**2 / (2 * np.maximum(f2, 1)), f1 * (f1 - 1) / 2)
    if n <= 3:
        return np.asarray(seen + chao1)
    ratio = f3 / np.maximum(f4, 1)
    improved = (n - 3) / (4 * n) * ratio * np.maximum(f1 - (n - 3) / (2 * (n - 1)) * f2 * ratio, 0)
    return np.asarray(seen + chao1 + improved)


def _bootstrap(counts: np.ndarray, unseen: int, generator: np.random.Generator) -> np.ndarray:
    """What `_often` gives of `DRAWS` draws of as many hits from the population of the ends seen and the `unseen`."""
    n, (_, f1, f2, _, _) = int(counts.sum()), _often(counts[None])[:, 0]
    rest = f1 / n * ((n - 1) * f1 / ((n - 1) * f1 + 2 * f2) if f1 and n > 1 else 0.0)  # 1 - coverage
    shares = counts / n
    weights = shares * (1 - shares) ** n
    lowered = np.clip(shares - (rest * weights / weights.sum() if weights.sum() else 0), 0, None)
    population = np.append(lowered, rest)
    draws = generator.multinomial(n, population / population.sum(), size=DRAWS)  # (DRAWS, K + 1)
    # of the unseen ends, of which there may be billions, only those that are hit
    draw = np.repeat(np.arange(DRAWS), draws[:, -1])
    which, hits = np.unique(draw * unseen + generator.integers(unseen, size=len(draw)), return_counts=True)
    draw = which // unseen
    kinds = [hits > 0, *(hits == k for k in (1, 2, 3, 4))]
    return _often(draws[:, :-1]) + np.stack([np.bincount(draw[kind], minlength=DRAWS) for kind in kinds])
