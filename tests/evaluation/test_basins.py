"""Basins: the strength of a disturbance up to which members come back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from memorization.components import SettingError
from memorization.degradations import Noise, RandomPixels, image_seeds
from memorization.evaluation.basins import basins
from memorization.evaluation.batch import Recipe, recover_batch
from memorization.evaluation.statistics import proportion_interval
from memorization.recovery import Energy, Iterate, Known, PnPADMM, Robust
from tests import problems


def apart(distances):
    """Members (N + 1, 1, 8, 8): grey, and images at these rms distances from it, each in a direction of its own."""
    grey = torch.full((1, *problems.SHAPE), 0.5).double()
    directions = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).double())[0]
    return torch.cat([grey, *(grey + d * 8 * v.view(grey.shape) for d, v in zip(distances, directions, strict=False))])


def brute_force(members, member, kind, strengths, tries, seed=0):
    """The share of tries that come back at each of `strengths`, image by image, by the nearest member alone."""
    shares = []
    own = image_seeds(image_seeds(seed, [member])[0], range(tries))
    images = members[member].expand(tries, -1, -1, -1)
    for strength in strengths:
        degradation = Noise(noise=strength) if kind == "noise" else RandomPixels(strength)
        y = degradation(images, own).y
        found = torch.cdist(y.flatten(1), members.flatten(1)).argmin(1)
        shares.append(float((found == member).double().mean()))
    return np.array(shares)


@pytest.mark.parametrize("kind", ["noise", "erased"])
@pytest.mark.parametrize("tries", [1, 2, 9])
def test_the_basins_of_the_nearest_member_are_those_of_a_sweep(kind, tries):
    members = problems.images(6, 0)
    found = basins(problems.nearest(members), members, Iterate(), kinds=[kind], steps=7, tries=tries, seed=3)
    assert found["member"].tolist() == list(range(6))
    assert (found["kind"] == kind).all()
    for member, row in found.iterrows():
        if row["edge"] == "above":
            strengths = [row["lower"]]
            assert brute_force(members, member, kind, strengths, tries, seed=3)[0] >= 0.5
            assert (row["upper"], math.isnan(row["back_upper"])) == (math.inf, True)
            continue
        assert row["edge"] == "bracketed"
        shares = brute_force(members, member, kind, [max(row["lower"], 1e-12), row["upper"]], tries, seed=3)
        assert shares.tolist() == [row["back_lower"], row["back_upper"]]
        assert shares[0] >= 0.5 > shares[1]
        assert 0 < row["upper"] - row["lower"] <= 2.0**-7
        low, high = proportion_interval(row["back_lower"] * tries, tries)
        assert (row["back_lower_low"], row["back_lower_high"]) == (low, high)


def test_the_basin_under_noise_grows_with_the_distance_to_the_nearest_other_member():
    """Noise of deviation s reaches the half way to a member at the distance d (Euclidean) with probability Q(d / 2s).

    Half of the tries leave the cell of a member that has a single neighbour only at infinite noise. With 63 neighbours
    at the distance d, in directions at right angles, half leave where 1 - (1 - Q(d / 2s))^63 = 1/2.
    """
    for distance in (0.02, 0.05):
        members = apart([distance] * 63)
        row = basins(problems.nearest(members), members, Iterate(), kinds=["noise"], count=1, tries=400).iloc[0]
        normal = torch.distributions.Normal(0.0, 1.0)
        quantile = float(normal.icdf(torch.tensor(0.5 ** (1 / 63))))
        expected = distance * 8 / (2 * quantile)
        assert row["lower"] == pytest.approx(expected, rel=0.1)


def test_a_contraction_to_one_member_brings_back_everything_and_the_zero_map_nothing():
    members = problems.images(4, 1)
    to_first = basins(lambda x: members[:1] + 0.1 * (x - members[:1]), members, Iterate(), tries=3, steps=3)
    assert to_first["edge"].tolist() == ["above", *["below"] * 3] * 2
    assert to_first.loc[[0, 4], "lower"].tolist() == [1.0, 63 / 64]
    assert to_first.loc[[0, 4], "upper"].tolist() == [math.inf] * 2
    assert to_first.loc[[0, 4], "back_lower"].tolist() == [1.0] * 2
    nothing = basins(lambda x: 0 * x, members, Iterate(), tries=3, steps=3)
    assert (nothing["edge"] == "below").all()
    assert (nothing["lower"] == 0).all()
    assert nothing["upper"].tolist() == [0.0] * 4 + [1 / 64] * 4
    assert (nothing["back_upper"] == 0).all()
    assert nothing["back_lower"].isna().all()
    assert nothing["back_lower_low"].isna().all()


@pytest.mark.parametrize("recovery", [Iterate(20), PnPADMM(max_iterations=20), Energy(max_iterations=20)])
@pytest.mark.parametrize("operator", [Known(), Robust()])
def test_tries_are_recovered_as_any_image_is(recovery, operator):
    """Members at different strengths share a batch; each is told its own noise level, as if it were alone."""
    members = problems.images(3, 0, torch.float32)
    basis = problems.span(members.double()).float()

    def autoencoder(x):
        return (x.flatten(1) @ basis).view_as(x)

    settings = {"steps": 3, "tries": 2, "threshold_db": 18.0, "seed": 5}
    bracketed = 0
    for kind in ("noise", "erased"):
        found = basins(autoencoder, members, recovery, operator, kinds=[kind], **settings)
        bracketed += (found["edge"] == "bracketed").sum()
        for member, row in found.iterrows():
            seeds = image_seeds(image_seeds(5, [member])[0], range(2))
            for end in ("lower", "upper"):
                if math.isnan(row[f"back_{end}"]):
                    continue
                strength = row[end]
                degradation = Noise(noise=strength) if kind == "noise" else RandomPixels(strength)
                shares = [comes_back(degradation, recovery, operator, autoencoder, members, member, s) for s in seeds]
                assert np.mean(shares) == row[f"back_{end}"]
    assert bracketed


def comes_back(degradation, recovery, operator, autoencoder, members, member, seed):
    """Does a member, degraded from this very seed, come back, by `recover_batch`?"""

    class Seeded(type(degradation)):
        def __call__(self, images, seeds):
            return super().__call__(images, [seed])

    settings = {name: getattr(degradation, name) for name in degradation.__dataclass_fields__}
    recipe = Recipe(Seeded(**settings), recovery, operator, threshold_db=18.0)
    done = recover_batch(recipe, autoencoder, members[member : member + 1], [0], members)
    return bool(done.scores["recovered"].iloc[0])


def test_a_bracket_depends_on_nothing_but_the_member_its_index_and_the_seed():
    members = problems.images(6, 0)
    settings = {"steps": 4, "tries": 3}
    told: list[int] = []
    whole = basins(problems.nearest(members), members, Iterate(), **settings, on_batch=told.append)
    parts = basins(problems.nearest(members), members, Iterate(), **settings, batch_size=2, count=2)
    assert whole[whole["member"] < 2].reset_index(drop=True).equals(parts)
    assert sum(told) <= 2 * (4 + 2) * 3 * 6
    moved = basins(problems.nearest(members), members, Iterate(), **settings, indices=range(10, 16))
    assert moved["member"].tolist() == [*range(10, 16)] * 2
    assert not np.allclose(moved["lower"], whole["lower"])


def test_a_module_is_asked_in_eval_mode_and_8_bit_members_are_taken():
    members = (problems.images(3, 0) * 255).byte()
    module = nn.Sequential(nn.Identity(), nn.Dropout(0.5))
    found = basins(module, members, Iterate(1), tries=2, steps=2)
    assert module.training
    assert (found.loc[found["kind"] == "noise", "edge"] == "bracketed").all()
    expected = 10 ** (-25 / 20)  # the noise that stays leaves 25 dB
    rows = found[found["kind"] == "noise"]
    assert ((rows["lower"] <= expected * 1.2) & (rows["upper"] >= expected * 0.8)).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kinds": ["blur"]}, "kinds is 'blur'"),
        ({"kinds": []}, "choose among noise, erased"),
        ({"kinds": "blur"}, "kinds is 'blur'; choose one of noise, erased"),
        ({"kinds": 3}, "kinds is 3; choose among noise, erased"),
        ({"members": [0.5]}, "members are a list; give a tensor"),
        ({"recovery": "energy"}, "recovery is 'energy'; give an object, such as"),
        ({"operator": Known}, "operator is <class .*Known'>; give an object"),
        ({"largest_noise": "1"}, "largest_noise is '1'; it must be above 0"),
        ({"indices": 1}, "indices are 1; give a list"),
        ({"count": 0}, "count is 0"),
        ({"fill": "green"}, "fill is 'green'"),
        ({"steps": -1}, "steps is -1"),
        ({"tries": 0}, "tries is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"largest_noise": 0.0}, "largest_noise is 0"),
        ({"threshold_db": math.nan}, "threshold_db is nan"),
        ({"indices": [1]}, "indices are 1"),
        ({"indices": [0, -1]}, "indices: -1 of image 1 is no number of an image"),
        ({"indices": [0.5, 1]}, "indices: 0.5 of image 0 is no number"),
    ],
)
def test_what_cannot_be_used_is_said(settings, said):
    with pytest.raises(ValueError, match=said):
        basins(**{"autoencoder": lambda x: x, "members": problems.images(2, 0), "recovery": Iterate()} | settings)


def test_what_breaks_its_contract_is_said():
    with pytest.raises(ValueError, match="gives no gradients"):
        basins(lambda x: x.detach(), problems.images(2, 0), Energy())
    with pytest.raises(SettingError, match="one pixel"):
        basins(lambda x: x, torch.zeros(1, 1, 1, 1), Iterate())
