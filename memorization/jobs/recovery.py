"""The recovery that an experiment stands for: checked, found in the store or made, at the rungs that are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from memorization.components import SettingError, within
from memorization.config.experiment import Experiment, Extracting, Recovering
from memorization.config.groups import flat
from memorization.config.schema import ExtractConfig, RecoverConfig
from memorization.data import Split, as_float
from memorization.evaluation.batch import Recipe
from memorization.evaluation.controls import Control, InapplicableError, controlled, untrained
from memorization.extraction import TO_RECALL
from memorization.jobs.identity import Identity
from memorization.jobs.outcome import Outcome, Standing
from memorization.jobs.training import TrainingJob, planned
from memorization.recovery import Status
from memorization.store import files, lock
from memorization.store.reading import Run, load_run
from memorization.store.signature import signature_of

if TYPE_CHECKING:
    import pandas as pd

    from memorization.jobs.extraction import ExtractionJob

Pictures = dict[str, Tensor]

# Keys of a recovery's configuration that an extraction has not.
OF_RECOVERY = {key.name for key in fields(RecoverConfig)} - {key.name for key in fields(ExtractConfig)}


@dataclass(frozen=True)
class Subject:
    """What a run recovers from: the images, and at each rung its train loss and its model.

    autoencoder: the trained one; None of a control without one, whose only rung is NaN. banks: at some rungs, what is
    recalled there; nothing where none is.
    """

    split: Split
    losses: dict[float, float]
    model: Callable[[float], nn.Module]
    autoencoder: Run | None = None
    banks: Callable[[Iterable[float]], dict[float, Tensor]] = lambda rungs: {}

    @property
    def signature(self) -> str:
        """That of the trained autoencoder, or nothing."""
        return self.autoencoder.folder.name if self.autoencoder else ""

    def weights(self, rungs: Iterable[float]) -> dict[str, str]:
        """The files of weights at some rungs, with their checksums."""
        return self.autoencoder.weights(rungs) if self.autoencoder else {}


@dataclass(frozen=True)
class RecoveryJob:
    """The one recovery of an experiment, or of the control that the experiment names."""

    experiment: Experiment

    @property
    def recovering(self) -> Recovering:
        """What is asked for."""
        assert self.experiment.recovering
        return self.experiment.recovering

    @property
    def control(self) -> Control:
        return self.recovering.control

    @cached_property
    def recipe(self) -> Recipe:
        """That of the control; that of `nearest` lacks its members yet."""
        return controlled(self.recovering.recipe, self.control)

    @cached_property
    def identity(self) -> Identity:
        """What the signature is made of, beside the rungs: of one setup they are all in one run."""
        return Identity.of(self.experiment)

    @cached_property
    def training(self) -> TrainingJob:
        """That of the autoencoder that it recovers from."""
        swap = self.control is Control.reference
        return TrainingJob(self.experiment, swap, self.recipe.method.access, self.recovering.batch_size)

    @property
    def folder(self) -> Path:
        """Where the store has, or will have, its results."""
        return self.experiment.store / "recoveries" / signature_of(self.identity.record)

    @property
    def name(self) -> str:
        """The method, or the control, and the degradation, in words."""
        choices = self.recipe.choices()
        method = [choices["recovery"], choices["operator"] if self.recipe.asks_operator else ""]
        if self.control is not Control.none:
            own = self.control in (Control.untrained, Control.reference)
            method = ["control", self.control, *(method if own else [])]
        degradation = flat(self.experiment.record["degradation"])
        share = f"{degradation['fraction']:g}" if degradation.get("fraction") else ""
        return " ".join(filter(None, [*method, degradation["name"], share]))

    def _check_applicable(self) -> None:
        """Raise `InapplicableError` for a control that cannot be had."""
        architecture, reason = self.experiment.architecture, ""
        if self.control is Control.inpaint and not self.recipe.degradation.erases:
            reason = f"the degradation {self.recipe.choices()['degradation']} is no erasure, such as box"
        elif self.control is Control.untrained and architecture.exported:
            reason = "an exported program has no weights to draw anew"
        elif self.control is Control.reference and architecture.given:
            reason = (
                "the weights are given; train a reference without the members and use memorization.audit(reference=...)"
            )
        if reason:
            raise InapplicableError(reason)

    def check(self) -> None:
        """Raise `ValueError` for settings that cannot be used, whatever the images."""
        self.training.check()
        self._check_applicable()
        if self.recovering.references and self.experiment.architecture.given:
            reason = "the weights are given, so there is nothing to train references by; train them and use "
            reason += "memorization.lira(...), or leave it out"
            raise SettingError("references", self.recovering.references, reason)
        if not self.experiment.architecture.given:
            self.recovering.rungs.among(self.experiment.training.rungs)
        elif self.recovering.rungs.losses:
            losses = list(self.recovering.rungs.losses)
            raise SettingError("rungs", losses, "an autoencoder whose weights are given has one; leave it out")

    @cached_property
    def prepared(self) -> Split:
        """The images, once all has been tried that they may not allow."""
        split = self.training.prepare()
        members, others, sample = len(split.members), len(split.non_members), self.recovering.sample
        if sample > max(members, others):
            reason = f"there are {members} members and {others} non-members: leave it at 0, which is all of them"
            raise SettingError("sample", sample, reason)
        with within("degradation"):
            self.recipe.degradation(as_float(split.members[:1]), [0])
        if self.control is Control.untrained:
            _ = self.untrained
        return split

    @cached_property
    def untrained(self) -> nn.Module:
        """The autoencoder with its weights drawn anew; raises `InapplicableError` where that is impossible."""
        return untrained(self.training.model, self.experiment.seed).eval()

    def plan(self) -> Outcome:
        """What `run` would do, after the same checks."""
        self.check()
        also, trained = "", self.control in (Control.none, Control.reference)
        if trained:
            also = f"; autoencoder {planned('', self.training.folder).detail}"
        found = self._found()
        if not found:
            _ = self.prepared
            banks = filter(None, map(self.bank, self.rungs() if trained else [math.nan]))
            also += "".join(f"; {bank.name} {bank.plan().detail}" for bank in banks)
        outcome = planned(self.name, self.folder, also)
        if outcome.status is Standing.found and not found:
            return Outcome(self.name, Standing.missing, f"lacks a rung → {self.folder}{also}")
        return outcome

    def run(self) -> tuple[Outcome, pd.DataFrame]:
        """Make the recovery, or find it; with its results at the rungs that are asked for."""
        self.check()
        made = not self._found()
        if made:
            from memorization.jobs.making import Making

            subject = self.subject()
            files.check_writable(self.experiment.store)
            with lock.held(self.folder):
                made = not self._found(remove=True)
                if made:
                    Making(self, subject).make()
        run = load_run(self.folder)
        results, reached = run.results, run.done["reached"]
        if reached:
            results = results[results["rung"].isin(self.wanted(reached))].reset_index(drop=True)
        outcome = Outcome(self.name, Standing.done if made else Standing.found, told(results, run))
        return outcome, results.assign(task=self.identity.task, setup=self.identity.setup)

    def _found(self, remove: bool = False) -> bool:
        """Has the store a finished run with all rungs that are asked for? `remove` deletes a damaged one."""
        if not files.is_intact(self.folder, remove):
            return False
        done = files.read_done(self.folder)
        found = not done["reached"] or self.wanted(done["reached"]) <= set(done["recovered_rungs"])
        if found and remove:
            files.tidy(self.folder)
        return found

    def wanted(self, reached: list[float]) -> set[float]:
        """The rungs that are asked for; one that is named need not be among those that were reached."""
        return set(self.recovering.rungs.losses or self.recovering.rungs.among(reached))

    def rungs(self) -> list[float]:
        """The rungs that are asked for, highest first: of those reached, or of the ladder before the training.

        None of given weights that the store lacks, as their rung is their loss, which is not known yet.
        """
        ladder = list(self.experiment.training.rungs)
        if files.is_done(self.training.folder):
            ladder = list(load_run(self.training.folder).rungs)
        elif self.experiment.architecture.given:
            return []
        return sorted(self.wanted(ladder), reverse=True)

    def subject(self) -> Subject:
        """The autoencoder, or what stands for it, and the images; trains it if the store lacks it."""
        split = self.prepared
        if self.control in (Control.none, Control.reference):
            autoencoder, split, _ = self.training.obtain()
            losses = {rung: autoencoder.rungs[rung] for rung in self._reached(autoencoder)}
            banks = partial(self._recalled, losses)
            return Subject(split, losses, autoencoder.autoencoder, autoencoder, banks)
        model = self.untrained if self.control is Control.untrained else nn.Identity()
        losses = {math.nan: math.nan}
        return Subject(split, losses, lambda _: model, banks=partial(self._recalled, losses))

    def bank(self, rung: float, loss: float | None = None) -> ExtractionJob | None:
        """The extraction whose ends are recalled at a rung, made once for an autoencoder; None if nothing is.

        loss: the train loss there, for which the rung stands before the training.
        """
        if not self.recipe.tries.recalls(rung if loss is None else loss):
            return None
        from memorization.jobs.extraction import ExtractionJob

        extracting = Extracting(TO_RECALL, spectra=False, control=self.control)
        settings = {key: value for key, value in TO_RECALL.identity().items() if key != "revisions"}
        prior = {key: value for key, value in settings.pop("prior").items() if key != "revision"}
        kept = {key: value for key, value in self.experiment.record.items() if key not in OF_RECOVERY}
        kept |= {"prior": prior, "search": settings, "spectra": False, "control": self.control.value}
        experiment = replace(self.experiment, recovering=None, extracting=extracting, record=kept)
        return ExtractionJob(experiment, rung)

    def _recalled(self, losses: dict[float, float], rungs: Iterable[float]) -> dict[float, Tensor]:
        """The images that are recalled at each of some rungs, of these train losses.

        Of several that are missing, one that another process makes comes last: jobs side by side share the work.
        """
        jobs = {rung: bank for rung in rungs if (bank := self.bank(rung, losses[rung]))}
        found = {}
        while jobs:
            rung = min(jobs, key=lambda rung: lock.is_held(jobs[rung].folder))
            outcome, run = jobs.pop(rung).run()
            print(outcome, flush=True)
            found[rung] = run.ends["ends"].clamp(0, 1)
        return found

    def _reached(self, autoencoder: Run) -> list[float]:
        """The rungs that are asked for; raises `ValueError` if the training did not reach one."""
        reached, rungs = list(autoencoder.rungs), self.recovering.rungs
        missing = [rung for rung in rungs.losses if rung not in reached]
        if missing or not reached:
            what = f"rungs: the training did not reach {missing[0]:g}" if missing else "the training reached no rung"
            of = "" if self.control is Control.none else f"control={self.control}: "
            loss = autoencoder.done["train_loss"]
            raise ValueError(f"{of}{what} of its ladder: it ended at a loss of {loss:.2e}; raise training.max_steps")
        return rungs.among(reached)


def told(results: pd.DataFrame, run: Run) -> str:
    """How many came back at the last rung, in a line."""
    loss = at_last(results)["train_loss"].iloc[0]
    level = "" if math.isnan(loss) else f"at train loss {loss:.0e}: "
    members, others = share(results), share(results, member=False)
    return f"{level}members {members:.0%}{_cut_short(results)}, non-members {others:.0%} → {run.folder}"


def at_last(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last rung; of an autoencoder without rungs, all."""
    last: pd.DataFrame = results[results["rung"].isna() | (results["rung"] == results["rung"].min())]
    return last


def share(results: pd.DataFrame, member: bool = True) -> float:
    """The share of members, or of non-members, recovered at the last rung, as in a summary; NaN of none."""
    last = at_last(results)
    return float(last.loc[last["member"] == member, "recovered"].eq(True).mean())


def _cut_short(results: pd.DataFrame) -> str:
    """Why the last rung did not bring members back, in brackets, where iterations ran out or images diverged."""
    last = at_last(results)
    missing = last.loc[last["member"] & ~last["recovered"], "status"]
    reasons = {Status.iteration_limit: "ran out of iterations", Status.diverged: "diverged"}
    counts = [f"{count} {why}" for status, why in reasons.items() if (count := int((missing == status).sum()))]
    return f" (of the {len(missing)} missing {', '.join(counts)})" if counts else ""
