"""Linear degradations that erase no pixel: `y = H x + e`. Every pixel is scored."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from memorization.components import SettingError, number
from memorization.degradations import measurement
from memorization.degradations.checks import check_noise, check_positive, check_whole
from memorization.degradations.measurement import Degradation, Description, Measurement
from memorization.degradations.operators import Convolution, Downsampling, Mask, Operator, Scaling


@dataclass(frozen=True)
class _Linear(Degradation):
    """Applies an operator, which subclasses make in `_operator`, and adds noise.

    noise: standard deviation of the Gaussian noise added to every value of `y`.
    """

    noise: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        check_noise(self.noise)

    @abstractmethod
    def _operator(self, images: Tensor, sources: list[torch.Generator]) -> Operator:
        """The operator on `images`, with what is random in it from each image's source."""

    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Measurement:
        sources = measurement.generators(images, seeds)
        operator = self._operator(images, sources)
        parts = []
        for i, source in enumerate(sources):  # one by one: a transform's rounding may depend on the size of its batch
            part = operator.select(torch.tensor([i], device=images.device)).forward(images[i : i + 1])
            parts.append(part + measurement.gaussian_noise(part, self.noise, source).to(part.device))
        return Measurement(torch.cat(parts), operator, self.noise, measurement.nothing_erased(images))

    def describe(self) -> Description:
        return Description(noise=float(self.noise))


def _check_fits(field: str, value: float, height: int, width: int) -> None:
    """Raise `SettingError` for a length in pixels that is longer than the shorter side of the images."""
    if value > (side := min(height, width)):
        raise SettingError(field, value, f"choose at most {side}, the shorter side of the {width}x{height} images")


@dataclass(frozen=True)
class Noise(_Linear):
    """Adds Gaussian noise of standard deviation `noise` to the image and does nothing else."""

    noise: float = 0.1

    def _operator(self, images: Tensor, sources: list[torch.Generator]) -> Operator:
        return Mask(torch.ones_like(images[:, :1]))


@dataclass(frozen=True)
class Blur(_Linear):
    """Convolves with a Gaussian, circularly; `width` is its standard deviation in pixels."""

    width: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < number(self.width) < math.inf:
            raise SettingError("width", self.width, "a Gaussian's width in pixels is above 0 and finite")

    def _operator(self, images: Tensor, sources: list[torch.Generator]) -> Operator:
        height, width = images.shape[2:]
        _check_fits("width", self.width, height, width)
        deviation = torch.tensor([self.width], dtype=torch.float64)
        return _convolution([Convolution.gaussian(deviation, height, width).transfer], images)


@dataclass(frozen=True)
class MotionBlur(_Linear):
    """Convolves with a straight line, circularly.

    length: of the line, in pixels. angle: degrees, anticlockwise from the horizontal; null draws one an image.
    """

    length: int = 9
    angle: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("length", self.length, 2, "the pixels of a line:")
        if self.angle is not None and not math.isfinite(number(self.angle)):
            raise SettingError("angle", self.angle, "give degrees, or leave it out for a random one an image")

    def _operator(self, images: Tensor, sources: list[torch.Generator]) -> Operator:
        height, width = images.shape[2:]
        if self.length > height + width:
            reason = f"beyond which the line goes round the {width}x{height} images again and again"
            raise SettingError("length", self.length, f"choose at most {height + width}, {reason}")
        if self.angle is not None:
            angles = [self.angle]
        else:
            angles = [180 * float(torch.rand((), generator=source, dtype=torch.float64)) for source in sources]
        kernels = [_line(self.length, angle)[None, None] for angle in angles]
        return _convolution([Convolution.from_kernel(kernel, height, width).transfer for kernel in kernels], images)


def _line(length: int, angle: float) -> Tensor:
    """A line's kernel, (k, k), k odd: `length` points one pixel apart, each shared among the four pixels around it."""
    radius = length // 2 + 1
    kernel = torch.zeros(2 * radius + 1, 2 * radius + 1, dtype=torch.float64)
    along = torch.arange(length, dtype=torch.float64) - (length - 1) / 2
    row = radius - along * math.sin(math.radians(angle))
    column = radius + along * math.cos(math.radians(angle))
    for down in (0, 1):
        for right in (0, 1):
            i, j = row.floor() + down, column.floor() + right
            share = (1 - (row - i).abs()) * (1 - (column - j).abs()) / length
            kernel.index_put_((i.long(), j.long()), share, accumulate=True)
    return kernel


def _convolution(transfers: list[Tensor], images: Tensor) -> Convolution:
    """The operator of one transfer function an image, or of one for all, each computed on its own in float64."""
    return Convolution(torch.cat(transfers).to(images.device, images.dtype.to_complex()))


@dataclass(frozen=True)
class Downsample(_Linear):
    """Replaces blocks of `factor` x `factor` pixels by their mean, so that `y` is smaller than the image."""

    factor: int = 4

    keeps_shape = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("factor", self.factor, 2, "the side of a block, in pixels:")

    def _operator(self, images: Tensor, sources: list[torch.Generator]) -> Operator:
        height, width = images.shape[2:]
        _check_fits("factor", self.factor, height, width)
        return Downsampling(self.factor, height, width)


@dataclass(frozen=True)
class Gain(_Linear):
    """Multiplies each image by a number drawn uniformly from [`lowest`, `highest`]."""

    lowest: float = 0.3
    highest: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "lowest")
        if not self.lowest <= number(self.highest) < math.inf:
            raise SettingError("highest", self.highest, f"it must be finite and at least `lowest`, {self.lowest:g}")

    def _operator(self, images: Tensor, sources: list[torch.Generator]) -> Operator:
        share = torch.stack([torch.rand((), generator=source, dtype=torch.float64) for source in sources])
        gain = self.lowest + (self.highest - self.lowest) * share
        return Scaling(gain.to(images).view(-1, 1, 1, 1))
