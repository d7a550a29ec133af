"""What watches a training: the record of its course, and a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm


class Recorder(Callback):
    """Writes a row of the history every `every` steps, hands it to `sink` (step, metrics), and shows it on the bar."""

    def __init__(self, sink: Callable[[int, dict[str, float]], None] | None, every: int = 10) -> None:
        self.sink, self.every = sink, every

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        history = module.history
        if history.steps % self.every == 0 or trainer.should_stop:
            rate = module.settings.learning_rate * module.settings.rate(history.steps)
            history.rows.append((history.steps, history.loss, rate))
            if self.sink:
                self.sink(history.steps, metrics(history.loss, rate))


def metrics(loss: float, rate: float) -> dict[str, float]:
    """A row of the history as it is logged."""
    return {"train/loss": loss, "train/learning_rate": rate}


class LadderBar(TQDMProgressBar):
    """Lightning's bar, with the loss and the next rung; refreshed rarely where nobody watches (a log file)."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=20 if sys.stderr.isatty() else 250, leave=True)

    def init_train_tqdm(self) -> Tqdm:
        bar = super().init_train_tqdm()
        bar.bar_format = "training: {percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]"
        return bar

    def get_metrics(self, trainer: pl.Trainer, pl_module: Any) -> dict[str, Any]:
        rung = pl_module.next_rung
        return {"loss": f"{pl_module.history.loss:.2e}", "next rung": f"{rung:g}" if rung else "none"}
