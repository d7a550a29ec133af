"""Priors of an extraction: where the starting images come from. None of them knows a training image.

A prior is drawn in `arms`, each a prior of one kind. The search measures how often each arm leads to an end that was
not seen before, and draws more from those that do.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from memorization.architectures.autoencoder import Autoencoder
from memorization.components import Record, Registry, SettingError, number
from memorization.data import Images, as_float
from memorization.data.decoding import Mode
from memorization.degradations.checks import as_choice, check_flag, check_positive

MIN_SIDE = 8  # pixels, to which images of a folder can be scaled at least
DEFLATIONS = tuple((share, radius) for share in (0.5, 0.7, 0.85) for radius in (1.0, 2.0, 4.0))
DEFLATED_STEPS = 20
MOST_DEFLATED = 1000  # ends whose span is left out; bounds the time of its basis
MOST_SCALE = 1e6  # of noise, in pixels of [0, 1]; float32 has no squares of much larger ones
CENTRE = 0.5  # grey: with queries alone, nothing is known of where the images lie


class Prior(ABC):
    """Where an extraction starts: frozen settings. The search draws from its arms."""

    revision: ClassVar[int] = 1

    @property
    @abstractmethod
    def arms(self) -> list[Arm]:
        """The kinds of starting images that it is drawn from; at least one needs no end."""

    def identity(self) -> Record:
        """The settings that can change the draw: what the signature of a run is made of."""
        identity: Record = asdict(self)  # type: ignore[call-overload]
        return identity


class Arm(ABC):
    """One kind of starting images: frozen settings, and a draw that depends on its generator and the ends found."""

    needs: ClassVar[int] = 0  # ends that must be known before it can be drawn
    steps: ClassVar[int] = 0  # queries an image that `approach` takes

    @abstractmethod
    def draw(self, count: int, shape: tuple[int, int, int], generator: torch.Generator, ends: Tensor) -> Tensor:
        """`count` starting images (count, C, H, W), float32, on the CPU; they may leave [0, 1].

        shape: (C, H, W). ends: (K, C, H, W), the distinct ends found so far, at least `needs`.
        """

    def approach(self, autoencoder: Autoencoder, starts: Tensor, ends: Tensor) -> Tensor:
        """Where the iteration begins, (B, C, H, W), from `starts` on their device."""
        return starts


@dataclass(frozen=True)
class Noise(Prior, Arm):
    """Gaussian noise about grey, of amplitude spectrum `1 / f^spectrum` and standard deviation `scale`.

    How alike the channels of an image are is drawn anew for each image: from independent ones to a grey image.
    """

    spectrum: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, "scale")
        if self.scale > MOST_SCALE:
            raise SettingError("scale", self.scale, f"it is a deviation in pixels of [0, 1], at most {MOST_SCALE:g}")
        if not 0 <= number(self.spectrum) <= 10:
            raise SettingError("spectrum", self.spectrum, "it is the exponent of 1/f^spectrum, from 0 (white) to 10")

    @property
    def arms(self) -> list[Arm]:
        return [self]

    def draw(self, count: int, shape: tuple[int, int, int], generator: torch.Generator, ends: Tensor) -> Tensor:
        channels, height, width = shape
        alike = torch.rand(count, 1, 1, 1, generator=generator) if channels > 1 else torch.zeros(count, 1, 1, 1)
        white = torch.randn(count, channels + 1, height, width, generator=generator)
        coloured = _coloured(white, self.spectrum)
        return CENTRE + self.scale * (alike.sqrt() * coloured[:, :1] + (1 - alike).sqrt() * coloured[:, 1:])


def _coloured(white: Tensor, spectrum: float) -> Tensor:
    """White noise (B, C, H, W) with its amplitudes divided by `frequency^spectrum`, of deviation 1 again."""
    height, width = white.shape[2:]
    if not spectrum or not len(white) or height * width == 1:
        return white
    frequency = torch.fft.fftfreq(height)[:, None].square() + torch.fft.rfftfreq(width).square()
    frequency[0, 0] = 1 / max(height, width) ** 2  # the mean varies as much as the lowest frequency
    filtered = torch.fft.irfft2(torch.fft.rfft2(white) * frequency ** (-spectrum / 2), s=(height, width))
    deviation: Tensor = filtered.square().mean((1, 2, 3), keepdim=True).sqrt()
    return torch.div(filtered, deviation)


# How two ends, or one, become a starting image: see `Combined`.
Kind = StrEnum("Kind", ["between", "beyond", "turned", "disturbed"])


@dataclass(frozen=True)
class Combined(Arm):
    """One or two of the ends found so far, made into a starting image.

    between: a point on the line between two of them. beyond: further along that line, up to five times their distance.
    turned: one, mirrored or turned, its channels exchanged. disturbed: one, with noise of a natural image's spectrum.
    """

    kind: Kind = Kind.between

    needs = 2

    def __post_init__(self) -> None:
        as_choice(self, "kind", Kind)

    def draw(self, count: int, shape: tuple[int, int, int], generator: torch.Generator, ends: Tensor) -> Tensor:
        first, second = ends[torch.randint(len(ends), (2, count), generator=generator)]
        share = torch.rand(count, 1, 1, 1, generator=generator)
        if self.kind is Kind.between:
            between: Tensor = torch.lerp(first, second, share)
            return between
        if self.kind is Kind.beyond:
            beyond: Tensor = first + 5 * share * (first - second)
            return beyond
        if self.kind is Kind.disturbed:
            noise = Noise(spectrum=1.0).draw(count, shape, generator, ends) - CENTRE
            disturbed: Tensor = first + share * noise
            return disturbed
        turns = torch.randint(1, 8, (count,), generator=generator).tolist()
        order = torch.rand(count, shape[0], generator=generator).argsort(1)
        return torch.stack([_turned(image[o], turn) for image, o, turn in zip(first, order, turns, strict=True)])


def _turned(image: Tensor, turn: int) -> Tensor:
    """The image (C, H, W) mirrored across, down, or about its diagonal (of a square), by the bits of `turn`."""
    axes = [axis for bit, axis in ((1, 1), (2, 2)) if turn & bit]
    image = image.flip(axes)
    return image.mT if turn & 4 and image.shape[1] == image.shape[2] else image


@dataclass(frozen=True)
class Deflated(Arm):
    """Noise that is iterated away from what was found, before it is iterated freely (our own).

        d <- f(m + d) - m;   d <- d - share P d;   d <- radius r d / |d|

    `P` projects onto the span of the ends found so far about their mean `m`, and `r` is their root mean square distance
    from it. An image's basin may be hidden: from afar, every path ends at others. Without their share in the iterate,
    what is left points to images that were not found. Steps are few, and the iteration that follows is the plain one,
    so that an end is a fixed point of `f` itself. A step that is not finite is not taken.
    """

    share: float = 0.85
    radius: float = 2.0

    needs = 2
    steps = DEFLATED_STEPS

    def draw(self, count: int, shape: tuple[int, int, int], generator: torch.Generator, ends: Tensor) -> Tensor:
        smooth = count // 2
        parts = (
            Noise(2.0, 1.0).draw(smooth, shape, generator, ends),
            Noise(1.0, 5.0).draw(count - smooth, shape, generator, ends),
        )
        return torch.cat(parts)

    @torch.no_grad()
    def approach(self, autoencoder: Autoencoder, starts: Tensor, ends: Tensor) -> Tensor:
        some = ends[:: -(-len(ends) // MOST_DEFLATED)].to(starts)
        mean = some.mean(0)
        apart = (some - mean).flatten(1)  # (K, P)
        basis = torch.linalg.qr(apart.T).Q  # (P, K)
        length = self.radius * apart.norm(dim=1).square().mean().sqrt()
        x = starts
        for _ in range(self.steps):
            d = (autoencoder(x) - mean).flatten(1)
            d = d - self.share * (d @ basis) @ basis.T
            d = d * (length / d.norm(dim=1, keepdim=True).clamp_min(1e-12))
            found = mean + d.view_as(starts)
            x = torch.where(found.flatten(1).isfinite().all(1).view(-1, 1, 1, 1), found, x)
        return x


@dataclass(frozen=True)
class Mixture(Prior):
    """Noise of all `spectra` and `scales`, and what is made of the ends found so far; each is an arm of the search.

    combinations: also start from combinations of ends. deflation: also iterate noise away from the ends.
    """

    spectra: list[float] = field(default_factory=lambda: [0.0, 1.0, 2.0])
    scales: list[float] = field(default_factory=lambda: [1.0, 5.0, 20.0])
    combinations: bool = True
    deflation: bool = True

    def __post_init__(self) -> None:
        for name in ("spectra", "scales"):
            values = getattr(self, name)
            if not isinstance(values, list | tuple) or not values:
                raise SettingError(name, values, "name at least one, in a list such as [0.0, 1.0]")
        for name in ("combinations", "deflation"):
            check_flag(name, getattr(self, name))
        try:
            _ = self.arms
        except SettingError as error:
            field = {"spectrum": "spectra", "scale": "scales"}[error.field]
            raise SettingError(field, list(getattr(self, field)), error.reason) from error

    @property
    def arms(self) -> list[Arm]:
        noises: list[Arm] = [Noise(spectrum, scale) for spectrum in self.spectra for scale in self.scales]
        noises += [Combined(kind) for kind in Kind if self.combinations]
        return noises + [Deflated(*setting) for setting in DEFLATIONS if self.deflation]


@dataclass(frozen=True)
class Combinations(Prior):
    """Combinations of what was found, begun with noise of one `spectrum` and `scale`."""

    spectrum: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        _ = self.arms

    @property
    def arms(self) -> list[Arm]:
        return [Noise(self.spectrum, self.scale), *(Combined(kind) for kind in Kind)]


@dataclass(frozen=True)
class Folder(Prior, Arm):
    """Images of your own that are no training images: a folder, a parquet file or a set of the hub (see `Images`).

    They are scaled to the shape that the autoencoder takes. `noise`: of deviation `noise`, added to them, so that an
    image can be drawn more than once.
    """

    path: str = ""
    noise: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= number(self.noise) < math.inf:
            raise SettingError("noise", self.noise, "it is a standard deviation in pixels of [0, 1], at least 0")

    @property
    def arms(self) -> list[Arm]:
        return [self]

    def identity(self) -> Record:
        return {"noise": self.noise, "fingerprint": Images(self.path).fingerprint()}  # wherever they lie

    def draw(self, count: int, shape: tuple[int, int, int], generator: torch.Generator, ends: Tensor) -> Tensor:
        images = _every(self._source(shape))
        chosen = images[torch.randint(len(images), (count,), generator=generator)]
        fitted = functional.interpolate(as_float(chosen), shape[1:], mode="bilinear", antialias=True)
        return fitted + self.noise * torch.randn(fitted.shape, generator=generator)

    def _source(self, shape: tuple[int, int, int]) -> Images:
        if shape[0] not in (1, 3):
            raise SettingError("path", self.path, f"images have 1 or 3 channels, and the autoencoder takes {shape[0]}")
        return Images(self.path, mode=Mode.L if shape[0] == 1 else Mode.RGB, size=max(MIN_SIDE, *shape[1:]))


@cache  # each batch draws from the same images
def _every(source: Images) -> Tensor:
    return source.every()


PRIORS: Registry[Any] = Registry(
    "priors", {"mixture": Mixture, "noise": Noise, "combinations": Combinations, "images": Folder}
)
