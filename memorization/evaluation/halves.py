"""Which images each reference of a membership inference is trained on: random halves; see `lira`.

Apart from `lira`, so that a command which only plans trainings need not wait for SciPy.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization.components import SettingError, is_whole

REVISION = 1  # of the draw
FEWEST = 4  # references: below, no variance can be estimated


def check_references(references: Any) -> None:
    """Raise `SettingError` unless it is a number of references that `halves` can draw: even, and at least 4."""
    if not is_whole(references) or references < FEWEST or references % 2:
        reason = "each image is in half of them, and variances are estimated: give an even number, at least 4, such as"
        raise SettingError("references", references, f"{reason} 16")


def halves(images: int, references: int, seed: int = 0) -> NDArray[np.bool_]:
    """(references, images): which images each reference is trained on, so that every image is in exactly half of them.

    References 2j and 2j + 1 share the images between them, by the `seed` and j alone: more references leave the first
    ones as they are. Raises `SettingError` for fewer than two images, and as `check_references` does.
    """
    check_references(references)
    if images < 2:
        raise SettingError("images", images, "give at least 2, so that each half has one")
    inside = np.zeros((references, images), bool)
    for pair in range(references // 2):
        first = np.random.default_rng([seed, 2, pair]).permutation(images)[: images // 2]
        inside[2 * pair, first] = True
        inside[2 * pair + 1] = ~inside[2 * pair]
    return inside
