"""Statistics of recovery scores: proportions, medians, ROC, paired comparisons, each with what is known of its error.

Pure functions of NumPy arrays. Intervals are of 95 %: the tests, by exact summation or simulation, find them to cover
93 to 97 % for 50 images. Near 0 and 1, where few images differ, single proportions are covered by 92 to 98 %. True
positive rates are covered by 95 % or more, up to 100 % where few non-members bound the threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from sklearn.metrics import roc_curve

CONFIDENCE = 0.95
Z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
RESAMPLES = 9_999  # of a bootstrap
FEW = 8  # pairs below which no resample lies as far out as the interval must
NORMAL_FROM = 1_000  # pairs from which a mean's bootstrap distribution is normal, within the error of its resamples
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % interval."""

    value: float
    low: float
    high: float


def proportion_interval(successes: ArrayLike, trials: ArrayLike) -> tuple[Floats, Floats]:
    """The Wilson score interval of a proportion; arrays are taken element by element, NaN where there is no trial."""
    k, n = np.asarray(successes, float), np.asarray(trials, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = k + Z**2 / 2
        half = Z * np.sqrt(k * (n - k) / n + Z**2 / 4)
        low, high = (centre - half) / (n + Z**2), (centre + half) / (n + Z**2)
    empty = np.where(n > 0, 0.0, np.nan)
    return np.where(k == 0, 0.0, low) + empty, np.where(k == n, 1.0, high) + empty


def difference_interval(
    first: tuple[ArrayLike, ArrayLike], second: tuple[ArrayLike, ArrayLike]
) -> tuple[Floats, Floats]:
    """The interval of a difference of two independent proportions, each given as (successes, trials), element-wise.

    Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method 10).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        p, q = np.divide(*first), np.divide(*second)
    (p_low, p_high), (q_low, q_high) = proportion_interval(*first), proportion_interval(*second)
    return p - q - np.hypot(p - p_low, q_high - q), p - q + np.hypot(p_high - p, q - q_low)


def median_interval(values: ArrayLike) -> tuple[float, float]:
    """The exact interval of the median from order statistics, of at least 95 % coverage (no assumption but sampling).

    The k-th smallest and the k-th largest value, `k` from the binomial distribution (Conover, "Practical Nonparametric
    Statistics"); the extremes where fewer than six values cannot give 95 %.
    """
    ordered = np.sort(np.asarray(values, float))
    rank = _median_rank(len(ordered))
    return float(ordered[rank]), float(ordered[-1 - rank])


@lru_cache
def _median_rank(count: int) -> int:
    return max(0, int(stats.binom.ppf((1 - CONFIDENCE) / 2, count, 0.5)) - 1)


def auc(positives: ArrayLike, negatives: ArrayLike) -> Estimate:
    """The area under the ROC curve: the probability that a positive scores above a negative, ties counting one half.

    DeLong's variance (Biometrics 44, 1988), on the logit scale, so that the interval stays in [0, 1]. Where that
    variance is zero, all pairs agree (above, below or tied) and it says nothing. Then the interval is exact, and wide:
    `k` disjoint pairs, `k` the smaller of the two counts, agree with a probability of `share^k`, so the share of such
    pairs is at least `0.025^(1/k)`.
    """
    above, below = np.sort(np.asarray(positives, float)), np.sort(np.asarray(negatives, float))
    of_above = _share_below(above, below)  # of the negatives, those that each positive exceeds
    of_below = 1 - _share_below(below, above)  # of the positives, those that exceed each negative
    area, smaller = float(of_above.mean()), min(len(above), len(below))
    if np.ptp(of_above) == np.ptp(of_below) == 0:
        share = ((1 - CONFIDENCE) / 2) ** (1 / smaller)
        return Estimate(area, area * share, area * share + 1 - share)
    if smaller == 1:
        return Estimate(area, 0.0, 1.0)  # a single image has no variance to estimate
    error = math.sqrt(of_above.var(ddof=1) / len(above) + of_below.var(ddof=1) / len(below))
    low, high = special.expit(special.logit(area) + np.array([-Z, Z]) * error / (area * (1 - area)))
    return Estimate(area, float(low), float(high))


def _share_below(values: Floats, others: Floats) -> Floats:
    """For each of `values`, the share of `others` (sorted) below it, ties counting one half."""
    return (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / (2 * len(others))


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on a score: `tpr` of the positives exceed it, `fpr` of the negatives do (the rate achieved)."""

    fpr: float
    tpr: Estimate


def tpr_at_fpr(positives: ArrayLike, negatives: ArrayLike, fpr: float) -> OperatingPoint | None:
    """The highest true positive rate at a false positive rate of at most `fpr`; None if that is not resolvable.

    It is resolvable from `1 / fpr` negatives on: fewer cannot show a rate as small but as 0.

    The interval is for the rate at the threshold that `fpr` of all negatives exceed, of any distribution. It adds two
    independent errors in squares, as `difference_interval` does (MOVER: Zou and Donner, Statistics in Medicine 27,
    2008): that of the positives, by Wilson's interval, and that of the threshold, which lies between two order
    statistics of the negatives (by the binomial distribution, as for a median), by the rates at these two. Below about
    `3.7 / fpr` negatives, more than 2.5 % of samples hold none above that threshold. Then nothing bounds it from above,
    and the interval begins at 0.
    """
    above, below = np.sort(np.asarray(positives, float)), np.sort(np.asarray(negatives, float))
    allowed = math.floor(fpr * len(below) * (1 + 1e-12))
    if allowed < 1:
        return None
    bounds = np.concatenate([[-np.inf], below, [np.inf]])
    fewest, most = _exceeding(len(below), fpr)
    thresholds = bounds[[-2 - allowed, -1 - fewest, -2 - most]]
    reached = len(above) - np.searchsorted(above, thresholds, "right")
    tpr, of_highest, of_lowest = (reached / len(above)).tolist()
    wilson = [float(bound) for bound in proportion_interval(reached[0], len(above))]
    low = max(0.0, tpr - math.hypot(tpr - wilson[0], tpr - of_highest))
    high = min(1.0, tpr + math.hypot(wilson[1] - tpr, of_lowest - tpr))
    return OperatingPoint(float((below > thresholds[0]).mean()), Estimate(tpr, low, high))


@lru_cache
def _exceeding(count: int, rate: float) -> tuple[int, int]:
    """The fewest and the most of `count` that exceed a threshold which the share `rate` of all exceed, in 95 %."""
    fewest, most = stats.binom.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], count, rate)
    return int(fewest), int(most)


def roc(positives: ArrayLike, negatives: ArrayLike) -> tuple[Floats, Floats]:
    """(fpr, tpr) at the corners of the ROC curve, from (0, 0) to (1, 1)."""
    above, below = np.asarray(positives, float), np.asarray(negatives, float)
    finite = np.concatenate([above, below])
    scores = np.unique(finite, return_inverse=True)[1]  # ranks, since roc_curve takes no infinite score
    labels = np.arange(len(finite)) < len(above)
    fpr, tpr, _ = roc_curve(labels, scores)
    return fpr, tpr


def log_roc(positives: ArrayLike, negatives: ArrayLike) -> tuple[Floats, Floats]:
    """The corners of the ROC curve for logarithmic axes, which have no 0.

    A rate of 0 is shown at half of the smallest that the images resolve, `0.5 / count`.
    """
    fpr, tpr = roc(positives, negatives)
    return np.maximum(fpr, 0.5 / np.size(negatives)), np.maximum(tpr, 0.5 / np.size(positives))


def mcnemar(first: ArrayLike, second: ArrayLike, *, greater: bool = False) -> float:
    """The exact p-value of McNemar's test: do two methods succeed on equally many of the same images?

    `first` and `second` (N,) say which images each brought back. Two-sided, or one-sided for `first` being `greater`.
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    discordant = only_first + only_second
    if greater:
        return float(stats.binom.sf(only_first - 1, discordant, 0.5))
    return min(1.0, 2 * float(stats.binom.cdf(min(only_first, only_second), discordant, 0.5)))


@dataclass(frozen=True)
class PairedDifference:
    """The mean of `first - second` over the same images, with a bootstrap interval, and the p-value of its being 0."""

    mean: Estimate
    p: float


def paired_bootstrap(first: ArrayLike, second: ArrayLike, *, seed: int = 0) -> PairedDifference:
    """Resamples images, 9,999 times: the expanded percentile interval, and how often the centred mean is as far from 0.

    (Efron and Tibshirani, "An Introduction to the Bootstrap", chapters 13 and 16; Hesterberg, 2015, arXiv:1411.5279, on
    the percentiles that allow for resamples of few images varying too little.) The p-value is at least that of
    Student's paired test, for the same reason, and equal to it where no resample is as far: they cannot tell 1e-4 from
    less, which a correction for many comparisons asks for. Student's is exact for normal differences; of few and
    strongly skewed ones it is too small. Below 8 images, whose resamples span too little, and from 1,000 on, where they
    follow the normal distribution, Student's interval and test. The p-value is at least `2^(1 - N)`, too, the least
    that any test of the signs of N differences can give. One image has no interval (NaN bounds) and a p-value of 1.
    """
    difference = np.asarray(first, float) - np.asarray(second, float)
    mean, count = float(difference.mean()), len(difference)
    if count == 1:
        return PairedDifference(Estimate(mean, math.nan, math.nan), 1.0)
    error = float(difference.std(ddof=1)) / math.sqrt(count)
    p = 2 * float(stats.t.sf(abs(mean) / error, count - 1)) if error else float(mean == 0)
    if count < FEW or count >= NORMAL_FROM:
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
        low, high = mean - half, mean + half
    else:
        means = _resampled(count, seed) @ difference.astype(np.float32) / count
        low, high = np.quantile(means, [tail := expanded(count), 1 - tail]).tolist()
        tolerance = 1e-5 * np.abs(difference).max()  # float32 sums of the same numbers in another order
        if extreme := int((np.abs(means - mean) >= abs(mean) - tolerance).sum()):
            p = max(p, (1 + extreme) / (1 + RESAMPLES))
    return PairedDifference(Estimate(mean, low, high), max(p, 2.0 ** (1 - count)))


def expanded(count: int) -> float:
    """The lower tail of the resampled means of `count` values at which the 95 % interval begins (Hesterberg, 2015)."""
    t = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
    return float(stats.norm.cdf(-math.sqrt(count / (count - 1)) * t))


@lru_cache(maxsize=1)
def _resampled(count: int, seed: int) -> NDArray[np.float32]:
    """(RESAMPLES, count): how often each of `count` images is drawn. The same for all cells of a table."""
    drawn = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    flat = np.bincount((drawn + count * np.arange(RESAMPLES)[:, None]).ravel(), minlength=RESAMPLES * count)
    return flat.reshape(RESAMPLES, count).astype(np.float32)


def holm(p: ArrayLike) -> Floats:
    """P-values of several tests, adjusted so that any error among them has at most the level of one (Holm, 1979)."""
    values = np.asarray(p, float)
    order = np.argsort(values, kind="stable")
    adjusted = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)).clip(max=1)
    return adjusted[np.argsort(order, kind="stable")]


@dataclass(frozen=True)
class SeedVariation:
    """How a proportion varies over training seeds, `seeds` of them, apart from how it varies over images.

    mean: over the seeds, with an interval for another seed's expectation (NaN bounds with one seed): Student's, joined
        with Wilson's of the counts of all seeds, so that seeds which agree by chance leave the error of the images.
    between: standard deviation of the proportions over the seeds, as observed.
    within: what drawing images alone would make of it, `sqrt(mean of p (1 - p) / (n - 1))`.
    training: what remains for the training, `sqrt(between^2 - within^2)`, or 0.
    """

    seeds: int
    mean: Estimate
    between: float
    within: float
    training: float


def seed_variation(successes: ArrayLike, trials: ArrayLike) -> SeedVariation:
    """The components of variance of a proportion, from one count a seed (one-way random effects, by moments)."""
    k, n = np.asarray(successes, float), np.asarray(trials, float)
    p, count = k / n, len(k)
    mean = float(p.mean())
    within = float(np.mean(p * (1 - p) / np.maximum(n - 1, 1)))
    if count < 2:
        return SeedVariation(count, Estimate(mean, math.nan, math.nan), math.nan, math.sqrt(within), math.nan)
    between = float(p.var(ddof=1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * math.sqrt(between / count)
    low, high = (float(bound) for bound in proportion_interval(k.sum(), n.sum()))
    interval = Estimate(mean, max(0.0, min(low, mean - half)), min(1.0, max(high, mean + half)))
    return SeedVariation(count, interval, math.sqrt(between), math.sqrt(within), math.sqrt(max(0.0, between - within)))
