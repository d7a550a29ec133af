"""Recovery as a Lightning predict loop: devices, processes and precision are the Trainer's business.

Each batch that is done is written to disk at once as a shard, scores and images with their checksums; the shards of all
batches and processes together are the result. A recovery that was killed keeps them and does the other batches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from memorization.data import Split, as_float
from memorization.engine.hardware import stopping, trainer_on
from memorization.engine.settings import Hardware
from memorization.engine.shards import ShardWriter, is_whole, shard_name
from memorization.evaluation.batch import Recipe, RecoveredBatch, recover_batch
from memorization.evaluation.running import recovery_metrics

ITERATES = (0, 1, 3, 10, 30, 100, 300, 1000)  # numbers of iterations after which the answers are kept for the gallery


@dataclass
class Batches(Dataset[list[Tensor]]):
    """Whole batches, which `starts` names by their first row: a batch has the same images on whatever device.

    Members come first. Of each image: as it is stored, its index in the pool, is it a member, its row.
    """

    split: Split
    size: int
    starts: list[int]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> list[Tensor]:
        split, count = self.split, len(self.split.members)
        indices = torch.tensor(split.member_indices + split.non_member_indices)
        rows = torch.arange(len(indices))[self.starts[index] :][: self.size]
        member = rows < count
        images = torch.cat([split.members[rows[member]], split.non_members[rows[~member] - count]])
        return [images, indices[rows], member, rows]


class RecoveryModule(pl.LightningModule):
    """`predict_step` degrades a batch, recovers it with the autoencoder, and scores the answers."""

    members: Tensor

    def __init__(
        self,
        autoencoder: nn.Module,
        recipe: Recipe,
        members: Tensor,
        found: int = 0,
        loss: float | None = None,
        bank: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.bank = bank  # images to recall, (M, C, H, W)
        self.loss = loss  # on the members, None if unknown
        self.found = found  # batches that an earlier attempt has recovered
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.recipe = recipe
        self.on_iteration: Callable[[int], None] | None = None  # is told of each iteration, by the progress bar
        self.metrics = recovery_metrics(members.shape[1:])  # of the images so far, over all processes
        self.register_buffer("members", members, persistent=False)

    def predict_step(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], batch_index: int) -> RecoveredBatch:
        images, indices, is_member, rows = batch
        originals = as_float(images).to(self.dtype)
        done = recover_batch(
            self.recipe,
            self.autoencoder,
            originals,
            indices.tolist(),
            self.members,
            path=steps_of(self.recipe),
            on_iteration=self.on_iteration,
            bank=self.bank,
            loss=self.loss,
        )
        self.metrics.update(**done.compared(originals, is_member))
        done.scores["member"] = is_member.tolist()
        done.scores["row"] = rows.tolist()
        return done


def steps_of(recipe: Recipe) -> list[int]:
    """The numbers of iterations after which answers are kept for the gallery."""
    return [count for count in ITERATES if count < recipe.method.max_iterations]


def recover(
    autoencoder: nn.Module,
    split: Split,
    recipe: Recipe,
    folder: Path,
    *,
    batch_size: int,
    gallery: Sequence[int] = (),
    observers: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    hardware: Hardware | None = None,
    loss: float | None = None,
    bank: Tensor | None = None,
    members: Tensor | None = None,
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Recover all members and non-members; shards go to `folder`, and those that it holds already are taken as done.

    `observers` are further callbacks of the predict loop. `loss` is the train loss, None if unknown; `bank`
    (M, C, H, W) holds the images that are recalled; `members` (N, C, H, W) all that answers are compared with, of which
    those of `split` are a sample. Mixed precision is for training alone: a recovery is in float32.
    Returns the scores, one row an image, members first, and the images of the `gallery`'s rows: `original`, `degraded`,
    `answer` (K, C, H, W) uint8 and `row` (K,); and `path` (K, P, C, h, w) uint8, reduced: the answers after the P
    numbers of iterations `steps`, black from an image's last iteration on.
    """
    starts = [*range(0, len(split.members) + len(split.non_members), batch_size)]
    missing = [start for start in starts if not is_whole(folder / shard_name(start))]
    hardware = hardware or Hardware()
    if "mixed" in hardware.precision:
        hardware = replace(hardware, precision="32-true")
    arguments = {
        "callbacks": [ShardWriter(folder, gallery), *observers],
        "inference_mode": False,  # methods with gradients need autograd
        "logger": list(loggers) if hardware.devices == 1 else False,
    }
    runner = trainer_on(hardware, **arguments)
    if runner.world_size > len(missing) > 0:  # each process needs a batch of its own
        runner = trainer_on(replace(hardware, devices=len(missing)), num_nodes=1, **arguments)
    known = split.members if members is None else members
    module = RecoveryModule(autoencoder, recipe, known, found=len(starts) - len(missing), loss=loss, bank=bank)
    if missing:
        # one item is a whole batch already
        loader = DataLoader(Batches(split, batch_size, missing), batch_size=1, collate_fn=itemgetter(0))
        with stopping(runner):
            runner.predict(module, loader, return_predictions=False)
    shards = [folder / shard_name(start) for start in starts]
    table = pd.concat([pd.read_parquet(shard / "scores.parquet") for shard in shards], ignore_index=True)
    shown = [load_file(shard / "images.safetensors") for shard in shards]
    names = set.intersection(*(set(shard) for shard in shown))  # shards of older versions have no path
    pictures = {name: torch.cat([shard[name] for shard in shown]) for name in sorted(names)}
    pictures["steps"] = torch.tensor(steps_of(recipe))
    return table, pictures
