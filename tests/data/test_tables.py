"""Images in tables: Parquet, and downloaded sets of the Hub."""

from __future__ import annotations

import hashlib
import os

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memorization.data import Images
from memorization.data.sources import open_source
from memorization.data.tables import HubSet
from tests.data.folders_of_images import checksums, parquet_of


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
