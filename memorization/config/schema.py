"""The schema of the configuration, registered with Hydra.

A choice of a group is one part (a dataclass or a module): its fields, with their types and defaults, are the keys of
the configuration, so nothing is said twice. `conf/<group>/<choice>.yaml` stands on `schema/<group>/<choice>` in its
defaults list, which is what turns a typo inside it into an error. A part may hold others of its group (the two parts of
a chain of degradations): they are its fields without a default. The file fills them from its defaults list, and a user
with `<group>@<key>=<choice>`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import MISSING, DictConfig, OmegaConf

from memorization.components import Record, expanded, leave_out
from memorization.config.choices import SEARCH, choices, dataclass_of
from memorization.config.groups import EXTRA, GROUPS
from memorization.engine.settings import Hardware
from memorization.evaluation.controls import Control

# Of `${expanded:${store}}`, in every process that resolves a configuration.
OmegaConf.register_new_resolver("expanded", lambda path: str(expanded(path)), replace=True)

# Where Weights & Biases keeps its runs: on disk, on its server as well, or nowhere.
Mode = StrEnum("Mode", ["offline", "online", "none"])
# What an optimising sweeper is told: the share of members recovered at the last rung, or that times -1.
Objective = StrEnum("Objective", ["recovered", "minus_recovered"])


@dataclass
class Tracking:
    """Weights & Biases: `entity` is the user or team (None: your default)."""

    mode: Mode = Mode.offline
    project: str = "memorization"
    entity: str | None = None


@dataclass
class TrainConfig:
    """seed: of the draw of images, the initial weights and the degradations. store: the folder of all runs.

    study: the name under which W&B and the report group runs. progress: show progress bars. checkpoint_seconds: a
    training writes what it goes on from, if it is killed, at least so far apart. plan: only say what would be done.
    """

    seed: int = 0
    store: str = "runs"
    study: str = "default"
    progress: bool = True
    checkpoint_seconds: float = 30.0
    plan: bool = False
    dataset: Any = MISSING
    architecture: Any = MISSING
    training: Any = MISSING
    tracking: Tracking = field(default_factory=Tracking)
    trainer: Hardware = field(default_factory=Hardware)


@dataclass
class RecoverConfig(TrainConfig):
    """rungs: the train losses to recover at: `all` that the training reached, `last`, or a list of them.

    threshold_db: erased-pixel PSNR from which an image counts as recovered. gallery: images kept for the report, of
    members and of non-members each. controls: also run the controls. control: be one of them instead. probes: how many
    members to make near-member probes of. attractors: also find the fixed point near each image. references: how many
    reference autoencoders to train for a membership inference. objective: what an optimising sweeper is told. sample:
    how many members, and non-members, drawn by the seed, are recovered; 0 is all.
    """

    rungs: Any = "all"
    sample: int = 0
    controls: bool = False
    control: Control = Control.none
    probes: int = 0
    attractors: bool = False
    references: int = 0
    threshold_db: float = 25.0
    gallery: int = 6
    objective: Objective = Objective.recovered
    degradation: Any = MISSING
    recovery: Any = MISSING
    operator: Any = MISSING


@cache
def searching() -> type:
    """The node of the settings of `extraction.Search`: the iteration, the batch, and when the search ends."""
    known = {own[0]: own for own in choices()[SEARCH][SEARCH].fields}
    shown = ("queries", "unseen", "batch_size", "max_iterations", "tolerance", "extrapolation", "same")
    return dataclass_of("Searching", [known[key] for key in shown])


@dataclass
class ExtractConfig(TrainConfig):
    """rungs, threshold_db, controls, control: as of `RecoverConfig`. spectra: each end's spectral radius as well."""

    rungs: Any = "last"
    controls: bool = False
    control: Control = Control.none
    threshold_db: float = 25.0
    spectra: bool = True
    prior: Any = MISSING
    search: Any = field(default_factory=lambda: searching()())


def record_of(config: DictConfig, resolve: bool = True) -> Record:
    """A composed configuration as plain values."""
    plain = OmegaConf.to_container(config, resolve=resolve, throw_on_missing=resolve, enum_to_str=True)
    return cast(Record, plain)


@cache
def schema_of(group: str, name: str) -> type:
    """The dataclass that checks the configuration of choice `name` of `group`."""
    choice, extra = choices()[group][name], EXTRA.get(group, [])
    own = [item for item in choice.fields if item[0] not in [key for key, *_ in extra]]
    return dataclass_of(choice.component, [("name", str, name), *own, *extra])


@cache
def offered_files() -> list[Path]:
    """The folders of configuration of other packages, which they offer as entry points of `memorization.conf`."""
    found: list[Path] = []
    for point in entry_points(group="memorization.conf"):
        try:
            folder = find_spec(point.value)
            if not folder or folder.submodule_search_locations is None:
                raise ModuleNotFoundError(f"No module named {point.value!r} that is a folder")
            found += map(Path, folder.submodule_search_locations)  # one without an __init__.py, too
        except Exception as error:  # of another package's code
            leave_out("conf", point.name, f"cannot be imported ({type(error).__name__}: {error})")
    return found


class OtherPackages(SearchPathPlugin):
    """Adds the files of other packages to those that Hydra finds."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in offered_files():
            search_path.append("memorization.conf", f"file://{folder}")


@cache
def register() -> None:
    """Make all schemas known to Hydra, and what other packages offer: choices, with or without files of their own."""
    Plugins.instance().register(OtherPackages)
    store = ConfigStore.instance()
    for group in GROUPS:
        for name, choice in choices()[group].items():
            store.store(group=f"schema/{group}", name=name, node=schema_of(group, name))
            if choice.offered and not any((folder / group / f"{name}.yaml").is_file() for folder in offered_files()):
                store.store(group=group, name=name, node=schema_of(group, name))
    store.store(group="schema/tracking", name="wandb", node=Tracking)
    store.store(group="schema", name="train", node=TrainConfig)
    store.store(group="schema", name="recover", node=RecoverConfig)
    store.store(group="schema", name="extract", node=ExtractConfig)
