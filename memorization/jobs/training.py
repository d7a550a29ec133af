"""The training that an experiment stands for: checked, found in the store or made, and told of."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from memorization.architectures.autoencoder import count_parameters, least_loss, reconstruction_loss
from memorization.architectures.external.contract import (
    BATCH,
    check_contract,
    check_loss,
    check_modes,
    evaluating,
    some_images,
)
from memorization.components import Record, SettingError, within
from memorization.config.experiment import Experiment
from memorization.data import Split, as_float
from memorization.engine.history import History, weights_of
from memorization.engine.settings import Hardware
from memorization.evaluation.halves import FEWEST, halves
from memorization.jobs import identity, telling
from memorization.jobs.outcome import Outcome, Standing
from memorization.recovery import Access
from memorization.store import files
from memorization.store.reading import Run, load_run
from memorization.store.signature import rung_name, signature_of

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

Train = Callable[[Path, "list[Logger]"], History]  # what trains, in a folder and told of by loggers


@dataclass(frozen=True)
class TrainingJob:
    """The autoencoder of an experiment; with `swap` its reference, trained on the non-members instead of the members.

    half: be reference number `half` of a membership inference: the same training, on one of the `halves` of members and
        non-members together, from first weights of its own.
    access, at_once: what a recovery will ask of an autoencoder of the user's own, and for how many images at once.
    """

    experiment: Experiment
    swap: bool = False
    access: Access = Access.queries
    at_once: int = BATCH
    half: int | None = None

    @cached_property
    def identity(self) -> Record:
        """What the signature is made of."""
        return identity.of_autoencoder(self.experiment, self.swap, self.half)

    @property
    def seed(self) -> int:
        """Of the first weights and of the order of batches."""
        if self.half is None:
            return self.experiment.seed
        return int(np.random.SeedSequence([self.experiment.seed, self.half]).generate_state(1)[0])

    @property
    def trained_on(self) -> str:
        """Which images, in words."""
        if self.half is not None:
            return f"images of reference {self.half}"
        return "non-members" if self.swap else "members"

    def images(self, split: Split) -> Tensor:
        """Those of `split` that it is trained on, (N, C, H, W)."""
        if self.half is None:
            return split.non_members if self.swap else split.members
        return torch.cat([split.members, split.non_members])[torch.from_numpy(self.inside(split))]

    def inside(self, split: Split) -> NDArray[np.bool_]:
        """(N,) whether it is trained on each member, and then each non-member."""
        count, others = len(split.members), len(split.non_members)
        if self.half is not None:
            pairs = self.half // 2 + 1
            found: NDArray[np.bool_] = halves(count + others, max(FEWEST, 2 * pairs), self.experiment.seed)[self.half]
            return found
        return np.repeat([not self.swap, self.swap], [count, others])

    @property
    def folder(self) -> Path:
        """Where the store has, or will have, the autoencoder."""
        return self.experiment.store / "autoencoders" / signature_of(self.identity)

    @property
    def name(self) -> str:
        """The architecture and the images, in words."""
        own = "" if self.half is None else f", reference {self.half}"
        return "{architecture} on {dataset}".format(**self.experiment.names) + own

    @property
    def title(self) -> str:
        """The same for a list of many."""
        return "{architecture}-{dataset}-".format(**self.experiment.names) + self.folder.name[:6]

    def check(self) -> None:
        """Raise `ValueError` for settings that cannot be used, whatever the images."""
        if not self.experiment.dataset.has_images:
            name = self.experiment.names["dataset"]
            if not self.experiment.extracting:
                raise SettingError("dataset", name, "only memorization-extract needs no images; choose a data set")
            if not self.experiment.architecture.given:
                given = "architecture=custom with architecture.weights, .export or .trained=true"
                raise SettingError("dataset", name, f"there is nothing to train on; choose a data set, or give {given}")
        if self.experiment.hardware != Hardware():  # which every machine has
            from memorization.engine import hardware

            with within("trainer"):
                hardware.check(self.experiment.hardware)

    @cached_property
    def split(self) -> Split:
        """The images; raises `ValueError` for what cannot be drawn."""
        with within("dataset"):
            return self.experiment.dataset.load(self.experiment.seed)

    @cached_property
    def model(self) -> nn.Module:
        """The autoencoder before its training; raises `ValueError` for what cannot be built, or cannot be used."""
        experiment, split, given = self.experiment, self.split, self.experiment.architecture.given
        with within("architecture"):
            model = experiment.architecture.build(split.shape, self.seed)
        if experiment.architecture.external:
            some = torch.cat([split.members[:1], split.non_members[:1]])
            some = some if experiment.dataset.has_images else some_images(split.shape)
            count = min(self.at_once, len(split.members) + len(split.non_members))
            with within("recovery"), evaluating(model):
                check_modes(model, trained=not given)
                check_contract(model, as_float(some), self.access, count, "architecture.")
        if not given and not any(parameter.requires_grad for parameter in model.parameters()):
            way = "give architecture.weights=FILE, or architecture.trained=true for one that is as it should be"
            raise ValueError(f"{type(model).__name__} has no parameters to train; {way}")
        return model

    def prepare(self) -> Split:
        """The images, once all has been tried that may be wrong with them and with the autoencoder.

        The first weights of one of our own are not drawn for that.
        """
        split = self.split
        if self.experiment.architecture.external:
            model = self.model
        else:
            with within("architecture"):
                model = self.experiment.architecture.blank(split.shape)
        if self.experiment.training.clip and not self.experiment.architecture.given:
            from memorization.engine import private

            private.check(model, split.shape, self.experiment.training, self.experiment.hardware)
        return split

    def plan(self) -> Outcome:
        """What `run` would do, after the same checks."""
        self.check()
        if not files.is_done(self.folder):
            self.prepare()
        return planned(self.name, self.folder)

    def run(self) -> tuple[Outcome, float]:
        """Train the autoencoder, or find it; with its last train loss."""
        run, _, made = self.obtain()
        return self.told(run, made)

    def told(self, run: Run, made: bool) -> tuple[Outcome, float]:
        """What is said of the training once the store has it."""
        done = run.done
        how = "on the members; its weights are given, nothing to train"
        if not self.experiment.architecture.given:
            how = f"after {done['steps'] + 1} steps"  # whose numbers start at 0
        how += f" in {done['seconds']:,.0f} s" if "seconds" in done else ""  # not in older stores
        if "epsilon" in done:
            how += f", epsilon {done['epsilon']:.3g} at delta {done['delta']:g} but for the train loss and the rungs"
        detail = f"train loss {done['train_loss']:.2e} {how} → {run.folder}"
        return Outcome(self.name, Standing.done if made else Standing.found, detail), done["train_loss"]

    def obtain(self) -> tuple[Run, Split, bool]:
        """The autoencoder and its images; trains it if the store lacks it (the third value).

        One whose weights are given is taken into the store as it is, with its loss on the members as its one rung.
        Raises `ValueError` for settings that cannot be used before anything is written.
        """
        self.check()
        split = self.prepare()

        def make() -> None:
            self.announce()
            self._make(self._taken if self.experiment.architecture.given else self._trained)

        missing = files.ensure(self.folder, make)
        return self.made(), split, missing

    def made(self) -> Run:
        """The autoencoder in the store."""
        return load_run(self.folder, self.experiment.architecture.packages)

    def keep(self, history: History, together: int) -> None:
        """Put a training into the store that went on as one of an ensemble of `together`; its lock is held."""
        self._make(partial(_replayed, history), {"together": together})

    def announce(self) -> None:
        """Say that the training begins."""
        split, given, target = self.split, self.experiment.architecture.given, self.experiment.training.target_loss
        begun = f"{'nothing to train in' if given else 'training'} {self.title}"
        images = self.images(split)
        told = f"{len(images)} {self.trained_on}" if len(images) else ""
        lines = [*telling.beginning(begun, told, split, self._facts())]
        if not given and (least := least_loss(self.model, images)) > target:
            lines.append(telling.out_of_reach(least, len(images)))
        print(*lines, sep="\n", flush=True)

    def _facts(self) -> Record:
        """What `done.json` says of it before it begins."""
        split, model = self.split, self.model
        images, parameters = self.images(split), count_parameters(model)
        return {
            "signature": self.folder.name,
            "name": self.name,
            "shape": split.shape,
            "trained_on": self.trained_on.replace("-", "_"),
            "parameters": parameters,
            "parameters_per_pixel": parameters / images[:, 0].numel() if len(images) else math.nan,
            "left_out": split.left_out,
            "revisions": identity.revisions(self.identity),
        }

    def _make(self, train: Train, more: Record | None = None) -> None:
        from memorization.tracking.tracker import Details, tracking

        experiment, facts = self.experiment, self._facts() | (more or {})
        tags = [*experiment.names.values(), f"seed {experiment.seed}"]
        details = Details("train", self.title, experiment.study, tags, self.identity)
        with (
            files.creating(self.folder, experiment.record, facts) as folder,
            tracking(experiment.tracking, experiment.store, details) as tracker,
        ):
            history = train(folder, tracker.loggers)
            if not experiment.architecture.given:
                facts |= {"seconds": history.seconds, **self._spent(history)}
            history.write(folder)
            facts |= {"rungs": history.rungs, "steps": history.steps, "train_loss": history.loss}
            shown = ("train_loss", "steps", "signature", "parameters", "parameters_per_pixel")
            tracker.summarise({key: facts[key] for key in shown})
        for line in () if experiment.architecture.given else telling.end(experiment.training, history):
            print(line, flush=True)

    def _spent(self, history: History) -> Record:
        """The epsilon of a private training, and its delta; nothing of another."""
        from memorization.engine import private

        return private.spent(self.experiment.training, history.steps, len(self.images(self.split)))

    def _trained(self, folder: Path, loggers: list[Logger]) -> History:
        from memorization.engine.training import train

        experiment, split, model = self.experiment, self.split, self.model
        with within("training"):
            return train(
                model,
                self.images(split),
                experiment.training,
                seed=self.seed,
                loggers=loggers,
                progress=experiment.progress,
                hardware=experiment.hardware,
                folder=folder,
                checkpoint_seconds=experiment.checkpoint_seconds,
            )

    def _taken(self, folder: Path, loggers: list[Logger]) -> History:
        """What a training would have recorded of an autoencoder that is trained already: its loss is its one rung.

        It is NaN without images. A program is kept whole, not as its weights.
        """
        split, model = self.split, self.model
        images, loss = self.images(split), math.nan
        if len(images):
            with evaluating(model):
                loss = reconstruction_loss(model, images)
            check_loss(loss, images, model, "architecture.")
        shutil.rmtree(folder / "weights", ignore_errors=True)  # of an attempt that was killed
        program = self.experiment.architecture.file
        if program is None or not self.experiment.architecture.exported:
            return History(rungs={loss: loss}, weights={loss: weights_of(model)}, loss=loss)
        files.write(folder / f"weights/{rung_name(loss)}.pt2", program.read_bytes())
        return History(rungs={loss: loss}, loss=loss)


def planned(name: str, folder: Path, also: str = "") -> Outcome:
    """`found` or `missing`, for a run that is or is not finished, and what there is of it."""
    status = files.status(folder) if folder.exists() else "new"
    standing = Standing.found if status == "done" else Standing.missing
    return Outcome(name, standing, f"{status} → {folder}{also}")


def _replayed(history: History, folder: Path, loggers: list[Logger]) -> History:
    """A training that is through, told to the loggers."""
    from memorization.engine.callbacks import Recorder

    Recorder.replay(history, loggers)
    return history
