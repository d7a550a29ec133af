"""Degradations: what is done to an image before it is to be recovered.

A degradation turns a batch of images into a `Measurement`: `y = H x + (1 - H) c + e`, where `H` is a linear operator,
`c` the fill of erased pixels and `e` Gaussian noise. Its randomness is drawn per image, from that image's seed alone,
so that a measurement depends neither on its batch nor on the device. `Jpeg` and `Quantise` lie outside this model.
"""

from typing import Any

from memorization.components import Registry
from memorization.degradations.chain import Chain
from memorization.degradations.coding import Jpeg, Quantise
from memorization.degradations.erasures import FILLS, Box, Direction, Fill, Half, RandomPixels, Side, Stripes, Strokes
from memorization.degradations.linear import Blur, Downsample, Gain, MotionBlur, Noise
from memorization.degradations.measurement import Degradation, Description, Measurement, image_seeds
from memorization.degradations.operators import Mask, Operator

_ERASURES = {"random_pixels": RandomPixels, "box": Box, "half": Half, "stripes": Stripes, "strokes": Strokes}
_LINEAR = {"blur": Blur, "motion_blur": MotionBlur, "downsample": Downsample, "gain": Gain, "noise": Noise}
_OTHERS = {"jpeg": Jpeg, "quantise": Quantise, "chain": Chain}
DEGRADATIONS: Registry[Any] = Registry("degradations", {**_ERASURES, **_LINEAR, **_OTHERS})

__all__ = ["DEGRADATIONS", "FILLS", "Blur", "Box", "Chain", "Degradation", "Description", "Direction", "Downsample"]
__all__ += ["Fill", "Gain", "Half", "Jpeg", "Mask", "Measurement", "MotionBlur", "Noise", "Operator", "Quantise"]
__all__ += ["RandomPixels", "Side", "Stripes", "Strokes", "image_seeds"]
