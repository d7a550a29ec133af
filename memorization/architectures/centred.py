"""What stands around a network: the members' mean image, and a sigmoid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memorization.architectures.initialisation import redraw

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

    @property
    def has_modes(self) -> bool:
        return has_modes(self.network)

    def least_loss(self, images: Tensor) -> float:
        return 0.0 if self.sigmoid else least_loss(self.network, images)


class Bounded(nn.Sequential):
    """`sigmoid(network(x))`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, nn.Sigmoid())

    @property
    def has_modes(self) -> bool:
        return has_modes(self[0])


def has_modes(autoencoder: object) -> bool:
    """May it answer otherwise in training than in eval mode, as with dropout? It may unless its class says no."""
    return bool(getattr(autoencoder, "has_modes", True))


def least_loss(autoencoder: nn.Module, images: Tensor) -> float:
    """A mean squared error on `images` (N, C, H, W) that no weights can undercut; 0 where its class knows none.

    The images are uint8, or floating point in [0, 1].
    """
    known = getattr(autoencoder, "least_loss", None)
    return float(known(images)) if known else 0.0


def count_parameters(autoencoder: nn.Module) -> int:
    """Trainable numbers of an autoencoder."""
    return sum(parameter.numel() for parameter in autoencoder.parameters())
