"""The schema of every config group, registered with Hydra, and the objects that a checked configuration stands for.

A group's choice is one component (a dataclass or a module): its fields, with their types and defaults, are the keys of
the config, so nothing is said twice. `conf/<group>/<choice>.yaml` stands on `schema/<group>/<choice>` in its defaults
list, which is what turns a typo inside it into an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from memorization.architectures import ARCHITECTURES
from memorization.data import DATASETS
from memorization.degradations import DEGRADATIONS
from memorization.recovery import METHODS, OPERATORS
from memorization.training import Training

GROUPS: dict[str, dict[str, Any]] = {
    "dataset": DATASETS,
    "architecture": ARCHITECTURES,
    "training": {"adam": Training},
    "degradation": DEGRADATIONS,
    "recovery": METHODS,
    "operator": OPERATORS,
}
# Keys that a group has beside those of its component: they say how the component is used.
EXTRA: dict[str, list[tuple[str, type, Any]]] = {
    "architecture": [("centre", bool, True)],  # subtract the members' mean image inside f
    "recovery": [("batch_size", int, 100)],  # images solved together
}


@dataclass
class Tracking:
    """Weights & Biases: `mode` is offline, online or none; `entity` the W&B user or team (null: your default)."""

    mode: str = "offline"
    project: str = "memorization"
    entity: str | None = None


@dataclass
class TrainerConfig:
    """What Lightning's Trainer is told about the hardware."""

    accelerator: str = "auto"
    devices: int = 1
    precision: str = "32-true"


@dataclass
class TrainConfig:
    """seed: of the draw of images, the initial weights and the degradations. store: the folder of all runs.

    study: the name under which W&B and the report group runs. progress: show progress bars.
    """

    seed: int = 0
    store: str = "runs"
    study: str = "default"
    progress: bool = True
    dataset: Any = MISSING
    architecture: Any = MISSING
    training: Any = MISSING
    tracking: Tracking = field(default_factory=Tracking)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


@dataclass
class RecoverConfig(TrainConfig):
    """rungs: the train losses to recover at: `all` that the training reached, `last`, or a list of them.

    threshold_db: erased-pixel PSNR from which an image counts as recovered. gallery: images kept for the report, of
    members and of non-members each.
    """

    rungs: Any = "all"
    threshold_db: float = 25.0
    gallery: int = 6
    degradation: Any = MISSING
    recovery: Any = MISSING
    operator: Any = MISSING


def component_fields(component: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """(name, type, default) of the keyword arguments that a config may set; the image shape comes from the data."""
    hints = get_type_hints(component.__init__ if inspect.isclass(component) else component)
    parameters = inspect.signature(component).parameters.values()
    return [(p.name, hints[p.name], p.default) for p in parameters if p.name != "shape"]


def schema_of(group: str, name: str) -> type:
    """The dataclass that checks the config of choice `name` of `group`."""
    component = GROUPS[group][name]
    fields: list[tuple[str, Any, Any]] = [("name", str, name)]
    for key, kind, default in component_fields(component) + EXTRA.get(group, []):
        if type(default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
            default = getattr(component(), key)
        fields.append((key, kind, field(default_factory=default.copy) if isinstance(default, list) else default))
    return make_dataclass(component.__name__, fields)


def build(group: str, config: dict[str, Any]) -> Any:
    """The component that a resolved config of `group` stands for, without the keys of `EXTRA`."""
    extra = {key for key, _, _ in EXTRA.get(group, [])}
    settings = {key: value for key, value in config.items() if key != "name" and key not in extra}
    return GROUPS[group][config["name"]](**settings)


def register() -> None:
    """Make all schemas known to Hydra."""
    store = ConfigStore.instance()
    for group, choices in GROUPS.items():
        for name in choices:
            store.store(group=f"schema/{group}", name=name, node=schema_of(group, name))
    store.store(group="schema/tracking", name="wandb", node=Tracking)
    store.store(group="schema", name="train", node=TrainConfig)
    store.store(group="schema", name="recover", node=RecoverConfig)
