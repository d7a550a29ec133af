"""Near duplicates: a perceptual hash proposes pairs, a comparison of small grey versions confirms them.

The hash is pHash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010): the signs of the
lowest 8x8 frequencies, but the constant one, of the image at 32x32 grey pixels against their median. It is blind to
compression, size, brightness and contrast; not to shifts of more than a few per cent, cropping or mirroring.

How near two hashes may be is measured on the images themselves. Distinct photographs differ in about 32 +- 4 of the 63
bits and never in as few as 8, which is the limit; the hashes of small and simple images are closer to each other (of
1,797 distinct 8x8 digits, 1,496 pairs differ in 8 bits or fewer), so the limit is also 5 standard deviations below the
mean of the set at hand. It never falls below equal hashes: pages of text, or photographs beside many such pages, are so
unlike each other in how alike they are that the mean is no 5 deviations above 0. (A limit of each image's own, from its
distances to the others, finds more copies in such mixtures but takes 41 of the distinct digits for duplicates.)
"""

import numpy as np
import torch
from PIL import Image
from scipy.fft import dctn
from torch import Tensor

SIDE = 32  # pixels of a thumbnail
LIMIT = 8  # bits in which the hashes of near duplicates may differ at most
DEVIATIONS = 5  # below the set's mean; a normal tail of 3e-7 a pair
CORRELATION = 0.9  # of two thumbnails' pixels that makes a suspicion sure
SAMPLE = 1000  # images whose pairs tell how near the hashes of distinct ones are


def thumbnail(image: Image.Image) -> np.ndarray:
    """(32, 32) uint8: the grey version of an image, by which duplicates are found."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def thumbnails(images: Tensor) -> np.ndarray:
    """(N, 32, 32) uint8 of `images` (N, C, H, W), with one or three channels, uint8 or float32 in [0, 1]."""
    small = np.empty((len(images), SIDE, SIDE), dtype=np.uint8)
    for row, image in zip(small, images, strict=True):
        pixels = image if image.dtype == torch.uint8 else (image * 255).round().byte()
        pixels = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)  # (H, W) or (H, W, 3)
        row[:] = thumbnail(Image.fromarray(pixels.numpy()))
    return small


def perceptual_hashes(small: np.ndarray) -> np.ndarray:
    """(N,) uint64: the hashes of thumbnails (N, 32, 32)."""
    low = dctn(small.astype(np.float32), axes=(1, 2))[:, :8, :8].reshape(-1, 64)[:, 1:]  # (N, 63)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1, bitorder="little").view("<u8")[:, 0]


def hashes_of(images: Tensor) -> np.ndarray:
    """(N,) uint64: the perceptual hashes of `images` (N, C, H, W)."""
    return perceptual_hashes(thumbnails(images))


def limit_of(hashes: np.ndarray) -> int:
    """In how many bits the hashes of near duplicates in a set with these `hashes` may differ, at least 0.

    Pairs within `LIMIT` do not count in the mean and the deviation: they may be duplicates.
    """
    sample = hashes[:SAMPLE]
    distances = np.bitwise_count(sample[:, None] ^ sample[None])[np.triu_indices(len(sample), 1)]
    distinct = distances[distances > LIMIT]
    if len(distinct) == 0:
        return LIMIT
    return max(0, min(LIMIT, int(np.floor(distinct.mean() - DEVIATIONS * distinct.std()))))


def alike(small: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) bool: does the thumbnail `small` (32, 32) show the same as each of `others` (N, 32, 32), at any contrast?

    Images of one colour show nothing, and are like no other.
    """
    a, b = (x.astype(np.float64) - x.mean((-2, -1), keepdims=True) for x in (small, others))
    same: np.ndarray = (a * b).sum((1, 2)) > CORRELATION * np.sqrt((a**2).sum() * (b**2).sum((1, 2)))
    return same
