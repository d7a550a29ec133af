"""An image as it is stored, and what tells that the source that it came from is what it was."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple


class Encoded(NamedTuple):
    """An image as it is stored; `position` and `name` are those in its source."""

    position: int
    name: str
    content: bytes  # empty if it cannot be had, for the reason `problem`
    problem: str = ""
    told: bool = True  # whether a change of it, or of its problem, shows in the manifest of the source


class Manifest(NamedTuple):
    """What tells, without reading an image, that a source is what it was."""

    place: tuple[str, ...]  # where it lies, and what is chosen in it
    files: list[tuple[str | int, ...]]  # of each its path and its state, or why it has none

    @property
    def newest(self) -> int:
        """The last time at which one of the files changed, in nanoseconds."""
        return max((int(time) for state in self.files for time in state[4:]), default=0)


def state_of(file: Path, folder: Path) -> tuple[str | int, ...]:
    """A file's path in `folder`, and its problem, inode, size and times of change (a link's: of what it leads to)."""
    name = str(file.relative_to(folder))
    try:
        state = file.stat()
    except OSError as error:
        return name, str(error.strerror)
    return name, irregular(state), state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def irregular(state: os.stat_result) -> str:
    """Why a file in this state is none to read; empty of a regular one."""
    return "" if stat.S_ISREG(state.st_mode) else "is a pipe, a socket or a device"


def printable(name: str) -> str:
    """The name of a file, with the bytes that are no text spelt out (`\\udcff`)."""
    return name.encode(errors="backslashreplace").decode()
