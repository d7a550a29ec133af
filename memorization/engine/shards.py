"""A recovery's batches on disk: each is written as soon as it is done, scores and images with their checksums."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import BasePredictionWriter
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from memorization.data import as_float, to_uint8
from memorization.evaluation.batch import RecoveredBatch
from memorization.store import files

THUMBNAIL = 32  # pixels, the longer side of such an answer


class ShardWriter(BasePredictionWriter):
    """Writes each batch, and the images of the gallery's rows in it, to the folder `shard_name` of its first row."""

    def __init__(self, folder: Path, gallery: Sequence[int]) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder
        self.gallery = set(gallery)

    def write_on_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, prediction: Any, *rest: Any
    ) -> None:
        _, (images, _, _, rows), _, _ = rest
        assert isinstance(prediction, RecoveredBatch)
        shown = [i for i, row in enumerate(rows.tolist()) if row in self.gallery]
        tensors = {"original": as_float(images), "degraded": prediction.degraded, "answer": prediction.answers}
        kept = {name: to_uint8(tensor[shown]) for name, tensor in tensors.items()}
        assert prediction.path is not None
        kept["path"] = to_uint8(reduced(prediction.path[shown].nan_to_num()))
        shard = self.folder / shard_name(int(rows[0]))
        files.write_table(shard / "scores.parquet", prediction.scores, durable=False)
        images_kept = save({**kept, "row": rows[shown].cpu().contiguous()})
        files.write(shard / "images.safetensors", images_kept, durable=False)
        files.seal(shard, {}, durable=False)


def shard_name(row: int) -> str:
    """The folder of the batch whose first image is `row`; in the order of their names, shards are in that of rows."""
    return f"{row:08d}"


def is_whole(shard: Path) -> bool:
    """Was this shard finished? What is left of one that was not, or that is damaged, is removed."""
    try:
        files.verify(shard)
    except files.StoreError:
        shutil.rmtree(shard, ignore_errors=True)
        return False
    return True


def reduced(path: Tensor) -> Tensor:
    """Images (K, P, C, H, W) whose longer side has at most `THUMBNAIL` pixels, averaged over areas."""
    height, width = path.shape[3:]
    scale = min(1.0, THUMBNAIL / max(height, width))
    size = max(1, round(scale * height)), max(1, round(scale * width))
    small = functional.interpolate(path.flatten(0, 1), size, mode="area")
    return small.view(*path.shape[:3], *size)
