"""The hardware of a training or a recovery: what Lightning's Trainer is told of it, and the processes it takes."""

import atexit
import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment, find_free_network_port
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from torch import Tensor, distributed, nn

from memorization.components import SettingError
from memorization.engine import interruption
from memorization.engine.settings import Hardware

for name in ("pytorch_lightning", "lightning_fabric"):  # which set their own as they are imported
    logging.getLogger(name).setLevel(logging.ERROR)

PRECISIONS = ("32", "32-true", "64", "64-true", "bf16", "bf16-mixed")  # of Lightning's


class OneMachine(LightningEnvironment):
    """This process and those that it spawns, whatever a batch system or a launcher says of others in the environment.

    Else Lightning takes a process in a SLURM job for one of several that `srun` has started, which wait for each other.
    """

    creates_processes_externally = False
    main_address = "127.0.0.1"

    def __init__(self) -> None:
        super().__init__()
        self.first = os.getpid()
        self.set_global_rank(0)

    @property
    def main_port(self) -> int:
        if self._main_port == -1:
            self._main_port = find_free_network_port()
        return self._main_port

    def local_rank(self) -> int:
        return 0 if os.getpid() == self.first else super().local_rank()  # as the launcher of spawned ones has set it

    def node_rank(self) -> int:
        return 0


class Spawned(DDPStrategy):
    """Lightning's `ddp_spawn`, whose processes leave their group before they end.

    Else the threads of gloo are destroyed as they run, which now and then aborts a process whose work is done.
    """

    def __init__(self) -> None:
        super().__init__(start_method="spawn")

    def setup_environment(self) -> None:
        interruption.end_with(os.getppid())
        super().setup_environment()
        atexit.register(_leave_group)


def _leave_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def trainer_on(hardware: Hardware, **arguments: Any) -> pl.Trainer:
    """A Trainer that writes nothing by itself; `arguments` are further ones of Lightning's.

    Several devices are a process each, spawned for a training or a recovery alone: the caller goes on as one.
    """
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    arguments["plugins"] = [OneMachine()]
    if hardware.devices != 1:
        arguments["strategy"] = Spawned()
    return pl.Trainer(**{**quiet, "enable_progress_bar": False, **asdict(hardware), **arguments})


@contextlib.contextmanager
def stopping(runner: pl.Trainer) -> Iterator[None]:
    """In this block, the processes that `runner` has spawned end with this one if it is told to stop."""
    try:
        yield
    except (interruption.Interrupted, SystemExit):
        if launcher := runner.strategy.launcher:
            launcher.kill(signal.SIGKILL)
        raise


def check(hardware: Hardware) -> None:
    """Raise `SettingError` for hardware that Lightning's Trainer cannot use here.

    Half precision with 5 bits of exponent is refused, too, since its gradients need a scale, which `last.ckpt` does not
    keep; and weights that are themselves in half precision, since they have no loss in float32, in which rungs are
    measured.
    """
    if hardware.precision not in PRECISIONS:
        raise SettingError(
            "precision", hardware.precision, "it is not supported; take bf16-mixed or 32-true (the default)"
        )
    try:
        trainer_on(hardware)
    except (MisconfigurationException, ImportError, ValueError, TypeError, RuntimeError) as error:
        default = Hardware()
        for name, value in asdict(hardware).items():
            if value != getattr(default, name):
                reason = " ".join(str(error).split()).rstrip(".")
                raise SettingError(name, value, f"{reason}; the default is {getattr(default, name)}") from error
        raise


def is_one_processor(hardware: Hardware) -> bool:
    """Is this one process that computes without an accelerator?"""
    if hardware.devices != 1:
        return False
    return trainer_on(hardware).strategy.root_device.type == "cpu"


class Processes:
    """The processes that train together, seen from one of them: which share of a batch is its own, and what they sum.

    Gradients are summed here, since shares of a batch differ in size, and DDP would give each share the same weight.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        self.rank, self.count = trainer.global_rank, trainer.world_size
        self.device = trainer.strategy.root_device

    def own(self, images: Tensor) -> Tensor:
        """The share of this process in `images`, which may be empty."""
        return images[self.rank :: self.count]

    def total(self, value: float) -> float:
        """`value` summed over the processes."""
        if self.count == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return total.item()

    def sum_gradients(self, model: nn.Module) -> None:
        """Each parameter's gradient becomes the sum over the processes."""
        if self.count == 1:
            return
        for parameter in model.parameters():
            if parameter.grad is None:  # of a process whose share of the batch was empty
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)

    def share_buffers(self, model: nn.Module) -> None:
        """The statistics of batches are those of the first process, whose weights are kept, in every process."""
        if self.count > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)
