"""Write `results.csv`, `summary.csv` and `figure.png` of the study: `python experiments/paper/collect.py STORE`.

`results.csv` has a row an autoencoder (activation, images it was trained on, and seed), degradation, method and rung;
`summary.csv` a row without the seeds: the mean share of the members recovered, with the interval of
`memorization.evaluation.seeds.seed_variation`, and the mean over the seeds of the median PSNR. Autoencoders of which
cells are missing are left out, and those of the table that STORE lacks are kept. Without STORE, the figure is drawn
from the table that is there. Either way the page's table is printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from memorization.evaluation.seeds import seed_variation
from memorization.evaluation.summary import summarise
from memorization.report.browser import still
from memorization.store.reading import finished

RESULTS, SUMMARY = (Path(__file__).with_name(f"{name}.csv") for name in ("results", "summary"))
NETWORK = ["architecture", "activation", "trained_on", "seed"]
CELL = ["degradation", "fraction", "recovery", "operator", "rung"]
FIGURES = ["members", "members_recovered", "members_median_psnr", "non_members", "non_members_recovered"]
FIGURES += ["non_members_median_psnr", "non_members_best_psnr"]
LINES = {  # how each method is drawn
    ("iterate", "none"): ("#666666", "solid"),
    ("null_space", "known"): ("#1b9e77", "dash"),
    ("null_space", "alternating"): ("#1b9e77", "solid"),
    ("pnp_admm", "known"): ("#d95f02", "dash"),
    ("pnp_admm", "alternating"): ("#d95f02", "solid"),
    ("energy", "known"): ("#1f77b4", "dash"),
    ("energy", "alternating"): ("#1f77b4", "solid"),
}
CELLS = 5 * len(LINES)  # at each rung of an autoencoder that is through: degradations, methods


def collect(store: Path) -> None:
    """Write both tables."""
    rows = []
    for run in finished(store):
        if run.done["study"] == "paper":
            network = {
                "activation": run.config["architecture"]["activation"],
                "trained_on": run.config["dataset"]["members"],
            }
            rows.append(summarise(run.results).assign(**network)[[*NETWORK, *CELL, "train_loss", *FIGURES]])
    table = pd.concat(rows, ignore_index=True).drop_duplicates([*NETWORK, *CELL])
    rungs = table.groupby(NETWORK)["rung"]
    table = table[rungs.transform("size") == CELLS * rungs.transform("nunique")]
    if RESULTS.exists():
        before = pd.read_csv(RESULTS)
        made = pd.MultiIndex.from_frame(table[NETWORK])
        table = pd.concat([before[~pd.MultiIndex.from_frame(before[NETWORK]).isin(made)], table])
    table = table.sort_values([*NETWORK, *CELL], ascending=[True] * 8 + [False], ignore_index=True)
    table.to_csv(RESULTS, index=False, float_format="%.6g")
    summary_of(table).to_csv(SUMMARY, index=False, float_format="%.6g")


def summary_of(table: pd.DataFrame) -> pd.DataFrame:
    """A row an activation, number of images and cell, over the seeds."""
    rows, keys = [], [*NETWORK[:-1], *CELL]
    for key, part in table.groupby(keys, sort=False):
        row = dict(zip(keys, key, strict=True)) | {"seeds": len(part)}
        found = seed_variation(part["members_recovered"] * part["members"], part["members"]).mean
        row |= {"recovered": found.value, "recovered_low": found.low, "recovered_high": found.high}
        row |= {"psnr": part["members_median_psnr"].mean(), "psnr_least": part["members_median_psnr"].min()}
        row |= {"psnr_most": part["members_median_psnr"].max(), "others": part["non_members_median_psnr"].mean()}
        row["non_members_recovered"] = round((part["non_members_recovered"] * part["non_members"]).sum())
        rows.append(row | {"non_members": part["non_members"].sum()})
    return pd.DataFrame(rows)


def told(summary: pd.DataFrame) -> str:
    """The share of the members recovered at the last rung, in percent: a row a degradation, a column a method."""
    networks = sorted(set(zip(summary["trained_on"], summary["activation"], strict=True)))
    lines = []
    for count in sorted({count for count, _ in networks}):
        names = [name for number, name in networks if number == count]
        methods = [method if operator == "none" else f"{method}, {operator}" for method, operator in LINES]
        lines += [" | ".join([f"| N = {count}: {' / '.join(names)}", *methods]) + " |", "|---" * (1 + len(LINES)) + "|"]
        part = summary[summary["trained_on"].eq(count)]
        part = part[part["rung"].eq(part["rung"].min())]
        cells = part.set_index(["degradation", "fraction", "recovery", "operator", "activation"])["recovered"]
        for cell in sorted({(degradation, fraction) for degradation, fraction, *_ in cells.index}):
            shares = [
                " / ".join(f"{100 * cells[(*cell, *method, name)] + 1e-9:.0f}" for name in names) for method in LINES
            ]
            lines.append(" | ".join([f"| {cell[0]} {cell[1]:.0%}", *shares]) + " |")
    return "\n".join(lines)


def drawn(summary: pd.DataFrame) -> go.Figure:
    """Recovery PSNR against the train loss: a row an activation and N, a column a degradation, a line a method."""
    rows = sorted(set(zip(summary["trained_on"], summary["activation"], strict=True)))
    cells = summary[["degradation", "fraction"]].drop_duplicates().sort_values(["degradation", "fraction"])
    cells = pd.concat([cells[cells["degradation"] == "random_pixels"], cells[cells["degradation"] != "random_pixels"]])
    names = [f"{name.replace('_', ' ')} {share:.0%}" for name, share in cells.itertuples(index=False)]
    figure = make_subplots(
        rows=len(rows), cols=len(cells), shared_xaxes=True, shared_yaxes=True, column_titles=names,
        row_titles=[f"{name}, N = {count}" for count, name in rows], horizontal_spacing=0.01, vertical_spacing=0.02,
    )  # fmt: skip
    for row, (count, activation) in enumerate(rows, start=1):
        for column, (degradation, fraction) in enumerate(cells.itertuples(index=False), start=1):
            at = summary["activation"].eq(activation) & summary["trained_on"].eq(count)
            at &= summary["degradation"].eq(degradation) & summary["fraction"].eq(fraction)
            panel = summary[at].sort_values("rung")
            for (method, operator), (colour, dash) in LINES.items():
                part = panel[panel["recovery"].eq(method) & panel["operator"].eq(operator)]
                name = method if operator == "none" else f"{method}, {operator}"
                bars = {"array": part["psnr_most"] - part["psnr"], "arrayminus": part["psnr"] - part["psnr_least"]}
                figure.add_scatter(
                    x=part["rung"], y=part["psnr"], error_y={**bars, "thickness": 1, "width": 2}, name=name,
                    legendgroup=name, showlegend=row == column == 1, mode="lines+markers",
                    line={"color": colour, "dash": dash, "width": 1.5}, marker={"size": 4}, row=row, col=column,
                )  # fmt: skip
            others = panel.groupby("rung", as_index=False)["others"].max()
            figure.add_scatter(
                x=others["rung"], y=others["others"], name="non-members, best method", legendgroup="others",
                showlegend=row == column == 1, mode="lines", line={"color": "#000", "dash": "dot", "width": 1.5},
                row=row, col=column,
            )  # fmt: skip
    figure.add_hline(25, line={"color": "#bbb", "width": 1})
    figure.update_xaxes(type="log", autorange="reversed", exponentformat="power", dtick=2)
    figure.update_xaxes(title="train loss", row=len(rows))
    figure.update_yaxes(title="median PSNR, dB", col=1)
    legend = {"orientation": "h", "yref": "container", "y": 0.01, "yanchor": "bottom"}
    height = 150 + 230 * len(rows)
    return figure.update_layout(
        width=1260, height=height, template="plotly_white", legend=legend, margin={"t": 40, "b": 110}
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        collect(Path(sys.argv[1]))
    whole = pd.read_csv(SUMMARY)
    print(told(whole))
    panels = drawn(whole)
    still(panels, SUMMARY.with_name("figure.png"), 1260, panels.layout.height, [SUMMARY])
