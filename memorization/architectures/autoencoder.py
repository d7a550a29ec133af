"""What every part calls an autoencoder, and its loss on images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import MeanSquaredError

from memorization.data import as_float

Autoencoder = Callable[[Tensor], Tensor]  # images (B, C, H, W) to images of the same shape
MEMBERS_AT_ONCE = 1024  # that are computed with as floats; bounds the memory


@torch.no_grad()
def reconstruction_loss(autoencoder: Autoencoder, images: Tensor, batch_size: int = MEMBERS_AT_ONCE) -> float:
    """The mean squared error between `images` (N, C, H, W), float32 or uint8, and what `autoencoder` makes of them."""
    loss = MeanSquaredError(sync_on_compute=False).set_dtype(torch.float64).to(images.device)
    for part in map(as_float, images.split(batch_size)):
        loss.update(autoencoder(part).flatten(), part.flatten())  # torchmetrics' view fails on other strides
    return float(loss.compute())
