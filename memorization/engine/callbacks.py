"""What watches a training or a recovery: the record of its course, progress bars, metrics while it runs."""

import math
import sys
from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from pytorch_lightning.loggers import Logger
from tqdm import tqdm

from memorization.engine.history import History
from memorization.evaluation.batch import Recipe
from memorization.store.signature import rung_name


class Recorder(Callback):
    """Adds a row to the history every `every` steps and at the last, and hands it to the trainer's loggers."""

    def __init__(self, every: int = 10) -> None:
        self.every = every

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        history = module.history
        last = trainer.should_stop or history.steps == module.settings.max_steps - 1
        if (last or history.steps % self.every == 0) and [row[0] for row in history.rows[-1:]] != [history.steps]:
            rate = module.settings.learning_rate * module.settings.rate(history.steps)
            history.rows.append((history.steps, history.loss, rate))
            self._log(history.rows[-1], trainer.loggers)

    @classmethod
    def replay(cls, history: History, loggers: Iterable[Logger]) -> None:
        """Hand over all rows: of an earlier attempt, of a training in other processes, or of one of an ensemble."""
        for row in history.rows:
            cls._log(row, loggers)

    @staticmethod
    def _log(row: tuple[int, float, float], loggers: Iterable[Logger]) -> None:
        step, loss, rate = row
        for logger in loggers:
            logger.log_metrics({"train/step": step, "train/loss": loss, "train/learning_rate": rate}, step)


class LadderBar(TQDMProgressBar):
    """Lightning's bar, with the loss and the next rung; refreshed rarely where nobody watches (a log file).

    steps: of a batch of Lightning's.
    """

    def __init__(self, steps: int = 1) -> None:
        super().__init__(refresh_rate=-(-(20 if sys.stderr.isatty() else 250) // steps), leave=True)
        self.steps = steps

    def init_train_tqdm(self) -> Tqdm:
        bar = super().init_train_tqdm()
        bar.unit_scale = self.steps if self.steps > 1 else False
        bar.bar_format = "training: {percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]"
        return bar

    def get_metrics(self, trainer: pl.Trainer, pl_module: Any) -> dict[str, Any]:
        rung = pl_module.next_rung
        return {"loss": f"{pl_module.history.loss:.2e}", "next rung": f"{rung:g}" if rung else "none"}


class RecoveryBar(Callback):
    """A bar over the iterations of a recovery at all its rungs, with the metrics of the images recovered so far.

    The metrics go to the trainer's loggers as well. Of several processes, which no bar reaches, the first prints the
    metrics of all once they are through.
    """

    def __init__(self, name: str, rungs: int, batches: int, recipe: Recipe, shown: bool = True) -> None:
        self.each = recipe.tries.iterations  # a batch
        self.rung, total = "", rungs * batches * self.each
        mininterval = 0.5 if sys.stderr.isatty() else 10
        self.bar = tqdm(total=total, desc=name, unit="it", disable=not shown, mininterval=mininterval)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "bar": None}  # to another process

    def begin(self, rung: float) -> None:
        """The recovery at another rung begins; of what has no weights, it is NaN."""
        self.rung = "" if math.isnan(rung) else f"rung {rung_name(rung)}"
        self.bar.set_postfix_str(self.rung)

    def on_predict_start(self, trainer: pl.Trainer, module: Any) -> None:
        if trainer.world_size == 1:
            self.bar.update(module.found * self.each)
            module.on_iteration = self.bar.update

    def on_predict_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        if trainer.world_size == 1:
            values = module.metrics.compute()
            self.bar.set_postfix_str(self._told(values))
            for logger in trainer.loggers:
                logger.log_metrics({f"running/{name}": float(value) for name, value in values.items()})

    def on_predict_end(self, trainer: pl.Trainer, module: Any) -> None:
        if trainer.world_size > 1:
            values = module.metrics.compute()  # over all processes
            if trainer.is_global_zero:
                print(self._told(values), flush=True)

    def close(self) -> None:
        """The recovery is through, or failed."""
        self.bar.close()

    def _told(self, values: dict[str, Any]) -> str:
        """`rung 1e-08: members 98 %, 77.9 dB; non-members 0 %, 12.1 dB`, of the kinds that there are yet."""
        kinds = [
            f"{kind.replace('_', '-')} {100 * share:.0f} %, {float(values[f'{kind}_median_psnr']):.1f} dB"
            for kind in ("members", "non_members")
            if (share := float(values[f"{kind}_recovered"])) == share
        ]
        return (f"{self.rung}: " if self.rung else "") + "; ".join(kinds)
