"""`results.csv` of this study: one row a measurement."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

PATH = Path(__file__).with_name("results.csv")
KEYS = ["measure", "runs", "jobs", "members", "images"]
COLUMNS = [*KEYS, "seconds", "processor", "megabytes", "share"]


def read() -> pd.DataFrame:
    """All measurements; what does not apply is NaN."""
    return pd.read_csv(PATH) if PATH.exists() else pd.DataFrame(columns=COLUMNS)


def record(measure: str, **values: float) -> None:
    """Add a measurement, or replace the one of the same `KEYS`."""
    new = pd.DataFrame([{"measure": measure, **values}], columns=COLUMNS)
    table = pd.concat([part for part in (read(), new) if len(part)], ignore_index=True)
    table = table.astype(dict.fromkeys(COLUMNS[1:], float)).drop_duplicates(KEYS, keep="last")
    table.sort_values(KEYS).to_csv(PATH, index=False, float_format="%.4g")


def report(measure: str, **values: float) -> None:
    """Record a measurement and print it."""
    record(measure, **values)
    print(measure, *(f"{name}={value:.4g}" for name, value in values.items()), flush=True)
