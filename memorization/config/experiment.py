"""The typed experiment that a configuration stands for. `resolve` is the door: behind it are objects and no keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from memorization.architectures import Architecture
from memorization.components import Record, SettingError, expanded, within
from memorization.config.groups import GROUPS, parts_of, typed
from memorization.config.messages import check_keys
from memorization.config.schema import Mode, Objective, Tracking, record_of
from memorization.data import Dataset
from memorization.data.split import check_seed
from memorization.engine.settings import Hardware, Training
from memorization.evaluation.batch import Recipe
from memorization.evaluation.controls import Control
from memorization.evaluation.halves import check_references
from memorization.evaluation.metrics import check_threshold
from memorization.extraction import Search

RECIPE_EXTRA = ("starts", "recall", "extrapolation")  # keys of the group `recovery` that are the recipe's
ASKED = ("gallery", "controls", "control", "probes", "attractors", "references", "objective", "sample")
UNNAMED, LONGEST = r"/\#?%:", 128  # characters that W&B takes in no name of a project, and how many it takes
RECIPE_KEYS = {"method": "recovery"} | {key: f"recovery.{key}" for key in RECIPE_EXTRA}


@dataclass(frozen=True)
class Rungs:
    """The train losses to recover at: all that the training reached, the last, or `losses`."""

    last: bool = False
    losses: tuple[float, ...] = ()

    @classmethod
    def parse(cls, wanted: object) -> Rungs:
        """From `all`, `last`, or a train loss or a list of them; raises `SettingError` for anything else."""
        if wanted in ("all", "last"):
            return cls(last=wanted == "last")
        try:
            losses = [float(rung) for rung in (wanted if isinstance(wanted, list) else [cast(Any, wanted)])]
        except (TypeError, ValueError):
            losses = []
        if not losses:
            raise SettingError("rungs", wanted, "give all, last, or a list of train losses such as [1e-2,1e-4]")
        return cls(losses=tuple(sorted(set(losses), reverse=True)))

    def among(self, ladder: Sequence[float]) -> list[float]:
        """Those of `ladder`, which falls, that are meant; raises `SettingError` for one that is not on it."""
        if not self.losses:
            return list(ladder[-1:] if self.last else ladder)
        if set(self.losses) - set(ladder):
            names = ", ".join(f"{rung:g}" for rung in ladder)
            raise SettingError("rungs", list(self.losses), f"choose among the rungs of the training's ladder: {names}")
        return list(self.losses)


@dataclass(frozen=True)
class Recovering:
    """What is recovered from the autoencoder, and how.

    batch_size: images solved together. gallery: images kept for the report, of members and of non-members each.
    controls: also run the controls. control: be one of them. probes: how many members to make near-member probes of.
    attractors: also find the fixed point near each image. references: how many reference autoencoders to train for a
    membership inference, 0 for none. sample: how many members, and non-members, are recovered; 0 is all.
    """

    recipe: Recipe
    rungs: Rungs = Rungs()
    batch_size: int = 100
    gallery: int = 6
    controls: bool = False
    control: Control = Control.none
    probes: int = 0
    attractors: bool = False
    references: int = 0
    objective: Objective = Objective.recovered
    sample: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SettingError("recovery.batch_size", self.batch_size, "it must be at least 1")
        for name in ("gallery", "probes", "sample"):
            if getattr(self, name) < 0:
                raise SettingError(name, getattr(self, name), "it must be at least 0")
        if self.references:
            check_references(self.references)
        if self.references and self.sample:
            raise SettingError(
                "sample", self.sample, "`references` are asked about all images: set one of the two to 0"
            )


@dataclass(frozen=True)
class Extracting:
    """What is extracted from the autoencoder, and how.

    threshold_db: PSNR from which an end is a member. spectra: also each end's spectral radius. controls: also run the
    controls. control: be one of them.
    """

    search: Search
    rungs: Rungs = Rungs(last=True)
    threshold_db: float = 25.0
    spectra: bool = True
    controls: bool = False
    control: Control = Control.none

    def __post_init__(self) -> None:
        check_threshold(self.threshold_db)


@dataclass(frozen=True)
class Experiment:
    """One configuration: the images, the autoencoder and its training, and what is done with it: a recovery, an
    extraction, or neither (both None).

    store: the folder of all runs. study: the name under which runs are grouped. checkpoint_seconds: between two
    checkpoints of a training, at least. plan: only say what would be done. record: the configuration as it is kept.
    """

    seed: int
    store: Path
    study: str
    progress: bool
    checkpoint_seconds: float
    plan: bool
    dataset: Dataset
    architecture: Architecture
    training: Training
    tracking: Tracking
    hardware: Hardware
    recovering: Recovering | None
    extracting: Extracting | None
    record: Record = field(repr=False)

    @property
    def names(self) -> dict[str, str]:
        """The choices of data set and architecture, as a row of results says them."""
        return {group: self.record[group]["name"] for group in ("dataset", "architecture")}

    @cached_property
    def images(self) -> Record:
        """What the identity of the data set is, looked up once: a folder of many files takes seconds."""
        with within("dataset"):
            return self.dataset.identity()

    def of_control(self, control: Control) -> Experiment:
        """This experiment as one of its controls."""
        own = {name: getattr(self, name) for name in ("recovering", "extracting")}
        asked = {name: replace(part, control=control) for name, part in own.items() if part}
        return replace(self, **asked, record={**self.record, "control": control.value})


def resolve(config: DictConfig) -> Experiment:
    """The experiment that a composed configuration stands for.

    Raises `ValueError`, naming the key, for one that does not exist or whose value cannot be used.
    """
    record = record_of(config)
    check_keys(record)
    node: Any = OmegaConf.to_object(config)
    if not node.store:
        raise SettingError("store", node.store, "name a folder: store=FOLDER")
    check_seed(node.seed)
    if not node.checkpoint_seconds >= 0:
        raise SettingError("checkpoint_seconds", node.checkpoint_seconds, "it must be at least 0")
    check_names(node.tracking)
    with within("architecture"):
        settings = vars(node.architecture)
        architecture = Architecture.of(**settings | typed(GROUPS["architecture"][settings["name"]], settings))
    return Experiment(
        **{
            name: getattr(node, name)
            for name in ("seed", "study", "progress", "checkpoint_seconds", "plan", "tracking")
        },
        store=expanded(node.store),
        dataset=_part("dataset", node.dataset),
        architecture=architecture,
        training=_part("training", node.training),
        hardware=node.trainer,
        recovering=_recovering(node) if "recovery" in record else None,
        extracting=_extracting(node) if "prior" in record else None,
        record={key: value for key, value in record.items() if key != "plan"},
    )


def check_names(tracking: Tracking) -> None:
    """Raise `SettingError` for a project or an entity that W&B refuses, if there is anything to track."""
    for name in ("project", "entity") if tracking.mode is not Mode.none else ():
        value = getattr(tracking, name)
        if value is None:  # the user's own entity
            continue
        if not value.strip() or len(value) > LONGEST or set(value) & set(UNNAMED):
            ways = "a team's project is tracking.entity=TEAM tracking.project=NAME; or tracking=none"
            reason = f"W&B takes 1 to {LONGEST} characters, none of them {' '.join(UNNAMED)}; {ways}"
            raise SettingError(f"tracking.{name}", value, reason)


def _part(group: str, node: Any, name: str = "") -> Any:
    """The part that a node of `group` stands for, without the keys of `EXTRA`; `name` is its field in a larger one."""
    make = GROUPS[group][node.name]
    inner = parts_of(make)
    settings = {key: value for key, value in typed(make, vars(node)).items() if key not in inner}
    with within(name or group):
        return make(**settings, **{key: _part(group, getattr(node, key), key) for key in inner})


def _extracting(node: Any) -> Extracting:
    prior = _part("prior", node.prior)
    with within("search"):
        search = Search(prior=prior, **vars(node.search))
    own = {name: getattr(node, name) for name in ("threshold_db", "spectra", "controls", "control")}
    return Extracting(search, Rungs.parse(node.rungs), **own)


def _recovering(node: Any) -> Recovering:
    parts = {"degradation": "degradation", "method": "recovery", "operator": "operator"}
    built = {name: _part(group, getattr(node, group)) for name, group in parts.items()}
    try:
        own = {key: getattr(node.recovery, key) for key in RECIPE_EXTRA}
        recipe = Recipe(**built, **own, seed=node.seed, threshold_db=node.threshold_db)
    except SettingError as error:
        raise SettingError(RECIPE_KEYS.get(error.field, error.field), error.value, error.reason) from error
    return Recovering(
        recipe=recipe,
        rungs=Rungs.parse(node.rungs),
        batch_size=node.recovery.batch_size,
        **{name: getattr(node, name) for name in ASKED},
    )
