"""What a run store found: its runs, their names, and one `Cell` of statistics a run and rung.

`summary.summarise` is computed once, here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from memorization.degradations import DEGRADATIONS
from memorization.probes import attraction
from memorization.recovery import METHODS, OPERATORS
from memorization.report.labels import Labels, label_runs
from memorization.runs import Run, StoreError, finished, results_of, verify
from memorization.statistics import Estimate, OperatingPoint, SeedVariation, holm, seed_variation
from memorization.summary import RATES, MemberScores, compare, controls_of, summarise

# Keys of a configuration in which repetitions over seeds may differ.
NOT_COMPARED = ("seed", "store", "study", "progress", "tracking", "trainer", "gallery", "controls", "control", "probes")


@dataclass(frozen=True)
class Group:
    """The members, or the non-members (`name`), of one run and rung; `psnr` is the median on erased pixels, in dB."""

    name: str
    count: int
    recovered: Estimate
    psnr: Estimate
    diverged: int

    @property
    def successes(self) -> int:
        """How many of them were recovered."""
        return round(self.recovered.value * self.count)


@dataclass(frozen=True)
class Control:
    """One of a cell's controls, by name; see `memorization.controls`."""

    name: str
    members: Group
    non_members: Group


@dataclass(frozen=True)
class Cell:
    """One run at one rung; `verdict` is that of `summary.summarise`, empty without controls.

    verdict_holm: its p-value adjusted for all verdicts of the store, or NaN.
    """

    signature: str
    labels: Labels
    degradation: str  # as in `degradation=`
    recovery: str
    operator: str  # "none" for a method that asks for none
    fraction: float  # of the pixels that were erased; NaN for a degradation that erases none
    noise: float  # standard deviation, of pixels in [0, 1]
    rung: float
    train_loss: float
    threshold_db: float
    members: Group
    non_members: Group
    excess: Estimate
    auc: Estimate
    operating: dict[float, OperatingPoint | None]  # by the false positive rate asked for; None: not resolvable
    setup: str  # autoencoder, method and task; see `summary.controls_of`
    verdict: str
    verdict_p: float
    verdict_holm: float
    controls: dict[str, Control]
    calibrated_psnr: Estimate | None  # dB, members' median above the reference's; None without a reference
    calibrated_auc: Estimate | None
    controls_text: str  # every control with the share of members that it brought back, or why it was not run


@dataclass(frozen=True)
class Findings:
    """A store that was read: `results` has one row an image (and rung), `summary` is `summarise` of it.

    `summary` has one more column, `verdict_holm`: each `verdict_p` adjusted for all of them (Holm).
    `runs` are those that are audited; controls are in `results` and `summary`, and each cell knows its own. `damaged`
    says of each run that was left out what is wrong with it.
    """

    store: Path
    runs: dict[str, Run]
    results: pd.DataFrame
    summary: pd.DataFrame
    probes: pd.DataFrame  # `probes.attraction` of each run's probes, by setup and rung; empty if there are none
    damaged: tuple[str, ...] = ()

    @classmethod
    def load(cls, store: Path) -> Findings:
        """Read all finished recoveries but the damaged ones; raises `StoreError` if none is left."""
        whole, damaged = _whole(store, "recoveries")
        if not whole:
            make = f"{store} holds no finished recovery; make one with memorization-recover store={store}"
            raise StoreError(damaged[0] if damaged else make)
        results = results_of(whole)
        audited = {run.folder.name: run for run in whole if run.config.get("control", "none") == "none"}
        if not audited:
            raise StoreError(
                f"{store} holds nothing but controls; run memorization-recover store={store} without control="
            )
        found, broken = _whole(store, "probes")
        probed = [run.results for run in found]
        probes = attraction(distinct(pd.concat(probed)), ("setup", "rung")) if probed else pd.DataFrame()
        summary = summarise(results)
        judged = summary["verdict_p"].notna()
        summary.loc[judged, "verdict_holm"] = holm(summary.loc[judged, "verdict_p"])
        return cls(store, audited, results, summary, probes, (*damaged, *broken))

    @cached_property
    def labels(self) -> dict[str, Labels]:
        """By signature."""
        facts = {row["signature"]: row for row in rows_of(self.summary) if row["control"] == "none"}
        return label_runs({signature: run.config for signature, run in self.runs.items()}, facts)

    @cached_property
    def cells(self) -> list[Cell]:
        """Sorted by autoencoder, degradation, method and falling rung; of repetitions of a run, one."""
        every = rows_of(self.summary)
        rows = [(i, row) for i, row in enumerate(every) if row["control"] == "none"]
        controls, cells = controls_of(self.summary), {}
        for i, row in sorted(rows, key=lambda pair: _order(pair[1], self.labels[pair[1]["signature"]])):
            labels = self.labels[row["signature"]]
            cells[labels, row["rung"]] = _cell(row, labels, {name: every[at] for name, at in controls[i].items()})
        return list(cells.values())

    @cached_property
    def last_cells(self) -> list[Cell]:
        """The cells of the lowest rung of each run."""
        return [cells[-1] for cells in partition(self.cells, "autoencoder", "degradation", "method").values()]

    @cached_property
    def probed(self) -> list[tuple[Cell, pd.DataFrame]]:
        """The cells of the lowest rung whose near-member probes were recovered, with their attraction."""
        found = []
        for cell in self.last_cells:
            if len(self.probes):
                own = self.probes[(self.probes["setup"] == cell.setup) & (self.probes["rung"] == cell.rung)]
                found += [(cell, own)] if len(own) else []
        return found

    @cached_property
    def pairs(self) -> list[tuple[Cell, Cell]]:
        """Each pair of methods on the same autoencoder and degradation, at the lowest rung of both."""
        groups = partition(self.last_cells, "autoencoder", "degradation").values()
        return [pair for cells in groups for pair in combinations(cells, 2) if pair[0].rung == pair[1].rung]

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """`pairs`, compared on the same members: see `compare`.

        `_holm` are the p-values adjusted for all comparisons in this table (Holm), recovered and PSNR apart.
        """
        scores = {cell.signature: MemberScores.of(self.rows[cell.signature, cell.rung]) for cell in self.last_cells}
        rows = []
        for first, second in self.pairs:
            names = {"autoencoder": first.labels.autoencoder, "degradation": first.labels.degradation}
            names |= {"first": first.labels.method, "second": second.labels.method}
            rows.append({**names, "rung": first.rung, **compare(scores[first.signature], scores[second.signature])})
        table = pd.DataFrame(rows)
        for name in ("recovered_p", "psnr_p"):
            if len(table):
                table[f"{name}_holm"] = holm(table[name])
        return table

    @cached_property
    def over_seeds(self) -> list[tuple[Cell, SeedVariation]]:
        """How the members' recovered fraction varies over seeds, where runs differ in nothing else; lowest rungs.

        The seed draws the images, the first weights and the degradations. With the first cell of each.
        """
        groups: dict[str, dict[int, Cell]] = {}
        for cell in self.last_cells:
            config = self.runs[cell.signature].config
            rest = {key: value for key, value in config.items() if key not in NOT_COMPARED}
            groups.setdefault(json.dumps([rest, cell.rung], sort_keys=True), {})[config["seed"]] = cell
        return [
            (
                next(iter(cells.values())),
                seed_variation(
                    [cell.members.successes for cell in cells.values()],
                    [cell.members.count for cell in cells.values()],
                ),
            )
            for cells in groups.values()
            if len(cells) > 1
        ]

    @property
    def strongest(self) -> Cell:
        """Of `last_cells`, the largest excess; among equals most pixels erased, then the highest median PSNR."""
        return max(self.last_cells, key=lambda c: (c.excess.value, number(c.fraction), c.members.psnr.value))

    @cached_property
    def rows(self) -> dict[tuple[str, float], pd.DataFrame]:
        """The results of a run (signature) at a rung, in the order that `Run.gallery`'s `row` counts in."""
        return {
            (str(signature), float(str(rung))): part
            for (signature, rung), part in self.results.groupby(["signature", "rung"], observed=True)
        }


def _whole(store: Path, kind: str) -> tuple[list[Run], list[str]]:
    """The finished runs of a kind that are undamaged, and what is wrong with each of the others."""

    def damage(run: Run) -> str:
        try:
            verify(run.folder)
        except StoreError as error:
            return str(error)
        return ""

    found = finished(store, kind)
    with ThreadPoolExecutor(2) as pool:  # files are read and hashed outside the interpreter's lock
        damages = [*pool.map(damage, found)]
    whole = [run for run, damage in zip(found, damages, strict=True) if not damage]
    return whole, [damage for damage in damages if damage]


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as plain dictionaries, a row each."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def number(value: float) -> float:
    """`value`, or 0 for NaN, which cannot be sorted."""
    return 0.0 if math.isnan(value) else value


def natural(text: str) -> list[str | int]:
    """A key that sorts `=5` before `=20`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


def distinct(probes: pd.DataFrame) -> pd.DataFrame:
    """`probes` without those of one setup, rung, member, kind and strength that several runs made."""
    return probes.drop_duplicates(["setup", "rung", "member", "kind", "strength"], ignore_index=True)


def partition(cells: Iterable[Cell], *parts: str) -> dict[tuple[str, ...], list[Cell]]:
    """`cells` by the labels named in `parts` (fields of `Labels`), in their order."""
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(getattr(cell.labels, part) for part in parts), []).append(cell)
    return groups


def rungs_of(cells: Iterable[Cell]) -> list[float]:
    """The rungs that occur, highest train loss first."""
    return sorted({cell.rung for cell in cells}, reverse=True)


def _order(row: dict[str, Any], labels: Labels) -> tuple[Any, ...]:
    def place(name: str, registry: Iterable[str]) -> int:
        names = list(registry)
        return names.index(name) if name in names else len(names)

    return (
        natural(labels.autoencoder),
        place(row["degradation"], DEGRADATIONS),
        number(row["fraction"]),
        natural(labels.degradation),
        place(row["recovery"], METHODS),
        row["recovery"],
        place(row["operator"], OPERATORS),
        natural(labels.method),
        -row["rung"],
    )


def _estimate(row: dict[str, Any], name: str) -> Estimate:
    return Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"])


def _group(row: dict[str, Any], name: str) -> Group:
    return Group(
        name=name.replace("_", "-"),
        count=int(row[name]),
        recovered=_estimate(row, f"{name}_recovered"),
        psnr=_estimate(row, f"{name}_median_psnr"),
        diverged=int(row[f"{name}_diverged"]),
    )


def _given(row: dict[str, Any], name: str) -> Estimate | None:
    return None if math.isnan(row[name]) else _estimate(row, name)


def _cell(row: dict[str, Any], labels: Labels, controls: dict[str, dict[str, Any]]) -> Cell:
    copied = ["signature", "degradation", "recovery", "operator", "fraction", "noise", "rung", "train_loss"]
    copied += ["threshold_db", "setup", "verdict", "verdict_p", "verdict_holm"]
    return Cell(
        **{name: row[name] for name in copied},
        labels=labels,
        members=_group(row, "members"),
        non_members=_group(row, "non_members"),
        excess=_estimate(row, "excess"),
        auc=_estimate(row, "auc"),
        operating={
            rate: None
            if math.isnan(row[f"fpr_of_{rate:g}"])
            else OperatingPoint(row[f"fpr_of_{rate:g}"], _estimate(row, f"tpr_at_fpr_{rate:g}"))
            for rate in RATES
        },
        controls={
            name: Control(name, _group(other, "members"), _group(other, "non_members"))
            for name, other in controls.items()
        },
        calibrated_psnr=_given(row, "calibrated_median"),
        calibrated_auc=_given(row, "calibrated_auc"),
        controls_text=row["controls"],
    )
