"""Write `seeds.csv`, extractions that were made with several seeds: `python experiments/extraction/seeds.py STORE`.

Those of `memorization-extract` in the store, without the banks of recoveries, and those of this folder's tables that
the store lacks. It also prints the mean share over the seeds with its interval, see
`memorization.evaluation.seeds.seed_variation`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from memorization.evaluation.seeds import seed_variation
from memorization.store.reading import finished

HERE = Path(__file__).parent
CELL, FIGURES = ["dataset", "rung"], ["members", "extracted", "ends", "queries"]

rows = []
for run in finished(Path(sys.argv[1]), "extractions"):
    if run.config["spectra"] and run.config["control"] == "none":
        row = {"dataset": run.config["dataset"]["name"], "rung": run.done["rung"], "seed": run.config["seed"]}
        row |= {"members": run.config["dataset"]["members"], "extracted": run.done["figures"]["extracted"]}
        rows.append(row | {"ends": len(run.results), "queries": run.done["figures"]["queries"]})
single = pd.read_csv(HERE / "results.csv").query("control == 'none'")
kept = pd.concat([pd.read_csv(HERE / "seeds.csv"), single])[[*CELL, "seed", *FIGURES]]
table = pd.concat([pd.DataFrame(rows, columns=kept.columns).astype(kept.dtypes), kept])
table = table.drop_duplicates([*CELL, "seed"]).sort_values([*CELL, "seed"], ignore_index=True)
table = table[table.groupby(CELL)["seed"].transform("size") > 1]
table.to_csv(HERE / "seeds.csv", index=False)
print(table.to_string())
for cell, part in table.groupby(CELL):
    print(*cell, seed_variation(part["extracted"], part["members"]).mean)
