"""How many ends there are in all, by how often each of those that were seen was hit: capture and recapture.

Starting images are captures, ends are species, and basins are of very unequal size. So what can be said without a model
of the basins is a lower bound: iChao1 (Chiu, Wang, Walther and Chao, 2014, doi:10.1111/biom.12200), Chao's (1984) bound
improved by the ends that were hit three and four times. Its interval is log-normal (Chao, 1987), with the variance of
a bootstrap from the population that the estimate describes: each end with its share of the hits, lowered by the
coverage, and the unseen ones with equal shares of the rest (Chao et al., 2014, appendix on the bootstrap). Where no end
was hit just once, the estimate is what was seen, and its upper limit is Chao's bound with three such ends (our own).
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
        """The estimated number of ends not seen yet."""
        return self.total - self.seen


def richness(hits: Sequence[int], seed: int = 0) -> Richness:
    """The estimate from the `hits` of each end that was seen, each at least 1; `seed` is that of the bootstrap."""
    counts = np.asarray(hits, dtype=np.int64)
    seen, total = len(counts), _total(counts)
    if not seen:
        return Richness(0, 0.0, 0.0, float("nan"))
    generator = np.random.default_rng(seed)
    population = _population(counts, total)
    draws = generator.multinomial(counts.sum(), population, size=DRAWS)
    variance = float(np.var([_total(draw[draw > 0]) for draw in draws], ddof=1))
    unseen = total - seen
    if unseen <= 0:
        doubles = np.count_nonzero(counts == 2)
        most = AT_MOST**2 / (2 * doubles) if doubles else AT_MOST * (AT_MOST - 1) / 2
        return Richness(seen, float(seen), float(seen), seen + most)
    factor = float(np.exp(Z * np.sqrt(np.log1p(variance / unseen**2))))
    return Richness(seen, total, seen + unseen / factor, seen + unseen * factor)


def _total(counts: np.ndarray) -> float:
    """iChao1, with Chao1 in its form without bias."""
    n, (f1, f2, f3, f4) = counts.sum(), (np.count_nonzero(counts == k) for k in (1, 2, 3, 4))
    if not n:
        return 0.0
    share = (n - 1) / n
    chao1 = share * (f1**2 / (2 * f2) if f2 else f1 * (f1 - 1) / 2)
    n3, n1 = (n - 3) / n, (n - 3) / max(n - 1, 1)
    improved = n3 / 4 * f3 / max(f4, 1) * max(f1 - n1 / 2 * f2 * f3 / max(f4, 1), 0) if n > 3 else 0.0
    return float(len(counts) + chao1 + improved)


def _population(counts: np.ndarray, total: float) -> np.ndarray:
    """The shares of all ends, seen and unseen, that the bootstrap draws from."""
    n, unseen = counts.sum(), int(np.ceil(total - len(counts)))
    f1, f2 = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
    rest = f1 / n * ((n - 1) * f1 / ((n - 1) * f1 + 2 * f2) if f1 and n > 1 else 0.0)  # 1 - coverage
    shares = counts / n
    weights = shares * (1 - shares) ** n
    lowered = shares * (1 - (rest / weights.sum() if unseen and weights.sum() else 0.0) * (1 - shares) ** n)
    lowered = np.clip(lowered, 0, None)
    population = np.concatenate([lowered, np.full(unseen, rest / unseen if unseen else 0.0)])
    every: np.ndarray = population / population.sum()
    return every
