"""The plot of near-member probes; the other figures are drawn by the page's script.

Colours are numbers here (`meta.colour`); the page gives them a tone that suits its light or dark ground.
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from memorization.report.findings import rows_of

COLOURS = 8  # tones that the page knows
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")


def attraction(table: pd.DataFrame) -> dict[str, Any]:
    """The figure (plotly's JSON) of one cell's near-member probes, against their distance.

    Solid: the share of which the answer is the member; dotted: the share closer to the member than to the probe.
    """
    figure = go.Figure()
    for place, (kind, part) in enumerate(table[table["kind"] != "none"].groupby("kind", sort=False)):
        ordered = part.sort_values("distance")
        symbol = SYMBOLS[place % len(SYMBOLS)]
        figure.add_scatter(
            name=f"{kind}, closer to the member",
            meta={"colour": place % COLOURS},
            x=ordered["distance"].tolist(),
            y=(100 * ordered["attracted"]).tolist(),
            mode="lines+markers",
            line={"dash": "dot", "width": 1.5},
            marker={"symbol": f"{symbol}-open", "size": 7},
            showlegend=False,
        )
        figure.add_scatter(
            name=str(kind),
            meta={"colour": place % COLOURS},
            x=ordered["distance"].tolist(),
            y=(100 * ordered["captured"]).tolist(),
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (100 * (ordered["captured_high"] - ordered["captured"])).tolist(),
                "arrayminus": (100 * (ordered["captured"] - ordered["captured_low"])).tolist(),
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
            hovertemplate="%{text}<br>%{y:.0f} % answered with the member<extra></extra>",
        )
    figure.update_xaxes(title_text="distance of probe and member (RMS)", rangemode="tozero", zeroline=False)
    figure.update_yaxes(title_text="answers (%)", range=[-4, 104], dtick=25, zeroline=False)
    figure.update_layout(
        template="none", hovermode="closest", margin={"l": 52, "r": 8, "t": 8, "b": 42}, height=470,
        showlegend=True, legend={"orientation": "h", "y": -0.2},
    )  # fmt: skip
    plain: dict[str, Any] = json.loads(figure.to_json())
    return plain
