"""What a method may know of the operator `H`: the truth, or an estimate that is renewed as the image takes shape."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from memorization.degradations import Mask, Measurement, Operator


@dataclass(frozen=True)
class Estimate:
    """What is believed of a batch's measurements.

    operator: the `H` in use.
    sigma: (B,) standard deviation of the noise, in pixels of [0, 1]; 0 where nothing is known of it.
    details: (B, ...) tensors of the knowledge's own.
    """

    operator: Operator
    sigma: Tensor
    details: dict[str, Tensor] = field(default_factory=dict)

    def select(self, keep: Tensor) -> Estimate:
        """The estimate of the images that `keep` names."""
        details = {name: tensor[keep] for name, tensor in self.details.items()}
        return Estimate(self.operator.select(keep), self.sigma[keep], details)


class OperatorKnowledge(Protocol):
    """Frozen settings of a way to know `H`."""

    @property
    def blind(self) -> bool:
        """True if nothing of the measurement but `y` is used."""

    def start(self, measurement: Measurement) -> Estimate:
        """What is believed before the first iteration."""

    def update(self, estimate: Estimate, y: Tensor, image: Tensor, iteration: int, progress: float) -> Estimate:
        """The belief for the next iteration, from the current `image` (B, C, H, W); `estimate` itself if it stays."""


@dataclass(frozen=True)
class Known:
    """The true operator and noise level (the oracle of a comparison)."""

    blind: ClassVar[bool] = False

    def start(self, measurement: Measurement) -> Estimate:
        y = measurement.y
        return Estimate(measurement.operator, y.new_full((len(y),), measurement.sigma))

    def update(self, estimate: Estimate, y: Tensor, image: Tensor, iteration: int, progress: float) -> Estimate:
        return estimate


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
        if not 0 <= self.tau < math.inf:
            raise ValueError(f"operator.tau is {self.tau:g}; it must be at least 0 and finite")
        if self.every < 1:
            raise ValueError(f"operator.every is {self.every}; it must be at least 1")

    def start(self, measurement: Measurement) -> Estimate:
        y = measurement.y
        return Estimate(Mask(torch.ones_like(y[:, :1])), y.new_zeros(len(y)), {"fill": repeated_value(y)})

    def update(self, estimate: Estimate, y: Tensor, image: Tensor, iteration: int, progress: float) -> Estimate:
        if (iteration - 1) % self.every:
            return estimate
        by_image = (image - y).square().sum(1, keepdim=True)  # (B, 1, H, W)
        by_fill = (estimate.details["fill"] - y).square().sum(1, keepdim=True)
        return replace(estimate, operator=Mask((by_image <= by_fill + self.tau).to(y.dtype)))


@dataclass(frozen=True)
class Robust:
    """Blind, by likelihood (our own): a pixel of `y` is observed, or erased to a repeated colour, or to anything.

    Observed pixels are Gaussian around the current image with a deviation annealed from `widest` to `narrowest`, as in
    Geman-McClure or iteratively reweighted estimation; repeated ones are Gaussian around a fill colour; the rest is
    uniform in [0, 1]. A pixel's channels are judged together. Shares, fill colour and its deviation are re-estimated
    from each image by expectation-maximisation, one round an iteration; a pixel's weight is its probability of being
    observed.
    """

    widest: float = 0.3
    narrowest: float = 0.05

    blind: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.narrowest <= self.widest < math.inf:
            raise ValueError(
                f"operator.narrowest={self.narrowest:g} operator.widest={self.widest:g}: "
                "both must be above 0, and the first no larger"
            )

    def start(self, measurement: Measurement) -> Estimate:
        y = measurement.y
        third = y.new_full((len(y), 1, 1, 1), 1 / 3)
        details = {
            "constant": third,  # (B, 1, 1, 1) share of pixels erased to a repeated colour
            "uniform": third,  # (B, 1, 1, 1) share of pixels erased to anything
            "fill": repeated_value(y),  # (B, C, 1, 1) the repeated colour
            "deviation": torch.full_like(third, 0.02),  # (B, 1, 1, 1) of the pixels that hold it, from noise
        }
        for _ in range(10):  # without an image yet, observed pixels count among "anything"
            _, constant = self._responsibilities(y, None, details, self.widest)
            details = self._renew(y, constant, torch.zeros_like(constant))
        _, constant = self._responsibilities(y, None, details, self.widest)
        # A colour repeated so often is the fill, and little else was erased; without one, half may hold anything.
        details["uniform"] = torch.where(details["constant"] > 0.1, 0.05, 0.5) * (1 - details["constant"])
        return Estimate(Mask((constant < 0.5).to(y.dtype)), y.new_zeros(len(y)), details)

    def update(self, estimate: Estimate, y: Tensor, image: Tensor, iteration: int, progress: float) -> Estimate:
        deviation = self.widest * (self.narrowest / self.widest) ** min(1.0, progress / 0.8)
        observed, constant = self._responsibilities(y, image, estimate.details, deviation)
        return Estimate(Mask(observed), estimate.sigma, self._renew(y, constant, observed))

    @staticmethod
    def _responsibilities(
        y: Tensor, image: Tensor | None, belief: dict[str, Tensor], deviation: float
    ) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) each: the probabilities that a pixel is observed, and that it holds the repeated colour."""
        channels = y.shape[1]

        def gaussian(centre: Tensor, scale: Tensor) -> Tensor:  # log density over the channels of a pixel
            distance = (y - centre).square().sum(1, keepdim=True)
            return -distance / (2 * scale**2) - channels * (scale * math.sqrt(2 * math.pi)).log()

        share = (1 - belief["constant"] - belief["uniform"]).clamp_min(1e-3)
        around = torch.full_like(share, deviation)
        observed = gaussian(image, around) if image is not None else torch.full_like(y[:, :1], -torch.inf)
        constant = gaussian(belief["fill"], belief["deviation"])
        logits = torch.stack(
            [
                observed + share.log(),
                constant + belief["constant"].clamp_min(1e-6).log(),
                torch.zeros_like(constant) + belief["uniform"].clamp_min(1e-3).log(),
            ]
        )
        probabilities = logits.softmax(0)
        return probabilities[0], probabilities[1]

    @staticmethod
    def _renew(y: Tensor, constant: Tensor, observed: Tensor) -> dict[str, Tensor]:
        """The beliefs that the responsibilities imply."""
        dims = (1, 2, 3)
        total = constant.sum(dims, keepdim=True).clamp_min(1e-6)
        fill = (constant * y).sum((2, 3), keepdim=True) / total
        variance = (constant * (y - fill).square()).sum(dims, keepdim=True) / (total * y.shape[1])
        share = constant.mean(dims, keepdim=True)
        return {
            "constant": share,
            "uniform": (1 - share - observed.mean(dims, keepdim=True)).clamp(0, 1),
            "fill": fill,
            "deviation": variance.sqrt().clamp(1e-3, 0.25),
        }
