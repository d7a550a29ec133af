"""What to call the runs of a store, so that no two different ones share a name.

A run is called by its choices (`faces / fc`, `random_pixels 80 %, zero fill`, `energy known`). A setting is added, as
it is written on the command line, where runs of the same choice differ in it. What differs in no setting (the images in
a folder, the content of a file of weights) is told apart by a signature.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from memorization.config.groups import flat

Settings = dict[str, Any]

SHORT = 8  # characters of a signature that a label shows


@dataclass(frozen=True)
class Labels:
    """Names of a run's three parts; runs that agree in all three and in a rung are repetitions of each other."""

    autoencoder: str
    degradation: str
    method: str
    variant: str  # the method's name without the method: its operator and settings


def percent(fraction: float) -> str:
    """`58 %`; with a decimal where 0 or 100 would be said of a fraction that is neither; `–` for NaN."""
    if math.isnan(fraction):
        return "–"
    text = f"{100 * fraction:.0f}"
    whole = fraction in (-1, 0, 1) or text.lstrip("-") not in ("0", "100")
    return f"{text} %" if whole else f"{100 * fraction:.1f} %"


def without(degradation: str, fraction: float, noise: float) -> dict[str, str]:
    """A degradation's label without its erased `fraction`, and without its `noise`: what a line against each shares."""
    return {
        "fraction": degradation.replace(f" {100 * fraction:.3g} %", "", 1),
        "noise": degradation.replace(f", noise {noise:g}", "", 1).replace(f"noise {noise:g}", "noise", 1),
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


def label_runs(
    configs: dict[str, Settings], facts: dict[str, Settings], autoencoders: dict[str, str]
) -> dict[str, Labels]:
    """The labels of each run, by signature.

    `configs` are the runs' configurations, `facts` any row of their results (for `fraction`, `fill`, `noise`, and
    `operator`, which is `none` for a method that asks for none), `autoencoders` the signatures of their autoencoders.
    """
    names = _told_apart(dict(zip(configs, _autoencoders(list(configs.values())), strict=True)), autoencoders)
    labels = {}
    for autoencoder in dict.fromkeys(names.values()):  # settings are compared on the same autoencoder only
        signatures = [signature for signature in configs if names[signature] == autoencoder]
        part = [(configs[signature], facts[signature]) for signature in signatures]
        for signature, degradation, method in zip(signatures, _degradations(part), _methods(part), strict=True):
            labels[signature] = Labels(autoencoder, degradation, *method)
    alike: defaultdict[Labels, dict[str, str]] = defaultdict(dict)  # the first run with each settings
    settings = {signature: _settings(configs[signature], facts[signature]) for signature in labels}
    for signature, own in labels.items():
        alike[own].setdefault(settings[signature], signature)
    return {
        signature: own if len(alike[own]) == 1 else _with_signature(own, alike[own][settings[signature]])
        for signature, own in labels.items()
    }


def _with_signature(labels: Labels, signature: str) -> Labels:
    """For runs whose settings differ by less than their labels show: 0.8 and 0.80001 are both `80 %`."""
    word = f"run {signature[:SHORT]}"
    variant = ", ".join(filter(None, [labels.variant, word]))
    return replace(labels, method=f"{labels.method}, {word}", variant=variant)


def _told_apart(names: dict[str, str], autoencoders: dict[str, str]) -> dict[str, str]:
    """`names` by run, with the autoencoder's signature where several autoencoders share one."""
    sharing: defaultdict[str, set[str]] = defaultdict(set)
    for run, name in names.items():
        sharing[name].add(autoencoders[run])
    return {
        run: name if len(sharing[name]) == 1 else f"{name}, autoencoder {autoencoders[run][:SHORT]}"
        for run, name in names.items()
    }


def _settings(config: Settings, facts: Settings) -> str:
    """What the numbers of a run depend on beside its autoencoder; the same for repetitions of it."""
    keys = ("degradation", "recovery", "threshold_db", *(["operator"] if facts["operator"] != "none" else []))
    return json.dumps([config[key] for key in keys], sort_keys=True)


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
        if noise and not fill and name.endswith("noise"):  # the degradation of that name, or a chain that ends with it
            name, noise = name.removesuffix("noise") + noise[0], []
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
