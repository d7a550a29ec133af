"""No images at all: what an extraction needs of a data set is the shape of its images alone."""

from dataclasses import dataclass

import torch

from memorization.data.split import Dataset, Split, as_shape


@dataclass(frozen=True)
class Nothing(Dataset):
    """Neither members nor non-members, for an extraction from an autoencoder whose weights are given.

    shape: channels, height and width of the images that it takes.
    """

    shape: tuple[int, ...] = ()

    has_images = False

    def load(self, seed: int) -> Split:
        none = torch.empty(0, *as_shape(self.shape))
        return Split(none, none, [], [])

    def fingerprint(self) -> str:
        return ""
