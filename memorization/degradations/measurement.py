"""What a degradation is, what it returns, and where its randomness comes from."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from memorization.degradations.operators import Operator


@dataclass(frozen=True)
class Measurement:
    """What a degradation did to a batch of images. Only `y` is shown to a blind method."""

    y: Tensor  # the degraded images, (B, C, H, W) or smaller, noise included, not clipped
    operator: Operator  # the true `H`
    sigma: float  # the standard deviation of the noise, in pixels of [0, 1]
    erased: Tensor  # (B, 1, H, W) of the image, True where the pixel was erased; nowhere for operators that erase none


@dataclass(frozen=True)
class Description:
    """What a table of results says of a degradation: a number or word each, missing where it has none."""

    fraction: float = math.nan
    fill: str = "none"
    noise: float = 0.0


class Degradation(ABC):
    """Frozen settings of a degradation; calling it on images measures them. One of your own needs `__call__` alone."""

    erases: bool = False  # it erases pixels and does nothing else but add noise, so that inpainting applies
    keeps_shape: bool = True  # `y` has the shape of the images
    linear: bool = True  # `y` is `H x`, up to fill and noise, for the operator `H` that it reports
    revision: ClassVar[int] = 1

    @abstractmethod
    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Measurement:
        """Measure `images` (B, C, H, W), image `i` with randomness from `seeds[i]` alone.

        Raises `SettingError` for settings that do not fit the images.
        """

    def describe(self) -> Description:
        """Its columns in a table of results."""
        return Description()


def image_seeds(seed: int, indices: Sequence[int]) -> list[int]:
    """One seed an image from the run's seed and the image's index, the same whatever the batch."""
    return [int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0] >> 1) for i in indices]


def check_seeds(images: Tensor, seeds: Sequence[int]) -> None:
    """Raise `ValueError` if there are not as many seeds as images."""
    if len(seeds) != len(images):
        raise ValueError(f"{len(images)} images need as many seeds, not {len(seeds)}")


def generators(images: Tensor, seeds: Sequence[int]) -> list[torch.Generator]:
    """The source of randomness of each image."""
    check_seeds(images, seeds)
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def nothing_erased(images: Tensor) -> Tensor:
    """(B, 1, H, W) bool, False everywhere."""
    return torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.bool, device=images.device)


def gaussian_noise(image: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise for `image`, on the CPU; drawn in float64, so that the dtype does not change the draw."""
    if sigma == 0:
        return torch.zeros((), dtype=image.dtype)
    return sigma * torch.randn(image.shape, generator=generator, dtype=torch.float64).to(image.dtype)
