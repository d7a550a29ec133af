"""What to call the runs of a store, so that no two different ones share a name.

A run is called by its choices (`faces / fc`, `random_pixels 80 %, zero fill`, `energy known`). A setting is added, as
it is written on the command line, where runs of the same choice differ in it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memorization.schema import flat

Settings = dict[str, Any]


@dataclass(frozen=True)
class Labels:
    """Names of a run's three parts; runs that agree in all three and in a rung are repetitions of each other."""

    autoencoder: str
    degradation: str
    method: str
    variant: str  # the method's name without the method: its operator and settings


def percent(fraction: float) -> str:
    """`58 %`; with a decimal where 0 or 100 would be said of a fraction that is neither."""
    text = f"{100 * fraction:.0f}"
    whole = fraction in (-1, 0, 1) or text.lstrip("-") not in ("0", "100")
    return f"{text} %" if whole else f"{100 * fraction:.1f} %"


def without(degradation: str, fraction: float, noise: float) -> dict[str, str]:
    """A degradation's label without its erased `fraction`, and without its `noise`: what a line against each shares."""
    return {
        "fraction": degradation.replace(f" {100 * fraction:.3g} %", "", 1),
        "noise": degradation.replace(f", noise {noise:g}", "", 1),
    }


def value_text(value: object) -> str:
    """A setting's value in Hydra's syntax: `null`, `true`, `1e-08`, `[0.9,0.95]`, `word`, `'two words'`."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{value_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(value_text(item) for item in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, str):
        return repr(value)
    plain = bool(value) and all(char.isalnum() or char in "_-./" for char in value)
    return value if plain else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def differing(settings: Sequence[Settings]) -> list[Settings]:
    """Of each of `settings`, those keys whose values differ among all that have the same `name`."""
    values: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for each in settings:
        for key, value in each.items():
            values[each["name"], key].add(repr(value))
    return [{key: value for key, value in each.items() if len(values[each["name"], key]) > 1} for each in settings]


def label_runs(configs: dict[str, Settings], facts: dict[str, Settings]) -> dict[str, Labels]:
    """The labels of each run, by signature.

    `configs` are the runs' configurations, `facts` any row of their results (for `fraction`, `fill`, `noise`, and
    `operator`, which is `none` for a method that asks for none).
    """
    autoencoders = dict(zip(configs, _autoencoders(list(configs.values())), strict=True))
    labels = {}
    for autoencoder in dict.fromkeys(autoencoders.values()):  # settings are compared on the same autoencoder only
        signatures = [signature for signature in configs if autoencoders[signature] == autoencoder]
        part = [(configs[signature], facts[signature]) for signature in signatures]
        for signature, degradation, method in zip(signatures, _degradations(part), _methods(part), strict=True):
            labels[signature] = Labels(autoencoder, degradation, *method)
    return labels


def _words(settings: Settings, *leave_out: str) -> list[str]:
    return [f"{key}={value_text(value)}" for key, value in settings.items() if key not in leave_out]


def _autoencoders(configs: list[Settings]) -> list[str]:
    groups = [differing([config[group] for config in configs]) for group in ("dataset", "architecture", "training")]
    general = differing(
        [
            {
                "name": config["dataset"]["name"],
                "seed": config["seed"],
                "precision": config["trainer"]["precision"],
                "threshold_db": config["threshold_db"],
            }
            for config in configs
        ]
    )
    names = []
    for config, parts in zip(configs, zip(*groups, general, strict=True), strict=True):
        words = [word for part in parts for word in _words(part)]
        names.append(", ".join([f"{config['dataset']['name']} / {config['architecture']['name']}", *words]))
    return names


def _degradations(runs: list[tuple[Settings, Settings]]) -> list[str]:
    names = []
    settings = [flat(config["degradation"]) for config, _ in runs]
    for own, (_, facts), more in zip(settings, runs, differing(settings), strict=True):
        name = own["name"]
        if not math.isnan(facts["fraction"]):
            name += f" {100 * facts['fraction']:.3g} %"
        fill = [] if facts["fill"] == "none" else [f"{facts['fill']} fill"]
        noise = [f"noise {facts['noise']:g}"] if facts["noise"] else []
        names.append(", ".join([name, *fill, *noise, *_words(more, "fraction", "fill", "noise")]))
    return names


def _methods(runs: list[tuple[Settings, Settings]]) -> list[tuple[str, str]]:
    """(method, variant) of each run; see `Labels`."""
    methods = differing([config["recovery"] for config, _ in runs])
    operators = differing([config["operator"] for config, _ in runs])
    names = []
    for (config, facts), method, operator in zip(runs, methods, operators, strict=True):
        used = facts["operator"] != "none"
        parts = [facts["operator"], *_words(method), *_words(operator)] if used else _words(method)
        variant = ", ".join(parts)
        names.append((f"{config['recovery']['name']} {variant}".strip(), variant))
    return names
