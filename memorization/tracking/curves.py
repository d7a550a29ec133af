"""What is logged to Weights & Biases: curves, what they are drawn against, and galleries."""

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
# What is logged as curves, by the kind of a run, and against what: W&B draws these by themselves. A rung is the train
# loss that was aimed at, the same for all seeds, whose means W&B can draw.
STEPS = {"train": "train/step", "recover": "rung", "extract": "extraction/queries"}
OF_EXTRACTION = ("ends", "extracted", "spurious", "ends_total", "members_total")  # columns of its summary
CURVES = {
    "train": ("train/loss", "train/learning_rate"),
    "recover": tuple(COLUMNS),
    "extract": tuple(f"extraction/{name}" for name in OF_EXTRACTION),
}
# What is logged as pictures, one an image, and as a table of them with their scores.
GALLERIES = {"recover": ("gallery", "gallery_table"), "extract": ("ends", "ends_table")}
# What shows how the seeds differ: the last value of a curve.
LAST = {"recover": "members/recovered", "extract": "extraction/extracted"}


def search_metrics(figures: dict[str, float]) -> dict[str, float]:
    """What is logged for one round of an extraction, from its summary: `CURVES`, and what they are drawn against."""
    return {f"extraction/{name}": figures[name] for name in ("queries", *OF_EXTRACTION)}


def rung_metrics(row: pd.Series) -> dict[str, float]:
    """What is logged for one rung, from its row of `summary.summarise`: `CURVES`, and what they are drawn against."""
    return {
        name: float(row[column]) for name, column in {"rung": "rung", "train_loss": "train_loss", **COLUMNS}.items()
    }


def captions_of_answers(scores: pd.DataFrame) -> list[str]:
    """What stands below each picture of a recovery's gallery, from the rows of its images."""
    return [
        f"{'member' if row['member'] else 'non-member'} {row['image']}: {row['psnr_erased']:.1f} dB on erased pixels, "
        f"{'recovered' if row['recovered'] else 'not recovered'}"
        for row in scores.to_dict("records")
    ]


def captions_of_ends(table: pd.DataFrame) -> list[str]:
    """What stands below each picture of an extraction's gallery, from the rows of `ends_table`."""
    return [
        f"end {row['end']}, hits {row['hits']}: "
        + (f"{row['psnr']:.1f} dB from member {row['image']}" if row["image"] >= 0 else "no member to compare with")
        + (", extracted" if row["is_member"] else "")
        for row in table.to_dict("records")
    ]
