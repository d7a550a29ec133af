"""The page: its template filled with sentences, tables and what its script draws (the files of `script/`, in order)."""

import inspect
import math
import statistics
from importlib.resources import files
from itertools import groupby
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from memorization.recovery import OPERATORS
from memorization.report import unasked
from memorization.report.data import data
from memorization.report.ends import drawn
from memorization.report.findings import Findings, rows_of
from memorization.report.gallery import scenes
from memorization.report.labels import percent
from memorization.report.tables import answer, decibels, most_varied, span, without_seed
from memorization.report.threat import code
from memorization.store.versions import installed

SCRIPTS = ("records", "choice", "table", "drawing", "figures", "plots", "run", "gallery", "start")  # in this order
ALONE = ("records", "drawing")  # of a store without recoveries; of extractions there is one more
COMPARED, SEEDED = 200, 100  # pairs of methods (of more, `--compare` tells), and runs with other seeds, that it shows
PACKAGES = ("memorization", "torch", "pytorch-lightning", "numpy", "scikit-image", "scikit-learn")  # of the footer


def build(findings: Findings, *, watching: bool = False) -> str:
    """The report as one HTML page, which reloads itself if `watching`; `StoreError` for a damaged gallery or config."""
    parts: dict[str, Any] = {"data": {"cells": []}, "explained": []}
    scripts, styles = [*ALONE], ["page.css"]
    if findings.cells:
        parts, scripts = _of_recoveries(findings), [*SCRIPTS]
    if findings.extractions:
        parts["data"] |= {"unasked": drawn(findings)}
        parts["unasked"] = _of_extractions(findings)
        scripts, styles = [*scripts, "extraction"], [*styles, "extraction.css"]
    return (
        environment()
        .get_template("page.html")
        .render(
            found=findings,
            watching=watching,
            style=Markup("".join(map(_file, styles))),
            script=Markup("\n".join(_file(f"script/{name}.js") for name in scripts)),
            plotly=Markup(get_plotlyjs()),
            versions={name: installed(name) for name in PACKAGES},
            **parts,
        )
    )


def environment() -> jinja2.Environment:
    """What the templates of this package are filled with."""
    loader, strict = jinja2.PackageLoader("memorization.report", "."), jinja2.StrictUndefined
    made = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=strict)
    made.filters |= {"percent": percent, "decibels": decibels, "span": span, "small": _small}
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return made


def _of_recoveries(findings: Findings) -> dict[str, Any]:
    """What the template says of recoveries."""
    pictures, extent = scenes(findings)
    shown = data(findings, pictures)
    return {
        "answer": answer(findings.strongest),
        "standing": standing(findings),
        "data": shown | {"lossless": extent.lossless},
        "pictures": [vars(scene) for scene in pictures.values()],
        "extent": extent,
        "compared": _compared(findings) if len(findings.pairs) <= COMPARED else [],
        "seeds": [(without_seed(run.cell.labels), run) for run in most_varied(findings, SEEDED)],
        "judged": any(cell.verdict for cell in findings.cells),
        "thresholds": sorted({cell.threshold_db for cell in findings.cells}),
        "explained": _explained(findings, shown["cards"]),
    }


def _of_extractions(findings: Findings) -> dict[str, Any]:
    """What the template says of extractions: the sentences, and the rows of the table by autoencoder and search."""
    every = findings.extractions
    parts = groupby(enumerate(every), lambda found: f"{found[1].autoencoder}; {found[1].search}")
    return {
        "sentences": unasked.sentences(every),
        "choice": unasked.choice(every),
        "groups": [(name, [(place, each, unasked.row(each)) for place, each in part]) for name, part in parts],
        "controls": {each.control for each in every},
        "thresholds": sorted({each.run.config["threshold_db"] for each in every}),
    }


def _small(text: str) -> Markup:
    """`41 of 50 (69 to 90 %)` with what is in brackets in small."""
    value, bracket, rest = text.partition("(")
    return Markup("{}<small>{}</small>").format(value, bracket + rest)


def _file(name: str) -> str:
    return files("memorization.report").joinpath(name).read_text(encoding="utf-8")


def _compared(findings: Findings) -> list[tuple[str, list[dict[str, Any]]]]:
    """The comparisons of methods, by where they were made."""
    parts = groupby(rows_of(findings.comparisons), lambda row: f"{row['autoencoder']}; {row['degradation']}")
    return [(name, list(part)) for name, part in parts]


def standing(findings: Findings) -> str:
    """How the run of the answer was chosen, and where the others stand."""
    cells = findings.last_cells
    if len(cells) == 1:
        return "This is the only run of the store, at its lowest train loss." if findings.store else ""
    best = findings.strongest
    equal = sum(cell.excess.value == best.excess.value for cell in cells) - 1
    excesses = [cell.excess.value for cell in cells if not math.isnan(cell.excess.value)]
    if not excesses:
        return f"This is the one of {len(cells)} runs that stands first; none has members and non-members to compare."
    holm = best.verdict_holm
    adjusted = "" if math.isnan(holm) else f"; the p-value adjusted for all (Holm) does: {holm:.1g}"
    same = f"{equal} {'other has' if equal == 1 else 'others have'} the same"
    ties = f" ({same}; of these, the one with most pixels erased, then with the highest median PSNR, is shown)"
    return (
        f"This is the strongest of {len(cells)} runs, each at its lowest train loss: the one with the largest excess "
        f"of members over non-members{ties if equal else ''}. Over all of them the excess is {percent(min(excesses))} "
        f"to {percent(max(excesses))}, with a median of {percent(statistics.median(excesses))}. Neither the "
        f"intervals nor the verdict account for this choice{adjusted}."
    )


def _explained(findings: Findings, cards: dict[str, dict[str, str]]) -> list[tuple[Any, ...]]:
    """What each method and each knowledge of the operator is: title, description, head and rows of a table."""
    methods = [(name, *card.values()) for name, card in cards.items()]
    parts, used = OPERATORS.items(), {cell.operator for cell in findings.cells}
    operators = [(n, code(inspect.getdoc(part)), "yes" if part.blind else "no") for n, part in parts if n in used]
    heads = ("Method", "What it is", "Access to the autoencoder", "Knows"), ("Operator", "What it is", "Blind")
    title = Markup("What it may know of the degradation <i>H</i>")
    threats = ("What each method may use", "Threat models", heads[0], methods)
    return [threats, (title, "Knowledge of the operator", heads[1], operators)]
