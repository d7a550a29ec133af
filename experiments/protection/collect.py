"""Write `results.csv`, `summary.csv` and `figure.png` of the study from its store: `python collect.py STORE`.

`results.csv` has a row an autoencoder and rung, `summary.csv` a row a protection: means over the seeds with intervals,
see `memorization.evaluation.seeds.seed_variation`. What a protection costs is the mean squared error with which
the autoencoder reconstructs images that it never saw. Without STORE, the figure is drawn from the table that is there.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from memorization.architectures.autoencoder import reconstruction_loss
from memorization.data import DATASETS
from memorization.evaluation.seeds import seed_variation
from memorization.report.browser import still
from memorization.store.reading import Run, finished, load_run

RESULTS, SUMMARY = (Path(__file__).with_name(f"{name}.csv") for name in ("results", "summary"))
PROTECTIONS = {  # what the study sets, by the group and key of the configuration
    "moved by at most": ("training", "shift", " px"),
    "mirrored": ("training", "mirror", ""),
    "noise on inputs": ("training", "input_noise", ""),
    "weight decay": ("training", "weight_decay", ""),
    "dropout": ("architecture", "dropout", ""),
    "gradients cut to": ("training", "clip", ""),
}
NONE = "none, stopped early"
UNCENTRED = "no mean image, stopped early"  # with neither; what the next, and gradients that are cut, compare with
PRIVATE = "DP-SGD, epsilon"  # at a delta of 1e-5, which is its strength
KINDS = [NONE, *[kind for kind in PROTECTIONS if kind != "gradients cut to"], UNCENTRED, "gradients cut to", PRIVATE]
SHARES = {"energy": "recovered by energy", "pnp_admm": "recovered by pnp_admm", "extracted": "extracted unasked"}
SIZE = 790  # pixels, the height of the figure
COLOURS = ["#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#666666", "#17becf", "#a6761d", "#000000"]


def protection_of(run: Run) -> tuple[str, float]:
    """The kind of protection that an autoencoder was trained with, and its strength."""
    if epsilon := run.done.get("epsilon"):
        return PRIVATE, float(epsilon)
    for kind, (group, key, _) in PROTECTIONS.items():
        if strength := run.config[group].get(key):
            return kind, float(strength)
    return NONE if run.config["architecture"]["centre"] else UNCENTRED, 0.0


def rows_of(autoencoder: Run, recoveries: list[Run], extractions: dict[float, Run]) -> list[dict[str, object]]:
    """A row for each rung of an autoencoder at which it was recovered from."""
    settings = {key: value for key, value in autoencoder.config["dataset"].items() if key != "name"}
    split = DATASETS[autoencoder.config["dataset"]["name"]](**settings).load(autoencoder.config["seed"])
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


def name_of(kind: str, strength: float, rung: float) -> str:
    """What a row is called."""
    if np.isfinite(rung):
        return f"{kind} at {rung:.0e}"
    if kind == PRIVATE:
        return f"{kind} {strength:.3g}"
    return kind if kind == "mirrored" else f"{kind} {strength:g}{PROTECTIONS[kind][2]}"


def drawn(summary: pd.DataFrame) -> go.Figure:
    """A row a protection: the shares of members with their intervals, and the error on non-members."""
    titles = [*SHARES.values(), "error on non-members"]
    figure = make_subplots(rows=1, cols=len(titles), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.03)
    settings = summary[["protection", "strength", "rung"]].itertuples(index=False)
    named = [name_of(kind, strength, rung) for kind, strength, rung in settings]
    colours = dict(zip(KINDS, COLOURS, strict=True))
    marker = {"color": summary["protection"].map(colours), "size": 8}
    for column, name in enumerate(SHARES, start=1):
        bars = {"array": summary[f"{name}_high"] - summary[name], "arrayminus": summary[name] - summary[f"{name}_low"]}
        looks = {"mode": "markers", "marker": marker, "showlegend": False}
        error = {**bars, "thickness": 1, "color": "#999"}
        figure.add_scatter(x=summary[name], y=named, error_x=error, **looks, row=1, col=column)
    figure.add_scatter(x=summary["error_on_non_members"], y=named, **looks, row=1, col=len(titles))
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickformat=".0%", range=[-0.04, 1.04])
    figure.update_xaxes(tickformat=".2f", range=[0, 0.27], title="mean squared error", col=len(titles))
    figure.update_xaxes(title="share of members", col=2)
    return figure.update_layout(width=1260, height=SIZE, template="plotly_white", margin={"t": 40, "l": 180})


def own(store: Path, kind: str) -> list[Run]:
    """The finished runs of the study."""
    return [run for run in finished(store, kind) if run.config["study"] == "protection"]


def collect(store: Path) -> None:
    """Write both tables."""
    recovered, extracted = defaultdict(list), defaultdict(dict)
    for run in own(store, "recoveries"):
        recovered[run.done["autoencoder"]].append(run)
    for run in own(store, "extractions"):
        extracted[run.done["autoencoder"]][run.done["rung"]] = run
    rows = []
    for name, runs in sorted(recovered.items()):
        rows += rows_of(load_run(store / "autoencoders" / name), runs, extracted[name])
    table = pd.DataFrame(rows)
    table = table.sort_values(["protection", "strength", "rung", "seed"], ignore_index=True)
    table.to_csv(RESULTS, index=False, float_format="%.6g")
    summary = summary_of(table).sort_values("protection", key=lambda kind: kind.map(KINDS.index), kind="stable")
    summary.to_csv(SUMMARY, index=False, float_format="%.6g")
    print(summary.to_string())


if __name__ == "__main__":
    if sys.argv[1:]:
        collect(Path(sys.argv[1]))
    still(drawn(pd.read_csv(SUMMARY)), SUMMARY.with_name("figure.png"), 1260, SIZE, [SUMMARY])
