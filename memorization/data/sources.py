"""Where encoded images come from: a folder of files, or a table of rows (a parquet file, or a set of the hub).

A source is read from its first image to its last, always in the same order, and never kept in memory. All have:

settings: those of `split`, `subset` and `column` that choose in it.
passed_over: how many files that hold no image that is read lie there, by their suffix.
total: how many images there are, where that is known without reading them.
read: all images, or those at the `chosen` positions.
manifest: what tells that the source is what it was; None where only its images do.
locate: where the image called `name` is, for a message.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from memorization.components import SettingError, expanded

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif"),
    *(".jfif", ".jp2", ".pbm", ".pgm", ".ppm"),
)
# Folders that are passed over, as the hub's library does: hidden ones, `__MACOSX` and its like; and those of a disk.
HIDDEN = (".", "__")
OF_A_DISK = ("@eaDir", "@Recycle", "@__thumb", "#recycle", "#snapshot", "$RECYCLE.BIN", "lost+found")
ROWS_AT_ONCE = 64
ROWS_A_MAP = 1024
BUFFER = 2**20  # bytes
OF_SECOND = "others: "  # before the names of the second source of a pair
BYTES = (pa.binary(), pa.large_binary(), pa.binary_view())
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


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


def _state(file: Path, folder: Path) -> tuple[str | int, ...]:
    """A file's path in `folder`, and its problem, inode, size and times of change (a link's: of what it leads to)."""
    name = str(file.relative_to(folder))
    try:
        state = file.stat()
    except OSError as error:
        return name, str(error.strerror)
    return name, _irregular(state), state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _irregular(state: os.stat_result) -> str:
    return "" if stat.S_ISREG(state.st_mode) else "is a pipe, a socket or a device"


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
                    problem = problem or _irregular(file.stat())
                    content = b"" if problem else file.read_bytes()
                except OSError as error:
                    content, problem = b"", f"cannot be read ({error.strerror})"
                    told = isinstance(error, FileNotFoundError)  # a link that leads nowhere; all else may pass
                yield Encoded(position, str(file.relative_to(self.path)), content, problem, told)

    def manifest(self) -> Manifest:
        place = ("folder", os.path.abspath(self.path))  # noqa: PTH100 (a link may come to lead elsewhere)
        closed = [(str(folder), reason) for folder, reason in self.closed.items()]
        return Manifest(place, [*(_state(file, self.path) for file in self.files), *closed])

    def locate(self, name: str) -> str:
        return printable(str(self.path / name))


class Table:
    """The rows of a table, of which some column holds images."""

    path: str
    total: ClassVar[int | None] = None

    def locate(self, name: str) -> str:
        return f"{self.path}, {name}"


@dataclass(frozen=True)
class ParquetFile(Table):
    """The rows of one column of a parquet file.

    pyarrow reads it page by page here; `datasets` would read whole row groups, of which a file may have but one.
    """

    path: str
    column: str

    settings: ClassVar[tuple[str, ...]] = ("column",)
    passed_over: ClassVar[Mapping[str, int]] = {}

    def read(self, chosen: Collection[int] | None = None) -> Iterator[Encoded]:
        try:
            file = pq.ParquetFile(expanded(self.path), pre_buffer=False, buffer_size=BUFFER)
            column = _image_column(file.schema_arrow, self.column, self.path)
            yield from _rows(file.iter_batches(ROWS_AT_ONCE, columns=[column]), column, chosen)
        except (pa.ArrowException, OSError) as error:
            raise SettingError("path", self.path, f"it cannot be read as parquet ({error}); repair it") from error

    def manifest(self) -> Manifest:
        file = expanded(self.path).absolute()
        return Manifest(("parquet", str(file), self.column), [_state(file, file.parent)])


@dataclass(frozen=True)
class HubSet(Table):
    """The rows of one column of a set of the hub, or of a folder laid out like one, as `datasets` opens it."""

    path: str
    rows: Any  # a `datasets.Dataset` (downloaded once and kept in the library's cache) or `datasets.IterableDataset`
    column: str
    passed_over: Mapping[str, int]
    chosen: tuple[str, str] = ("", "train")  # the subset and the split
    files: Sequence[Path] = ()  # all files of a folder

    settings: ClassVar[tuple[str, ...]] = ("split", "subset", "column")

    def read(self, chosen: Collection[int] | None = None) -> Iterator[Encoded]:
        from datasets.table import CastError

        try:
            first = next(iter(self.rows.with_format("arrow").iter(batch_size=1)), None)
            if first is not None:
                column = _image_column(first.schema, self.column, self.path)
                with _silent("datasets"):  # which says there what it raises
                    yield from _rows(_batches(self.rows.select_columns([column])), column, chosen)
        except CastError as error:
            columns = (", ".join(names) for names in (error.requested_column_names, error.table_column_names))
            reason = f"its parquet files differ in their columns ({'; '.join(columns)}); name one file"
            raise SettingError("path", self.path, reason) from error
        except pa.ArrowException as error:
            raise SettingError("path", self.path, f"it cannot be read as parquet ({error}); repair it") from error

    def manifest(self) -> Manifest | None:
        import datasets

        own = (*self.chosen, self.column, datasets.__version__)
        if self.files:
            folder = expanded(self.path).absolute()
            return Manifest(("set", str(folder), *own), [_state(file.absolute(), folder) for file in self.files])
        fingerprint = getattr(self.rows, "_fingerprint", None)  # of a `datasets.Dataset`
        return Manifest(("hub", self.path, *own), [(fingerprint,)]) if fingerprint else None


@dataclass(frozen=True)
class Pair:
    """Two sources as one: the images of `first` have the even positions, those of `second` the odd ones."""

    first: Source
    second: Source

    @property
    def settings(self) -> tuple[str, ...]:
        return self.first.settings + self.second.settings

    @property
    def passed_over(self) -> Mapping[str, int]:
        return Counter(self.first.passed_over) + Counter(self.second.passed_over)

    @property
    def total(self) -> int | None:
        first, second = self.first.total, self.second.total
        return None if first is None or second is None else first + second

    def manifest(self) -> Manifest | None:
        first, second = self.first.manifest(), self.second.manifest()
        if first is None or second is None:
            return None
        return Manifest((*first.place, *second.place), [*first.files, (OF_SECOND,), *second.files])

    def read(self, chosen: Collection[int] | None = None) -> Iterator[Encoded]:
        for which, source in enumerate((self.first, self.second)):
            own = None if chosen is None else {position // 2 for position in chosen if position % 2 == which}
            with of_others() if which else contextlib.nullcontext():
                for image in source.read(own):
                    yield image._replace(position=2 * image.position + which, name=OF_SECOND * which + image.name)

    def locate(self, name: str) -> str:
        source = self.second if name.startswith(OF_SECOND) else self.first
        return source.locate(name.removeprefix(OF_SECOND))


Source = Folder | ParquetFile | HubSet | Pair


@contextlib.contextmanager
def of_others() -> Iterator[None]:
    """In this block, a path that cannot be used is that of the second source of a pair."""
    try:
        yield
    except SettingError as error:
        field = "others" if error.field == "path" else error.field
        raise SettingError(field, error.value, error.reason) from error


def _batches(rows: Any) -> Iterator[Any]:
    """The Arrow tables of a `datasets.Dataset` or `IterableDataset`, a few rows each.

    The former maps its files into memory, and what was read of a map stays there. So it is mapped anew every so often,
    which is what a copy by pickle does.
    """
    parts: Iterable[Any] = [rows]
    if hasattr(rows, "select"):
        bounds = range(0, len(rows), ROWS_A_MAP)
        parts = (pickle.loads(pickle.dumps(rows.select(range(i, min(i + ROWS_A_MAP, len(rows)))))) for i in bounds)
    for part in parts:
        yield from part.with_format("arrow").iter(batch_size=ROWS_AT_ONCE)


def _rows(batches: Iterable[Any], column: str, chosen: Collection[int] | None) -> Iterator[Encoded]:
    """The images in `column` of Arrow tables or record batches."""
    for position, value in enumerate(value for batch in batches for value in batch[column]):
        if chosen is None or position in chosen:
            yield _encoded(position, value.as_py())


def _encoded(position: int, value: Any) -> Encoded:
    """The image of a row: bytes, or a structure of `bytes` and `path` as `datasets` stores images."""
    content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    told = content is not None or path is None
    if not told and Path(str(path)).is_file():
        content = Path(str(path)).read_bytes()
    content = bytes(content) if isinstance(content, list) and None not in content else content
    content, problem = (content, "") if isinstance(content, bytes) else (b"", "holds no image")
    return Encoded(position, f"row {position}", content, problem, told)


def _image_column(schema: pa.Schema, wanted: str, path: str) -> str:
    """The column `wanted`, or the first that holds images; raises `SettingError` if there is none."""
    types = {str(field.name): field.type for field in schema}
    if wanted and wanted not in types:
        raise SettingError("column", wanted, f"{path} has the columns {', '.join(types)}")
    if wanted and not _holds_bytes(types[wanted]):
        raise SettingError("column", wanted, f"its type is {types[wanted]}, which holds no images; choose another")
    fitting = [wanted] if wanted else [name for name, kind in types.items() if _holds_bytes(kind)]
    if not fitting:
        own = ", ".join(f"{name} ({kind})" for name, kind in types.items())
        raise SettingError("path", path, f"no column of it holds images; it has {own}")
    usual = (name for name in fitting if types[name] in BYTES or isinstance(types[name], pa.StructType))
    return next(usual, fitting[0])


def _holds_bytes(kind: pa.DataType) -> bool:
    """Can a value of this type be the bytes of an image, or a structure that has them?"""
    if isinstance(kind, pa.StructType):
        own = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else pa.bool_()
        return pa.types.is_null(own) or _holds_bytes(own)  # null where each has a path alone
    if isinstance(kind, pa.DictionaryType | pa.BaseExtensionType):
        return _holds_bytes(kind.value_type if isinstance(kind, pa.DictionaryType) else kind.storage_type)
    if isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        return bool(kind.value_type == pa.uint8())
    return kind in BYTES or pa.types.is_fixed_size_binary(kind)


def open_source(path: str, subset: str = "", split: str = "train", column: str = "") -> Source:
    """The images at `path`: a folder of image files, a parquet file or a folder of them, or a set of the hub.

    subset, split, column: of a set with several; the column is the first with images unless it is named.
    Raises `SettingError` if there are none.
    """
    place = expanded(path)
    if not path:
        raise SettingError("path", path, "name a folder of images")
    if place.is_file() and place.suffix.lower() == ".parquet":
        return ParquetFile(path, column)
    if place.exists() and not place.is_dir():
        way = "put the images into a folder, or as bytes into such a file"
        raise SettingError("path", path, f"it is neither a folder nor a parquet file; {way}")
    if place.is_dir():
        files, closed = _files(place)
        hidden = {file for file in files if _is_hidden(file.relative_to(place))}
        every = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        tables = [file for file in files if file.suffix.lower() == ".parquet" and file not in hidden]
        images = {*every} - hidden
        if images or not tables:
            images |= {*closed}
        used = hidden | (images or {*tables})
        others = Counter(printable(file.suffix.lower()) for file in files if file not in used)
        if images:
            return Folder(place, sorted({*every} | images), hidden & {*every}, closed, others)
        if capital := next((file for file in tables if file.suffix != ".parquet"), None):
            way = f"rename it to {capital.stem}.parquet, or name this one file"
            raise SettingError("path", path, f"{capital.name} is passed over by the library of the hub; {way}")
        if tables:
            rows = _opened(path, str(place), subset, split, streaming=True)
            return HubSet(path, rows, column, others, (subset, split), sorted({*files} - hidden))
        there = f"; it has {counted(others)}" if others else ""
        suffixes = ", ".join((*IMAGE_SUFFIXES, ".parquet"))
        raise SettingError("path", path, f"no image in it (looked for {suffixes}, not in hidden folders{there})")
    if not HUB_NAME.fullmatch(path):
        raise SettingError("path", path, "there is no such folder or file (a set of the hub is called OWNER/NAME)")
    return HubSet(path, _downloaded(path, path, subset, split), column, {}, (subset, split))


def printable(name: str) -> str:
    """The name of a file, with the bytes that are no text spelt out (`\\udcff`)."""
    return name.encode(errors="backslashreplace").decode()


def counted(files: Mapping[str, int]) -> str:
    """How many files there are of each suffix, the most first: `7 .heic, 1 without suffix`."""
    return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in Counter(files).most_common())


def _files(folder: Path) -> tuple[list[Path], dict[Path, str]]:
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
            roots += [Path(parent, name) for name in folders if _is_hidden(Path(name, "file"))]
            folders[:] = sorted(name for name in folders if not _is_hidden(Path(name, "file")))
            found += [Path(parent, name) for name in names]
    closed = {Path(error.filename): str(error.strerror) for error in errors}
    closed = {path: reason for path, reason in closed.items() if path not in roots[1:]}
    return sorted([*found, *closed]), closed


def _is_hidden(path: Path) -> bool:
    """Is this file (by its path in the folder of images) one that file managers and archivers leave, and not shown?"""
    parents = path.parent.parts
    return path.name.startswith(".") or any(name.startswith(HIDDEN) or name in OF_A_DISK for name in parents)


def _opened(path: str, name: str, subset: str, split: str, *, streaming: bool) -> Any:
    """The set called `name`, opened by `datasets`; raises `SettingError`, naming `path`, if that fails."""
    import datasets

    try:
        with _silent("huggingface_hub"):  # its five attempts to reach the hub are reported once, below
            return datasets.load_dataset(name, subset or None, split=split, streaming=streaming)
    except ConnectionError as error:
        reason = f"there is no such folder or file here, and the hub cannot be reached ({error})"
        raise SettingError("path", path, f"{reason}; give a local folder or parquet file") from error
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        chosen = f"`subset` {subset}, " * bool(subset) + f"`split` {split}"
        raise SettingError("path", path, f"with {chosen}: {error}; choose another") from error


_downloaded = cache(partial(_opened, streaming=False))  # the hub is asked once; a failure is not remembered


@contextlib.contextmanager
def _silent(library: str) -> Iterator[None]:
    """What `library` logs is not shown meanwhile."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
