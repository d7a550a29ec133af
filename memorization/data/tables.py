"""Images in the rows of a table: a parquet file, or a set of the hub."""

from __future__ import annotations

import contextlib
import logging
import pickle
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from memorization.components import SettingError, expanded
from memorization.data.encoded import Encoded, Manifest, state_of

ROWS_AT_ONCE = 64
ROWS_A_MAP = 1024
BUFFER = 2**20  # bytes
BYTES = (pa.binary(), pa.large_binary(), pa.binary_view())


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
        return Manifest(("parquet", str(file), self.column), [state_of(file, file.parent)])


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
            return Manifest(("set", str(folder), *own), [state_of(file.absolute(), folder) for file in self.files])
        fingerprint = getattr(self.rows, "_fingerprint", None)  # of a `datasets.Dataset`
        return Manifest(("hub", self.path, *own), [(fingerprint,)]) if fingerprint else None


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


def opened(path: str, name: str, subset: str, split: str, *, streaming: bool) -> Any:
    """The set called `name`, opened by `datasets`; raises `SettingError`, naming `path`, if that fails.

    Of the hub, which may take long to answer, it is told what is looked for: the name may be a mistyped folder.
    """
    if not streaming:
        told = f"note: there is no folder or file {path} here; asking the Hugging Face hub for a data set of that name"
        print(told, file=sys.stderr, flush=True)
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


downloaded = cache(partial(opened, streaming=False))  # the hub is asked once; a failure is not remembered


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
