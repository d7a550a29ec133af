"""Where drawn images lie: in memory, or in a file where they would take too much of it."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memorization.architectures import FullyConnected
from memorization.data import Images, as_float, images, mean_image, room
from memorization.engine.settings import Training
from memorization.engine.training import train

drawing = importlib.import_module("memorization.data.split")  # whose name is that of a function, too

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*does not have many workers.*")


@pytest.fixture
def folder(tmp_path):
    """A folder of 8 small images."""
    rng = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_what_does_not_fit_into_memory_lies_in_a_file_and_is_trained_on_alike(folder, monkeypatch):
    histories, drawn, made, inside = [], [], [], room.np.memmap
    monkeypatch.setattr(room.np, "memmap", lambda *args, **shape: made.append(shape["shape"]) or inside(*args, **shape))
    for share in (0.5, 0.0):
        torch.manual_seed(0)
        monkeypatch.setattr(room, "SHARE", share)
        images._last.clear()  # what this process drew last
        drawn.append(Images(str(folder), 5, 3).load(0))
        model = FullyConnected((3, 9, 9), depth=2, width=8)
        settings = Training(max_steps=20, batch_size=2, target_loss=1e-9, ladder=[1e-9])
        histories.append(train(model, drawn[-1].members, settings, progress=False))
    assert made == [(8, 3, 9, 9)]
    assert torch.equal(drawn[0].members, drawn[1].members)
    assert torch.equal(drawn[0].non_members, drawn[1].non_members)
    assert histories[0].rows == histories[1].rows


def test_a_disk_that_is_too_full_is_told_before_the_images_are_read(folder, monkeypatch):
    monkeypatch.setattr(room, "memory", lambda: 1_000_000_000)
    monkeypatch.setattr(images, "pool_of", None)
    with pytest.raises(ValueError, match=r"^size is 30000; such images need .* GB; this machine has 1 GB of"):
        Images(str(folder), 1_000_000, 3, size=30_000).load(0)


@pytest.mark.parametrize("fails", ["no home", "unwritable", "full"])
def test_where_no_file_can_be_made_images_lie_in_memory_or_the_way_out_is_told(fails, folder, monkeypatch, tmp_path):
    monkeypatch.setattr(room, "SHARE", 0.0)
    (tmp_path / "file").touch()
    if fails == "no home":
        monkeypatch.setattr(room, "cache_folder", lambda: Path("~nobody-of-this-name").expanduser())
    elif fails == "unwritable":
        monkeypatch.setattr(room, "cache_folder", lambda: tmp_path / "file" / "memorization")
    else:
        monkeypatch.setattr(room.os, "posix_fallocate", lambda *_: os.truncate("/dev/full/nothing", 0))
    images._last.clear()
    assert len(Images(str(folder), 5, 3).load(0).members) == 5
    monkeypatch.setattr(room, "memory", lambda: 1000)
    images._last.clear()
    way_out = r"no room for a file \(.+\); ask for fewer or smaller images, or set XDG_CACHE_HOME"
    with pytest.raises(ValueError, match=rf"^members is 5; such images need 0 GB; .*{way_out}"):
        Images(str(folder), 5, 3).load(0)
    with pytest.raises(ValueError, match=rf"^path is '.+'; such images need 0 GB; .*{way_out}"):
        Images(str(folder), 5, 3).every()


def test_images_in_a_file_leave_nothing_behind(folder, monkeypatch, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(room, "SHARE", 0.0)
    monkeypatch.setattr(room, "cache_folder", lambda: cache)
    images._last.clear()
    drawn = Images(str(folder), 5, 3).load(0)
    assert drawn.members.any()
    assert [*cache.iterdir()] == []


def test_the_limit_of_the_group_of_this_process_counts(tmp_path, monkeypatch):
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "memory.max").write_text("1234\n")
    (tmp_path / "cgroup").write_text("4:cpu:/job\n0::/job\n")
    monkeypatch.setattr(room, "OWN", tmp_path / "cgroup")
    monkeypatch.setattr(room, "GROUPS", {"": (tmp_path, "memory.max")})
    assert room.memory() == 1234
    (tmp_path / "cgroup").write_text("4:cpu:/job\n")
    assert room.memory() > 1234


def test_the_least_limit_of_the_groups_of_a_process_holds(tmp_path):
    group = tmp_path / "job" / "step"
    group.mkdir(parents=True)
    for folder, limit in ((tmp_path, "max"), (tmp_path / "job", "1000"), (group, "5000")):
        (folder / "memory.max").write_text(f"{limit}\n")
    assert sorted(room._limits(group, tmp_path, "memory.max")) == [1000, 5000]


def test_the_mean_of_many_images_is_that_of_few(monkeypatch):
    many = torch.randint(256, (50, 3, 5, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    few = mean_image(many)
    monkeypatch.setattr(drawing, "MANY", 100)
    monkeypatch.setattr(drawing, "VALUES_AT_ONCE", 400)  # 6 images and a part
    inside, sizes = drawing.in_double, []
    monkeypatch.setattr(drawing, "in_double", lambda part: sizes.append(part.numel()) or inside(part))
    torch.testing.assert_close(mean_image(many), few, rtol=0, atol=1e-7)
    assert max(sizes) <= 400
    assert sum(sizes) == many.numel()
    assert torch.equal(few, as_float(many).mean(0))
