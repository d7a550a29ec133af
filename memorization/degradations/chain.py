"""Two degradations in a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from memorization.degradations.coding import Jpeg, Quantise
from memorization.degradations.linear import Noise
from memorization.degradations.measurement import Degradation, Measurement, image_seeds
from memorization.degradations.operators import compose


@dataclass(frozen=True)
class Chain:
    """Applies `first`, then `second` to what `first` left: `Chain(Blur(2.0), RandomPixels(0.8))`.

    `first` must be linear and free of noise, for the whole to be `H x` with one operator and one noise; either may be a
    chain itself. The pixels erased by either part are scored; a mask of `second` on a measurement smaller than the
    image erases none of the image's pixels.
    """

    first: Degradation
    second: Degradation

    def __post_init__(self) -> None:
        for key, part in parts("degradation.first", self.first):
            if isinstance(part, (Jpeg, Quantise)):
                raise ValueError(f"{key} is {type(part).__name__}, which is not linear; put it second")
            if noise := getattr(part, "noise", 0.0):
                raise ValueError(f"{key}.noise is {noise:g}; set it to 0 and let the second part add noise")
            if (fill := getattr(part, "fill", "zero")) != "zero":
                raise ValueError(f"{key}.fill is {fill!r}; only zero is linear: choose it, or put this part second")

    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Measurement:
        own = [image_seeds(seed, (0, 1)) for seed in seeds]
        first = _measured("first", self.first, images, [seed for seed, _ in own])
        second = _measured("second", self.second, first.y, [seed for _, seed in own])
        identity = isinstance(self.second, (Noise, Jpeg, Quantise))
        same = first.erased.shape == second.erased.shape
        return Measurement(
            y=second.y,
            operator=first.operator if identity else compose(second.operator, first.operator),
            sigma=second.sigma,
            erased=first.erased | second.erased if same else first.erased,
        )


def parts(key: str, degradation: Degradation) -> Iterator[tuple[str, Degradation]]:
    """The degradations that `degradation` consists of, each with its key."""
    if isinstance(degradation, Chain):
        yield from parts(f"{key}.first", degradation.first)
        yield from parts(f"{key}.second", degradation.second)
    else:
        yield key, degradation


def _measured(part: str, degradation: Degradation, images: Tensor, seeds: Sequence[int]) -> Measurement:
    """The measurement of one part, whose errors name that part's keys."""
    try:
        return degradation(images, seeds)
    except ValueError as error:
        raise ValueError(str(error).replace("degradation.", f"degradation.{part}.")) from error
