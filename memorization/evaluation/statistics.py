"""Statistics of recovery scores: proportions, medians, ROC, paired comparisons, each with what is known of its error.

Pure functions of NumPy arrays. Intervals are of 95 %. What they cover, by exact summation or simulation (the tests
repeat much of it):

- Proportions and their differences: 93 to 97 % for 50 images, a single one 92 to 98 % near 0 and 1.
- Medians, of any continuous distribution: 95 to 97 % from 20 images on, up to 99.3 % for fewer, none below six.
- AUC, of normal scores: 94 to 96 % up to an AUC of 0.95 for 50 and 100 images of a kind; beyond, 93.5 to 98 %.
- True positive rates: 95 % or more, up to 100 % where few non-members bound the threshold.
- Mean differences of pairs: 93.5 to 97 % of normal, heavy-tailed and exponential ones from 8 images on, less of more
  skewed ones: see `paired_difference`.
- Lower bounds on epsilon: at least 95 % if each image had a training of its own: see `epsilon_bound`.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

CONFIDENCE = 0.95
Z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
RESAMPLES = 9_999  # of a bootstrap
FEW = 6  # pairs below which resamples are too few to tell the skewness
NORMAL_FROM = 1_000  # pairs from which the bootstrap agrees with Student's interval, within the error of its resamples
Floats = NDArray[np.float64]


class Estimate(NamedTuple):
    """A statistic with its 95 % interval."""

    value: float
    low: float
    high: float


def columns(name: str, value: Any, low: Any, high: Any) -> dict[str, Any]:
    """The columns of a table that hold a statistic and its interval, a number or an array each."""
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def proportion_interval(successes: ArrayLike, trials: ArrayLike) -> tuple[Floats, Floats]:
    """The Wilson score interval of a proportion; arrays are taken element by element, NaN where there is no trial.

    Raises `ValueError` for more successes than trials.
    """
    k, n = np.asarray(successes, float), np.asarray(trials, float)
    check_counts(k, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = k + Z**2 / 2
        half = Z * np.sqrt(k * (n - k) / n + Z**2 / 4)
        low, high = (centre - half) / (n + Z**2), (centre + half) / (n + Z**2)
    empty = np.where(n > 0, 0.0, np.nan)
    return np.where(k == 0, 0.0, low) + empty, np.where(k == n, 1.0, high) + empty


def check_counts(successes: Floats, trials: Floats) -> None:
    """Raise `ValueError` for more successes than trials, or fewer than none."""
    if ((successes < 0) | (successes > trials)).any():
        raise ValueError(f"successes {successes} are not between 0 and the trials, {trials}")


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


def epsilon_bound(
    recovered_members: int,
    members: int,
    recovered_others: int,
    others: int,
    *,
    delta: float = 0.0,
    confidence: float = CONFIDENCE,
) -> float:
    """A lower bound on the epsilon of an (epsilon, delta)-differentially private training, from an attack's counts.

    The attack calls an image a member if it was recovered. Differential privacy bounds its true and false positive
    rates: `TPR <= e^epsilon FPR + delta`, and `1 - FPR <= e^epsilon (1 - TPR) + delta`. The bound is the larger epsilon
    of the two, at the lower Clopper-Pearson bound of the TPR and the upper one of the FPR; it is never below 0. Each
    holds with `(1 + confidence) / 2`, so both together with `confidence` (Jagielski, Ullman and Oprea, "Auditing
    differentially private machine learning", NeurIPS 2020; Nasr et al., "Adversary instantiation", S&P 2021).

    These papers count trainings, each with the image or without it. Images of one training are not independent trials,
    so their bound is indicative only. NaN without members or without others. Raises `ValueError` for more successes
    than trials, and for a delta or a confidence outside [0, 1].
    """
    check_counts(np.array([recovered_members, recovered_others]), np.array([members, others]))
    if not 0 <= delta <= 1:
        raise ValueError(f"delta is {delta}; a probability lies in [0, 1]")
    if not members or not others:
        return math.nan
    tpr = _exact_interval(recovered_members, members, confidence)[0]
    fpr = _exact_interval(recovered_others, others, confidence)[1]
    ratios = (tpr - delta) / fpr, (1 - delta - fpr) / (1 - tpr)
    return math.log(max(1.0, *ratios))


@lru_cache
def _exact_interval(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """The Clopper-Pearson interval of a proportion."""
    return tuple(stats.binomtest(successes, trials).proportion_ci(confidence, method="exact"))


def median_interval(values: ArrayLike) -> tuple[float, float]:
    """The exact interval of the median from order statistics, of at least 95 % coverage (no assumption but sampling).

    The k-th smallest and the k-th largest value, `k` from the binomial distribution (Conover, "Practical Nonparametric
    Statistics"). NaN bounds for fewer than six values: not even the extremes hold the median in 95 %. Values may be
    infinite; raises `ValueError` for NaN.
    """
    ordered = np.sort(_without_nan(values, "values"))
    rank = _exceeding(len(ordered), 0.5)[0] - 1
    return (float(ordered[rank]), float(ordered[-1 - rank])) if rank >= 0 else (math.nan, math.nan)


def _without_nan(values: ArrayLike, name: str, remedy: str = "leave them out, or give -inf for a failure") -> Floats:
    """`values` (N,) as floats; NaN, which sorts above all numbers, raises `ValueError`."""
    checked = np.asarray(values, float)
    if unknown := int(np.isnan(checked).sum()):
        raise ValueError(f"{name}: {unknown} of {checked.size} are NaN; {remedy}")
    return checked


def _scores(positives: ArrayLike, negatives: ArrayLike) -> tuple[Floats, Floats]:
    """Both as floats, infinite ones allowed; raises `ValueError` for NaN, or if there is none of a kind."""
    above, below = _without_nan(positives, "positives"), _without_nan(negatives, "negatives")
    if not above.size or not below.size:
        raise ValueError(f"there are no {'negatives' if above.size else 'positives'}: nothing can be told from nothing")
    return above, below


def auc(positives: ArrayLike, negatives: ArrayLike) -> Estimate:
    """The area under the ROC curve: the probability that a positive scores above a negative, ties counting one half.

    DeLong's variance (Biometrics 44, 1988), on the logit scale, so that the interval stays in [0, 1]. Where that
    variance is zero, all pairs agree (above, below or tied) and it says nothing. Then the interval is exact, and wide:
    `k` disjoint pairs, `k` the smaller of the two counts, agree with a probability of `share^k`, so the share of such
    pairs is at least `0.025^(1/k)`. Scores may be infinite; raises `ValueError` for NaN, and for none of a kind.
    """
    above, below = map(np.sort, _scores(positives, negatives))
    of_above = _share_below(above, below)  # of the negatives, those that each positive exceeds
    of_below = 1 - _share_below(below, above)  # of the positives, those that exceed each negative
    area, smaller = float(of_above.mean()), min(len(above), len(below))
    if np.ptp(of_above) == np.ptp(of_below) == 0:
        share = ((1 - CONFIDENCE) / 2) ** (1 / smaller)
        return Estimate(area, area * share, 1 - (1 - area) * share)
    if smaller == 1:
        return Estimate(area, 0.0, 1.0)  # a single image has no variance to estimate
    error = math.sqrt(of_above.var(ddof=1) / len(above) + of_below.var(ddof=1) / len(below))
    low, high = special.expit(special.logit(area) + np.array([-Z, Z]) * error / (area * (1 - area)))
    return Estimate(area, float(low), float(high))


def _share_below(values: Floats, others: Floats) -> Floats:
    """For each of `values`, the share of `others` (sorted) below it, ties counting one half."""
    return (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / (2 * len(others))


class OperatingPoint(NamedTuple):
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
    and the interval begins at 0. Scores are as for `auc`.
    """
    if not 0 <= fpr <= 1:
        raise ValueError(f"fpr is {fpr}; a rate lies in [0, 1]")
    above, below = map(np.sort, _scores(positives, negatives))
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
    """(fpr, tpr) at the corners of the ROC curve, from (0, 0) to (1, 1); scores are as for `auc`."""
    from sklearn.metrics import roc_curve  # slow to import; a table of a store needs none

    above, below = _scores(positives, negatives)
    ranks = np.unique(np.concatenate([above, below]), return_inverse=True)[1]  # roc_curve takes no infinite scores
    fpr, tpr, _ = roc_curve(np.arange(len(ranks)) < len(above), ranks)
    return fpr, tpr


def log_roc(positives: ArrayLike, negatives: ArrayLike) -> tuple[Floats, Floats]:
    """`roc` for logarithmic axes: a rate of 0 is half of the smallest that the images resolve, `0.5 / count`."""
    fpr, tpr = roc(positives, negatives)
    return np.maximum(fpr, 0.5 / np.size(negatives)), np.maximum(tpr, 0.5 / np.size(positives))


def mcnemar(first: ArrayLike, second: ArrayLike, *, greater: bool = False) -> float:
    """The exact p-value of McNemar's test: do two methods succeed on equally many of the same images?

    `first` and `second` (N,) say which images each brought back. Two-sided, or one-sided for `first` being `greater`.
    Raises `ValueError` for other numbers of images, and for what is neither true (1) nor false (0).
    """
    a, b = np.asarray(first), np.asarray(second)
    for name, values in (("first", a), ("second", b)):
        if not np.isin(values, (0, 1)).all():
            raise ValueError(f"{name} holds what is neither true nor false; leave such images out of both")
    a, b = a.astype(bool), b.astype(bool)
    _check_paired(a, b)
    won, lost = int((a & ~b).sum()), int((b & ~a).sum())
    if greater:
        return float(stats.binom.sf(won - 1, won + lost, 0.5))
    return min(1.0, 2 * float(stats.binom.cdf(min(won, lost), won + lost, 0.5)))


def _check_paired(first: NDArray[Any], second: NDArray[Any]) -> None:
    if first.shape != second.shape:
        raise ValueError(f"a paired test needs the same images twice, not {first.shape} and {second.shape}")


class PairedDifference(NamedTuple):
    """The mean of `first - second` over the same images, with its interval, and the p-value of its being 0."""

    mean: Estimate
    p: float


def paired_difference(first: ArrayLike, second: ArrayLike, *, seed: int = 0) -> PairedDifference:
    """Student's paired interval and test, widened as far as the skewness of the differences asks for.

    The interval joins Student's with the bootstrap-t interval of 9,999 resamples of the images (Efron and Tibshirani,
    "An Introduction to the Bootstrap", section 12.5), and the p-value is the larger of theirs, so that 0 lies outside
    the interval where the p-value is at most 5 %. It is Student's alone where no resample is as far out as the observed
    mean, since 9,999 cannot tell 1e-4 from less, which a correction for many comparisons asks for: of few and strongly
    skewed differences it is then too small. It is at least `2^(1 - N)`, too, the least that any test of the signs of N
    differences can give. Below 6 images, whose resamples tell little of the skewness, and from 1,000 on, where the two
    agree, the interval is Student's alone. One image has no interval (NaN bounds) and a p-value of 1.

    Measured coverage for 8, 10, 20, 50 and 100 images: 95 to 97 % of normal differences, and of Student's t of 3
    degrees of freedom; 93.8, 93.6, 95.5, 96.2 and 96.4 % of exponential ones (Student's alone 88 to 93); 90.6, 92.2,
    93.7, 94.5 and 95.5 % of lognormal ones (Student's 83 to 91, BCa 80 to 91). Where few images differ, as where both
    methods bring back nearly all, resamples know no more than the images do: 57, 66, 88, 92 and 97 % if a difference is
    N(5, 1) with a chance of 0.1, else 0, and 87 % of 50 images with a chance of 0.05. McNemar's test is exact there.

    Raises `ValueError` for no images, for other numbers of them in both, and for NaN or infinite values.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    _check_paired(a, b)
    difference = a - b
    if not difference.size or not np.isfinite(difference).all():
        raise ValueError("a mean difference needs at least one image, and finite values of each")
    mean, count = float(difference.mean()), len(difference)
    if count == 1:
        return PairedDifference(Estimate(mean, math.nan, math.nan), 1.0)
    error = float(difference.std(ddof=1)) / math.sqrt(count)
    p = 2 * float(stats.t.sf(abs(mean) / error, count - 1)) if error else float(mean == 0)
    t = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
    lowest, highest = -t, t
    if error and FEW <= count < NORMAL_FROM:
        resampled = _resampled_t(difference - mean, seed)
        if outside := int((1 - CONFIDENCE) / 2 * (len(resampled) + 1)):
            lowest, highest = min(-t, float(resampled[outside - 1])), max(t, float(resampled[-outside]))
        observed = mean / error
        above = len(resampled) - int(np.searchsorted(resampled, observed, "left"))
        if extreme := min(above, int(np.searchsorted(resampled, observed, "right"))):
            p = max(p, 2 * (1 + extreme) / (1 + len(resampled)))
    interval = Estimate(mean, mean - highest * error, mean - lowest * error)
    return PairedDifference(interval, min(1.0, max(p, 2.0 ** (1 - count))))


def _resampled_t(centred: Floats, seed: int) -> Floats:
    """Student's t of resamples of values whose mean is 0, sorted; without resamples of one value, which have none."""
    count = len(centred)
    means, squares = (_resampled(count, seed) @ np.stack([centred, centred**2], axis=1) / count).T
    variances = squares - means**2
    varied = variances > 1e-12 * (centred**2).max()
    return np.sort(means[varied] / np.sqrt(variances[varied] / (count - 1)))


@lru_cache(maxsize=1)
def _resampled(count: int, seed: int) -> Floats:
    """(RESAMPLES, count): how often each of `count` images is drawn. The same for all cells of a table."""
    drawn = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    flat = np.bincount((drawn + count * np.arange(RESAMPLES)[:, None]).ravel(), minlength=RESAMPLES * count)
    return flat.reshape(RESAMPLES, count).astype(float)


def holm(p: ArrayLike) -> Floats:
    """P-values of several tests, adjusted so that any error among them has at most the level of one (Holm, 1979).

    Raises `ValueError` for NaN: a test that was not made is none of them.
    """
    values = _without_nan(p, "p-values", "leave them out")
    order = np.argsort(values, kind="stable")
    adjusted = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)).clip(max=1)
    return adjusted[np.argsort(order, kind="stable")]
