"""The convolutional autoencoder: strided convolutions down to a few numbers, transposed ones back, no skips.

Each level halves the sides (rounded up; a side of 1 pixel stays 1), so images of every size fit and come back at their
size. The deepest level, optionally squeezed through a dense bottleneck, is all that the decoder sees of the image.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from memorization.architectures.initialisation import Redrawn, Shape, activated
from memorization.components import SettingError


def levels(channels: Sequence[int], depth: int, kernel_size: int) -> list[int]:
    """The channels of each of `depth` levels, the last of `channels` repeated; raises `SettingError` out of range."""
    if depth < 1:
        raise SettingError("depth", depth, "it must be at least 1")
    if not channels or min(channels) < 1:
        raise SettingError("channels", [*channels], "name at least one number of channels above 0")
    if kernel_size < 1 or kernel_size % 2 == 0:  # with another, a convolution does not keep the size of its image
        raise SettingError("kernel_size", kernel_size, "it must be odd, such as 3 or 5")
    return [channels[min(level, len(channels) - 1)] for level in range(depth)]


def sizes(height: int, width: int, halvings: int) -> list[tuple[int, int]]:
    """(height, width) before the first halving and after each."""
    return [(-(-height // 2**level), -(-width // 2**level)) for level in range(halvings + 1)]


def doubling(inputs: int, outputs: int, kernel_size: int, size: tuple[int, int]) -> nn.ConvTranspose2d:
    """The transposed convolution that undoes the halving of an image of `size` (height, width)."""
    more = (1 - size[0] % 2, 1 - size[1] % 2)
    return nn.ConvTranspose2d(inputs, outputs, kernel_size, 2, padding=kernel_size // 2, output_padding=more)


class Convolutional(Redrawn):
    """`depth` strided convolutions and as many transposed ones.

    channels: of each level; the last number serves all deeper levels.
    depth: number of levels, at least 1. kernel_size: of all convolutions, odd.
    bottleneck: units of a dense layer between encoder and decoder; 0 for none.
    """

    revision = 1

    def __init__(
        self,
        shape: Shape,
        channels: tuple[int, ...] = (32, 64, 128),
        depth: int = 4,
        kernel_size: int = 3,
        bottleneck: int = 0,
        activation: str = "silu",
        initialisation: str = "he",
    ) -> None:
        super().__init__()
        widths = [shape[0], *levels(channels, depth, kernel_size)]
        if bottleneck < 0:
            raise SettingError("bottleneck", bottleneck, "it must be at least 1, or 0 for none")
        steps = sizes(shape[1], shape[2], depth)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            convolution = nn.Conv2d(inputs, outputs, kernel_size, stride=2, padding=kernel_size // 2)
            layers += activated(convolution, initialisation, activation, first=not layers)
        if bottleneck:
            deepest = (widths[-1], *steps[-1])
            units = math.prod(deepest)
            layers.append(nn.Flatten())
            for inputs, outputs in pairwise([units, bottleneck, units]):
                layers += activated(nn.Linear(inputs, outputs), initialisation, activation)
            layers.append(nn.Unflatten(1, deepest))
        for (inputs, outputs), size in zip(pairwise(widths[::-1]), steps[-2::-1], strict=True):
            layers += activated(doubling(inputs, outputs, kernel_size, size), initialisation, activation)
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y
