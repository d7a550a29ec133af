"""Images of your own or of the hub: a folder, a parquet file, or a set by its name.

Files are decoded twice and never kept: once to know the whole pool by a digest and a perceptual hash of each image, and
once more for those that the draw chose. So the memory needed is that of the images drawn, 8 bits a value.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from memorization.data.decoding import Decoder, UnusableError
from memorization.data.duplicates import perceptual_hashes, thumbnail
from memorization.data.memory import check_memory
from memorization.data.sources import Pair, Source, counted, open_source
from memorization.data.split import Dataset, Split, draw

HASHED_AT_ONCE = 256
NAMED = 5  # images that a message lists


@dataclass(frozen=True)
class Images(Dataset):
    """Your own images: a folder of them in any nesting, a parquet file, or the name of a set on the Hugging Face hub.

    path: the folder, the file (or a folder of such files), or the name, `OWNER/NAME`.
    split, subset, column: of a set with several; the column is the first that holds images unless it is named. They are
        refused where they have no effect: all three for a folder of image files, the former two for a parquet file.
    mode: `RGB`, `L` (grey), or `auto`: grey if every image is, else RGB.
    size: side of the square to which images are scaled (the shorter side) and cropped (the middle); 0 leaves them.
    unusable: `refuse` the whole set for a file that cannot be read, is tiny or animated, or `skip` the file.
    min_side: pixels, below which an image is tiny.
    duplicates: `near` leaves out near duplicates between members and non-members, `exact` only equal images.
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
    mode: str = "auto"
    size: int = 0
    unusable: str = "refuse"
    min_side: int = 8
    duplicates: str = "near"
    others: str = ""

    INCIDENTAL: ClassVar = (
        "path",
        "others",
        "split",
        "subset",
        "column",
        "unusable",
    )  # the content counts, not where it lies
    PRESET: ClassVar = {
        "split": ("train",),
        "subset": ("", "cropped_digits"),
        "column": ("",),
    }  # what conf/dataset sets
    LATER: ClassVar = ("mode", "size", "min_side", "duplicates")  # at their defaults, runs are what they were before

    def load(self, seed: int) -> Split:
        decoder = Decoder(self.mode, self.size, self.min_side)
        for name, choices in (("unusable", ("refuse", "skip")), ("duplicates", ("near", "exact"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"dataset.{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        count = self.members + self.non_members
        check_memory(self.size**2 * count, "size", self.size, f"{count} such images")
        source = self._source()
        pool = self._survey(source, decoder)
        beside = f"{counted(source.passed_over)} passed over" if source.passed_over else ""

        def pixels(chosen: list[int]) -> Tensor:
            return _read(source, decoder, [pool.positions[index] for index in chosen], pool.shape)

        drawn = draw(
            pool.digests,
            pool.hashes,
            pixels,
            self.members,
            self.non_members,
            seed,
            self.path,
            apart=[position % 2 == 1 for position in pool.positions] if self.others else None,
            near=self.duplicates == "near",
            beside=f" ({beside})" if beside else "",
        )
        enlarged = f"dataset.size={self.size} enlarges {pool.enlarged} of {len(pool.positions)} images"
        return replace(
            drawn,
            member_indices=[pool.positions[index] for index in drawn.member_indices],
            non_member_indices=[pool.positions[index] for index in drawn.non_member_indices],
            skipped=pool.problems,
            notes=[
                *([f"{beside}: files of other kinds"] if beside else []),
                *([enlarged] if pool.enlarged else []),
            ],
        )

    def fingerprint(self) -> str:
        """Names and contents of the files: what identifies the images, wherever the folder lies."""
        digest = hashlib.sha256()
        for encoded in self._source().read():
            line = f"{encoded.name} {hashlib.sha256(encoded.content).hexdigest()}\n"
            digest.update(line.encode(errors="surrogateescape"))  # a name may be no text
        return digest.hexdigest()

    def identity(self) -> dict[str, Any]:
        defaults = {field.name: field.default for field in fields(self)}
        usual = {name for name in self.LATER if getattr(self, name) == defaults[name]}
        identity = super().identity()
        return {key: value for key, value in identity.items() if key not in usual and key not in self.INCIDENTAL}

    def _source(self) -> Source:
        """Where the images are; raises `ValueError` for a setting without effect there, unless a preset makes it."""
        source = open_source(self.path, self.subset, self.split, self.column)
        if self.others:
            try:
                source = Pair(source, open_source(self.others, self.subset, self.split, self.column))
            except ValueError as error:
                raise ValueError(str(error).replace("dataset.path", "dataset.others")) from error
        for name, preset in self.PRESET.items():
            value = getattr(self, name)
            if value not in preset and name not in source.settings:
                raise ValueError(
                    f"dataset.{name}={value} has no effect on the image files or the parquet file at {self.path}; "
                    "leave it out and name the sub-folder or the file wanted: dataset.path=FOLDER"
                )
        return source

    def _survey(self, source: Source, decoder: Decoder) -> Pool:
        """What there is; decides what `auto` means.

        Raises `ValueError` for images of several sizes, or that cannot be used and may not be skipped.
        """
        pool = Pool()
        small: list[np.ndarray] = []
        hashes: list[np.ndarray] = []
        grey = True
        sizes: dict[tuple[int, int], str] = {}
        for position, name, content, problem in source.read():
            try:
                if problem:
                    raise UnusableError(problem)
                whole = decoder.decode(content)
            except UnusableError as error:
                pool.problems.append(f"{source.locate(name)}: {error}")
                continue
            image = decoder.fit(whole)
            pool.enlarged += min(whole.size) < self.size
            array = np.asarray(image)
            grey = grey and (image.mode == "L" or bool((array == array[..., :1]).all()))
            sizes.setdefault(image.size, source.locate(name))
            pool.positions.append(position)
            pool.digests.append(hashlib.sha256(array.tobytes()).digest())
            small.append(thumbnail(image))
            if len(small) == HASHED_AT_ONCE:
                hashes.append(perceptual_hashes(np.stack(small)))
                small.clear()
        if pool.problems and (self.unusable == "refuse" or not pool.positions):
            raise ValueError(self._refusal(pool.problems, anything=bool(pool.positions)))
        if not pool.positions:
            raise ValueError(f"dataset.path={self.path}: no image in it")
        if len(sizes) > 1:
            (width, height), (other, name) = next(iter(sizes)), list(sizes.items())[1]
            raise ValueError(
                f"{name} is {other[0]}x{other[1]} pixels, the images before it {width}x{height}; all images of a "
                f"dataset must have one size: scale and crop them with dataset.size={min(width, height, *other)}"
            )
        pool.hashes = np.concatenate([*hashes, perceptual_hashes(np.stack(small))] if small else hashes)
        width, height = next(iter(sizes))
        pool.shape = (1 if grey and self.mode != "RGB" else 3, height, width)
        return pool

    def _refusal(self, problems: list[str], *, anything: bool) -> str:
        more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        way = "remove or repair it" if len(problems) == 1 else "remove or repair them"
        return f"{'; '.join(problems[:NAMED])}{more}; {way}" + (", or set dataset.unusable=skip" if anything else "")


@dataclass
class Pool:
    """The usable images of a source, in its order, each by its position there, a digest and a perceptual hash.

    shape: (C, H, W) of every one. problems: what could not be used, and why. enlarged: how many `size` enlarged.
    """

    positions: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    hashes: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    problems: list[str] = field(default_factory=list)
    enlarged: int = 0
    shape: tuple[int, int, int] = (0, 0, 0)


def _read(source: Source, decoder: Decoder, positions: list[int], shape: tuple[int, int, int]) -> Tensor:
    """The images (N, C, H, W) uint8 at `positions` of `source`, in that order."""
    images = torch.empty((len(positions), *shape), dtype=torch.uint8)
    ranks = {position: rank for rank, position in enumerate(positions)}
    for encoded in source.read(ranks):
        pixels = torch.from_numpy(np.array(decoder.fit(decoder.decode(encoded.content))))
        pixels = pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1)
        images[ranks[encoded.position]] = pixels[: shape[0]]  # of a grey image in colour, one channel
    return images
