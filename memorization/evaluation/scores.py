"""What images are told apart by: their erased PSNR, made fit for ranking and for averaging."""

from __future__ import annotations

import numpy as np
import pandas as pd

from memorization.evaluation.metrics import PSNR_CAP

Columns = dict[str, np.ndarray]  # of the images of one run and rung


def scores(results: pd.DataFrame) -> np.ndarray:
    """(N,) by which members and non-members are told apart: the erased PSNR in dB.

    -inf, below all others, for images that diverged and where the PSNR is NaN. An infinite one, of an exact answer,
    stays above all others.
    """
    psnr = results["psnr_erased"].to_numpy(float)
    return np.where((results["status"] == "diverged") | np.isnan(psnr), -np.inf, psnr)


def bounded(psnr: np.ndarray, diverged: np.ndarray) -> np.ndarray:
    """PSNRs (dB) that can be subtracted from each other and averaged, within 0 and `PSNR_CAP`, 120.

    0, that of an answer in [0, 1] that is as wrong as can be, for images that diverged and where the PSNR is NaN; 120,
    the most that `scores.psnr` gives, where it is infinite.
    """
    return np.where(diverged | np.isnan(psnr), 0.0, np.clip(psnr, 0.0, PSNR_CAP))
