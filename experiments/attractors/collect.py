"""Are members attractors? `python experiments/attractors/collect.py STORE` looks at autoencoders of a store.

Writes `results.csv` (a row an autoencoder and rung), `images.csv` (a row an image) and `figure.png`. Of images with
more than `LARGE` values, the first `FEW` members and non-members are looked at, at the last rung. Without STORE, the
figure is drawn from the table that is there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from memorization import attractors
from memorization.data import DATASETS, as_float
from memorization.report.browser import still
from memorization.store.reading import Run, finished

RESULTS, IMAGES = (Path(__file__).with_name(f"{name}.csv") for name in ("results", "images"))
LARGE, FEW = 2000, 20
VERDICTS = ("attracting", "neutral", "repelling", "none", "unknown")


def looked_at(run: Run) -> pd.DataFrame:
    """A row an image and rung of an autoencoder's run."""
    settings = {key: value for key, value in run.config["dataset"].items() if key != "name"}
    kind = run.config["dataset"]["name"]
    split = DATASETS[kind](**settings).load(run.config["seed"])
    tables = []
    large = split.members[0].numel() > LARGE
    count = FEW if large else None
    for rung, loss in [*run.rungs.items()][-1 if large else 0 :]:
        for member, images in ((True, split.members[:count]), (False, split.non_members[:count])):
            begin = time.perf_counter()
            table = attractors(run.autoencoder(rung), as_float(images)).table
            seconds = (time.perf_counter() - begin) / len(images)
            name = f"{run.config['architecture']['name']}, {'x'.join(map(str, split.shape))}"
            place = {"dataset": name, "seed": run.config["seed"], "rung": rung, "train_loss": loss, "member": member}
            tables.append(table.assign(**place, seconds=seconds, image=range(len(table))))
    return pd.concat(tables, ignore_index=True)


def summarised(images: pd.DataFrame) -> pd.DataFrame:
    """A row a rung, and members or not."""
    rows = []
    for place, part in images.groupby(["dataset", "seed", "rung", "train_loss", "member"], sort=False):
        row = dict(zip(["dataset", "seed", "rung", "train_loss", "member"], place, strict=True)) | {"images": len(part)}
        row |= {verdict: int((part["attractor"] == verdict).sum()) for verdict in VERDICTS}
        fixed = part[part["attractor"] != "none"]
        row |= {f"{name}_median": fixed[name].median() for name in ("spectral_radius", "singular_value", "distance")}
        row |= {"spectral_radius_largest": fixed["spectral_radius"].max(), "seconds_an_image": part["seconds"].mean()}
        rows.append(row)
    return pd.DataFrame(rows)


def drawn(images: pd.DataFrame) -> go.Figure:
    """The spectral radius of each member's fixed point against train loss."""
    figure = go.Figure()
    members = images[images["member"] & (images["attractor"] != "none")]
    for (name, seed), part in members.groupby(["dataset", "seed"]):
        points = {"boxpoints": "all", "jitter": 0.5, "pointpos": 0, "marker": {"size": 4}}
        at = part["rung"].map(lambda rung: f"{rung:.0e}")
        figure.add_box(x=at, y=part["spectral_radius"], name=f"{name}, seed {seed}", **points)
    figure.add_hline(y=1, line={"dash": "dot"}, annotation_text="above: repelling")
    figure.update_xaxes(title="train loss", categoryorder="category ascending", type="category")
    figure.update_yaxes(title="spectral radius at the fixed point of each member")
    return figure.update_layout(width=900, height=520, template="plotly_white", boxmode="group")


def collect(store: Path) -> None:
    """Look, and write both tables."""
    runs = finished(store, "autoencoders")
    own = [run for run in runs if run.done.get("trained_on") == "members"]
    images = pd.concat([looked_at(run) for run in own], ignore_index=True)
    images.to_csv(IMAGES, index=False, float_format="%.6g")
    summarised(images).to_csv(RESULTS, index=False, float_format="%.6g")


if __name__ == "__main__":
    if sys.argv[1:]:
        collect(Path(sys.argv[1]))
    still(drawn(pd.read_csv(IMAGES)), IMAGES.with_name("figure.png"), 1000, 700, [IMAGES])
