"""Write `results.csv`, `fits.csv` and `figure.png` of the study from its store: `python collect.py STORE`.

`results.csv` has a row an autoencoder: how many of its members were recovered and extracted at its last rung, and its
parameters a pixel of the training set, r. `fits.csv` has the r at which half of the members come back, by a logistic
regression on log r, of the autoencoders that reached the lowest rung. Its interval is the range of 95 % of 500
resamples of these. It is empty where half lies outside of what was tried. Without STORE, the figure is drawn from the
tables that are there.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots
from sklearn.linear_model import LogisticRegression

from memorization.report.browser import still
from memorization.store.reading import Run, finished, load_run

RESULTS, FITS = (Path(__file__).with_name(f"{name}.csv") for name in ("results", "fits"))
SHARES = {"energy": "recovered by energy", "pnp_admm": "recovered by pnp_admm", "extracted": "extracted unasked"}
RESAMPLES = 500


def own(store: Path, kind: str) -> list[Run]:
    """The finished runs of the study."""
    return [run for run in finished(store, kind) if run.config["study"] == "scaling_laws"]


def counts_of(store: Path) -> pd.DataFrame:
    """A row an autoencoder: see the module. Extraction counts all members, a recovery those of its sample."""
    rows: dict[str, dict[str, object]] = {}
    for run in own(store, "recoveries"):
        last = run.results[run.results["rung"] == run.results["rung"].min()]
        row = rows.setdefault(run.done["autoencoder"], {})
        for who, part in (("members", last[last["member"]]), ("non_members", last[~last["member"]])):
            name = f"{run.config['recovery']['name']}_{who}"
            row |= {name: int(part["recovered"].sum()), f"{name}_asked": len(part)}
    for run in own(store, "extractions"):
        row = rows.setdefault(run.done["autoencoder"], {})
        row |= {"extracted_members": run.done["figures"]["extracted"]}
        row |= {"extracted_members_asked": run.config["dataset"]["members"], "distinct_ends": len(run.results)}
    table = pd.DataFrame([described(load_run(store / "autoencoders" / name)) | row for name, row in rows.items()])
    return table.sort_values(["width", "members", "seed"], ignore_index=True)


def described(autoencoder: Run) -> dict[str, object]:
    """What an autoencoder is, and what its training came to."""
    config, rung = autoencoder.config, min(autoencoder.rungs)
    shape = autoencoder.autoencoder(rung).mean.shape
    members, parameters = config["dataset"]["members"], autoencoder.done["parameters"]
    return {
        "members": members,
        "width": config["architecture"]["width"],
        "seed": config["seed"],
        "rung": rung,
        "train_loss": autoencoder.rungs[rung],
        "parameters": parameters,
        "parameters_a_pixel": parameters / (members * math.prod(shape)),
    }


def logistic(part: pd.DataFrame, name: str) -> LogisticRegression:
    """Of being brought back on log r, an image a trial."""
    back, asked = part[f"{name}_members"].to_numpy(float), part[f"{name}_members_asked"].to_numpy(float)
    x = np.log(part["parameters_a_pixel"].to_numpy())[:, None]
    outcome = np.repeat([1, 0], len(part))
    return LogisticRegression(C=1e6).fit(np.concatenate([x, x]), outcome, np.concatenate([back, asked - back]))


def half_of(model: LogisticRegression) -> float:
    """The r at which half of the members come back."""
    return float(np.exp(-model.intercept_[0] / model.coef_[0, 0]))


def fits_of(table: pd.DataFrame) -> pd.DataFrame:
    """A row a question: where memory gives out, among the autoencoders that reached the lowest rung."""
    rows, generator = [], np.random.default_rng(0)
    reached = table[table["rung"] == table["rung"].min()]
    for name in SHARES:
        part = reached.dropna(subset=[f"{name}_members"])
        share = part[f"{name}_members"] / part[f"{name}_members_asked"]
        if not share.min() < 0.5 <= share.max():  # half lies outside of what was tried
            rows.append({"share": name, "autoencoders": len(part)})
            continue
        model = logistic(part, name)
        draws = []
        for _ in range(RESAMPLES):
            drawn = part.iloc[generator.integers(0, len(part), len(part))]
            if 0 < drawn[f"{name}_members"].sum() < drawn[f"{name}_members_asked"].sum():
                draws.append(half_of(logistic(drawn, name)))
        low, high = np.quantile(draws, [0.025, 0.975])
        row = {"share": name, "autoencoders": len(part), "half_at": half_of(model), "half_at_low": low}
        rows.append(row | {"half_at_high": high, "slope": model.coef_[0, 0], "intercept": model.intercept_[0]})
    return pd.DataFrame(rows)


def drawn(table: pd.DataFrame, fits: pd.DataFrame) -> go.Figure:
    """The share of members against r, an autoencoder a point; open where the training ended above the lowest rung."""
    figure = make_subplots(rows=1, cols=len(SHARES), subplot_titles=[*SHARES.values()], shared_yaxes=True)
    widths = sorted(table["width"].unique())
    colours = dict(zip(widths, sample_colorscale("Viridis", np.linspace(0, 0.85, len(widths))), strict=True))
    r = np.geomspace(table["parameters_a_pixel"].min(), table["parameters_a_pixel"].max(), 100)
    for column, name in enumerate(SHARES, start=1):
        fit = fits.set_index("share").loc[name]
        if fit.notna().all():
            curve = 1 / (1 + np.exp(-(fit["intercept"] + fit["slope"] * np.log(r))))
            line = {"color": "#555", "width": 1}
            figure.add_scatter(x=r, y=curve, mode="lines", line=line, showlegend=False, row=1, col=column)
            low, high = fit["half_at_low"], fit["half_at_high"]
            figure.add_vrect(low, high, fillcolor="#ddd", opacity=0.6, line_width=0, row=1, col=column)
        for width, part in table.groupby("width"):
            done = part["rung"] == table["rung"].min()
            figure.add_scatter(
                x=part["parameters_a_pixel"], y=part[f"{name}_members"] / part[f"{name}_members_asked"], mode="markers",
                marker={"color": colours[width], "size": 7, "symbol": np.where(done, "circle", "circle-open")},
                name=f"width {width}", legendgroup=str(width), showlegend=column == 1, row=1, col=column,
            )  # fmt: skip
    figure.update_xaxes(title="parameters a pixel of the training set", type="log")
    figure.update_yaxes(tickformat=".0%", range=[-0.04, 1.06])
    figure.update_yaxes(title="share of members", col=1)
    legend = {"orientation": "h", "y": -0.2}
    return figure.update_layout(width=1260, height=460, template="plotly_white", legend=legend, margin_t=40)


def collect(store: Path) -> None:
    """Write both tables."""
    table = counts_of(store)
    table.to_csv(RESULTS, index=False, float_format="%.6g")
    fits = fits_of(table)
    fits.to_csv(FITS, index=False, float_format="%.6g")
    print(table.to_string(), fits.to_string(), sep="\n")


if __name__ == "__main__":
    if sys.argv[1:]:
        collect(Path(sys.argv[1]))
    tables = [RESULTS, FITS]
    still(drawn(*map(pd.read_csv, tables)), RESULTS.with_name("figure.png"), 1260, 460, tables)
