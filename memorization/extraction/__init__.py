"""What comes out of an autoencoder when nothing is measured: the images to which its iteration is attracted."""

from memorization.extraction.priors import PRIORS, Arm, Combinations, Folder, Mixture, Noise, Prior
from memorization.extraction.richness import Richness, richness
from memorization.extraction.search import TO_RECALL, Bank, Ending, Search, settle

__all__ = [
    "PRIORS",
    "TO_RECALL",
    "Arm",
    "Bank",
    "Combinations",
    "Ending",
    "Folder",
    "Mixture",
    "Noise",
    "Prior",
    "Richness",
    "Search",
]
__all__ += ["richness", "settle"]
