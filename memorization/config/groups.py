"""The config groups: their choices, and the keys that each choice has. Nothing here needs Hydra."""

import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from enum import EnumType
from functools import cache
from inspect import Parameter
from typing import Any, get_type_hints

from omegaconf import MISSING

from memorization.engine.settings import Training

TRAININGS = {"adam": Training}
REGISTRIES = {
    "dataset": "memorization.data:DATASETS",
    "architecture": "memorization.architectures:ARCHITECTURES",
    "training": f"{__name__}:TRAININGS",
    "degradation": "memorization.degradations:DEGRADATIONS",
    "recovery": "memorization.recovery:METHODS",
    "operator": "memorization.recovery:OPERATORS",
    "prior": "memorization.extraction:PRIORS",
}


class Groups(Mapping[str, Mapping[str, Any]]):
    """The components of each group by their choices, which are imported, and torch with them, when they are asked for.

    `config.choices` tells of them without.
    """

    def __getitem__(self, group: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = pkgutil.resolve_name(REGISTRIES[group])
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(REGISTRIES)

    def __len__(self) -> int:
        return len(REGISTRIES)


GROUPS = Groups()
# Keys that a group has beside those of its component: they say how the component is used.
EXTRA: dict[str, list[tuple[str, Any, Any]]] = {
    # subtract the members' mean image inside f; linear or sigmoid
    "architecture": [("centre", bool, True), ("output", str, "linear")],
    # images solved together; starting points an image, of which the lowest energy wins (0: as many as it takes);
    # starts from extracted images (null: as many as it takes); depth of the Anderson extrapolation, 0 for none
    "recovery": [
        ("batch_size", int, 100),
        ("starts", int, 0),
        ("recall", int | None, None),
        ("extrapolation", int, 0),
    ],
}


@cache  # a component does not change, and each job asks many times
def component_fields(component: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """(name, type, default) of the keyword arguments that a config may set.

    A `shape` without a default is that of the images, and comes from the data.
    """
    whole = inspect.isclass(component) and not is_dataclass(component)  # the hints of a dataclass are its fields'
    hints = get_type_hints(component.__init__ if whole else component)
    return [
        (p.name, Any, MISSING) if p.default is Parameter.empty else (p.name, hints[p.name], p.default)
        for p in inspect.signature(component).parameters.values()
        if (p.name, p.default) != ("shape", Parameter.empty)
    ]


def parts_of(component: Callable[..., Any]) -> list[str]:
    """The keys of `component` that hold other components of its group."""
    return [name for name, _, default in component_fields(component) if default == MISSING]


def typed(component: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `component` among `settings`, in which words become members of its enumerations."""
    fields = [(key, kind) for key, kind, _ in component_fields(component) if key in settings]
    return {key: kind(str(settings[key])) if isinstance(kind, EnumType) else settings[key] for key, kind in fields}


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a component and its parts at one level: `name` (`blur + box`), `first.width`, `second.fill`."""
    parts = {key: flat(value) for key, value in settings.items() if isinstance(value, dict)}
    own = {key: value for key, value in settings.items() if key not in parts}
    if parts:
        own["name"] = " + ".join(part.pop("name") for part in parts.values())
    return own | {f"{key}.{inner}": value for key, part in parts.items() for inner, value in part.items()}


def choice_of(path: str) -> str:
    """How the component at `path` is chosen on the command line: `<group>`, or `<group>@<path>` for a part."""
    group = path.split(".")[0]
    return path if path == group else f"{group}@{path}"
