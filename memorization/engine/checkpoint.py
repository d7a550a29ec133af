"""`last.ckpt`: the state of a training, from which it goes on to the same bits as if it had never stopped.

It holds everything that a later step depends on: the weights and their average, the optimiser, the random state and
what was recorded so far; a batch depends on the seed and its step alone. The weights of rungs lie beside it, written
once each. The file is replaced as a whole and at intervals of at least fifty times what writing it took, so that it
is meant to cost less than 2 % (not timed). It is a zip archive of tensors and plain values, and only those are loaded.

Not Lightning's own checkpoints: they lack the generators' state and the kept rungs, count steps and batches that we
count ourselves (the last step moves no weights), and are written at steps or epochs, not by their cost.
"""

import io
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from memorization.components import Record
from memorization.engine import interruption
from memorization.engine.history import History
from memorization.store import files
from memorization.store.signature import checksum

State = Record  # what a checkpoint holds: tensors and plain values
NEEDED = {"step", "autoencoder", "averaged", "coordinates", "optimiser", "random", "random_cuda", "written"}
OTHER_CONTENT = (TypeError, AttributeError, KeyError)  # a whole file that holds something else
SHARE = 50  # a checkpoint is due after so many times the seconds that the last one took


def state_of(module: Any, folder: Path) -> State:
    """Everything that the next step depends on; the weights of rungs go to `folder`."""
    optimiser: Any = module.optimizers()
    module.history.seconds = time.monotonic() - module.began
    return {
        "step": module.step,
        "autoencoder": module.autoencoder.state_dict(),
        "averaged": module.averaged.state_dict() if module.averaged else {},
        "coordinates": _coordinates(module),
        "optimiser": optimiser.optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all(),
        **module.history.state(folder),
    }


def resume(module: Any, folder: Path) -> bool:
    """Have `module` go on from the checkpoint in `folder`; False if there is none that it can go on from.

    One that is damaged, or does not fit, is removed with a note.
    """
    path = folder / files.CHECKPOINT
    if not path.is_file():
        return False
    state, misfit = None, False
    try:
        state = _read(path)
        misfit = state is not None and not _fits(module, state)
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError, OSError, *OTHER_CONTENT):
        state = None
    if state is None or misfit:
        why = "is of another model, or of other code" if misfit else "or one of its weight files is corrupt"
        print(f"note: {path} {why}; the training begins anew", flush=True)
        path.unlink()
        return False
    module.autoencoder.load_state_dict(state["autoencoder"])
    if module.averaged:
        module.averaged.load_state_dict(state["averaged"])
    module.history = History.resumed(state, folder)
    module.resumed = state
    return True


def restore_generators(state: State) -> None:
    """Set the random generators to where they were."""
    torch.set_rng_state(state["random"])
    torch.cuda.set_rng_state_all(state["random_cuda"][: torch.cuda.device_count()])


def _read(path: Path) -> State | None:
    """The state in the file `path`, None if it is damaged or a file of weights that it counts on is."""
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            return None
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    if not state.keys() >= NEEDED:
        return None
    whole = all(checksum(path.parent / name) == expected for name, expected in state["written"].items())
    return state if whole else None


def _coordinates(module: Any) -> torch.Tensor:
    """(D,) by which the basis of a training in a `span` is known again; empty without one."""
    return module.span.basis.sum(0) if module.span else torch.zeros(0)


def _fits(module: Any, state: State) -> bool:
    """Are a checkpoint's weights, their average and the optimiser's parameters of the number and shapes of ours?"""
    ours = [module.autoencoder.state_dict(), module.averaged.state_dict() if module.averaged else {}]
    shapes, expected = (
        [{name: getattr(value, "shape", None) for name, value in part.items()} for part in parts]
        for parts in ([state["autoencoder"], state["averaged"]], ours)
    )
    ours_now, theirs = _coordinates(module), state["coordinates"]
    if ours_now.shape != theirs.shape or not torch.allclose(ours_now, theirs, atol=1e-3):
        return False  # another machine may choose other signs
    moved = sum(len(group["params"]) for group in state["optimiser"]["param_groups"])
    return shapes == expected and moved == len([*module.autoencoder.parameters()])


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
            torch.save(state_of(module, self.folder), content)
            files.write(self.folder / files.CHECKPOINT, content.getvalue())
            self.last = time.monotonic()
            self.cost = self.last - begin
        if stopping:
            interruption.stop()
