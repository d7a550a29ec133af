"""One `Cell` of statistics a run and rung: what tables, figures and sentences of the report are made of."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from memorization.config.choices import choices
from memorization.evaluation.statistics import Estimate, OperatingPoint
from memorization.evaluation.summary import RATES
from memorization.report.labels import Labels
from memorization.store.signature import rung_name


@dataclass(frozen=True)
class Group:
    """The members, or the non-members (`name`), of one run and rung; the estimates are NaN where there are none."""

    name: str
    count: int
    recovered: Estimate
    psnr: Estimate  # median on erased pixels, dB
    diverged: int

    @property
    def successes(self) -> int:
        """How many of them were recovered."""
        return round(self.recovered.value * self.count) if self.count else 0


@dataclass(frozen=True)
class Cell:
    """One run at one rung; `verdict` is that of `summary.summarise`, empty without controls."""

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
    epsilon_low: float  # at `summary.DELTA`; NaN without members or without non-members
    operating: dict[float, OperatingPoint | None]  # by the false positive rate asked for; None: not resolvable
    setup: str  # autoencoder, method and task; see `summary.controls_of`
    verdict: str
    verdict_p: float
    verdict_holm: float  # its p-value adjusted for all verdicts of the store, or NaN
    calibrated_psnr: Estimate  # dB, members' median above the reference's; NaN without a reference
    calibrated_auc: Estimate
    controls_text: str  # every control with the share of members that it brought back, or why it was not run
    queries: float  # of the autoencoder, an image, on average
    repeated: tuple[str, ...]  # the signatures of runs that differ in nothing which could change these numbers

    @property
    def title(self) -> str:
        """Its labels and train loss."""
        labels = self.labels
        return f"{labels.autoencoder}; {labels.degradation}; {labels.method}; train loss {rung_name(self.rung)}"


def number(value: float) -> float:
    """`value`, or 0 for NaN, which cannot be sorted."""
    return 0.0 if math.isnan(value) else value


def strength(cell: Cell) -> tuple[float, float, float]:
    """A key that sorts cells by what `Findings.strongest` says; those without an excess come first."""
    excess = cell.excess.value
    return -math.inf if math.isnan(excess) else excess, number(cell.fraction), number(cell.members.psnr.value)


def natural(text: str) -> list[str | float]:
    """A key that sorts `=5` before `=20`, `0.05` before `0.1` and `5e-05` before `0.001`."""
    return [float(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)", text))]


def partition(cells: Iterable[Cell], *parts: str) -> dict[tuple[str, ...], list[Cell]]:
    """`cells` by the labels named in `parts` (fields of `Labels`), in their order."""
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(getattr(cell.labels, part) for part in parts), []).append(cell)
    return groups


def order(row: dict[str, Any], labels: Labels) -> tuple[Any, ...]:
    """A key that sorts rows of the summary by autoencoder, degradation, method and falling rung."""

    def place(group: str) -> int:  # of what this version lacks, after all others
        return [*choices()[group], row[group]].index(row[group])

    return (
        natural(labels.autoencoder),
        place("degradation"),
        number(row["fraction"]),
        natural(labels.degradation),
        place("recovery"),
        row["recovery"],
        place("operator"),
        natural(labels.method),
        -row["rung"],
    )


def estimate_of(row: dict[str, Any], name: str) -> Estimate:
    """The estimate in the columns `name`, `name_low` and `name_high`."""
    return Estimate(*(row[key] for key in (name, f"{name}_low", f"{name}_high")))


def _group(row: dict[str, Any], name: str) -> Group:
    recovered, psnr = (estimate_of(row, f"{name}_{of}") for of in ("recovered", "median_psnr"))
    diverged = int(row[f"{name}_diverged"]) if row[name] else 0
    return Group(name.replace("_", "-"), int(row[name]), recovered, psnr, diverged)


def _point(row: dict[str, Any], rate: float) -> OperatingPoint | None:
    fpr = row[f"fpr_of_{rate:g}"]
    return None if math.isnan(fpr) else OperatingPoint(fpr, estimate_of(row, f"tpr_at_fpr_{rate:g}"))


def cell_of(row: dict[str, Any], labels: Labels, others: Iterable[dict[str, Any]]) -> Cell:
    """The cell of a row of the summary, with the signatures of its repetitions, the rows of which are `others`."""
    facts = {name: row[name] for name in Cell.__annotations__ if name in row}
    facts |= {name: _group(row, name) for name in ("members", "non_members")}
    facts |= {name: estimate_of(row, name) for name in ("excess", "auc", "calibrated_auc")}
    facts |= {"calibrated_psnr": estimate_of(row, "calibrated_median"), "controls_text": row["controls"]}
    facts |= {"labels": labels, "repeated": tuple(other["signature"] for other in others)}
    return Cell(**facts, operating={rate: _point(row, rate) for rate in RATES})
