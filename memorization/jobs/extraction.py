"""The extraction that an experiment stands for, at one rung: found in the store or made, and told of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import nn
from tqdm import tqdm

from memorization.architectures.external.contract import check_beyond, some_images
from memorization.components import Record, SettingError, within
from memorization.config.experiment import Experiment, Extracting
from memorization.data import Split, as_float, to_uint8
from memorization.engine.extraction import Progress, extract
from memorization.evaluation import extraction
from memorization.evaluation.controls import Control, InapplicableError, untrained
from memorization.evaluation.extraction import ends_table, summarised, told, told_of_starts
from memorization.extraction import PRIORS, Bank
from memorization.extraction.spectrum import spectral_radii
from memorization.jobs.identity import of_autoencoder, revisions
from memorization.jobs.outcome import Outcome, Standing
from memorization.jobs.training import TrainingJob, planned
from memorization.store import files
from memorization.store.reading import Run, load_run
from memorization.store.signature import rung_name, signature_of
from memorization.tracking.curves import captions_of_ends, search_metrics
from memorization.tracking.tracker import Details, Tracker, tracking

OF_EXTRACTION = (Control.untrained, Control.reference)  # the others are about a measurement
TRACKED = 16  # ends whose pictures are logged


@dataclass(frozen=True)
class ExtractionJob:
    """What comes out of the autoencoder of an experiment at `rung` of its ladder.

    NaN of one without a train loss: an untrained one, or a trained one where there are no members.
    """

    experiment: Experiment
    rung: float

    @property
    def extracting(self) -> Extracting:
        """What is asked for."""
        assert self.experiment.extracting
        return self.experiment.extracting

    @cached_property
    def training(self) -> TrainingJob:
        """That of the autoencoder."""
        return training_of(self.experiment)

    @cached_property
    def identity(self) -> Record:
        """What the signature is made of."""
        control, spectra = self.extracting.control, self.extracting.spectra
        with within("prior"):
            search = self.extracting.search.identity()
        autoencoder = of_autoencoder(self.experiment, control is Control.reference)
        return {
            "extraction": search,
            "autoencoder": signature_of(autoencoder),
            "rung": f"{self.rung:.6g}",
            "threshold_db": self.extracting.threshold_db,
            "seed": self.experiment.seed,
            "precision": self.experiment.hardware.precision,
            "revisions": {"ends": extraction.REVISION},
            **({} if control is Control.none else {"control": control.value}),
            **({} if spectra else {"spectra": False}),
        }

    @property
    def folder(self) -> Path:
        """Where the store has, or will have, its ends."""
        return self.experiment.store / "extractions" / signature_of(self.identity)

    @property
    def name(self) -> str:
        """The prior, or the control, and the rung, in words."""
        control = self.extracting.control
        which = "" if control is Control.none else f"control {control} "
        at = "" if math.isnan(self.rung) else f" at {rung_name(self.rung)}"
        return f"extraction {which}{PRIORS.name_of(self.extracting.search.prior)}{at}"

    def plan(self) -> Outcome:
        """What `run` would do."""
        return planned(self.name, self.folder)

    def run(self) -> tuple[Outcome, Run]:
        """Make the extraction, or find it."""
        made = files.ensure(self.folder, self._make)
        run = load_run(self.folder)
        line = f"{told(run.done['figures'])}; {told_of_starts(run.done['endings'])} → {run.folder}"
        return Outcome(self.name, Standing.done if made else Standing.found, line), run

    def _make(self) -> None:
        experiment, settings, folder = self.experiment, self.extracting.search, self.folder
        model, split, trained = self._subject()
        if experiment.architecture.external:
            check_beyond(model, some_images(split.shape), "architecture.")
        facts: Record = {
            "signature": folder.name,
            "name": self.name,
            "autoencoder": trained.folder.name if trained else "",
            "weights": trained.weights([self.rung]) if trained else {},
            "study": experiment.study,
            "revisions": revisions(self.identity, self.training.identity),
        }
        title = "{dataset} / {architecture}: ".format(**experiment.names) + self.name
        tags = [*experiment.names.values(), PRIORS.name_of(settings.prior), f"seed {experiment.seed}"]
        details = Details("extract", title, experiment.study, tags, experiment.record)
        bar = tqdm(
            total=settings.queries, desc=self.name, unit="query", unit_scale=True, disable=not experiment.progress
        )
        with (
            files.creating(folder, experiment.record, facts),
            tracking(experiment.tracking, experiment.store, details) as tracker,
        ):
            with bar:
                bank = extract(
                    model,
                    split.shape,
                    settings,
                    folder / files.SHARDS / signature_of(facts["weights"]),  # of these weights
                    seed=experiment.seed,
                    on_round=partial(self._told, bar, tracker, split),
                    observers=[Progress(bar.update)] if experiment.hardware.devices == 1 else [],
                    hardware=experiment.hardware,
                )
            radii = None
            if self.extracting.spectra:
                radii = spectral_radii(model, bank.points, progress=experiment.progress)
            table = self._table(bank, split, radii)
            loss = math.nan if trained is None else trained.rungs.get(self.rung, math.nan)
            figures = summarised(table, len(split.members), bank.queries, bank.starts)
            facts |= {"figures": figures, "endings": bank.endings, "rung": self.rung, "train_loss": loss}
            facts |= {"reached": [] if trained is None else list(trained.rungs)}
            files.write_table(folder / "results.parquet", table.assign(**self._columns(), train_loss=loss))
            pictures = self._pictures(bank, split, table)
            files.write(folder / "ends.safetensors", save(pictures))
            self._show(tracker, table, pictures)
            tracker.summarise({**figures, "signature": folder.name, "autoencoder": facts["autoencoder"]})

    def _subject(self) -> tuple[nn.Module, Split, Run | None]:
        """The autoencoder, the images, and the autoencoder's run if it has one."""
        if self.extracting.control is Control.untrained:
            split, model = self.training.split, self.training.model
            return untrained(model, self.experiment.seed).eval(), split, None
        trained, split, _ = self.training.obtain()
        return trained.autoencoder(self.rung), split, trained

    def _told(self, bar: tqdm[None], tracker: Tracker, split: Split, bank: Bank) -> None:
        """Show how far the search is, and log it."""
        table = self._table(bank, split)
        figures = summarised(table, len(split.members), bank.queries, bank.starts)
        bar.update(bank.queries - bar.n)
        compared = f"members extracted: {figures['extracted']}, spurious ends: {figures['spurious']}"
        bar.set_postfix_str(compared if figures["members"] else f"distinct ends: {figures['ends']}")
        tracker.log(search_metrics(figures))

    @staticmethod
    def _show(tracker: Tracker, table: pd.DataFrame, pictures: dict[str, torch.Tensor]) -> None:
        """Log the ends that were reached most often, beside the members nearest to them if there are any."""
        scores = table.nlargest(TRACKED, "hits")[["end", "hits", "psnr", "image", "is_member"]]
        if scores.empty:
            return
        shown = {"end": to_uint8(pictures["ends"][scores["end"].tolist()])}
        if scores["image"].ge(0).all():
            shown["member"] = pictures["member"][scores["end"].tolist()]
        tracker.gallery("extract", shown, scores, captions_of_ends(scores))

    def _table(self, bank: Bank, split: Split, radii: np.ndarray | None = None) -> pd.DataFrame:
        table = ends_table(
            bank, split.members, split.non_members, threshold_db=self.extracting.threshold_db,
            settings=self.extracting.search, spectral_radius=radii,
        )  # fmt: skip
        known = table["nearest_member"] >= 0
        images = pd.Series(split.member_indices).reindex(table["nearest_member"]).to_numpy()
        return table.assign(image=pd.Series(images).where(known.to_numpy(), -1).astype(int))

    def _columns(self) -> Record:
        """What each row says of the run."""
        return {
            **self.experiment.names,
            "prior": PRIORS.name_of(self.extracting.search.prior),
            "rung": self.rung,
            "control": self.extracting.control.value,
            "seed": self.experiment.seed,
            "threshold_db": self.extracting.threshold_db,
            "study": self.experiment.study,
            "signature": self.folder.name,
        }

    @staticmethod
    def _pictures(bank: Bank, split: Split, table: pd.DataFrame) -> dict[str, torch.Tensor]:
        """`ends` (K, C, H, W) float32 as they are, and for each the nearest `member`, uint8."""
        nearest = torch.tensor(table["nearest_member"].to_numpy()).clamp_min(0)
        members = as_float(split.members[nearest]) if len(split.members) else torch.zeros_like(bank.points)
        return {"ends": bank.points.contiguous(), "member": to_uint8(members)}


def training_of(experiment: Experiment) -> TrainingJob:
    """The training of the autoencoder that an experiment extracts from."""
    assert experiment.extracting
    return TrainingJob(experiment, experiment.extracting.control is Control.reference)


def check(experiment: Experiment) -> None:
    """Raise `ValueError` for settings that cannot be used, and `InapplicableError` for a control that cannot be had."""
    assert experiment.extracting
    control, rungs = experiment.extracting.control, experiment.extracting.rungs
    architecture = experiment.architecture
    training_of(experiment).check()
    with within("prior"):
        _ = experiment.extracting.search.prior.identity()
    if control not in (Control.none, *OF_EXTRACTION):
        raise InapplicableError(f"{control} is of a measurement, and an extraction has none")
    if control is Control.untrained and architecture.exported:
        raise InapplicableError("an exported program has no weights to draw anew")
    if control is Control.reference and architecture.given:
        raise InapplicableError("the weights are given, and no reference can be trained for them")
    if not architecture.given:
        rungs.among(experiment.training.rungs)
    elif rungs.losses:
        reason = "an autoencoder whose weights are given has one; leave it out"
        raise SettingError("rungs", list(rungs.losses), reason)


def jobs_of(experiment: Experiment, reached: list[float]) -> list[ExtractionJob]:
    """One job a rung that is asked for, of those that the training reached."""
    assert experiment.extracting
    if experiment.extracting.control is Control.untrained:
        return [ExtractionJob(experiment, math.nan)]
    rungs = experiment.extracting.rungs
    missing = [rung for rung in rungs.losses if rung not in reached]
    if missing or not reached:
        what = f"the training did not reach {missing[0]:g}" if missing else "the training reached no rung"
        raise ValueError(f"rungs: {what} of its ladder; raise training.max_steps")
    return [ExtractionJob(experiment, rung) for rung in rungs.among(reached)]


def run(experiment: Experiment) -> list[tuple[Outcome, Run]]:
    """Extract at all rungs that are asked for; the autoencoder is trained first if the store lacks it."""
    check(experiment)
    reached: list[float] = []
    if experiment.extracting and experiment.extracting.control is not Control.untrained:
        reached = list(training_of(experiment).obtain()[0].rungs)
    return [job.run() for job in jobs_of(experiment, reached)]


def plan(experiment: Experiment) -> list[Outcome]:
    """What `run` would do, after the same checks."""
    check(experiment)
    training = training_of(experiment)
    if files.is_done(training.folder):
        return [job.plan() for job in jobs_of(experiment, list(load_run(training.folder).rungs))]
    training.prepare()
    if not experiment.architecture.given:
        return [job.plan() for job in jobs_of(experiment, experiment.training.rungs)]
    return [Outcome("extraction", Standing.missing, f"new; autoencoder {training.plan().detail}")]
