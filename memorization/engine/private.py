"""Differentially private training: DP-SGD (Abadi et al., 2016, arXiv:1607.00133), with what Opacus has of it.

In each step the gradient of each image's mean squared error, over all parameters together, is cut to a norm of at most
`clip`. The cut gradients of the batch are added up, Gaussian noise with a standard deviation of `privacy_noise * clip`
is added to each number of the sum, and the sum is divided by the number of images. Adam sees nothing else of the
members. Opacus takes the gradients of each image and cuts them, and its accountant of Rényi differential privacy gives
epsilon. The noise is drawn here, by the seed and the step alone, so that a training that was stopped goes on with the
same numbers.

What epsilon says: two sets of members that differ in one image, which one of them leaves out of all sums (the number
of images is public), give any sequence of weights with chances that differ by a factor of at most `e^epsilon`, but for
a chance of delta. For one image in place of another, halve `privacy_noise`.

What it counts: each epoch as one Gaussian mechanism that sees every image (sample rate 1). With full batches that is
each step. Smaller batches are those of shuffled epochs, and no Poisson samples, so that no gain by sampling is counted:
an image is in one batch of an epoch, and the others do not depend on it. An epoch that was begun counts as a whole.

What it does not count: when the training stops and which weights are kept follows the train loss, which is told, too,
and is not private. Whoever knows the seed can take the noise away. Nothing is done against what rounding tells of the
noise (Mironov, 2012, "On significance of the least significant bits for differential privacy").
"""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memorization.architectures.autoencoder import Centred
from memorization.architectures.external.contract import some_images
from memorization.components import Record, SettingError
from memorization.engine.settings import Hardware, Training
from memorization.evaluation.summary import DELTA

ORDERS = [float(1 + excess) for excess in np.geomspace(1e-6, 1e6, 1201)]  # of Rényi, from which epsilon is the least
FAILURES = (RuntimeError, NotImplementedError, ValueError, TypeError, AttributeError, KeyError)  # of Opacus, or torch
ROUNDING = 1e-3  # by which a gradient of an image may differ from that of autograd, as a share of the largest number


def epsilon(noise: float, epochs: int, delta: float = DELTA) -> float:
    """An upper bound on epsilon at `delta`, after `epochs` in each of which an image is seen once.

    noise: the standard deviation of the noise over the norm to which gradients are cut.
    """
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(noise, 1.0, epochs)] if epochs else []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Optimal order is the")  # it is a bound at any order
        return max(0.0, float(accountant.get_epsilon(delta, alphas=ORDERS)))


def spent(settings: Training, updates: int, count: int) -> Record:
    """`epsilon` and its `delta` after so many updates of the weights with `count` images; nothing without noise."""
    if not settings.privacy_noise:
        return {}
    epochs = math.ceil(updates / settings.steps_per_epoch(count))
    return {"epsilon": epsilon(settings.privacy_noise, epochs), "delta": DELTA}


def check(autoencoder: nn.Module, shape: Sequence[int], settings: Training, hardware: Hardware) -> None:
    """Raise `SettingError` if the gradients of images of `shape` (C, H, W) are to be cut, and this cannot be.

    The error says where in a whole configuration its field stands. An autoencoder on torch's meta device is checked as
    far as its structure tells.
    """
    if not settings.clip:
        return
    here = ("training",)
    if find_spec("opacus") is None:
        reason = "there is no opacus; install it: pip install 'memorization[private]'"
        raise SettingError("clip", settings.clip, reason, here)
    if any(isinstance(part, Centred) for part in autoencoder.modules()):
        reason = "the members' mean image, which it holds, is not protected where gradients are cut; set it to false"
        raise SettingError("centre", True, reason, ("architecture",))
    if hardware.devices != 1:
        reason = "gradients of single images are cut in one process; set it to 1"
        raise SettingError("devices", hardware.devices, reason, ("trainer",))
    if "bf16" in hardware.precision:
        reason = "gradients of single images are not cut in half precision; set it to 32-true"
        raise SettingError("precision", hardware.precision, reason, ("trainer",))
    try:
        reason = _misfit(autoencoder, some_images(shape))
    except FAILURES as error:
        line = " ".join(str(error).split("\n\n")[0].split()).rstrip(".")
        reason = f"Opacus cannot take the gradient of each image ({line})"
    if reason:
        raise SettingError("clip", settings.clip, f"{reason}; choose another architecture, such as fc", here)


def _misfit(autoencoder: nn.Module, images: Tensor) -> str:
    """Why the gradients of single images cannot be told apart; "" if they can, as far as some images show."""
    trial = copy.deepcopy(autoencoder).train()
    named = {name: weight for name, weight in trial.named_parameters() if weight.requires_grad}
    weights = list(named.values())
    images = images.to(weights[0])
    asked, before = images.clone().requires_grad_(), [buffer.clone() for buffer in trial.buffers()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of dropout
        losses = _losses(trial, asked, images)
        (of_first,) = torch.autograd.grad(losses[0], asked, retain_graph=True)
        if not images.is_meta:
            changed = any(not torch.equal(new, old) for new, old in zip(trial.buffers(), before, strict=True))
            if changed or of_first[1:].any():
                return "the answer to an image depends on other images, as with BatchNorm, which is not protected"
        expected = [torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True) for loss in losses]
        with gradients_of_each(trial):
            torch.manual_seed(0)
            _losses(trial, images, images).sum().backward()
            for (name, weight), *gradients in zip(named.items(), *expected, strict=True):
                if not _agree(weight.grad_sample, gradients):
                    return f"Opacus does not find the gradient of each image for the weights {name}"
    return ""


def _losses(autoencoder: nn.Module, inputs: Tensor, images: Tensor) -> Tensor:
    """(B,) the mean squared error of each image."""
    losses: Tensor = (autoencoder(inputs) - images).square().flatten(1).mean(1)
    return losses


def _agree(found: Any, gradients: list[Tensor | None]) -> bool:
    """Are the gradients that Opacus found, (B, ...), those that autograd finds one by one?"""
    if not isinstance(found, Tensor) or len(found) != len(gradients):
        return False
    expected = torch.stack([torch.zeros_like(found[0]) if one is None else one for one in gradients])
    return found.is_meta or bool((found - expected).abs().max() <= ROUNDING * expected.abs().max())


@contextlib.contextmanager
def gradients_of_each(autoencoder: nn.Module) -> Iterator[Any]:
    """In this block, a backward pass of a sum over images leaves the gradient of each in `grad_sample` of each weight.

    Gives Opacus's module, whose hooks are in `autoencoder` itself.
    """
    from opacus import GradSampleModule

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Full backward hook is firing")  # for images need no gradient
        hooked = GradSampleModule(autoencoder, loss_reduction="sum")
        try:
            yield hooked
        finally:
            hooked.to_standard_module()


class Clipping:
    """The gradients of a training between its backward passes and the steps of its optimiser."""

    def __init__(self, hooked: Any, settings: Training, seed: int) -> None:
        self.hooked, self.settings, self.seed = hooked, settings, seed

    def watch(self, optimiser: torch.optim.Optimizer) -> None:
        """Cut what is to be given to `optimiser`."""
        from opacus.optimizers import DPOptimizer

        noise, norm = self.settings.privacy_noise, self.settings.clip
        self.optimiser = DPOptimizer(
            optimiser, noise_multiplier=noise, max_grad_norm=norm, expected_batch_size=None, loss_reduction="sum"
        )

    def take(self, count: int) -> None:
        """Cut the gradients of the `count` images of a backward pass, and add them to the sum of the batch."""
        if any(len(found) != count for found in self.optimiser.grad_samples):
            reason = "the autoencoder splits its batches, so that the gradients of images cannot be told apart"
            raise SettingError("clip", self.settings.clip, f"{reason}; choose another architecture")
        self.optimiser.clip_and_accumulate()
        self.hooked.set_grad_sample_to_none()

    def give(self, count: int, step: int) -> None:
        """Let the gradients be the sum of a batch of `count` images with the noise of `step`, divided by `count`."""
        generator = np.random.default_rng([self.seed, 4, step])
        deviation = self.settings.privacy_noise * self.settings.clip
        for weight in self.optimiser.params:
            gradient = weight.grad.copy_(weight.summed_grad)
            weight.summed_grad = None
            if deviation:
                drawn = np.asarray(generator.standard_normal(tuple(weight.shape), np.float32))
                gradient.add_(torch.from_numpy(drawn).to(weight), alpha=deviation)
            gradient.div_(count)


@contextlib.contextmanager
def clipping(autoencoder: nn.Module, settings: Training, seed: int) -> Iterator[Clipping | None]:
    """What cuts the gradients of a training in this block; None if they are not to be cut."""
    if not settings.clip:
        yield None
        return
    with gradients_of_each(autoencoder) as hooked:
        yield Clipping(hooked, settings, seed)
