"""Extraction from Python: what counts as a member, and what cannot be extracted from."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from memorization import extract
from memorization.evaluation.extraction import curve, ends_table, summarised, told
from memorization.extraction import Bank, Noise, Search
from tests import problems
from tests.extraction.searches import MEMBERS, NO_ENDS, OTHERS, SHAPE, ran


def bank_of(points, hits=None):
    return Bank(
        points, hits or [1] * len(points), [10] * len(points), [1] * len(points), [0.0] * len(points), [0] * len(points)
    )


def table_of(points, members, non_members=NO_ENDS, **settings):
    return ends_table(bank_of(points), members, non_members, **{"threshold_db": 25.0, "settings": Search()} | settings)


def test_an_end_nearer_to_a_non_member_is_no_member():
    member, end = torch.full((1, *SHAPE), 0.5), torch.full((1, *SHAPE), 0.51)
    assert table_of(end, member)["is_member"].tolist() == [True]
    near = table_of(end, member, torch.full((1, *SHAPE), 0.515))
    assert near["is_member"].tolist() == [False]
    assert near["psnr"].tolist() == pytest.approx([40], abs=1e-3)
    assert near["psnr_non_member"].tolist() == pytest.approx([20 * math.log10(200)], abs=1e-3)
    assert table_of(end, member, torch.full((1, *SHAPE), 0.53))["is_member"].tolist() == [True]


def test_a_spurious_end_is_never_a_member():
    """It is counted as spurious at the threshold: 24.9 dB from the nearest, and a second end of a member is not one."""
    off = 10 ** (-24.9 / 20)
    points = torch.cat([MEMBERS[:2], MEMBERS[:1], MEMBERS[2:3] + off])
    table = table_of(points, MEMBERS)
    assert table["is_member"].tolist() == [True, True, True, False] or table["psnr"][3] > 25  # it is clipped
    grey = 0.25 + 0.5 * MEMBERS
    table = table_of(torch.cat([grey[:1], grey[:1] + off]), grey)
    assert table["is_member"].tolist() == [True, False]
    figures = summarised(table, 12, 100, 2)
    assert (figures["extracted"], figures["ends"], figures["spurious"]) == (1, 2, 1)
    alone = table_of(points, NO_ENDS)
    assert not alone["is_member"].any()
    assert (alone["nearest_member"] == -1).all()
    assert "members" not in told(summarised(alone, 0, 100, 4))


def test_the_figures_count_distinct_members():
    points = torch.cat([MEMBERS[[0, 0, 3]], OTHERS[:1]])
    table = table_of(points, MEMBERS, OTHERS).assign(hits=[1, 1, 2, 5], queries=[10, 20, 20, 40])
    figures = summarised(table, 12, 40, 9)
    assert (figures["extracted"], figures["ends"], figures["spurious"]) == (2, 4, 1)
    assert figures["share"] == 2 / 12
    assert figures["members_total"] == 2  # both were hit twice
    assert figures["ends_total"] > 4
    assert figures["nearest_non_member_psnr"] == 120  # no two images are nearer
    expected = pd.DataFrame({"queries": [10, 20, 40], "ends": [1, 3, 4], "members": [1, 2, 2]})
    pd.testing.assert_frame_equal(curve(table), expected)


def within_range(x):
    assert x.min() >= 0, "too dark"
    return 0.5 * x


def test_a_model_that_refuses_what_is_no_image_can_be_clipped():
    found = ran(within_range, call=lambda model, x: model(x.clip(0, 1)), spectra=False, queries=2000)
    assert (len(found.table), found.endings["diverged"]) == (1, 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shape": (8, 8)}, "shape is (8, 8); give the channels, height and width"),
        ({"shape": (1, 8.0, 8)}, "shape is (1, 8.0, 8); give"),
        ({"shape": (1, 0, 8)}, "shape is (1, 0, 8); give"),
        ({"shape": 64}, "shape is 64; give"),
        ({"shape": (True, 8, 8)}, "shape is (True, 8, 8); give"),
        ({"shape": "188"}, "shape is '188'; give"),
        ({"prior": "noise"}, "prior is 'noise'; give an object, such as Noise() or Mixture()"),
        ({"prior": ""}, "prior is ''; give an object"),
        ({"prior": Noise}, "prior is <class 'memorization.extraction.priors.Noise'>; give an object"),
        ({"prior": MEMBERS}, "prior is tensor([[[["),
        ({"queries": "100"}, "queries is '100'; it must be a whole number"),
        ({"tolerance": "1e-3"}, "tolerance is '1e-3'; it must be above 0"),
        ({"unseen": None}, "unseen is None; it is a number of ends"),
        ({"threshold_db": True}, "threshold_db is True; it must be a finite number of dB"),
        ({"seed": True}, "seed is True; it must be a whole number"),
        ({"spectra": "no"}, "spectra is 'no'; it must be true or false"),
        ({"progress": "no"}, "progress is 'no'; it must be true or false"),
        ({"members": MEMBERS[:, :, :4]}, "members are (1, 4, 8), and shape is (1, 8, 8); give images of that shape"),
        ({"non_members": 2 * MEMBERS}, "non_members: pixels span 0.00247 to 2; scale them"),
        ({"members": MEMBERS - 1}, "members: pixels span"),
        ({"members": MEMBERS * math.nan}, "members: image 0 holds NaN"),
        ({"members": MEMBERS[0]}, "members: images must have the shape (N, C, H, W)"),
        ({"members": MEMBERS.numpy()}, "members are a ndarray; give a tensor"),
        ({"members": (255 * MEMBERS).long()}, "members are torch.int64; give float32 in [0, 1], or uint8"),
        ({"members": MEMBERS[[0, 1, 0]]}, "members: image 2 is image 0 again; give each once"),
        ({"members": MEMBERS, "non_members": MEMBERS[3:5]}, "non_members: image 0 is member 3; give images that"),
        ({"queries": 0}, "queries is 0; it must be a whole number, at least 1"),
        ({"batch_size": 0}, "batch_size is 0; "),
        ({"unseen": math.nan}, "unseen is nan; it is a number of ends"),
        ({"tolerance": 0}, "tolerance is 0; "),
        ({"threshold_db": math.inf}, "threshold_db is inf; it must be a finite number"),
        ({"seed": -1}, "seed is -1; "),
        ({"autoencoder": lambda x: x[:, :, :4]}, "the autoencoder maps (2, 1, 8, 8) to (2, 1, 4, 8); it must keep"),
        ({"autoencoder": lambda x: x.double()}, "the autoencoder maps torch.float32 on cpu to torch.float64 on cpu"),
        ({"autoencoder": lambda x: x.mul_(2)}, "the autoencoder changes its input in place"),
        ({"autoencoder": lambda x: x + torch.rand(1)}, "the autoencoder is not deterministic"),
        (
            {"autoencoder": within_range},
            "the autoencoder fails on values outside of [0, 1], where an extraction starts: AssertionError: too dark; "
            "clip them: call=lambda model, x: model(x.clip(0, 1))",
        ),
        (
            {"autoencoder": within_range, "value_range": (0, 2)},
            "the autoencoder fails on values outside of [0, 1], where an extraction starts: AssertionError: too dark; "
            "clip them: call=lambda model, x: model(x.clip(0, 2))",
        ),
        ({"autoencoder": nn.Identity().half}, "Module.half takes no images; give the model, or a method that does"),
        ({"autoencoder": nn.Conv2d(1, 1, 1).half()}, "the autoencoder's weights are torch.float16; give"),
    ],
)
def test_what_cannot_be_extracted_from_is_refused_in_a_line(settings, said):
    settings = {"autoencoder": problems.nearest(MEMBERS), "shape": SHAPE, **settings}
    with pytest.raises(ValueError, match=rf"^{re.escape(said)}[^\n]*\Z"):
        extract(**{"progress": False} | settings)


@pytest.mark.parametrize("shape", [[1, 8, 8], tuple(np.int64([1, 8, 8])), np.array([1, 8, 8]), MEMBERS[0].shape])
def test_a_shape_may_be_any_sequence_of_whole_numbers(shape):
    found = extract(problems.nearest(MEMBERS), shape, queries=300, spectra=False, progress=False)
    assert found.images.shape[1:] == (1, 8, 8)


class Small(nn.Module):
    """Not far from the nearest member, and differentiable; with dropout, so that its mode matters."""

    def __init__(self, members=MEMBERS):
        super().__init__()
        self.members = nn.Parameter(members.flatten(1).clone())
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        closeness = -20 * torch.cdist(x.flatten(1), self.members).square()
        return self.dropout(closeness.softmax(1) @ self.members).view_as(x)


def test_a_module_is_left_as_it_was():
    module = Small().train()
    module.dropout.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found = ran(module, members=MEMBERS, queries=20_000)
    assert found.extracted == [*range(12)]
    assert (found.table["spectral_radius"] < 1).all()
    assert (module.training, module.dropout.training) == (True, False)
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())
    assert module.members.requires_grad
    assert module.members.grad is None


def test_what_is_found_depends_on_the_seed_alone():
    def once(seed=3, **settings):
        torch.manual_seed(len(settings))
        return ran(Small(), members=MEMBERS, queries=1500, seed=seed, **settings)

    one, two = once(), once(non_members=None)
    pd.testing.assert_frame_equal(one.table, two.table, check_exact=True)
    assert torch.equal(one.images, two.images)
    assert not once(seed=4).table.equals(one.table)
    without = once(spectra=False)
    assert without.table["spectral_radius"].isna().all()
    pd.testing.assert_frame_equal(
        without.table.drop(columns="spectral_radius"), one.table.drop(columns="spectral_radius")
    )


@pytest.mark.parametrize("kind", ["float64", "uint8", "inference", "no members"])
def test_it_works_with(kind):
    module, members = Small(), MEMBERS
    if kind == "float64":
        module, members = Small().double(), MEMBERS.double()
    if kind == "uint8":
        members = (255 * MEMBERS).round().to(torch.uint8)
    if kind == "no members":
        found = ran(module, queries=20_000)
        assert (found.members, found.extracted, found.summary()["spurious"][0]) == (0, [], 12)
        assert math.isnan(found.summary()["share"][0])
        return
    with torch.inference_mode(kind == "inference"):
        found = ran(module, members=members.clone(), queries=20_000)
        assert found.extracted == [*range(12)]
        assert found.table["spectral_radius"].between(0, 1).all()
        assert found.images.dtype == torch.float32
