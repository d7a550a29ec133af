"""Write `results.csv` and `figure.png` of the study: `python experiments/membership/collect.py STORE`.

The table has a row a share of erased pixels, train loss, seed and attack. Without STORE, the figure is drawn from the
table that is there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from memorization.evaluation.lira import MAIN, summarised
from memorization.report.browser import still
from memorization.store.reading import finished, load_run

TABLE = Path(__file__).with_name("results.csv")
LOOK = {
    "loss threshold": ("#666666", "solid"),
    "erased PSNR": ("#1f77b4", "solid"),
    "LiRA on the loss": ("#666666", "dot"),
    "LiRA on the erased PSNR": ("#1f77b4", "dot"),
}


def table_of(store: Path) -> pd.DataFrame:
    """One row an attack, of each inference in the store and each rung."""
    tables = []
    for run in finished(store, "lira"):
        recovery = load_run(store / "recoveries" / run.done["recovery"])
        if recovery.config["study"] != "membership":
            continue
        facts = {"erased": recovery.config["degradation"]["fraction"], "seed": recovery.config["seed"]}
        for rung, part in run.results.groupby("rung"):
            own = recovery.results[recovery.results["rung"] == rung]
            recovered = own.loc[own["member"], "recovered"].mean()
            facts |= {"train_loss": rung, "references": part["references"].iloc[0], "members_recovered": recovered}
            tables.append(summarised(part).drop(columns="title").assign(**facts))
    table = pd.concat(tables, ignore_index=True)
    order = list(dict.fromkeys([*facts, *table.columns]))
    return table[order].sort_values(["erased", "train_loss", "seed"], kind="stable", ignore_index=True)


def figure(table: pd.DataFrame) -> go.Figure:
    """AUC and true positive rate against train loss: a line a mean over seeds, a dot a seed."""
    shares = sorted(table["erased"].unique())
    titles = [f"{100 * share:g} % of the pixels erased" for share in shares]
    plot = make_subplots(rows=2, cols=len(shares), shared_xaxes=True, shared_yaxes=True, subplot_titles=titles,
                         vertical_spacing=0.06, horizontal_spacing=0.04)  # fmt: skip
    table = table.assign(loss=table["train_loss"].map("{:.0e}".format))
    for column, share in enumerate(shares, 1):
        for attack, (name, (colour, dash)) in zip(MAIN, LOOK.items(), strict=True):
            own = table[(table["erased"] == share) & (table["attack"] == attack)].sort_values("train_loss")[::-1]
            symbol = "circle-open" if dash == "dot" else "circle"
            for row, value in enumerate(("auc", "tpr"), 1):
                mean = own.groupby("loss", sort=False)[value].mean()
                place = {"row": row, "col": column}
                line = {"line": {"color": colour, "dash": dash, "width": 2}, "showlegend": row == column == 1}
                plot.add_scatter(x=mean.index, y=mean, mode="lines", name=name, **line, **place)
                dots = {"marker": {"color": colour, "size": 6, "symbol": symbol}, "showlegend": False}
                plot.add_scatter(x=own["loss"], y=own[value], mode="markers", **dots, **place)
    rate = f"TPR at FPR {100 * table['fpr'].iloc[0]:g} %"
    plot.update_yaxes(title="AUC", range=[0.4, 1.02], row=1, col=1)
    plot.update_yaxes(title=rate, range=[-0.03, 1.03], row=2, col=1)
    plot.update_xaxes(type="category", title="train loss", row=2)
    legend = {"orientation": "h", "y": 1.09, "yanchor": "bottom", "traceorder": "normal"}
    return plot.update_layout(template="plotly_white", width=900, height=640, legend=legend, margin={"t": 90})


if __name__ == "__main__":
    if sys.argv[1:]:
        table_of(Path(sys.argv[1])).to_csv(TABLE, index=False, float_format="%.4g")
    still(figure(pd.read_csv(TABLE)), TABLE.with_name("figure.png"), 940, 700, [TABLE])
