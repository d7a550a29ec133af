"""Statistics against SciPy, scikit-learn and statsmodels, and the coverage of their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from memorization.evaluation import seeds, statistics

TRIALS = 50
COUNTS = np.arange(TRIALS + 1)


def scores(seed: int, members: int = 50, others: int = 50, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores in whole dB, so that there are ties."""
    generator = np.random.default_rng(seed)
    return (generator.normal(20 + 5 * shift, 5, members).round(), generator.normal(20, 5, others).round())


def test_proportions_are_those_of_statsmodels():
    expected = proportion_confint(COUNTS, TRIALS, method="wilson")
    np.testing.assert_allclose(statistics.proportion_interval(COUNTS, TRIALS), expected, atol=1e-9)
    assert statistics.proportion_interval(0, 50)[0] == 0
    assert statistics.proportion_interval(50, 50)[1] == 1
    assert np.isnan(statistics.proportion_interval(0, 0)).all()


def test_differences_are_those_of_statsmodels():
    for first, second in [((56, 70), (48, 80)), ((10, 10), (0, 20)), ((0, 10), (0, 10)), ((5, 56), (0, 29))]:
        expected = confint_proportions_2indep(*first, *second, method="newcomb", compare="diff")
        np.testing.assert_allclose(statistics.difference_interval(first, second), expected, atol=1e-9)


def test_proportions_are_covered():
    """By exact summation over all counts of 50, averaged over the proportions from 0.05 to 0.95."""
    low, high = statistics.proportion_interval(COUNTS, TRIALS)
    covered = [stats.binom.pmf(COUNTS, TRIALS, p)[(low <= p) & (p <= high)].sum() for p in np.linspace(0.05, 0.95, 91)]
    assert 0.93 < np.mean(covered) < 0.97
    assert np.min(covered) > 0.92


def test_differences_are_covered():
    first, second = np.meshgrid(COUNTS, COUNTS, indexing="ij")
    low, high = statistics.difference_interval((first, TRIALS), (second, TRIALS))
    covered = []
    for p in np.linspace(0.05, 0.95, 10):
        for q in np.linspace(0.05, 0.95, 10):
            weight = np.outer(stats.binom.pmf(COUNTS, TRIALS, p), stats.binom.pmf(COUNTS, TRIALS, q))
            covered.append(weight[(low <= p - q) & (p - q <= high)].sum())
    assert 0.93 < np.mean(covered) < 0.97
    assert np.min(covered) > 0.93


@pytest.mark.parametrize(
    ("counts", "delta", "confidence", "expected"),
    [  # by `compute_eps_lo(..., method="beta")` of the package privacy-estimates, 0.1.0
        ((200, 212, 58, 258), 1e-5, 0.95, 2.00575),
        ((45, 50, 3, 50), 1e-5, 0.95, 1.55281),
        ((50, 50, 25, 50), 0, 0.99, 1.14359),
        ((20, 50, 0, 200), 1e-3, 0.95, 2.66690),
        ((487, 487, 512, 513), 1e-5, 0.95, 0),
        ((2, 513, 0, 487), 1e-5, 0.95, 0),
    ],
)
def test_epsilon_is_that_of_another_package(counts, delta, confidence, expected):
    found = statistics.epsilon_bound(*counts, delta=delta, confidence=confidence)
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("count", [1, 10, 100, 1000])
def test_epsilon_of_a_perfect_attack_has_a_closed_form(count):
    """The rate that `count` of `count` successes bound in 97.5 % is `0.025^(1 / count)`."""
    rate = 0.025 ** (1 / count)
    expected = max(0, math.log(rate / (1 - rate)))
    assert statistics.epsilon_bound(count, count, 0, count) == pytest.approx(expected)
    assert statistics.epsilon_bound(count, count, 0, count, delta=rate) == 0


def test_epsilon_grows_with_the_members_and_falls_with_the_others_and_with_delta():
    def bounds(*, delta=1e-5):
        found = [[statistics.epsilon_bound(k, 30, m, 30, delta=delta) for m in range(31)] for k in range(31)]
        return np.array(found)

    found = bounds()
    assert (np.diff(found, axis=0) >= 0).all()
    assert (np.diff(found, axis=1) <= 0).all()
    assert (bounds(delta=0.1) <= found).all()
    assert (np.diag(found) == 0).all()  # members come back as often as others
    assert found[30, 0] > found[30, 10] > 0
    assert found[20, 0] > 0


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 2.0])
def test_epsilon_is_exceeded_in_at_most_5_percent(epsilon):
    """By exact summation, for randomised response, the attack that reaches both limits of its epsilon at delta 0."""
    rate = 1 / (1 + math.exp(-epsilon))
    chance = np.outer(stats.binom.pmf(COUNTS, TRIALS, rate), stats.binom.pmf(COUNTS, TRIALS, 1 - rate))
    bounds = np.array([[statistics.epsilon_bound(k, TRIALS, m, TRIALS) for m in COUNTS] for k in COUNTS.tolist()])
    assert 0 < chance[bounds > epsilon + 1e-12].sum() <= 0.05


def test_epsilon_of_what_was_not_tried_is_unknown_and_of_impossible_counts_refused():
    assert math.isnan(statistics.epsilon_bound(0, 0, 1, 5))
    assert math.isnan(statistics.epsilon_bound(5, 5, 0, 0))
    with pytest.raises(ValueError, match="not between 0 and the trials"):
        statistics.epsilon_bound(6, 5, 0, 5)
    with pytest.raises(ValueError, match=r"delta is 1\.5"):
        statistics.epsilon_bound(5, 5, 0, 5, delta=1.5)


@pytest.mark.parametrize(("count", "most"), [(6, 0.97), (8, 0.995), (20, 0.97), (50, 0.97), (100, 0.97)])
def test_medians_are_covered(count, most):
    """Of any continuous distribution: its median lies between the order statistics `a` and `b` with this chance."""
    a, b = statistics.median_interval(np.arange(count))
    assert 0.95 <= stats.binom.cdf(b, count, 0.5) - stats.binom.cdf(a, count, 0.5) < most


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_median_of_fewer_than_six_has_no_interval(count):
    assert np.isnan(statistics.median_interval(np.arange(count))).all()


def test_auc_is_that_of_scikit_learn():
    for seed in range(5):
        members, others = scores(seed, members=40, others=30)
        labels = np.arange(70) < 40
        found = statistics.auc(members, others)
        assert found.value == pytest.approx(roc_auc_score(labels, np.concatenate([members, others])), abs=1e-9)


def test_auc_variance_is_that_of_delong_s_definition():
    """Kernel and structural components by two loops, as in equation 5 of the paper."""
    members, others = scores(3, members=12, others=9)
    kernel = np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in others] for x in members])
    area = kernel.mean()
    variance = sum((row.mean() - area) ** 2 for row in kernel) / 11 / 12
    variance += sum((column.mean() - area) ** 2 for column in kernel.T) / 8 / 9
    half = stats.norm.ppf(0.975) * math.sqrt(variance) / (area * (1 - area))
    odds = math.log(area / (1 - area)) + np.array([-half, half])
    found = statistics.auc(members, others)
    np.testing.assert_allclose([found.low, found.high], 1 / (1 + np.exp(-odds)), atol=1e-9)


@pytest.mark.parametrize("true", [0.5, 0.8, 0.95])
def test_auc_is_covered(true):
    generator = np.random.default_rng(0)
    members = generator.normal(math.sqrt(2) * stats.norm.ppf(true), 1, (1500, 50))
    others = generator.normal(0, 1, (1500, 50))
    found = [statistics.auc(*pair) for pair in zip(members, others, strict=True)]
    assert 0.93 < np.mean([estimate.low <= true <= estimate.high for estimate in found]) < 0.97


def test_a_separated_auc_has_an_exact_interval():
    """With an AUC of the lower bound, k disjoint pairs all agree, as they did, in 2.5 % of the draws."""
    found = statistics.auc(np.arange(30, 80), np.arange(20))
    assert (found.value, found.high) == (1, 1)
    assert found.low**20 == pytest.approx(0.025)
    mirrored = statistics.auc(np.arange(20), np.arange(30, 80))
    assert (mirrored.value, mirrored.low, mirrored.high) == (0, 0, pytest.approx(1 - found.low))
    for count in range(1, 50):
        assert statistics.auc(np.ones(count), np.zeros(count)).high == 1
        assert statistics.auc(np.zeros(count), np.ones(count)).low == 0
    tied = statistics.auc(np.ones(20), np.ones(50))
    assert tied.value == 0.5
    assert 0.4 < tied.low < 0.5 < tied.high < 0.6


def test_a_separated_auc_is_covered():
    """Near 1, where most draws are separated and DeLong's variance is zero."""
    generator = np.random.default_rng(0)
    shift = math.sqrt(2) * stats.norm.ppf(0.998)
    draws = [(generator.normal(shift, 1, 20), generator.normal(0, 1, 20)) for _ in range(1000)]
    found = [statistics.auc(*draw) for draw in draws]
    assert np.mean([estimate.value == 1 for estimate in found]) > 0.5
    assert np.mean([estimate.low <= 0.998 <= estimate.high for estimate in found]) > 0.93


def test_shuffled_labels_are_at_chance():
    """Over 400 permutations of the labels of 200 images that are well told apart."""
    members, others = scores(0, 100, 100, shift=3)
    assert statistics.auc(members, others).low > 0.9
    generator, every = np.random.default_rng(1), np.concatenate([members, others])
    mixed = [generator.permutation(every) for _ in range(400)]
    found = [statistics.auc(scores[:100], scores[100:]) for scores in mixed]
    assert 0.93 < np.mean([estimate.low <= 0.5 <= estimate.high for estimate in found]) < 0.97
    assert np.mean([estimate.value for estimate in found]) == pytest.approx(0.5, abs=0.01)


def test_nan_is_no_score():
    """It would sort above all numbers: a failed image would be the best."""
    unknown, numbers = [np.nan, 1.0, 2.0], np.arange(10.0)
    for function in (statistics.auc, statistics.roc, lambda a, b: statistics.tpr_at_fpr(a, b, 0.1)):
        for pair, name in (((unknown, numbers), "positives"), ((numbers, unknown), "negatives")):
            with pytest.raises(ValueError, match=f"{name}: 1 of 3 are NaN"):
                function(*pair)
        with pytest.raises(ValueError, match="there are no positives"):
            function([], numbers)
    with pytest.raises(ValueError, match="values: 1 of 10 are NaN"):
        statistics.median_interval([np.nan] + [1.0] * 9)
    for neither in (np.nan, -np.inf, 0.5):
        with pytest.raises(ValueError, match="second holds what is neither true nor false"):
            statistics.mcnemar([True, False], [neither, 1])
    with pytest.raises(ValueError, match="p-values: 1 of 2 are NaN"):
        statistics.holm([0.01, np.nan])
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite values"):
            statistics.paired_difference([value, 1.0], [1.0, 1.0])


def test_an_exact_answer_is_the_best_score():
    assert statistics.auc([np.inf, 30.0], [-np.inf, 20.0]).value == 1
    assert statistics.auc([30.0], [np.inf]).value == 0
    assert statistics.auc([np.inf], [np.inf]).value == 0.5
    found = statistics.tpr_at_fpr([np.inf] * 5 + [-np.inf] * 5, np.arange(10.0), 0.1)
    assert (found.tpr.value, found.fpr) == (0.5, 0.1)
    assert statistics.roc([np.inf, -np.inf], [1.0])[1].tolist() == [0, 0.5, 0.5, 1]
    assert statistics.median_interval([-np.inf] * 4 + [np.inf] * 4) == (-np.inf, np.inf)


def test_what_is_no_sample_is_refused():
    with pytest.raises(ValueError, match="not between 0 and the trials"):
        statistics.proportion_interval([3, 6], [5, 5])
    with pytest.raises(ValueError, match="the same images twice"):
        statistics.mcnemar([True], [True, False])
    for pair in (([1.0], [1.0, 2.0]), ([], [])):
        with pytest.raises(ValueError, match=r"the same images twice|at least one image"):
            statistics.paired_difference(*pair)
    with pytest.raises(ValueError, match=r"fpr is 10; a rate lies in \[0, 1\]"):
        statistics.tpr_at_fpr([1.0], [1.0, 2.0], 10)
    with pytest.raises(ValueError, match="not between 0 and the trials"):
        seeds.seed_variation([6, 1], [5, 5])
    for trials in ([], [5, 0]):
        with pytest.raises(ValueError, match="at least one seed, each with images"):
            seeds.seed_variation([0] * len(trials), trials)
    assert statistics.mcnemar([], []) == 1
    assert statistics.holm([]).tolist() == []


def test_a_diverged_image_scores_below_all_others():
    assert statistics.auc([30.0, -np.inf], [10.0, 20.0]).value == 0.5
    assert statistics.roc([30.0, -np.inf], [10.0, 20.0])[1].tolist()[-1] == 1


@pytest.mark.parametrize("rate", [0.1, 0.01])
def test_tpr_at_fpr_is_read_off_scikit_learn_s_curve(rate):
    members, others = scores(0, 150, 250)
    fpr, tpr, _ = roc_curve(np.arange(400) < 150, np.concatenate([members, others]), drop_intermediate=False)
    found = statistics.tpr_at_fpr(members, others, rate)
    assert found.tpr.value == pytest.approx(tpr[fpr <= rate].max(), abs=1e-9)
    assert found.fpr == pytest.approx(fpr[fpr <= rate].max(), abs=1e-9)
    assert found.fpr <= rate
    assert found.tpr.low < found.tpr.value < found.tpr.high


def test_a_rate_that_the_non_members_do_not_resolve_is_not_given():
    members, others = scores(0, 50, 100)
    assert statistics.tpr_at_fpr(members, others, 0.01) is not None
    assert statistics.tpr_at_fpr(members, others[:99], 0.01) is None
    assert statistics.tpr_at_fpr(members, others, 0.001) is None


@pytest.mark.parametrize(("count", "rate", "highest"), [(100, 0.1, 0.98), (500, 0.1, 0.97), (100, 0.01, 1)])
def test_a_tpr_is_covered_though_its_threshold_is_estimated(count, rate, highest):
    """Of N(2, 1) against N(0, 1). With 1 / rate negatives nothing but the upper bound can miss."""
    generator = np.random.default_rng(0)
    true = stats.norm.sf(stats.norm.isf(rate) - 2)
    draws = zip(generator.normal(2, 1, (1500, count)), generator.normal(0, 1, (1500, count)), strict=True)
    found = [statistics.tpr_at_fpr(*draw, rate).tpr for draw in draws]
    assert 0.94 < np.mean([estimate.low <= true <= estimate.high for estimate in found]) <= highest
    assert np.mean([estimate.high < true for estimate in found]) < 0.03
    assert np.mean([estimate.high - estimate.low for estimate in found]) < 0.7


def test_a_tpr_of_separated_groups_is_not_certain():
    """The threshold of the highest 1 % is bounded from above by the highest of 400 non-members, but not of 100."""
    members = np.arange(1000, 1100)
    estimates = [statistics.tpr_at_fpr(members, np.arange(n), 0.01).tpr for n in (100, 400)]
    assert [(estimate.value, estimate.high) for estimate in estimates] == [(1, 1), (1, 1)]
    assert estimates[0].low == 0
    assert estimates[1].low == pytest.approx(statistics.proportion_interval(100, 100)[0])


def test_ties_lower_the_rate_achieved():
    found = statistics.tpr_at_fpr([3.0, 2.0, 1.0], [2.0] * 5 + [0.0] * 5, 0.1)
    assert (found.fpr, found.tpr.value) == (0, pytest.approx(1 / 3))


def test_roc_on_logarithmic_axes_shows_zero_at_half_of_what_is_resolved():
    members, others = scores(0, 150, 250)
    fpr, tpr = statistics.roc(members, others)
    expected = roc_curve(np.arange(400) < 150, np.concatenate([members, others]))
    np.testing.assert_allclose([fpr, tpr], expected[:2], atol=1e-9)
    log_fpr, log_tpr = statistics.log_roc(members, others)
    assert (log_fpr[0], log_tpr[0]) == (0.5 / 250, 0.5 / 150)
    np.testing.assert_array_equal(log_fpr[fpr > 0], fpr[fpr > 0])


@pytest.mark.parametrize(("only_first", "only_second"), [(9, 2), (5, 5), (0, 0), (0, 7)])
def test_mcnemar_is_that_of_statsmodels(only_first, only_second):
    first = np.repeat([1, 0, 1, 0], [4, 3, only_first, only_second]).astype(bool)
    second = np.repeat([1, 0, 0, 1], [4, 3, only_first, only_second]).astype(bool)
    expected = statsmodels_mcnemar([[4, only_first], [only_second, 3]], exact=True).pvalue
    assert statistics.mcnemar(first, second) == pytest.approx(expected, abs=1e-9)
    if only_first + only_second:
        one_sided = stats.binomtest(only_first, only_first + only_second, alternative="greater").pvalue
        assert statistics.mcnemar(first, second, greater=True) == pytest.approx(one_sided, abs=1e-9)


def test_the_paired_interval_joins_student_s_with_the_bootstrap_t():
    """Resampled by a loop with other draws, of skewed differences: above, the bootstrap's bound; below, Student's."""
    generator = np.random.default_rng(0)
    first, second = generator.lognormal(2, 1, 60), generator.normal(5, 1, 60)
    difference = first - second
    found = statistics.paired_difference(first, second)
    assert found.mean.value == pytest.approx(difference.mean(), abs=1e-9)
    error = stats.sem(difference)
    student = stats.ttest_rel(first, second).confidence_interval(0.95)
    draws = generator.choice(difference, (9_999, 60))
    t = (draws.mean(1) - difference.mean()) / stats.sem(draws, axis=1)
    assert found.mean.low == pytest.approx(student.low)
    assert found.mean.high == pytest.approx(difference.mean() - np.quantile(t, 0.025) * error, abs=0.1 * error)
    assert found.mean.high > student.high + 0.3 * error


@pytest.mark.parametrize("count", [6, 20, 100])
def test_zero_lies_outside_a_paired_interval_where_the_p_value_is_small(count):
    samples = np.random.default_rng(0).exponential(1, (300, count)) - 1 + 1 / math.sqrt(count)
    found = [statistics.paired_difference(sample, np.zeros(count)) for sample in samples]
    outside = [pair.mean.low > 0 or pair.mean.high < 0 for pair in found]
    assert 5 < sum(outside) < 295
    assert outside == [pair.p <= 0.05 for pair in found]


def test_differences_of_few_images_have_a_finite_interval():
    """Most resamples hold none of the images that differ, and so have no Student's t."""
    for differing in (0, 1, 2):
        difference = np.where(np.arange(50) < differing, 20.0, 0.0)
        found = statistics.paired_difference(difference, np.zeros(50))
        assert found.mean.low <= 0 <= found.mean.high < 5
        assert found.p > 0.05
    assert found.mean.high > found.mean.value > 0


def test_many_pairs_and_equal_methods():
    generator = np.random.default_rng(0)
    first = generator.normal(30, 6, 999)
    second = first + generator.normal(0.6, 5, 999)
    few, many = (statistics.paired_difference(np.resize(a, n), np.resize(b, n)) for a, b, n in
                 [(first, second, 999), (first, second, 1_000)])  # fmt: skip
    np.testing.assert_allclose([few.mean.low, few.mean.high, few.p], [many.mean.low, many.mean.high, many.p], atol=0.02)
    assert statistics.paired_difference(first[:50], first[:50]).p == 1
    assert statistics.paired_difference(first, first).p == 1
    assert statistics.paired_difference(first[:4] + 40, first[:4]).p == 0.125


SKEWED = {
    "normal": (lambda generator, size: generator.normal(1, 2, size), 1.0),
    "exponential": (lambda generator, size: generator.exponential(1, size), 1.0),
    "lognormal": (lambda generator, size: generator.lognormal(0, 1, size), math.exp(0.5)),
}


@pytest.mark.parametrize(
    ("differences", "count", "least"),
    [("normal", count, 0.94) for count in (3, 6, 10, 50)]
    + [("exponential", count, 0.93) for count in (8, 20, 100)]
    + [("lognormal", 8, 0.89), ("lognormal", 20, 0.92), ("lognormal", 100, 0.93)],
)
def test_a_paired_difference_is_covered(differences, count, least):
    """Student's interval alone covers 88 to 93 % of the exponential ones, 84 to 91 % of the lognormal ones."""
    draw, true = SKEWED[differences]
    found = [
        statistics.paired_difference(x, np.zeros(count)).mean for x in draw(np.random.default_rng(0), (1500, count))
    ]
    assert least < np.mean([estimate.low <= true <= estimate.high for estimate in found]) < 0.975


def test_a_clear_difference_outlives_many_comparisons():
    generator = np.random.default_rng(0)
    first, second = generator.normal(34, 3, 60), generator.normal(30, 3, 60)
    found = statistics.paired_difference(first, second)
    assert found.p == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-6)
    assert statistics.holm([found.p] + [0.9] * 4_999)[0] < 0.001


def test_no_difference_is_seldom_significant():
    """Of exponential differences, skewed, less their mean."""
    samples = np.random.default_rng(0).exponential(1, (1500, 50)) - 1
    p = np.array([statistics.paired_difference(sample, np.zeros(50)).p for sample in samples])
    assert 0.03 < (p <= 0.05).mean() < 0.08
    assert (p <= 1e-4).mean() < 0.003


def test_a_single_pair_has_no_interval():
    found = statistics.paired_difference([30.0], [31.0])
    assert (found.mean.value, found.p) == (-1, 1)
    assert np.isnan([found.mean.low, found.mean.high]).all()


def test_holm_is_that_of_statsmodels():
    p = np.array([0.04, 0.001, 0.03, 0.8, 0.03])
    np.testing.assert_allclose(statistics.holm(p), multipletests(p, method="holm")[1], atol=1e-9)


def test_variation_over_seeds_is_told_from_that_over_images():
    """200 seeds of 50 images: proportions drawn with a standard deviation of 0.1 between trainings, then with none."""
    generator = np.random.default_rng(0)
    for spread in (0.1, 0.0):
        p = generator.normal(0.5, spread, 200).clip(0, 1)
        found = seeds.seed_variation(generator.binomial(50, p), np.full(200, 50))
        assert found.training == pytest.approx(spread, abs=0.03)
        assert found.within == pytest.approx(math.sqrt(0.25 / 50), abs=0.005)
        assert found.between**2 == pytest.approx(found.within**2 + spread**2, abs=0.003)
        assert found.mean.low < 0.5 < found.mean.high
    alone = seeds.seed_variation([25], [50])
    assert alone.mean.value == 0.5
    assert np.isnan([alone.between, alone.training, alone.mean.low]).all()


def test_the_variation_over_images_is_that_of_an_unbiased_variance():
    found = seeds.seed_variation([1, 3], [4, 4])
    assert found.within == pytest.approx(math.sqrt((0.25 * 0.75) / 3))


def test_seeds_that_agree_leave_the_error_of_the_images():
    for successes in (50, 25):
        found = seeds.seed_variation([successes] * 2, [50] * 2).mean
        assert (found.low, found.high) == pytest.approx(statistics.proportion_interval(2 * successes, 100))


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_the_mean_over_seeds_is_covered(spread):
    generator = np.random.default_rng(0)
    p = generator.normal(0.8, spread, (2000, 3)).clip(0.6, 1)  # symmetric about 0.8
    found = [seeds.seed_variation(k, np.full(3, 50)).mean for k in generator.binomial(50, p)]
    assert 0.94 < np.mean([estimate.low <= 0.8 <= estimate.high for estimate in found]) < 0.99


@pytest.mark.parametrize("spread", [0.05, 0.1])
def test_the_mean_and_the_excess_over_five_seeds_are_covered(spread):
    """Shares of each seed have a beta distribution; members and non-members each their own."""
    generator = np.random.default_rng(0)
    trials = np.full(5, 50)

    def drawn(mean: float) -> np.ndarray:
        size = mean * (1 - mean) / spread**2 - 1
        return generator.binomial(50, generator.beta(mean * size, (1 - mean) * size, (1000, 5)))

    members, others = drawn(0.8), drawn(0.3)
    means = [seeds.seed_variation(k, trials).mean for k in members]
    excesses = [seeds.seed_excess((k, trials), (m, trials)) for k, m in zip(members, others, strict=True)]
    for found, truth in ((means, 0.8), (excesses, 0.5)):
        assert 0.935 < np.mean([estimate.low <= truth <= estimate.high for estimate in found]) < 0.985


def test_the_excess_over_seeds_has_no_interval_of_one_seed_and_needs_both_kinds():
    alone = seeds.seed_excess(([25], [50]), ([5], [50]))
    assert alone.value == pytest.approx(0.4)
    assert np.isnan([alone.low, alone.high]).all()
    assert np.isnan(seeds.seed_excess(([25, 20], [50, 50]), ([5, 0], [50, 0]))).all()
    agreed = seeds.seed_excess(([25, 25], [50, 50]), ([5, 5], [50, 50]))
    assert agreed[1:] == pytest.approx(statistics.difference_interval((50, 100), (10, 100)))
