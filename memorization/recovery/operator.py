"""What a method may know of the operator `H`: the truth, or an estimate that is renewed as the image takes shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from memorization.degradations import Mask, Measurement, Operator


class OperatorKnowledge(Protocol):
    """Frozen settings of a way to know `H`."""

    @property
    def blind(self) -> bool:
        """True if nothing of the measurement but `y` is used."""

    def start(self, measurement: Measurement) -> Operator:
        """`H` before the first iteration."""

    def update(self, operator: Operator, y: Tensor, image: Tensor, iteration: int, progress: float) -> Operator:
        """`H` for the next iteration, from the current `image` (B, C, H, W); the same `operator` where it stays."""


@dataclass(frozen=True)
class Known:
    """The true operator (the oracle of a comparison)."""

    blind: ClassVar[bool] = False

    def start(self, measurement: Measurement) -> Operator:
        return measurement.operator

    def update(self, operator: Operator, y: Tensor, image: Tensor, iteration: int, progress: float) -> Operator:
        return operator


def repeated_value(y: Tensor, radius: float = 0.02) -> Tensor:
    """The colour (B, C, 1, 1) that most pixels of each image of `y` (B, C, H, W) lie close to.

    For an erasure to a constant that is the fill value. "Close" is a Gaussian kernel of standard deviation `radius`;
    the densest of up to 512 evenly spaced pixels is moved to the mean of what is near (mean shift).
    """
    pixels = y.flatten(2).transpose(1, 2)  # (B, P, C)
    stride = max(1, pixels.shape[1] // 512)
    candidates = pixels[:, ::stride]  # (B, S, C)

    def kernel(centres: Tensor) -> Tensor:
        return torch.exp(-0.5 * (torch.cdist(centres, pixels) / radius) ** 2)  # (B, S, P)

    densest = kernel(candidates).sum(2).argmax(1)  # (B,)
    centre = candidates[torch.arange(len(y), device=y.device), densest].unsqueeze(1)  # (B, 1, C)
    for _ in range(5):
        near = kernel(centre)
        centre = near @ pixels / near.sum(2, keepdim=True)
    return centre.transpose(1, 2).unsqueeze(3)


@dataclass(frozen=True)
class FilledMask(Mask):
    """A mask under estimation, with the colour `fill` (B, C, 1, 1) that erased pixels are believed to hold."""

    fill: Tensor

    def select(self, keep: Tensor) -> FilledMask:
        return FilledMask(self.weight[keep], self.fill[keep])


@dataclass(frozen=True)
class Alternating:
    """The paper's alternation for an erasure: the exact 0/1 mask given the current image, once every few iterations.

    A pixel counts as observed if the image explains it at least as well as the fill value does:
    `|image - y|^2 <= |c - y|^2 + tau`, all channels of a pixel together. The fill `c` is the colour most often repeated
    in `y`; that, `tau` and `every` are our choices.
    """

    tau: float = 0.0
    every: int = 1  # iterations of the method between two estimates

    blind: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"operator.every is {self.every}; it must be at least 1")

    def start(self, measurement: Measurement) -> Operator:
        y = measurement.y
        return FilledMask(torch.ones_like(y[:, :1]), repeated_value(y))

    def update(self, operator: Operator, y: Tensor, image: Tensor, iteration: int, progress: float) -> Operator:
        assert isinstance(operator, FilledMask)
        if (iteration - 1) % self.every:
            return operator
        by_image = (image - y).square().sum(1, keepdim=True)  # (B, 1, H, W)
        by_fill = (operator.fill - y).square().sum(1, keepdim=True)
        return FilledMask((by_image <= by_fill + self.tau).to(y.dtype), operator.fill)
