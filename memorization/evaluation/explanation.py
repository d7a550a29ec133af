"""What explains recovery? Images that came back and images that did not, told apart by what is known of each.

One table, an image a row: an outcome, true or false, such as whether a method recovered it; and columns that may
explain it, such as the spectral radius of the image's fixed point. The model is a logistic regression on the
standardised columns, with scikit-learn's penalty (`C=1`), which keeps it finite where a column separates the classes.
Three numbers answer three questions:

- Do the columns explain the outcome at all? The AUC on images that the model was not fitted to (stratified
  cross-validation, repeated), beside what the same procedure gives for shuffled outcomes.
- What does a column add to the others? Its log-odds a standard deviation in the joint model. The penalty shrinks it,
  and correlated columns share it.
- What does a column tell alone? Its AUC, 0.5 for nothing and 0 or 1 for all.

These are associations among a few images of one training, and not causes.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from memorization.architectures.autoencoder import MEMBERS_AT_ONCE, Autoencoder, taken_by
from memorization.components import SettingError
from memorization.data import in_double
from memorization.degradations.checks import check_whole
from memorization.evaluation.statistics import CONFIDENCE, Estimate, auc, columns

FEW = 5  # images of a class below which nothing is fitted: one in each of five folds
MISSING = 0.2  # share of the images without a value from which a column is left out, not the images
CORRELATED = 0.7  # Spearman's correlation from which two columns are noted to share their effect
EVENTS = 10  # images of the smaller class for each column below which joint effects are said to be uncertain

Floats = NDArray[np.float64]


class Explanation(NamedTuple):
    """Both tables have the columns `outcome` and `note`, which says in words what was left out and why.

    score: one row, with the columns `images`, `positives` (images of which the outcome is true), `columns` (how many
    the model uses); `auc` with its interval; `chance`, the mean AUC of shuffled outcomes, and the range (`_low`,
    `_high`) of 95 % of them; `p`, the share of shuffled outcomes that reached `auc`; `log_loss` of the predictions, and
    `log_loss_chance`, that of the share of positives. NaN where nothing was fitted.

    effects: one row a column, with `effect` (log-odds a standard deviation, in the joint model) and `alone` (AUC), each
    with an interval, and `correlated_with`, the other columns whose rank correlation is at least 0.7 in size.
    """

    score: pd.DataFrame
    effects: pd.DataFrame


def explain(
    table: pd.DataFrame,
    outcome: str,
    explaining: Sequence[str],
    *,
    folds: int = 5,
    repeats: int = 4,
    permutations: int = 199,
    resamples: int = 999,
    seed: int = 0,
) -> Explanation:
    """How well the columns `explaining` of `table`, one row an image, tell for which images `outcome` is true.

    Left out, with a note: columns that are absent, constant, or missing (NaN or infinite) in a fifth of the images or
    more; then images in which one of the rest is missing, or `outcome`. Below 5 images of either class nothing is
    fitted.

    The interval of the AUC joins two: that of the mean over `folds * repeats` folds by Student's t with Nadeau and
    Bengio's correction for folds that share images (Machine Learning 52, 2003), and DeLong's of the mean prediction for
    each image. That of an effect joins the percentile interval of `resamples` bootstrap resamples of the images of each
    class, which alone is too narrow for so few images, and the effect minus the range of those that the column has when
    it is shuffled among the images. All are of 95 %. No correction is made for the number of columns.
    """
    for name, value in (("permutations", permutations), ("resamples", resamples)):
        check_whole(name, value, 1)
    check_whole("seed", seed, 0)
    if not 2 <= folds <= FEW:
        raise SettingError("folds", folds, f"give 2 to {FEW}, so that each has an image of either class")
    usable, reasons = _usable(table, explaining)
    columns_given = [outcome, *usable]
    values = table[columns_given].astype(float).replace([np.inf, -np.inf], np.nan).dropna()
    y = values[outcome].to_numpy() > 0.5
    for name in list(usable):
        if values[name].nunique() < 2:
            reasons[name] = "constant where no other column is missing"
            usable.remove(name)
    x = values[usable].to_numpy()
    facts: dict[str, Any] = {"outcome": outcome, "images": len(y), "positives": int(y.sum()), "columns": len(usable)}
    notes = [f"{missing} images left out, in which a value is missing"] if (missing := len(table) - len(y)) else []
    smaller = int(min(y.sum(), (~y).sum()))
    refused = _refused(y, usable)
    if refused:
        score: dict[str, Any] = dict.fromkeys(_SCORE, math.nan)
        notes.append(refused)
    else:
        score = _scored(x, y, folds, repeats, permutations, seed)
        if smaller < EVENTS * len(usable):
            notes.append(
                f"{smaller} images of the smaller class for {len(usable)} columns: joint effects are uncertain"
            )
    found = {} if refused else _effects(x, y, usable, permutations, resamples, seed)
    rows = [
        {"outcome": outcome, "column": name, **found.get(name, dict.fromkeys(_EFFECT, math.nan))}
        | {"correlated_with": _correlated(values, usable, name), "note": reasons.get(name, "")}
        for name in explaining
    ]
    return Explanation(pd.DataFrame([{**facts, **score, "note": "; ".join(notes)}]), pd.DataFrame(rows))


_SCORE = (*columns("auc", 0, 0, 0), *columns("chance", 0, 0, 0), "p", "log_loss", "log_loss_chance")
_EFFECT = (*columns("effect", 0, 0, 0), *columns("alone", 0, 0, 0))


def _usable(table: pd.DataFrame, explaining: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The columns that can be used, and of the others why not."""
    usable, reasons = [], {}
    for name in explaining:
        if name not in table:
            reasons[name] = "left out: there is none"
            continue
        values = table[name].astype(float).replace([np.inf, -np.inf], np.nan)
        missing = float(values.isna().mean()) if len(values) else 1.0
        if missing >= MISSING:
            reasons[name] = f"left out: missing in {missing:.0%} of the images"
        elif values.nunique() < 2:
            reasons[name] = "left out: constant"
        else:
            usable.append(name)
    return usable, reasons


def _refused(y: NDArray[np.bool_], usable: Sequence[str]) -> str:
    """Why nothing can be fitted, or nothing."""
    true, count = int(y.sum()), len(y)
    if true in (0, count):
        return f"nothing to explain: {'all' if true else 'none'} of the {count} images" if count else "no images"
    if min(true, count - true) < FEW:
        return f"too few to fit: {true} of {count} images are true, {count - true} are not; {FEW} of each are needed"
    return "" if usable else "no column varies"


def _model() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def _scored(
    x: Floats, y: NDArray[np.bool_], folds: int, repeats: int, permutations: int, seed: int
) -> dict[str, float]:
    """The columns `_SCORE`."""
    areas, predicted, informed = _crossed(x, y, folds, repeats, seed)
    interval = _interval(areas, predicted, y, folds)
    generator = np.random.default_rng(seed)
    shuffled = [
        float(np.mean(_crossed(x, generator.permutation(y), folds, repeats, seed)[0])) for _ in range(permutations)
    ]
    p = (1 + sum(area >= interval.value for area in shuffled)) / (1 + permutations)
    low, high = np.quantile(shuffled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    chance = columns("chance", float(np.mean(shuffled)), float(low), float(high))
    share = np.full(len(y), y.mean())
    losses = {"log_loss": informed, "log_loss_chance": float(log_loss(y, share))}
    return columns("auc", *interval) | chance | {"p": p} | losses


def _crossed(x: Floats, y: NDArray[np.bool_], folds: int, repeats: int, seed: int) -> tuple[Floats, Floats, float]:
    """The AUC of each fold, the mean prediction for each image by models that had not seen it, and their log loss."""
    areas, predicted, losses = [], np.zeros(len(y)), []
    for repeat in range(repeats):
        own = np.zeros(len(y))
        state = seed + repeat
        if state >= 2**32:  # which scikit-learn does not take
            state = int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])
        for train, test in StratifiedKFold(folds, shuffle=True, random_state=state).split(x, y):
            own[test] = _model().fit(x[train], y[train]).predict_proba(x[test])[:, 1]
            areas.append(float(roc_auc_score(y[test], own[test])))
        predicted += own / repeats
        losses.append(float(log_loss(y, own)))
    return np.array(areas), predicted, float(np.mean(losses))


def _interval(areas: Floats, predicted: Floats, y: NDArray[np.bool_], folds: int) -> Estimate:
    """The mean AUC of the folds with its interval; see `explain`."""
    mean, count = float(areas.mean()), len(areas)
    error = math.sqrt(float(areas.var(ddof=1)) * (1 / count + 1 / (folds - 1)))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    pooled = auc(predicted[y], predicted[~y])
    low, high = min(mean - half, pooled.low, mean), max(mean + half, pooled.high, mean)
    return Estimate(mean, max(0.0, low), min(1.0, high))


def _effects(
    x: Floats, y: NDArray[np.bool_], names: Sequence[str], permutations: int, resamples: int, seed: int
) -> dict[str, dict[str, float]]:
    """The columns `_EFFECT` of each of `names`, which are those of `x`."""
    scaled = StandardScaler().fit_transform(x)
    generator, classes = np.random.default_rng(seed), (np.flatnonzero(y), np.flatnonzero(~y))
    whole = _coefficients(scaled, y)
    drawn = [np.concatenate([generator.choice(rows, len(rows)) for rows in classes]) for _ in range(resamples)]
    bounds = _bounds([_coefficients(scaled[rows], y[rows]) for rows in drawn])
    found = {}
    for i, name in enumerate(names):
        unrelated = []
        for _ in range(permutations):
            shuffled = scaled.copy()
            shuffled[:, i] = generator.permutation(shuffled[:, i])
            unrelated.append(_coefficients(shuffled, y)[[i]])
        lowest, highest = _bounds(unrelated)
        low, high = min(bounds[0][i], whole[i] - highest[0]), max(bounds[1][i], whole[i] - lowest[0])
        found[name] = columns("effect", whole[i], low, high) | columns("alone", *auc(x[y, i], x[~y, i]))
    return found


def _coefficients(x: Floats, y: NDArray[np.bool_]) -> Floats:
    """Those of the model of columns that are standardised already."""
    found: Floats = LogisticRegression(max_iter=1000).fit(x, y).coef_[0]
    return found


def _bounds(values: Sequence[Floats]) -> tuple[Floats, Floats]:
    """The ends of the middle 95 % of some arrays, element by element."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return low, high


def _correlated(values: pd.DataFrame, names: Sequence[str], name: str) -> str:
    """The others of `names` that correlate with `name`, with Spearman's coefficient."""
    if name not in names:
        return ""
    found = {other: values[name].corr(values[other], method="spearman") for other in names if other != name}
    return ", ".join(f"{other} ({value:+.2f})" for other, value in found.items() if abs(value) >= CORRELATED)


def described(autoencoder: Autoencoder, members: Tensor, indices: Sequence[int]) -> pd.DataFrame:
    """What can be told of `members` (N, C, H, W), float in [0, 1] or uint8: one row an image, `image` in `indices` (N).

    `own_loss` is the mean square of `f(x) - x`, in its decimal logarithm; `nearest_member_distance` the rms difference
    to the nearest other member, NaN if there is none; `contrast` the standard deviation of the pixels.
    """
    told, parts = [], members.split(MEMBERS_AT_ONCE)
    for part in parts:
        images = taken_by(autoencoder, part)
        with torch.no_grad():
            loss = in_double(autoencoder(images) - images).flatten(1).square().mean(1)
        flat = in_double(images).flatten(1)
        nearest = torch.full_like(loss, torch.inf)
        for other in parts:
            distances = torch.cdist(flat, in_double(taken_by(autoencoder, other)).flatten(1)) / flat.shape[1] ** 0.5
            if other is part:
                distances.fill_diagonal_(torch.inf)
            nearest = torch.minimum(nearest, distances.min(1).values)
        values = {
            "own_loss": loss.clamp_min(torch.finfo(torch.float64).tiny).log10(),
            "nearest_member_distance": nearest.where(nearest.isfinite(), torch.nan),
            "contrast": flat.std(1, correction=0),
        }
        told.append(pd.DataFrame({name: value.cpu().numpy() for name, value in values.items()}))
    table = pd.concat(told, ignore_index=True)
    table.insert(0, "image", list(indices))
    return table
