"""What a run store found: its runs, their names, and one `Cell` of statistics a run and rung.

`audit.summarise` is computed once, here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from memorization.degradations import DEGRADATIONS
from memorization.recovery import METHODS, OPERATORS
from memorization.report.labels import Labels, label_runs
from memorization.runs import Run, finished, load_results
from memorization.statistics import Estimate, OperatingPoint
from memorization.summary import RATES, summarise


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
class Cell:
    """One run at one rung."""

    signature: str
    labels: Labels
    degradation: str  # as in `degradation=`
    recovery: str
    operator: str  # "none" for a method that asks for none
    fraction: float  # of the pixels that were erased; NaN for a degradation that erases none
    rung: float
    train_loss: float
    threshold_db: float
    members: Group
    non_members: Group
    excess: Estimate
    auc: Estimate
    operating: dict[float, OperatingPoint | None]  # by the false positive rate asked for; None: not resolvable


@dataclass(frozen=True)
class Findings:
    """A store that was read: `results` has one row an image (and rung), `summary` is `audit.summarise` of it."""

    store: Path
    runs: dict[str, Run]
    results: pd.DataFrame
    summary: pd.DataFrame

    @classmethod
    def load(cls, store: Path) -> Findings:
        """Read all finished recoveries; raises `StoreError` if there is none or one is damaged."""
        results = load_results(store)
        return cls(store, {run.folder.name: run for run in finished(store)}, results, summarise(results))

    @cached_property
    def labels(self) -> dict[str, Labels]:
        """By signature."""
        facts = {row["signature"]: row for row in rows_of(self.summary)}
        return label_runs({signature: run.config for signature, run in self.runs.items()}, facts)

    @cached_property
    def cells(self) -> list[Cell]:
        """Sorted by autoencoder, degradation, method and falling rung; of repetitions of a run, one."""
        rows = sorted(rows_of(self.summary), key=lambda row: _order(row, self.labels[row["signature"]]))
        cells = {}
        for row in rows:
            labels = self.labels[row["signature"]]
            cells[labels, row["rung"]] = _cell(row, labels)
        return list(cells.values())

    @cached_property
    def last_cells(self) -> list[Cell]:
        """The cells of the lowest rung of each run."""
        return [cells[-1] for cells in partition(self.cells, "autoencoder", "degradation", "method").values()]

    @property
    def strongest(self) -> Cell:
        """Of `last_cells`, the largest excess; among equals most pixels erased, then the highest median PSNR."""
        return max(self.last_cells, key=lambda c: (c.excess.value, number(c.fraction), c.members.psnr.value))

    @cached_property
    def rows(self) -> dict[tuple[str, float], pd.DataFrame]:
        """The results of a run (signature) at a rung, in the order that `Run.gallery`'s `row` counts in."""
        return {
            (str(signature), rung): part
            for signature, run in self.results.groupby("signature")
            for rung, part in ((float(str(rung)), part) for rung, part in run.groupby("rung"))
        }


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as plain dictionaries, a row each."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def number(value: float) -> float:
    """`value`, or 0 for NaN, which cannot be sorted."""
    return 0.0 if math.isnan(value) else value


def natural(text: str) -> list[str | int]:
    """A key that sorts `=5` before `=20`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


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


def _cell(row: dict[str, Any], labels: Labels) -> Cell:
    def estimate(name: str) -> Estimate:
        return Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"])

    def group(name: str) -> Group:
        return Group(
            name=name.replace("_", "-"),
            count=int(row[name]),
            recovered=estimate(f"{name}_recovered"),
            psnr=estimate(f"{name}_median_psnr"),
            diverged=int(row[f"{name}_diverged"]),
        )

    copied = ("signature", "degradation", "recovery", "operator", "fraction", "rung", "train_loss", "threshold_db")
    return Cell(
        **{name: row[name] for name in copied},
        labels=labels,
        members=group("members"),
        non_members=group("non_members"),
        excess=estimate("excess"),
        auc=estimate("auc"),
        operating={
            rate: None
            if math.isnan(row[f"fpr_of_{rate:g}"])
            else OperatingPoint(row[f"fpr_of_{rate:g}"], estimate(f"tpr_at_fpr_{rate:g}"))
            for rate in RATES
        },
    )
