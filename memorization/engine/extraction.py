"""Extraction as a Lightning predict loop, a round of the search at a time: devices and processes are the Trainer's.

Each batch that is done is written to disk at once as a shard. A search that was killed finds its shards, and draws the
same starting images for the batches that are missing, so that it ends with the same bits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BasePredictionWriter, Callback
from pytorch_lightning.loggers import Logger
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from memorization.engine.hardware import stopping, trainer_on
from memorization.engine.settings import Hardware
from memorization.engine.shards import is_whole, shard_name
from memorization.extraction.search import Bank, Draw, Search, Settled, search, settle_draw
from memorization.store import files

ENDS = "ends.safetensors"


@dataclass
class Draws(Dataset[Draw]):
    """The batches of a round that are missing; their starting images are drawn where they are iterated."""

    draws: Sequence[Draw]

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, index: int) -> Draw:
        return self.draws[index]


class ExtractionModule(pl.LightningModule):
    """`predict_step` draws a batch of starting images and iterates the autoencoder from them to their ends."""

    def __init__(self, autoencoder: nn.Module, settings: Search, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.settings, self.shape = settings, shape
        self.ends = torch.empty(0, *shape)  # found before this round

    def predict_step(self, draw: Draw, batch_index: int) -> Settled:
        like = torch.empty(1, *self.shape, device=self.device).to(self.dtype)
        return settle_draw(self.autoencoder, draw, self.settings, self.ends, like)


class EndWriter(BasePredictionWriter):
    """Writes where each batch ended to the folder `shard_name` of its number."""

    def __init__(self, folder: Path) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder

    def write_on_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, prediction: Any, *rest: Any
    ) -> None:
        _, draw, _, _ = rest
        assert isinstance(prediction, Settled)
        shard = self.folder / shard_name(draw.number)
        tensors = {f.name: getattr(prediction, f.name).cpu().contiguous() for f in fields(prediction)}
        files.write(shard / ENDS, save(tensors), durable=False)
        files.seal(shard, {}, durable=False)


class Progress(Callback):
    """Tells of the queries of each batch that is done, where this process is the only one."""

    def __init__(self, on_batch: Callable[[int], None]) -> None:
        self.on_batch = on_batch

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *rest: Any
    ) -> None:
        self.on_batch(int(outputs.queries.sum()))


def extract(
    autoencoder: nn.Module,
    shape: tuple[int, int, int],
    settings: Search,
    folder: Path,
    *,
    seed: int = 0,
    on_round: Callable[[Bank], None] | None = None,
    observers: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    hardware: Hardware | None = None,
) -> Bank:
    """The ends of images of `shape` (C, H, W); shards go to `folder`, and those that it holds are taken as done.

    on_round: is told of the bank after each round. In float32, whatever the precision of the training.
    """
    hardware = hardware or Hardware()
    if "mixed" in hardware.precision:
        hardware = replace(hardware, precision="32-true")
    module = ExtractionModule(autoencoder, settings, shape)

    def settle_all(draws: Sequence[Draw], ends: Tensor) -> list[Settled]:
        missing = [draw for draw in draws if not is_whole(folder / shard_name(draw.number))]
        if missing:
            module.ends = ends
            devices = min(hardware.devices, len(missing)) if hardware.devices > 0 else hardware.devices
            own = list(loggers) if hardware.devices == 1 else False
            arguments = {"callbacks": [EndWriter(folder), *observers], "inference_mode": False, "logger": own}
            runner = trainer_on(replace(hardware, devices=devices), **arguments)
            loader = DataLoader(Draws(missing), batch_size=1, collate_fn=itemgetter(0))
            with stopping(runner):
                runner.predict(module, loader, return_predictions=False)
        return [Settled(**load_file(folder / shard_name(draw.number) / ENDS)) for draw in draws]

    return search(settings, shape, settle_all, seed, on_round)
