"""`python docs/dashboard.py STORE` draws docs/howto/dashboard.png: the panels of the W&B dashboard, from offline runs.

It reads what the runs in STORE logged on disk, and draws each curve of `memorization.tracking.dashboard` as W&B is told
to: runs of one study and name are a line of their mean, with the range from least to most. The page says which commands
made the store.
"""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from memorization.report.browser import still
from memorization.tracking.curves import CURVES, STEPS
from memorization.tracking.dashboard import HEADINGS, LOGARITHMIC, title

COLOURS = ["#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#666666"]
WIDE, WIDTH, HEIGHT = 3, 1260, 300  # panels in a row; pixels, of the picture and of a row


def logged(store: Path) -> pd.DataFrame:
    """What the runs of a store logged: a row a run, metric and point, with the `kind` and `name` of the run."""
    rows = []
    for folder in sorted((store / "wandb").glob("offline-run-*")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        records = [json.loads(line) for line in lines]
        run = next(record["run"] for record in records if record["type"] == "run")
        step = STEPS[run["job_type"]]
        for item in (record["history"]["item"] for record in records if record["type"] == "history"):
            for metric in CURVES[run["job_type"]]:
                if {metric, step} <= item.keys():
                    row = {"kind": run["job_type"], "name": run["display_name"], "run": folder.name, "metric": metric}
                    rows.append(row | {"x": float(item[step]), "y": float(item[metric])})
    return pd.DataFrame(rows)


def drawn(points: pd.DataFrame) -> go.Figure:
    """All curves, a panel each."""
    shown = [(kind, metric) for kind in HEADINGS for metric in CURVES[kind]]
    titles = [f"{HEADINGS[kind]}: {title(metric).removeprefix('extraction: ')}" for kind, metric in shown]
    count = -(-len(shown) // WIDE)
    figure = make_subplots(count, WIDE, subplot_titles=titles, vertical_spacing=0.35 / count, horizontal_spacing=0.06)
    for place, (kind, metric) in enumerate(shown):
        at = {"row": place // WIDE + 1, "col": place % WIDE + 1}
        of_kind = points[points["kind"] == kind]
        names = list(of_kind["name"].unique())
        for name, part in of_kind[of_kind["metric"] == metric].groupby("name", sort=False):
            values = part.pivot(index="x", columns="run", values="y").ffill()  # seeds spend queries unevenly
            found = values.agg(["mean", "min", "max"], axis=1).dropna()
            colour = COLOURS[names.index(name) % len(COLOURS)]
            around, range_of = [*found.index, *found.index[::-1]], [*found["min"], *found["max"][::-1]]
            figure.add_scatter(
                x=around, y=range_of, fill="toself", fillcolor=colour, opacity=0.2, line_width=0,
                mode="lines", showlegend=False, hoverinfo="skip", **at,
            )  # fmt: skip
            figure.add_scatter(
                x=found.index, y=found["mean"], mode="lines+markers" if kind != "train" else "lines", line_color=colour,
                name=f"{HEADINGS[kind]}: {name}", showlegend=metric == CURVES[kind][0], **at,
            )  # fmt: skip
        scale = ["log" if name in LOGARITHMIC else "linear" for name in (STEPS[kind], metric)]
        figure.update_xaxes(title=title(STEPS[kind]), type=scale[0], exponentformat="power", **at)
        figure.update_yaxes(type=scale[1], exponentformat="power", **at)
    legend = {"orientation": "h", "y": -0.08, "yanchor": "top"}
    return figure.update_layout(
        width=WIDTH, height=HEIGHT * count + 120, template="plotly_white", legend=legend, margin={"t": 40}
    )


if __name__ == "__main__":
    picture = drawn(logged(Path(sys.argv[1])))
    file = Path(__file__).with_name("howto") / "dashboard.png"
    still(picture, file, picture.layout.width + 20, picture.layout.height, [])
