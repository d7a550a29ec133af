"""The audit from Python, whose result speaks: in five lines, in a notebook, as a plot, and as the page of a store."""

from __future__ import annotations

import functools
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ParamSpec

import numpy as np
import pandas as pd
from safetensors.torch import save

from memorization.components import Record, expanded
from memorization.evaluation import audit as measuring
from memorization.evaluation.audit import Audit
from memorization.evaluation.controls import CONTROLS, Control
from memorization.evaluation.membership import bounded
from memorization.report.cells import Cell, estimate_of
from memorization.report.findings import Findings
from memorization.report.tables import TEXTS, answer, epsilon, span
from memorization.report.threat import described
from memorization.store import files
from memorization.store.reading import Run
from memorization.store.signature import rung_name, signature_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

P = ParamSpec("P")
ROWS = {"original": "Original", "degraded": "Degraded", "answer": "Recovered"}  # of the gallery
NAME = "own"  # of what an audit's images and training are called
SILENT = "autoencoder", "members", "non_members", "progress", "batch_size"  # named anyway, or without effect
WRITTEN = 200  # characters of a keyword's value, at most
ACCENT, SOFT = "#0b62a4", "#8a929c"  # of members and of all else, as on the page


class Audited(Audit):
    """What an audit found: `print` it, look at it in a notebook, `plot` it, or write its `report`.

    `results` has one row an image and control, `table()` one row a control, with all statistics.
    """

    called: Mapping[str, str] = MappingProxyType({})  # the keywords of its call, as they are typed

    def __str__(self) -> str:
        return "\n".join(self._lines())

    __repr__ = __str__

    def report(self, path: str | Path) -> Path:
        """Write the page that `memorization-report` makes, of this audit, to the file `path`, and give that back.

        Raises `StoreError` if it cannot be written.
        """
        from memorization.report.command import publish
        from memorization.report.page import build

        output = expanded(path)
        with self._findings() as findings:
            publish(output, build(findings))
        return output

    def plot(self) -> Figure:
        """The erased PSNR of each image (dB), and the share recovered of each kind and by each control.

        A plotly figure, with intervals of 95 %: `.show()` opens it, `.write_html(file)` keeps it.
        """
        from plotly.subplots import make_subplots

        titles = ("Erased PSNR of each image (dB)", "Recovered (%, 95 % intervals)")
        figure = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.18)
        own = self._own()
        psnr = bounded(own["psnr_erased"].to_numpy(float), own["status"].eq("diverged").to_numpy())
        for name, part, color in (("members", own["member"], ACCENT), ("non-members", ~own["member"], SOFT)):
            points = {"boxpoints": "all", "pointpos": 0, "jitter": 0.6, "fillcolor": "rgba(0,0,0,0)"}
            shown = np.clip(psnr[part.to_numpy(bool)], -10, 100)  # what is exact has an infinite PSNR
            figure.add_box(y=shown, name=name, marker={"color": color, "size": 5}, **points, row=1, col=1)
        threshold = {"line_dash": "dot", "line_color": SOFT, "annotation_text": "recovered from here on"}
        figure.add_hline(y=self.recipe.threshold_db, row=1, col=1, **threshold)
        shares = self._shares()
        middle, low, high = (100 * shares[name].to_numpy() for name in ("share", "low", "high"))
        error = {"type": "data", "symmetric": False, "array": high - middle, "arrayminus": middle - low}
        colors = [ACCENT, *[SOFT] * (len(shares) - 1)]
        marks = {"mode": "markers", "marker": {"color": colors, "size": 10}}
        figure.add_scatter(x=middle, y=shares["name"], error_x=error, **marks, row=1, col=2)
        figure.update_xaxes(range=[-2, 102], row=1, col=2)
        figure.update_yaxes(autorange="reversed", row=1, col=2)
        return figure.update_layout(
            showlegend=False, template="plotly_white", width=900, height=380, title=self._title()
        )

    def _repr_html_(self) -> str:
        """The five lines, and below them the first images: original, degraded, recovered."""
        from memorization.report.gallery import webp
        from memorization.report.page import environment

        scored = self._own().iloc[self.pictures["row"].tolist()]
        kinds = ["member" if member else "non-member" for member in scored["member"]]
        columns = (kinds, scored["psnr_erased"], scored["recovered"])
        images = [dict(zip(("kind", "psnr", "recovered"), each, strict=True)) for each in zip(*columns, strict=True)]
        rows = {name: [webp(each, lossless=True) for each in self.pictures[key]] for key, name in ROWS.items()}
        return environment().get_template("audited.html").render(lines=self._lines(), images=images, rows=rows)

    def _title(self) -> str:
        return f"{self.results['architecture'].iloc[0]}: how much of its training set does it hold?"

    def _lines(self) -> list[str]:
        """The answer; how well members are told, and epsilon; the controls; the verdict; what was assumed."""
        cell = self._cell
        auc = f"AUC {TEXTS['AUC'](cell.auc.value)} ({span(cell.auc, 'AUC')}): how well the erased PSNR tells members."
        if math.isnan(cell.auc.value):
            auc = "AUC –: there are no non-members to tell members from."
        controls = "Controls: none were run; controls=True adds them."
        verdict = "Verdict: none without controls."
        if cell.controls_text:
            controls = f"Controls, members recovered: {cell.controls_text}."
            p = "" if math.isnan(cell.verdict_p) else f" (p = {cell.verdict_p:.2g})"
            verdict = f"Verdict: {cell.verdict or 'none: no control to beat was run'}{p}."
        private = f"Epsilon {epsilon(cell)}, indicative only: all images share one training."
        return [answer(cell), f"{auc} {private}", controls, verdict, self._assumed(cell)]

    def _assumed(self, cell: Cell) -> str:
        recipe = self.recipe
        known = "how images were degraded is known" if cell.operator == "known" else f"operator {cell.operator}"
        asked = f"{recipe.method.access} of the autoencoder" + ("" if cell.operator == "none" else f", {known}")
        recalled = described(recipe.tries.recalls(cell.rung))
        asked += f"; {recalled}" if recalled else ""
        counts = f"recovered is what reaches {recipe.threshold_db:g} dB and is the right image"
        return f"Assumed: {asked}; images degraded by {cell.labels.degradation}; {counts}; seed {recipe.seed}."

    def _shares(self) -> pd.DataFrame:
        """Of members, non-members and the members by each control: `share`, `low` and `high`."""
        table = self.table().set_index("control")
        found = {"members": (Control.none, "members"), "non-members": (Control.none, "non_members")}
        found |= {f"members, {name}": (name, "members") for name in CONTROLS if name in table.index}
        estimates = {
            name: estimate_of(dict(table.loc[control]), f"{kind}_recovered") for name, (control, kind) in found.items()
        }
        rows = [(name, each.value, each.low, each.high) for name, each in estimates.items()]
        return pd.DataFrame(rows, columns=["name", "share", "low", "high"])

    @functools.cached_property
    def _cell(self) -> Cell:
        with self._findings() as findings:
            (cell,) = findings.cells
        return cell

    @contextmanager
    def _findings(self) -> Iterator[Findings]:
        """This audit as what the report is made of: that of a store with one run, which is gone afterwards."""
        own, config = self._own(), self._config()
        signature, rung = signature_of(config), float(own["train_loss"].iloc[0])
        rungs = np.where(self.results["control"] == Control.none, rung, np.nan)
        results = self.results.assign(signature=signature, rung=rungs)
        pictures = dict(self.pictures)
        pictures[f"answer/{rung_name(rung)}"] = pictures.pop("answer")
        with tempfile.TemporaryDirectory() as store:
            folder = Path(store, "recoveries", signature)
            with files.creating(folder, config, {"signature": signature, "autoencoder": ""}):
                files.write(folder / "gallery.safetensors", save(pictures))
            yield Findings.of({signature: Run(folder)}, results, self.missing)

    def _config(self) -> Record:
        """What a run's configuration says of its parts, and the call in place of a command."""
        recipe, kind = self.recipe, self.results["architecture"].iloc[0]
        parts = {name: recipe.identity()[name] for name in ("degradation", "recovery", "operator")}
        called: Record = {"degradation": recipe.degradation, "recovery": recipe.method, "operator": recipe.operator}
        tries = {"starts": recipe.starts, "recall": recipe.recall}
        called |= {"seed": recipe.seed, **tries, "threshold_db": recipe.threshold_db}
        typed = {name: _written(value) for name, value in called.items()}
        words = ", ".join(f"{name}={text}" for name, text in {**typed, **self.called}.items())
        config: Record = {"seed": recipe.seed, "rungs": "last", "threshold_db": recipe.threshold_db, "control": "none"}
        config |= {"trainer": {"precision": "32-true"}, "architecture": {"name": kind}, **parts}
        config |= {"dataset": {"name": NAME}, "training": {"name": NAME}, "recovery": parts["recovery"] | tries}
        config |= {"call": f"memorization.audit({kind}(), members, non_members, {words})"}
        plain: Record = json.loads(json.dumps(config, default=str))
        return plain


def _written(value: object) -> str:
    """A keyword's value as it is typed: of an enumeration the word, and `...` of what cannot be written."""
    text = re.sub(r"<\w+\.\w+: ('\w*')>", r"\1", repr(value))
    return "..." if re.search(r"[<\n]", text) or len(text) > WRITTEN else text


def speaking(measure: Callable[P, Audit]) -> Callable[P, Audited]:
    """`measure`, such that its result speaks."""

    @functools.wraps(measure)
    def speak(*args: P.args, **kwargs: P.kwargs) -> Audited:
        found = Audited(**vars(measure(*args, **kwargs)))
        called = {name: _written(value) for name, value in kwargs.items() if name not in SILENT}
        object.__setattr__(found, "called", called)
        return found

    return speak


audit = speaking(measuring.audit)
