"""Images of random plane waves: a data set of another package."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from memorization.data import Dataset, Split, split


@dataclass(frozen=True)
class Waves(Dataset):
    """Grey images of `side` x `side` pixels, a plane wave each."""

    members: int = 10
    non_members: int = 10
    side: int = 8

    revision: ClassVar[int] = 1

    def load(self, seed: int) -> Split:
        generator = torch.Generator().manual_seed(0)
        turns, phase = 4 * torch.rand(2, 200, 1, 1, generator=generator), torch.rand(200, 1, 1, generator=generator)
        at = torch.arange(self.side) / self.side
        wave = torch.sin(2 * math.pi * (turns[0] * at[:, None] + turns[1] * at + phase))
        return split((0.5 + 0.5 * wave).clamp(0, 1).unsqueeze(1), self.members, self.non_members, seed, "waves")

    def fingerprint(self) -> str:
        return "200 plane waves"
