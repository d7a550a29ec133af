"""Members and non-members: what is drawn of a pool, and that it stays what it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from memorization.data import Digits, Faces, Images, Patches, as_float, mean_image, split
from tests.data.folders_of_images import as_set, checksums


def test_the_draw_is_seeded():
    first, again, other = Digits().load(3), Digits().load(3), Digits().load(4)
    assert torch.equal(first.members, again.members)
    assert first.member_indices != other.member_indices


# Taken with the version that kept whole pools in float32 and knew exact duplicates only.
DRAWS = {
    Faces(): ("247cf4bbf30968d1", "d328c68f81c3b586", "e5061568ad7f36c4"),
    Digits(): ("7af042cd793da5f1", "746c17db7134b80a", "93ee7478694bdb70"),
    Digits(800, 800): ("252639db6a04502b", "013a5b7db52bb25f", "f3cf7d3869862f8e"),
    Patches(): ("d744ed3b2f0172df", "a158f3d6525c5a6d", "5bab97dbef41c6bf"),
    Patches(100, 100, size=64): ("7cd66fa8f1ec3ea3", "c1097f79af3db6b6", "1add1bff9a06cb5f"),
}


@pytest.mark.parametrize("dataset", DRAWS, ids=str)
def test_draws_stay_what_they_were(dataset):
    assert checksums(dataset.load(0)) == DRAWS[dataset]


def test_the_draw_of_a_folder_stays_what_it_was(tmp_path):
    generator = np.random.default_rng(7)
    for i in range(12):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    dataset = Images(str(tmp_path), 6, 4)
    assert checksums(dataset.load(0)) == ("9e472efe0742e6da", "702ee9d715a6e2ee", "5e8f54b30625ba6f")


def test_duplicates_count_once():
    pool = torch.rand(6, 1, 4, 4)
    pool = torch.cat([pool, pool[:4]])
    with pytest.raises(ValueError, match=r"^members is 4; with non_members 3 it needs 7 images; here has 6 dis"):
        split(pool, 4, 3, 0, "here")
    drawn = split(pool, 3, 3, 0, "here")
    assert len(as_set(torch.cat([drawn.members, drawn.non_members]))) == 6
    assert drawn.exact_duplicates == 4


def test_more_images_than_there_are():
    with pytest.raises(ValueError, match=r"^members is 90; .* needs 140 images; faces has 100"):
        Faces(members=90).load(0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3.0])
def test_pixels_out_of_range(bad):
    pool = torch.rand(6, 1, 4, 4)
    pool[2, 0, 1, 1] = bad
    with pytest.raises(ValueError, match="image 2 holds NaN" if bad != 3.0 else "scale them"):
        split(pool, 2, 2, 0, "here")


@pytest.mark.parametrize("shape", [(50, 1, 25, 25), (17, 3, 10, 12), (9, 3, 71, 73)])
def test_the_mean_of_stored_images_is_that_of_float_ones_to_the_bit(shape):
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    assert torch.equal(mean_image(images), as_float(images).mean(0))
