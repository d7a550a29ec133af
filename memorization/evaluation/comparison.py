"""Two methods on the same members: is one better?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from memorization.components import Status
from memorization.evaluation.membership import bounded
from memorization.evaluation.statistics import columns, mcnemar, paired_difference


class MemberScores(NamedTuple):
    """Of the members of one run and rung, by their numbers in the data set: who came back, and the erased PSNR (dB).

    The PSNR is `bounded`, within 0 and 120 dB.
    """

    image: np.ndarray
    recovered: np.ndarray
    psnr_erased: np.ndarray

    @classmethod
    def of(cls, results: pd.DataFrame) -> MemberScores:
        """From the results of one run and rung."""
        members = results[results["member"].to_numpy(bool)].sort_values("image", kind="stable")
        psnr = bounded(members["psnr_erased"].to_numpy(float), (members["status"] == Status.diverged).to_numpy())
        return cls(members["image"].to_numpy(), members["recovered"].eq(True).to_numpy(), psnr)


def compare(first: MemberScores, second: MemberScores) -> dict[str, float]:
    """Two methods on the same members: is one better?

    `recovered_difference` with the p-value of McNemar's exact test, and the mean difference of the erased PSNR in dB
    (each within 0 and 120 dB, see `bounded`) with the interval (NaN for a single member) and p-value of
    `statistics.paired_difference`; positive where `first` is better. Raises `ValueError` for other members, or none.
    """
    if not len(first.image):
        raise ValueError("the tables hold no members; a paired comparison needs some")
    if not np.array_equal(first.image, second.image):
        raise ValueError("the two tables hold different members; a paired comparison needs the same images in both")
    mean, p = paired_difference(first.psnr_erased, second.psnr_erased)
    return {
        "members": len(first.image),
        "recovered_difference": float(first.recovered.mean() - second.recovered.mean()),
        "recovered_p": mcnemar(first.recovered, second.recovered),
        **columns("psnr_difference", *mean),
        "psnr_p": p,
    }
