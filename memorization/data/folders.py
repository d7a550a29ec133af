"""Images in files: those of a folder, in any nesting."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from memorization.data.encoded import Encoded, Manifest, irregular, printable, state_of

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif"),
    *(".jfif", ".jp2", ".pbm", ".pgm", ".ppm"),
)
# Folders that are passed over, as the hub's library does: hidden ones, `__MACOSX` and its like; and those of a disk.
HIDDEN = (".", "__")
OF_A_DISK = ("@eaDir", "@Recycle", "@__thumb", "#recycle", "#snapshot", "$RECYCLE.BIN", "lost+found")


@dataclass(frozen=True)
class Folder:
    """The image files of a folder, in any nesting, by their paths within it.

    hidden: those of `files` that are passed over; the positions of the others count them, as they always did.
    closed: those of `files` that are folders which cannot be opened, and why.
    """

    path: Path
    files: list[Path]
    hidden: Collection[Path]
    closed: Mapping[Path, str]
    passed_over: Mapping[str, int]

    settings: ClassVar[tuple[str, ...]] = ()

    @property
    def total(self) -> int:
        return len(self.files) - len(self.hidden)

    def read(self, chosen: Collection[int] | None = None) -> Iterator[Encoded]:
        for position, file in enumerate(self.files):
            if file not in self.hidden and (chosen is None or position in chosen):
                problem = f"is a folder that cannot be opened ({self.closed[file]})" if file in self.closed else ""
                told = True
                try:
                    problem = problem or irregular(file.stat())
                    content = b"" if problem else file.read_bytes()
                except OSError as error:
                    content, problem = b"", f"cannot be read ({error.strerror})"
                    told = isinstance(error, FileNotFoundError)  # a link that leads nowhere; all else may pass
                yield Encoded(position, str(file.relative_to(self.path)), content, problem, told)

    def manifest(self) -> Manifest:
        place = ("folder", os.path.abspath(self.path))  # noqa: PTH100 (a link may come to lead elsewhere)
        closed = [(str(folder), reason) for folder, reason in self.closed.items()]
        return Manifest(place, [*(state_of(file, self.path) for file in self.files), *closed])

    def locate(self, name: str) -> str:
        return printable(str(self.path / name))


def files_below(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """All files below `folder` by their paths, and the folders that cannot be opened among them, with the reason.

    Links are followed. A folder that two paths lead to counts once, and as hidden only if both are.
    """
    found, seen = [], set()
    errors: list[OSError] = []
    roots = [folder]
    for root in roots:  # to which hidden folders are added, which so come last
        for parent, folders, names in os.walk(root, followlinks=True, onerror=errors.append):
            real = os.path.realpath(parent)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            roots += [Path(parent, name) for name in folders if is_hidden(Path(name, "file"))]
            folders[:] = sorted(name for name in folders if not is_hidden(Path(name, "file")))
            found += [Path(parent, name) for name in names]
    closed = {Path(error.filename): str(error.strerror) for error in errors}
    closed = {path: reason for path, reason in closed.items() if path not in roots[1:]}
    return sorted([*found, *closed]), closed


def is_hidden(path: Path) -> bool:
    """Is this file (by its path in the folder of images) one that file managers and archivers leave, and not shown?"""
    parents = path.parent.parts
    return path.name.startswith(".") or any(name.startswith(HIDDEN) or name in OF_A_DISK for name in parents)
