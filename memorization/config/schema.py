"""The schema of every config group, registered with Hydra, and the objects that a checked configuration stands for.

A group's choice is one component (a dataclass or a module): its fields, with their types and defaults, are the keys of
the config, so nothing is said twice. `conf/<group>/<choice>.yaml` stands on `schema/<group>/<choice>` in its defaults
list, which is what turns a typo inside it into an error.

A component may hold others of its group (the two parts of a chain of degradations): they are its fields without a
default. The config file fills them from its defaults list, and a user with `<group>@<key>=<choice>`.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from memorization.components import SettingError, within
from memorization.config.groups import EXTRA, GROUPS, choice_of, component_fields, parts_of


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

    study: the name under which W&B and the report group runs. progress: show progress bars. checkpoint_seconds: a
    training writes what it goes on from, if it is killed, at least so far apart.
    """

    seed: int = 0
    store: str = "runs"
    study: str = "default"
    progress: bool = True
    checkpoint_seconds: float = 30.0
    dataset: Any = MISSING
    architecture: Any = MISSING
    training: Any = MISSING
    tracking: Tracking = field(default_factory=Tracking)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


@dataclass
class RecoverConfig(TrainConfig):
    """rungs: the train losses to recover at: `all` that the training reached, `last`, or a list of them.

    threshold_db: erased-pixel PSNR from which an image counts as recovered. gallery: images kept for the report, of
    members and of non-members each. controls: also run the controls of `memorization.controls`. control: be one of
    them instead. probes: how many members to make near-member probes of, see `memorization.probes`. objective: what an
    optimising sweeper is told: the share of members recovered at the last rung (`recovered`), or that times -1
    (`minus_recovered`).
    """

    rungs: Any = "all"
    controls: bool = False
    control: str = "none"
    probes: int = 0
    threshold_db: float = 25.0
    gallery: int = 6
    objective: str = "recovered"
    degradation: Any = MISSING
    recovery: Any = MISSING
    operator: Any = MISSING


@cache
def schema_of(group: str, name: str) -> type:
    """The dataclass that checks the config of choice `name` of `group`."""
    component = GROUPS[group][name]
    items: list[tuple[str, Any, Any]] = [("name", str, name)]
    for key, kind, default in component_fields(component) + EXTRA.get(group, []):
        if type(default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
            default = getattr(component(), key)
        items.append((key, kind, field(default_factory=default.copy) if isinstance(default, list) else default))
    return make_dataclass(component.__name__, items)


def build(group: str, config: dict[str, Any], path: str = "") -> Any:
    """The component that a resolved config of `group` stands for, without the keys of `EXTRA`.

    `path` is where the config stands, `<group>` or `<group>.<part>`; errors of a component name its keys by it.
    """
    path, component = path or group, GROUPS[group][config["name"]]
    extra = {key for key, _, _ in EXTRA.get(group, [])}
    settings = {key: value for key, value in config.items() if key != "name" and key not in extra}
    for part in parts_of(component):
        settings[part] = build(group, settings[part], f"{path}.{part}")
    try:
        with contextlib.ExitStack() as stack:
            for name in path.split("."):
                stack.enter_context(within(name))
            return component(**settings)
    except SettingError:
        raise
    except ValueError as error:
        if path == group:
            raise
        raise ValueError(str(error).replace(f"{group}.", f"{path}.")) from error


def defaults(group: str, name: str) -> dict[str, Any]:
    """The resolved config of choice `name` of `group` with nothing set."""
    config: Any = OmegaConf.to_container(OmegaConf.structured(schema_of(group, name)), enum_to_str=True)
    return dict(config)


def check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Raise `ValueError` for a word that is not among the `choices` of `key`."""
    if value not in choices:
        raise ValueError(f"{key} is {value!r}; choose one of {', '.join(choices)}")


def keys_of(node: type, prefix: str = "") -> list[str]:
    """The keys that a config of schema `node` has, as they are written on the command line."""
    return [prefix + f.name for f in fields(node)]


def known_keys() -> list[str]:
    """Every key that some configuration has."""
    keys = keys_of(RecoverConfig) + keys_of(Tracking, "tracking.") + keys_of(TrainerConfig, "trainer.")
    for group, choices in GROUPS.items():
        parts = {part for component in choices.values() for part in parts_of(component)}
        for path in (group, *(f"{group}.{part}" for part in sorted(parts))):
            for name in choices:
                keys += keys_of(schema_of(group, name), f"{path}.")
    return list(dict.fromkeys([*keys, "experiment", "cluster"]))


def closest(name: str, names: list[str]) -> str | None:
    """The one of `names` that `name` was probably meant to be, if any."""
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.5)), None)


def unknown_key(key: str, owner: str | None = None) -> str:
    """The message for a key that does not exist; `owner` is the component that lacks it."""
    path, _, last = key.rpartition(".")
    group = path.split(".")[0]
    for name, component in GROUPS.get(group, {}).items():
        if component.__name__ == owner:
            own = keys_of(schema_of(group, name))
            close = closest(last, own)
            hint = f"did you mean {path}.{close}?" if close else f"it has {', '.join(own[1:])}"
            return f"{key}: there is no such key for {choice_of(path)}={name}; {hint}"
    known = known_keys()
    if key in known and key.split(".")[0] not in keys_of(TrainConfig):
        return f"{key}: only memorization-recover has this key; leave it out, or call memorization-recover"
    close = next((k for k in known if k.endswith(f".{key}")), None) or closest(key, known)
    return f"{key}: there is no such key" + (f"; did you mean {close}?" if close else "")


def components(path: str, config: Any) -> dict[str, tuple[type, dict[str, Any]]]:
    """The schema and the settings of the component at `path` and of all its parts, by their paths."""
    group = path.split(".")[0]
    if not isinstance(config, dict) or config.get("name") not in GROUPS[group]:
        raise ValueError(f"{path} is {config!r}; choose with {choice_of(path)}=CHOICE")
    found = {path: (schema_of(group, config["name"]), config)}
    for part in parts_of(GROUPS[group][config["name"]]):
        found |= components(f"{path}.{part}", config[part])
    return found


def check(config: dict[str, Any]) -> None:
    """Raise `ValueError` for a key that was added with `+KEY=VALUE`, which Hydra lets pass."""
    nodes = {"tracking": (Tracking, config["tracking"]), "trainer": (TrainerConfig, config["trainer"])}
    for group in GROUPS:
        if group in config:
            nodes |= components(group, config[group])
    for path, (node, settings) in nodes.items():
        for key in settings:
            if key not in keys_of(node):
                raise ValueError(unknown_key(f"{path}.{key}", node.__name__))
    for key in config:
        if key not in keys_of(RecoverConfig if "recovery" in config else TrainConfig):
            raise ValueError(unknown_key(key))


def register() -> None:
    """Make all schemas known to Hydra."""
    store = ConfigStore.instance()
    for group, choices in GROUPS.items():
        for name in choices:
            store.store(group=f"schema/{group}", name=name, node=schema_of(group, name))
    store.store(group="schema/tracking", name="wandb", node=Tracking)
    store.store(group="schema", name="train", node=TrainConfig)
    store.store(group="schema", name="recover", node=RecoverConfig)
