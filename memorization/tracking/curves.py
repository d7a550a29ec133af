"""What is logged to Weights & Biases: curves, what they are drawn against, and the gallery."""

import pandas as pd

# What is logged as curves, by the kind of a run, and against what: W&B draws these by themselves.
STEPS = {"train": "train/step", "recover": "train_loss"}
CURVES = {
    "train": ("train/loss", "train/learning_rate"),
    "recover": (
        "members/recovered",
        "members/median_psnr_erased",
        "non_members/recovered",
        "non_members/median_psnr_erased",
        "excess/recovered",
    ),
}
GALLERY = "gallery"  # pictures, one an image; and with its scores a row of the table
GALLERY_TABLE = "gallery_table"


def rung_metrics(row: pd.Series) -> dict[str, float]:
    """What is logged for one rung, from its row of `summary.summarise`: `CURVES`, and what they are drawn against."""
    metrics = {STEPS["recover"]: float(row["train_loss"])}
    for group in ("members", "non_members"):
        metrics[f"{group}/recovered"] = float(row[f"{group}_recovered"])
        metrics[f"{group}/median_psnr_erased"] = float(row[f"{group}_median_psnr"])
    metrics["excess/recovered"] = float(row["excess"])
    return metrics
