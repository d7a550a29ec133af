"""Autoencoders: plain modules that map images (B, C, H, W) in [0, 1] to images of the same shape, one file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memorization.architectures.activations import choose
from memorization.architectures.convolutional import Convolutional
from memorization.architectures.external.adapted import Adapted
from memorization.architectures.external.custom import custom
from memorization.architectures.fully_connected import FullyConnected
from memorization.architectures.initialisation import redraw
from memorization.architectures.tied import Tied
from memorization.architectures.unet import UNet
from memorization.components import Registry
from memorization.data.memory import check_memory

ARCHITECTURES: Registry[Callable[..., nn.Module]] = Registry(
    "architectures",
    {
        "fc": FullyConnected,
        "conv": Convolutional,
        "unet": UNet,
        "tied": Tied,
        "custom": custom,
    },
)
__all__ = [
    "ARCHITECTURES",
    "FILES",
    "Adapted",
    "Architecture",
    "Centred",
    "build",
    "count_parameters",
    "given_file",
    "has_modes",
    "least_loss",
]
FILES = ("weights", "export")  # keys of `custom` that name a file of a model that is trained already
OUTPUTS = ("linear", "sigmoid")
DARKEST = 0.5 / 255  # half an 8-bit level: how near to 0 or 1 a mean pixel is taken to be under a sigmoid


class Centred(nn.Module):
    """`network(x - mean) + mean`, with the members' mean image kept as a buffer of the model.

    It makes training several times faster, and it means that the model itself holds the mean image: a white-box method
    may start from it. With `sigmoid` the output is `sigmoid(network(x - mean) + logit(mean))`: within [0, 1], and again
    the mean image where the network gives 0.
    """

    mean: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, sigmoid: bool = False) -> None:
        super().__init__()
        self.network = network
        self.sigmoid = sigmoid
        self.register_buffer("mean", mean)  # (C, H, W)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x - self.mean)
        return torch.sigmoid(y + torch.logit(self.mean, DARKEST)) if self.sigmoid else y + self.mean

    def reset_parameters(self) -> None:
        """Draw the network's weights anew, and forget the mean image for grey."""
        redraw(self.network)
        self.mean.fill_(0.5)


def build(
    name: str, shape: tuple[int, int, int], *, centre: bool, output: str = "linear", seed: int, **settings: Any
) -> nn.Module:
    """The untrained autoencoder `name` for images of `shape` (C, H, W).

    A centred one has a mean image of zeros until its training (or its weights) set it. `output` is `linear`, which is
    not clamped, or `sigmoid`. The initial weights depend on `seed` alone; the global random state is left as it was.
    Raises `ValueError` for settings out of range.
    """
    choose("output", output, OUTPUTS)
    if output == "sigmoid" and settings.get("proximal"):
        raise ValueError(
            "architecture.output=sigmoid is not a proximal map; set it to linear, or architecture.proximal=false"
        )
    if centre and tuple(settings.get("value_range", (0, 1))) != (0, 1):
        raise ValueError("architecture.centre=true leaves no value range; set it to false, or leave out value_range")
    if given_file(settings) and (centre or output != "linear"):
        raise ValueError(
            "the weights of the architecture are given: it must stay what it is, with architecture.centre=false and "
            "architecture.output=linear"
        )
    with torch.random.fork_rng():
        if name != "custom":
            with torch.device("meta"):
                parameters = count_parameters(ARCHITECTURES[name](shape, **settings))
            sizes = {key: value for key, value in settings.items() if type(value) in (int, list)}
            named = " ".join(f"architecture.{key}={value}" for key, value in sizes.items()).replace(", ", ",")
            check_memory(4 * parameters, f"{named}: {parameters:.1e} parameters")
        torch.manual_seed(seed)
        network = ARCHITECTURES[name](shape, **settings)
    if centre:
        return Centred(network, torch.zeros(shape), output == "sigmoid")
    return nn.Sequential(network, nn.Sigmoid()) if output == "sigmoid" else network


def given_file(settings: dict[str, Any]) -> Path | None:
    """The file of the weights, or the program, that `settings` of an architecture name; None if it is to be trained."""
    return next((Path(settings[key]).expanduser() for key in FILES if settings.get(key)), None)


@dataclass(frozen=True)
class Architecture:
    name: str
    arguments: Mapping[str, object]
    centre: bool = True
    output: str = "linear"

    @property
    def file(self):
        return given_file(self.arguments)

    @property
    def exported(self):
        return bool(self.arguments.get("export"))

    @property
    def external(self):
        return self.name == "custom"

    @property
    def packages(self):
        return tuple(self.arguments.get("allowed", ()))

    def build(self, shape, seed):
        return build(self.name, shape, centre=self.centre, output=self.output, seed=seed, **self.arguments)

    def identity(self):
        from memorization.store.signature import checksum

        identity = {
            "name": self.name,
            "revision": 1,
            "centre": self.centre,
            "output": self.output,
            **{k: v for k, v in self.arguments.items() if not (self.external and k in (*FILES, "allowed"))},
        }
        if self.file:
            if not self.file.is_file():
                raise ValueError(f"architecture: there is no file {self.file}")
            identity["weights"] = checksum(self.file)
        return identity


def has_modes(autoencoder: nn.Module) -> bool:
    """May it answer otherwise in training than in eval mode, as with dropout? Those of this package do not."""
    parts = [autoencoder, *autoencoder.children()]  # of `Centred`, or beside a sigmoid
    return not any(isinstance(part, FullyConnected | Convolutional | Tied | UNet) for part in parts)


def least_loss(autoencoder: nn.Module, images: Tensor) -> float:
    """A mean squared error on `images` (N, C, H, W) that no weights can undercut; 0 where none is known.

    The images are uint8, or floating point in [0, 1].
    """
    centred = isinstance(autoencoder, Centred) and not autoencoder.sigmoid
    network = autoencoder.network if centred else autoencoder
    return network.least_loss(images) if isinstance(network, FullyConnected) else 0.0


def count_parameters(autoencoder: nn.Module) -> int:
    """Trainable numbers of an autoencoder."""
    return sum(parameter.numel() for parameter in autoencoder.parameters())
