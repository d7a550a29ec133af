"""Stripes of random colours: a prior of another package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memorization.components import SettingError
from memorization.extraction import Arm, Prior


@dataclass(frozen=True)
class Stripes(Prior, Arm):
    """Horizontal stripes of `width` pixels."""

    width: int = 2

    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.width < 1:
            raise SettingError("width", self.width, "the width of a stripe, in pixels: at least 1")

    @property
    def arms(self) -> list[Arm]:
        return [self]

    def draw(self, count: int, shape: tuple[int, int, int], generator: torch.Generator, ends: Tensor) -> Tensor:
        channels, height, width = shape
        colours = torch.rand(count, channels, height, 1, generator=generator)
        rows = torch.arange(height) // self.width
        return colours[:, :, rows].expand(-1, -1, -1, width).clone()
