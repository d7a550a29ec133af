"""The search: maps with known attractors give them, and what is no end is none."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from memorization.extraction import Bank, Combinations, Ending, Folder, Mixture, Noise, Search, settle
from memorization.extraction.priors import Deflated
from memorization.extraction.search import ENDINGS, SLACK, Draw, Settled, search
from tests import problems
from tests.extraction.searches import MEMBERS, NO_ENDS, OTHERS, SHAPE, generator, ran

FEW = Noise(spectrum=0.0, scale=1.0)  # one arm


def starts(count=20, seed=0):
    return FEW.draw(count, SHAPE, torch.Generator().manual_seed(seed), NO_ENDS)


def settled(autoencoder, starts, **settings):
    """Where each of `starts` ended, in words, its period, and the point."""
    found = settle(autoencoder, starts, Search(**settings))
    return [ENDINGS[code].value for code in found.ending.tolist()], found.period.tolist(), found.points


def cells(members, generator):
    """The member whose weighted cell (a power diagram) holds the input; of very unequal cells, each with its member."""
    gaps = torch.cdist(members.flatten(1), members.flatten(1)).square().fill_diagonal_(math.inf)
    weights = 0.95 * gaps.min() * torch.rand(len(members), generator=generator)
    return lambda x: members[(torch.cdist(x.flatten(1), members.flatten(1)).square() - weights).argmin(1)]


def test_of_the_nearest_member_every_member_and_nothing_else_comes_out():
    found = ran(problems.nearest(MEMBERS), members=MEMBERS, non_members=OTHERS, queries=20_000)
    assert found.extracted == [*range(12)]
    table = found.table
    assert len(table) == 12
    assert table["is_member"].all()
    assert (table["psnr"] > 100).all()
    assert torch.equal(found.images, MEMBERS[table["nearest_member"].tolist()])
    assert table["hits"].sum() == found.starts == sum(found.endings.values()) == found.endings["fixed"]
    assert found.queries < 20_000  # it ends as nothing is unseen
    assert (found.richness().low, found.richness().total, found.richness().high) == (12, 12, 15)
    assert str(found).startswith("12 of 12 members extracted, 0 spurious ends; 12 distinct ends, at least 12 (95 % 12 ")
    assert table["spectral_radius"].isna().all()  # it has no derivatives
    row = found.summary().iloc[0]
    assert (row["share"], row["ends"], row["spurious"], row["members_total"]) == (1, 12, 0, 12)
    assert row["share_low"] == pytest.approx(1 / (1 + 1.96**2 / 12), abs=1e-3)  # Wilson


def test_the_estimate_holds_the_true_number_with_unequal_basins():
    """24 searches that end early, by their budget; the interval is meant to hold it in 95 % of them."""
    held, seen = 0, []
    for seed in range(24):
        members = problems.images(40, seed, torch.float32)
        found = ran(
            cells(members, generator(seed)), prior=FEW, queries=300, batch_size=30, seed=seed, spectra=False, unseen=0
        )
        total = found.richness()
        held += total.low <= 40 <= total.high
        seen.append(total.seen)
    assert np.mean(seen) < 39  # most are left unseen
    assert held >= 20


def test_an_expansion_has_no_end():
    found = ran(lambda x: 3 * x)
    assert len(found.table) == 0
    assert found.endings["diverged"] == found.starts > 0
    starts = f"of {found.starts:,} starts, {found.starts:,} diverged and 0 did not settle"
    assert str(found) == f"no start came to an end; {found.queries:,} queries; {starts}"
    assert (found.richness().total, found.extracted, len(found.curve())) == (0, [], 0)
    with_members = ran(lambda x: 3 * x, members=MEMBERS)
    assert str(with_members).startswith("0 of 12 members extracted, 0 spurious ends; no start came to an end; ")
    assert with_members.summary()["extracted"][0] == 0


def test_a_projection_has_a_continuum_of_ends_of_radius_one():
    """Each an image of the plane, and by estimate there are many more."""
    found = ran(problems.projection(MEMBERS[:2]), queries=300, prior=FEW)
    inside = problems.projection(MEMBERS[:2])
    assert len(found.table) > 20
    assert found.endings["fixed"] == found.starts
    np.testing.assert_allclose(found.table["spectral_radius"], 1, atol=1e-6)
    assert found.richness().unseen > len(found.table) / 2
    ends = found.images[(found.images > 0).flatten(1).all(1) & (found.images < 1).flatten(1).all(1)]
    torch.testing.assert_close(inside(ends), ends)


def test_under_the_identity_each_start_is_its_own_end():
    found = ran(lambda x: x.clone(), prior=FEW)
    assert len(found.table) == found.starts == found.queries / 3 == 407  # cut off, fixed, and still without the cut
    assert (found.table["hits"] == 1).all()
    np.testing.assert_allclose(found.table["spectral_radius"], 1)
    assert f"407 distinct ends, at least {406**2 / 2 + 407:,.0f} (95 % from {407 * 406 / 6:,.0f}) in all" in str(found)
    assert ", as where images stay as they are" in str(found)


def test_ends_without_number_are_not_looked_for_with_the_whole_budget():
    """Images that hardly move end near where they start."""
    found = ran(lambda x: 0.5 + 0.9999 * (x - 0.5), prior=Mixture([1.0], [0.05]), spectra=False, tolerance=1e-4)
    assert found.queries < 50_000
    assert ", as where images stay as they are" in str(found)


def test_every_point_is_of_a_cycle_where_the_map_mirrors():
    begun = starts().clamp(0, 1)
    words, periods, points = settled(lambda x: 1 - x, begun, max_iterations=7)
    assert (set(words), set(periods)) == ({"periodic"}, {2})
    torch.testing.assert_close(points, torch.where(bright(begun), begun, 1 - begun))


def bright(x):
    return x.flatten(1).mean(1).view(-1, 1, 1, 1) > 0.5


def two_cycle(x):
    """Attracts to the cycle of a dark and a bright image, from either side."""
    return torch.where(bright(x), 0.2, 0.8) + 0.1 * (x - x.mean((1, 2, 3), keepdim=True))


@pytest.mark.parametrize("max_iterations", [20, 21])
def test_a_cycle_is_one_end_whatever_the_phase(max_iterations):
    words, periods, points = settled(two_cycle, starts(), max_iterations=max_iterations)
    assert (set(words), set(periods)) == ({"periodic"}, {2})
    torch.testing.assert_close(points, torch.full_like(points, 0.8))
    found = ran(two_cycle, max_iterations=max_iterations, queries=6000)
    assert found.table["period"].tolist() == [2]
    assert found.table["spectral_radius"].isna().all()
    assert found.endings["periodic"] == found.starts == found.table["hits"][0]


@pytest.mark.parametrize("period", [2, 3, 5, 8])
def test_a_period_is_the_shortest(period):
    """A rotation of the pixels' rows by a part of the circle; longer than 8 it is unsettled."""

    def turn(x):
        return x.roll(8 // period if period in (2, 8) else 1, 2)

    base = starts()[:, :, :period] if period in (3, 5) else starts()
    words, periods, _ = settled(turn, base, max_iterations=3)
    assert (set(words), set(periods)) == ({"periodic"}, {period})


def test_a_period_that_is_too_long_is_unsettled():
    words, periods, _ = settled(lambda x: x.roll(1, 3), starts().repeat(1, 1, 1, 2)[..., :9], max_iterations=3)
    assert (set(words), set(periods)) == ({"unsettled"}, {0})


@pytest.mark.parametrize("rate", [0.999, -0.999, 0.9999, -0.9999])
def test_a_slow_contraction_is_never_periodic(rate):
    words, periods, points = settled(lambda x: 0.5 + rate * (x - 0.5), starts(), extrapolation=0)
    assert set(words) == {"unsettled"}
    assert set(periods) == {0}
    near = 0.5 + 1e-4 * (starts() - 0.5)
    words, periods, points = settled(lambda x: 0.5 + rate * (x - 0.5), near, extrapolation=0)
    assert set(words) == {"fixed"}
    assert (points - 0.5).abs().max() < 1e-3


def about_grey(matrix):
    f = problems.linear(matrix)
    return lambda x: 0.5 + f(x - 0.5)


def test_a_slow_spiral_is_no_cycle():
    """Its gaps after a full turn are small; its radius is not."""
    turn = torch.block_diag(*[torch.tensor([[0.0, -1.0], [1.0, 0.0]])] * 32)  # a quarter
    settings = {"extrapolation": 0, "max_iterations": 50}
    words, _, _ = settled(about_grey(0.9999 * turn), 0.45 + 0.1 * starts(), **settings)
    assert set(words) == {"unsettled"}
    words, periods, _ = settled(about_grey(turn), 0.45 + 0.1 * starts(), **settings)
    assert (set(words), set(periods)) == ({"periodic"}, {4})


def test_a_map_with_nan_diverges_there_alone():
    def broken(x):
        return torch.where(bright(x), torch.nan, torch.zeros_like(x) + 0.2)

    words, periods, points = settled(broken, starts())
    dark = ~bright(starts()).flatten()
    assert words == ["fixed" if d else "diverged" for d in dark.tolist()]
    assert periods == dark.long().tolist()
    torch.testing.assert_close(points[dark], torch.full_like(points[dark], 0.2))
    with pytest.raises(ValueError, match="output holds NaN or infinite values on images"):
        ran(lambda x: x * torch.nan)


@pytest.mark.parametrize(("value", "ending"), [(math.nan, "diverged"), (math.inf, "fixed")])
def test_a_map_without_numbers_far_from_its_ends_diverges_there_alone(value, ending):
    """Also where the search leads away from what it found: the others go on. Infinity is cut off to white."""
    nearest = problems.nearest(MEMBERS)

    def broken(x):
        far = ((x - 0.5).square().mean((1, 2, 3), keepdim=True) <= 0.3).logical_not()  # NaN is
        return torch.where(far, value, nearest(x))

    found = ran(broken, prior=Mixture([0.0], [0.3]), queries=10_000, spectra=False)
    assert (found.endings["diverged"] > 0) == (ending == "diverged")
    assert ended_by(broken, Deflated(0.5, 4.0)) == {ending}
    assert len(found.table) >= 2


def ended_by(f, arm):
    """How images that are drawn from `arm` end if two members were found, in words."""
    begun = arm.approach(f, arm.draw(8, SHAPE, generator(), MEMBERS[:2]), MEMBERS[:2])
    return set(settled(f, begun)[0])


def test_a_nan_on_the_way_of_a_cycle_is_no_end():
    calls = []

    def f(x):
        calls.append(len(x))
        return x + 1e-3 if len(calls) < 15 else x * torch.nan

    assert settled(f, starts(), max_iterations=10, extrapolation=0)[0] == ["unsettled"] * 20


def test_what_the_cut_alone_holds_is_no_end():
    """`f` has its one fixed point outside of the range, at an image that is cut off to a member."""
    white = torch.ones(1, *SHAPE)
    for at, step, ends in ((2.0, 0.5, 0), (1.1, 0.5, 1), (1.5, 0.01, 1), (12.0, 0.01, 0)):
        found = ran(lambda x, at=at, step=step: at + (1 - step) * (x - at), members=white, queries=20_000)
        # in the range, `f` moves white by `step * (at - 1)`
        assert (len(found.table), found.extracted) == (ends, [0] * ends), (at, step)
        assert found.endings["diverged"] == (0 if ends else found.starts)


@pytest.mark.parametrize(("dark", "light", "word"), [(0, 1, "periodic"), (0, 1.5, "diverged"), (-0.5, 1, "diverged")])
def test_a_cycle_that_the_cut_holds_at_either_of_its_images_is_no_end(dark, light, word):
    words, _, _ = settled(lambda x: torch.where(bright(x), dark, light) + 0 * x, starts(), max_iterations=20)
    assert set(words) == {word}


def test_the_cut_leads_back_to_an_image_what_would_leave_the_range():
    """Beyond the range the map expands, so that without the cut every start would diverge."""

    def f(x):
        inside = problems.nearest(MEMBERS)(x)
        return torch.where((x - x.clamp(0, 1)).abs().amax((1, 2, 3), keepdim=True) > 0, 3 * x, inside)

    found = ran(f, members=MEMBERS, prior=Mixture([0.0, 1.0], [1.0, 5.0]), queries=20_000, spectra=False)
    assert found.extracted == [*range(12)]
    assert found.endings["diverged"] == 0


def ended(points, period=1):
    count = len(points)
    code = torch.full((count,), ENDINGS.index(Ending.fixed))
    return Settled(points, code, torch.full((count,), period), torch.zeros(count), torch.ones(count).long())


def test_ends_that_are_near_are_one():
    greys = torch.tensor([0.5, 0.515, 0.53, 0.9, 0.5]).view(-1, 1, 1, 1) * torch.ones(5, *SHAPE)
    bank = Bank(NO_ENDS)
    assert bank.add(ended(greys), 0, 0.02) == 3  # 0.515 is 0.5, and 0.53 is too far from that
    assert bank.hits == [3, 1, 1]
    assert bank.add(ended(greys + 0.001), 0, 0.02) == 0
    assert bank.hits == [5, 3, 2]  # 0.516 is nearer to 0.53
    assert torch.equal(bank.points, greys[[0, 2, 3]])
    assert Bank(NO_ENDS).add(ended(greys), 0, 0.001) == 4
    assert Bank(NO_ENDS).add(ended(greys), 0, 1.0) == 1
    far = 50 + torch.tensor([0.0, 0.01, 0.03]).view(-1, 1, 1, 1) * torch.ones(3, *SHAPE)
    assert Bank(NO_ENDS).add(ended(far), 0, 0.02) == 2  # products would cancel


def test_hits_and_queries_add_up():
    """Of a map that has ends of all kinds, with counted calls."""
    calls = []

    def f(x):
        calls.append(len(x))
        mean = x.mean((1, 2, 3), keepdim=True)
        nearest = problems.nearest(MEMBERS)(x)
        return torch.where(mean > 0.7, 3 * x, torch.where(mean < 0.3, 0.2 - x, nearest))

    rounds = []
    settings = Search(queries=8000, batch_size=20, unseen=0)

    def settle_all(draws, ends):
        return [settle(f, draw.starts(settings, SHAPE, ends), settings) for draw in draws]

    bank = search(settings, SHAPE, settle_all, 0, lambda bank: rounds.append((bank.queries, bank.starts, len(bank))))
    assert bank.queries == sum(calls)
    assert sum(bank.hits) == bank.endings["fixed"] + bank.endings["periodic"] < bank.starts
    assert bank.endings["periodic"] > 0
    assert bank.endings["diverged"] > 0
    assert [starts for _, starts, _ in rounds][:2] == [18, 98]  # by what an image may take; four batches
    assert 8000 <= rounds[-1][0] < 8000 + 417
    assert rounds[-1][1] - rounds[-2][1] == 1
    assert set(bank.found) <= {queries for queries, _, _ in rounds}
    assert bank.found == sorted(bank.found)


def test_a_batch_is_drawn_from_the_seed_its_number_and_the_bank_alone():
    settings = Search(batch_size=5)
    torch.manual_seed(0)
    first = Draw(7, 12, 3, 6).starts(settings, SHAPE, MEMBERS)
    torch.manual_seed(1)
    assert torch.equal(Draw(7, 12, 3, 6).starts(settings, SHAPE, MEMBERS), first)
    others = [Draw(8, 12, 3, 6), Draw(7, 12, 4, 6), Draw(7, 13, 3, 6)]
    for starts in [draw.starts(settings, SHAPE, MEMBERS) for draw in others]:
        assert not torch.equal(starts, first)
    assert not torch.equal(Draw(7, 12, 3, 6).starts(settings, SHAPE, OTHERS), first)


def test_the_search_asks_for_the_same_batches_however_they_are_shared():
    def asked(backwards):
        settings, seen = Search(queries=2000, batch_size=10), []

        def settle_all(draws, ends):
            seen.extend((*draw, len(ends)) for draw in draws)
            order = reversed(range(len(draws))) if backwards else range(len(draws))
            one = {
                i: settle(problems.nearest(MEMBERS), draws[i].starts(settings, SHAPE, ends), settings) for i in order
            }
            return [one[i] for i in range(len(draws))]

        return search(settings, SHAPE, settle_all, 5), seen

    (one, first), (two, second) = asked(False), asked(True)
    assert first == second
    assert [number for number, *_ in first] == [*range(len(first))]
    assert torch.equal(one.points, two.points)
    assert replace(one, points=0) == replace(two, points=0)


def test_arms_that_pay_are_drawn_more_often():
    """Of twelve, one leads to a new end each time, later another one; the others to the same."""
    prior, drawn = Mixture(combinations=False), []
    settings = Search(prior=prior, queries=60_000, batch_size=10, unseen=0)

    def settle_all(draws, ends):
        drawn.extend(draw.arm for draw in draws)
        pays = 4 if len(drawn) <= 100 else 7
        found = []
        for draw in draws:
            new = (
                1.0
                + 10 * draw.number
                + torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 5]).view(-1, 1, 1, 1)
                + torch.zeros(10, *SHAPE)
            )
            found.append(ended(new if draw.arm == pays else torch.zeros(10, *SHAPE)))
        return [replace(one, queries=torch.full((10,), 20)) for one in found]

    search(settings, SHAPE, settle_all, 0)
    early, late = np.bincount(drawn[:100], minlength=12), np.bincount(drawn[-100:], minlength=12)
    assert early[4] > 50
    assert late[7] > 50


def test_combinations_are_tried_before_the_search_ends():
    seen = []

    def settle_all(draws, ends):
        seen.extend(draw.arm for draw in draws)
        settings = Search(prior=Combinations(), batch_size=20)
        return [settle(problems.nearest(MEMBERS[:2]), d.starts(settings, SHAPE, ends), settings) for d in draws]

    search(Search(prior=Combinations(), queries=100_000), SHAPE, settle_all, 0)
    assert set(seen) & {1, 2, 3, 4}


@pytest.mark.parametrize("seed", range(4))
def test_the_budget_holds_where_some_kinds_of_start_take_more(seed):
    """An image settles in two queries, but deflation takes 20 before."""
    found = ran(problems.nearest(MEMBERS), queries=2500, batch_size=100, seed=seed, spectra=False)
    assert abs(found.queries - 2500) <= 2500 / SLACK + Deflated.steps + 3


@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"queries": 2000}])
def test_a_few_starts_that_agree_do_not_end_the_search(settings):
    """One start in twenty has the other end."""

    def f(x):
        return torch.where(x.mean((1, 2, 3), keepdim=True) < 0.7, 0.2, torch.full_like(x, 0.9))

    found = ran(f, prior=FEW, **{"queries": 10_000, "batch_size": 100} | settings)
    assert len(found.table) == 2
    assert found.starts >= 400


def test_where_every_start_diverges_the_search_ends_before_its_budget():
    found = ran(lambda x: 3 * x, queries=200_000)
    assert found.starts <= 2 * len(Mixture().arms) * 50
    assert found.queries < 20_000


def test_the_identity_of_a_search_is_plain_and_names_what_changes_it(folder):
    identity = Search().identity()
    assert json.loads(json.dumps(identity)) == identity
    others = [Search(same=0.01), Search(queries=7), Search(prior=Noise()), Search(prior=Folder(str(folder)))]
    assert len({json.dumps(other.identity()) for other in [Search(), *others]}) == 5
