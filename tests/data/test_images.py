"""Files of one's own as a dataset: its settings, and what becomes of each file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from memorization.data import Images
from tests.data.folders_of_images import COLOUR, GREY, as_set, compressed, parquet_of, photographs

CONF = Path(__file__).parents[2] / "conf" / "dataset"


def test_settings_at_their_defaults_are_no_part_of_the_identity(folder, tmp_path_factory):
    table = tmp_path_factory.mktemp("table") / "images.parquet"
    parquet_of(folder, table)
    dataset = Images(str(table), unusable="skip", column="img")
    assert set(dataset.identity()) == {"members", "non_members", "fingerprint", "revision", "revisions"}
    assert set(Images(str(folder), size=8).identity()) - set(dataset.identity()) == {"size"}


def test_a_folder_of_images(folder):
    drawn = Images(str(folder), members=5, non_members=3).load(0)
    assert drawn.shape == (3, 10, 12)
    assert drawn.members.dtype == drawn.non_members.dtype == torch.uint8
    files = sorted(folder.rglob("*.png"))
    for image, index in zip(drawn.members, drawn.member_indices, strict=True):
        np.testing.assert_array_equal(image.permute(1, 2, 0), np.asarray(Image.open(files[index])))


def test_non_members_of_another_folder(folder, tmp_path_factory):
    """Of an image in both, the one trained on counts; a copy of any image trained on is no non-member."""
    others = tmp_path_factory.mktemp("others")
    trained = sorted(folder.rglob("*.png"))
    pixels = photographs(12)
    for i, (file, picture) in enumerate(zip([*trained, *range(4)], pixels, strict=True)):
        Image.fromarray(picture).save(others / f"{i}.png" if isinstance(file, int) else file)
    (others / "same.png").write_bytes(trained[0].read_bytes())
    for i, file in enumerate(trained[1:4]):
        compressed(Image.open(file), 95).save(others / f"copy{i}.png")
    dataset = Images(str(folder), members=2, non_members=4, others=str(others))
    drawn = dataset.load(0)
    assert {index % 2 for index in drawn.member_indices} == {0}
    assert {index % 2 for index in drawn.non_member_indices} == {1}
    for image, index in zip(drawn.members, drawn.member_indices, strict=True):
        np.testing.assert_array_equal(image.permute(1, 2, 0), np.asarray(Image.open(trained[index // 2])))
    assert as_set(drawn.non_members) == as_set(torch.from_numpy(pixels[8:]).permute(0, 3, 1, 2).contiguous())
    assert drawn.exact_duplicates == 1
    assert "others" not in dataset.identity()
    swapped = Images(str(others), others=str(folder)).fingerprint()
    assert len({dataset.fingerprint(), swapped, Images(str(folder)).fingerprint()}) == 3
    wanted = "^members is 9; with non_members 50 it needs 9 images trained on, and 50 of others; .* has 8 distinct ones"
    with pytest.raises(ValueError, match=wanted + ", and others 7 beside"):
        Images(str(folder), members=9, others=str(others)).load(0)
    with pytest.raises(ValueError, match=r"and 5 of others; of .* 3 are near duplicates of an image trained on"):
        Images(str(folder), 2, 5, others=str(others)).load(0)
    with pytest.raises(ValueError, match=r"^others is '/nope'; there is no such folder"):
        Images(str(folder), others="/nope").load(0)
    Image.new("RGB", (9, 9)).save(others / "odd.png")
    with pytest.raises(ValueError, match=rf"{others}/odd\.png is 9x9"):
        Images(str(folder), 2, 2, others=str(others)).load(0)


@pytest.mark.parametrize(
    ("setting", "value"), [("split", "test"), ("split", ""), ("subset", "clean"), ("column", "img")]
)
def test_settings_without_effect_are_refused(folder, tmp_path_factory, setting, value):
    table = tmp_path_factory.mktemp("table") / "images.parquet"
    parquet_of(folder, table)
    way = rf"^{setting} is '{value}'; it has no effect on .*; leave it out and name .* as path$"
    for path in (folder, *([table] if setting != "column" else [])):
        with pytest.raises(ValueError, match=way):
            Images(str(path), 5, 3, **{setting: value}).load(0)
        with pytest.raises(ValueError, match=way):
            Images(str(path), 5, 3, others=str(folder / "a" / "0"), **{setting: value}).fingerprint()


def test_a_setting_that_chooses_in_one_of_two_sources(folder, tmp_path_factory):
    copied = tmp_path_factory.mktemp("set")
    parquet_of(folder, copied / "test.parquet")
    others = tmp_path_factory.mktemp("others")
    for i, pixels in enumerate(photographs(4)):
        Image.fromarray(pixels).resize((12, 10)).save(others / f"{i}.png")
    assert len(Images(str(copied), 2, 3, split="test", others=str(others)).load(0).non_members) == 3


@pytest.mark.parametrize("preset", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_the_presets_take_a_folder_as_it_is(folder, preset):
    settings = OmegaConf.to_container(OmegaConf.load(CONF / f"{preset}.yaml"))
    chosen = {name: value for name, value in settings.items() if name in Images.PRESET}
    assert len(Images(str(folder), 5, 3, **chosen).load(0).members) == 5


def saved(folder, images, suffix="png"):
    folder.mkdir(exist_ok=True)
    for i, image in enumerate(images):
        image.save(folder / f"{i}.{suffix}")
    return str(folder)


def by_index(path, **settings):
    """All four images of a folder, in its order, (4, H, W, C)."""
    drawn = Images(path, 2, 2, duplicates="exact", **settings).load(0)
    order = np.argsort(drawn.member_indices + drawn.non_member_indices)
    return torch.cat([drawn.members, drawn.non_members])[order].permute(0, 2, 3, 1).numpy()


def test_grey_files_stay_grey(tmp_path):
    for i in range(4):
        Image.fromarray(np.full((8, 8), 10 * i, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    assert Images(str(tmp_path), 2, 2).load(0).shape == (1, 8, 8)


def test_channels_are_those_asked_for(tmp_path):
    grey = saved(tmp_path / "grey", map(Image.fromarray, GREY))
    np.testing.assert_array_equal(by_index(grey, mode="RGB"), np.repeat(np.stack(GREY)[..., None], 3, axis=3))
    colour = saved(tmp_path / "colour", map(Image.fromarray, COLOUR))
    luma = np.stack(COLOUR) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(by_index(colour, mode="L")[..., 0], luma, atol=1)
    mixed = saved(tmp_path / "mixed", [Image.fromarray(GREY[0]), *map(Image.fromarray, COLOUR[1:])])
    np.testing.assert_array_equal(by_index(mixed)[0], np.repeat(GREY[0][..., None], 3, axis=2))


def test_size_scales_the_short_side_and_crops_the_middle(tmp_path):
    white = np.zeros((20, 60, 3), dtype=np.uint8)
    white[:, 16:44] = 255  # the middle square and what is needed to scale it
    images = [white // divisor for divisor in (1, 3, 5, 7)]
    images[1] = images[1].transpose(1, 0, 2)
    path = saved(tmp_path / "wide", map(Image.fromarray, images))
    cropped = by_index(path, size=10)
    assert cropped.shape == (4, 10, 10, 1)
    assert [np.unique(image).tolist() for image in cropped] == [[255], [85], [51], [36]]
    with pytest.raises(ValueError, match=r"1\.png is 20x60 pixels, .* 60x20; .* crop them to, such as 20"):
        Images(path, 2, 2).load(0)
    with pytest.raises(ValueError, match=r"^size is 3; it must be at least 8"):
        Images(path, 2, 2, size=3).load(0)


def test_orientation_is_that_of_the_camera(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    (tmp_path / "turned").mkdir()
    for i, pixels in enumerate(COLOUR):
        Image.fromarray(pixels).save(tmp_path / "turned" / f"{i}.png", exif=exif)
    np.testing.assert_array_equal(by_index(str(tmp_path / "turned")), np.stack([np.rot90(p, -1) for p in COLOUR]))


def test_sixteen_bits_become_eight(tmp_path):
    deep = [(grey.astype(np.uint16) * 257) for grey in GREY]
    path = saved(tmp_path / "deep", map(Image.fromarray, deep))
    np.testing.assert_array_equal(by_index(path)[..., 0], np.stack(GREY))
    (tmp_path / "pgm").mkdir()
    for i, grey in enumerate(deep):
        head = f"P5 {grey.shape[1]} {grey.shape[0]} 65535\n".encode()
        (tmp_path / "pgm" / f"{i}.pgm").write_bytes(head + grey.astype(">u2").tobytes())
    np.testing.assert_array_equal(by_index(str(tmp_path / "pgm"))[..., 0], np.stack(GREY))


def test_palettes_become_colours(tmp_path):
    images = []
    for grey in GREY:
        image = Image.fromarray(grey // 128)
        image.putpalette([255, 0, 0, 0, 0, 255])
        images.append(image)
    shown = by_index(saved(tmp_path / "palette", images))
    expected = np.where(np.stack(GREY)[..., None] < 128, [255, 0, 0], [0, 0, 255])
    np.testing.assert_array_equal(shown, expected)


def test_what_is_transparent_is_white(tmp_path):
    images = []
    for i, pixels in enumerate(COLOUR):
        alpha = np.full((12, 16, 1), 255, dtype=np.uint8)
        alpha[:6] = 0 if i else 255
        images.append(Image.fromarray(np.concatenate([pixels, alpha], axis=2)))
    shown = by_index(saved(tmp_path / "clear", images))
    np.testing.assert_array_equal(shown[0], COLOUR[0])
    assert (shown[1:, :6] == 255).all()
    np.testing.assert_array_equal(shown[1:, 6:], np.stack(COLOUR[1:])[:, 6:])


def truncated(folder):
    Image.fromarray(COLOUR[0]).resize((64, 64)).save(folder / "a" / "cut.jpg")
    content = (folder / "a" / "cut.jpg").read_bytes()
    (folder / "a" / "cut.jpg").write_bytes(content[: len(content) // 2])


def animated(folder):
    frames = [Image.fromarray(grey) for grey in GREY]
    frames[0].save(folder / "a" / "moving.gif", save_all=True, append_images=frames[1:])


UNUSABLE = {
    r"cut\.jpg: cannot be read as an image \(image file is truncated": truncated,
    r"moving\.gif: animated or of several pages: 4 of them": animated,
    r"dot\.png: tiny: 1x1 pixels; min_side is 8": lambda folder: Image.new("RGB", (1, 1)).save(
        folder / "a" / "dot.png"
    ),
    r"broken\.png: cannot be read as an image \(of no format": lambda folder: (folder / "a" / "broken.png").write_bytes(
        b"not an image"
    ),
    r"gone\.png: cannot be read \(No such file": lambda folder: (folder / "a" / "gone.png").symlink_to("nowhere"),
    r"pipe\.png: is a pipe, a socket or a device": lambda folder: os.mkfifo(folder / "a" / "pipe.png"),
    r"float\.tif: has 32 bits a pixel": lambda folder: Image.fromarray(np.ones((10, 12), dtype=np.float32)).save(
        folder / "a" / "float.tif"
    ),
}


@pytest.mark.parametrize("reason", UNUSABLE)
def test_an_unusable_file_is_refused_or_skipped(folder, reason):
    expected = Images(str(folder), 5, 3).load(0)
    UNUSABLE[reason](folder)
    with pytest.raises(
        ValueError, match=f"^unusable is 'refuse'; .*{reason}.*remove or repair it, or choose"
    ) as raised:
        Images(str(folder), 5, 3).load(0)
    assert "\n" not in str(raised.value)
    drawn = Images(str(folder), 5, 3, unusable="skip").load(0)
    assert torch.equal(drawn.members, expected.members)
    assert len(drawn.skipped) == 1
    files = sorted(path for path in folder.rglob("*") if path.suffix)
    for image, index in zip(drawn.members, drawn.member_indices, strict=True):
        np.testing.assert_array_equal(image.permute(1, 2, 0), np.asarray(Image.open(files[index])))


def test_a_size_that_enlarges_is_told_and_one_beyond_the_machine_refused(folder):
    assert list(Images(str(folder), 5, 3, size=11).load(0).notes) == ["a size of 11 pixels enlarges 8 of 8 images"]
    assert not Images(str(folder), 5, 3, size=10).load(0).notes
    with pytest.raises(ValueError, match=r"^size is 9000000; the pixels of one image need .* GB"):
        Images(str(folder), 5, 3, size=9_000_000).load(0)


def test_many_unusable_files_are_counted(folder):
    for i in range(8):
        (folder / f"{i}.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"0\.jpg: .*; and 3 more; remove or repair them, or choose skip"):
        Images(str(folder), 2, 2).load(0)
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"remove or repair them$"):
        Images(str(folder), 2, 2, unusable="skip").load(0)


@pytest.mark.parametrize("setting", ["mode", "unusable", "duplicates"])
def test_a_setting_that_is_none_of_the_choices(folder, setting):
    with pytest.raises(ValueError, match=rf"^{setting} is 'purple'; choose one of"):
        Images(str(folder), 2, 2, **{setting: "purple"}).load(0)
