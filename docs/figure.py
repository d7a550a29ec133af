"""`python docs/figure.py` draws docs/figure.png, the picture of the front page, from the tables in experiments/."""

from pathlib import Path

import pandas as pd
from plotly.subplots import make_subplots

from memorization.report.browser import still

ROOT = Path(__file__).parents[1]
METHODS = (  # the method, what it knows, its name and its colour
    ("energy", "known", "energy, mask known (ours)", "#b8430f"),
    ("pnp_admm", "known", "pnp_admm, mask known (the paper's)", "#0b62a4"),
    ("pnp_admm", "alternating", "pnp_admm, blind (the paper's)", "#6fa8d6"),
    ("iterate", "none", "iterate (earlier work)", "#7a6a2f"),
)
SETS = (("faces", "50 faces", "#0b62a4"), ("images", "100 photographs", "#b8430f"))

TABLES = [ROOT / f"experiments/{study}/results.csv" for study in ("faces", "extraction")]

recovered, extracted = map(pd.read_csv, TABLES)
recovered = recovered.query("degradation == 'random_pixels' and fraction == 0.8 and control == 'none'")
extracted = extracted.query("control == 'none'")

titles = ("Recovered: PSNR of 50 faces, 80 % of the pixels erased", "Unasked: members that came out of noise")
figure = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.1)


def line(
    table: pd.DataFrame, column: str, name: str, color: str, place: int, factor: float = 1, **more: object
) -> None:
    """A line of `column` against the train loss, with its intervals."""
    table = table.sort_values("train_loss", ascending=False)
    middle, low, high = (factor * table[column + end] for end in ("", "_low", "_high"))
    error = {"type": "data", "symmetric": False, "array": high - middle, "arrayminus": middle - low, "thickness": 1}
    figure.add_scatter(
        x=table["train_loss"], y=middle, name=name, error_y=error, line_color=color, row=1, col=place, **more
    )


for method, operator, name, color in METHODS:
    own = recovered[(recovered["recovery"] == method) & (recovered["operator"] == operator)]
    line(own, "members_median_psnr", name, color, 1, legend="legend")
    dotted = {"line_dash": "dot", "showlegend": method == "energy", "legend": "legend"}
    line(own, "non_members_median_psnr", "dotted: images never seen", color, 1, **dotted)
for dataset, name, color in SETS:
    line(extracted[extracted["dataset"] == dataset], "share", name, color, 2, factor=100, legend="legend2")
figure.add_hline(y=25, line_dash="dash", line_color="#8a929c", line_width=1, row=1, col=1)
figure.update_xaxes(type="log", autorange="reversed", exponentformat="power", dtick=2, title="train loss")
figure.update_yaxes(title="median PSNR on erased pixels (dB)", range=[0, 95], row=1, col=1)
figure.update_yaxes(title="share of the members (%)", range=[-3, 103], row=1, col=2)
boxes = {"x": 0.01, "y": 0.99, "bgcolor": "rgba(255,255,255,0.7)"}
layout = {"template": "plotly_white", "font_size": 13, "margin": {"t": 50, "b": 60, "l": 70, "r": 20}}
figure.update_layout(legend=boxes, legend2={**boxes, "x": 0.57}, **layout)
still(figure, ROOT / "docs/figure.png", 1200, 460, TABLES)
