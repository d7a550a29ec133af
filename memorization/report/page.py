"""The page: everything that the template shows, as plain data."""

from __future__ import annotations

import inspect
import math
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from memorization.recovery import METHODS, OPERATORS
from memorization.report import reproduce
from memorization.report.figures import Ranges, Styles, against_train_loss, attraction
from memorization.report.findings import Cell, Findings, partition, rungs_of
from memorization.report.gallery import Gallery, galleries
from memorization.report.labels import percent
from memorization.report.tables import images, share
from memorization.runs import rung_name
from memorization.statistics import Estimate


@dataclass(frozen=True)
class Block:
    """What a page shows of one autoencoder. Tables and figures go by degradation; `rungs` from the lowest up."""

    name: str
    images: str
    tables: dict[str, list[Cell]]
    figures: dict[str, dict[str, Any]]
    galleries: list[Gallery]
    legend: list[tuple[str, int, str]]
    rungs: list[str]
    last: set[tuple[str, float]]  # (signature, rung) of each run's lowest rung


def build(findings: Findings) -> str:
    """The report as one self-contained HTML page. Raises `StoreError` for a damaged gallery or config."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("memorization.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"percent": percent, "rung": rung_name, "span": span, "code": code, "breakable": breakable}
    pictures, extent = galleries(findings)
    styles = Styles(findings.cells)
    blocks = [
        _block(name, cells, pictures[name], styles)
        for (name,), cells in partition(findings.cells, "autoencoder").items()
    ]
    strongest = findings.strongest
    shown = next(g for g in pictures[strongest.labels.autoencoder] if g.title == strongest.labels.degradation)
    return environment.get_template("template.html").render(
        store=findings.store,
        plotly=Markup(get_plotlyjs()),
        answer=answer(strongest),
        standing=standing(findings),
        strongest=strongest,
        strip=_strip(shown, strongest),
        strip_width=shown.width,
        blocks=blocks,
        extent=extent,
        probed=[(cell.labels, attraction(table)) for cell, table in findings.probed],
        thresholds=sorted({cell.threshold_db for cell in findings.cells}),
        methods=_threat_models(cell.recovery for cell in findings.cells),
        operators=_operators(findings),
        command=reproduce.command(findings.runs[strongest.signature].config),
        folders={run.folder: findings.labels[signature] for signature, run in findings.runs.items()},
        versions=reproduce.versions(),
    )


def answer(cell: Cell) -> str:
    """One run in one sentence, with its intervals."""
    variant = f"operator {cell.labels.variant}" if cell.operator != "none" else cell.labels.variant
    method = f"{cell.recovery} ({variant})" if variant else cell.recovery
    degraded = f"degraded by {cell.labels.degradation}"
    if not math.isnan(cell.fraction) and cell.degradation != "chain":  # in a chain, erasing is not all
        degraded = f"with {100 * cell.fraction:.3g} % of the pixels erased"
    return (
        f"At a train loss of {cell.train_loss:.0e}, {method} recovered {share(cell.members)} from images "
        f"{degraded}, and {share(cell.non_members)}."
    )


def standing(findings: Findings) -> str:
    """How the run of the answer was chosen, and where the others stand."""
    cells = findings.last_cells
    if len(cells) == 1:
        return "This is the only run of the store, at its lowest train loss."
    best = findings.strongest
    equal = sum(cell.excess.value == best.excess.value for cell in cells) - 1
    excesses = [cell.excess.value for cell in cells]
    ties = (
        f" ({equal} {'other has' if equal == 1 else 'others have'} the same; of these, the one with most pixels "
        "erased, then with the highest median PSNR, is shown)"
    )
    return (
        f"This is the strongest of {len(cells)} runs, each at its lowest train loss: the one with the largest excess "
        f"of members over non-members{ties if equal else ''}. Over all of them the excess is {percent(min(excesses))} "
        f"to {percent(max(excesses))}, with a median of {percent(statistics.median(excesses))}. The intervals do not "
        "account for this choice."
    )


def span(estimate: Estimate, unit: str) -> str:
    """`93 to 100`: the interval of a share (`unit` `%`) or of a PSNR (`dB`)."""
    if unit == "dB":
        return f"{estimate.low:.1f} to {estimate.high:.1f}"
    return f"{percent(estimate.low).removesuffix(' %')} to {percent(estimate.high).removesuffix(' %')}"


def code(text: str) -> Markup:
    """Text with its `quoted` parts as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def breakable(text: str) -> Markup:
    """Text that a narrow column may break after an underscore."""
    return Markup("_<wbr>").join(text.split("_"))


def _block(name: str, cells: list[Cell], pictures: list[Gallery], styles: Styles) -> Block:
    tables = {degradation: part for (degradation,), part in partition(cells, "degradation").items()}
    ranges = Ranges.of(cells)
    return Block(
        name=name,
        images=images(cells),
        tables=tables,
        figures={title: against_train_loss(part, styles, ranges) for title, part in tables.items()},
        galleries=pictures,
        legend=styles.legend(cells),
        rungs=[rung_name(rung) for rung in reversed(rungs_of(cells))],
        last={(lines[-1].signature, lines[-1].rung) for lines in partition(cells, "degradation", "method").values()},
    )


def _strip(gallery: Gallery, cell: Cell) -> dict[str, list[Any]]:
    """(row, answer) of the images that were kept of the strongest run, by heading."""
    method, rung = cell.labels.method, rung_name(cell.rung)
    return {
        heading: [(row, row.answers[method][rung]) for row in rows if rung in row.answers.get(method, {})]
        for heading, rows in gallery.parts.items()
    }


def _threat_models(names: Iterable[str]) -> list[tuple[str, str, str, str]]:
    """(name, what it is, access, knows) of the methods that occur and that this version has."""
    present = set(names)
    methods: dict[str, Any] = dict(METHODS)
    return [
        (name, _first_paragraph(sys.modules[method.__module__].__doc__), method.access, method.knows)
        for name, method in methods.items()
        if name in present
    ]


def _operators(findings: Findings) -> list[tuple[str, str, bool]]:
    """(name, what it is, blind) of the ways to know the operator that occur."""
    present = set(findings.results["operator"])
    operators: dict[str, Any] = dict(OPERATORS)
    return [
        (name, _first_paragraph(inspect.getdoc(operator)), operator.blind)
        for name, operator in operators.items()
        if name in present
    ]


def _first_paragraph(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())
