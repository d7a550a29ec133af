"""Write `seeds.csv`, what convolutional autoencoders gave back over training seeds: `python .../seeds.py STORE`.

A row an architecture, depth, skips, degradation and rung: the share of the members recovered with the interval of
`memorization.evaluation.seeds.seed_variation`, the least and the most of a seed, and how many non-members were. A rung
that a seed's training did not reach is missing of that seed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from memorization.evaluation.seeds import seed_variation
from memorization.store.reading import finished

CELL = ["architecture", "depth", "skips", "degradation", "fraction", "rung"]

parts = []
for run in finished(Path(sys.argv[1])):
    architecture = run.config["architecture"]
    if run.done["study"] == "architectures" and run.config["control"] == "none":
        told = {name: architecture.get(name, "") for name in ("depth", "skips")}
        parts.append(run.results.assign(**told))
rows = []
for cell, part in pd.concat(parts).groupby(CELL):
    members, others = (part[part["member"] == kind] for kind in (True, False))
    counts = members.groupby("seed")["recovered"].agg(["sum", "count"])
    found, shares = seed_variation(counts["sum"], counts["count"]), counts["sum"] / counts["count"]
    row = dict(zip(CELL, cell, strict=True)) | {"seeds": len(counts), "members": int(counts["count"].sum())}
    row |= {"recovered": found.mean.value, "recovered_low": found.mean.low, "recovered_high": found.mean.high}
    row |= {"least": shares.min(), "most": shares.max(), "psnr": members["psnr_erased"].median()}
    rows.append(row | {"non_members": len(others), "non_members_recovered": int(others["recovered"].sum())})
table = pd.DataFrame(rows).sort_values(CELL, ascending=[True] * 5 + [False], ignore_index=True)
table.to_csv(Path(__file__).with_name("seeds.csv"), index=False, float_format="%.6g")
print(table.to_string())
