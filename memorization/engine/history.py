"""What a training recorded, and how it is stored: its course, and the weights of the rungs that it reached."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from memorization.components import Record
from memorization.store import files
from memorization.store.signature import checksum, rung_name


@dataclass
class History:
    """What a training recorded: a row every few steps, and the weights and loss of each rung reached.

    steps: the number of the last step, counted from 0, whose loss is `loss`; that step changes no weights.
    seconds: that its steps took, by the clock, those before a resumption included. Of all this, they alone are not the
        same for the same seed.
    """

    rows: list[tuple[int, float, float]] = field(default_factory=list)  # step, train loss, learning rate
    rungs: dict[float, float] = field(default_factory=dict)  # rung to measured train loss
    weights: dict[float, dict[str, Tensor]] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)  # the files of weights that were written, and their checksums
    steps: int = 0
    loss: float = math.inf
    seconds: float = 0.0

    def note(self, loss: float, rungs: Sequence[float], weights: Callable[[], dict[str, Tensor]]) -> None:
        """Keep the `weights`, whose `loss` was measured, at each of the `rungs` that is reached for the first time."""
        for rung in rungs:
            if loss <= rung and rung not in self.rungs:
                self.rungs[rung] = loss
                self.weights[rung] = weights()

    def write(self, folder: Path) -> None:
        """`history.csv` and `weights/<rung>.safetensors` into `folder`, and no weights of an attempt before it."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(["step", "train_loss", "learning_rate"])
        writer.writerows(self.rows)
        files.write(folder / "history.csv", text.getvalue())
        self.write_weights(folder)
        for path in folder.glob("weights/*.safetensors"):
            if f"weights/{path.name}" not in self.written:
                path.unlink()

    def write_weights(self, folder: Path) -> None:
        """The weights of the rungs whose file was not written yet."""
        for rung, weights in self.weights.items():
            name = f"weights/{rung_name(rung)}.safetensors"
            if name not in self.written:
                files.write(folder / name, save(weights))
                self.written[name] = checksum(folder / name)

    def state(self, folder: Path) -> Record:
        """What a checkpoint says of it; the weights are written to `folder`."""
        self.write_weights(folder)
        return {name: getattr(self, name) for name in ("rows", "rungs", "written", "steps", "loss", "seconds")}

    @classmethod
    def resumed(cls, state: Record, folder: Path) -> History:
        """The history of a checkpoint, whose weights lie in `folder`."""
        names = ("rows", "rungs", "written", "steps", "loss")
        weights = {rung: load_file(folder / f"weights/{rung_name(rung)}.safetensors") for rung in state["rungs"]}
        seconds = state.get("seconds", 0.0)  # which older checkpoints lack
        return cls(**{name: state[name] for name in names}, weights=weights, seconds=seconds)


def weights_of(autoencoder: nn.Module) -> dict[str, Tensor]:
    """A copy of an autoencoder's state dict on the CPU, of which no two tensors share memory."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in autoencoder.state_dict().items()
    }
