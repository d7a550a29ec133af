"""What to call the runs of a store, so that no two different ones share a name.

A run is called by its choices (`faces / fc`, `random_pixels 80 %, zero fill`, `energy known`). A setting is added, as
it is written on the command line, where runs of the same choice differ in it. What differs in no setting (the images in
a folder, the content of a file of weights) is told apart by a signature, and what other code made by its revisions.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memorization.config.groups import flat
from memorization.store.versions import Revisions, only, words

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
    configs: dict[str, Settings],
    facts: dict[str, Settings],
    autoencoders: dict[str, str],
    revisions: dict[str, Revisions],
) -> dict[str, Labels]:
    """The labels of each run, by signature.

    `configs` are the runs' configurations, `facts` any row of their results (for `fraction`, `fill`, `noise`, and
    `operator`, which is `none` for a method that asks for none), `autoencoders` the signatures of their autoencoders,
    `revisions` those of the code that made them, see `store.versions`.
    """
    names = dict(zip(configs, _autoencoders(list(configs.values())), strict=True))
    trained = {run: only(own, _trained(configs[run])) for run, own in revisions.items()}
    told = _told_apart(names, autoencoders, trained, "autoencoder", autoencoders)
    names = {run: _joined(name, told.get(run)) for run, name in names.items()}
    labels = {}
    for autoencoder in dict.fromkeys(names.values()):  # settings are compared on the same autoencoder only
        runs = [run for run in configs if names[run] == autoencoder]
        part = [(configs[run], facts[run]) for run in runs]
        degraded = {run: only(revisions[run], _degrading(configs[run])) for run in runs}
        for run, degradation, method in zip(runs, _degradations(part, degraded), _methods(part), strict=True):
            labels[run] = Labels(autoencoder, degradation, *method)
    identities = {run: (_settings(configs[run], facts[run]), *sorted(revisions[run].items())) for run in labels}
    told = _told_apart(labels, identities, revisions, "run", {run: run for run in labels})
    return {
        run: replace(own, method=_joined(own.method, told.get(run)), variant=_joined(own.variant, told.get(run)))
        for run, own in labels.items()
    }


def _told_apart(
    names: Mapping[str, Hashable],
    identities: Mapping[str, Hashable],
    revisions: Mapping[str, Revisions],
    kind: str,
    signatures: Mapping[str, str],
) -> dict[str, str]:
    """A text for each run whose name is also that of a run with another identity.

    The revisions tell them apart or, where these do not, the signature of the identity's first run, of this `kind`: of
    runs on other images, or whose settings differ by less than their labels show (0.8 and 0.80001 are both `80 %`).
    """
    groups: defaultdict[Hashable, defaultdict[Hashable, list[str]]] = defaultdict(lambda: defaultdict(list))
    for run, name in names.items():
        groups[name][identities[run]].append(run)
    texts: dict[str, str] = {}
    for runs in (list(group.values()) for group in groups.values() if len(group) > 1):
        told = words([revisions[first] for first, *_ in runs])
        if len(set(told)) < len(told):
            told = [
                _joined(text, f"{kind} {signatures[same[0]][:SHORT]}") for text, same in zip(told, runs, strict=True)
            ]
        texts |= {run: text for text, same in zip(told, runs, strict=True) for run in same}
    return texts


def _joined(*texts: str | None) -> str:
    return ", ".join(filter(None, texts))


def _trained(config: Settings) -> set[str]:
    """The parts of the code that make an autoencoder."""
    return {"data", "training", *(config[group]["name"] for group in ("dataset", "architecture", "training"))}


def _degrading(config: Settings) -> set[str]:
    """The parts of the code that degrade images."""
    return {config["degradation"]["name"], *flat(config["degradation"])["name"].split(" + ")}


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
        name = f"{config['dataset']['name']} / {config['architecture']['name']}"
        names.append(_joined(name, *(word for part in parts for word in _words(part))))
    return names


def _degradations(runs: list[tuple[Settings, Settings]], revisions: dict[str, Revisions]) -> list[str]:
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
        names.append(_joined(name, *fill, *noise, *_words(more, "fraction", "fill", "noise")))
    known = {run: name for run, name in zip(revisions, names, strict=True) if revisions[run]}
    told = _told_apart(known, {run: tuple(revisions[run].items()) for run in known}, revisions, "", {})
    return [_joined(name, told.get(run)) for run, name in zip(revisions, names, strict=True)]


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
