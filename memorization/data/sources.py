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
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from memorization.components import SettingError, expanded
from memorization.data.encoded import Encoded, Manifest, printable
from memorization.data.folders import IMAGE_SUFFIXES, Folder, files_below, is_hidden
from memorization.data.tables import HubSet, ParquetFile, downloaded, opened

OF_SECOND = "others: "  # before the names of the second source of a pair
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


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
        files, closed = files_below(place)
        hidden = {file for file in files if is_hidden(file.relative_to(place))}
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
            rows = opened(path, str(place), subset, split, streaming=True)
            return HubSet(path, rows, column, others, (subset, split), sorted({*files} - hidden))
        there = f"; it has {counted(others)}" if others else ""
        suffixes = ", ".join((*IMAGE_SUFFIXES, ".parquet"))
        raise SettingError("path", path, f"no image in it (looked for {suffixes}, not in hidden folders{there})")
    if not HUB_NAME.fullmatch(path):
        raise SettingError("path", path, "there is no such folder or file (a set of the hub is called OWNER/NAME)")
    return HubSet(path, downloaded(path, path, subset, split), column, {}, (subset, split))


def counted(files: Mapping[str, int]) -> str:
    """How many files there are of each suffix, the most first: `7 .heic, 1 without suffix`."""
    return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in Counter(files).most_common())
