"""Members and non-members: the images an autoencoder is trained on, and images of the same kind that it never sees.

Each dataset is a frozen dataclass; `load(seed)` draws both sets from its pool, seeded, disjoint and without duplicates.
`faces`, `digits` and `patches` lie inside installed packages, so nothing is downloaded; `images` are your own, or a
set of the hub.
"""

from __future__ import annotations

from memorization.components import Registry
from memorization.data.embedded import Digits, Faces, Patches
from memorization.data.images import Images
from memorization.data.sources import IMAGE_SUFFIXES
from memorization.data.split import Dataset, Split, as_float, check_images, check_seed, mean_image, split

DATASETS: Registry[type[Dataset]] = Registry(
    "datasets", {"faces": Faces, "digits": Digits, "patches": Patches, "images": Images}
)

__all__ = [
    "DATASETS",
    "IMAGE_SUFFIXES",
    "Dataset",
    "Digits",
    "Faces",
    "Images",
    "Patches",
    "Split",
    "as_float",
    "check_images",
    "check_seed",
    "mean_image",
    "split",
]
