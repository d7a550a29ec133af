"""Where encoded images come from: a folder of files, or a table of rows (parquet files, or a set of the hub).

A source is read from its first image to its last, as often as need be, and never kept in memory.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif"),
    *(".jfif", ".jp2", ".pbm", ".pgm", ".ppm"),
)
ROWS_AT_ONCE = 64
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


class Encoded(NamedTuple):
    """An image as it is stored.

    position, name: its number in the source, and what it is called there.
    content: its bytes; empty if they cannot be had, for the reason `problem`.
    """

    position: int
    name: str
    content: bytes
    problem: str = ""


class Source(Protocol):
    """Encoded images, always in the same order."""

    def read(self, chosen: Container[int] | None = None) -> Iterator[Encoded]:
        """All images, or those at the `chosen` positions."""
        ...

    def locate(self, name: str) -> str:
        """Where the image called `name` is, for a message."""
        ...


@dataclass(frozen=True)
class Folder:
    """The image files of a folder, in any nesting, by their paths within it."""

    path: Path
    files: list[Path]

    def read(self, chosen: Container[int] | None = None) -> Iterator[Encoded]:
        for position, file in enumerate(self.files):
            if chosen is None or position in chosen:
                name = str(file.relative_to(self.path))
                try:
                    yield Encoded(position, name, file.read_bytes())
                except OSError as error:
                    yield Encoded(position, name, b"", f"cannot be read ({error.strerror})")

    def locate(self, name: str) -> str:
        return str(self.path / name)


@dataclass(frozen=True)
class Table:
    """The rows of one column of a set that the library `datasets` has opened."""

    path: str
    rows: Any  # datasets.Dataset or datasets.IterableDataset
    column: str

    def read(self, chosen: Container[int] | None = None) -> Iterator[Encoded]:
        position = 0
        try:
            for batch in self.rows.with_format("arrow").iter(batch_size=ROWS_AT_ONCE):
                column = self.column or _image_column(batch.schema, self.path)
                if column not in batch.column_names:
                    names = ", ".join(batch.column_names)
                    raise ValueError(f"dataset.column={column}: {self.path} has the columns {names}")
                for value in batch[column]:
                    if chosen is None or position in chosen:
                        yield _encoded(position, value.as_py())
                    position += 1
        except pa.ArrowException as error:
            raise ValueError(f"dataset.path={self.path}: cannot be read as parquet ({error}); repair it") from error

    def locate(self, name: str) -> str:
        return f"{self.path}, {name}"


def _encoded(position: int, value: Any) -> Encoded:
    """The image of a row: bytes, or a structure of `bytes` and `path` as `datasets` stores images."""
    if isinstance(value, dict):
        content, path = value.get("bytes"), value.get("path")
        if content is None and path is not None and Path(path).is_file():
            content = Path(path).read_bytes()
    else:
        content = value
    if not isinstance(content, bytes):
        return Encoded(position, f"row {position}", b"", "holds no image")
    return Encoded(position, f"row {position}", content)


def _image_column(schema: pa.Schema, path: str) -> str:
    """The first column of images; raises `ValueError` if there is none."""
    for field in schema:
        kind = field.type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return str(field.name)
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return str(field.name)
    raise ValueError(f"dataset.path={path}: no column of it holds images; it has {', '.join(schema.names)}")


def open_source(path: str, subset: str = "", split: str = "train", column: str = "") -> Source:
    """The images at `path`: a folder of image files, a parquet file or a folder of them, or a set of the hub.

    subset, split, column: of a set with several; the column is the first with images unless it is named.
    Raises `ValueError` if there are none.
    """
    place = Path(path).expanduser()
    if not path:
        raise ValueError("dataset.path is empty; name a folder of images: dataset.path=FOLDER")
    if place.is_file():
        if place.suffix.lower() != ".parquet":
            raise ValueError(f"dataset.path={path}: neither a folder nor a parquet file")
        return Table(path, _opened(path, "parquet", split="train", data_files=str(place), streaming=True), column)
    if place.is_dir():
        files = sorted(f for f in place.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and not f.is_dir())
        if files:
            return Folder(place, files)
        if next(place.rglob("*.parquet"), None):
            return Table(path, _opened(path, str(place), name=subset or None, split=split, streaming=True), column)
        raise ValueError(f"dataset.path={path}: no image in it (looked for {', '.join(IMAGE_SUFFIXES)}, .parquet)")
    if not HUB_NAME.fullmatch(path):
        raise ValueError(
            f"dataset.path={path}: there is no such folder or file (a set of the hub is called OWNER/NAME)"
        )
    return Table(path, _opened(path, path, name=subset or None, split=split), column)


def _opened(path: str, *arguments: Any, **settings: Any) -> Any:
    """What `datasets.load_dataset` makes of the arguments; raises `ValueError`, naming `path`, if it fails."""
    import datasets

    retries = logging.getLogger("huggingface_hub")
    level = retries.level
    retries.setLevel(logging.ERROR)  # its five attempts to reach the hub are reported once, below
    try:
        return datasets.load_dataset(*arguments, **settings)
    except ConnectionError as error:
        raise ValueError(
            f"dataset.path={path}: there is no such folder or file here, and the hub cannot be reached "
            f"({error}); give a local folder or parquet file: dataset.path=FOLDER"
        ) from error
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise ValueError(f"dataset.path={path} dataset.split={settings['split']}: {error}") from error
    finally:
        retries.setLevel(level)
