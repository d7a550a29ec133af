"""A folder of images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for i in range(8):
        (tmp_path / "a" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a" / str(i % 2) / f"{i}.png")
    return tmp_path
