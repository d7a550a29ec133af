"""Plots: what came back against train loss, one figure a degradation.

Colours are numbers here (`meta.colour`); the page gives them a tone that suits its light or dark ground.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from memorization.report.findings import Cell, Group, partition, rows_of
from memorization.report.tables import share
from memorization.statistics import Estimate

COLOURS = 8  # tones that the page knows
SYMBOLS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "cross": "✚", "star": "★"}  # plotly: text
SHIFT = 0.03  # of a decade, between neighbouring lines, so that their error bars do not hide each other


class Styles:
    """One colour a method and one symbol a variant of it (operator, settings), the same in all figures of a page."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._recovery = {cell.labels.method: cell.recovery for cell in cells}
        self._variant = {cell.labels.method: cell.labels.variant for cell in cells}
        self._recoveries = list(dict.fromkeys(self._recovery.values()))
        self._variants = list(dict.fromkeys(self._variant.values()))

    def colour(self, method: str) -> int:
        """A number below `COLOURS`."""
        return self._recoveries.index(self._recovery[method]) % COLOURS

    def symbol(self, method: str) -> str:
        """A name that plotly knows, a key of `SYMBOLS`."""
        return list(SYMBOLS)[self._variants.index(self._variant[method]) % len(SYMBOLS)]

    def legend(self, cells: Sequence[Cell]) -> list[tuple[str, int, str]]:
        """(method, colour, symbol as text) of each line that shows `cells`."""
        methods = dict.fromkeys(cell.labels.method for cell in cells)
        return [(method, self.colour(method), SYMBOLS[self.symbol(method)]) for method in methods]


@dataclass(frozen=True)
class Ranges:
    """Of the axes, so that figures side by side compare: train loss in decades, rightwards; PSNR in dB."""

    decades: tuple[float, float]
    psnr: tuple[float, float]

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> Ranges:
        """The ranges that hold `cells`; diverged answers below -20 dB fall off the axis."""
        decades = [math.log10(max(cell.train_loss, 1e-16)) for cell in cells]
        bounds = [
            bound for cell in cells for group in (cell.members, cell.non_members) for bound in _bounds(group.psnr)
        ]
        finite = [bound for bound in bounds if math.isfinite(bound)] or [0.0]
        top = max(*finite, *(cell.threshold_db for cell in cells))
        return cls((max(decades) + 0.3, min(decades) - 0.3), (max(-20.0, min(0.0, *finite)), 1.06 * top))


def _bounds(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high


def against_train_loss(cells: Sequence[Cell], styles: Styles, ranges: Ranges) -> dict[str, Any]:
    """The figure (plotly's JSON) of one degradation: the recovered share above, the median erased PSNR below.

    One line a method, solid for members and dotted for non-members; training proceeds to the right.
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.05)
    lines = partition(cells, "method")
    for place, ((method,), part) in enumerate(lines.items()):
        shift = 10 ** (SHIFT * ((len(lines) - 1) / 2 - place))
        for row, statistic, scale in ((1, _recovered, 100.0), (2, _psnr, 1.0)):
            for group in (_non_members, _members):
                figure.add_trace(_line(method, part, group, statistic, scale, shift, styles), row=row, col=1)
    for threshold in {cell.threshold_db for cell in cells}:
        figure.add_hline(y=threshold, row=2, col=1, line={"dash": "dash", "width": 1}, name="threshold")
    ticks = {
        "dtick": math.ceil((ranges.decades[0] - ranges.decades[1]) / 4.5),
        "exponentformat": "power",
        "tickangle": 0,
    }
    figure.update_xaxes(type="log", range=ranges.decades, zeroline=False, **ticks)
    figure.update_xaxes(title_text="train loss", row=2, col=1)
    figure.update_yaxes(title_text="recovered (%)", range=[-4, 104], dtick=25, zeroline=False, row=1, col=1)
    figure.update_yaxes(title_text="median erased PSNR (dB)", range=ranges.psnr, zeroline=False, row=2, col=1)
    figure.update_layout(
        template="none", showlegend=False, hovermode="closest", margin={"l": 52, "r": 8, "t": 8, "b": 42}, height=470
    )
    plain: dict[str, Any] = json.loads(figure.to_json())
    return plain


def attraction(table: pd.DataFrame) -> dict[str, Any]:
    """The figure (plotly's JSON) of one cell's near-member probes, against their distance.

    Solid: the share drawn to the member; dotted: the share of which the answer is the member.
    """
    figure = go.Figure()
    for place, (kind, part) in enumerate(table[table["kind"] != "none"].groupby("kind", sort=False)):
        ordered = part.sort_values("distance")
        symbol = list(SYMBOLS)[place % len(SYMBOLS)]
        figure.add_scatter(
            name=f"{kind}, is the member",
            meta={"colour": place % COLOURS},
            x=ordered["distance"].tolist(),
            y=(100 * ordered["captured"]).tolist(),
            mode="lines+markers",
            line={"dash": "dot", "width": 1.5},
            marker={"symbol": f"{symbol}-open", "size": 7},
            showlegend=False,
        )
        figure.add_scatter(
            name=str(kind),
            meta={"colour": place % COLOURS},
            x=ordered["distance"].tolist(),
            y=(100 * ordered["attracted"]).tolist(),
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (100 * (ordered["attracted_high"] - ordered["attracted"])).tolist(),
                "arrayminus": (100 * (ordered["attracted"] - ordered["attracted_low"])).tolist(),
                "thickness": 1,
                "width": 2,
            },
            mode="lines+markers",
            marker={"symbol": symbol, "size": 7},
            text=[
                f"{kind} {row['strength']:g}<br>{row['probes']} probes, median distance {row['distance']:.3f}"
                f"<br>PSNR to the probe {row['psnr_probe']:.1f} dB, to the member {row['psnr_member']:.1f} dB"
                for row in rows_of(ordered)
            ],
            hovertemplate="%{text}<br>%{y:.0f} % drawn to the member<extra></extra>",
        )
    figure.update_xaxes(title_text="distance of probe and member (RMS)", rangemode="tozero", zeroline=False)
    figure.update_yaxes(title_text="answers (%)", range=[-4, 104], dtick=25, zeroline=False)
    figure.update_layout(
        template="none", hovermode="closest", margin={"l": 52, "r": 8, "t": 8, "b": 42}, height=470,
        legend={"orientation": "h", "y": -0.2},
    )  # fmt: skip
    plain: dict[str, Any] = json.loads(figure.to_json())
    return plain


def _members(cell: Cell) -> Group:
    return cell.members


def _non_members(cell: Cell) -> Group:
    return cell.non_members


def _recovered(group: Group) -> Estimate:
    return group.recovered


def _psnr(group: Group) -> Estimate:
    return group.psnr


def _line(
    method: str,
    cells: Sequence[Cell],
    group: Callable[[Cell], Group],
    statistic: Callable[[Group], Estimate],
    scale: float,
    shift: float,
    styles: Styles,
) -> go.Scatter:
    estimates = [statistic(group(cell)) for cell in cells]
    name = f"{method}, {'members' if group is _members else 'non-members'}"
    symbol = styles.symbol(method)
    return go.Scatter(
        name=name,
        legendgroup=method,
        meta={"colour": styles.colour(method)},
        x=[cell.train_loss * shift for cell in cells],
        y=[scale * estimate.value for estimate in estimates],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [scale * (estimate.high - estimate.value) for estimate in estimates],
            "arrayminus": [scale * (estimate.value - estimate.low) for estimate in estimates],
            "thickness": 1,
            "width": 2,
        },
        mode="lines+markers",
        line={"dash": "solid" if group is _members else "dot", "width": 2 if group is _members else 1.5},
        marker={"symbol": symbol if group is _members else f"{symbol}-open", "size": 7},
        text=[
            f"{name}<br>train loss {cell.train_loss:.2e}<br>{share(group(cell))}"
            f"<br>median erased PSNR {group(cell).psnr.value:.1f} dB "
            f"({group(cell).psnr.low:.1f} to {group(cell).psnr.high:.1f})"
            for cell in cells
        ],
        hovertemplate="%{text}<extra></extra>",
    )
