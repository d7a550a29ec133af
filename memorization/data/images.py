"""Images of your own or of the hub: a folder, a parquet file, or a set by its name.

Files are never kept decoded: they are decoded once to know the whole pool (see `pool`), and those that the draw chose
once more. So the memory needed is that of the images drawn, 8 bits a value, and none where that is much (see `room`).
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from os import PathLike, fspath
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from memorization.components import Record, SettingError, choose
from memorization.data import decoding, room
from memorization.data.decoding import Decoder, Mode
from memorization.data.pool import Pool, pool_of
from memorization.data.sources import Pair, Source, counted, of_others, open_source
from memorization.data.split import Dataset, Split, draw

NAMED = 5  # images that a message lists

# What a file that cannot be used leads to: the whole set is refused, or the file is skipped.
Unusable = StrEnum("Unusable", ["refuse", "skip"])
# What is left out between members and non-members: near duplicates as well, or equal images only.
Duplicates = StrEnum("Duplicates", ["near", "exact"])


@dataclass(frozen=True)
class Images(Dataset):
    """Your own images: a folder of them in any nesting, a parquet file, or the name of a set on the Hugging Face hub.

    path: the folder, the file (or a folder of such files), or the name, `OWNER/NAME`. Hidden files and folders in it
        (`.thumbnails`, `__MACOSX`, `@eaDir` …) are passed over.
    split, subset, column: of a set with several; the column is the first that holds images unless it is named. They are
        refused where they have no effect: all three for a folder of image files, the former two for a parquet file.
    size: side of the square to which images are scaled (the shorter side) and cropped (the middle); 0 leaves them.
    unusable: what to do with a file that cannot be read, is tiny or animated, see `Unusable`.
    min_side: pixels, below which an image is tiny. mode, duplicates: see `Mode` and `Duplicates`.
    others: where to draw the non-members from, if not from `path`: another folder, file or set. `path` then holds what
        the autoencoder was trained on, `others` what it was not; an image in both counts in `path` only. A member's
        index is twice its position in `path`, a non-member's twice its position in `others`, plus 1.
    """

    path: str = ""
    members: int = 50
    non_members: int = 50
    split: str = "train"
    subset: str = ""
    column: str = ""
    mode: Mode = Mode.auto
    size: int = 0
    unusable: Unusable = Unusable.refuse
    min_side: int = 8
    duplicates: Duplicates = Duplicates.near
    others: str = ""

    revision = decoding.REVISION
    INCIDENTAL: ClassVar = ("path", "others", "split", "subset", "column", "unusable")  # the content counts alone
    PRESET: ClassVar = {"split": ("train",), "subset": ("", "cropped_digits"), "column": ("",)}  # by conf/dataset
    LATER: ClassVar = ("mode", "size", "min_side", "duplicates")  # at their defaults, runs are what they were before

    def __post_init__(self) -> None:
        for name in ("path", "others"):
            path = getattr(self, name)
            if not isinstance(path, str | PathLike):
                raise SettingError(name, path, "name a folder of images")
            object.__setattr__(self, name, fspath(path))
        for name, choices in (("mode", Mode), ("unusable", Unusable), ("duplicates", Duplicates)):
            object.__setattr__(self, name, choose(name, getattr(self, name), choices))
        _ = self._decoder

    def load(self, seed: int) -> Split:
        source, pool = self._pool()
        if pool.manifest and (known := _last.get((self, seed, pool.manifest))):
            return known
        self._check(source, pool)
        passed_over = f"{counted(source.passed_over)} passed over" if source.passed_over else ""
        notes = [f"{passed_over}: files of other kinds"] if passed_over else []
        if pool.enlarged:
            notes.append(f"a size of {self.size} pixels enlarges {pool.enlarged} of {len(pool.positions)} images")
        read = partial(_read, source, self._decoder, pool, "members", self.members)
        wanted = self.members, self.non_members, seed, self.path
        apart = [position % 2 == 1 for position in pool.positions] if self.others else None
        near, beside = self.duplicates is Duplicates.near, f" ({passed_over})" if passed_over else ""
        drawn = draw(pool.digests, pool.hashes, read, *wanted, apart=apart, near=near, beside=beside)
        members, others = ([pool.positions[i] for i in of] for of in (drawn.member_indices, drawn.non_member_indices))
        told = _told(source, pool)
        split = replace(drawn, member_indices=members, non_member_indices=others, skipped=told, notes=notes)
        if pool.manifest:
            _last.clear()
            _last[self, seed, pool.manifest] = split
        return split

    def every(self) -> Tensor:
        """All images of the pool, (N, C, H, W) uint8; raises `SettingError` as `load` does."""
        source, pool = self._pool()
        self._check(source, pool)
        return _read(source, self._decoder, pool, "path", self.path, [*range(len(pool.positions))])

    def fingerprint(self) -> str:
        return self._pool()[1].fingerprint  # of the names and contents of the files

    def identity(self) -> Record:
        usual = {name for name in self.LATER if getattr(self, name) == getattr(type(self), name)}
        return {key: value for key, value in super().identity().items() if key not in usual | {*self.INCIDENTAL}}

    @property
    def _decoder(self) -> Decoder:
        return Decoder(self.mode, self.size, self.min_side)

    def _pool(self) -> tuple[Source, Pool]:
        """Where the images are, and what is there."""
        count = self.members + self.non_members
        room.check_memory(self.size**2, "size", self.size, "the pixels of one image")
        room.check(self.size**2 * count, "size", self.size)
        source = self._source()
        return source, pool_of(source, self._decoder)

    def _source(self) -> Source:
        """Where the images are; raises `SettingError` for a setting without effect there, unless a preset makes it."""
        source = open_source(self.path, self.subset, self.split, self.column)
        if self.others:
            with of_others():
                source = Pair(source, open_source(self.others, self.subset, self.split, self.column))
        for name, preset in self.PRESET.items():
            value = getattr(self, name)
            if value not in preset and name not in source.settings:
                reason = f"it has no effect on the image files or the parquet file at {self.path}"
                way = "leave it out and name the sub-folder or the file wanted as `path`"
                raise SettingError(name, value, f"{reason}; {way}")
        return source

    def _check(self, source: Source, pool: Pool) -> None:
        """Raise `SettingError` for images of several sizes, or that cannot be used and may not be skipped."""
        if pool.problems and (self.unusable is Unusable.refuse or not pool.positions):
            told = _told(source, pool)
            more = f"; and {len(told) - NAMED} more" if len(told) > NAMED else ""
            reason = f"{'; '.join(told[:NAMED])}{more}; remove or repair {'it' if len(told) == 1 else 'them'}"
            if pool.positions:
                raise SettingError("unusable", self.unusable, f"{reason}, or choose skip")
            raise SettingError("path", self.path, reason)
        if not pool.positions:
            raise SettingError("path", self.path, "no image in it")
        if len(pool.sizes) > 1:
            ((width, height), _), (other, name) = pool.sizes[:2]
            odd = f"{source.locate(name)} is {other[0]}x{other[1]} pixels, the images before it {width}x{height}"
            way = f"give the side to scale and crop them to, such as {min(width, height, *other)}"
            raise SettingError("size", self.size, f"{odd}; all must have one size: {way}")


_last: dict[tuple[Images, int, str], Split] = {}  # the last draw, by its seed and the manifest; it is only read


def _told(source: Source, pool: Pool) -> list[str]:
    return [f"{source.locate(name)}: {reason}" for name, reason in pool.problems]


def _read(source: Source, decoder: Decoder, pool: Pool, field: str, value: object, chosen: list[int]) -> Tensor:
    """The images (N, C, H, W) uint8 `chosen` from a pool by their indices, in that order; `field` asks for them."""
    images = room.empty(len(chosen), tuple(pool.shape), field, value)
    ranks = {pool.positions[index]: rank for rank, index in enumerate(chosen)}
    for encoded in source.read(ranks):
        pixels = np.atleast_3d(np.array(decoder.fit(decoder.decode(encoded.content))))  # (H, W, 1 or 3)
        # Of a grey image in colour, one channel.
        images[ranks[encoded.position]] = torch.from_numpy(pixels).permute(2, 0, 1)[: pool.shape[0]]
    return images
