"""Several trainings as one batched model: `vmap` over stacked weights, so that a step costs its fixed part once.

A step of a small autoencoder costs mostly what does not depend on its size: the calls of each layer, of Adam and of
Lightning, and on a GPU the launch of each kernel. Here the weights of K alike autoencoders are stacked, (K, ...), and
one forward pass, one backward pass and one step of Adam serve all. Neither mixes the trainings: the gradient of the sum
of their losses is that of each, and Adam works element by element. So each has the numbers of a separate training, but
for the rounding of batched matrix products, and one whose loss explodes does not disturb the others.

A training leaves when it reaches its target or diverges, and the stack shrinks. There is no checkpoint: an ensemble
that is killed begins anew.

On a processor it pays for small autoencoders only; `WORTH` says where, and `experiments/benchmark` what was measured.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils.flop_counter import FlopCounterMode

from memorization.architectures.autoencoder import has_modes
from memorization.data import as_float
from memorization.engine.callbacks import LadderBar
from memorization.engine.hardware import trainer_on
from memorization.engine.history import History, weights_of
from memorization.engine.settings import Axes, Hardware, Training
from memorization.engine.training import EXPLODED, adam, prepare

EVERY = 10  # steps of a batch of Lightning's, and between two rows of a history, as of `callbacks.Recorder`
WORTH = 4e7  # floating point operations of a training's step up to which a batched step is faster on a processor
AGREES = 1e-3  # relative; a batched first loss differs from a separate one by rounding alone


class UnbatchableError(ValueError):
    """These trainings cannot go on as one, and why."""


def refusal(autoencoder: nn.Module, images: Tensor, settings: Training, hardware: Hardware) -> str:
    """Why such trainings on `images` (N, C, H, W) are better done each by itself; "" if they are not."""
    asked = {
        "batches of part of the images": 0 < settings.batch_size < len(images),
        "batches in parts": 0 < settings.micro_batch < len(images),
        "an average of the weights": settings.ema > 0,
        "gradients of single images": settings.clip > 0,
        "principal axes": settings.axes is Axes.principal,
        "disturbed images": settings.augments or settings.input_noise > 0,
        "an autoencoder that may answer otherwise in training than in eval mode": has_modes(autoencoder),
        "several devices": hardware.devices != 1,
        f"the precision {hardware.precision}": hardware.precision not in ("32", "32-true"),
    }
    for name, is_asked in asked.items():
        if is_asked:
            return f"{name} cannot be batched"
    work = operations(autoencoder, images)
    if work > WORTH and trainer_on(hardware).strategy.root_device.type == "cpu":
        own, most = f"{work / 1e6:,.0f}", f"{WORTH / 1e6:g}"
        return f"a step has {own} million operations, and on a processor batching is faster up to {most} million"
    return ""


def operations(autoencoder: nn.Module, images: Tensor) -> int:
    """Floating point operations of matrix products and convolutions in a step: three times those of a forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        autoencoder(as_float(images))
    return 3 * int(counter.get_total_flops())


class EnsembleModule(pl.LightningModule):
    """`TrainingModule` for K autoencoders of the same structure on K sets of images of the same shape, full batches.

    It steps as that one does: the loss of a step is that of the weights before its update, rungs are tested before the
    optimiser moves, and the last step moves nothing. A batch of Lightning's is the number of the first of `EVERY`
    steps, so that its own work, about half of a small step, is done once for all of them.
    """

    images: Tensor

    def __init__(self, autoencoders: Sequence[nn.Module], members: Sequence[Tensor], settings: Training) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.autoencoders = list(autoencoders)  # a plain list: what is trained is their stack
        self.settings = settings
        self.histories = [History() for _ in autoencoders]
        self.failures = [""] * len(autoencoders)
        self.going = list(range(len(autoencoders)))  # the trainings in the stack, in its order
        parameters, buffers = stack_module_state(self.autoencoders)
        self.names, self.buffer_names = list(parameters), list(buffers)
        self.stacked = nn.ParameterList(  # (K, ...) each
            nn.Parameter(value.detach(), value.requires_grad) for value in parameters.values()
        )
        for name, buffer in zip(self._stacked_buffers(), buffers.values(), strict=True):
            self.register_buffer(name, buffer, persistent=False)
        self.register_buffer("images", torch.stack(list(members)), persistent=False)  # (K, N, C, H, W)

    def _stacked_buffers(self) -> list[str]:
        return [f"buffer_{number}" for number in range(len(self.buffer_names))]  # whose own names may hold dots

    @property
    def history(self) -> History:
        """Of the training that is the furthest from its target; `LadderBar` shows it."""
        return max((self.histories[number] for number in self.going), key=lambda history: history.loss)

    @property
    def next_rung(self) -> float | None:
        """The highest rung that this one did not reach."""
        return next((rung for rung in self.settings.rungs if rung not in self.history.rungs), None)

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LRScheduler]]:
        optimiser = adam(list(self.stacked), self.settings)
        return [optimiser], [torch.optim.lr_scheduler.LambdaLR(optimiser, self.settings.rate)]

    def on_train_start(self) -> None:
        self.clock = time.monotonic()

    def losses(self) -> Tensor:
        """(K,) the loss of each training that goes on."""
        parameters = dict(zip(self.names, self.stacked, strict=True))
        buffers = {
            own: getattr(self, name) for own, name in zip(self.buffer_names, self._stacked_buffers(), strict=True)
        }
        alike = self.autoencoders[self.going[0]]

        def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
            return nn.functional.mse_loss(functional_call(alike, (parameters, buffers), (images,)), images)

        losses: Tensor = vmap(loss)(parameters, buffers, as_float(self.images))
        return losses

    def training_step(self, first: int, batch_index: int) -> None:
        optimiser: Any = self.optimizers(use_pl_optimizer=False)
        schedule: Any = self.lr_schedulers()
        for step in range(first, min(first + EVERY, self.settings.max_steps)):
            optimiser.zero_grad()
            losses = self._backward()
            ended = [self._note(place, step, loss) for place, loss in enumerate(losses)]
            self._share_time()
            if all(ended) or step == self.settings.max_steps - 1:
                for place in range(len(self.going)):
                    self._hand_over(place)
                self.trainer.should_stop = True
                return
            if any(ended):
                self._shrink(optimiser.state, [place for place, over in enumerate(ended) if not over])
            optimiser.step()
            schedule.step()

    def _backward(self) -> list[float]:
        """The loss of each; no graph of the pass is left, which would know the stack by its shape."""
        losses = self.losses()
        self.manual_backward(losses.sum())
        values: list[float] = losses.tolist()
        return values

    def _share_time(self) -> None:
        """Each training that goes on takes its share of the clock."""
        now = time.monotonic()
        for number in self.going:
            self.histories[number].seconds += (now - self.clock) / len(self.going)
        self.clock = now

    def _note(self, place: int, step: int, loss: float) -> bool:
        """Record the loss of a training; is it at its end?"""
        number = self.going[place]
        history = self.histories[number]
        if not loss < EXPLODED:
            self.failures[number] = f"the training diverged: the loss is {loss} at step {step}"
            return True
        history.steps, history.loss = step, loss
        history.note(loss, self.settings.rungs, lambda: weights_of(self._hand_over(place)))
        ended = loss <= self.settings.target_loss
        if step % EVERY == 0 or ended or step == self.settings.max_steps - 1:
            history.rows.append((step, loss, self.settings.learning_rate * self.settings.rate(step)))
        return ended

    @torch.no_grad()
    def _hand_over(self, place: int) -> nn.Module:
        """The autoencoder at `place` in the stack, with the weights that it has there."""
        autoencoder = self.autoencoders[self.going[place]]
        own = dict(autoencoder.named_parameters())
        for name, stacked in zip(self.names, self.stacked, strict=True):
            own[name].copy_(stacked[place])
        return autoencoder

    @torch.no_grad()
    def _shrink(self, state: dict[Tensor, dict[str, Tensor]], places: list[int]) -> None:
        """Go on with the trainings at `places` in the stack alone; `state` is the optimiser's of each parameter."""
        for place in range(len(self.going)):
            if place not in places:
                self._hand_over(place)
        for parameter in self.stacked:
            gradient = parameter.grad
            parameter.grad = None  # of the old shape
            parameter.data = parameter.data[places]
            parameter.grad = None if gradient is None else gradient[places]
            for name in {"exp_avg", "exp_avg_sq"} & state[parameter].keys():  # there is none before the first step
                state[parameter][name] = state[parameter][name][places]
        for name in (*self._stacked_buffers(), "images"):
            setattr(self, name, getattr(self, name)[places])
        self.going = [self.going[place] for place in places]

    def try_out(self) -> None:
        """Raise `UnbatchableError` unless a batched pass, and the way back, give what separate ones do."""
        try:
            losses = self.losses()
            losses.sum().backward()
        except (RuntimeError, NotImplementedError, ValueError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split("\n\n")[0].split()).rstrip(".")
            raise UnbatchableError(f"the autoencoder cannot be batched ({reason})") from error
        self.stacked.zero_grad()
        first = as_float(self.images[0])
        with torch.no_grad():
            alone = nn.functional.mse_loss(self.autoencoders[0](first), first).item()
        if not math.isclose(losses[0].item(), alone, rel_tol=AGREES):
            raise UnbatchableError(f"batched it has a loss of {losses[0].item():.3e}, and alone one of {alone:.3e}")


def train_together(
    autoencoders: Sequence[nn.Module],
    members: Sequence[Tensor],
    settings: Training,
    *,
    progress: bool = True,
    hardware: Hardware | None = None,
) -> list[History | str]:
    """`training.train` for several autoencoders of the same structure, each on its own members, at once.

    members: K of (N, C, H, W), float32 or uint8. Returns what was recorded of each, or, of one that diverged, how.
    Raises `UnbatchableError` for what cannot be batched, memory that is too small included; then the weights of the
    autoencoders are of no more use.
    """
    for autoencoder, own in zip(autoencoders, members, strict=True):
        prepare(autoencoder, own)
    module = EnsembleModule(autoencoders, members, settings)
    module.try_out()
    runner = trainer_on(
        hardware or Hardware(),
        max_epochs=1,
        callbacks=[LadderBar(EVERY)] if progress else [],
        enable_progress_bar=progress,
    )
    try:
        runner.fit(module, range(0, settings.max_steps, EVERY))
    except torch.OutOfMemoryError as error:
        raise UnbatchableError(f"{len(autoencoders)} at once do not fit into memory") from error
    return [failure or history for failure, history in zip(module.failures, module.histories, strict=True)]
