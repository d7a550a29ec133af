"""Write `results.csv`, `curves.csv` and `figure.png` from the extractions of a store, given as the one argument.

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
from plotly.subplots import make_subplots

from memorization.data import to_uint8
from memorization.evaluation.extraction import curve
from memorization.report.browser import still
from memorization.store.reading import Run, finished

HERE = Path(__file__).parent
SHOWN = 12  # images of a run in the figure
COLOURS = ["#1f5fa8", "#c4501b", "#2c7a4b", "#7a3d9a", "#8a6d1f", "#555555", "#b03060"]


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
    """The figure."""
    own = [i for i, run in enumerate(runs) if summary["control"][i] == "none"]
    lowest = summary.loc[own].sort_values("rung").drop_duplicates(["dataset", "seed"]).index
    rows = 1 + len(lowest)
    titles = ["Distinct members against queries", "Members extracted, by train loss"]
    titles += [f"{summary['dataset'][i]}: came out (above), the member (below)" for i in lowest]
    specs = [[{}, {}], *[[{"colspan": 2}, None] for _ in lowest]]
    figure = make_subplots(
        rows, 2, specs=specs, subplot_titles=titles, row_heights=[0.5] + [0.5 / len(lowest)] * len(lowest)
    )
    for n, i in enumerate(own):
        part = curves[curves["signature"] == summary["signature"][i]]
        name = f"{summary['dataset'][i]}, {summary['rung'][i]:.0e}"
        line = {"shape": "hv", "color": COLOURS[n % len(COLOURS)]}
        figure.add_scatter(
            x=part["queries"], y=part["members"], name=name, line=line, mode="lines+markers", row=1, col=1
        )
    for n, (name, part) in enumerate(summary.loc[own].groupby("dataset")):
        part = part.sort_values("rung")
        bars = {
            "symmetric": False,
            "array": part["share_high"] - part["share"],
            "arrayminus": part["share"] - part["share_low"],
        }
        style = {"color": COLOURS[n % len(COLOURS)]}
        label = f"{name}: share extracted"
        figure.add_scatter(
            x=part["train_loss"], y=part["share"], error_y=bars, name=label, marker=style, line=style, row=1, col=2
        )
    for place, i in enumerate(lowest):
        if summary["extracted"][i]:
            figure.add_trace(go.Image(z=pictures(runs[i]).numpy()), row=2 + place, col=1)
            figure.update_xaxes(visible=False, row=2 + place, col=1)
            figure.update_yaxes(visible=False, row=2 + place, col=1)
    figure.update_xaxes(title="queries", row=1, col=1)
    figure.update_xaxes(title="train loss", type="log", autorange="reversed", exponentformat="power", row=1, col=2)
    figure.update_yaxes(title="members", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title="share of members", range=[0, 1.05], tickformat=".0%", row=1, col=2)
    return figure.update_layout(
        width=1200, height=480 + 210 * len(lowest), template="plotly_white", legend={"orientation": "v"}
    )


def main(store: Path) -> None:
    """Collect, write and draw."""
    runs = [run for run in finished(store, "extractions") if run.config["study"] == "extraction"]  # no banks
    summary = pd.DataFrame([summary_of(run) for run in runs])
    order = summary.sort_values(["dataset", "control", "rung"], ascending=[True, True, False]).index
    runs, summary = [runs[i] for i in order], summary.loc[order].reset_index(drop=True)
    curves = pd.concat([curve(run.results).assign(signature=run.folder.name) for run in runs], ignore_index=True)
    summary.to_csv(HERE / "results.csv", index=False, float_format="%.6g")
    curves.to_csv(HERE / "curves.csv", index=False)
    still(drawn(runs, summary, curves), HERE / "figure.png", 1300, 1400)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
