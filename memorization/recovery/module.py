"""Recovery as a Lightning predict loop: devices, processes and precision are the Trainer's business.

Each batch that is done is written to disk at once as a shard, one file of scores and one of images; the shards of all
batches and processes together are the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BasePredictionWriter
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from memorization.data import Split, as_float
from memorization.recovery.experiment import Recipe, RecoveredBatch, recover_batch
from memorization.training import hardware


class Originals(Dataset[tuple[Tensor, int, bool, int]]):
    """The images of a draw, members first, as they are stored: image, index in the pool, is it a member, row."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self.indices = split.member_indices + split.non_member_indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, row: int) -> tuple[Tensor, int, bool, int]:
        members = self.split.members
        is_member = row < len(members)
        image = members[row] if is_member else self.split.non_members[row - len(members)]
        return image, self.indices[row], is_member, row


class RecoveryModule(pl.LightningModule):
    """`predict_step` degrades a batch, recovers it with the autoencoder, and scores the answers."""

    members: Tensor

    def __init__(
        self, autoencoder: nn.Module, recipe: Recipe, members: Tensor, on_iteration: Callable[[int], None] | None = None
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.recipe = recipe
        self.on_iteration = on_iteration
        self.register_buffer("members", members, persistent=False)

    def predict_step(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], batch_index: int) -> RecoveredBatch:
        images, indices, is_member, rows = batch
        originals = as_float(images).to(self.dtype)
        done = recover_batch(
            self.recipe, self.autoencoder, originals, indices.tolist(), self.members, on_iteration=self.on_iteration
        )
        done.scores["member"] = is_member.tolist()
        done.scores["row"] = rows.tolist()
        return done


class ShardWriter(BasePredictionWriter):
    """Writes each batch as `<process>-<batch>.parquet`, and the images of the gallery's rows beside it."""

    def __init__(self, folder: Path, gallery: Sequence[int]) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder
        self.gallery = set(gallery)

    def write_on_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, prediction: Any, *rest: Any
    ) -> None:
        _, batch, batch_index, _ = rest
        assert isinstance(prediction, RecoveredBatch)
        stem = f"{trainer.global_rank:04d}-{batch_index:08d}"
        images, _, _, rows = batch
        shown = [i for i, row in enumerate(rows.tolist()) if row in self.gallery]
        tensors = {"original": as_float(images), "degraded": prediction.degraded, "answer": prediction.answers}
        kept = {name: to_uint8(tensor[shown]) for name, tensor in tensors.items()}
        save_file({**kept, "row": rows[shown].cpu().contiguous()}, self.folder / f"{stem}.safetensors")
        prediction.scores.to_parquet(self.folder / f"{stem}.parquet", index=False)


def to_uint8(images: Tensor) -> Tensor:
    """Images in [0, 1], clipped to it, as 8-bit values on the CPU."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu().contiguous()


def recover(
    autoencoder: nn.Module,
    split: Split,
    recipe: Recipe,
    folder: Path,
    *,
    batch_size: int,
    gallery: Sequence[int] = (),
    on_iteration: Callable[[int], None] | None = None,
    trainer: dict[str, Any] | None = None,
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Recover all members and non-members; shards go to `folder`.

    `trainer` holds arguments of Lightning's Trainer (accelerator, devices, precision); mixed precision is for training
    alone, a recovery is in float32. Returns the scores, one row an image, members first, and the images of the
    `gallery`'s rows: `original`, `degraded`, `answer` (K, C, H, W) uint8 and `row` (K,).
    """
    loader = DataLoader(Originals(split), batch_size=batch_size)
    folder.mkdir(parents=True, exist_ok=True)
    arguments = hardware(trainer or {})
    if "mixed" in str(arguments.get("precision")):
        arguments = {**arguments, "precision": "32-true"}
    runner = pl.Trainer(
        callbacks=[ShardWriter(folder, gallery)],
        inference_mode=False,  # methods with gradients need autograd
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        **arguments,
    )
    if runner.num_devices > 1:  # a process each, to which a progress bar cannot go
        on_iteration = None
    module = RecoveryModule(autoencoder, recipe, split.members, on_iteration)
    runner.predict(module, loader, return_predictions=False)
    table = pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))])
    table = table.sort_values("row").reset_index(drop=True)
    shown = [load_file(path) for path in sorted(folder.glob("*.safetensors"))]
    order = torch.cat([shard["row"] for shard in shown]).argsort()
    pictures = {name: torch.cat([shard[name] for shard in shown])[order] for name in shown[0]}
    return table, pictures
