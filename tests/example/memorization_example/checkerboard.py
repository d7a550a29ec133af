"""Erases the fields of one colour of a checkerboard: a degradation of another package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memorization.components import SettingError
from memorization.degradations import Degradation, Description, Mask, Measurement


@dataclass(frozen=True)
class Checkerboard(Degradation):
    """Erases half of the pixels, in fields of `side` x `side`, to 0.

    side: of a field, in pixels; the first field of an image, at the top on the left, is seen
        whole, and those at the margin may be cut.
    """

    side: int = 2

    erases: ClassVar[bool] = True
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.side < 1:
            raise SettingError("side", self.side, "the side of a field, in pixels: at least 1")

    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Measurement:
        rows, columns = (torch.arange(side) // self.side for side in images.shape[2:])
        erased = ((rows[:, None] + columns) % 2 == 1).expand(len(images), 1, -1, -1)
        seen = (~erased).to(images)
        return Measurement(y=images * seen, operator=Mask(seen), sigma=0.0, erased=erased.to(images.device))

    def describe(self) -> Description:
        return Description(fraction=0.5, fill="zero")
