"""How a recovery is made: at each rung that its folder lacks, beside what the folder has."""

import math
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pandas as pd
from safetensors.torch import load_file, save
from torch import Tensor

from memorization.components import Record
from memorization.engine.callbacks import RecoveryBar
from memorization.engine.recovery import recover
from memorization.engine.shards import is_whole
from memorization.evaluation.controls import Control, controlled
from memorization.evaluation.summary import summarise
from memorization.jobs.identity import revisions
from memorization.store import files
from memorization.store.signature import rung_name, signature_of
from memorization.tracking.curves import captions_of_answers, rung_metrics
from memorization.tracking.tracker import Details, Tracker, tracking

if TYPE_CHECKING:
    from memorization.jobs.recovery import RecoveryJob, Subject

Found = tuple[pd.DataFrame, dict[str, Tensor]]  # the results at a rung, and the pictures of its gallery


class Making:
    """The making of `job`'s run from its `subject`. A finished run that grows stays whole until the rest is there."""

    def __init__(self, job: "RecoveryJob", subject: "Subject") -> None:
        self.job, self.subject = job, subject
        self.experiment, self.recovering, self.folder = job.experiment, job.recovering, job.folder
        self.split = subject.split.sampled(self.recovering.sample, self.experiment.seed)
        self.reached = list(subject.autoencoder.rungs) if subject.autoencoder else []
        self.earlier = self._earlier()
        self.missing = [rung for rung in subject.losses if rung not in self.earlier]
        self.rungs = [rung for rung in self.reached if rung in self.earlier or rung in self.missing] or self.missing

    def make(self) -> None:
        """Recover, and write the run."""
        experiment, split, grows = self.experiment, self.split, files.is_done(self.folder)
        record, facts = self._record(), self._facts()
        batches = -(-(len(split.members) + len(split.non_members)) // self.recovering.batch_size)
        bar = RecoveryBar(self.job.name, len(self.missing), batches, self.job.recipe, shown=experiment.progress)
        title = "{dataset} / {architecture}: ".format(**experiment.names) + self.job.name
        details = Details("recover", title, experiment.study, self._tags(), record)
        with ExitStack() as stack:
            if not grows:
                stack.enter_context(files.creating(self.folder, record, facts))
            tracker = stack.enter_context(tracking(experiment.tracking, experiment.store, details))
            stack.enter_context(closing(bar))
            banks = self.subject.banks(self.missing)
            made = {rung: self._recovered(rung, banks.get(rung), bar, tracker) for rung in self.missing}
            found = self.earlier | made
            if grows:
                files.reopen(self.folder)
                stack.enter_context(files.creating(self.folder, record, facts))
            parts = [found[rung] for rung in self.rungs]
            table = pd.concat([part[0] for part in parts], ignore_index=True).assign(study=experiment.study)
            pictures = {name: picture for _, shown in parts for name, picture in shown.items()}
            files.write_table(self.folder / "results.parquet", table)
            files.write(self.folder / "gallery.safetensors", save(pictures))
            tracker.summarise({key: facts[key] for key in ("signature", "autoencoder")})
            if len(pictures["row"]):
                (last, shown), columns = parts[-1], ["image", "member", "psnr_erased", "recovered", "status"]
                kept = {name: shown[name] for name in ("original", "degraded")}
                kept["answer"] = shown[f"answer/{rung_name(self.rungs[-1])}"]
                scores = last.iloc[shown["row"].tolist()][columns]
                tracker.gallery("recover", kept, scores, captions_of_answers(scores))

    def _recovered(self, rung: float, bank: Tensor | None, bar: RecoveryBar, tracker: Tracker) -> Found:
        """The results at a rung and the pictures of its gallery, by the names that they have in a run."""
        name, members = rung_name(rung), self.subject.split.members
        bar.begin(rung)
        table, shown = recover(
            self.subject.model(rung),
            self.split,
            controlled(self.recovering.recipe, self.job.control, members),
            self.folder / files.SHARDS / signature_of(self.subject.weights([rung])) / name,  # of these weights
            batch_size=self.recovering.batch_size,
            gallery=self._gallery(),
            observers=[bar],
            loggers=tracker.loggers,
            hardware=self.experiment.hardware,
            loss=self.subject.losses[rung],
            bank=bank,
            members=members,
        )
        table = table.assign(rung=rung, train_loss=self.subject.losses[rung], **self._columns())
        metrics = rung_metrics(summarise(table).iloc[0])
        if math.isnan(rung):
            tracker.summarise({key: value for key, value in metrics.items() if key not in ("rung", "train_loss")})
        else:
            tracker.log(metrics)
            tracker.summarise({f"{key}@{name}": value for key, value in metrics.items()})
        own = {kind: f"{kind}/{name}" for kind in ("answer", "path")}
        return table, {own.get(kind, kind): picture for kind, picture in shown.items()}

    def _gallery(self) -> list[int]:
        """The rows whose pictures are kept: those of earlier rungs, if there are any."""
        for _, pictures in self.earlier.values():
            rows: list[int] = pictures["row"].tolist()
            return rows
        count, others = len(self.split.members), len(self.split.non_members)
        return [
            *range(min(self.recovering.gallery, count)),
            *(count + i for i in range(min(self.recovering.gallery, others))),
        ]

    def _earlier(self) -> dict[float, Found]:
        """What a finished run, or one that was reopened, has of other rungs; nothing if of other weights."""
        folder, key = self.folder, "weights"
        if not files.is_done(folder):
            folder, key = folder / files.SHARDS / files.EARLIER, "made_with"
            if not is_whole(folder):
                return {}
        if files.read_done(folder)[key].items() - self.subject.weights(self.reached).items():
            return {}
        table, pictures = pd.read_parquet(folder / "results.parquet"), load_file(folder / "gallery.safetensors")

        def of(rung: float) -> Found:
            own = {name for name in pictures if "/" not in name or name.endswith(f"/{rung_name(rung)}")}
            return table[table["rung"] == rung].reset_index(drop=True), {name: pictures[name] for name in own}

        return {rung: of(rung) for rung in table["rung"].unique().tolist()}

    def _facts(self) -> Record:
        """What `done.json` says."""
        identities = (self.job.identity.record, self.job.training.identity if self.subject.signature else {})
        return {
            "signature": self.folder.name,
            "name": self.job.name,
            "autoencoder": self.subject.signature,
            "weights": self.subject.weights(self.rungs if self.reached else []),
            "reached": self.reached,
            "recovered_rungs": self.rungs if self.reached else [],
            "study": self.experiment.study,
            "left_out": self.subject.split.left_out,
            "revisions": revisions(*identities),
        }

    def _columns(self) -> Record:
        """What each row says of the run."""
        return {
            **self.experiment.names,
            **self.job.recipe.choices(),
            "control": self.job.control.value,
            "task": self.job.identity.task,
            "setup": self.job.identity.setup,
            "study": self.experiment.study,
            "signature": self.folder.name,
        }

    def _record(self) -> Record:
        """The configuration that the run keeps: with the method of its control, and its rungs if they are not all."""
        record, control = {**self.experiment.record, "control": self.job.control.value}, self.job.control
        if self.reached and self.rungs != self.reached:
            record["rungs"] = self.rungs
        if control in (Control.inpaint, Control.nearest):
            method = self.job.recipe.choices()["recovery"]
            record["recovery"] = {"name": method, "batch_size": self.recovering.batch_size}
            record["operator"] = {"name": "known"}
        return record

    def _tags(self) -> list[str]:
        columns, control = self._columns(), self.job.control
        tags = [columns[key] for key in ("dataset", "architecture", "recovery", "degradation")]
        tags += [f"operator {columns['operator']}"] if self.job.recipe.asks_operator else []
        return [*tags, f"seed {columns['seed']}"] + ([] if control is Control.none else [f"control {control}"])
