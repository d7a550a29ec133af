"""Members and non-members: the images an autoencoder is trained on, and images of the same kind that it never sees.

Each dataset is a frozen dataclass; `load(seed)` draws both sets from its pool, seeded, disjoint and without duplicates.
`faces`, `digits` and `patches` lie inside installed packages, so nothing is downloaded; `images` are your own, or a
set of the hub; `none` has no images, for an extraction without members.
"""

from memorization.components import Registry
from memorization.data.embedded import Digits, Faces, Patches
from memorization.data.images import Images
from memorization.data.nothing import Nothing
from memorization.data.split import Dataset, Split, as_float, as_picture, in_double, mean_image, split, to_uint8

__all__ = ["DATASETS", "Dataset", "Digits", "Faces", "Images", "Nothing", "Patches", "Split", "as_float"]
__all__ += ["as_picture", "in_double", "mean_image", "split", "to_uint8"]

OWN: dict[str, type[Dataset]] = {"faces": Faces, "digits": Digits, "patches": Patches, "images": Images}
OWN["none"] = Nothing
DATASETS = Registry("datasets", OWN)
