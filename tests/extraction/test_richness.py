"""The estimate of the total."""

from __future__ import annotations

import math

import numpy as np
import pytest

from memorization.extraction import richness


def chao(hits):
    """Chao1 and iChao1 by their published formulas, one end after the other."""
    n, f = sum(hits), {k: sum(h == k for h in hits) for k in (1, 2, 3, 4)}
    chao1 = (n - 1) / n * (f[1] ** 2 / (2 * f[2]) if f[2] else f[1] * (f[1] - 1) / 2)
    ratio = f[3] / max(f[4], 1)
    more = (n - 3) / (4 * n) * ratio * max(f[1] - (n - 3) / (2 * (n - 1)) * f[2] * ratio, 0)
    return len(hits) + chao1, len(hits) + chao1 + more


@pytest.mark.parametrize(
    ("hits", "improved"),
    [
        ([1, 1, 1, 2, 2, 9], False),
        ([1, 1, 1, 5, 9], False),
        ([1, 1, 1, 1, 2, 3, 3, 4, 8], True),
        ([1, 1, 1, 1, 1, 3, 3], True),
        ([1, 1, 2], False),
    ],
)
def test_the_estimate_is_ichao1(hits, improved):
    chao1, ichao1 = chao(hits)
    assert richness(hits).total == pytest.approx(ichao1)
    assert (ichao1 > chao1) == improved


@pytest.mark.parametrize("hits", [[5], [2, 2], [1] * 30 + [2], [1, 2], [10**6] * 3, [1] * 20_000 + [2]])
def test_the_estimate_is_finite_and_in_order(hits):
    found = richness(hits)
    assert found.seen == len(hits) <= found.low <= found.total <= found.high < math.inf
    assert found.unseen == found.total - found.seen
    if min(hits) > 1:
        assert found.total == found.low == found.seen < found.high


@pytest.mark.parametrize("seen", [1, 2, 30, 20_000])
def test_nothing_bounds_the_number_of_ends_of_which_none_was_hit_twice(seen):
    found = richness([1] * seen)
    assert found.seen == seen <= found.low <= found.total
    assert found.high == found.unseen == math.inf


def test_that_no_two_hits_met_bounds_the_number_from_below():
    """Of as many ends as the bound has, hit with equal shares, no two meet in one draw of twenty."""
    starts, draws, g = 60, 4000, np.random.default_rng(0)
    ends = richness([1] * starts).low
    apart = np.mean([len(np.unique(g.integers(ends, size=starts))) == starts for _ in range(draws)])
    assert apart == pytest.approx(math.exp(-3), abs=0.015)


def test_of_no_end_nothing_is_estimated():
    found = richness([])
    assert (found.seen, found.total, found.low) == (0, 0, 0)
    assert math.isnan(found.high)
    assert found.unseen == 0


BASINS = {
    "equal": (lambda g, k: np.ones(k), 0.90),
    "exponential": (lambda g, k: g.exponential(size=k), 0.90),
    "lognormal": (lambda g, k: g.lognormal(sigma=1, size=k), 0.90),
    "very unequal": (lambda g, k: g.lognormal(sigma=2, size=k), 0.85),
}


@pytest.mark.parametrize("basins", BASINS)
@pytest.mark.parametrize(("ends", "starts"), [(50, 75), (100, 300)])
def test_the_interval_covers(basins, ends, starts):
    """Measured over 200 draws: 94 to 98 %; even where the bound is low, by a third for `very unequal`."""
    make, least = BASINS[basins]
    g, held, above = np.random.default_rng(1), 0, 0
    for _ in range(100):
        shares = make(g, ends)
        hits = g.multinomial(starts, shares / shares.sum())
        found = richness(hits[hits > 0].tolist())
        held += found.low <= ends <= found.high
        above += found.low > ends
    assert held >= 100 * least
    assert above <= 8
