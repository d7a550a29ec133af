"""The fixed points near the images of a recovery: found in the store or made, and told of in a line.

They depend on the autoencoder and the images alone. They are therefore a run of their own, one for an autoencoder and
rung, which all recoveries share; and no signature of a recovery changes.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from memorization.components import Record
from memorization.data import as_float
from memorization.evaluation.controls import InapplicableError
from memorization.extraction import spectrum
from memorization.extraction.jacobian import UndifferentiableError
from memorization.jobs.identity import revisions
from memorization.jobs.outcome import Outcome, Standing
from memorization.jobs.recovery import RecoveryJob
from memorization.jobs.training import planned
from memorization.store import files
from memorization.store.reading import load_run
from memorization.store.signature import rung_name, signature_of

# The columns of `spectrum.Attractors.table`, by names that differ from those of a recovery's results.
COLUMNS = {
    "attractor": "attractor",
    "distance": "attractor_distance",
    "fixed_residual": "attractor_residual",
    "residual": "image_residual",
    "spectral_radius": "spectral_radius",
    "singular_value": "singular_value",
    "converged": "spectrum_converged",
}


@dataclass(frozen=True)
class AttractorsJob:
    """What each image is to the autoencoder of a recovery at a rung; see `spectrum.attractors`."""

    recovery: RecoveryJob
    rung: float

    @cached_property
    def identity(self) -> Record:
        """What the signature is made of."""
        return {
            "attractors": {"near": spectrum.NEAR},
            "autoencoder": signature_of(self.recovery.training.identity),
            "rung": f"{self.rung:.6g}",
            "revisions": {"attractors": spectrum.REVISION},
        }

    @property
    def folder(self) -> Path:
        """Where the store has, or will have, their table: one row an image."""
        return self.recovery.experiment.store / "attractors" / signature_of(self.identity)

    @property
    def name(self) -> str:
        return f"attractors at {rung_name(self.rung)}"

    def plan(self) -> Outcome:
        """What `run` would do."""
        return planned(self.name, self.folder)

    def run(self) -> Outcome:
        """Find the fixed points, or find that they were found.

        Raises `InapplicableError` for an autoencoder without derivatives.
        """
        folder = self.folder
        standing = Standing.done if files.ensure(folder, self._make) else Standing.found
        return Outcome(self.name, standing, f"{told(load_run(folder).results)} → {folder}")

    def _make(self) -> None:
        job, folder = self.recovery, self.folder
        subject = job.subject()
        split = subject.split
        images = torch.cat([as_float(split.members), as_float(split.non_members)])
        try:
            found = spectrum.attractors(subject.model(self.rung), images, progress=job.experiment.progress).table
        except UndifferentiableError as error:
            raise InapplicableError(str(error)) from error
        facts = {
            "signature": folder.name,
            "name": f"{job.training.name}: {self.name}",
            "autoencoder": subject.signature,
            "weights": subject.weights([self.rung]),
            "revisions": revisions(self.identity, job.training.identity),
        }
        own: dict[str, Any] = {
            "image": [*split.member_indices, *split.non_member_indices],
            "member": [True] * len(split.members) + [False] * len(split.non_members),
            "rung": self.rung,
            "train_loss": subject.losses[self.rung],
            "autoencoder": subject.signature,
            "signature": folder.name,
        }
        table = pd.DataFrame({name: found[column] for column, name in COLUMNS.items()}).assign(**own)
        with files.creating(folder, job.experiment.record, facts) as aside:
            files.write_table(aside / "results.parquet", table[[*own, *COLUMNS.values()]])


def told(table: pd.DataFrame) -> str:
    """How many members and non-members have each verdict, in a line: `members: 48 attracting, 2 none; …`."""
    parts = []
    for name, own in (("members", table[table["member"]]), ("non-members", table[~table["member"]])):
        counts = own["attractor"].value_counts()
        said = [f"{counts[verdict]} {verdict}" for verdict in spectrum.Stability if verdict in counts.index]
        parts.append(f"{name}: {', '.join(said)}")
    return "; ".join(parts)
