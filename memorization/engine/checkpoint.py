"""`last.ckpt`: the state of a training, from which it goes on to the same bits as if it had never stopped.

It holds everything that a later step depends on: the weights and their average, the optimiser, the random state and
what was recorded so far; a batch depends on the seed and its step alone. The weights of rungs lie beside it, written
once each. The file is replaced as a whole and at intervals of at least fifty times what writing it took, so that it
is meant to cost less than 2 % (not timed). It is a zip archive of tensors and plain values, and only those are loaded.
"""

from __future__ import annotations

import io
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from memorization.engine import interruption
from memorization.store import files
from memorization.store.signature import checksum

NEEDED = {"step", "autoencoder", "averaged", "optimiser", "random", "random_cuda", "written"}  # of a state
OTHER_CONTENT = (TypeError, AttributeError, KeyError)  # a whole file that holds something else
SHARE = 50  # a checkpoint is due after so many times the seconds that the last one took


def load(folder: Path, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    """The state in `folder`, or None if there is none; one that is damaged, or does not fit, is removed with a note."""
    path = folder / files.CHECKPOINT
    if not path.is_file():
        return None
    misfit = False
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip() is not None
        if not damaged:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            damaged = not state.keys() >= NEEDED or any(
                checksum(folder / name) != expected for name, expected in state["written"].items()
            )
            misfit = not damaged and not fits(state)
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError, OSError, *OTHER_CONTENT):
        damaged = True
    if damaged or misfit:
        why = "or the weights that it counts on are damaged" if damaged else "is of another model, or of other code"
        print(f"note: {path} {why}; the training begins anew", flush=True)
        path.unlink()
        return None
    return state


class LastCheckpoint(Callback):
    """Writes `last.ckpt` to `folder` every `seconds`, or more rarely where that is expensive, and before stopping."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self.cost = 0.0
        self.last = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        stopping = interruption.pending()
        if not trainer.is_global_zero or trainer.should_stop or module.step >= module.settings.max_steps:
            return
        if stopping or time.monotonic() - self.last >= max(self.seconds, SHARE * self.cost):
            begin = time.monotonic()
            content = io.BytesIO()
            torch.save(module.state(self.folder), content)
            files.write(self.folder / files.CHECKPOINT, content.getvalue())
            self.last = time.monotonic()
            self.cost = self.last - begin
        if stopping:
            interruption.stop()
