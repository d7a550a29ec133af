"""Erasures: some pixels of the image are replaced by a fill value, and those are the pixels scored."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from memorization.components import SettingError, number
from memorization.degradations.checks import as_choice, check_noise, check_whole
from memorization.degradations.measurement import Degradation, Description, Measurement, gaussian_noise, generators
from memorization.degradations.operators import Mask

Fill = StrEnum("Fill", ["zero", "grey", "mean", "random"])
Side = StrEnum("Side", ["bottom", "top", "left", "right"])
Direction = StrEnum("Direction", ["horizontal", "vertical"])
FILLS = tuple(Fill)


@dataclass(frozen=True)
class _Erasure(Degradation):
    """Erases pixels, all channels of a pixel together. Subclasses say which in `_erased`.

    fraction: share of pixels erased, in (0, 1).
    fill: what erased pixels hold: zero, grey (0.5), mean (the image's mean colour) or random (uniform in [0, 1]).
    noise: standard deviation of the Gaussian noise added to every pixel.
    """

    fraction: float = 0.5
    fill: Fill = Fill.zero
    noise: float = 0.0

    erases = True

    def __post_init__(self) -> None:
        if not 0 < number(self.fraction) < 1:
            raise SettingError("fraction", self.fraction, "it must lie between 0 and 1, both excluded")
        as_choice(self, "fill", Fill)
        check_noise(self.noise)

    @abstractmethod
    def _erased(self, height: int, width: int, generator: torch.Generator) -> Tensor:
        """(H, W) bool, True where erased."""

    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Measurement:
        y, (height, width) = torch.empty_like(images), images.shape[2:]
        erased = torch.empty(len(images), 1, height, width, dtype=torch.bool)
        for i, generator in enumerate(generators(images, seeds)):
            image = images[i].cpu()
            erased[i, 0] = self._erased(height, width, generator)
            if not 0 < (count := int(erased[i].sum())) < height * width:
                what = f"it erases {count} of the {height * width} pixels of a {width}x{height} image"
                raise SettingError("fraction", self.fraction, f"{what}; choose one that erases some and leaves some")
            fill = _fill(image, self.fill, generator)
            y[i] = torch.where(erased[i], fill, image) + gaussian_noise(image, self.noise, generator)
        erased = erased.to(images.device)
        return Measurement(y=y, operator=Mask((~erased).to(images.dtype)), sigma=self.noise, erased=erased)

    def describe(self) -> Description:
        return Description(float(self.fraction), self.fill.value, float(self.noise))


def _fill(image: Tensor, fill: Fill, generator: torch.Generator) -> Tensor:
    """What the erased pixels of `image` (C, H, W) hold; broadcasts to its shape."""
    if fill is Fill.random:
        return torch.rand(image.shape, generator=generator, dtype=torch.float64).to(image.dtype)
    if fill is Fill.mean:
        return image.mean((1, 2), keepdim=True)
    return torch.full((1, 1, 1), 0.0 if fill is Fill.zero else 0.5, dtype=image.dtype)


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

    side: Side = Side.bottom

    def __post_init__(self) -> None:
        super().__post_init__()
        as_choice(self, "side", Side)

    def _erased(self, height: int, width: int, generator: torch.Generator) -> Tensor:
        upright = self.side in (Side.bottom, Side.top)
        length = height if upright else width
        line = torch.arange(length) < round(self.fraction * length)  # from the top or from the left
        line = line.flip(0) if self.side in (Side.bottom, Side.right) else line
        return (line[:, None] if upright else line).expand(height, width)


@dataclass(frozen=True)
class Stripes(_Erasure):
    """Erases parallel bands at even distances, at a random place; a band that leaves the image enters opposite.

    width: of a band, in pixels, as nearly as the fraction allows. direction: horizontal or vertical.
    """

    width: int = 3
    direction: Direction = Direction.horizontal

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("width", self.width, 1, "the pixels of a stripe:")
        as_choice(self, "direction", Direction)

    def _erased(self, height: int, width: int, generator: torch.Generator) -> Tensor:
        lines = height if self.direction is Direction.horizontal else width
        if self.width >= lines:
            across = f"across {self.direction} stripes a {width}x{height} image has {lines} pixels"
            raise SettingError("width", self.width, f"choose one below {lines}: {across}")
        count = round(self.fraction * lines)
        bands = max(1, min(round(count / self.width), count, lines - count))
        # Bands and the gaps after them, each share as even as whole pixels are.
        edges = torch.arange(bands + 1) * torch.tensor([[count], [lines - count]]) // bands  # (2, bands + 1)
        lengths = edges.diff().T.flatten()  # band, gap, band, gap, ...
        line = torch.tensor([True, False]).repeat(bands).repeat_interleave(lengths)
        line = line.roll(int(torch.randint(lines, (), generator=generator)))
        return (line[:, None] if self.direction is Direction.horizontal else line).expand(height, width)


@dataclass(frozen=True)
class Strokes(_Erasure):
    """Erases brush strokes, the free-form masks of inpainting (after Yu et al., 2019, arXiv:1806.03589).

    Strokes are drawn one after another until `fraction` is erased; the last one ends there, so that the share is exact.
    A stroke is a random walk of up to 8 segments, up to a third of the shorter side long, drawn with a round brush of a
    twentieth to a sixth of it.
    """

    fraction: float = 0.4

    def _erased(self, height: int, width: int, generator: torch.Generator) -> Tensor:
        def uniform(low: float, high: float) -> float:
            return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))

        count, side = round(self.fraction * height * width), min(height, width)
        rows = torch.arange(height, dtype=torch.float64)[:, None] + 0.5
        columns = torch.arange(width, dtype=torch.float64) + 0.5
        erased = torch.zeros(height, width, dtype=torch.bool)
        while int(erased.sum()) < count:
            radius = max(0.71, uniform(side / 40, side / 12))  # that of a pixel, so that no segment is empty
            row, column, angle = uniform(0, height), uniform(0, width), uniform(0, 2 * math.pi)
            for _ in range(int(uniform(3, 9))):
                angle += uniform(-2 * math.pi / 5, 2 * math.pi / 5)
                length = uniform(side / 10, side / 3)
                end_row = min(max(row + length * math.sin(angle), 0), height)
                end_column = min(max(column + length * math.cos(angle), 0), width)
                down, right = end_row - row, end_column - column
                along = ((rows - row) * down + (columns - column) * right) / max(down**2 + right**2, 1e-12)
                share = along.clamp(0, 1)  # (H, W) where on the segment a pixel's nearest point lies
                distance = torch.hypot(rows - row - share * down, columns - column - share * right)
                new = ((distance <= radius) & ~erased).flatten().nonzero().flatten()
                first = new[along.flatten()[new].argsort(stable=True)]
                erased.view(-1)[first[: count - int(erased.sum())]] = True
                row, column = end_row, end_column
        return erased
