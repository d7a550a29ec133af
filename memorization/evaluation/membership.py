"""The erased PSNR as a score of membership, fit for ranking (`scores`) and for averaging (`bounded`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memorization.components import Status

if TYPE_CHECKING:  # a plan, which knows of scores, waits for no table
    import pandas as pd

PSNR_CAP = 120.0  # dB; float32 rounding of an exact answer, so that no score is infinite


def scores(results: pd.DataFrame) -> np.ndarray:
    """(N,) by which members and non-members are told apart: the erased PSNR in dB.

    It is -inf, below all others, for images that diverged and where the PSNR is NaN. An infinite PSNR, of an exact
    answer, stays above all others.
    """
    psnr = results["psnr_erased"].to_numpy(float)
    return np.where((results["status"] == Status.diverged) | np.isnan(psnr), -np.inf, psnr)


def bounded(psnr: np.ndarray, diverged: np.ndarray) -> np.ndarray:
    """PSNRs (dB) that can be subtracted from each other and averaged, from 0 to `PSNR_CAP`, 120.

    Images that diverged, or whose PSNR is NaN, get 0 dB, the least that an answer in [0, 1] can have.
    """
    return np.where(diverged | np.isnan(psnr), 0.0, np.clip(psnr, 0.0, PSNR_CAP))
