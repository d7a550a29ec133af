"""Blind knowledge of an erasure by likelihood (our own): each pixel of `y` was observed, or erased in one of two ways.

An erased pixel holds the fill, a colour that is repeated, or a random value (uniform in [0, 1]). All channels of a
pixel are judged together. There are two phases:

1. Before there is an image, only `y` is used. Pixels of the most frequent colour are left out. Among the others, the
   share `g` of observed pixels is estimated from smoothness: two neighbours are close if both were observed, and
   otherwise only by chance. This does not tell which pixels were observed, but it gives their mean: `y` is
   `g x + (1 - g) / 2` plus noise of a known size, a linear measurement of the whole image.
2. Once there is an image, the weight of a pixel is the probability that it was observed. Observed pixels are Gaussian
   around the current image. Their deviation is annealed from `widest` to `narrowest`, as in iteratively reweighted or
   Geman-McClure estimation; after that it is the noise's where that is larger. Pixels of the fill are Gaussian around
   its colour. The fill's colour and deviation, the noise and the shares, which vary over the image, are estimated anew
   from each image: one round of expectation-maximisation an iteration.

Random values are not considered, in either phase, if the repeated colour is a fill and the other pixels are smooth
nearly everywhere. They are considered only after an image has explained most of the observed pixels. Otherwise pixels
that an unfinished image does not explain would be given up, and the image might never be found. Until then the noise is
taken to be at most the deviation of the fill's pixels, or `narrowest`. A fill differs from a sky by the deviation of
its pixels: almost none, or noise, in which neighbours are independent. An image that is right but for a small part also
counts as explaining; the observed pixels of that part may then be given up.

Noise is told from an erasure up to a deviation of about 0.1. At 0.2 in three channels, or at 0.3 with a constant fill,
most observed pixels are taken for erased, and the reported noise is too low.

Whether the most frequent colour is a fill or a sky cannot be told from `y`; there are three hypotheses. The first
treats it as erased if it covers `repeated` of the pixels. The second assumes no constant fill. The third assumes that
images have a flat background of the fill's colour, as digits have: whatever is of another colour was observed, however
rough it is, and a pixel of that colour is judged by the image and the shares alone. Restarts try them in turn.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from memorization.components import SettingError, number
from memorization.degradations import Mask, Measurement
from memorization.degradations.checks import check_positive
from memorization.recovery.knowledge.alternating import repeated_value
from memorization.recovery.knowledge.estimate import Estimate, OperatorKnowledge, erased_share
from memorization.recovery.problem import data_weight

CLOSE = 0.2  # neighbours that differ by less in every channel are called close
FEW_PAIRS = 0.02  # believed to be close where there is no pair to look at
WINDOW = 0.25  # side of the window in which a share is estimated, as a share of the image's side
LEAST = 0.1  # the smallest share observed that is believed in phase 1
SPREAD = 0.12  # variance of "anything" about an image: 1/12, and the image's own about the mean
LEAST_UNIFORM = 1e-3  # the smallest share of "anything" that is believed
LARGEST = 60.0  # the log of a ratio of densities, either way: no overflow, nor denormal numbers, which are slow
SMOOTH, FEW_ROUGH = 0.5, 0.1  # only the fill was put in if the share observed is below 0.5 at no more than 10 %
EXACT, WHITE = 0.02, 1.0  # and if the fill's deviation is no larger, or the von Neumann ratio (2: noise) no smaller
NEAR, MOST = 0.15, 0.6  # the image explains what was observed if 60 % of it lie this near, root mean square of a pixel
ENOUGH = 20.0  # nats of evidence for an image that is solved
LEFT, SURE = 0.01, 3.0  # and no more smooth pairs of pixels than these, a share and deviations of chance, unexplained
ROUNDS, EXACTLY = 6, 0.01  # of expectation-maximisation, to judge a recalled image; the least deviation then
FILL_RADIUS = 3.0  # deviations from the fill colour within which a pixel is left out in phase 1


class Kind(NamedTuple):
    """One way in which a pixel came about: the log density of its colour (B, 1, H, W), and the share of such pixels."""

    log_density: Tensor
    share: Tensor


@dataclass(frozen=True)
class Robust(OperatorKnowledge):
    """The likelihood of each pixel: observed, erased to a repeated colour, or erased to anything; see the module."""

    widest: float = 0.15
    narrowest: float = 0.05
    repeated: float = 0.15
    first_phase: float = 0.15  # share of the iterations

    hypotheses = 3
    annealed = 0.8
    restarts = True
    revision = 2

    def __post_init__(self) -> None:
        check_positive(self, "widest")
        if not 0 < number(self.narrowest) <= self.widest:
            raise SettingError("narrowest", self.narrowest, f"it must be above 0 and at most `widest`, {self.widest:g}")
        if not 0 <= number(self.repeated) <= 1:
            raise SettingError("repeated", self.repeated, "it must be in [0, 1]")
        if not 0 <= number(self.first_phase) < self.annealed:
            raise SettingError("first_phase", self.first_phase, f"it must be in [0, {self.annealed})")

    def start(self, measurement: Measurement, hypothesis: int = 0) -> Estimate:
        y = measurement.y
        third = y.new_full((len(y), 1, 1, 1), 1 / 3)
        details = {
            "constant": third,  # (B, 1, 1, 1), later (B, 1, H, W): share of pixels erased to a repeated colour
            "uniform": third,  # alike: share of pixels erased to anything
            "fill": repeated_value(y),  # (B, C, 1, 1) the repeated colour
            "deviation": torch.full_like(third, 0.02),  # (B, 1, 1, 1) of the pixels that hold it, from noise
            "anything": torch.ones_like(third),  # (B, 1, 1, 1): 0 as long as no pixel may be erased to anything
            "flat": torch.zeros_like(third),  # (B, 1, 1, 1): 1 if images have a background of the fill's colour
        }
        for _ in range(10):  # without an image yet, observed pixels count among "anything"
            repeated = _distance(y, details["fill"])
            nowhere = torch.full_like(repeated, torch.inf)
            widest = torch.full_like(third, self.widest)
            constant = _probabilities(*self._kinds(nowhere, repeated, y.shape[1], details, widest))[1]
            details |= _fill(y, constant, details["fill"], repeated)
            details["constant"] = constant.mean((2, 3), keepdim=True)
            details["uniform"] = 1 - details["constant"]
        distance = (y - details["fill"]).abs().amax(1, keepdim=True)
        apart = distance > FILL_RADIUS * details["deviation"]
        no_fill = (details["constant"] < self.repeated) | (hypothesis == 1)
        weight = (apart | no_fill).to(y.dtype)
        observed = self._observed_share(y, weight)
        rough = (weight * (observed < SMOOTH)).sum((1, 2, 3), keepdim=True)
        only_fill = ~no_fill & (rough <= FEW_ROUGH * weight.sum((1, 2, 3), keepdim=True))
        only_fill &= (details["deviation"] <= EXACT) | (_von_neumann_ratio(y - details["fill"], ~apart) >= WHITE)
        flat = ~no_fill & (hypothesis == 2)
        only_fill |= flat
        details["flat"], details["anything"] = flat.to(y.dtype), (~only_fill).to(y.dtype)
        observed = torch.where(only_fill, 1, observed)
        details["constant"] = (1 - weight).mean((2, 3), keepdim=True).expand_as(observed)
        details["uniform"] = (1 - observed) * (1 - details["constant"])
        details["observed"] = weight * observed  # (B, 1, H, W), the probability
        trust = data_weight(((1 - observed) * SPREAD).sqrt())
        mask = Mask(weight * observed.square() * trust)
        return Estimate((y - 0.5) / observed + 0.5, mask, y.new_zeros(len(y)), details)

    def recall(self, measurement: Measurement, image: Tensor, hypothesis: int = 0) -> Estimate:
        """The belief of the second phase, from the recalled image at once."""
        return self.update(self.start(measurement, hypothesis), measurement.y, image, 1, self.first_phase)

    def update(self, estimate: Estimate, y: Tensor, image: Tensor, iteration: int, progress: float) -> Estimate:
        if progress < self.first_phase:
            return estimate
        annealing = min(1.0, (progress - self.first_phase) / (self.annealed - self.first_phase))
        deviation = torch.full_like(estimate.sigma, self.widest * (self.narrowest / self.widest) ** annealing)
        if annealing == 1:  # before, an image not yet found would pass for noise
            deviation = estimate.sigma.clamp_min(self.narrowest)
        deviation = deviation.view(-1, 1, 1, 1)
        around, repeated = _distance(y, image), _distance(y, estimate.details["fill"])
        belief = estimate.details
        sharpest = torch.maximum(belief["deviation"], belief["flat"] * deviation)
        belief = belief | {"deviation": sharpest}
        observed, constant = _probabilities(*self._kinds(around, repeated, y.shape[1], belief, deviation))
        anything = estimate.details["anything"]
        shares = {"constant": _local(constant)}
        shares["uniform"] = (1 - shares["constant"] - _local(observed)).clamp(0, 1) * anything
        squares = (observed * around).sum((1, 2, 3)) / y.shape[1]
        noise = (squares / observed.sum((1, 2, 3)).clamp_min(1e-6)).sqrt()
        fill = _fill(y, constant, estimate.details["fill"], repeated)
        of_fill = torch.where(anything > 0, torch.inf, fill["deviation"].clamp_min(self.narrowest)).flatten()
        near = around <= NEAR**2 * y.shape[1]
        explained = (observed * near).sum((1, 2, 3), keepdim=True) >= MOST * observed.sum((1, 2, 3), keepdim=True)
        kept = {"flat": belief["flat"], "anything": torch.maximum(anything, explained.to(y.dtype))}
        details = fill | shares | kept | {"observed": observed}
        return Estimate(y, Mask(observed), torch.minimum(noise, of_fill), details)

    def misfit(self, estimate: Estimate, y: Tensor, image: Tensor) -> Tensor:
        """-2 s^2 log likelihood, s the narrowest deviation: |y - image|^2 and a constant if a pixel was observed."""
        log_likelihood = torch.stack(self._terms(estimate, y, image)).logsumexp(0)
        return -2 * self.narrowest**2 * log_likelihood.flatten(1).sum(1)

    def solved(self, estimate: Estimate, y: Tensor, image: Tensor, level: float) -> Tensor:
        """By the log likelihood ratio to the same belief with "anything" in the place of observed pixels.

        And by what is left: pixels that were erased to anything are not smooth, but by chance.
        """
        fitted = self._fitted(estimate, y, image)
        terms = torch.stack(self._terms(fitted, y, image, EXACTLY))
        without = torch.logaddexp(terms[1], (1 - fitted.details["constant"]).clamp_min(1e-6).log())
        evidence = (terms.logsumexp(0) - without).flatten(1).sum(1)
        unexplained = terms.softmax(0)[2]
        pairs, close = (count.sum((1, 2, 3)) / 2 for count in _pairs(y, unexplained))  # each counts at two pixels
        chance = _chance(y.shape[1])
        deviation = (chance * (1 - chance) / pairs.clamp_min(1)).sqrt()
        smooth = close / pairs.clamp_min(1) - chance > LEFT * (1 - chance) + SURE * deviation
        return (evidence >= ENOUGH) & ~smooth

    def unlikely(self, measurement: Measurement, bank: Tensor) -> Tensor:
        """The negative log likelihood with the best deviation of observed pixels: an extracted image is exact."""
        y, estimate = measurement.y, self.start(measurement)
        details = estimate.details | {"anything": torch.ones_like(estimate.details["anything"])}
        estimate, scores = replace(estimate, details=details), y.new_empty(len(y), len(bank))
        for i, image in enumerate(bank):
            terms = self._terms(self._fitted(estimate, y, image[None]), y, image[None], EXACTLY)
            scores[:, i] = -torch.stack(terms).logsumexp(0).flatten(1).sum(1)
        return scores

    def _fitted(self, estimate: Estimate, y: Tensor, image: Tensor) -> Estimate:
        """The shares, of the whole image, and the deviation of observed pixels that explain `y` best about `image`."""
        details, sigma = estimate.details, y.new_full((len(y),), self.narrowest)
        around, repeated = _distance(y, image), _distance(y, details["fill"])
        for _ in range(ROUNDS):
            deviation = sigma.view(-1, 1, 1, 1)
            belief = details | {"deviation": torch.maximum(details["deviation"], deviation)}
            observed, constant = _probabilities(*self._kinds(around, repeated, y.shape[1], belief, deviation))
            share, filled = (kind.mean((2, 3), keepdim=True) for kind in (observed, constant))
            uniform = (1 - share - filled).clamp(0, 1) * details["anything"]
            details = details | {"constant": filled, "uniform": uniform}
            squares = (observed * around).sum((1, 2, 3)) / y.shape[1]
            sigma = (squares / observed.sum((1, 2, 3)).clamp_min(1e-6)).sqrt().clamp(EXACTLY, self.widest)
        return replace(estimate, sigma=sigma, details=details)

    def _terms(self, estimate: Estimate, y: Tensor, image: Tensor, least: float | None = None) -> list[Tensor]:
        """(B, 1, H, W) each: the log of the share times the density of the three kinds that a pixel may be.

        With the fill's colour no sharper than observed pixels are, so that beliefs of different hypotheses compare.
        least: the smallest deviation of observed pixels, by default the narrowest.
        """
        around, repeated = _distance(y, image), _distance(y, estimate.details["fill"])
        deviation = estimate.sigma.clamp_min(self.narrowest if least is None else least).view(-1, 1, 1, 1)
        belief = estimate.details | {"deviation": torch.maximum(estimate.details["deviation"], deviation)}
        kinds = self._kinds(around, repeated, y.shape[1], belief, deviation)
        return [kind.log_density + kind.share.log() for kind in kinds]

    def report(self, estimate: Estimate) -> dict[str, Tensor]:
        return {"erased": erased_share(estimate), "noise": estimate.sigma}

    @staticmethod
    def _observed_share(y: Tensor, weight: Tensor) -> Tensor:
        """(B, 1, H, W): the share of pixels around each that were observed, of those of `weight` (B, 1, H, W) 1."""
        pairs, close = _pairs(y, weight)
        share = (_local(close) + FEW_PAIRS) / (_local(pairs) + FEW_PAIRS)
        chance = _chance(y.shape[1])
        return ((share - chance) / (1 - chance)).clamp(0, 1).sqrt().clamp_min(LEAST)

    @staticmethod
    def _kinds(
        around: Tensor, repeated: Tensor, channels: int, belief: dict[str, Tensor], deviation: Tensor
    ) -> tuple[Kind, Kind, Kind]:
        """A pixel was observed, or erased to the repeated colour, or to anything (of share 0 where none were).

        around, repeated: (B, 1, H, W), the squared distances of `y` to the image and to the fill colour.
        deviation: (B, 1, 1, 1), of observed pixels about the image.
        """

        def gaussian(distance: Tensor, scale: Tensor) -> Tensor:  # over the channels of a pixel
            return (distance / (-2 * scale**2)).add_(-channels * (scale * math.sqrt(2 * math.pi)).log())

        observed = (1 - belief["constant"] - belief["uniform"]).clamp_min(1e-3)
        return (
            Kind(gaussian(around, deviation), observed),
            Kind(gaussian(repeated, belief["deviation"]), belief["constant"].clamp_min(1e-6)),
            Kind(torch.zeros_like(around), belief["uniform"].clamp_min(LEAST_UNIFORM) * belief["anything"]),
        )


def _probabilities(observed: Kind, constant: Kind, anything: Kind) -> tuple[Tensor, Tensor]:
    """(B, 1, H, W) each: that a pixel was observed, and that it was erased to the repeated colour, by Bayes' rule.

    From the odds against anything or, where there is none, against the repeated colour.
    """
    there = anything.share > 0
    log_density = torch.where(there, anything.log_density, constant.log_density)
    share = torch.where(there, anything.share, constant.share)

    def odds(kind: Kind) -> Tensor:
        return (kind.log_density - log_density).clamp_(-LARGEST, LARGEST).exp_().mul_(kind.share / share)

    of_observed, of_constant = odds(observed), odds(constant)
    total = (of_observed + of_constant).add_(there)
    return of_observed.div_(total), of_constant.div_(total)


def _distance(y: Tensor, image: Tensor) -> Tensor:
    """(B, 1, H, W): squared, over the channels of a pixel."""
    return (y - image).square_().sum(1, keepdim=True)


def _fill(y: Tensor, constant: Tensor, before: Tensor, distance: Tensor) -> dict[str, Tensor]:
    """The colour of the pixels that hold it with the probabilities `constant` (B, 1, H, W), and its deviation.

    before, distance: the colour of the last estimate and the squared distances of `y` to it, (B, 1, H, W). The mean
    square about the mean is that about `before` less the square of their difference, with no second look at `y`.
    """
    total = constant.sum((1, 2, 3), keepdim=True).clamp_min(1e-6)
    fill = torch.einsum("bxhw,bchw->bc", constant, y).view_as(before) / total
    about = (constant * distance).sum((1, 2, 3), keepdim=True) / total
    variance = (about - (fill - before).square().sum(1, keepdim=True)) / y.shape[1]
    return {"fill": fill, "deviation": variance.clamp_min(0).sqrt().clamp(1e-3, 0.25)}


def _von_neumann_ratio(noise: Tensor, where: Tensor) -> Tensor:
    """(B, 1, 1, 1): the mean squared difference of neighbours by the mean square, of the pixels of a mask (B, 1, H, W).

    Two for noise, whose neighbours are independent, and where there are none; less where they are alike (von Neumann,
    1941). noise: (B, C, H, W), of mean zero.
    """
    differences, pairs = torch.zeros_like(noise[:, :1, :1, :1]), torch.zeros_like(noise[:, :1, :1, :1])
    for axis in (2, 3):
        both = torch.mul(*_neighbours(where, axis))
        differences += (both * torch.sub(*_neighbours(noise, axis)).square()).sum((1, 2, 3), keepdim=True)
        pairs += both.sum((1, 2, 3), keepdim=True)
    square = (where * noise.square()).sum((1, 2, 3), keepdim=True) / where.sum((1, 2, 3), keepdim=True).clamp_min(1)
    return torch.where(pairs > 0, differences / pairs.clamp_min(1) / square.clamp_min(1e-12), 2)


def _pairs(y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 1, H, W) each: the pairs of neighbours, by the weights of both, that each pixel is in; and the close ones."""
    pairs, close = torch.zeros_like(weight), torch.zeros_like(weight)
    for axis in (2, 3):
        before, after = _neighbours(y, axis)
        is_close = ((before - after).abs().amax(1, keepdim=True) < CLOSE).to(y.dtype)
        both = torch.mul(*_neighbours(weight, axis))
        for count, of_pair in ((pairs, both), (close, both * is_close)):
            for pixel in _neighbours(count, axis):  # a pair counts at either of its pixels
                pixel.add_(of_pair)
    return pairs, close


def _chance(channels: int) -> float:
    """That two uniform colours are close."""
    return float((2 * CLOSE - CLOSE**2) ** channels)


def _local(values: Tensor) -> Tensor:
    """The mean of `values` (B, 1, H, W) in a window around each pixel, as far as it lies in the image."""
    down, across = (_window(side, values) for side in values.shape[2:])
    return down @ values @ across.T


def _window(side: int, like: Tensor) -> Tensor:
    """(side, side): row `i` takes the mean of the entries at most half a window away from `i`."""
    place = torch.arange(side, device=like.device)
    near = ((place[:, None] - place).abs() <= int(WINDOW * side / 2)).to(like.dtype)
    return near / near.sum(1, keepdim=True)


def _neighbours(values: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Views of the entries that have a next one along an axis, and of those next ones."""
    pairs = values.shape[axis] - 1
    return values.narrow(axis, 0, pairs), values.narrow(axis, 1, pairs)
