"""Which files of a folder are read."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memorization.data import Images
from tests.data.folders_of_images import parquet_of


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
