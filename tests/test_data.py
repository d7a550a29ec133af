"""Members and non-members."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from memorization.data import DATASETS, Digits, Faces, Images, Patches, split

EMBEDDED = {"faces": (1, 25, 25), "digits": (1, 8, 8), "patches": (3, 32, 32)}


def as_set(images):
    return {image.numpy().tobytes() for image in images}


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_sets(name):
    drawn = DATASETS[name]().load(seed=0)
    assert drawn.shape == EMBEDDED[name]
    assert len(as_set(drawn.members)) == len(as_set(drawn.non_members)) == 50
    assert not as_set(drawn.members) & as_set(drawn.non_members)
    assert not set(drawn.member_indices) & set(drawn.non_member_indices)
    assert drawn.members.dtype == torch.float32
    assert drawn.members.min() >= 0
    assert 0.9 < drawn.members.max() <= 1


def test_the_draw_is_seeded():
    first, again, other = Digits().load(3), Digits().load(3), Digits().load(4)
    assert torch.equal(first.members, again.members)
    assert first.member_indices != other.member_indices


def test_patches_have_the_size_asked_for_and_some_contrast():
    drawn = Patches(members=20, non_members=20, size=64).load(0)
    assert drawn.shape == (3, 64, 64)
    assert drawn.members.flatten(1).std(1).min() >= 0.08


def test_duplicates_count_once():
    pool = torch.rand(6, 1, 4, 4)
    pool = torch.cat([pool, pool[:4]])
    with pytest.raises(ValueError, match="need 7 images; here has 6 distinct ones"):
        split(pool, 4, 3, 0, "here")
    drawn = split(pool, 3, 3, 0, "here")
    assert len(as_set(torch.cat([drawn.members, drawn.non_members]))) == 6


def test_more_images_than_there_are():
    with pytest.raises(ValueError, match=r"dataset\.members=90 .* need 140 images; faces has 100"):
        Faces(members=90).load(0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3.0])
def test_pixels_out_of_range(bad):
    pool = torch.rand(6, 1, 4, 4)
    pool[2, 0, 1, 1] = bad
    with pytest.raises(ValueError, match="image 2 holds NaN" if bad != 3.0 else "scale them"):
        split(pool, 2, 2, 0, "here")


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for i in range(8):
        (tmp_path / "a" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a" / str(i % 2) / f"{i}.png")
    return tmp_path


def test_a_folder_of_images(folder):
    drawn = Images(str(folder), members=5, non_members=3).load(0)
    assert drawn.shape == (3, 10, 12)
    files = sorted(folder.rglob("*.png"))
    for image, index in zip(drawn.members, drawn.member_indices, strict=True):
        expected = np.asarray(Image.open(files[index])) / 255
        np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_grey_files_stay_grey(tmp_path):
    for i in range(4):
        Image.fromarray(np.full((8, 8), 10 * i, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    assert Images(str(tmp_path), 2, 2).load(0).shape == (1, 8, 8)


def test_the_fingerprint_follows_the_content_not_the_place(folder, tmp_path):
    before = Images(str(folder)).fingerprint()
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    folder.rename(moved)
    assert Images(str(moved)).fingerprint() == before
    next(moved.rglob("*.png")).unlink()
    assert Images(str(moved)).fingerprint() != before


def test_bad_folders(folder, tmp_path):
    with pytest.raises(ValueError, match=r"dataset\.path=/nope: there is no such folder"):
        Images("/nope").load(0)
    with pytest.raises(ValueError, match=r"dataset\.path is empty"):
        Images().load(0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image in it"):
        Images(str(tmp_path / "empty")).load(0)
    Image.new("RGB", (9, 9)).save(folder / "a" / "0" / "odd.png")
    with pytest.raises(ValueError, match=r"odd\.png is 9x9 pixels, the images before it 12x10"):
        Images(str(folder), 2, 2).load(0)
    (folder / "a" / "0" / "broken.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"broken\.png: cannot be read"):
        Images(str(folder), 2, 2).load(0)
