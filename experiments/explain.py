"""What explains recovery in a store? `python experiments/explain.py STORE FOLDER`.

One row a member and rung, from what the store has of one autoencoder: which recoveries brought it back, whether it was
extracted (memorization-extract), the fixed point near it (attractors=true), and the PSNR by which a reference recovered
it (controls=true). Computed here: its basins under plain iteration, its own train loss, its distance to the nearest
other member and its contrast. `memorization.evaluation.explanation` explains each outcome by the rest.

FOLDER gets `table.csv`, `scores.csv` and `effects.csv`, and with `--figure` a `figure.png`, drawn by Chromium from the
last two. Without STORE, only the figure is drawn.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from tqdm import tqdm

from memorization import load_attractors
from memorization.data import DATASETS, Split
from memorization.evaluation.basins import Disturbance, basins
from memorization.evaluation.explanation import described, explain
from memorization.recovery import Iterate
from memorization.report.browser import still
from memorization.store.files import StoreError
from memorization.store.reading import Run, finished, load_run

EXPLAINING = [
    "attracting", "spectral_radius", "singular_value", "basin_noise", "basin_erased", "own_loss",
    "nearest_member_distance", "contrast", "extracted", "reference_psnr",
]  # fmt: skip
OF_REFERENCE = "reference_psnr of "  # and the name of the recovery
RECOVERED = "recovered by "
TRIES, STEPS = 4, 5  # of a basin
COLOURS = ["#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#666666"]


def images_of(run: Run) -> Split:
    """The images of an autoencoder's run."""
    settings = {key: value for key, value in run.config["dataset"].items() if key != "name"}
    return DATASETS[run.config["dataset"]["name"]](**settings).load(run.config["seed"])


def autoencoder_of(store: Path, signature: str | None) -> Run:
    """The one autoencoder that recoveries were made from, or that of `signature`; raises `StoreError` for several."""
    recoveries = [run for run in finished(store) if run.config.get("control", "none") == "none"]
    found = sorted({run.done["autoencoder"] for run in recoveries if run.done["autoencoder"]})
    chosen = [name for name in found if name.startswith(signature or "")]
    if len(chosen) != 1:
        raise StoreError(f"name the autoencoder with --autoencoder; {store} has recoveries from {', '.join(found)}")
    return load_run(store / "autoencoders" / chosen[0])


def recovered(store: Path, autoencoder: Run, rung: float) -> Iterator[pd.Series]:
    """Of each recovery, by image: whether it brought the member back, and its reference's PSNR if there is one."""
    runs = finished(store)
    for run in runs:
        if run.done["autoencoder"] != autoencoder.folder.name or run.config.get("control", "none") != "none":
            continue
        own = run.results.query("member and rung == @rung").set_index("image")
        if own.empty:
            continue
        yield own["recovered"].rename(RECOVERED + run.done["name"])
        for other in runs:
            if other.config.get("control") == "reference" and other.results["setup"].iloc[0] == own["setup"].iloc[0]:
                reference = other.results.query("member and rung == @rung").set_index("image")
                yield reference["psnr_erased"].rename(OF_REFERENCE + run.done["name"])


def extracted(store: Path, autoencoder: Run, rung: float, images: list[int]) -> pd.Series | None:
    """By image: did it come out of any extraction at this rung? None if none was made."""
    runs = [
        run
        for run in finished(store, "extractions")
        if run.done["autoencoder"] == autoencoder.folder.name and run.done["rung"] == rung
    ]
    if not runs:
        return None
    ends = pd.concat([run.results for run in runs])
    return pd.Series(pd.Index(images).isin(ends.loc[ends["is_member"], "image"]), images, name="extracted")


def basins_of(autoencoder: Run, split: Split, rung: float) -> pd.DataFrame:
    """By image: the noise, and the share of erased pixels, up to which plain iteration brings it back."""
    total = len(Disturbance) * (STEPS + 2) * TRIES * len(split.members)
    with tqdm(total=total, desc=f"basins at {rung:g}", unit="try") as bar:
        table = basins(
            autoencoder.autoencoder(rung),
            split.members,
            Iterate(),
            indices=split.member_indices,
            steps=STEPS,
            tries=TRIES,
            on_batch=bar.update,
        )
    return table.pivot(index="member", columns="kind", values="lower").add_prefix("basin_").rename_axis("image")


def table_of(store: Path, autoencoder: Run, split: Split, rung: float) -> pd.DataFrame:
    """One row a member: see the module."""
    name, images = autoencoder.folder.name, split.member_indices
    parts: list[pd.DataFrame | pd.Series | None] = [
        *recovered(store, autoencoder, rung),
        extracted(store, autoencoder, rung, images),
        described(autoencoder.autoencoder(rung), split.members, images).set_index("image"),
        basins_of(autoencoder, split, rung),
    ]
    if finished(store, "attractors"):
        found = load_attractors(store)
        own = found[(found["autoencoder"] == name) & (found["rung"] == rung) & found["member"]].set_index("image")
        kept = own[["attractor", "spectral_radius", "singular_value", "attractor_distance"]]
        parts.append(kept.assign(attracting=own["attractor"] == "attracting") if len(own) else None)
    joined = pd.concat([part for part in parts if part is not None], axis=1).reindex(images)
    return joined.assign(rung=rung).rename_axis("image").reset_index()


def explained(table: pd.DataFrame, **settings: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores and the effects of every outcome in the table of a rung."""
    scores, effects = [], []
    outcomes = [name for name in table if name.startswith(RECOVERED) or name == "extracted"]
    for outcome in outcomes:
        name = OF_REFERENCE + outcome.removeprefix(RECOVERED)
        own = table.rename(columns={name: "reference_psnr"})
        if own[outcome].isna().all():
            continue
        columns = [column for column in EXPLAINING if column != outcome]
        found = explain(own, outcome, columns, **settings)
        scores.append(found.score.assign(rung=table["rung"].iloc[0]))
        effects.append(found.effects.assign(rung=table["rung"].iloc[0]))
    return pd.concat(scores, ignore_index=True), pd.concat(effects, ignore_index=True)


def told(scores: pd.DataFrame, effects: pd.DataFrame) -> str:
    """Scores and effects as text."""
    lines = []
    for _, row in scores.iterrows():
        own = effects[(effects["outcome"] == row["outcome"]) & (effects["rung"] == row["rung"])]
        lines.append(f"\n{row['outcome']}, at {row['rung']:g}: {row['positives']} of {row['images']} members")
        if not np.isnan(row["auc"]):
            lines.append(
                f"  cross-validated AUC {row['auc']:.2f} ({row['auc_low']:.2f} to {row['auc_high']:.2f}); shuffled "
                f"{row['chance']:.2f} ({row['chance_low']:.2f} to {row['chance_high']:.2f}), p = {row['p']:.3f}; "
                f"log loss {row['log_loss']:.2f} to {row['log_loss_chance']:.2f} without columns"
            )
            for _, e in own[own["effect"].notna()].sort_values("effect", key=abs, ascending=False).iterrows():
                joint = f"{e['effect']:+.2f} ({e['effect_low']:+.2f} to {e['effect_high']:+.2f})"
                alone = f"{e['alone']:.2f} ({e['alone_low']:.2f} to {e['alone_high']:.2f})"
                also = f"; with {e['correlated_with']}" if e["correlated_with"] else ""
                lines.append(f"    {e['column']:<24} log-odds {joint}, AUC alone {alone}{also}")
            for note, part in own[own["note"] != ""].groupby("note", sort=False):
                lines.append(f"    {note}: {', '.join(part['column'])}")
        if row["note"]:
            lines.append(f"  note: {row['note']}")
    return "\n".join(lines)


def figure(scores: pd.DataFrame, effects: pd.DataFrame) -> go.Figure:
    """The AUC of each column alone and its effect in the joint model, a colour an outcome; those that were fitted."""
    fitted = scores[scores["auc"].notna()]
    titles = ["AUC of the column alone", "log-odds a standard deviation, joint model"]
    plot = make_subplots(rows=1, cols=2, shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.04)
    order = [name for name in reversed(EXPLAINING) if effects.loc[effects["column"] == name, "alone"].notna().any()]
    for i, (_, row) in enumerate(fitted.iterrows()):
        own = effects[(effects["outcome"] == row["outcome"]) & (effects["rung"] == row["rung"])]
        own = own[own["alone"].notna()]
        name = f"{row['outcome']}, train loss {row['rung']:.0e} (AUC {row['auc']:.2f})"
        offset = 0.7 * ((i + 0.5) / len(fitted) - 0.5)
        for column, value in enumerate(("alone", "effect"), start=1):
            errors = {"array": own[f"{value}_high"] - own[value], "arrayminus": own[value] - own[f"{value}_low"]}
            plot.add_scatter(
                x=own[value], y=[order.index(c) - offset for c in own["column"]], error_x={**errors, "thickness": 1.5},
                mode="markers", marker={"color": COLOURS[i % len(COLOURS)], "size": 8}, name=name,
                showlegend=column == 1, row=1, col=column,
            )  # fmt: skip
    for column, middle in ((1, 0.5), (2, 0)):
        plot.add_vline(x=middle, line={"color": "#666", "dash": "dot"}, row=1, col=column)
    names = [name.replace("_", " ") for name in order]
    plot.update_yaxes(tickvals=list(range(len(order))), ticktext=names, range=[-0.6, len(order) - 0.4])
    plot.update_xaxes(range=[-0.03, 1.03], col=1)
    size = {"width": 1150, "height": 160 + 62 * len(order)}
    return plot.update_layout(**size, template="plotly_white", legend={"orientation": "h", "y": -0.1}, margin_t=40)


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, nargs="?")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--autoencoder", help="its signature, or how it begins; needed where there are several")
    parser.add_argument("--rungs", type=float, nargs="*", help="default: all that a recovery was made at")
    parser.add_argument("--permutations", type=int, default=199)
    parser.add_argument("--resamples", type=int, default=999)
    parser.add_argument("--figure", action="store_true")
    options = parser.parse_args(argv)
    if options.store:
        collect(options)
    if options.figure or not options.store:
        tables = [options.folder / f"{name}.csv" for name in ("scores", "effects")]
        still(figure(*map(pd.read_csv, tables)), options.folder / "figure.png", 1300, 1100, tables)


def collect(options: argparse.Namespace) -> None:
    """Write and print the tables; exits with status 1 and one line on stderr if the store cannot be used."""
    try:
        autoencoder = autoencoder_of(options.store, options.autoencoder)
    except StoreError as error:
        sys.exit(f"error: {error}")
    made = {
        rung
        for run in finished(options.store)
        if run.done["autoencoder"] == autoencoder.folder.name
        for rung in run.done["recovered_rungs"]
    }
    split, settings = images_of(autoencoder), {"permutations": options.permutations, "resamples": options.resamples}
    tables, scores, effects = [], [], []
    for rung in options.rungs or sorted(made):
        tables.append(table_of(options.store, autoencoder, split, rung))
        for whole, part in zip((scores, effects), explained(tables[-1], **settings), strict=True):
            whole.append(part)
    options.folder.mkdir(parents=True, exist_ok=True)
    score, effect = (pd.concat(parts, ignore_index=True) for parts in (scores, effects))
    for name, table in (("table", pd.concat(tables)), ("scores", score), ("effects", effect)):
        table.to_csv(options.folder / f"{name}.csv", index=False, float_format="%.6g")
    print(told(score, effect))


if __name__ == "__main__":
    main()
