"""Images that lie inside installed packages, so that nothing is downloaded: `faces`, `digits` and `patches`."""

from dataclasses import dataclass

import torch

from memorization.components import SettingError
from memorization.data.split import Dataset, Split, split


@dataclass(frozen=True)
class Faces(Dataset):
    """100 grey 25x25 faces: scikit-image's `lfw_subset`, whose first 100 images are faces."""

    members: int = 50
    non_members: int = 50

    def load(self, seed: int) -> Split:
        from skimage.data import lfw_subset

        faces = torch.from_numpy(lfw_subset()[:100]).float().unsqueeze(1)  # (100, 1, 25, 25), already in [0, 1]
        return split(faces, self.members, self.non_members, seed, "faces")

    def fingerprint(self) -> str:
        return "scikit-image lfw_subset[:100]"


@dataclass(frozen=True)
class Digits(Dataset):
    """1,797 grey 8x8 handwritten digits: scikit-learn's `load_digits`."""

    members: int = 50
    non_members: int = 50

    def load(self, seed: int) -> Split:
        from sklearn.datasets import load_digits

        digits = torch.from_numpy(load_digits().images).float().unsqueeze(1) / 16  # (1797, 1, 8, 8)
        return split(digits, self.members, self.non_members, seed, "digits")

    def fingerprint(self) -> str:
        return "scikit-learn load_digits"


@dataclass(frozen=True)
class Patches(Dataset):
    """Non-overlapping RGB crops of the photographs that scikit-image and scikit-learn ship."""

    members: int = 50
    non_members: int = 50
    size: int = 32  # side of a crop, in pixels
    min_contrast: float = 0.08  # crops whose pixels' standard deviation is lower are dropped (sky, black space)

    def load(self, seed: int) -> Split:
        from skimage import data
        from sklearn.datasets import load_sample_images

        if not 8 <= self.size <= 256:
            raise SettingError("size", self.size, "patches can be 8 to 256 pixels wide")
        own = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.stereo_motorcycle()[0]]
        photographs = map(torch.tensor, [*own, *load_sample_images().images])  # (H, W, 3) uint8
        size = self.size
        grids = [image.unfold(0, size, size).unfold(1, size, size) for image in photographs]  # (rows, columns, 3, …)
        pool = torch.cat([grid.flatten(0, 1) for grid in grids]).contiguous()  # (N, 3, size, size) uint8
        contrast = (pool.float() / 255).flatten(1).std(1)
        if not bool((contrast >= self.min_contrast).any()):
            raise SettingError("min_contrast", self.min_contrast, "no crop has as much (0.08 keeps most)")
        return split(pool[contrast >= self.min_contrast], self.members, self.non_members, seed, "patches")

    def fingerprint(self) -> str:
        return "photographs of scikit-image and scikit-learn"
