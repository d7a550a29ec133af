"""Autoencoders: plain modules that map images (B, C, H, W) in [0, 1] to images of the same shape, one file each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from memorization.architectures.fully_connected import FullyConnected

ARCHITECTURES = {"fc": FullyConnected}


class Centred(nn.Module):
    """`network(x - mean) + mean`, with the members' mean image kept as a buffer of the model.

    It makes training several times faster, and it means that the model itself holds the mean image: a white-box method
    may start from it.
    """

    mean: Tensor

    def __init__(self, network: nn.Module, mean: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)  # (C, H, W)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x - self.mean)
        return y + self.mean


def build(name: str, shape: tuple[int, int, int], *, centre: bool, seed: int, **settings: Any) -> nn.Module:
    """The untrained autoencoder `name` for images of `shape` (C, H, W).

    A centred one has a mean image of zeros until its training (or its weights) set it. The initial weights depend on
    `seed` alone; the global random state is left as it was.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ARCHITECTURES[name](shape, **settings)
    return Centred(network, torch.zeros(shape)) if centre else network
