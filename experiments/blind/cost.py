"""What restarts cost where one start is enough: `python experiments/blind/cost.py STORE` writes `costs.csv`.

A row a cell of the study `blind` that was recovered with one start and with as many as it takes. `ratio`: of the mean
queries an image, over the members that one start brings back.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from memorization import load_results, load_run

CELL = ["dataset", "seed", "degradation", "fraction", "fill", "noise", "rung"]


def costs(store: Path) -> pd.DataFrame:
    """The table."""
    results = load_results(store)
    blind = (results["study"] == "blind") & (results["operator"] == "robust") & (results["control"] == "none")
    members = results[blind & results["member"]]
    signatures = members["signature"].astype(str)
    starts = {name: load_run(store / "recoveries" / name).config["recovery"]["starts"] for name in set(signatures)}
    members = members.assign(starts=signatures.map(starts))
    rows = []
    for cell, part in members.groupby(CELL, observed=True, dropna=False):
        queries = part.pivot(index="image", columns="starts", values="queries")
        if not {0, 1} <= {*queries}:
            continue
        one = part[part["starts"] == 1].set_index("image")["recovered"]
        mean = queries.loc[one.index[one]].mean()
        row = {"members": len(one), "recovered_from_one_start": int(one.sum())}
        row |= {"recovered": int(part[part["starts"] == 0]["recovered"].sum())}
        row |= {"queries_of_one_start": mean[1], "queries": mean[0], "ratio": mean[0] / mean[1]}
        rows.append(dict(zip(CELL, cell, strict=True)) | row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    table = costs(Path(sys.argv[1]))
    table.to_csv(Path(__file__).with_name("costs.csv"), index=False, float_format="%.6g")
    print(table.to_string())
