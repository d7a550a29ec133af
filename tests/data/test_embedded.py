"""The image sets that come with a package."""

from __future__ import annotations

import pytest
import torch

from memorization.data import DATASETS, Patches, as_float
from tests.data.folders_of_images import as_set

EMBEDDED = {"faces": (1, 25, 25), "digits": (1, 8, 8), "patches": (3, 32, 32)}


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_sets(name):
    drawn = DATASETS[name]().load(seed=0)
    assert drawn.shape == EMBEDDED[name]
    assert len(as_set(drawn.members)) == len(as_set(drawn.non_members)) == 50
    assert not as_set(drawn.members) & as_set(drawn.non_members)
    assert not set(drawn.member_indices) & set(drawn.non_member_indices)
    members = as_float(drawn.members)
    assert members.dtype == torch.float32
    assert members.min() >= 0
    assert 0.9 < members.max() <= 1


def test_patches_have_the_size_asked_for_and_some_contrast():
    drawn = Patches(members=20, non_members=20, size=64).load(0)
    assert drawn.shape == (3, 64, 64)
    assert as_float(drawn.members).flatten(1).std(1).min() >= 0.08
