"""Autoencoders: what all parts call one, what stands around its network (a mean image, a sigmoid), and its losses."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from memorization.architectures.initialisation import redraw
from memorization.data import as_float, in_double

Autoencoder = Callable[[Tensor], Tensor]  # images (B, C, H, W) to images of the same shape
MEMBERS_AT_ONCE = 1024  # that are computed with as floats; bounds the memory
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
        self.network, self.sigmoid, self.has_modes = network, sigmoid, has_modes(network)
        self.register_buffer("mean", mean)  # (C, H, W)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x - self.mean)
        return torch.sigmoid(y + torch.logit(self.mean, DARKEST)) if self.sigmoid else y + self.mean

    def reset_parameters(self) -> None:
        """Draw the network's weights anew, and forget the mean image for grey."""
        redraw(self.network)
        self.mean.fill_(0.5)

    def least_loss(self, images: Tensor) -> float:
        return 0.0 if self.sigmoid else least_loss(self.network, images)


class Bounded(nn.Sequential):
    """`sigmoid(network(x))`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, nn.Sigmoid())
        self.has_modes = has_modes(network)


def has_modes(autoencoder: object) -> bool:
    """May it answer otherwise in training than in eval mode, as with dropout? It may unless its class says no."""
    return bool(getattr(autoencoder, "has_modes", True))


def least_loss(autoencoder: nn.Module, images: Tensor) -> float:
    """A mean squared error on `images` (N, C, H, W), uint8 or in [0, 1], that no weights undercut; 0 if unknown."""
    return float(getattr(autoencoder, "least_loss", lambda images: 0.0)(images))


def count_parameters(autoencoder: nn.Module) -> int:
    """Trainable numbers of an autoencoder."""
    return sum(parameter.numel() for parameter in autoencoder.parameters())


def weight_of(autoencoder: Autoencoder, otherwise: Tensor) -> Tensor:
    """A weight of `autoencoder`, where its images must lie and in their precision; `otherwise` for one without any."""
    weights = autoencoder.parameters() if isinstance(autoencoder, nn.Module) else iter(())
    return next((weight for weight in weights if weight.is_floating_point()), otherwise)


def taken_by(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """`images`, float in [0, 1] or uint8, as floats in the precision of the weights of `autoencoder`."""
    images = as_float(images)
    return images.to(weight_of(autoencoder, images).dtype)


@torch.no_grad()
def reconstruction_loss(autoencoder: Autoencoder, images: Tensor, batch_size: int = MEMBERS_AT_ONCE) -> float:
    """The mean squared error between `images` (N, C, H, W), float32 or uint8, and what `autoencoder` makes of them."""
    from torchmetrics import MeanSquaredError

    device = in_double(images[:0]).device
    loss = MeanSquaredError(sync_on_compute=False).set_dtype(torch.float64).to(device)
    for part in map(as_float, images.split(batch_size)):
        pair = autoencoder(part).flatten(), part.flatten()  # torchmetrics' view fails on other strides
        loss.update(*(tensor.to(device) for tensor in pair))
    return float(loss.compute())
