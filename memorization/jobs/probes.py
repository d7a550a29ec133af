"""The near-member probes of a recovery: found in the store or made, and told of in a line."""

from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from memorization.evaluation.probes import KINDS, attraction, recover_probes
from memorization.jobs.identity import revisions
from memorization.jobs.outcome import Outcome, Standing
from memorization.jobs.recovery import RecoveryJob
from memorization.jobs.training import planned
from memorization.store import files
from memorization.store.reading import load_run
from memorization.store.signature import signature_of


@dataclass(frozen=True)
class ProbesJob:
    """Probes of the first members, as many as the experiment says, with the method and at the rungs of a recovery."""

    recovery: RecoveryJob

    @property
    def folder(self) -> Path:
        """Where the store has, or will have, their table: one row a probe and rung."""
        recovering, identity = self.recovery.recovering, self.recovery.identity.record
        kinds = {name: list(kind.strengths) for name, kind in KINDS.items()}
        rungs = asdict(recovering.rungs)
        identity = {**identity, "probes": kinds, "members": recovering.probes, **rungs}
        return self.recovery.experiment.store / "probes" / signature_of(identity)

    def plan(self) -> Outcome:
        """What `run` would do; the recovery has made the same checks."""
        return planned(f"probes of {self.recovery.name}", self.folder)

    def run(self) -> Outcome:
        """Make the probes and recover them, or find them."""
        folder = self.folder
        standing = Standing.done if files.ensure(folder, self._make) else Standing.found
        results = load_run(folder).results
        last = attraction(results[results["rung"] == results["rung"].min()])
        near = last.loc[last["captured"] >= 0.5, "distance"]
        reach = f"half or more up to a distance of {near.max():.3f}" if len(near) else "less than half"
        return Outcome(f"probes of {self.recovery.name}", standing, f"answered with their member: {reach} → {folder}")

    def _make(self) -> None:
        job, folder = self.recovery, self.folder
        subject = job.subject()
        split, tables, banks = subject.split, [], subject.banks(subject.losses)
        for rung, loss in subject.losses.items():
            found = recover_probes(
                job.recipe,
                subject.model(rung),
                split.members,
                split.non_members,
                count=job.recovering.probes,
                indices=split.member_indices,
                batch_size=job.recovering.batch_size,
                bank=banks.get(rung),
                loss=loss,
            )
            tables.append(found.assign(rung=rung, train_loss=loss))
        facts = {
            "signature": folder.name,
            "autoencoder": subject.signature,
            "weights": subject.weights(subject.losses),
            "setup": job.identity.setup,
            "revisions": revisions(job.identity.record, job.training.identity if subject.signature else {}),
        }
        with files.creating(folder, job.experiment.record, facts) as aside:
            table = pd.concat(tables, ignore_index=True).assign(setup=job.identity.setup, signature=folder.name)
            files.write_table(aside / "results.parquet", table)
