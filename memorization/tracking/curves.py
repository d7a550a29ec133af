"""What is logged to Weights & Biases: curves, what they are drawn against, and the gallery."""

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
STEPS = {"train": "train/step", "recover": "train_loss"}
CURVES = {"train": ("train/loss", "train/learning_rate"), "recover": tuple(COLUMNS)}
GALLERY = "gallery"  # pictures, one an image; and with its scores a row of the table
GALLERY_TABLE = "gallery_table"


def rung_metrics(row: pd.Series) -> dict[str, float]:
    """What is logged for one rung, from its row of `summary.summarise`: `CURVES`, and what they are drawn against."""
    return {name: float(row[column]) for name, column in {STEPS["recover"]: "train_loss", **COLUMNS}.items()}
