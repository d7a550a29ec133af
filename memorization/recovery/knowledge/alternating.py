"""The paper's alternation (Abitbul and Dar, 2023): an exact 0/1 mask, estimated anew as the image improves."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memorization.components import SettingError, number
from memorization.degradations import Mask, Measurement
from memorization.degradations.checks import check_whole
from memorization.recovery.knowledge.estimate import Estimate, OperatorKnowledge, erased_share

CANDIDATES = 256  # pixels of an image that its colours are sought among
AT_ONCE = 2**23  # pairs of a pixel and a candidate that are compared at a time: 34 MB
REPEATED_RADIUS = 0.02  # in pixels of [0, 1]: what counts as the same colour


def repeated_value(y: Tensor, radius: float = REPEATED_RADIUS) -> Tensor:
    """The colour (B, C, 1, 1) that most pixels of each image of `y` (B, C, H, W) lie close to.

    For an erasure to a constant, this is the fill value. "Close" is a Gaussian kernel of standard deviation `radius`.
    The densest of up to `CANDIDATES` pixels is moved to the mean of the pixels near it (mean shift). The candidates are
    spread by the golden ratio, so that no regular stripes fall between them. Images are taken a few at a time, because
    the distances between pixels need far more memory than the pixels.
    """
    count = y[0, 0].numel()
    if len(y) > (at_once := max(1, AT_ONCE // (CANDIDATES * count))):
        return torch.cat([repeated_value(part, radius) for part in y.split(at_once)])
    pixels = y.flatten(2).transpose(1, 2)  # (B, P, C)
    spread = torch.arange(min(CANDIDATES, count), dtype=torch.float64) * (math.sqrt(5) - 1) / 2 % 1  # (S,), in [0, 1)
    candidates = pixels[:, (count * spread).long().to(y.device)]  # (B, S, C)

    def kernel(centres: Tensor) -> Tensor:
        return torch.exp(-0.5 * (torch.cdist(centres, pixels) / radius) ** 2)  # (B, S, P)

    densest = kernel(candidates).sum(2).argmax(1)  # (B,)
    centre = candidates[torch.arange(len(y), device=y.device), densest].unsqueeze(1)  # (B, 1, C)
    for _ in range(5):
        near = kernel(centre)
        centre = near @ pixels / near.sum(2, keepdim=True)
    return centre.transpose(1, 2).unsqueeze(3)


@dataclass(frozen=True)
class Alternating(OperatorKnowledge):
    """The paper's alternation for an erasure: the exact 0/1 mask given the current image, once every few iterations.

    A pixel counts as observed if the image explains it at least as well as the fill value `c` does:
    `|image - y|^2 <= |c - y|^2 + tau`, all channels of a pixel together. Before there is an image, the pixels that hold
    the fill count as erased. The fill is the most frequent colour of `y`. This choice, the start, `tau` and `every` are
    our own. The model has no noise: an observed pixel is trusted fully.
    """

    tau: float = 0.0
    every: int = 20  # iterations on one estimate; if few, it follows images that are still wrong

    def __post_init__(self) -> None:
        if not 0 <= number(self.tau) < math.inf:
            raise SettingError("tau", self.tau, "it must be at least 0 and finite")
        check_whole("every", self.every, 1)

    def start(self, measurement: Measurement, hypothesis: int = 0) -> Estimate:
        y = measurement.y
        fill = repeated_value(y)
        apart = (y - fill).abs().amax(1, keepdim=True) > 3 * REPEATED_RADIUS
        return Estimate(y, Mask(apart.to(y.dtype)), y.new_zeros(len(y)), {"fill": fill})

    def update(self, estimate: Estimate, y: Tensor, image: Tensor, iteration: int, progress: float) -> Estimate:
        if (iteration - 1) % self.every:
            return estimate
        by_image, by_fill = self._distances(estimate, y, image)
        return replace(estimate, operator=Mask((by_image <= by_fill).to(y.dtype)))

    def misfit(self, estimate: Estimate, y: Tensor, image: Tensor) -> Tensor:
        return torch.minimum(*self._distances(estimate, y, image)).flatten(1).sum(1)

    def report(self, estimate: Estimate) -> dict[str, Tensor]:
        return {"erased": erased_share(estimate)}

    def _distances(self, estimate: Estimate, y: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) each: the cost of a pixel if it was observed, and if it was erased."""
        by_image = (image - y).square().sum(1, keepdim=True)
        by_fill = (estimate.details["fill"] - y).square().sum(1, keepdim=True)
        return by_image, by_fill + self.tau
