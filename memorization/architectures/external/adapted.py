"""A network with another value range or layout as an autoencoder of images in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from torch import Tensor, nn

from memorization.architectures.autoencoder import Autoencoder, has_modes
from memorization.components import SettingError, choose


class Layout(StrEnum):
    """How a network takes and gives images: (B, C, H, W), (B, H, W, C), or (B, C H W)."""

    channels_first = "channels_first"
    channels_last = "channels_last"
    flat = "flat"


class Adapted(nn.Module):
    """`network`, which has another value range or layout, as an autoencoder of images (B, C, H, W) in [0, 1].

    network: any callable; a module's own mode, device and weights go with this one's.
    value_range: the values of its black and white, such as (-1, 1).
    layout: of its input and output, see `Layout`.

    Raises `SettingError` for an empty range or an unknown layout.
    """

    def __init__(
        self, network: Autoencoder, value_range: Sequence[float] = (0.0, 1.0), layout: str = Layout.channels_first
    ) -> None:
        super().__init__()
        if len(value_range) != 2 or not value_range[0] < value_range[1]:
            raise SettingError("value_range", [*value_range], "give black and white, such as [-1,1]")
        self.network, self.has_modes = network, has_modes(network)
        self.low, self.high = value_range
        self.layout = choose("layout", layout, Layout)

    def forward(self, x: Tensor) -> Tensor:
        own = x * (self.high - self.low) + self.low
        if self.layout is Layout.channels_last:
            own = own.permute(0, 2, 3, 1)  # (B, H, W, C)
        elif self.layout is Layout.flat:
            own = own.flatten(1)  # (B, C H W)
        y: object = self.network(own)
        if not isinstance(y, Tensor) or y.shape != own.shape:
            given = tuple(y.shape) if isinstance(y, Tensor) else f"a {type(y).__name__}"
            asked = f"its input, {self.layout}, {tuple(own.shape)}"
            raise ValueError(f"its output is {given} and {asked}; they must be alike")
        if self.layout is Layout.channels_last:
            y = y.permute(0, 3, 1, 2)
        elif self.layout is Layout.flat:
            y = y.view_as(x)
        return (y - self.low) / (self.high - self.low)
