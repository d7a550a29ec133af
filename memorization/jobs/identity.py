"""What run an experiment stands for: what its signature is made of, which is all that can change its numbers.

Images and files of weights count by their content, not by where they lie; each part counts with its revision. What
watches a run (tracking, progress), where it is made (hardware but its precision) and what it is called does not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from memorization.components import Record, revision_of, within
from memorization.config.experiment import Experiment
from memorization.data import DATASETS
from memorization.evaluation import halves
from memorization.evaluation.controls import Control, controlled
from memorization.extraction import TO_RECALL
from memorization.store.signature import signature_of


def of_autoencoder(experiment: Experiment, swap: bool = False, half: int | None = None) -> Record:
    """Of the trained autoencoder; with `swap`, of the one that is trained on the non-members.

    half: of reference number `half`, which is trained on a random half of all images; see `evaluation.halves`.
    """
    dataset, images = experiment.dataset, experiment.images
    with within("architecture"):
        architecture = experiment.architecture.identity()
    identity: Record = {
        "seed": experiment.seed,
        "dataset": {"name": DATASETS.name_of(dataset), "revision": revision_of(dataset), **images},
        "architecture": architecture,
        "precision": experiment.hardware.precision,
    }
    if not experiment.architecture.given:  # else there is no training
        training = experiment.training
        identity["training"] = {"name": "training", "revision": revision_of(training), **training.identity()}
    if half is not None:
        identity["half"] = {"name": "halves", "number": half, "revision": halves.REVISION}
    return identity | ({"swapped": True} if swap else {})


@dataclass(frozen=True)
class Identity:
    """What a recovery's signature is made of, whatever its rungs; and what ties controls to the run they belong to.

    task: the signature of what is asked, whoever answers. setup: that of the method and autoencoder as well; "" for a
    control without an autoencoder. See `evaluation.verdict.controls_of`.
    """

    record: Record
    task: str
    setup: str

    @classmethod
    def of(cls, experiment: Experiment) -> Identity:
        """A control is a run of its own.

        What has no autoencoder depends on the task alone, so that it is made once for all methods; `untrained` and
        `reference` depend on the setup of the run that they belong to.
        """
        recovering = experiment.recovering
        assert recovering
        control = recovering.control
        recipe, autoencoder = controlled(recovering.recipe, control).identity(), of_autoencoder(experiment)
        recipe["recovery"] |= {"batch_size": recovering.batch_size}
        if recovering.recipe.tries.recalls():
            recipe["bank"] = TO_RECALL.identity()
        task = {key: autoencoder[key] for key in ("seed", "dataset", "precision")}
        task |= {key: recipe.pop(key) for key in ("degradation", "threshold_db", "revisions")}
        task |= {"sample": recovering.sample} if recovering.sample else {}
        setup = {**recipe, "task": task, "autoencoder": autoencoder}
        names = signature_of(task), signature_of(setup)
        if control is Control.none:
            return cls({**recipe, **task, "autoencoder": signature_of(autoencoder)}, *names)
        if control in (Control.untrained, Control.reference):
            return cls({"control": control, "setup": setup}, *names)
        return cls({"control": control, "task": task}, names[0], "")


def revisions(*identities: Any) -> dict[str, int]:
    """The revision of each part that is named in `identities`."""

    def found(node: Any) -> Iterator[tuple[str, int]]:
        if isinstance(node, dict):
            if "revision" in node:
                yield node["name"], node["revision"]
            yield from node.get("revisions", {}).items()
            for value in node.values():
                yield from found(value)

    return dict(pair for identity in identities for pair in found(identity))
