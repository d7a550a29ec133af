"""Where drawn images lie: in memory or, where they would take more than a `SHARE` of it, in a file.

The file lies in the folder of the cache, is mapped into memory, so that the system reads from it what is used, and is
gone when its process ends.
"""

import contextlib
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from memorization.components import SettingError, cache_folder

GROUPS = {  # of Linux: where each version of its control groups lies, and what holds a limit
    "": (Path("/sys/fs/cgroup"), "memory.max"),
    "memory": (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
}
OWN = Path("/proc/self/cgroup")  # in which groups this process is
SHARE = 0.5  # of the machine's memory, that images may take


def memory() -> int:
    """What this process may use, in bytes: the machine's, or less where a container or SLURM limits it."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")] if hasattr(os, "sysconf") else []
    with contextlib.suppress(OSError):
        for line in OWN.read_text().splitlines():
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


def empty(count: int, shape: tuple[int, ...], field: str, value: object) -> Tensor:
    """(N, C, H, W) uint8, to be filled; raises `SettingError` of `field`, which asks for them, if there is no room."""
    needed, whole = count * int(np.prod(shape)), (count, *shape)
    if needed > SHARE * memory():
        try:
            with tempfile.TemporaryFile(dir=_folder()) as file:
                _take(file, needed)
                return torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=whole))
        except (OSError, RuntimeError) as error:
            if needed > memory():
                raise _no_room(needed, field, value, str(error)) from error
    return torch.empty(whole, dtype=torch.uint8)


def check(needed: int, field: str, value: object) -> None:
    """Raise `SettingError` if the images that a setting asks for fit neither into memory nor into a file."""
    if needed <= memory():
        return
    try:
        whole = shutil.disk_usage(folder := _folder()).total  # what is free may be taken by these very images
    except (OSError, RuntimeError) as error:
        raise _no_room(needed, field, value, str(error)) from error
    if needed > whole:
        raise _no_room(needed, field, value, f"{folder} is on a disk of {whole / 1e9:,.0f} GB")


def _no_room(needed: int, field: str, value: object, reason: str) -> SettingError:
    sizes = f"such images need {needed / 1e9:,.0f} GB; this machine has {memory() / 1e9:,.0f} GB of memory"
    way_out = "ask for fewer or smaller images, or set XDG_CACHE_HOME to a folder of a disk with room"
    return SettingError(field, value, f"{sizes}, and there is no room for a file ({reason}); {way_out}")


def _take(file: IO[bytes], size: int) -> None:
    """Make `file` so many bytes long, at once, as a file that grows into a full disk would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    elif size > shutil.disk_usage(_folder()).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    else:
        file.truncate(size)


def _folder() -> Path:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
