"""Training an autoencoder down a ladder of train losses, keeping its weights the first time each rung is reached.

One training then serves the whole curve of recovery against train loss. Notable choices: Adam with beta2 = 0.95, a
learning rate that decays exponentially with the step (never the clock), full batches unless asked otherwise, and the
mean image of the members subtracted inside the model; each makes the descent several times faster. The loss is the
mean squared error, pixels in [0, 1]. A rung's loss is measured on the very weights that are kept, on the whole
training set in eval mode and in full precision. A batch that does not fit into memory goes through the autoencoder in
parts whose gradients are accumulated; with several devices, each takes its share of every batch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import ParallelStrategy
from torch import Tensor, distributed, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from memorization.architectures import Centred, has_modes
from memorization.data import as_float, mean_image
from memorization.engine import checkpoint, interruption
from memorization.engine.callbacks import LadderBar, Recorder, metrics
from memorization.engine.hardware import stopping, trainer_arguments
from memorization.engine.history import History, weights_of
from memorization.engine.settings import Training

AVERAGED_EVERY = 10  # steps at least between two measurements of averaged weights, each of which costs a forward pass
EXPLODED = 1e6  # a mean squared error that images in [0, 1] never have unless the weights have blown up


class TrainingDivergedError(RuntimeError):
    """The loss became NaN, infinite or absurdly large."""

    status = "diverged"  # in the run store


@dataclass  # not frozen: Lightning rebuilds it in the processes that it spawns
class Batches:
    """The batches of a training, one a step; batch `s` depends on the seed and `s` alone."""

    images: Tensor
    batch_size: int
    steps: int
    seed: int
    first: int = 0  # step, of a training that goes on

    def __len__(self) -> int:
        return self.steps - self.first

    def __iter__(self) -> Iterator[Tensor]:
        count = len(self.images)
        size = min(self.batch_size or count, count)
        if size == count:
            yield from (self.images for _ in range(self.first, self.steps))
            return
        per_epoch = math.ceil(count / size)
        order = np.arange(count)
        for step in range(self.first, self.steps):
            epoch, batch = divmod(step, per_epoch)
            if batch == 0 or step == self.first:
                order = np.random.default_rng([self.seed, 1, epoch]).permutation(count)
            yield self.images[torch.from_numpy(order[batch * size : (batch + 1) * size])]


class TrainingModule(pl.LightningModule):
    """Minimises the mean squared error between images and their reconstructions.

    It steps its optimiser itself (Lightning's manual optimisation), to accumulate over parts of a batch with the weight
    of each part's size. Gradients are summed over the processes here, since their shares of a batch differ in size, and
    DDP would give each share the same weight. The loss of a step is that of the weights before its update, so a rung is
    tested, and its weights are copied, before the optimiser moves them.
    """

    def __init__(self, autoencoder: nn.Module, members: Tensor, settings: Training, seed: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.autoencoder = autoencoder
        self.averaged: AveragedModel | None = None
        if settings.ema:
            self.averaged = AveragedModel(autoencoder, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))
            self.averaged.requires_grad_(False)
        self.settings = settings
        self.members = members
        self.full_batch = settings.batch_size == 0 or settings.batch_size >= len(members)
        self.has_modes = has_modes(autoencoder)
        self.ladder = sorted({float(rung) for rung in settings.ladder}, reverse=True)
        self.history = History()
        self.seed = seed
        self.first_step = 0
        self.earlier: dict[str, Any] | None = None  # the state of the optimiser and the generators to go on from
        self.began = 0.0  # when it would have begun, by `time.monotonic`, had it never stopped
        self.failure = ""  # why the training ended early, if it diverged

    def get_extra_state(self) -> dict[str, Any]:
        """What was recorded, beside the weights: it comes back to the main process from those that train."""
        return {"history": dataclasses.asdict(self.history), "failure": self.failure}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.history, self.failure = History(**state["history"]), state["failure"]

    def fits(self, state: dict[str, Any]) -> bool:
        """Are a checkpoint's weights, their average and the optimiser's parameters of the number and shapes of ours?"""
        ours = [self.autoencoder.state_dict(), self.averaged.state_dict() if self.averaged else {}]
        shapes, expected = (
            [{name: getattr(value, "shape", None) for name, value in part.items()} for part in parts]
            for parts in ([state["autoencoder"], state["averaged"]], ours)
        )
        moved = sum(len(group["params"]) for group in state["optimiser"]["param_groups"])
        return shapes == expected and moved == len([*self.autoencoder.parameters()])

    def resume(self, state: dict[str, Any], folder: Path) -> None:
        """Go on from the `state` of a checkpoint in `folder`, which `fits`."""
        self.autoencoder.load_state_dict(state["autoencoder"])
        if self.averaged:
            self.averaged.load_state_dict(state["averaged"])
        self.history = History.resumed(state, folder)
        self.first_step, self.earlier = state["step"], state

    def state(self, folder: Path) -> dict[str, Any]:
        """Everything that the next step depends on; the weights of rungs go to `folder`."""
        optimiser: Any = self.optimizers()
        self.history.seconds = time.monotonic() - self.began
        return {
            "step": self.step,
            "autoencoder": self.autoencoder.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else {},
            "optimiser": optimiser.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all(),
            **self.history.state(folder),
        }

    @property
    def step(self) -> int:
        """Steps done, those before a resumption included."""
        return self.first_step + self.global_step

    def on_train_start(self) -> None:
        if self.earlier:
            torch.set_rng_state(self.earlier["random"])
            torch.cuda.set_rng_state_all(self.earlier["random_cuda"][: torch.cuda.device_count()])
            self.earlier = None
        else:
            torch.manual_seed(self.seed)  # of dropout and the like
        self.began = time.monotonic() - self.history.seconds

    def on_train_end(self) -> None:
        self.history.seconds = time.monotonic() - self.began

    @property
    def next_rung(self) -> float | None:
        """The highest rung that was not reached yet."""
        return next((rung for rung in self.ladder if rung not in self.history.rungs), None)

    @property
    def kept(self) -> nn.Module:
        """The autoencoder whose weights are kept: the one that is trained, or its average."""
        return self.averaged.module if self.averaged else self.autoencoder

    def training_step(self, batch: Tensor, batch_index: int) -> None:
        optimiser: Any = self.optimizers()
        schedule: Any = self.lr_schedulers()
        optimiser.zero_grad()
        value, own = 0.0, self._own(batch)
        with self._no_averaging():
            for part in own.split(self.settings.micro_batch or len(batch)) if len(own) else ():
                images, share = as_float(part).to(self.dtype), len(part) / len(batch)
                loss = nn.functional.mse_loss(self.autoencoder(images), images)
                self.manual_backward(loss * share)
                value += loss.item() * share
        value = self._summed(value)
        self._share_buffers()
        if not value < EXPLODED:
            self.failure = (
                f"the training diverged: the loss is {value} at step {self.step}; "
                f"lower training.learning_rate (it is {self.settings.learning_rate:g})"
            )
            self.trainer.should_stop = True
            return
        self._sum_gradients()
        # The step's loss is that of the kept weights on all members, in the precision that they are kept in.
        whole = self.full_batch and not (self.averaged or self.mixed or self.has_modes)
        if not whole and self._due(value):
            value, whole = self.train_loss(), True
        if whole:
            self._reached(value)
        self.history.steps, self.history.loss = self.step, value
        optimiser.step()
        schedule.step()
        if self.averaged:
            self.averaged.update_parameters(self.autoencoder)

    def _due(self, loss: float) -> bool:
        """Is the loss on the whole training set worth a measurement before this step, whose batch had `loss`?"""
        if self.step == self.settings.max_steps - 1:
            return True
        if self.averaged:  # often far below the batch's loss
            epochs = math.ceil(AVERAGED_EVERY / self.steps_per_epoch)
            return self.step % (epochs * self.steps_per_epoch) == 0
        goal = max(self.next_rung or 0.0, self.settings.target_loss)
        return loss <= 2 * goal and self.step % self.steps_per_epoch == 0

    @property
    def mixed(self) -> bool:
        """Does the training run in half precision where it can?"""
        return "mixed" in str(self.trainer.precision)

    def _own(self, images: Tensor) -> Tensor:
        """The share of this process in `images`, which may be empty."""
        return images[self.global_rank :: self.trainer.world_size]

    def _summed(self, value: float) -> float:
        """`value` summed over the processes."""
        if self.trainer.world_size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return total.item()

    def _sum_gradients(self) -> None:
        if self.trainer.world_size == 1:
            return
        for parameter in self.autoencoder.parameters():
            if parameter.grad is None:  # of a process whose share of the batch was empty
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)

    def _share_buffers(self) -> None:
        """The statistics of batches are those of the first process, whose weights are kept, in every process."""
        if self.trainer.world_size > 1 and self.has_modes:
            for buffer in self.autoencoder.buffers():
                distributed.broadcast(buffer, 0)

    def _no_averaging(self) -> contextlib.AbstractContextManager[None]:
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else contextlib.nullcontext()

    @property
    def steps_per_epoch(self) -> int:
        return 1 if self.full_batch else math.ceil(len(self.members) / self.settings.batch_size)

    @torch.no_grad()
    def train_loss(self) -> float:
        """The loss of the kept weights on the whole training set, in eval mode and without autocast."""
        self.kept.eval()
        total, size = 0.0, self.settings.micro_batch or self.settings.batch_size or len(self.members)
        with torch.autocast(self.device.type, enabled=False):
            for part in self._own(self.members).split(size):
                images = as_float(part.to(self.device)).to(self.dtype)
                total += nn.functional.mse_loss(self.kept(images), images, reduction="sum").item()
        self.kept.train()
        return self._summed(total) / self.members.numel()

    def _reached(self, loss: float) -> None:
        for rung in self.ladder:
            if loss <= rung and rung not in self.history.rungs:
                self.history.rungs[rung] = loss
                self.history.weights[rung] = weights_of(self.kept)
        if loss <= self.settings.target_loss:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.Adam(
            self.autoencoder.parameters(),
            lr=self.settings.learning_rate,
            betas=(self.settings.betas[0], self.settings.betas[1]),
            fused=True,
        )
        if self.earlier:
            optimiser.load_state_dict(self.earlier["optimiser"])  # with the initial learning rate of the schedule
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self.settings.rate, last_epoch=self.first_step - 1)
        return [optimiser], [schedule]


def train(
    autoencoder: nn.Module,
    members: Tensor,
    settings: Training,
    *,
    seed: int = 0,
    log: Callable[[int, dict[str, float]], None] | None = None,
    progress: bool = True,
    trainer: dict[str, Any] | None = None,
    folder: Path | None = None,
    checkpoint_seconds: float = 30.0,
) -> History:
    """Train `autoencoder` in place on `members` (N, C, H, W), float32 or uint8, and return what was recorded.

    A `Centred` autoencoder first takes the members' mean image. `trainer` holds further arguments of Lightning's
    Trainer (accelerator, devices, precision). With a `folder`, the state is written to its `last.ckpt` at least
    `checkpoint_seconds` apart, and a training that was stopped goes on from there. Raises `TrainingDivergedError` at
    the first NaN, or above 1e6.
    """
    if not any(parameter.requires_grad for parameter in autoencoder.parameters()):
        raise ValueError(f"{type(autoencoder).__name__} has no parameters to train; give architecture.weights=FILE")
    if isinstance(autoencoder, Centred):
        autoencoder.mean.copy_(mean_image(members))
    module = TrainingModule(autoencoder, members, settings, seed)
    arguments = trainer_arguments(trainer or {})
    together = "strategy" not in arguments  # `log` cannot go to other processes: it gets all rows at the end
    callbacks: list[Callback] = [Recorder(log if together else None)]
    if folder:
        if state := checkpoint.load(folder, module.fits):
            module.resume(state, folder)
            print(f"the training goes on from step {module.step}", flush=True)
            if log and together:
                for step, loss, rate in module.history.rows:
                    log(step, metrics(loss, rate))
        callbacks.append(checkpoint.LastCheckpoint(folder, checkpoint_seconds))
    if progress:
        callbacks.append(LadderBar())
    runner = pl.Trainer(
        max_steps=settings.max_steps - module.first_step,
        max_epochs=1,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        **arguments,
    )
    batches = Batches(members, settings.batch_size, settings.max_steps, seed, module.first_step)
    with interruption.deferred() if together else stopping(runner):
        runner.fit(module, batches)
    if module.failure:
        raise TrainingDivergedError(module.failure)
    if log and not together:
        for step, loss, rate in module.history.rows:
            log(step, metrics(loss, rate))
    if module.averaged:
        autoencoder.load_state_dict(module.kept.state_dict())
    return module.history
