"""Write `ending.csv`: what it changes that `energy` ends images: `python experiments/benchmark/ending.py STORE...`.

A row a data set, degradation, knowledge of the operator and rung, over the seeds: members recovered with and without
(`recovery.ending=true,false`), those that only one of the two recovers, the median PSNR of the members, and the mean
passes through the autoencoder of members and of non-members.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from memorization import load_run
from memorization.store.reading import finished

CELL = ["dataset", "degradation", "fraction", "operator", "rung"]
IMAGE = [*CELL, "seed", "member", "image"]


def images(stores: list[Path]) -> pd.DataFrame:
    """A row an image, rung and run of the study, with `ending` as its configuration has it."""
    runs = [run for store in stores for run in finished(store) if run.config["study"] == "ending"]
    return pd.concat([load_run(run.folder).results.assign(ending=run.config["recovery"]["ending"]) for run in runs])


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """The table."""
    early, whole = (rows[rows["ending"] == ending] for ending in (True, False))
    both = early.merge(whole, on=IMAGE, suffixes=("_early", "_whole"))
    table = []
    for cell, part in both.groupby(CELL, observed=True):
        members, others = part[part["member"]], part[~part["member"]]
        row = dict(zip(CELL, cell, strict=True)) | {"seeds": part["seed"].nunique(), "members": len(members)}
        for name in ("early", "whole"):
            row[f"recovered_{name}"] = int(members[f"recovered_{name}"].sum())
        for one, other in (("early", "whole"), ("whole", "early")):
            row[f"only_{one}"] = int((members[f"recovered_{one}"] & ~members[f"recovered_{other}"]).sum())
        for name in ("early", "whole"):
            row[f"median_psnr_{name}"] = members[f"psnr_{name}"].median()
        for kind, group in (("members", members), ("non_members", others)):
            for name in ("early", "whole"):
                row[f"passes_{kind}_{name}"] = group[f"queries_{name}"].mean()
        row["non_members_recovered_early"] = int(others["recovered_early"].sum())
        table.append(row)
    return pd.DataFrame(table)


if __name__ == "__main__":
    table = compared(images([Path(store) for store in sys.argv[1:]]))
    table.to_csv(Path(__file__).with_name("ending.csv"), index=False, float_format="%.5g")
    print(table.to_string())
