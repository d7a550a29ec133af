"""Write `seeds.csv`, what the extractions of a store found, by seed: `python experiments/extraction/seeds.py STORE`.

Those of `memorization-extract`, without the banks of recoveries. It also prints the mean share over the seeds with its
interval, see `memorization.evaluation.seeds.seed_variation`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from memorization.evaluation.seeds import seed_variation
from memorization.store.reading import finished

rows = []
for run in finished(Path(sys.argv[1]), "extractions"):
    if run.config["spectra"] and run.config["control"] == "none":
        row = {"dataset": run.config["dataset"]["name"], "rung": run.done["rung"], "seed": run.config["seed"]}
        row |= {"members": run.config["dataset"]["members"], "extracted": run.done["figures"]["extracted"]}
        rows.append(row | {"ends": len(run.results), "queries": run.done["figures"]["queries"]})
table = pd.DataFrame(rows).sort_values(["dataset", "rung", "seed"], ignore_index=True)
table.to_csv(Path(__file__).with_name("seeds.csv"), index=False)
print(table.to_string())
for cell, part in table.groupby(["dataset", "rung"]):
    print(*cell, seed_variation(part["extracted"], part["members"]).mean)
