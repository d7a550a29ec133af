"""The extractions of a store: what came out of each autoencoder unasked, and what to call them."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from memorization.evaluation.statistics import Estimate
from memorization.report.cells import estimate_of, natural
from memorization.report.labels import label_extractions
from memorization.store.reading import Run
from memorization.store.signature import rung_name

CONTROLS = {"untrained": "untrained", "reference": "reference"}  # as the tables call them


@dataclass(frozen=True)
class Extraction:
    """One extraction: an autoencoder at one rung, or a control of it.

    autoencoder, search: its names, by which no two different ones are called alike. rung, train_loss: NaN of an
    untrained autoencoder, and without members.
    """

    run: Run
    autoencoder: str
    search: str

    @property
    def signature(self) -> str:
        """The name of its folder."""
        return self.run.folder.name

    @property
    def control(self) -> str:
        """`none`, `untrained` or `reference`."""
        return str(self.run.config["control"])

    @property
    def names(self) -> tuple[str, str]:
        """The data set and the architecture."""
        return self.run.config["dataset"]["name"], self.run.config["architecture"]["name"]

    @cached_property
    def figures(self) -> dict[str, float]:
        """See `evaluation.extraction.summarised`."""
        return {name: float(value) for name, value in self.run.done["figures"].items()}

    @property
    def rung(self) -> float:
        """The rung of the ladder at which the autoencoder was searched."""
        return float(self.run.done["rung"])

    @property
    def train_loss(self) -> float:
        """The train loss measured there."""
        return float(self.run.done["train_loss"])

    @property
    def table(self) -> pd.DataFrame:
        """One row a distinct end."""
        return self.run.results

    @property
    def members(self) -> int:
        """How many there are; 0 where none was given."""
        return int(self.figures["members"])

    @property
    def extracted(self) -> int:
        """How many of them came out."""
        return int(self.figures["extracted"])

    @property
    def share(self) -> Estimate:
        """Of the members, how many came out."""
        return estimate_of(self.figures, "share")

    @property
    def totals(self) -> dict[str, Estimate]:
        """The estimated numbers of `ends` and of extractable `members` in all; of members, no more than there are."""

        def found(name: str, most: float) -> Estimate:
            numbers = (self.figures[f"{name}_{part}"] for part in ("total", "low", "high"))
            return Estimate(*(min(number, most) if number == number else number for number in numbers))

        return {"ends": found("ends", math.inf), "members": found("members", self.members)}

    @property
    def at(self) -> str:
        """Where it stands on the ladder, or which control it is: `1e-08`, `untrained`, `reference, 1e-08`."""
        rung = "" if math.isnan(self.rung) else rung_name(self.rung)
        return ", ".join(filter(None, [CONTROLS.get(self.control, ""), rung])) or "–"

    @property
    def title(self) -> str:
        """Its names in full."""
        control = "" if self.control == "none" else f"{self.control} control"
        where = "" if math.isnan(self.rung) else f"train loss {rung_name(self.rung)}"
        return "; ".join(filter(None, [self.autoencoder, self.search, control, where]))

    @cached_property
    def curve(self) -> pd.DataFrame:
        """`evaluation.extraction.curve`, from 0 queries to all that were spent."""
        from memorization.evaluation.extraction import curve  # with torch, for the page alone

        found = curve(self.table) if len(self.table) else pd.DataFrame(columns=["queries", "ends", "members"])
        last = {"queries": self.figures["queries"], "ends": self.figures["ends"], "members": self.extracted}
        rows = [{"queries": 0, "ends": 0, "members": 0}, *found.to_dict("records"), last]
        return pd.DataFrame(rows).astype(int).drop_duplicates("queries", keep="last", ignore_index=True)

    @cached_property
    def setup(self) -> str:
        """What it has in common with its controls: everything but the rung."""
        config = self.run.config
        same = [config[key] for key in ("seed", "dataset", "architecture", "training", "prior", "search")]
        return json.dumps([*same, config["trainer"]["precision"], config["threshold_db"]], sort_keys=True)


def extractions_of(runs: Sequence[Run]) -> list[Extraction]:
    """Sorted by autoencoder, search, and falling rung; of each rung the extraction, then its controls."""
    names = label_extractions({run.folder.name: run for run in runs})
    found = [Extraction(run, *names[run.folder.name]) for run in runs]
    kinds = ["none", *CONTROLS]

    def place(each: Extraction) -> tuple[Any, ...]:
        kind = kinds.index(each.control) if each.control in kinds else len(kinds)
        return natural(each.autoencoder), natural(each.search), kind, 0.0 if math.isnan(each.rung) else -each.rung

    return sorted(found, key=place)


def controls_of(extraction: Extraction, every: Sequence[Extraction]) -> list[Extraction]:
    """The controls with the same settings, a reference at the same rung."""
    same = [each for each in every if each.control != "none" and each.setup == extraction.setup]
    return [each for each in same if each.control == "untrained" or each.rung == extraction.rung]


def ladders(every: Sequence[Extraction]) -> dict[str, list[Extraction]]:
    """The extractions that are no controls and have members, of each autoencoder that was searched at several rungs."""
    groups: defaultdict[str, list[Extraction]] = defaultdict(list)
    for each in every:
        if each.control == "none" and each.members:
            groups[each.autoencoder].append(each)
    return {name: group for name, group in groups.items() if len({each.rung for each in group}) > 1}


def strongest(every: Sequence[Extraction]) -> list[Extraction]:
    """Of each data set and architecture the extraction, at the lowest rung, that gave most members; the largest share
    first. Of equal ones, that of fewest queries; without members, that of most ends."""
    groups: defaultdict[tuple[str, str], list[Extraction]] = defaultdict(list)
    for each in every:
        if each.control == "none":
            groups[each.names].append(each)

    def most(each: Extraction) -> tuple[float, ...]:
        rung = 0.0 if math.isnan(each.rung) else -each.rung
        return rung, each.extracted, 0.0 if each.members else each.figures["ends"], -each.figures["queries"]

    chosen = [max(group, key=most) for group in groups.values()]
    return sorted(chosen, key=lambda each: each.share.value if each.members else -1.0, reverse=True)
