"""An operator of a known family with one unknown number, fitted together with the image by alternation (our own).

Gaussian blur: the width that explains `y` best from the current image, over a grid of widths, refined by a parabola.
Gain: least squares. The noise is what remains unexplained, so that the data count little before there is an image.
Between two estimates the method takes one step, as with any operator.

The first guess comes from the size of the image (blur) or from the mean of `y` (gain). Further starts begin with a
smaller and a larger number.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from torch import Tensor

from memorization.degradations import Measurement
from memorization.degradations.checks import as_choice
from memorization.degradations.operators import Convolution, Scaling
from memorization.recovery.knowledge.estimate import Estimate, OperatorKnowledge

NARROWEST = 0.3  # pixels: a blur that is hardly one
WIDTHS = 32  # of the grid, up to a quarter of the shorter side, in equal ratios
FIRST_NOISE = 0.3  # of y about an image not yet known, in pixels of [0, 1]
GUESSES = (1.0, 0.5, 2.0)  # times the first guess: what each start supposes


Family = StrEnum("Family", ["blur", "gain"])  # what is known of the operator: a Gaussian, circular blur, or a gain


@dataclass(frozen=True)
class Estimated(OperatorKnowledge):
    """An operator of this `family`; see the module."""

    family: Family = Family.blur

    hypotheses = len(GUESSES)

    def __post_init__(self) -> None:
        as_choice(self, "family", Family)

    def start(self, measurement: Measurement, hypothesis: int = 0) -> Estimate:
        y = measurement.y
        noise = y.new_full((len(y),), FIRST_NOISE)
        if self.family is Family.gain:  # as if the image were grey on the whole
            return self._estimate(y, (2 * y.flatten(1).mean(1)).clamp_min(0.05) * GUESSES[hypothesis], noise)
        first = (NARROWEST * _widest(y)) ** 0.5  # the middle of the grid
        return self._estimate(y, y.new_full((len(y),), first * GUESSES[hypothesis]), noise)

    def update(self, estimate: Estimate, y: Tensor, image: Tensor, iteration: int, progress: float) -> Estimate:
        number = self._gain(y, image) if self.family is Family.gain else self._width(y, image)
        estimate = self._estimate(y, number, estimate.sigma)
        return replace(estimate, sigma=(estimate.operator.misfit(image, y) / y[0].numel()).sqrt())

    def misfit(self, estimate: Estimate, y: Tensor, image: Tensor) -> Tensor:
        return estimate.operator.misfit(image, y)

    def report(self, estimate: Estimate) -> dict[str, Tensor]:
        name = "gain" if self.family is Family.gain else "width"
        return {name: estimate.details["number"], "noise": estimate.sigma}

    def _estimate(self, y: Tensor, number: Tensor, noise: Tensor) -> Estimate:
        """The estimate with one gain or width an image, (B,)."""
        details = {"number": number}
        if self.family is Family.gain:
            return Estimate(y, Scaling(number.view(-1, 1, 1, 1)), noise, details)
        return Estimate(y, Convolution.gaussian(number, *y.shape[2:]), noise, details)

    @staticmethod
    def _gain(y: Tensor, image: Tensor) -> Tensor:
        """(B,): the least-squares gain, at least 1e-3."""
        power = image.square().flatten(1).sum(1).clamp_min(1e-6)
        gain: Tensor = (y * image).flatten(1).sum(1) / power
        return gain.clamp_min(1e-3)

    @staticmethod
    def _width(y: Tensor, image: Tensor) -> Tensor:
        """(B,): the width that minimises `|K image - y|^2`, which is quadratic in the (real) transfer function of K."""
        height, width = y.shape[2:]
        steps = torch.linspace(0, 1, WIDTHS, device=y.device, dtype=y.dtype)
        grid = NARROWEST * (_widest(y) / NARROWEST) ** steps
        transfer = Convolution.gaussian(grid, height, width).transfer.real.flatten(1)  # (WIDTHS, F)
        spectrum, seen = torch.fft.rfft2(image), torch.fft.rfft2(y)
        twice = torch.full((width // 2 + 1,), 2.0, device=y.device, dtype=y.dtype)  # rfft2 leaves out the conjugates
        twice[[0, -1] if width % 2 == 0 else [0]] = 1
        power = (twice * spectrum.abs().square().sum(1)).flatten(1)  # (B, F)
        common = (twice * (spectrum.conj() * seen).real.sum(1)).flatten(1)
        misfit = power @ transfer.square().T - 2 * common @ transfer.T  # (B, WIDTHS), without |y|^2
        best = misfit.argmin(1).clamp(1, WIDTHS - 2)
        rows = torch.arange(len(y), device=y.device)
        before, here, after = (misfit[rows, best + shift] for shift in (-1, 0, 1))
        bend = before - 2 * here + after
        shift = torch.where(bend > 0, 0.5 * (before - after) / bend, 0).clamp(-1, 1)
        widths: Tensor = NARROWEST * (_widest(y) / NARROWEST) ** ((best + shift) / (WIDTHS - 1))
        return widths


def _widest(y: Tensor) -> float:
    return max(min(y.shape[2:]) / 4, 2 * NARROWEST)
