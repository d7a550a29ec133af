"""Members and non-members."""

from __future__ import annotations

import hashlib
import io
import os
import time
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image, ImageDraw, ImageEnhance
from sklearn.datasets import load_digits

from memorization.data import DATASETS, Digits, Faces, Images, Patches, as_float, images, mean_image, pool, split
from memorization.data.decoding import Decoder
from memorization.data.duplicates import LIMIT, hashes_of, limit_of
from memorization.data.sources import open_source
from memorization.data.tables import HubSet

CONF = Path(__file__).parents[2] / "conf" / "dataset"
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
    members = as_float(drawn.members)
    assert members.dtype == torch.float32
    assert members.min() >= 0
    assert 0.9 < members.max() <= 1


def test_the_draw_is_seeded():
    first, again, other = Digits().load(3), Digits().load(3), Digits().load(4)
    assert torch.equal(first.members, again.members)
    assert first.member_indices != other.member_indices


def test_patches_have_the_size_asked_for_and_some_contrast():
    drawn = Patches(members=20, non_members=20, size=64).load(0)
    assert drawn.shape == (3, 64, 64)
    assert as_float(drawn.members).flatten(1).std(1).min() >= 0.08


def checksums(drawn):
    """Of members and non-members as float32, and of their indices."""
    indices = str([drawn.member_indices, drawn.non_member_indices]).encode()
    tensors = (as_float(images).numpy().tobytes() for images in (drawn.members, drawn.non_members))
    return tuple(hashlib.sha256(content).hexdigest()[:16] for content in (*tensors, indices))


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


def test_settings_at_their_defaults_are_no_part_of_the_identity(folder, tmp_path_factory):
    table = tmp_path_factory.mktemp("table") / "images.parquet"
    parquet_of(folder, table)
    dataset = Images(str(table), unusable="skip", column="img")
    assert set(dataset.identity()) == {"members", "non_members", "fingerprint", "revision", "revisions"}
    assert set(Images(str(folder), size=8).identity()) - set(dataset.identity()) == {"size"}


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


def photographs(count=40):
    """Distinct natural crops (N, 32, 32, 3) uint8."""
    drawn = Patches(members=count // 2, non_members=count - count // 2).load(0)
    return torch.cat([drawn.members, drawn.non_members]).permute(0, 2, 3, 1).numpy()


def compressed(image, quality=75):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert(image.mode)


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


def parquet_of(folder, path, rows_as="struct"):
    """The files of `folder` in one table: as the hub's sets have them, or as plain bytes."""
    files = [file.read_bytes() for file in sorted(folder.rglob("*.png"))]
    column = files if rows_as == "bytes" else [{"bytes": content, "path": None} for content in files]
    pq.write_table(pa.table({"label": list(range(len(files))), "img": column}), path)


@pytest.mark.parametrize("rows_as", ["struct", "bytes"])
def test_a_parquet_file_gives_the_images_of_its_folder(folder, tmp_path_factory, rows_as):
    path = tmp_path_factory.mktemp("table") / "images.parquet"
    parquet_of(folder, path, rows_as)
    expected = Images(str(folder), 5, 3).load(0)
    for column in ("", "img"):
        drawn = Images(str(path), 5, 3, column=column).load(0)
        assert checksums(drawn) == checksums(expected)
    with pytest.raises(ValueError, match=r"^column is 'image'; .* has the columns label, img"):
        Images(str(path), 5, 3, column="image").load(0)
    assert len(Images(str(path)).fingerprint()) == 64


def test_a_downloaded_set_of_the_hub_has_splits(folder, tmp_path_factory):
    """A folder as the hub serves it, opened as a set of the hub is."""
    copied = tmp_path_factory.mktemp("set")
    (copied / "data").mkdir()
    parquet_of(folder, copied / "data" / "train-00000-of-00001.parquet")
    parquet_of(folder / "a" / "0", copied / "data" / "test-00000-of-00001.parquet")
    assert checksums(Images(str(copied), 5, 3).load(0)) == checksums(Images(str(folder), 5, 3).load(0))
    assert len(Images(str(copied), 2, 2, split="test").load(0).members) == 2
    with pytest.raises(ValueError, match=r"^path is .*; with split valid: .*valid.*; choose another"):
        Images(str(copied), 5, 3, split="valid").load(0)


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


def test_a_mapped_set_is_read_to_its_end(monkeypatch):
    """As a set of the hub is once it was downloaded; a file of it is mapped anew every few rows."""
    monkeypatch.setattr("memorization.data.tables.ROWS_A_MAP", 3)
    contents = [bytes([number]) for number in range(8)]
    rows = datasets.Dataset.from_dict({"label": list(range(8)), "img": contents}).select(range(1, 8))
    assert [encoded.content for encoded in HubSet("set", rows, "img", {}).read()] == contents[1:]
    assert [encoded.position for encoded in HubSet("set", rows, "", {}).read({2, 6})] == [2, 6]


def test_a_name_is_told_before_the_hub_is_asked_for_it(monkeypatch, tmp_path, capsys):
    """Whatever was typed for a folder; a hub may keep one waiting."""
    rows = datasets.Dataset.from_dict({"img": [b""]})
    told = []

    def answered(name, *_, **__):
        told.append(capsys.readouterr().err)
        return rows

    monkeypatch.setattr("datasets.load_dataset", answered)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    for _ in range(2):
        assert open_source("d/nowhere").rows is rows
    note = "note: there is no folder or file d/nowhere here; asking the Hugging Face hub for a data set of that name\n"
    assert told == [note]
    assert capsys.readouterr() == ("", "")


def test_a_hub_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ValueError, match=r"^path is 'owner/set'; there is no such .*, and the hub cannot be reached .* give a local"
    ):
        Images("owner/set").load(0)


COLUMN_TYPES = {
    "binary": pa.binary(),
    "large binary": pa.large_binary(),
    "binary view": pa.binary_view(),
    "fixed size": lambda contents: pa.binary(len(contents[0])),
    "dictionary": lambda contents: pa.dictionary(pa.int32(), pa.binary()),
    "list": pa.list_(pa.uint8()),
    "large list": pa.large_list(pa.uint8()),
    "fixed list": lambda contents: pa.list_(pa.uint8(), len(contents[0])),
    "structure": pa.struct({"bytes": pa.large_binary(), "path": pa.large_string()}),
    "structure of views": pa.struct({"path": pa.string_view(), "bytes": pa.binary_view()}),
}


@pytest.mark.parametrize("where", ["file", "folder"])
@pytest.mark.parametrize("name", COLUMN_TYPES)
def test_a_column_of_any_type_of_bytes_holds_images(folder, tmp_path_factory, name, where):
    contents = [file.read_bytes() for file in sorted(folder.rglob("*.png"))]
    contents = [content.ljust(max(map(len, contents)), b"\0") for content in contents]  # all of one size
    kind = COLUMN_TYPES[name](contents) if callable(COLUMN_TYPES[name]) else COLUMN_TYPES[name]
    rows = [{"bytes": content, "path": None} if pa.types.is_struct(kind) else content for content in contents]
    rows = [list(row) for row in rows] if "list" in name else rows
    column = pa.array(rows).cast(kind) if "dictionary" in name else pa.array(rows, kind)
    table = tmp_path_factory.mktemp("table") / "train.parquet"
    pq.write_table(pa.table({"number": range(len(rows)), "word": [["a"]] * len(rows), "img": column}), table)
    path = str(table if where == "file" else table.parent)
    for chosen in ("", "img"):
        drawn = Images(path, 5, 3, column=chosen).load(0)
        assert checksums(drawn) == checksums(Images(str(folder), 5, 3).load(0))
    with pytest.raises(ValueError, match=r"^column is 'word'; its type is list<\w+: string>, which holds no images"):
        Images(path, 5, 3, column="word").load(0)


def test_a_column_of_plain_bytes_comes_before_one_of_a_fixed_size(folder, tmp_path):
    contents = [file.read_bytes() for file in sorted(folder.rglob("*.png"))]
    hashes = pa.array([hashlib.md5(content).digest() for content in contents], pa.binary(16))
    pq.write_table(pa.table({"md5": hashes, "img": contents}), tmp_path / "images.parquet")
    assert len(Images(str(tmp_path / "images.parquet"), 5, 3).load(0).members) == 5


def test_bad_tables(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"not a table")
    with pytest.raises(ValueError, match=r"bad\.parquet"):
        Images(str(tmp_path / "bad.parquet")).load(0)
    (tmp_path / "labels").mkdir()
    pq.write_table(pa.table({"label": [1, 2]}), tmp_path / "labels" / "labels.parquet")
    with pytest.raises(ValueError, match=r"no column of it holds images; it has label"):
        Images(str(tmp_path / "labels" / "labels.parquet")).load(0)
    pq.write_table(pa.table({"image": [b"an image"]}), tmp_path / "labels" / "first.parquet")
    with pytest.raises(ValueError, match=r"differ in their columns \(image; label\); name one file"):
        Images(str(tmp_path / "labels")).load(0)
    (tmp_path / "file.txt").write_text("no")
    with pytest.raises(ValueError, match="it is neither a folder nor a parquet file; put the images into a folder, or"):
        Images(str(tmp_path / "file.txt")).load(0)
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(ValueError, match="it is neither a folder nor a parquet file"):
        Images(str(tmp_path / "pipe.parquet")).load(0)


def gradient(height=12, width=16, phase=0):
    """uint8 (H, W), no two alike for different phases."""
    rows, columns = np.mgrid[:height, :width]
    return (127 + 120 * np.sin(rows * (0.3 + phase) + columns * (0.7 - phase))).astype(np.uint8)


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


GREY = [gradient(phase=i / 10) for i in range(4)]
COLOUR = [np.stack([grey, grey[::-1], grey[:, ::-1]], axis=2) for grey in GREY]


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


def test_a_folder_that_cannot_be_opened_is_no_empty_one(folder, monkeypatch):
    (folder / "a" / "locked").mkdir()
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    expected = Images(str(folder), 5, 3).load(0)
    monkeypatch.setattr("os.scandir", refusing)
    reason = r"a/locked: is a folder that cannot be opened \(Permission denied\)"
    with pytest.raises(ValueError, match=f"{reason}; remove or repair it, or choose skip"):
        Images(str(folder), 5, 3).load(0)
    drawn = Images(str(folder), 5, 3, unusable="skip").load(0)
    assert torch.equal(drawn.members, expected.members)
    assert len(drawn.skipped) == 1
    with pytest.raises(ValueError, match=reason):
        Images(str(folder / "a" / "locked"), 5, 3).load(0)
    (folder / "tables" / "locked").mkdir(parents=True)  # of which the library that reads tables knows best
    parquet_of(folder, folder / "tables" / "train.parquet")
    assert len(Images(str(folder / "tables"), 5, 3).load(0).members) == 5


HIDDEN = (".thumbnails/x.png", "a/.x.png", "a/._0.png", "__MACOSX/a/0/._0.png", "a/@eaDir/0.png/SYNOPHOTO_THUMB.jpg")


@pytest.mark.parametrize("content", [b"no image", None], ids=["no image", "an image"])
def test_hidden_files_and_folders_are_passed_over(folder, tmp_path_factory, content):
    expected = Images(str(folder), 5, 3).load(0)
    small = io.BytesIO()
    Image.new("RGB", (9, 9)).save(small, "PNG")
    for name in (*HIDDEN, "a/__first.png", ".git/x.parquet"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(small.getvalue() if content is None else content)
    with pytest.raises(ValueError, match=r"a/__first\.png"):  # a file may have such a name
        Images(str(folder), 5, 3).load(0)
    (folder / "a" / "__first.png").unlink()
    os.mkfifo(folder / ".thumbnails" / "pipe.png")
    dataset = Images(str(folder), 5, 3)
    drawn = dataset.load(0)
    assert torch.equal(drawn.members, expected.members)
    assert not drawn.skipped
    assert not drawn.notes
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg") and not path.is_dir())
    for image, index in zip(drawn.members, drawn.member_indices, strict=True):
        np.testing.assert_array_equal(image.permute(1, 2, 0), np.asarray(Image.open(files[index])))
    assert len(Images(str(folder / ".thumbnails"), unusable="skip")._source().files) == 2  # but for those asked for
    alone = tmp_path_factory.mktemp("alone")
    (folder / ".thumbnails").rename(alone / ".thumbnails")
    with pytest.raises(ValueError, match=r"no image in it \(looked for .*, not in hidden folders\)"):
        Images(str(alone)).load(0)


def test_a_link_to_what_a_hidden_folder_holds_shows_it(folder, tmp_path_factory):
    linked = tmp_path_factory.mktemp("linked")
    (linked / "a").mkdir()
    (folder / "a").rename(linked / "a" / ".kept")
    (linked / "b").symlink_to(linked / "a" / ".kept")
    assert len(Images(str(linked), 5, 3).load(0).members) == 5


def test_files_that_are_passed_over_are_told(folder):
    for name in ("a/b.HEIC", "c.heic", "d.parquet", "README", ".hidden"):
        (folder / name).write_bytes(b"")
    drawn = Images(str(folder), 5, 3).load(0)
    assert list(drawn.notes) == ["2 .heic, 1 without suffix, 1 .parquet passed over: files of other kinds"]
    with pytest.raises(
        ValueError, match=r"has 8 distinct ones \(2 \.heic, 1 without suffix, 1 \.parquet passed over\)$"
    ):
        Images(str(folder), 9, 3).load(0)
    for file in folder.rglob("*.png"):
        file.unlink()
    (folder / "d.parquet").rename(folder / "D.PARQUET")
    with pytest.raises(ValueError, match=r"D\.PARQUET is passed over by the library .*; rename it to D\.parquet, or"):
        Images(str(folder), 5, 3).load(0)
    (folder / "D.PARQUET").unlink()
    with pytest.raises(ValueError, match=r"no image in it \(looked for .*; it has 2 \.heic, 1 without suffix\)"):
        Images(str(folder), 5, 3).load(0)


def test_a_name_that_is_no_text_is_read(folder):
    before = Images(str(folder)).fingerprint()
    (folder / "a" / "0" / "0.png").rename(folder / "a" / "0" / os.fsdecode(b"\xff.png"))
    assert Images(str(folder)).fingerprint() != before
    assert len(Images(str(folder), 5, 3).load(0).members) == 5
    for file in (folder / "a" / "0").iterdir():
        file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"/\\udcff\.png: cannot be read") as raised:
        Images(str(folder), 2, 2).load(0)
    assert str(raised.value).isprintable()


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


def test_the_fingerprint_follows_the_content_not_the_place(folder, tmp_path):
    before = Images(str(folder)).fingerprint()
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    folder.rename(moved)
    assert Images(str(moved)).fingerprint() == before
    next(moved.rglob("*.png")).unlink()
    assert Images(str(moved)).fingerprint() != before


@pytest.fixture
def counted(monkeypatch, tmp_path_factory):
    """What is read and decoded, by name; the clock is an hour ahead, so that all files are old. `new` is a process."""

    class Counted:
        def __init__(self):
            self.reads, self.decodings = [], 0

        def of(self, act):
            self.reads, self.decodings = [], 0
            result = act()
            return result, len(self.reads), self.decodings

        def new(self):
            pool._recent.clear()
            images._last.clear()

    counts, read, decode, clock = Counted(), Path.read_bytes, Decoder.decode, time.time_ns

    def reading(path):
        counts.reads.append(path.name)
        return read(path)

    def decoding(decoder, content):
        counts.decodings += 1
        return decode(decoder, content)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(Path, "read_bytes", reading)
    monkeypatch.setattr(Decoder, "decode", decoding)
    monkeypatch.setattr(time, "time_ns", lambda: clock() + 3600 * 10**9)
    counts.new()
    yield counts
    counts.new()


def test_a_pool_is_read_once_in_a_process_and_not_at_all_where_nothing_changed(folder, counted):
    dataset = Images(str(folder), 2, 2)
    before, reads, decodings = counted.of(dataset.fingerprint)
    assert (reads, decodings) == (8, 8)
    drawn, reads, decodings = counted.of(lambda: dataset.load(0))
    assert (reads, decodings) == (4, 4)  # of the images drawn
    for _ in range(3):
        assert counted.of(dataset.fingerprint) == (before, 0, 0)
        assert counted.of(lambda: Images(str(folder), 2, 2).load(0))[1:] == (0, 0)
    assert counted.of(lambda: dataset.load(1))[1:] == (4, 4)
    counted.new()
    assert counted.of(dataset.fingerprint) == (before, 0, 0)
    again, reads, decodings = counted.of(lambda: dataset.load(0))
    assert (reads, decodings) == (4, 4)
    assert checksums(again) == checksums(drawn)
    assert (again.skipped, again.notes) == (drawn.skipped, drawn.notes)
    lines = [f"{file.relative_to(folder)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n" for file in
             sorted(folder.rglob("*.png"))]  # fmt: skip
    assert before == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_tables_are_read_once(folder, counted, tmp_path_factory):
    table = tmp_path_factory.mktemp("set") / "train.parquet"
    parquet_of(folder, table)
    for path in (table, table.parent):
        dataset = Images(str(path), 2, 2)
        before, _, decodings = counted.of(dataset.fingerprint)
        assert decodings == 8
        assert counted.of(lambda dataset=dataset: dataset.load(0))[2] == 4
        counted.new()
        assert counted.of(dataset.fingerprint) == (before, 0, 0)
        parquet_of(folder / "a" / "0", table)
        assert dataset.fingerprint() != before
        parquet_of(folder, table)


def rewritten(folder, other):
    """Another image of as many bytes, at the same time of the same clock: only the time of the change differs."""
    file = folder / "a" / "0" / "0.png"
    state, content = file.stat(), bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def relinked(folder, other):
    (folder / "a" / "link.png").unlink()
    (folder / "a" / "link.png").symlink_to(other / "two.png")


CHANGES = {
    "rewritten": rewritten,
    "relinked": relinked,
    "renamed": lambda folder, other: (folder / "a" / "0" / "0.png").rename(folder / "a" / "0" / "9.png"),
    "new": lambda folder, other: Image.new("RGB", (12, 10)).save(folder / "new.png"),
    "gone": lambda folder, other: (folder / "a" / "0" / "0.png").unlink(),
    "others": lambda folder, other: Image.new("RGB", (12, 10)).save(other / "three.png"),
}


@pytest.mark.parametrize("new_process", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_never_missed(folder, counted, tmp_path_factory, change, new_process):
    other = tmp_path_factory.mktemp("other")
    for name, pixels in zip(("one", "two"), COLOUR, strict=False):
        Image.fromarray(pixels).resize((12, 10)).save(other / f"{name}.png", compress_level=0)
        os.utime(other / f"{name}.png", ns=(10**18, 10**18))
    (folder / "a" / "link.png").symlink_to(other / "one.png")
    dataset = Images(str(folder), 2, 2, others=str(other))
    before = dataset.fingerprint()
    assert counted.of(dataset.fingerprint) == (before, 0, 0)
    CHANGES[change](folder, other)
    if new_process:
        counted.new()
    assert dataset.fingerprint() != before


def test_another_setting_or_other_libraries_find_another_pool(folder, counted, monkeypatch):
    Images(str(folder), 2, 2).load(0)
    for settings in ({"size": 8}, {"mode": "L"}, {"min_side": 2}, {"others": str(folder / "a" / "0")}):
        counted.new()
        assert counted.of(Images(str(folder), 2, 2, **settings).fingerprint)[2] >= 8
    assert Images(str(folder), 2, 2, mode="L").load(0).shape == (1, 10, 12)
    assert Images(str(folder), 2, 2).load(0).shape == (3, 10, 12)
    monkeypatch.setattr(pool, "VERSIONS", ("another",))
    assert counted.of(Images(str(folder), 2, 2).fingerprint)[2] == 8


def test_files_as_young_as_the_reading_are_read_again_by_another_process(folder, counted, monkeypatch):
    """Written again within the clock's tick, they would look the same; a process reads them once all the same."""
    newest = max(file.stat().st_ctime_ns for file in folder.rglob("*.png"))
    for after, again in ((pool.TICK // 2, 8), (pool.TICK + 1, 0)):
        counted.new()
        monkeypatch.setattr(time, "time_ns", lambda after=after: newest + after)
        dataset = Images(str(folder), 2, 2)
        dataset.fingerprint()
        assert counted.of(dataset.fingerprint)[1] == 0
        counted.new()
        assert counted.of(dataset.fingerprint)[1] == again


def test_a_failure_that_may_pass_is_not_kept(folder, counted, monkeypatch):
    read, failing = Path.read_bytes, True

    def reading(path):
        if failing and path.name == "3.png":
            raise OSError(5, "Input/output error")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", reading)
    dataset = Images(str(folder), 2, 2, unusable="skip")
    before = dataset.load(0)
    assert len(before.skipped) == 1
    failing = False
    assert not dataset.load(0).skipped


def test_images_that_a_table_names_by_their_paths_are_read_again(folder, counted, tmp_path):
    files = sorted(folder.rglob("*.png"))
    rows = [{"bytes": None, "path": str(file)} for file in files]
    pq.write_table(pa.table({"img": rows}), tmp_path / "images.parquet")
    dataset = Images(str(tmp_path / "images.parquet"), 2, 2)
    before = dataset.fingerprint()
    files[0].write_bytes(files[1].read_bytes())
    assert dataset.fingerprint() != before


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_cache_that_is_damaged_or_cannot_be_written_is_done_without(folder, counted, monkeypatch, tmp_path, damage):
    if damage is None:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    dataset = Images(str(folder), 2, 2)
    before = dataset.fingerprint()
    for kept in (Path(os.environ["XDG_CACHE_HOME"]) / "memorization").glob("*"):
        assert kept.suffix == ".npz"
        kept.write_bytes(damage)
    counted.new()
    assert counted.of(dataset.fingerprint) == (before, 8, 8)
    assert counted.of(dataset.fingerprint) == (before, 0, 0)


def test_what_was_skipped_is_told_from_the_cache_too(folder, counted):
    (folder / "a" / "broken.png").write_bytes(b"not an image")
    (folder / "a" / "gone.png").symlink_to("nowhere")
    dataset = Images(str(folder), 2, 2, unusable="skip")
    drawn = dataset.load(0)
    counted.new()
    again, _, decodings = counted.of(lambda: dataset.load(0))
    assert decodings == 4
    assert list(again.skipped) == list(drawn.skipped)
    assert len(drawn.skipped) == 2
    with pytest.raises(ValueError, match=r"^unusable is 'refuse'"):
        Images(str(folder), 2, 2).load(0)


def test_a_long_reading_shows_how_far_it_is(folder, counted, monkeypatch, capsys):
    Images(str(folder)).fingerprint()
    assert not capsys.readouterr().err
    monkeypatch.setattr(pool, "SLOW", 0)
    counted.new()
    Images(str(folder), mode="L").fingerprint()
    assert "reading the images" in capsys.readouterr().err


def test_folders_behind_links_count_once(folder, tmp_path_factory):
    linked = tmp_path_factory.mktemp("linked")
    (linked / "b").symlink_to(folder / "a")
    (linked / "c").symlink_to(folder / "a")
    (folder / "a" / "loop").symlink_to(folder)
    names = [image.name for image in Images(str(linked))._source().read()]
    assert names == sorted({f"b/{file.relative_to(folder / 'a')}" for file in (folder / "a").rglob("*.png")})


def test_bad_folders(folder, tmp_path):
    with pytest.raises(ValueError, match=r"^path is '/nope'; there is no such folder"):
        Images("/nope").load(0)
    with pytest.raises(ValueError, match=r"^path is ''; name a folder"):
        Images().load(0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image in it"):
        Images(str(tmp_path / "empty")).load(0)
    Image.new("RGB", (9, 9)).save(folder / "a" / "0" / "odd.png")
    with pytest.raises(ValueError, match=r"odd\.png is 9x9 pixels, the images before it 12x10"):
        Images(str(folder), 2, 2).load(0)


@pytest.mark.parametrize("setting", ["mode", "unusable", "duplicates"])
def test_a_setting_that_is_none_of_the_choices(folder, setting):
    with pytest.raises(ValueError, match=rf"^{setting} is 'purple'; choose one of"):
        Images(str(folder), 2, 2, **{setting: "purple"}).load(0)
