"""Where drawn images lie: in memory or, where they would take more than a `SHARE` of it, in a file.

The file lies in the folder of the cache, is mapped into memory, so that the system reads from it what is used, and is
gone when its process ends.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from memorization.components import SettingError, cache_folder

GROUPS = {  # of Linux: where each version of its control groups lies, and what holds a limit
    "": (Path("/sys/fs/cgroup"), "memory.max"),
    "memory": (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
}
SHARE = 0.5  # of the machine's memory, that images may take


def memory() -> int:
    """What this process may use, in bytes: the machine's, or less where a container or SLURM limits it."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")] if hasattr(os, "sysconf") else []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kind, group = line.split(":", 2)
            if kind in GROUPS:
                root, name = GROUPS[kind]
                limits += _limits(root / group.strip("/"), root, name)
    return min(limits, default=sys.maxsize)


def _limits(group: Path, root: Path, name: str) -> Iterator[int]:
    """Those of a control group and of the groups that it lies in."""
    for folder in (group, *group.parents):
        if folder.is_relative_to(root):
            with contextlib.suppress(OSError, ValueError):  # there may be none, which is `max`
                yield int((folder / name).read_text())


def check_memory(needed: int, field: str, value: object, what: str) -> None:
    """Raise `SettingError` if the `what` that a setting asks for needs more bytes than the machine's memory."""
    if needed > memory():
        size = f"{what} need {needed / 1e9:,.0f} GB, and this machine has {memory() / 1e9:,.0f}"
        raise SettingError(field, value, f"{size}; make it smaller")


def empty(count: int, shape: tuple[int, ...]) -> Tensor:
    """(N, C, H, W) uint8, to be filled; raises `SettingError` where there is no room for it."""
    check(needed := count * int(np.prod(shape)), "members", count)
    if needed <= SHARE * memory():
        return torch.empty((count, *shape), dtype=torch.uint8)
    with _told("members", count), tempfile.TemporaryFile(dir=_folder()) as file:
        if hasattr(os, "posix_fallocate"):  # else a disk that others fill ends the process when it is written to
            os.posix_fallocate(file.fileno(), 0, needed)
        return torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=(count, *shape)))


def check(needed: int, field: str, value: object) -> None:
    """Raise `SettingError` if the images that a setting asks for fit neither into memory nor into a file."""
    if needed <= SHARE * memory():
        return
    with _told(field, value):
        free = shutil.disk_usage(_folder()).free
    if needed > free:
        there = f"this machine has {memory() / 1e9:,.0f} GB of memory, and {_folder()} {free / 1e9:,.0f} GB free"
        raise SettingError(field, value, f"such images need {needed / 1e9:,.0f} GB; {there}; make it smaller")


def _folder() -> Path:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _told(field: str, value: object) -> Iterator[None]:
    """Where no file can be made, a `SettingError` of the setting that asks for one."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = f"such images do not fit into memory, and no file can be made for them ({error}); make it smaller, or"
        raise SettingError(field, value, f"{reason} set XDG_CACHE_HOME to a folder of a disk with room") from error
