"""Write `results.csv`, `summary.csv` and `figure.png` of the study from its store: `python collect.py STORE`.

`results.csv` has a row an autoencoder and rung, `summary.csv` a row a protection: means over the seeds with intervals,
see `memorization.evaluation.statistics.seed_variation`. What a protection costs is the mean squared error with which
the autoencoder reconstructs images that it never saw.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from memorization.architectures.autoencoder import reconstruction_loss
from memorization.data import DATASETS
from memorization.evaluation.statistics import seed_variation
from memorization.report.browser import still
from memorization.store.reading import Run, finished, load_run

HERE = Path(__file__).parent
PROTECTIONS = {  # what the study sets, by the group and key of the configuration
    "moved by at most": ("training", "shift", " px"),
    "mirrored": ("training", "mirror", ""),
    "noise on inputs": ("training", "input_noise", ""),
    "weight decay": ("training", "weight_decay", ""),
    "dropout": ("architecture", "dropout", ""),
}
SHARES = {"energy": "recovered by energy", "pnp_admm": "recovered by pnp_admm", "extracted": "extracted unasked"}
COLOURS = ["#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#666666"]


def protection_of(run: Run) -> tuple[str, float]:
    """The kind of protection that an autoencoder was trained with, and its strength."""
    for kind, (group, key, _) in PROTECTIONS.items():
        if strength := run.config[group].get(key):
            return kind, float(strength)
    return "none, stopped early", 0.0


def rows_of(store: Path, autoencoder: Run) -> list[dict[str, object]]:
    """A row for each rung of an autoencoder at which it was recovered from."""
    settings = {key: value for key, value in autoencoder.config["dataset"].items() if key != "name"}
    split = DATASETS[autoencoder.config["dataset"]["name"]](**settings).load(autoencoder.config["seed"])
    recoveries = [run for run in finished(store) if run.done["autoencoder"] == autoencoder.folder.name]
    extractions = {
        run.done["rung"]: run
        for run in finished(store, "extractions")
        if run.done["autoencoder"] == autoencoder.folder.name
    }
    kind, strength = protection_of(autoencoder)
    rows = []
    for rung, loss in autoencoder.rungs.items():
        row: dict[str, object] = {"protection": kind, "strength": strength, "seed": autoencoder.config["seed"]}
        row |= {"rung": rung, "train_loss": loss, "members": len(split.members), "non_members": len(split.non_members)}
        row["error_on_non_members"] = reconstruction_loss(autoencoder.autoencoder(rung), split.non_members)
        for run in recoveries:
            at = run.results[run.results["rung"] == rung]
            if len(at):
                for who, part in (("members", at[at["member"]]), ("non_members", at[~at["member"]])):
                    row[f"{run.config['recovery']['name']}_{who}"] = int(part["recovered"].sum())
        if "energy_members" not in row:
            continue
        if rung in extractions:
            row["extracted_members"] = extractions[rung].done["figures"]["extracted"]
            row["distinct_ends"] = len(extractions[rung].results)
        rows.append(row)
    return rows


def summary_of(table: pd.DataFrame) -> pd.DataFrame:
    """A row a protection, strength and, where training alone was stopped early, rung: over the seeds."""
    rows = []
    unprotected = table["strength"] == 0
    for key, part in table.assign(at=table["rung"].where(unprotected)).groupby(
        ["protection", "strength", "at"], dropna=False, sort=False
    ):
        row = dict(zip(("protection", "strength", "rung"), key, strict=True))
        row |= {"seeds": len(part), "train_loss": np.exp(np.log(part["train_loss"]).mean())}
        row["error_on_non_members"] = part["error_on_non_members"].mean()
        for name in SHARES:
            counts = part[[f"{name}_members", "members"]].dropna()
            if len(counts):
                found = seed_variation(*counts.to_numpy().T).mean
                row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        row["non_members_recovered"] = (part[["energy_non_members", "pnp_admm_non_members"]].max(axis=1)).sum()
        rows.append(row)
    return pd.DataFrame(rows)


def drawn(summary: pd.DataFrame) -> go.Figure:
    """The shares of members against the error on non-members, a panel a question and a line a kind of protection."""
    figure = make_subplots(rows=1, cols=len(SHARES), subplot_titles=[*SHARES.values()], shared_yaxes=True)
    for colour, (kind, lines) in zip(COLOURS, summary.groupby("protection", sort=False), strict=True):
        part = lines.sort_values("error_on_non_members")
        unit = PROTECTIONS.get(kind, ("", "", ""))[2]
        told = [
            f"{at:.0e}" if np.isfinite(at) else f"{by:g}{unit}" for at, by in zip(part.rung, part.strength, strict=True)
        ]
        for column, name in enumerate(SHARES, start=1):
            bars = {"array": part[f"{name}_high"] - part[name], "arrayminus": part[name] - part[f"{name}_low"]}
            figure.add_scatter(
                x=part["error_on_non_members"], y=part[name], error_y={**bars, "thickness": 1}, text=told,
                mode="markers+lines+text", textposition="top center", textfont={"size": 9, "color": colour},
                line={"color": colour}, name=kind, legendgroup=kind, showlegend=column == 1, row=1, col=column,
            )  # fmt: skip
    figure.update_xaxes(title="mean squared error on non-members", type="log", exponentformat="power")
    figure.update_yaxes(tickformat=".0%", range=[-0.05, 1.12])
    figure.update_yaxes(title="share of members", col=1)
    legend = {"orientation": "h", "y": -0.18}
    return figure.update_layout(width=1260, height=520, template="plotly_white", legend=legend, margin_t=40)


def main(store: Path) -> None:
    """Write all three."""
    runs = {run.done["autoencoder"] for run in finished(store)}
    table = pd.DataFrame(
        [row for name in sorted(runs) for row in rows_of(store, load_run(store / "autoencoders" / name))]
    )
    table = table.sort_values(["protection", "strength", "rung", "seed"], ignore_index=True)
    table.to_csv(HERE / "results.csv", index=False, float_format="%.6g")
    summary = summary_of(table)
    summary.to_csv(HERE / "summary.csv", index=False, float_format="%.6g")
    still(drawn(summary), HERE / "figure.png", 1260, 520)
    print(summary.to_string())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
