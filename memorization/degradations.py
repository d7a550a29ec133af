"""Degradations: what is done to an image before it is to be recovered, and the linear operators behind them.

A degradation turns a batch of images into a `Measurement`: `y = H x + (1 - H) c + e`, where `H` is the operator,
`c` the fill of erased pixels and `e` Gaussian noise. Its randomness is drawn per image, from that image's seed alone,
so that a measurement depends neither on its batch nor on the device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

FILLS = ("zero", "grey", "mean", "random")
SIDES = ("bottom", "top", "left", "right")


class Operator(Protocol):
    """A linear operator `H` on a batch of images, with what the recovery methods need of it."""

    def forward(self, x: Tensor) -> Tensor:
        """`H x`."""

    def adjoint(self, y: Tensor) -> Tensor:
        """`H^T y`."""

    def pinv(self, y: Tensor) -> Tensor:
        """`H^+ y`, the least-squares image of smallest norm."""

    def solve(self, y: Tensor, v: Tensor, rho: float | Tensor) -> Tensor:
        """The proximal step `argmin_x 1/2 |H x - y|^2 + rho/2 |x - v|^2`; `rho` is a number or (B, 1, 1, 1)."""

    def misfit(self, x: Tensor, y: Tensor) -> Tensor:
        """`|H x - y|^2` of each image, shape (B,)."""

    def select(self, keep: Tensor) -> Operator:
        """The operator of the images that `keep` (a mask or indices over the batch) names."""


@dataclass(frozen=True)
class Mask:
    """Pixel-wise weights in [0, 1], shape (B, 1 or C, H, W): 1 where a pixel is observed, 0 where it is erased.

    Erased pixels of `y` carry a fill value, so the misfit counts observed pixels only. A weight between 0 and 1 (of an
    estimated mask) scales the squared misfit of its pixel.
    """

    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.weight * y

    def pinv(self, y: Tensor) -> Tensor:
        return torch.where(self.weight > 0, y / self.weight.clamp_min(1e-12), 0)

    def solve(self, y: Tensor, v: Tensor, rho: float | Tensor) -> Tensor:
        return (self.weight * y + rho * v) / (self.weight + rho)

    def misfit(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.weight * (x - y) ** 2).flatten(1).sum(1)

    def select(self, keep: Tensor) -> Mask:
        return Mask(self.weight[keep])


@dataclass(frozen=True)
class Measurement:
    """What a degradation did to a batch of images. Only `y` is shown to a blind method.

    y: the degraded images, (B, C, H, W) or smaller, noise included, not clipped.
    operator: the true `H`.
    sigma: the standard deviation of the noise, in pixels of [0, 1].
    erased: (B, 1, H, W), True where the pixel was erased; nowhere True for operators that erase none.
    """

    y: Tensor
    operator: Operator
    sigma: float
    erased: Tensor


class Degradation(Protocol):
    """Frozen settings of a degradation; calling it on images measures them."""

    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Measurement:
        """Measure `images` (B, C, H, W), image `i` with randomness from `seeds[i]` alone."""


def image_seeds(seed: int, indices: Sequence[int]) -> list[int]:
    """One seed an image from the run's seed and the image's index, the same whatever the batch."""
    return [int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0] >> 1) for i in indices]


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise ValueError(f"degradation.fraction is {fraction:g}; it must lie between 0 and 1, both excluded")


def _check_fill(fill: str) -> None:
    if fill not in FILLS:
        raise ValueError(f"degradation.fill is {fill!r}; choose one of {', '.join(FILLS)}")


def _check_noise(noise: float) -> None:
    if not 0 <= noise < float("inf"):
        raise ValueError(f"degradation.noise is {noise:g}; it is a standard deviation in pixels of [0, 1], at least 0")


@dataclass(frozen=True)
class _Erasure(ABC):
    """Erases pixels, all channels of a pixel together. Subclasses say which in `_erased`.

    fraction: share of pixels erased, in (0, 1).
    fill: what erased pixels hold: zero, grey (0.5), mean (the image's mean colour) or random (uniform in [0, 1]).
    noise: standard deviation of the Gaussian noise added to every pixel.
    """

    fraction: float = 0.5
    fill: str = "zero"
    noise: float = 0.0

    def __post_init__(self) -> None:
        _check_fraction(self.fraction)
        _check_fill(self.fill)
        _check_noise(self.noise)

    @abstractmethod
    def _erased(self, height: int, width: int, generator: torch.Generator) -> Tensor:
        """(H, W) bool, True where erased."""

    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Measurement:
        if len(seeds) != len(images):
            raise ValueError(f"{len(images)} images need as many seeds, not {len(seeds)}")
        height, width = images.shape[2:]
        y = torch.empty_like(images)
        erased = torch.empty(len(images), 1, height, width, dtype=torch.bool)
        for i, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(seed)
            image = images[i].cpu()
            erased[i, 0] = self._erased(height, width, generator)
            if not 0 < (count := int(erased[i].sum())) < height * width:
                raise ValueError(
                    f"degradation.fraction={self.fraction:g} erases {count} of the {height * width} pixels of a "
                    f"{width}x{height} image; choose one that erases some and leaves some"
                )
            fill = _fill(image, self.fill, generator)
            y[i] = torch.where(erased[i], fill, image) + _noise(image, self.noise, generator)
        erased = erased.to(images.device)
        return Measurement(y=y, operator=Mask((~erased).to(images.dtype)), sigma=self.noise, erased=erased)


def _fill(image: Tensor, fill: str, generator: torch.Generator) -> Tensor:
    """What the erased pixels of `image` (C, H, W) hold; broadcasts to its shape."""
    if fill == "random":
        return torch.rand(image.shape, generator=generator, dtype=torch.float64).to(image.dtype)
    if fill == "mean":
        return image.mean((1, 2), keepdim=True)
    return torch.full((1, 1, 1), 0.0 if fill == "zero" else 0.5, dtype=image.dtype)


def _noise(image: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise in the shape of `image`; drawn in float64, so that the dtype does not change the draw."""
    if sigma == 0:
        return torch.zeros((), dtype=image.dtype)
    return sigma * torch.randn(image.shape, generator=generator, dtype=torch.float64).to(image.dtype)


@dataclass(frozen=True)
class RandomPixels(_Erasure):
    """Erases `fraction` of the pixels, chosen at random (their number is exact)."""

    fraction: float = 0.8

    def _erased(self, height: int, width: int, generator: torch.Generator) -> Tensor:
        count = round(self.fraction * height * width)
        erased = torch.zeros(height * width, dtype=torch.bool)
        erased[torch.randperm(height * width, generator=generator)[:count]] = True
        return erased.view(height, width)


@dataclass(frozen=True)
class Box(_Erasure):
    """Erases one box with the image's aspect ratio and `fraction` of its area, at a random place."""

    fraction: float = 0.36  # 60 % of the height times 60 % of the width

    def _erased(self, height: int, width: int, generator: torch.Generator) -> Tensor:
        box_height, box_width = (max(1, round(self.fraction**0.5 * side)) for side in (height, width))
        top = int(torch.randint(height - box_height + 1, (), generator=generator))
        left = int(torch.randint(width - box_width + 1, (), generator=generator))
        erased = torch.zeros(height, width, dtype=torch.bool)
        erased[top : top + box_height, left : left + box_width] = True
        return erased


@dataclass(frozen=True)
class Half(_Erasure):
    """Erases `fraction` of the image from one side inwards (the lower half by default)."""

    side: str = "bottom"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.side not in SIDES:
            raise ValueError(f"degradation.side is {self.side!r}; choose one of {', '.join(SIDES)}")

    def _erased(self, height: int, width: int, generator: torch.Generator) -> Tensor:
        erased = torch.zeros(height, width, dtype=torch.bool)
        rows, columns = round(self.fraction * height), round(self.fraction * width)
        match self.side:
            case "bottom":
                erased[height - rows :] = True
            case "top":
                erased[:rows] = True
            case "left":
                erased[:, :columns] = True
            case "right":
                erased[:, width - columns :] = True
        return erased


@dataclass(frozen=True)
class Noise:
    """Adds Gaussian noise of standard deviation `noise` and erases nothing; every pixel is scored."""

    noise: float = 0.1

    def __post_init__(self) -> None:
        _check_noise(self.noise)

    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Measurement:
        noise = [
            _noise(image.cpu(), self.noise, torch.Generator().manual_seed(seed))
            for image, seed in zip(images, seeds, strict=True)
        ]
        ones = torch.ones(len(images), 1, *images.shape[2:], dtype=images.dtype, device=images.device)
        y = images + torch.stack([n.expand(images.shape[1:]) for n in noise]).to(images.device)
        return Measurement(y=y, operator=Mask(ones), sigma=self.noise, erased=ones < 0.5)


DEGRADATIONS = {"random_pixels": RandomPixels, "box": Box, "half": Half, "noise": Noise}
