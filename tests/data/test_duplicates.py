"""Copies of members, exact and near, are no non-members."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance
from sklearn.datasets import load_digits

from memorization.data import Images, split
from memorization.data.duplicates import LIMIT, hashes_of, limit_of
from tests.data.folders_of_images import compressed, photographs

COPIES = {
    "compressed": compressed,
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.9),
    "paler": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "smaller": lambda image: image.resize((24, 24)).resize((32, 32)),
    "grey": lambda image: image.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("copy", COPIES)
def test_near_duplicates_of_members_are_no_non_members(tmp_path, copy):
    detailed = sorted(photographs(), key=lambda pixels: -pixels.std())[:20]
    for i, pixels in enumerate(detailed):
        image = Image.fromarray(pixels)
        image.save(tmp_path / f"{i:02d}.png")
        COPIES[copy](image).save(tmp_path / f"{i:02d}-copy.png")
    drawn = Images(str(tmp_path), members=10, non_members=10).load(0)
    sources = [{index // 2 for index in indices} for indices in (drawn.member_indices, drawn.non_member_indices)]
    assert not sources[0] & sources[1]
    everything = Images(str(tmp_path), members=10, non_members=30, duplicates="exact").load(0)
    members = {index // 2 for index in everything.member_indices}
    last = everything.non_member_indices.index(drawn.non_member_indices[-1])
    passed_over = [index for index in everything.non_member_indices[: last + 1] if index // 2 in members]
    assert drawn.near_duplicates == len(passed_over) > 0
    assert drawn.member_indices == everything.member_indices
    assert drawn.non_member_indices == [i for i in everything.non_member_indices if i // 2 not in members][:10]
    files = sorted(tmp_path.iterdir())
    for image, index in zip(drawn.non_members, drawn.non_member_indices, strict=True):
        np.testing.assert_array_equal(image.permute(1, 2, 0), np.asarray(Image.open(files[index])))
    with pytest.raises(ValueError, match=r"needs 40 images; of the 40 distinct ones of .* are near duplicates of an i"):
        Images(str(tmp_path), members=10, non_members=30).load(0)


def test_distinct_images_are_no_near_duplicates():
    """Digits are so alike that the limit must fall to equal hashes; photographs keep the usual one."""
    digits = torch.from_numpy(load_digits().images).unsqueeze(1).float() / 16
    assert limit_of(hashes_of(digits)) < 2
    assert split(digits, 800, 900, 0, "digits").near_duplicates == 0
    crops = torch.from_numpy(photographs(200)).permute(0, 3, 1, 2)
    assert limit_of(hashes_of(crops)) == LIMIT
    assert split(crops, 100, 100, 0, "crops").near_duplicates == 0


def page(seed, side=64):
    """A page of text: lines of dark words on white, all pages with the same margins."""
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), "white")
    for y in range(6, side - 6, 4):
        x = 6
        while x < side - 8:
            width = int(generator.integers(2, 9))
            ImageDraw.Draw(image).rectangle([x, y, min(x + width, side - 7), y + 1], fill=(40, 40, 40))
            x += width + 2
    return image


def test_copies_with_the_same_hash_are_found_among_images_however_alike():
    """Photographs beside pages of text leave no limit of the hashes' distance but 0; the pixels still decide."""
    pages = [page(seed) for seed in range(50)]
    originals = [Image.fromarray(pixels).resize((64, 64)) for pixels in photographs(20)] + pages
    copies = [compressed(image, 90) for image in originals]
    pool = torch.from_numpy(np.stack([*originals, *copies])).permute(0, 3, 1, 2).contiguous()
    hashes = hashes_of(pool)
    assert limit_of(hashes) == 0
    count = len(originals)
    drawn = split(pool, count, count // 4, 0, "pages")
    members = {index % count: index for index in drawn.member_indices}
    assert drawn.near_duplicates > 0
    assert not [i for i in drawn.non_member_indices if i % count in members and hashes[i] == hashes[members[i % count]]]
    distinct = pool[:count]
    assert split(distinct, count // 2, count - count // 2, 0, "pages").near_duplicates == 0
