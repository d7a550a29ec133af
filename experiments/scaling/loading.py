"""What it costs to load images: `python experiments/scaling/loading.py FOLDER [MEMBERS NON_MEMBERS]`.

FOLDER is one of image files, of which so many are drawn. Without it, 25,000 random 64x64 RGB images are made in a
temporary folder and all of them drawn. The seconds, and the memory on top of what the imports take, go to results.csv.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import datasets  # noqa: F401  (what loading imports, before it is timed)
import numpy as np
from PIL import Image
from table import report

from memorization.data import Images

MADE = 25_000


def make(folder: Path) -> None:
    """Fill `folder` with random images: coarse noise, scaled up, so that no two are near duplicates."""
    rng = np.random.default_rng(0)
    for i in range(MADE):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{i:05d}.png")


def load(folder: str, members: int, non_members: int) -> None:
    """Draw the images and report what it took."""
    before, begin = peak(), time.perf_counter()
    split = Images(folder, members, non_members).load(0)
    count = len(split.members) + len(split.non_members)
    report("load images", images=count, seconds=time.perf_counter() - begin, megabytes=peak() - before)


def peak() -> float:
    """The peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    if len(sys.argv) > 1:
        load(sys.argv[1], *map(int, sys.argv[2:4] or (500, 500)))
    else:
        with tempfile.TemporaryDirectory() as name:
            make(Path(name))
            load(name, MADE // 2, MADE - MADE // 2)
