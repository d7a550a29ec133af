"""Write `seeds.csv`, the mean over the seeds in a store: `python experiments/faces/seeds.py STORE`.

A row a method, degradation and rung: the share of the members recovered, with the interval of
`memorization.evaluation.seeds.seed_variation`, and how many non-members were.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from memorization import load_results
from memorization.evaluation.seeds import seed_variation

CELL = ["dataset", "degradation", "fraction", "recovery", "operator", "rung"]


def over_seeds(results: pd.DataFrame) -> pd.DataFrame:
    """The table, of rows as of `load_results`."""
    rows = []
    for cell, part in results[results["control"] == "none"].groupby(CELL, observed=True):
        members, others = (part[part["member"] == kind] for kind in (True, False))
        counts = members.groupby("seed")["recovered"].agg(["sum", "count"])
        found = seed_variation(counts["sum"], counts["count"])
        row = dict(zip(CELL, cell, strict=True)) | {"seeds": found.seeds, "members": int(counts["count"].sum())}
        row |= {"recovered": found.mean.value, "recovered_low": found.mean.low, "recovered_high": found.mean.high}
        rows.append(row | {"non_members": len(others), "non_members_recovered": int(others["recovered"].sum())})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    table = over_seeds(load_results(Path(sys.argv[1])))
    table.to_csv(Path(__file__).with_name("seeds.csv"), index=False, float_format="%.6g")
    print(table.to_string())
