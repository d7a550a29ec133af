"""The headline table on a terminal, and the same figures as records for programs."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import pandas as pd

from memorization.report.findings import Cell, Findings, Group, partition, rows_of, rungs_of
from memorization.report.labels import percent
from memorization.runs import rung_name
from memorization.statistics import OperatingPoint

WIDTH = 120  # columns of a terminal


def records(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of `audit.summarise` as JSON can hold them: what is not a finite number is None."""
    return [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
        for row in rows_of(summary)
    ]


def share(group: Group) -> str:
    """`0 of 50 members (0 %, 95 % interval 0 to 7 %)`: how many of a group came back."""
    low, high = percent(group.recovered.low).removesuffix(" %"), percent(group.recovered.high)
    value = percent(group.recovered.value)
    return f"{group.successes} of {group.count} {group.name} ({value}, 95 % interval {low} to {high})"


def images(cells: list[Cell]) -> str:
    """`50 members and 50 non-members`: how many images the cells of an autoencoder count."""
    counts = sorted({(cell.members.count, cell.non_members.count) for cell in cells})
    return ", ".join(f"{members} members and {others} non-members" for members, others in counts)


def headline(findings: Findings) -> str:
    """Members recovered and their median erased PSNR, a block of lines an autoencoder, at most `WIDTH` wide."""
    blocks = [_block(name, cells, findings) for (name,), cells in partition(findings.cells, "autoencoder").items()]
    return "\n\n".join([*blocks, _footnotes(findings.cells), "\n".join(_wrapped(strongest(findings.strongest)))])


def strongest(cell: Cell) -> list[str]:
    """How well the strongest cell tells members from non-members, in lines."""
    labels, excess, area = cell.labels, cell.excess, cell.auc
    low, high = percent(excess.low).removesuffix(" %"), percent(excess.high)
    return [
        f"The strongest cell: {labels.autoencoder}; {labels.degradation}; {labels.method}; train loss "
        f"{rung_name(cell.rung)}.",
        f"  Excess of members over non-members {percent(excess.value)} (95 % interval {low} to {high}).",
        f"  AUC of the erased PSNR {area.value:.3f} ({area.low:.3f} to {area.high:.3f}).",
        *(f"  {operating_point(rate, point, cell.non_members.count)}" for rate, point in cell.operating.items()),
    ]


def operating_point(rate: float, point: OperatingPoint | None, non_members: int) -> str:
    """`TPR at FPR 10 %: 96 % (87 to 99 %; FPR achieved 10 %)`, or that the non-members do not resolve it."""
    name = f"TPR at FPR {100 * rate:g} %"
    if point is None:
        return f"{name}: not resolvable with {non_members} non-members ({math.ceil(1 / rate):,} would do)"
    low, high = percent(point.tpr.low).removesuffix(" %"), percent(point.tpr.high)
    return f"{name}: {percent(point.tpr.value)} ({low} to {high}; FPR achieved {percent(point.fpr)})"


def _wrapped(lines: list[str]) -> list[str]:
    return [textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines]


def _block(name: str, cells: list[Cell], findings: Findings) -> str:
    methods = max(len(cell.labels.method) for cell in cells) + 4
    table = {(cell.labels.degradation, cell.labels.method, cell.rung): _text(cell) for cell in cells}
    column = max(len(text) for text in [*table.values(), "1e-08"]) + 2
    lines = [f"{name}: {images(cells)}"]
    fitting, every_rung = max(1, (WIDTH - methods) // column), rungs_of(cells)
    for start in range(0, len(every_rung), fitting):
        rungs = every_rung[start : start + fitting]
        lines += ["", "  train loss".ljust(methods) + "".join(rung_name(rung).rjust(column) for rung in rungs)]
        for (degradation,), part in partition(cells, "degradation").items():
            lines.append(f"  {degradation}")
            for (method,) in partition(part, "method"):
                texts = [table.get((degradation, method, rung), "-") for rung in rungs]
                lines.append(f"    {method}".ljust(methods) + "".join(text.rjust(column) for text in texts))
    return "\n".join(line.rstrip() for line in lines)


def _text(cell: Cell) -> str:
    others = f" (nn {percent(cell.non_members.recovered.value)})" if cell.non_members.successes else ""
    return f"{percent(cell.members.recovered.value)} / {cell.members.psnr.value:.1f}{others}"


def _footnotes(cells: list[Cell]) -> str:
    thresholds = " or ".join(f"{threshold:g}" for threshold in sorted({cell.threshold_db for cell in cells}))
    widest = max(cells, key=lambda cell: cell.members.recovered.high - cell.members.recovered.low).members
    worst = max(cells, key=lambda cell: (cell.non_members.recovered.value, cell.non_members.recovered.high)).non_members
    lines = [
        "In a cell: members recovered / their median PSNR on erased pixels in dB; (nn: non-members recovered, if any).",
        f"Recovered: PSNR on erased pixels of at least {thresholds} dB, and no member closer to the answer than the "
        "original.",
        f"The most non-members that came back in a cell: {share(worst)}.",
        f"The widest interval of a cell: {share(widest)}.",
    ]
    if diverged := sum(cell.members.diverged + cell.non_members.diverged for cell in cells):
        lines.append(f"Diverged, counted as not recovered: {diverged} answers over all cells.")
    return "\n".join(_wrapped(lines))
