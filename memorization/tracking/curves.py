"""What is logged to Weights & Biases: curves, what they are drawn against, and the gallery."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# What is logged of a rung, and the column of `summary.summarise` that it is.
COLUMNS = {
    "members/recovered": "members_recovered",
    "members/median_psnr_erased": "members_median_psnr",
    "non_members/recovered": "non_members_recovered",
    "non_members/median_psnr_erased": "non_members_median_psnr",
    "excess/recovered": "excess",
}
# What is logged as curves, by the kind of a run, and against what: W&B draws these by themselves.
STEPS = {"train": "train/step", "recover": "train_loss", "extract": "extraction/queries"}
OF_EXTRACTION = ("ends", "extracted", "spurious", "ends_total", "members_total")  # columns of its summary
CURVES = {
    "train": ("train/loss", "train/learning_rate"),
    "recover": tuple(COLUMNS),
    "extract": tuple(f"extraction/{name}" for name in OF_EXTRACTION),
}
GALLERY = "gallery"  # pictures, one an image; and with its scores a row of the table
GALLERY_TABLE = "gallery_table"


def search_metrics(figures: dict[str, float]) -> dict[str, float]:
    """What is logged for one round of an extraction, from its summary: `CURVES`, and what they are drawn against."""
    return {f"extraction/{name}": figures[name] for name in ("queries", *OF_EXTRACTION)}


def rung_metrics(row: pd.Series) -> dict[str, float]:
    """What is logged for one rung, from its row of `summary.summarise`: `CURVES`, and what they are drawn against."""
    return {name: float(row[column]) for name, column in {STEPS["recover"]: "train_loss", **COLUMNS}.items()}
