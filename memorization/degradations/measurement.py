"""What a degradation is, what it returns, and where its randomness comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from memorization.degradations.operators import Operator


@dataclass(frozen=True)
class Measurement:
    """What a degradation did to a batch of images. Only `y` is shown to a blind method.

    y: the degraded images, (B, C, H, W) or smaller, noise included, not clipped.
    operator: the true `H`.
    sigma: the standard deviation of the noise, in pixels of [0, 1].
    erased: (B, 1, H, W) of the image, True where the pixel was erased; nowhere True for operators that erase none.
    """

    y: Tensor
    operator: Operator
    sigma: float
    erased: Tensor


class Degradation(Protocol):
    """Frozen settings of a degradation; calling it on images measures them."""

    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Measurement:
        """Measure `images` (B, C, H, W), image `i` with randomness from `seeds[i]` alone.

        Raises `ValueError` for settings that do not fit the images.
        """


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


def check_noise(noise: float) -> None:
    """Raise `ValueError` for a standard deviation that is none."""
    if not 0 <= noise < float("inf"):
        raise ValueError(f"degradation.noise is {noise:g}; it is a standard deviation in pixels of [0, 1], at least 0")


def check_whole(key: str, value: Any, least: int, what: str) -> None:
    """Raise `ValueError` unless `degradation.<key>` is a whole number of at least `least`, which `what` explains."""
    if not isinstance(value, Integral) or value < least:
        raise ValueError(f"degradation.{key} is {value}; {what}: a whole number, at least {least}")


def check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Raise `ValueError` for a word that is not among the `choices` of `degradation.<key>`."""
    if value not in choices:
        raise ValueError(f"degradation.{key} is {value!r}; choose one of {', '.join(choices)}")
