"""Are the results of two stores the same, to the last bit? Run it before and after a change that should move no number.

    python experiments/compare.py STORE OTHER

Runs are matched by their configurations. Every column that both have is compared but `seconds`, which is a clock, and
the signatures. `ssim` may be let move: `--but ssim` says by how much it does. Exits with 1 if anything else differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from memorization.store.reading import Run, finished

IDENTITIES = ("signature", "task", "setup")
# What changes no number.
WHERE = ("store", "tracking", "progress", "study", "checkpoint_seconds", "plan", "gallery", "attractors")


def key(run: Run) -> str:
    """The configuration of a run, as far as it can change a number."""
    return json.dumps({name: value for name, value in run.config.items() if name not in WHERE}, sort_keys=True)


def differences(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, float]:
    """The columns that differ, each with the largest difference; NaN of what is not numbers, or of another length."""
    if len(one) != len(other):
        return {"rows": np.nan}
    found = {}
    for name in one.columns.intersection(other.columns).drop([*IDENTITIES, "seconds"], errors="ignore"):
        a, b = one[name].to_numpy(), other[name].to_numpy()
        if not pd.Series(a).equals(pd.Series(b)):
            numbers = np.issubdtype(a.dtype, np.number) and np.issubdtype(b.dtype, np.number)
            found[str(name)] = float(np.nanmax(np.abs(a.astype(float) - b.astype(float)))) if numbers else np.nan
    return found


def main() -> None:
    """Compare the recoveries of two stores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--but", nargs="*", default=[], metavar="COLUMN", help="columns that may move")
    options = parser.parse_args()
    one, other = ({key(run): run for run in finished(store)} for store in (options.store, options.other))
    alone = len(one.keys() ^ other.keys())
    moved: dict[str, float] = {}
    wrong = 0
    for name in one.keys() & other.keys():
        for column, size in differences(one[name].results, other[name].results).items():
            moved[column] = np.fmax(moved.get(column, 0.0), size)
            if column not in options.but:
                wrong += 1
                print(f"{one[name].folder} and {other[name].folder}: {column} differs by {size:.3g}")
    print(f"{len(one.keys() & other.keys())} runs compared, {alone} in one store only")
    print("; ".join(f"{column} moved by at most {size:.3g}" for column, size in moved.items()) or "no column moved")
    sys.exit(bool(wrong or alone))


if __name__ == "__main__":
    main()
