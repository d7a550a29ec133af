"""What a training is told: the optimiser, its schedule, the budget, the ladder of train losses, and what protects."""

import math
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import ClassVar

from memorization.components import Record, SettingError, is_whole, number

# Along what the first and the last layer of a fully connected autoencoder take their steps.
Axes = StrEnum("Axes", ["pixels", "principal"])


@dataclass(frozen=True)
class Training:
    """Settings of a training with Adam.

    learning_rate, betas: of Adam.
    final_rate: the learning rate at `max_steps` as a share of `learning_rate`; exponential decay in between.
    warmup_steps: steps of linear warm-up.
    batch_size: images a step; 0 is the full batch.
    micro_batch: images that go through the autoencoder at once; 0 for all of a step's. Gradients are accumulated, so
        it decides the memory needed and not, but for rounding, the numbers.
    ema: decay of an exponential moving average of the weights, such as 0.99; 0 for none. The rungs are then the
        averaged weights', measured once an epoch but not more often than every 10 steps.
    max_steps: the budget; the training ends there or at `target_loss`, whichever comes first.
    target_loss: mean squared error at which the training stops; not above the highest rung.
    ladder: train losses at which weights are kept, the first time each is reached.
    axes: `principal` trains a fully connected autoencoder in the coordinates that its members span, several times
        faster for large images, see `engine.span`; it changes nothing where it cannot be used: with another
        architecture, noise, augmentation or weight decay, or where members and width together exceed half the pixels.

    What may keep an autoencoder from holding its members; the train loss is always that of the members as they are:
    weight_decay: decoupled from the gradient (AdamW, Loshchilov and Hutter, 2019), times the learning rate.
    input_noise: standard deviation of Gaussian noise on the inputs, not on what they are compared with.
    shift: pixels by which an image is moved at random in a step, up to so many along each axis; the border is repeated.
    mirror: images are mirrored left to right at random, each half of the time.
    clip: norm to which the gradient of each image is cut; 0 for none. Needs Opacus, see `engine.private`.
    privacy_noise: standard deviation of the noise on the sum of the cut gradients, over `clip`; with it a training is
        differentially private.

    ensemble: trainings that go on as one batched model, at most, where several are alike; 1 is each by itself. It is no
        part of what a training is: the numbers are those of separate ones, but for rounding.
    """

    learning_rate: float = 1e-3
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    final_rate: float = 1e-3
    warmup_steps: int = 20
    batch_size: int = 0
    micro_batch: int = 0
    ema: float = 0.0
    max_steps: int = 2000
    target_loss: float = 1e-8
    ladder: list[float] = field(default_factory=lambda: [10.0**-k for k in range(2, 9)])
    weight_decay: float = 0.0
    input_noise: float = 0.0
    shift: int = 0
    mirror: bool = False
    clip: float = 0.0
    privacy_noise: float = 0.0
    axes: Axes = Axes.pixels
    ensemble: int = 1

    # No part of older signatures.
    later: ClassVar = ("weight_decay", "input_noise", "shift", "mirror", "clip", "privacy_noise", "axes")
    incidental: ClassVar[tuple[str, ...]] = ("ensemble",)  # no part of any
    revision: ClassVar[int] = 1  # of this, and of all in `engine` that trains

    def __post_init__(self) -> None:
        for name in ("learning_rate", "final_rate", "max_steps", "target_loss"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingError(name, getattr(self, name), "it must be above 0 and finite")
        for name in ("warmup_steps", "batch_size", "micro_batch"):
            if getattr(self, name) < 0:
                raise SettingError(name, getattr(self, name), "it must be at least 0")
        if self.ensemble < 1:
            raise SettingError("ensemble", self.ensemble, "it must be at least 1, which trains each by itself")
        for name in ("weight_decay", "input_noise", "clip", "privacy_noise"):
            if not 0 <= number(getattr(self, name)) < math.inf:
                raise SettingError(name, getattr(self, name), "it must be 0 (none) or above, and finite")
        if self.privacy_noise and not self.clip:
            raise SettingError("privacy_noise", self.privacy_noise, "it is a multiple of `clip`; set that, such as 1")
        if self.clip and self.axes is Axes.principal:
            reason = "the axes are those of the members, which are not protected with `clip`; set it to pixels"
            raise SettingError("axes", self.axes, reason)
        if not is_whole(self.shift) or self.shift < 0:
            raise SettingError("shift", self.shift, "it must be a whole number of pixels, 0 for none")
        if not 0 <= self.ema < 1:
            raise SettingError("ema", self.ema, "it must be from 0 (no average) to below 1, such as 0.99")
        if not all(0 <= beta < 1 for beta in self.betas) or len(self.betas) != 2:
            raise SettingError("betas", list(self.betas), "give two numbers from 0 to below 1")
        if not self.ladder or not all(0 < rung < math.inf for rung in self.ladder):
            raise SettingError("ladder", list(self.ladder), "name at least one train loss above 0")
        if len({f"{rung:.3e}" for rung in set(self.ladder)}) < len(set(self.ladder)):  # by which they are named
            raise SettingError("ladder", list(self.ladder), "rungs must differ in their first four digits")
        if self.target_loss > max(self.ladder):
            raise SettingError(
                "target_loss",
                self.target_loss,
                f"the training would stop before any rung of `ladder`, {list(self.ladder)}; lower it, or add a rung",
            )

    @property
    def rungs(self) -> list[float]:
        """The rungs of the ladder, the highest first."""
        return sorted({float(rung) for rung in self.ladder}, reverse=True)

    @property
    def augments(self) -> bool:
        """Do the images of a step differ from the members?"""
        return self.shift > 0 or self.mirror

    def steps_per_epoch(self, count: int) -> int:
        """The batches of an epoch of `count` images."""
        return math.ceil(count / min(self.batch_size or count, count))

    def identity(self) -> Record:
        """What can change the weights, as plain values; what came later counts where it is not at its default."""
        usual = {known.name: known.default for known in fields(self) if known.name in self.later}
        counts = {name: value for name, value in asdict(self).items() if name not in self.incidental}
        return {name: value for name, value in counts.items() if name not in usual or value != usual[name]}

    def rate(self, step: int) -> float:
        """The learning rate of a step as a share of `learning_rate`."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return float(warm * self.final_rate ** (step / self.max_steps))


@dataclass  # not frozen: it is a node of the configuration, too
class Hardware:
    """What Lightning's Trainer is told: `accelerator`, number of `devices`, `precision`."""

    accelerator: str = "auto"
    devices: int = 1
    precision: str = "32-true"
