"""Members and non-members: the images an autoencoder is trained on, and images of the same kind that it never sees.

Each dataset is a frozen dataclass; `load(seed)` draws both sets from its pool, seeded, without exact duplicates and
disjoint. `faces`, `digits` and `patches` lie inside installed packages, so nothing is downloaded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Split:
    """Float32 images (N, C, H, W) in [0, 1], and each image's index in its pool, by which it can be found again."""

    members: Tensor
    non_members: Tensor
    member_indices: list[int]
    non_member_indices: list[int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        channels, height, width = self.members.shape[1:]
        return channels, height, width


def check_images(images: Tensor, source: str) -> None:
    """Raise `ValueError` unless `images` are finite, (N, C, H, W) and within [0, 1]."""
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"{source}: images must have the shape (N, C, H, W) with N > 0, not {tuple(images.shape)}")
    if not torch.isfinite(images).all():
        first = int((~torch.isfinite(images)).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"{source}: image {first} holds NaN or infinite pixels; remove or repair it")
    if images.min() < 0 or images.max() > 1:
        raise ValueError(
            f"{source}: pixels span {images.min():.3g} to {images.max():.3g}; scale them to [0, 1] "
            "(divide 8-bit values by 255)"
        )


def check_seed(seed: int) -> None:
    """Raise `ValueError` for a seed that a generator cannot take."""
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed is {seed}; it must be at least 0 and below 2^63")


def split(pool: Tensor, members: int, non_members: int, seed: int, source: str) -> Split:
    """Draw disjoint members and non-members from `pool` (N, C, H, W), of which exact duplicates count once."""
    check_images(pool, source)
    digests = [hashlib.sha256(image.numpy().tobytes()).digest() for image in pool]
    unique = sorted({digest: i for i, digest in reversed(list(enumerate(digests)))}.values())
    if members < 1 or non_members < 1:
        raise ValueError(f"dataset.members={members} dataset.non_members={non_members}: each must be at least 1")
    if members + non_members > len(unique):
        raise ValueError(
            f"dataset.members={members} and dataset.non_members={non_members} need {members + non_members} images; "
            f"{source} has {len(unique)} distinct ones"
        )
    order = np.random.default_rng([seed, 0]).permutation(unique)[: members + non_members].tolist()
    chosen = pool[order]
    return Split(chosen[:members], chosen[members:], order[:members], order[members:])


@dataclass(frozen=True)
class Faces:
    """100 grey 25x25 faces: scikit-image's `lfw_subset`, whose first 100 images are faces."""

    members: int = 50
    non_members: int = 50

    def load(self, seed: int) -> Split:
        from skimage.data import lfw_subset

        faces = torch.from_numpy(lfw_subset()[:100]).float().unsqueeze(1)  # (100, 1, 25, 25), already in [0, 1]
        return split(faces, self.members, self.non_members, seed, "faces")

    def fingerprint(self) -> str:
        return "scikit-image lfw_subset[:100]"


@dataclass(frozen=True)
class Digits:
    """1,797 grey 8x8 handwritten digits: scikit-learn's `load_digits`."""

    members: int = 50
    non_members: int = 50

    def load(self, seed: int) -> Split:
        from sklearn.datasets import load_digits

        digits = torch.from_numpy(load_digits().images).float().unsqueeze(1) / 16  # (1797, 1, 8, 8)
        return split(digits, self.members, self.non_members, seed, "digits")

    def fingerprint(self) -> str:
        return "scikit-learn load_digits"


@dataclass(frozen=True)
class Patches:
    """Non-overlapping RGB crops of the photographs that scikit-image and scikit-learn ship.

    size: side of a crop, in pixels.
    min_contrast: crops whose pixels' standard deviation is lower are dropped (sky, black space).
    """

    members: int = 50
    non_members: int = 50
    size: int = 32
    min_contrast: float = 0.08

    def load(self, seed: int) -> Split:
        if not 8 <= self.size <= 256:
            raise ValueError(f"dataset.size is {self.size}; patches can be 8 to 256 pixels wide")
        crops = [self._crops(photograph) for photograph in _photographs()]
        pool = torch.from_numpy(np.concatenate(crops)).permute(0, 3, 1, 2).float() / 255  # (N, 3, size, size)
        contrast = pool.flatten(1).std(1)
        if not bool((contrast >= self.min_contrast).any()):
            raise ValueError(f"dataset.min_contrast is {self.min_contrast:g}; no crop has as much (0.08 keeps most)")
        return split(pool[contrast >= self.min_contrast], self.members, self.non_members, seed, "patches")

    def _crops(self, photograph: np.ndarray) -> np.ndarray:
        rows, columns = photograph.shape[0] // self.size, photograph.shape[1] // self.size
        grid = photograph[: rows * self.size, : columns * self.size]
        grid = grid.reshape(rows, self.size, columns, self.size, 3).swapaxes(1, 2)  # (rows, columns, size, size, 3)
        return grid.reshape(-1, self.size, self.size, 3)

    def fingerprint(self) -> str:
        return "photographs of scikit-image and scikit-learn"


def _photographs() -> list[np.ndarray]:
    """uint8 RGB photographs, each (H, W, 3)."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    own = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.stereo_motorcycle()[0]]
    return own + list(load_sample_images().images)


@dataclass(frozen=True)
class Images:
    """A folder of image files of one size, in any nesting; grey images become RGB where others are.

    path: the folder.
    """

    path: str = ""
    members: int = 50
    non_members: int = 50

    def _files(self) -> list[Path]:
        folder = Path(self.path).expanduser()
        if not self.path:
            raise ValueError("dataset.path is empty; name a folder of images: dataset.path=FOLDER")
        if not folder.is_dir():
            raise ValueError(f"dataset.path={self.path}: there is no such folder")
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise ValueError(f"dataset.path={self.path}: no image in it (looked for {', '.join(IMAGE_SUFFIXES)})")
        return files

    def load(self, seed: int) -> Split:
        arrays: list[np.ndarray] = []
        for file in self._files():
            try:
                with Image.open(file) as image:
                    if image.mode.startswith(("I", "F")):
                        raise ValueError(f"{file}: {image.mode} pixels; convert it to 8 bits a channel")
                    arrays.append(np.asarray(image.convert("RGB")))
            except (UnidentifiedImageError, OSError) as error:
                raise ValueError(f"{file}: cannot be read as an image ({error}); remove or repair it") from error
            if arrays[-1].shape != arrays[0].shape:
                height, width = arrays[-1].shape[:2]
                raise ValueError(
                    f"{file} is {width}x{height} pixels, the images before it {arrays[0].shape[1]}x"
                    f"{arrays[0].shape[0]}; all images of a dataset must have one size"
                )
        pool = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)  # (N, 3, H, W) uint8
        if bool((pool == pool[:, :1]).all()):
            pool = pool[:, :1]  # every image is grey
        return split(pool.float() / 255, self.members, self.non_members, seed, self.path)

    def fingerprint(self) -> str:
        """Names and contents of the files: what identifies the images, wherever the folder lies."""
        folder = Path(self.path).expanduser()
        digest = hashlib.sha256()
        for file in self._files():
            digest.update(f"{file.relative_to(folder)} {_content(file)}\n".encode())
        return digest.hexdigest()


def _content(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror}); remove or repair it") from error


DATASETS = {"faces": Faces, "digits": Digits, "patches": Patches, "images": Images}
