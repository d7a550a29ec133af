"""The U-Net of Ronneberger, Fischer and Brox (2015, arXiv:1505.04597), with a choice of its skip connections.

Skips shorten the training and lengthen a recovery: what passes through them moves `x` little in each iteration.
`skips=inner` leaves out that at full resolution, `skips=none` all. Notable choices: strided convolutions instead of
pooling, and no normalisation layers (a reconstruction must not depend on its batch, nor on train or eval mode).
"""

from enum import StrEnum

import torch
from torch import Tensor, nn

from memorization.architectures.convolutional import doubling, levels, sizes
from memorization.architectures.initialisation import Redrawn, Shape, activated, initialise
from memorization.components import SettingError, choose

# The levels whose features the decoder sees: all, all but full resolution, or none.
Skips = StrEnum("Skips", ["all", "inner", "none"])


class UNet(Redrawn):
    """`depth` levels of two convolutions, the first at full resolution, every further one at half the last.

    Sides are halved rounding up and restored exactly, so images of every size fit; a side of 1 pixel stays 1.

    channels: of each level; the last number serves all deeper levels.
    depth: number of levels, at least 2. skips: levels whose features the decoder sees, see `Skips`.
    kernel_size: of all convolutions but the last, odd.
    """

    revision = 1

    def __init__(
        self,
        shape: Shape,
        channels: tuple[int, ...] = (32, 64, 128),
        depth: int = 4,
        skips: Skips = Skips.none,
        kernel_size: int = 3,
        activation: str = "silu",
        initialisation: str = "he",
    ) -> None:
        super().__init__()
        if depth < 2:
            raise SettingError("depth", depth, "a U-Net has at least 2 levels")
        widths = levels(channels, depth, kernel_size)
        choose("skips", skips, Skips)

        def convolution(inputs: int, outputs: int, stride: int = 1, first: bool = False) -> list[nn.Module]:
            layer = nn.Conv2d(inputs, outputs, kernel_size, stride, padding=kernel_size // 2)
            return activated(layer, initialisation, activation, first=first)

        steps = sizes(shape[1], shape[2], depth - 1)
        self.skipped = [skips == Skips.all or (skips == Skips.inner and level > 0) for level in range(depth - 1)]
        self.encoder = nn.ModuleList()
        for level, width in enumerate(widths):
            before = convolution(widths[level - 1], width, stride=2) if level else convolution(shape[0], width, 1, True)
            self.encoder.append(nn.Sequential(*before, *convolution(width, width)))
        self.upsample, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths[:-1]):
            up = doubling(widths[level + 1], width, kernel_size, steps[level])
            self.upsample.append(nn.Sequential(*activated(up, initialisation, activation)))
            self.decoder.append(nn.Sequential(*convolution(width * (1 + self.skipped[level]), width)))
        self.head = initialise(nn.Conv2d(widths[0], shape[0], 1), initialisation, activation)

    def forward(self, x: Tensor) -> Tensor:
        features: list[Tensor] = []  # (B, channels[level], H / 2^level, W / 2^level)
        for block in self.encoder:
            features.append(x := block(x))
        for level in reversed(range(len(self.decoder))):
            x = self.upsample[level](x)
            if self.skipped[level]:
                x = torch.cat([x, features[level]], 1)
            x = self.decoder[level](x)
        y: Tensor = self.head(x)
        return y
