"""One hidden layer: an architecture of another package."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class Shallow(nn.Module):
    """`width` hidden units with a tanh."""

    has_modes: ClassVar[bool] = False
    revision: ClassVar[int] = 1

    def __init__(self, shape: tuple[int, int, int], width: int = 64) -> None:
        super().__init__()
        pixels = shape[0] * shape[1] * shape[2]
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, width), nn.Tanh(), nn.Linear(width, pixels), nn.Unflatten(1, shape)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y
