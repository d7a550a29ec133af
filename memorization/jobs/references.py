"""Membership inference by references: trained, asked the same recovery, and compared; found in the store or made.

Three kinds of run, so that what exists is found again and no signature of a recovery changes: the autoencoder of each
reference, an ordinary training; its scores of all images (`references/`), which more references leave as they are; and
what they say together of the target's scores (`lira/`).
"""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from memorization.components import Record
from memorization.engine.callbacks import RecoveryBar
from memorization.engine.recovery import recover
from memorization.evaluation import lira
from memorization.evaluation.attacks import own_psnr, scores_of
from memorization.evaluation.extraction import bank_of
from memorization.jobs import together
from memorization.jobs.identity import revisions
from memorization.jobs.outcome import Outcome, Standing
from memorization.jobs.recovery import RecoveryJob
from memorization.jobs.training import TrainingJob, planned
from memorization.store import files
from memorization.store.reading import Run, load_run
from memorization.store.signature import rung_name, signature_of


@dataclass(frozen=True)
class ReferenceJob:
    """The scores of all images by reference `number`, with the method and at the rungs of a recovery."""

    recovery: RecoveryJob
    number: int

    @cached_property
    def training(self) -> TrainingJob:
        """That of the reference."""
        own = self.recovery.training
        return TrainingJob(own.experiment, access=own.access, at_once=own.at_once, half=self.number)

    @cached_property
    def identity(self) -> Record:
        """What the signature is made of."""
        record, rungs = self.recovery.identity.record, asdict(self.recovery.recovering.rungs)
        return {**record, "reference": signature_of(self.training.identity), **rungs}

    @property
    def folder(self) -> Path:
        """Where the store has, or will have, its table: one row an image and rung."""
        return self.recovery.experiment.store / "references" / signature_of(self.identity)

    @property
    def name(self) -> str:
        return f"reference {self.number} of {self.recovery.name}"

    def run(self, rungs: list[float]) -> tuple[bool, Run]:
        """Train the reference and recover all images with it at `rungs`, or find it; was it made?

        Raises `ValueError` if its training did not reach one of the rungs.
        """
        missing = files.ensure(self.folder, partial(self._make, rungs))
        return missing, load_run(self.folder)

    def _make(self, rungs: list[float]) -> None:
        job, experiment, recovering = self.recovery, self.recovery.experiment, self.recovery.recovering
        autoencoder, split, _ = self.training.obtain()
        if unreached := [rung for rung in rungs if rung not in autoencoder.rungs]:
            raise ValueError(
                f"references: the training of reference {self.number} did not reach {unreached[0]:g}, as it ended at a "
                f"loss of {autoencoder.done['train_loss']:.2e}; raise training.max_steps, or name higher rungs=[...]"
            )
        images = torch.cat([split.members, split.non_members])
        batches, tables = -(-len(images) // recovering.batch_size), []
        facts: Record = {
            "signature": self.folder.name,
            "name": self.name,
            "autoencoder": self.training.folder.name,
            "weights": autoencoder.weights(rungs),
            "revisions": revisions(job.identity.record, self.training.identity),
        }
        bar = RecoveryBar(f"reference {self.number}", len(rungs), batches, job.recipe, shown=experiment.progress)
        with files.creating(self.folder, experiment.record, facts) as folder, closing(bar):
            for rung in rungs:
                model, loss = autoencoder.autoencoder(rung), autoencoder.rungs[rung]
                bar.begin(rung)
                weights = signature_of(autoencoder.weights([rung]))
                results, _ = recover(
                    model,
                    split,
                    job.recipe,
                    folder / files.SHARDS / weights / rung_name(rung),
                    batch_size=recovering.batch_size,
                    observers=[bar],
                    hardware=experiment.hardware,
                    loss=loss,
                    bank=bank_of(job.recipe, model, split.shape, loss, progress=experiment.progress),
                )
                columns = scores_of(results, own_psnr(model.cpu(), images))
                columns |= {name: results[name].to_numpy() for name in ("image", "member")}
                columns["inside"] = self.training.inside(split)
                tables.append(pd.DataFrame(columns).assign(rung=rung, train_loss=loss, number=self.number))
            files.write_table(folder / "results.parquet", pd.concat(tables, ignore_index=True))


@dataclass(frozen=True)
class LiraJob:
    """What all references of a recovery say of each image: was the audited autoencoder trained on it?"""

    recovery: RecoveryJob

    @cached_property
    def references(self) -> list[ReferenceJob]:
        """Each by itself."""
        return [ReferenceJob(self.recovery, number) for number in range(self.recovery.recovering.references)]

    @property
    def folder(self) -> Path:
        """Where the store has, or will have, its table: one row an image and rung, see `store.reading.load_lira`."""
        identity: Record = {"references": [job.folder.name for job in self.references]}
        return self.recovery.experiment.store / "lira" / signature_of(identity | {"revision": lira.REVISION})

    @property
    def name(self) -> str:
        return f"membership inference with {len(self.references)} references"

    def plan(self) -> Outcome:
        """What `run` would do: the trainings of the references that are there, and those that are not."""
        parts = []
        for job in self.references:
            trained, recovered = planned("", job.training.folder), planned("", job.folder)
            parts.append(f"reference {job.number} autoencoder {trained.detail}, scores {recovered.detail}")
        outcome = planned(self.name, self.folder)
        return Outcome(self.name, outcome.status, "; ".join([outcome.detail, *parts]))

    def run(self) -> Outcome:
        """Make what is missing, or find it; with how well each attack at the last rung tells members."""
        run = load_run(self.recovery.folder)
        wanted = self.recovery.wanted(run.done["reached"])
        results = run.results[run.results["rung"].isin(wanted)]
        rungs = results["rung"].unique().tolist()
        together.train(job.training for job in self.references if not files.is_done(job.folder))
        found = [job.run(rungs) for job in self.references]
        made_of = {reference.folder.name: reference.done["checksums"]["results.parquet"] for _, reference in found}

        def is_of_these(folder: Path, remove: bool) -> bool:
            own = files.is_intact(folder, remove)
            if own and files.read_done(folder)["made_of"] != made_of:  # a reference was made anew
                own = False
                if remove:
                    shutil.rmtree(folder)
            return own

        def make() -> None:
            self._make(run, results, [reference.results for _, reference in found], made_of)

        folder = self.folder
        standing = Standing.done if files.ensure(folder, make, is_of_these) else Standing.found
        table = load_run(folder).results
        lines = lira.told(lira.summarised(table[table["rung"] == table["rung"].min()], lira.MAIN))
        where = (
            f"at train loss {rung_name(float(table['rung'].min()))}, {sum(made for made, _ in found)} made → {folder}"
        )
        return Outcome(self.name, standing, "\n    ".join([where, *lines]))

    def _make(self, run: Run, results: pd.DataFrame, scored: list[pd.DataFrame], made_of: Record) -> None:
        job, tables = self.recovery, []
        autoencoder, split, _ = job.training.obtain()
        images = torch.cat([split.members, split.non_members])
        for rung, part in results.groupby("rung", sort=False):
            own = scores_of(part, own_psnr(autoencoder.autoencoder(float(str(rung))), images))
            others = [table[table["rung"] == rung] for table in scored]
            stacked = {name: np.stack([table[name] for table in others]) for name in lira.ATTACKS}
            found: dict[str, Any] = lira.attacked(own, stacked, np.stack([table["inside"] for table in others]))
            facts = {name: part[name].to_numpy() for name in ("image", "member", "rung", "train_loss")}
            tables.append(pd.DataFrame(facts | found))
        done: Record = {
            "signature": self.folder.name,
            "name": f"{job.training.name}: {self.name}, {job.name}",
            "autoencoder": autoencoder.folder.name,
            "weights": autoencoder.weights(results["rung"].unique().tolist()),
            "setup": job.identity.setup,
            "recovery": run.folder.name,
            "made_of": made_of,
            "revisions": {"lira": lira.REVISION},
        }
        columns: Record = {"references": len(scored), "setup": job.identity.setup, "signature": self.folder.name}
        with files.creating(self.folder, job.experiment.record, done) as folder:
            files.write_table(folder / "results.parquet", pd.concat(tables, ignore_index=True).assign(**columns))
