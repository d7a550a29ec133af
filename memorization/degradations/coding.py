"""Degradations by coarse coding, outside the linear model `y = H x + e`.

The operator they report is the identity and their noise level 0: what the coding took is an error that no operator and
no noise level describes. Every pixel is scored.
"""

import io
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from memorization.components import SettingError
from memorization.data import to_uint8
from memorization.degradations.checks import check_whole
from memorization.degradations.measurement import Degradation, Measurement, check_seeds, nothing_erased
from memorization.degradations.operators import Mask


class _Coding(Degradation):
    """Codes and decodes each image as subclasses say in `_coded`; nothing in it is random."""

    linear = False

    @abstractmethod
    def _coded(self, image: Tensor) -> Tensor:
        """(C, H, W) in [0, 1], on the CPU, to the same."""

    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Measurement:
        check_seeds(images, seeds)
        y = torch.stack([self._coded(image.cpu()) for image in images]).to(images)
        return Measurement(y=y, operator=Mask(torch.ones_like(images[:, :1])), sigma=0.0, erased=nothing_erased(images))


@dataclass(frozen=True)
class Jpeg(_Coding):
    """JPEG compression of grey or RGB images at `quality` 1 (coarsest) to 95, as Pillow does it."""

    quality: int = 10

    def __post_init__(self) -> None:
        check_whole("quality", self.quality, 1, "of JPEG, up to 95:")
        if self.quality > 95:
            raise SettingError("quality", self.quality, "JPEG has qualities from 1 to 95")

    def _coded(self, image: Tensor) -> Tensor:
        if len(image) not in (1, 3):
            raise ValueError(f"JPEG codes grey or RGB images, not {len(image)} channels; choose another degradation")
        pixels = to_uint8(image).permute(1, 2, 0).numpy()  # (H, W, C)
        buffer = io.BytesIO()
        Image.fromarray(pixels.squeeze(2) if len(image) == 1 else pixels).save(buffer, "JPEG", quality=self.quality)
        with Image.open(buffer) as decoded:
            values = np.atleast_3d(np.asarray(decoded))
        return torch.tensor(values).permute(2, 0, 1).to(image.dtype) / 255


@dataclass(frozen=True)
class Quantise(_Coding):
    """Rounds every value to the nearest of `levels` evenly spaced ones from 0 to 1."""

    levels: int = 4

    def __post_init__(self) -> None:
        check_whole("levels", self.levels, 2, "the grey levels that are left:")

    def _coded(self, image: Tensor) -> Tensor:
        return (image.clamp(0, 1) * (self.levels - 1)).round() / (self.levels - 1)
