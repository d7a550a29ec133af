"""A pool of images is read once, and again where anything changed."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from memorization.data import Images, images, pool
from memorization.data.decoding import Decoder
from tests.data.folders_of_images import COLOUR, checksums, parquet_of


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
