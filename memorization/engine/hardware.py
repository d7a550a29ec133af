"""The Trainer settings (accelerator, devices, precision) of a training or a recovery, and the processes they take."""

from __future__ import annotations

import atexit
import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from torch import distributed

from memorization.engine import interruption

PRECISIONS = ("32", "32-true", "64", "64-true", "bf16", "bf16-mixed")  # of Lightning's


class Spawned(DDPStrategy):
    """Lightning's `ddp_spawn`, whose processes leave their group before they end.

    Else the threads of gloo are destroyed as they run, which now and then aborts a process whose work is done.
    """

    def __init__(self) -> None:
        super().__init__(start_method="spawn")

    def setup_environment(self) -> None:
        super().setup_environment()
        atexit.register(_leave_group)


def _leave_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def trainer_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments of Lightning's Trainer for `settings` (accelerator, devices, precision).

    Several devices are a process each, spawned for a training or a recovery alone: the caller goes on as one.
    """
    return settings if settings.get("devices", 1) == 1 else {**settings, "strategy": Spawned()}


@contextlib.contextmanager
def stopping(runner: pl.Trainer) -> Iterator[None]:
    """In this block, the processes that `runner` has spawned end with this one if it is told to stop."""
    try:
        yield
    except interruption.Interrupted:
        if launcher := runner.strategy.launcher:
            launcher.kill(signal.SIGKILL)
        raise


def check(settings: dict[str, Any]) -> None:
    """Raise `ValueError` for settings of Lightning's Trainer (accelerator, devices, precision) that it cannot use.

    Half precision with 5 bits of exponent is refused, too, since its gradients need a scale, which `last.ckpt` does not
    keep; and weights that are themselves in half precision, since they have no loss in float32, in which rungs are
    measured.
    """
    if str(settings.get("precision", "32-true")) not in PRECISIONS:
        raise ValueError(
            f"trainer.precision={settings['precision']} is not supported; take bf16-mixed or 32-true (the default)"
        )
    try:
        pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, **trainer_arguments(settings))
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        given = " ".join(f"trainer.{key}={value}" for key, value in settings.items())
        default = "trainer.accelerator=auto trainer.devices=1 trainer.precision=32-true"
        raise ValueError(f"{given}: {error} The default is {default}") from error
