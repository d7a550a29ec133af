"""Write `results.csv`, `curves.csv` and `figure.png` from the extractions of a store, given as the one argument.

Of several training seeds of a data set, the first one's; `seeds.csv` has all.
The figure: distinct members against queries, the share extracted against train loss, and some of the images that came
out above the members that they are. Chromium draws it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from memorization.data import to_uint8
from memorization.evaluation.extraction import curve
from memorization.report.browser import still
from memorization.store.reading import Run, finished

HERE = Path(__file__).parent
SHOWN = 12  # images of a run in the figure
WIDTH, PLOT, GAP = 1080, 300, 80  # pixels: of the plots and of the strips, of the plots' height, between rows


def summary_of(run: Run) -> dict[str, object]:
    """The row of a run: what was asked, and its figures."""
    row = run.results.iloc[0] if len(run.results) else {}
    config = run.config
    asked = {
        "dataset": config["dataset"].get("name"),
        "size": config["dataset"].get("path", "").rstrip("/").split("/")[-1],
        "architecture": config["architecture"]["name"],
        "control": config["control"],
        "rung": run.done["rung"],
        "train_loss": run.done["train_loss"],
        "seed": config["seed"],
    }
    counted = {f"starts_{name}": count for name, count in run.done["endings"].items()}
    radius = run.results.loc[run.results["is_member"], "spectral_radius"].max() if len(row) else np.nan
    return asked | run.done["figures"] | counted | {"largest_radius_of_a_member": radius, "signature": run.folder.name}


def pictures(run: Run) -> torch.Tensor:
    """(2 H, SHOWN W, 3): extracted images, those hit most often first, above the nearest members."""
    table = run.results
    rows = table[table["is_member"]].sort_values("hits", ascending=False).drop_duplicates("nearest_member")
    chosen = rows["end"].head(SHOWN).tolist()
    ends = to_uint8(run.ends["ends"][chosen])
    pair = torch.cat([ends, run.ends["member"][chosen]], 2)  # (K, C, 2 H, W)
    strip = torch.cat([*pair], 2).permute(1, 2, 0)
    return strip.expand(-1, -1, 3)


def drawn(runs: list[Run], summary: pd.DataFrame, curves: pd.DataFrame) -> go.Figure:
    """The figure. An extraction has one colour in both plots: a hue for its data set, darker at a lower train loss."""
    own = summary[summary["control"] == "none"]
    lowest = own.sort_values("rung").drop_duplicates(["dataset", "seed"]).sort_index()
    shown = [(i, pictures(runs[i])) for i in lowest[lowest["extracted"] > 0].index]
    heights = [PLOT, *(WIDTH * z.shape[0] / z.shape[1] for _, z in shown)]
    titles = ["Distinct members against queries", "Members extracted, by train loss"]
    titles += [f"{own['dataset'][i]}: what came out (above), the member (below)" for i, _ in shown]
    whole = sum(heights) + GAP * len(shown)
    figure = make_subplots(
        len(heights),
        2,
        specs=[[{}, {}], *[[{"colspan": 2}, None] for _ in shown]],
        subplot_titles=titles,
        row_heights=heights,
        vertical_spacing=GAP / whole,
        horizontal_spacing=0.09,
    )
    for (name, part), scale in zip(own.groupby("dataset"), ("Blues", "Oranges"), strict=False):
        shades = sample_colorscale(scale, np.linspace(0.35 if len(part) > 1 else 0.7, 1, len(part)))
        faint = {"color": "#c9ced6", "width": 1}
        left, right = {"row": 1, "col": 1}, {"row": 1, "col": 2}
        figure.add_scatter(x=part["train_loss"], y=part["share"], mode="lines", line=faint, showlegend=False, **right)
        for shade, (_, run) in zip(shades, part.iterrows(), strict=True):
            found = curves[curves["signature"] == run["signature"]]
            line, label = {"shape": "hv", "color": shade}, f"{name}, {run['rung']:.0e}"
            figure.add_scatter(
                x=found["queries"], y=found["members"], name=label, line=line, mode="lines+markers", **left
            )
            above, below = ([run["share_high"] - run["share"]], [run["share"] - run["share_low"]])
            bars = {"symmetric": False, "array": above, "arrayminus": below}
            mark = {"color": shade, "size": 9}
            figure.add_scatter(
                x=[run["train_loss"]], y=[run["share"]], error_y=bars, marker=mark, showlegend=False, **right
            )
    for row, (_, z) in enumerate(shown, 2):
        figure.add_trace(go.Image(z=z.numpy()), row=row, col=1)
        figure.update_xaxes(visible=False, row=row, col=1)
        figure.update_yaxes(visible=False, row=row, col=1)
    figure.update_xaxes(title="queries", row=1, col=1)
    figure.update_xaxes(title="train loss", type="log", autorange="reversed", exponentformat="power", row=1, col=2)
    figure.update_yaxes(title="members", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title="share of members", range=[-0.03, 1.05], tickformat=".0%", row=1, col=2)
    margin = {"l": 70, "r": 130, "t": 40, "b": 10}
    size = {"width": WIDTH + margin["l"] + margin["r"], "height": int(whole) + margin["t"] + margin["b"]}
    return figure.update_layout(**size, margin=margin, template="plotly_white", legend={"y": 1, "yanchor": "top"})


def main(store: Path) -> None:
    """Collect, write and draw."""
    runs = [run for run in finished(store, "extractions") if run.config["study"] == "extraction"]  # no banks
    summary = pd.DataFrame([summary_of(run) for run in runs])
    summary = summary[summary["seed"] == summary.groupby("dataset")["seed"].transform("min")]
    order = summary.sort_values(["dataset", "control", "rung"], ascending=[True, True, False]).index
    runs, summary = [runs[i] for i in order], summary.loc[order].reset_index(drop=True)
    curves = pd.concat([curve(run.results).assign(signature=run.folder.name) for run in runs], ignore_index=True)
    summary.to_csv(HERE / "results.csv", index=False, float_format="%.6g")
    curves.to_csv(HERE / "curves.csv", index=False)
    figure = drawn(runs, summary, curves)
    tables = [HERE / "results.csv", HERE / "curves.csv"]
    still(figure, HERE / "figure.png", figure.layout.width, figure.layout.height, tables)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
