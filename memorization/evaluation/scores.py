"""The erased PSNR as a score of membership: fit for ranking, and for averaging."""

from __future__ import annotations

import numpy as np
import pandas as pd

from memorization.evaluation.metrics import PSNR_CAP
from memorization.recovery import Status

Columns = dict[str, np.ndarray]  # of the images of one run and rung


def scores(results: pd.DataFrame) -> np.ndarray:
    """(N,) by which members and non-members are told apart: the erased PSNR in dB.

    It is -inf, below all others, for images that diverged and where the PSNR is NaN. An infinite PSNR, of an exact
    answer, stays above all others.
    """
    psnr = results["psnr_erased"].to_numpy(float)
    return np.where((results["status"] == Status.diverged) | np.isnan(psnr), -np.inf, psnr)


def bounded(psnr: np.ndarray, diverged: np.ndarray) -> np.ndarray:
    """PSNRs (dB) that can be subtracted from each other and averaged, from 0 to `PSNR_CAP`, 120.

    Images that diverged, or whose PSNR is NaN, get 0 dB, the least that an answer in [0, 1] can have. An infinite PSNR
    becomes 120 dB, the most that `metrics.psnr` gives.
    """
    return np.where(diverged | np.isnan(psnr), 0.0, np.clip(psnr, 0.0, PSNR_CAP))
