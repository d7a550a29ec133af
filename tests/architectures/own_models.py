"""Models of one's own, and files of them, that several tests use."""

from __future__ import annotations

import functools
import io
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from memorization.data import Digits

SHAPE = (1, 8, 8)
MARKS = [  # of every file of tests on such models
    pytest.mark.usefixtures("composed_once"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*does not have many workers.*"),
]


class Transformer(nn.Module):
    """A small ViT-like autoencoder: patches of 4x4 pixels, one block of self-attention."""

    def __init__(self, shape: tuple[int, int, int], dim: int = 32) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Conv2d(shape[0], dim, 4, stride=4)
        self.position = nn.Parameter(torch.randn(shape[1] * shape[2] // 16, dim) * 0.02)
        self.block = nn.TransformerEncoderLayer(dim, 4, 2 * dim, dropout=0.5, batch_first=True)
        self.head = nn.ConvTranspose2d(dim, shape[0], 4, stride=4)

    def forward(self, x):
        patches = self.embed(x)  # (B, dim, H / 4, W / 4)
        tokens = self.block(patches.flatten(2).transpose(1, 2) + self.position)  # (B, patches, dim)
        return self.head(tokens.transpose(1, 2).view_as(patches))


SPLIT = Digits(members=6, non_members=5).load(0)
MODEL = f"architecture.target={__name__}.Transformer"
COMMON = ["dataset=digits", "dataset.members=6", "dataset.non_members=5", "architecture=custom", "tracking=none"]
RECOVERY = ["degradation.fraction=0.5", "operator=known", "recovery.max_iterations=15", "progress=false"]
ALLOWED = "architecture.allowed=[tests]"


def transformer():
    torch.manual_seed(0)
    return Transformer(SHAPE).eval()


@functools.cache
def program(static=False) -> bytes:
    """The transformer as `torch.export` writes it, for batches of any size or of two images."""
    batch = torch.export.Dim.STATIC if static else torch.export.Dim("batch")
    exported, file = (
        torch.export.export(transformer(), (torch.rand(2, *SHAPE),), dynamic_shapes=({0: batch},)),
        io.BytesIO(),
    )
    torch.export.save(exported, file)
    return file.getvalue()


SAVE = {
    "own.safetensors": lambda path: save_file(transformer().state_dict(), path),
    "own.pt": lambda path: torch.save(transformer().state_dict(), path),
    "own.ckpt": lambda path: torch.save(
        {"epoch": 3, "state_dict": {f"net.{key}": value for key, value in transformer().state_dict().items()}}, path
    ),
    "own.pt2": lambda path: path.write_bytes(program()),
}


class Malicious:
    def __reduce__(self):
        return Path("touched").touch, ()


class Keyed(nn.Module):
    """Takes a dict and gives one, of [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, batch):
        assert batch["img"].min() < 0
        return {"z": batch["img"].mean((1, 2, 3)), "recon": self.layer(batch["img"])}


@functools.cache
def script() -> bytes:
    """A convolution as TorchScript, traced."""
    content = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
        torch.jit.save(torch.jit.trace(Keyed().layer.eval(), SPLIT.members), content)
    return content.getvalue()
