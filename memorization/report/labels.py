"""What to call the runs of a store, so that no two different ones share a name.

A run is called by its choices (`faces / fc`, `random_pixels 80 %, zero fill`, `energy known`). A setting is added, as
it is written on the command line, where runs of the same choice differ in it. Runs that differ in no setting are told
apart by a signature (other images in the same folder, another content of a file of weights), or by the revisions of the
code that made them.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memorization.config.groups import flat
from memorization.store.reading import Run
from memorization.store.versions import Revisions, only, revisions_of, words

Settings = dict[str, Any]
TRAINED = ("dataset", "architecture", "training")  # the groups that make an autoencoder
SHORT = 8  # characters of a signature that a label shows


@dataclass(frozen=True)
class Labels:
    """Names of a run's three parts; runs that agree in all three and in a rung are repetitions of each other."""

    autoencoder: str
    degradation: str
    method: str
    variant: str  # the method's name without the method: its operator and settings

    @property
    def seedless(self) -> str:
        """What the autoencoder is called, but for its seed."""
        return re.sub(r",? seed=[0-9]+", "", self.autoencoder)


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
    if not isinstance(value, str):
        return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    plain = bool(value) and all(char.isalnum() or char in "_-./" for char in value)
    return value if plain else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def differing(settings: Sequence[Settings]) -> list[Settings]:
    """Of each of `settings`, those keys whose values differ among all that have the same `name`."""
    values: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for each in settings:
        for key, value in each.items():
            values[each["name"], key].add(repr(value))
    return [{key: value for key, value in each.items() if len(values[each["name"], key]) > 1} for each in settings]


def label_runs(runs: dict[str, Run], facts: dict[str, Settings]) -> dict[str, Labels]:
    """The labels of each run, by signature.

    facts: any row of each run's results, for `fraction`, `fill`, `noise`, and `operator`, which is `none` for a method
    that asks for none.
    """
    autoencoders = {name: str(run.done.get("autoencoder", "")) for name, run in runs.items()}
    revisions = {name: revisions_of(run.done) for name, run in runs.items()}
    names = dict(zip(runs, _autoencoders([run.config for run in runs.values()]), strict=True))
    trained = {name: {"data", "training", *(run.config[key]["name"] for key in TRAINED)} for name, run in runs.items()}
    made = {name: only(revisions[name], trained[name]) for name in runs}
    told = _told_apart(names, autoencoders, made, lambda name: f"autoencoder {autoencoders[name][:SHORT]}")
    parts: defaultdict[str, dict[str, Run]] = defaultdict(dict)  # settings are compared on the same autoencoder only
    for name, text in names.items():
        parts[_joined(text, told.get(name))][name] = runs[name]
    labels = {}
    for autoencoder, part in parts.items():
        for name, degradation, method in zip(part, _degradations(part, facts), _methods(part, facts), strict=True):
            labels[name] = Labels(autoencoder, degradation, *method)
    identities = {name: (_settings(run, facts[name]), *sorted(revisions[name].items())) for name, run in runs.items()}
    told = _told_apart(labels, identities, revisions, lambda name: f"run {name[:SHORT]}")
    return {
        name: replace(own, method=_joined(own.method, told.get(name)), variant=_joined(own.variant, told.get(name)))
        for name, own in labels.items()
    }


def label_extractions(runs: dict[str, Run]) -> dict[str, tuple[str, str]]:
    """(autoencoder, search) of each extraction, by signature; a control is called as what it belongs to.

    Two that agree in both, in the control and in the rung differ in nothing but what made them, and a signature tells
    them apart.
    """
    autoencoders = {name: str(run.done["autoencoder"]) for name, run in runs.items()}
    audited = [name for name, run in runs.items() if run.config["control"] == "none"]
    names = dict(zip(runs, _autoencoders([run.config for run in runs.values()]), strict=True))
    revisions = {name: revisions_of(run.done) for name, run in runs.items()}
    trained = {name: {"data", "training", *(run.config[key]["name"] for key in TRAINED)} for name, run in runs.items()}
    made = {name: only(revisions[name], trained[name]) for name in runs}
    own = {name: names[name] for name in audited}
    told = _told_apart(own, autoencoders, made, lambda name: f"autoencoder {autoencoders[name][:SHORT]}")
    priors = [flat(run.config["prior"]) for run in runs.values()]
    searches = [
        {"name": prior["name"], **{f"search.{key}": value for key, value in run.config["search"].items()}}
        | {"spectra": run.config["spectra"]}
        for run, prior in zip(runs.values(), priors, strict=True)
    ]
    labels = {}
    for name, prior, more, search in zip(runs, priors, differing(priors), differing(searches), strict=True):
        words = [word.removeprefix("search.") for word in [*_words(more), *_words(search)]]
        labels[name] = _joined(names[name], told.get(name)), _joined(prior["name"], *words)
    places = {name: (*labels[name], run.config["control"], str(run.done["rung"])) for name, run in runs.items()}
    told = _told_apart(places, {name: name for name in runs}, revisions, lambda name: f"run {name[:SHORT]}")
    return {name: (autoencoder, _joined(search, told.get(name))) for name, (autoencoder, search) in labels.items()}


def _told_apart(
    names: Mapping[str, Hashable],
    identities: Mapping[str, Hashable],
    revisions: Mapping[str, Revisions],
    signed: Callable[[str], str] = str,
) -> dict[str, str]:
    """A text for each run that shares its name with a run of another identity.

    The revisions tell them apart. Where they agree, too, the first run of an identity is `signed`: trained on other
    images in the same folder, or with settings that differ by less than the labels show (0.8 and 0.80001 are `80 %`).
    """
    groups: defaultdict[Hashable, defaultdict[Hashable, list[str]]] = defaultdict(lambda: defaultdict(list))
    for run, name in names.items():
        groups[name][identities[run]].append(run)
    texts: dict[str, str] = {}
    for runs in (list(group.values()) for group in groups.values() if len(group) > 1):
        told = words([revisions[first] for first, *_ in runs])
        if len(set(told)) < len(told):
            told = [_joined(text, signed(same[0])) for text, same in zip(told, runs, strict=True)]
        texts |= {run: text for text, same in zip(told, runs, strict=True) for run in same}
    return texts


def _joined(*texts: str | None) -> str:
    return ", ".join(filter(None, texts))


def _settings(run: Run, facts: Settings) -> str:
    """What the numbers of a run depend on beside its autoencoder; the same for repetitions of it."""
    keys = ("degradation", "recovery", "threshold_db", *(["operator"] if facts["operator"] != "none" else []))
    return json.dumps([run.config[key] for key in keys], sort_keys=True)


def _words(settings: Settings, *leave_out: str) -> list[str]:
    return [f"{key}={value_text(value)}" for key, value in settings.items() if key not in leave_out]


def _autoencoders(configs: list[Settings]) -> list[str]:
    settings = [[config[group] for group in TRAINED] for config in configs]
    for own, config in zip(settings, configs, strict=True):
        facts = {"name": config["dataset"]["name"], "seed": config["seed"]}
        own.append(facts | {"precision": config["trainer"]["precision"], "threshold_db": config["threshold_db"]})
    texts = []
    for config, *parts in zip(configs, *map(differing, zip(*settings, strict=True)), strict=True):
        groups = [config[group]["name"] for group in ("dataset", "architecture")]
        name = " / ".join(group for group in groups if group != "none")  # `dataset=none` has no images
        texts.append(_joined(name, *(word for part in parts for word in _words(part))))
    return texts


def _degradations(runs: dict[str, Run], rows: dict[str, Settings]) -> list[str]:
    names, made = {}, {}
    settings = [flat(run.config["degradation"]) for run in runs.values()]
    for key, own, more in zip(runs, settings, differing(settings), strict=True):
        name, facts = own["name"], rows[key]
        if not math.isnan(facts["fraction"]):
            name += f" {100 * facts['fraction']:.3g} %"
        fill = "" if facts["fill"] == "none" else f"{facts['fill']} fill"
        noise = f"noise {facts['noise']:g}" if facts["noise"] else ""
        if noise and not fill and name.endswith("noise"):  # the degradation of that name, or a chain that ends with it
            name, noise = name.removesuffix("noise") + noise, ""
        names[key] = _joined(name, fill, noise, *_words(more, "fraction", "fill", "noise"))
        parts = [runs[key].config["degradation"]["name"], *own["name"].split(" + ")]
        made[key] = only(revisions_of(runs[key].done), parts)
    known = {key: name for key, name in names.items() if made[key]}  # of older code, the method's name says so
    told = _told_apart(known, {key: tuple(made[key].items()) for key in known}, made)
    return [_joined(name, told.get(key)) for key, name in names.items()]


def _methods(runs: dict[str, Run], facts: dict[str, Settings]) -> list[tuple[str, str]]:
    """(method, variant) of each run; see `Labels`."""
    methods, operators = (differing([run.config[key] for run in runs.values()]) for key in ("recovery", "operator"))
    names = []
    for (name, run), method, operator in zip(runs.items(), methods, operators, strict=True):
        used = [] if facts[name]["operator"] == "none" else [facts[name]["operator"]]
        variant = _joined(*used, *_words(method), *(_words(operator) if used else []))
        names.append((f"{run.config['recovery']['name']} {variant}".strip(), variant))
    return names
