"""Autoencoders: plain modules that map images (B, C, H, W) in [0, 1] to images of the same shape, one file each."""

from memorization.architectures.architecture import ARCHITECTURES, Architecture, Output, build
from memorization.architectures.autoencoder import Centred
from memorization.architectures.external.adapted import Adapted, adapted
from memorization.architectures.external.exported import Exported
from memorization.architectures.fully_connected import FullyConnected

__all__ = [
    "ARCHITECTURES",
    "Adapted",
    "Architecture",
    "Centred",
    "Exported",
    "FullyConnected",
    "Output",
    "adapted",
    "build",
]
