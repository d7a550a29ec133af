"""Write `results.csv` and `figure.png` of a study from its run store: `python experiments/collect.py STUDY STORE`.

Without STORE, the figure is drawn from the tables that are there. With `--keep`, rows of the tables that the store has
no newer ones for stay, where a part of a study was made anew.

The table is `summary.summarise` of the study's results, with the settings of the recovery that the study varies. Where
near-member probes were recovered, `probes.csv` is their `probes.attraction`, with the method and degradation. Of the
study `faces`, `desktop.png` and `phone.png` show what its report looks like. Chromium draws them all.
"""

from __future__ import annotations

import argparse
import io
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from memorization import load_results, load_run
from memorization.evaluation.controls import CONTROLS
from memorization.evaluation.summary import summarise
from memorization.evaluation.verdict import controls_of
from memorization.recovery import METHODS, OPERATORS
from memorization.report.browser import TIMEOUT, chromium, still
from memorization.report.findings import attraction_of
from memorization.store.reading import Run, finished

SETTINGS = {  # that studies vary: where a run's configuration has them, and what they add to a method's name
    "starts": ("recovery", ", {:g} starts"),
    "max_iterations": ("recovery", ", {:g} iterations"),
    "relaxation": ("recovery", ", relaxation {:g}"),
    "first_phase": ("operator", ", first phase {:g}"),
}
CELL = ["network", "degradation", "fraction", "fill", "noise", "recovery", "operator", *SETTINGS, "rung", "control"]
PROBE = [*CELL[:-1], "kind", "strength"]


def of_study(results: pd.DataFrame, study: str) -> pd.DataFrame:
    """The results of a study, and those without noise that another study had made before it asked for them."""
    own = results[results["study"] == study]
    asked = (results["noise"] == 0) & (results["study"] != study) & (results["control"] == "none")
    for keys in (["recovery", "operator"], ["dataset", "architecture", "seed", "degradation", "fraction", "fill"]):
        asked &= pd.MultiIndex.from_frame(results[keys]).isin(pd.MultiIndex.from_frame(own[keys]))
    return pd.concat([own, results[asked]])


def labelled(summary: pd.DataFrame) -> pd.DataFrame:
    """`summary` with a name for each method (with its operator and what else tells it apart), and for each cell."""
    method = summary["recovery"] + summary["operator"].map(lambda name: "" if name == "none" else f", {name}")
    for setting, (_, name) in SETTINGS.items():
        of = ["recovery", "operator"] if setting == "starts" else ["recovery"]  # which decide how many are automatic
        usual = summary.groupby(of)[setting].transform("min")
        method += summary[setting].map(name.format).where(summary[setting] > usual, "")
    share = summary["fraction"].map(lambda value: "" if pd.isna(value) else f" {value:.0%}")
    fill = summary["fill"].map(lambda name: "" if name == "none" else f", {name}")
    noise = summary["noise"].map(lambda value: f", noise {value:g}" if value else "")
    return summary.assign(method=method, cell=summary["degradation"] + share + fill + noise)


def error_bars(table: pd.DataFrame, name: str) -> dict[str, pd.Series]:
    """The interval of a column, as plotly draws it: its lengths above and below."""
    return {"array": table[f"{name}_high"] - table[name], "arrayminus": table[name] - table[f"{name}_low"]}


def heat_map(summary: pd.DataFrame, probes: pd.DataFrame) -> go.Figure:
    """Members recovered, method against degradation; non-members recovered in brackets where there were any."""
    table = labelled(summary)
    if table["dataset"].nunique() > 1:
        table["cell"] = table["dataset"].astype(str) + ", seed " + table["seed"].astype(str) + ": " + table["cell"]
    if table.duplicated(["cell", "method"]).any():
        table["cell"] += table["rung"].map(", train loss {:.0e}".format)
        table = table.sort_values(["degradation", "fraction", "rung"], ascending=[True, True, False], kind="stable")
    methods, cells = sorted(table["method"].unique()), table["cell"].unique()
    recovered = table.pivot(index="cell", columns="method", values="members_recovered").loc[cells, methods]
    others = table.pivot(index="cell", columns="method", values="non_members_recovered").loc[cells, methods]
    text = [
        [
            "" if pd.isna(share) else f"{100 * share:.0f}" + (f" ({100 * other:.0f})" if other else "")
            for share, other in zip(*pair, strict=True)
        ]
        for pair in zip(recovered.to_numpy(), others.to_numpy(), strict=True)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=recovered, x=methods, y=cells, text=text, texttemplate="%{text}", colorscale="Blues", zmin=0, zmax=1,
            colorbar={"title": "members", "tickformat": ".0%"}, xgap=1, ygap=1, textfont={"size": 11},
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    title = "Members recovered, in percent (in brackets: non-members, where any were)"
    return figure.update_layout(title=title, width=1240, height=180 + 24 * len(cells), template="plotly_white")


def break_point(part: pd.DataFrame) -> float:
    """The noise at which half of the members come back, between two levels; the first or infinite if beyond them."""
    noise, share = part["noise"].to_numpy(), part["members_recovered"].to_numpy()
    below = np.flatnonzero(share < 0.5)
    if not len(below):
        return float("inf")
    around = [max(below[0] - 1, 0), below[0]]
    return float(np.interp(-0.5, -share[around], noise[around]))


def curve(summary: pd.DataFrame, probes: pd.DataFrame) -> go.Figure:
    """Members (solid) and non-members (dotted) recovered against the noise, with 95 % intervals and break-points.

    No noise stands, on a logarithmic axis, where half of the least noise would.
    """
    table = labelled(summary).sort_values("noise")
    levels = [0.0, *sorted(set(table["noise"]) - {0.0})]
    figure = go.Figure()
    for colour, (method, part) in zip(cycle(COLOURS), table.groupby("method", sort=False), strict=False):
        for group, dash in (("members", "solid"), ("non_members", "dot")):
            share, bars = part[f"{group}_recovered"], error_bars(part, f"{group}_recovered")
            name = f"{method}, {group.replace('_', '-')}"
            if group == "members":
                name += f" (half at {break_point(part):.2f})"
            line = {"color": colour, "dash": dash}
            place = part["noise"].clip(lower=levels[1] / 2)
            figure.add_scatter(x=place, y=share, error_y=bars, name=name, line=line, mode="lines+markers")
    ticks = [levels[1] / 2, *levels[1:]]
    title = "standard deviation of the noise (pixels in [0, 1])"
    figure.update_xaxes(title=title, type="log", tickvals=ticks, ticktext=[f"{level:g}" for level in levels])
    figure.update_yaxes(title="recovered", tickformat=".0%", range=[-0.03, 1.05])
    return figure.update_layout(width=1000, height=520, template="plotly_white")


def controls(summary: pd.DataFrame, probes: pd.DataFrame) -> go.Figure:
    """Above: what the audited autoencoder and its controls bring back. Below: whose answer a cell's probes get."""
    table = labelled(summary)
    alone = (table["control"] == "none").to_numpy()
    audited, belonging = table[alone].reset_index(drop=True), np.array(controls_of(table), object)[alone]
    panels = list(labelled(probes).groupby(["method", "cell"], sort=False)) if len(probes) else []
    titles = ["Brought back: members (filled), non-members (open)"]
    titles += [f"Probes of {method}<br>{cell}" for (method, cell), _ in panels]
    wide = max(len(panels), 1)
    specs = [[{"colspan": wide}, *[None] * (wide - 1)], *([[{}] * wide] if panels else [])]
    figure = make_subplots(rows=len(specs), cols=wide, specs=specs, subplot_titles=titles, vertical_spacing=0.27)
    columns = ["audited", *(name for name in CONTROLS if any(name in found for found in belonging))]
    for (place, row), found in zip(audited.iterrows(), belonging, strict=True):
        shown = pd.DataFrame([row, *(table.iloc[found[name]] for name in columns if name in found)])
        x = [i for i, name in enumerate(columns) if name == "audited" or name in found]
        aside = 0.6 / len(audited) * (place - (len(audited) - 1) / 2)
        for group, filled in (("members", ""), ("non_members", "-open")):
            figure.add_scatter(
                x=np.add(x, aside), y=shown[f"{group}_recovered"], mode="markers",
                marker={"color": COLOURS[place % len(COLOURS)], "symbol": f"circle{filled}", "size": 9},
                error_y={**error_bars(shown, f"{group}_recovered"), "thickness": 1},
                name=f"{row['method']}; {row['cell']}", showlegend=group == "members", row=1, col=1,
            )  # fmt: skip
    figure.update_xaxes(tickvals=np.arange(len(columns)), ticktext=columns, zeroline=False, row=1, col=1)
    for column, (_, panel) in enumerate(panels, start=1):
        lines = panel[panel["kind"] != "none"].groupby("kind", sort=False)
        for (colour, symbol), (kind, part) in zip(cycle(PROBE_LOOKS), lines, strict=False):
            figure.add_scatter(
                x=part["distance"], y=part["captured"], name=kind, legendgroup=kind, legend="legend2",
                line={"color": colour}, marker={"symbol": symbol, "size": 8}, mode="lines+markers",
                error_y={**error_bars(part, "captured"), "thickness": 1}, showlegend=column == 1, row=2, col=column,
            )  # fmt: skip
        figure.update_xaxes(title="distance of probe and member (RMS)", rangemode="tozero", row=2, col=column)
    figure.update_yaxes(tickformat=".0%", range=[-0.04, 1.05])
    if panels:
        figure.update_yaxes(title="answered with the member", row=2, col=1)
    figure.update_annotations(font_size=14)  # the titles
    keys = {"legend": {"orientation": "h", "y": 0.545, "yanchor": "top"}, "legend2": {"orientation": "h", "y": -0.14}}
    size = {"width": max(330 * wide, 1000), "height": 940 if panels else 520}
    return figure.update_layout(**keys if panels else {}, **size, margin_t=50, template="plotly_white")


def ladders(summary: pd.DataFrame, probes: pd.DataFrame) -> go.Figure:
    """Members recovered against the train loss, a panel a degradation and a line an architecture of several rungs."""
    table = labelled(summary)
    table = table[table.groupby(["network", "method", "cell"])["rung"].transform("nunique") > 1]
    common = set.intersection(*(set(name.split(", ")) for name in table["network"]))
    table["network"] = [", ".join(part for part in name.split(", ") if part not in common) for name in table["network"]]
    cells = list(table["cell"].unique())
    figure = make_subplots(rows=1, cols=len(cells), subplot_titles=cells, shared_yaxes=True)
    for colour, (name, lines) in zip(cycle(COLOURS), table.groupby(["network", "method"], sort=False), strict=False):
        for column, cell in enumerate(cells, start=1):
            part = lines[lines["cell"] == cell].sort_values("train_loss")
            share, bars = part["members_recovered"], error_bars(part, "members_recovered")
            figure.add_scatter(
                x=part["train_loss"], y=share, error_y=bars, line={"color": colour}, mode="lines+markers",
                name=", ".join(name), legendgroup=", ".join(name), showlegend=column == 1, row=1, col=column,
            )  # fmt: skip
    figure.update_xaxes(title="train loss", type="log", autorange="reversed", exponentformat="power", dtick=1)
    figure.update_yaxes(title="members recovered", tickformat=".0%", range=[-0.03, 1.05], col=1)
    return figure.update_layout(
        width=1200, height=480, template="plotly_white", legend={"orientation": "h", "y": -0.2}, margin_t=50
    )


def budgets(summary: pd.DataFrame, probes: pd.DataFrame) -> go.Figure:
    """Members recovered against the iterations, a line a first phase and number of starts."""
    figure = go.Figure()
    lines = summary.sort_values("max_iterations").groupby(["first_phase", "starts"])
    for i, ((phase, starts), part) in enumerate(lines):
        share, bars = part["members_recovered"], error_bars(part, "members_recovered")
        figure.add_scatter(
            x=part["max_iterations"] * (1 + 0.01 * i), y=share, error_y={**bars, "thickness": 1},
            mode="lines+markers", line={"color": COLOURS[i]},
            name=f"first phase {phase:g}, {starts} start{'s' if starts > 1 else ''}",
        )  # fmt: skip
    ticks = sorted(set(summary["max_iterations"]))
    figure.update_xaxes(title="iterations", type="log", tickvals=ticks, ticktext=ticks)
    figure.update_yaxes(title="members recovered", tickformat=".0%", range=[-0.03, 1.05])
    return figure.update_layout(width=900, height=400, margin_t=30, template="plotly_white")


def network(run: Run) -> str:
    """What a recovery's autoencoder is, with the sizes that the studies vary, and how many images it was trained on."""
    settings = run.config["architecture"]
    varied = ("depth", "width", "channels", "skips", "kernel_size", "bottleneck")
    sizes = {key: settings[key] for key in varied if key in settings}
    told = [f"{key.replace('_', ' ')} {value}".replace(", ", "-") for key, value in sizes.items()]
    return ", ".join([settings["name"], *told, f"{run.config['dataset']['members']} members"])


SCREENS = {"desktop": (1280, 1600, "body"), "phone": (390, 844, "#numbers")}  # and where in the report they begin
COLOURS = ["#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#666666"]
PROBE_LOOKS = [  # none of COLOURS
    ("#000000", "circle"), ("#a6761d", "square"), ("#17becf", "diamond"), ("#8b0000", "triangle-up"),
    ("#8fb000", "cross"), ("#b8a9c9", "star"),
]  # fmt: skip
FIGURES = {
    "methods": heat_map, "noise": curve, "audit": controls, "architectures": ladders, "faces_blind": budgets,
    "blind": heat_map, "faces": heat_map,
}  # fmt: skip


def starts(run: Run) -> int:
    """Those of a recovery: 0, for automatic ones, is one where nothing is started again by default."""
    asked = run.config["recovery"].get("starts", 0)
    parts = METHODS.get(run.config["recovery"]["name"]), OPERATORS.get(run.config["operator"]["name"])  # not controls
    return asked or int(not all(getattr(part, "restarts", False) for part in parts))


def summary_of(study: str, store: Path) -> pd.DataFrame:
    """`summary.summarise` of a study, with the settings and the network of each row."""
    summary = summarise(of_study(load_results(store), study)).drop(columns="seconds")
    runs = [load_run(store / "recoveries" / name) for name in summary["signature"]]
    settings = {name: [run.config[group].get(name, np.nan) for run in runs] for name, (group, _) in SETTINGS.items()}
    settings["starts"] = [starts(run) for run in runs]
    return summary.assign(**settings, network=[network(run) for run in runs])


def with_older(table: pd.DataFrame, file: Path, keys: list[str]) -> pd.DataFrame:
    """`table` as it is written, and the rows of `file`, if there is one, whose `keys` it does not have."""
    if not file.exists():
        return table
    new, old = written(table), file.read_text()
    newer, older = read(new), read(old)
    cells, known = (
        pd.MultiIndex.from_frame(pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)[keys])
        for text in (old, new)
    )
    return pd.concat([older[~cells.isin(known)], newer], ignore_index=True)


def probed(summary: pd.DataFrame, store: Path) -> pd.DataFrame:
    """The attraction of the near-member probes of the audited rows of `summary`, with the `CELL` of each; or empty."""
    probes = attraction_of(finished(store, "probes"))
    if probes.empty:
        return pd.DataFrame(columns=PROBE)
    cells = summary.loc[summary["control"] == "none", [*CELL[:-1], "setup"]].drop_duplicates(["setup", "rung"])
    return cells.merge(probes, on=["setup", "rung"]).drop(columns="setup")


def written(summary: pd.DataFrame) -> str:
    """The text of a table."""
    return summary.to_csv(index=False, float_format="%.6g")


def read(text: str) -> pd.DataFrame:
    """A table from what `written` made of it."""
    names = dict.fromkeys(("signature", "task", "setup"), str)  # hashes may look like numbers, and some are empty
    return pd.read_csv(io.StringIO(text), dtype=names).fillna(dict.fromkeys(names, ""))


def collect(study: str, store: Path, keep: bool) -> None:
    """Write the tables of a study."""
    folder = Path(__file__).parent / study
    summary = summary_of(study, store)
    probes = probed(summary, store)
    if keep:
        summary = with_older(summary, folder / "results.csv", ["dataset", "seed", *CELL])
        probes = with_older(probes, folder / "probes.csv", PROBE)
    keys = ["dataset", "seed", *CELL]
    summary = summary.sort_values(keys, ignore_index=True).drop_duplicates(keys)  # one rung, asked for alone and of all
    (folder / "results.csv").write_text(written(summary))
    if len(probes):
        probes = probes.sort_values(CELL[:-1], kind="stable", ignore_index=True)  # kinds stay in their order
        (folder / "probes.csv").write_text(written(probes))


def draw(study: str) -> None:
    """Draw the figure of a study from its tables."""
    folder = Path(__file__).parent / study
    tables = [path for name in ("results", "probes") if (path := folder / f"{name}.csv").is_file()]
    summary, *rest = (read(path.read_text()) for path in tables)
    figure = FIGURES[study](summary, rest[0] if rest else pd.DataFrame(columns=PROBE))
    still(figure, folder / "figure.png", 1300, 1500, tables)


def photograph(folder: Path, report: Path) -> None:
    """Show what a report, which `memorization-report` wrote, looks like on each of `SCREENS`."""
    with chromium() as browser:
        for name, (width, height, start) in SCREENS.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
            page.goto(report.resolve().as_uri(), timeout=TIMEOUT)
            page.evaluate("builders.forEach((_, plot) => draw(plot))")
            page.wait_for_selector(".js-plotly-plot .main-svg", state="attached", timeout=TIMEOUT)
            page.wait_for_timeout(1000)
            page.locator(start).evaluate("part => part.scrollIntoView({behavior: 'instant'})")
            page.screenshot(path=folder / f"{name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=FIGURES)
    parser.add_argument("store", type=Path, nargs="?")
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    if given.store:
        collect(**vars(given))
    draw(given.study)
    if given.store and given.study == "faces":
        photograph(Path(__file__).parent / "faces", given.store / "report.html")
