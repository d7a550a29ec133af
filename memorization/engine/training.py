"""Training an autoencoder down a ladder of train losses, keeping its weights the first time each rung is reached.

One training then serves the whole curve of recovery against train loss. Notable choices: Adam with beta2 = 0.95, a
learning rate that decays exponentially with the step (never the clock), full batches unless asked otherwise, and the
mean image of the members subtracted inside the model; each makes the descent several times faster. The loss is the
mean squared error, pixels in [0, 1]. A rung's loss is measured on the very weights that are kept, on the whole
training set in eval mode and in full precision. A batch that does not fit into memory goes through the autoencoder in
parts whose gradients are accumulated; with several devices, each takes its share of every batch.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import ParallelStrategy
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics import MeanSquaredError

from memorization.architectures.autoencoder import Centred, has_modes
from memorization.components import Record, SettingError
from memorization.data import as_float, mean_image
from memorization.engine import checkpoint, interruption, private
from memorization.engine.callbacks import LadderBar, Recorder
from memorization.engine.hardware import Processes, stopping, trainer_on
from memorization.engine.history import History, weights_of
from memorization.engine.settings import Axes, Hardware, Training
from memorization.engine.span import Span

AVERAGED_EVERY = 10  # steps at least between two measurements of averaged weights, each of which costs a forward pass
EXPLODED = 1e6  # a mean squared error that images in [0, 1] never have unless the weights have blown up


class TrainingDivergedError(SettingError):
    """The loss became NaN, infinite or absurdly large at this learning rate."""

    status = "diverged"  # in the run store


@dataclass  # not frozen: Lightning rebuilds it in the processes that it spawns
class Batches:
    """The batches of a training, one a step; batch `s` depends on the seed and `s` alone."""

    images: Tensor
    batch_size: int
    steps: int
    seed: int
    first: int = 0  # step, of a training that goes on
    shift: int = 0  # as of `Training`, and so is the next
    mirror: bool = False

    def __len__(self) -> int:
        return self.steps - self.first

    def __iter__(self) -> Iterator[Tensor]:
        for step, batch in enumerate(self._drawn(), start=self.first):
            yield self._augmented(batch, step) if self.shift or self.mirror else batch

    def _augmented(self, batch: Tensor, step: int) -> Tensor:
        """`batch` (B, C, H, W) with each image moved and mirrored at random, in its own type."""
        generator = np.random.default_rng([self.seed, 2, step])
        count, channels, *sides = batch.shape
        moved = generator.integers(-self.shift, self.shift, (2, count, 1), endpoint=True)
        rows, columns = ((np.arange(side) + by).clip(0, side - 1) for side, by in zip(sides, moved, strict=True))
        if self.mirror:
            mirrored = generator.random((count, 1)) < 0.5
            columns = np.where(mirrored, columns[:, ::-1], columns)
        image, channel = torch.arange(count), torch.arange(channels)
        at = image.view(-1, 1, 1, 1), channel.view(-1, 1, 1), torch.tensor(rows).view(count, 1, -1, 1)
        return batch[(*at, torch.tensor(columns).view(count, 1, 1, -1))]

    def _drawn(self) -> Iterator[Tensor]:
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


def adam(parameters: list[Any], settings: Training) -> torch.optim.Optimizer:
    """Adam of parameters or groups of them, or AdamW where weights decay, at the initial learning rate."""
    usual: dict[str, Any] = {"lr": settings.learning_rate, "betas": tuple(settings.betas), "fused": True}
    if settings.weight_decay:
        return torch.optim.AdamW(parameters, weight_decay=settings.weight_decay, **usual)
    return torch.optim.Adam(parameters, **usual)


def prepare(autoencoder: nn.Module, members: Tensor) -> None:
    """Give a `Centred` autoencoder the members' mean image; raises `ValueError` for one without parameters."""
    if not any(parameter.requires_grad for parameter in autoencoder.parameters()):
        raise ValueError(f"{type(autoencoder).__name__} has no parameters to train; load its weights instead")
    if isinstance(autoencoder, Centred):
        autoencoder.mean.copy_(mean_image(members))


class TrainingModule(pl.LightningModule):
    """Minimises the mean squared error between images and their reconstructions.

    It steps its optimiser itself (Lightning's manual optimisation), to accumulate over parts of a batch with the weight
    of each part's size. The loss of a step is that of the weights before its update, so a rung is tested, and its
    weights are copied, before the optimiser moves them; the last step moves nothing, so that the autoencoder ends with
    the loss that is reported.
    """

    def __init__(self, autoencoder: nn.Module, members: Tensor, settings: Training, seed: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.disturbed = settings.augments or settings.input_noise > 0
        self.span: Span | None = None
        if settings.axes is Axes.principal and not (self.disturbed or settings.weight_decay):
            self.span = Span.of(autoencoder, members)
        if self.span:
            autoencoder, members = self.span.network(), self.span.inputs
        self.autoencoder = autoencoder
        self.averaged: AveragedModel | None = None
        if settings.ema:
            self.averaged = AveragedModel(autoencoder, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))
            self.averaged.requires_grad_(False)
        self.loss_on_all = MeanSquaredError()
        self.settings = settings
        self.members = members  # or their coordinates (N, D)
        self.scale = self.span.scale if self.span else 1.0  # of the loss
        self.full_batch = settings.batch_size == 0 or settings.batch_size >= len(members)
        self.steps_per_epoch = settings.steps_per_epoch(len(members))
        self.clipping: private.Clipping | None = None  # of the gradients
        self.has_modes = has_modes(autoencoder)
        self.history = History()
        self.seed = seed
        self.resumed: checkpoint.State | None = None  # what to go on from
        self.began = 0.0  # when it would have begun, by `time.monotonic`, had it never stopped
        self.failure = ""  # why the training ended early, if it diverged

    def get_extra_state(self) -> Record:
        """What was recorded, beside the weights: it comes back to the main process from those that train."""
        return {"history": dataclasses.asdict(self.history), "failure": self.failure}

    def set_extra_state(self, state: Record) -> None:
        self.history, self.failure = History(**state["history"]), state["failure"]

    @property
    def first_step(self) -> int:
        """The number of the first step of this attempt."""
        return self.resumed["step"] if self.resumed else 0

    @property
    def step(self) -> int:
        """Steps done, those before a resumption included."""
        return self.first_step + self.global_step

    @property
    def next_rung(self) -> float | None:
        """The highest rung that was not reached yet."""
        return next((rung for rung in self.settings.rungs if rung not in self.history.rungs), None)

    @property
    def kept(self) -> nn.Module:
        """What is trained, or its average: the autoencoder whose weights are kept, or its network in a `span`."""
        return self.averaged.module if self.averaged else self.autoencoder

    @property
    def whole(self) -> nn.Module:
        """The autoencoder whose weights are kept."""
        return self.span.put_back(self.kept) if self.span else self.kept

    def configure_optimizers(self) -> Any:
        parameters: list[Any] = list(self.autoencoder.parameters())
        if self.span:
            first, bias, *hidden = parameters
            rate = self.settings.learning_rate * self.span.rate
            parameters = [{"params": [first, *hidden[-2:]], "lr": rate}, {"params": [bias, *hidden[:-2]]}]
        optimiser = adam(parameters, self.settings)
        if self.clipping:
            self.clipping.watch(optimiser)
        if self.resumed:
            optimiser.load_state_dict(self.resumed["optimiser"])  # with the initial learning rate of the schedule
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self.settings.rate, last_epoch=self.first_step - 1)
        return [optimiser], [schedule]

    def on_train_start(self) -> None:
        self.processes = Processes(self.trainer)
        if self.resumed:
            checkpoint.restore_generators(self.resumed)
        else:
            torch.manual_seed(self.seed)  # of dropout and the like
        self.began = time.monotonic() - self.history.seconds

    def on_train_end(self) -> None:
        self.history.seconds = time.monotonic() - self.began

    def training_step(self, batch: Tensor, batch_index: int) -> None:
        optimiser: Any = self.optimizers()
        schedule: Any = self.lr_schedulers()
        optimiser.zero_grad()
        loss = self._backward(batch)
        if not loss < EXPLODED:
            self.failure = f"the training diverged: the loss is {loss} at step {self.step}"
            self.trainer.should_stop = True
            return
        self._record(loss)
        if self.trainer.should_stop or self.step == self.settings.max_steps - 1:
            return
        if self.clipping:
            self.clipping.give(len(batch), self.step)
        optimiser.step()
        schedule.step()
        if self.averaged:
            self.averaged.update_parameters(self.autoencoder)

    def _backward(self, batch: Tensor) -> float:
        """The loss of a batch, summed over the processes as its gradients are."""
        loss, own, noise = 0.0, self.processes.own(batch), self._noise(batch)
        size = self.settings.micro_batch or len(batch)
        with self._no_averaging():
            for first in range(0, len(own), size):
                part = own[first : first + size]
                images, share = as_float(part).to(self.dtype), len(part) / len(batch)
                inputs = images if noise is None else images + noise[first : first + size]
                of_part = nn.functional.mse_loss(self.autoencoder(inputs), images) * self.scale
                self.manual_backward(of_part * (len(part) if self.clipping else share))
                if self.clipping:  # of a sum over images
                    self.clipping.take(len(part))
                loss += of_part.item() * share
        if self.has_modes:
            self.processes.share_buffers(self.autoencoder)
        loss = self.processes.total(loss)
        if loss < EXPLODED:
            self.processes.sum_gradients(self.autoencoder)
        return loss

    def _noise(self, batch: Tensor) -> Tensor | None:
        """What this process adds to its part of the inputs of a step: drawn by the seed and the step alone."""
        if not self.settings.input_noise:
            return None
        generator = np.random.default_rng([self.seed, 3, self.step])
        drawn = torch.from_numpy(generator.standard_normal(tuple(batch.shape), np.float32))
        return self.settings.input_noise * self.processes.own(drawn).to(batch.device)

    def _record(self, loss: float) -> None:
        """Note the `loss` of a step, or that of the kept weights on all members where it is worth its measurement."""
        mixed = "mixed" in str(self.trainer.precision)
        whole = self.full_batch and not (self.averaged or mixed or self.has_modes or self.disturbed)
        if not whole and self._due(loss):
            loss, whole = self.train_loss(), True
        if self.span and whole and loss <= max(self.next_rung or 0.0, self.settings.target_loss):
            loss = self.span.loss(self.kept)
        self.history.steps, self.history.loss = self.step, loss
        if not whole:
            return
        self.history.note(loss, self.settings.rungs, lambda: weights_of(self.whole))
        if loss <= self.settings.target_loss:
            self.trainer.should_stop = True

    def _due(self, loss: float) -> bool:
        """Is the loss on the whole training set worth a measurement before this step, whose batch had `loss`?"""
        if self.step == self.settings.max_steps - 1:
            return True
        if self.averaged or self.disturbed:  # often far below the batch's loss
            epochs = math.ceil(AVERAGED_EVERY / self.steps_per_epoch)
            return self.step % (epochs * self.steps_per_epoch) == 0
        goal = max(self.next_rung or 0.0, self.settings.target_loss)
        return loss <= 2 * goal and self.step % self.steps_per_epoch == 0

    @torch.no_grad()
    def train_loss(self) -> float:
        """The loss of the kept weights on the whole training set, in eval mode and without autocast."""
        self.kept.eval()
        self.loss_on_all.reset()
        size = self.settings.micro_batch or self.settings.batch_size or len(self.members)
        with torch.autocast(self.device.type, enabled=False):
            for part in self.processes.own(self.members).split(size):
                images = as_float(part.to(self.device)).to(self.dtype)
                self.loss_on_all.update(self.kept(images).flatten(), images.flatten())
        self.kept.train()
        return float(self.loss_on_all.compute()) * self.scale  # over all processes

    def _no_averaging(self) -> contextlib.AbstractContextManager[None]:
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else contextlib.nullcontext()


def train(
    autoencoder: nn.Module,
    members: Tensor,
    settings: Training,
    *,
    seed: int = 0,
    loggers: Sequence[Logger] = (),
    progress: bool = True,
    hardware: Hardware | None = None,
    folder: Path | None = None,
    checkpoint_seconds: float = 30.0,
) -> History:
    """Train `autoencoder` in place on `members` (N, C, H, W), float32 or uint8, and return what was recorded.

    A `Centred` autoencoder first takes the members' mean image. With a `folder`, the state is written to its
    `last.ckpt` at least `checkpoint_seconds` apart, and a training that was stopped goes on from there. Raises
    `TrainingDivergedError` at the first NaN, or above 1e6, and `SettingError` for gradients that cannot be cut.
    """
    prepare(autoencoder, members)
    hardware = hardware or Hardware()
    private.check(autoencoder, members.shape[1:], settings, hardware)
    module = TrainingModule(autoencoder, members, settings, seed)
    alone = hardware.devices == 1  # loggers cannot go to other processes: they get all rows at the end
    recorder = Recorder()
    callbacks: list[Callback] = [recorder]
    if folder:
        if checkpoint.resume(module, folder):
            print(f"the training goes on from step {module.step}", flush=True)
            if alone:
                recorder.replay(module.history, loggers)
        callbacks.append(checkpoint.LastCheckpoint(folder, checkpoint_seconds))
    if progress:
        callbacks.append(LadderBar())
    runner = trainer_on(
        hardware,
        max_steps=settings.max_steps - module.first_step,
        max_epochs=1,
        callbacks=callbacks,
        logger=list(loggers) if alone else False,
        enable_progress_bar=progress,
    )
    given = settings.batch_size, settings.max_steps, seed, module.first_step, settings.shift, settings.mirror
    batches = Batches(module.members, *given)
    watched = interruption.deferred() if alone else stopping(runner)
    with private.clipping(autoencoder, settings, seed) as module.clipping, watched:
        runner.fit(module, batches)
    if module.failure:
        raise TrainingDivergedError("learning_rate", settings.learning_rate, f"{module.failure}; lower it")
    if not alone:
        recorder.replay(module.history, loggers)
    if module.averaged or module.span:
        autoencoder.load_state_dict(module.whole.state_dict())
    return module.history
