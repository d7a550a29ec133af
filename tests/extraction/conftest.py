"""A folder of images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    """PNG files of several sizes, the lower half of each black."""
    for i, size in enumerate([(20, 30), (16, 16), (40, 24)]):
        pixels = np.zeros((*size, 3), np.uint8)
        pixels[: size[0] // 2] = (200, 100, 50 * i)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return tmp_path
