"""Write `seeds.csv` of a study, what came back over training seeds: `python experiments/seeds.py STUDY STORE [--last]`.

A row an architecture, method, degradation and rung: the share of the members recovered with the interval of
`memorization.evaluation.seeds.seed_variation`, the least and the most of a seed, the median PSNR on erased pixels, how
many non-members were recovered. With `--last` a row is of the last rung that each seed's training reached, and says the
train loss of the seed with the highest; without, a rung that it did not reach is missing of that seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from memorization.evaluation.seeds import seed_variation
from memorization.store.reading import finished

HERE = Path(__file__).parent
LAST = "last"
TOLD = ["depth", "skips"]  # of an architecture; empty where it has none
CELL = ["dataset", "architecture", *TOLD, "degradation", "fraction", "recovery", "operator", "rung"]


def of_study(store: Path, study: str) -> pd.DataFrame:
    """The results of the audited autoencoders, as `load_results` has them, and what is told of an architecture."""
    parts = []
    for run in finished(store):
        if run.done["study"] == study and run.config.get("control") == "none":
            architecture = run.config["architecture"]
            told = {name: architecture.get(name, "") for name in TOLD}
            parts.append(run.results.assign(**told))
    if not parts:
        raise SystemExit(f"{store} has no recoveries of the study {study}")
    return pd.concat(parts)


def at_the_last_rung(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last rung of each recovery, of which `rung` says just that."""
    last = results.groupby("signature")["rung"].transform("min")
    return results[results["rung"] == last].assign(rung=LAST)


def over_seeds(results: pd.DataFrame) -> pd.DataFrame:
    """The table, of rows as of `of_study`."""
    rows = []
    for cell, part in results.groupby(CELL, observed=True, dropna=False):
        members, others = (part[part["member"] == kind] for kind in (True, False))
        if (members.groupby("seed")["signature"].nunique() > 1).any():
            at = ", ".join(f"{name} {value}" for name, value in zip(CELL, cell, strict=True) if value != "")
            raise SystemExit(f"recoveries that differ in a setting without a column share a row ({at})")
        counts = members.groupby("seed")["recovered"].agg(["sum", "count"])
        found, shares = seed_variation(counts["sum"], counts["count"]), counts["sum"] / counts["count"]
        row = dict(zip(CELL, cell, strict=True)) | {"seeds": found.seeds, "members": int(counts["count"].sum())}
        row |= {"recovered": found.mean.value, "recovered_low": found.mean.low, "recovered_high": found.mean.high}
        row |= {"least": shares.min(), "most": shares.max(), "psnr": members["psnr_erased"].median()}
        row |= {"non_members": len(others), "non_members_recovered": int(others["recovered"].sum())}
        rows.append(row | ({"train_loss": part["train_loss"].max()} if row["rung"] == LAST else {}))
    ascending = [name != "rung" for name in CELL]
    return pd.DataFrame(rows).sort_values(CELL, ascending=ascending, ignore_index=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=sorted(page.parent.name for page in HERE.glob("*/README.md")))
    parser.add_argument("store", type=Path)
    parser.add_argument("--last", action="store_true", help="the last rung that each training reached")
    given = parser.parse_args()
    results = of_study(given.store, given.study)
    table = over_seeds(at_the_last_rung(results) if given.last else results)
    table.to_csv(HERE / given.study / "seeds.csv", index=False, float_format="%.6g")
    print(table.to_string())
