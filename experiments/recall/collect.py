"""Write `results.csv` and `figure.png` of the study `recall`: `python experiments/recall/collect.py STORE`.

Without STORE, the figure is drawn from the table that is there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from memorization.evaluation.summary import summarise
from memorization.report.browser import still
from memorization.store.reading import Run, finished

TABLE = Path(__file__).with_name("results.csv")
COLUMNS = ["dataset", "degradation", "fraction", "fill", "recall", "train_loss", "members", "members_recovered"]
COLUMNS += ["members_recovered_low", "members_recovered_high", "members_median_psnr", "non_members"]
COLUMNS += ["non_members_recovered", "queries_member", "queries_non_member"]


def row_of(run: Run) -> dict[str, object]:
    """The figures of a recovery, with the number of recalled starts and the mean queries an image."""
    results = run.results
    row = summarise(results).iloc[-1].to_dict() | {"recall": run.config["recovery"].get("recall", 0)}
    queries = results.groupby("member")["queries"].mean()
    return row | {"queries_member": queries[True], "queries_non_member": queries.get(False)}


def drawn(table: pd.DataFrame) -> go.Figure:
    """Members recovered without and with recall, for each degradation."""
    figure = go.Figure()
    names = table["degradation"] + table["fraction"].map(lambda share: f" {share:.0%}")
    for recall, part in table.groupby("recall"):
        name = f"{recall} recalled starts" if recall else "no recall"
        share = part["members_recovered"]
        up, down = part["members_recovered_high"] - share, share - part["members_recovered_low"]
        bars = {"symmetric": False, "array": up, "arrayminus": down}
        figure.add_bar(x=names[part.index], y=share, name=name, error_y=bars)
    figure.update_yaxes(title="members recovered", tickformat=".0%", range=[0, 1.05])
    return figure.update_layout(width=800, height=440, template="plotly_white", barmode="group")


def collect(store: Path) -> None:
    """Write the table."""
    runs = [run for run in finished(store) if run.done["study"] == "recall"]
    table = pd.DataFrame([row_of(run) for run in runs]).sort_values(["degradation", "fraction", "recall"])
    table = table.reset_index(drop=True)[COLUMNS]
    table.to_csv(TABLE, index=False, float_format="%.6g")


if __name__ == "__main__":
    if sys.argv[1:]:
        collect(Path(sys.argv[1]))
    still(drawn(pd.read_csv(TABLE)), TABLE.with_name("figure.png"), 900, 600, [TABLE])
