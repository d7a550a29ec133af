"""Maps, starts and searches that several test files use."""

from __future__ import annotations

import torch

from memorization import extract
from tests import problems

SHAPE = problems.SHAPE
MEMBERS = problems.images(12, 0, torch.float32)
OTHERS = problems.images(9, 1, torch.float32)
NO_ENDS = torch.empty(0, *SHAPE)


def ran(autoencoder, shape=SHAPE, **settings):
    return extract(autoencoder, shape, progress=False, **{"queries": 3000, "batch_size": 50} | settings)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)
