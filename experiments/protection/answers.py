"""Write `answers.csv`: what comes back of an autoencoder that rounds its answers, or gives few of them.

`python experiments/protection/answers.py STORE` takes the unprotected autoencoders of the study from its store, at the
lowest rung of each. A row is a limit and a seed: the members that `pnp_admm` and `null_space` recover (80 % of the
pixels erased, the mask known) and those that come out unasked. Whoever holds the weights rounds nothing: these are
limits for somebody who only queries. He knows that answers are rounded: the search takes an image for an end that
moves by no more than a level.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from collect import NONE, protection_of
from torch import Tensor, nn

from memorization import extract
from memorization.data import DATASETS, Split, as_float
from memorization.degradations import RandomPixels
from memorization.evaluation.batch import Recipe, recover_batch
from memorization.evaluation.seeds import seed_variation
from memorization.extraction import Search
from memorization.recovery import Known, NullSpace, PnPADMM
from memorization.store.reading import Run, load_run

TABLE = Path(__file__).with_name("answers.csv")
LEVELS = (0, 256, 64, 32, 16, 8, 4)  # that an answer is rounded to; 0: it is not
QUERIES = (3, 10, 30, 100)  # an image of a recovery, the last is the default of both methods
BUDGETS = (1_000, 5_000, 20_000, 50_000)  # queries of an extraction
ASKED = {"pnp_admm": PnPADMM, "null_space": NullSpace}


class Rounded(nn.Module):
    """An autoencoder whose answers are rounded to `levels` values from 0 to 1, as 256 are to 8 bits."""

    def __init__(self, autoencoder: nn.Module, levels: int) -> None:
        super().__init__()
        self.autoencoder, self.steps = autoencoder, levels - 1

    def forward(self, x: Tensor) -> Tensor:
        return (self.autoencoder(x).clamp(0, 1) * self.steps).round() / self.steps


def unprotected(store: Path) -> Iterator[Run]:
    """The autoencoders of the study that were trained without protection."""
    for done in sorted(store.glob("autoencoders/*/done.json")):
        run = load_run(done.parent)
        if run.config["study"] == "protection" and protection_of(run)[0] == NONE:
            yield run


def row_of(model: nn.Module, split: Split, seed: int, queries: int, budget: int) -> dict[str, int]:
    """What comes back within `queries` an image, and a `budget` of an extraction (0: not asked)."""
    members, others = as_float(split.members), as_float(split.non_members)
    row = {"members": len(members), "non_members": len(others)}
    for name, method in ASKED.items() if queries else ():
        recipe = Recipe(RandomPixels(fraction=0.8), method(max_iterations=queries), Known(), seed, starts=1)
        images, numbers = torch.cat([members, others]), split.member_indices + split.non_member_indices
        came = recover_batch(recipe, model, images, numbers, members).scores["recovered"]
        row |= {name: int(came[: len(members)].sum()), f"{name}_non_members": int(came[len(members) :].sum())}
    if budget:
        tolerance = 1 / model.steps if isinstance(model, Rounded) else Search.tolerance
        given = {"members": members, "non_members": others, "spectra": False, "progress": False}
        found = extract(model, split.shape, queries=budget, tolerance=tolerance, seed=seed, **given)
        row |= {"extracted": len(found.extracted), "ends": len(found.table)}
    return row


def rows_of(run: Run) -> Iterator[dict[str, Any]]:
    """A row a limit."""
    settings = {key: value for key, value in run.config["dataset"].items() if key != "name"}
    split = DATASETS[run.config["dataset"]["name"]](**settings).load(run.config["seed"])
    model = run.autoencoder()
    limits = [("levels", levels, QUERIES[-1], BUDGETS[-1]) for levels in LEVELS]
    limits += [("queries", queries, queries, 0) for queries in QUERIES]
    limits += [("budget", budget, 0, budget) for budget in BUDGETS]
    for limit, value, queries, budget in limits:
        asked = Rounded(model, value) if limit == "levels" and value else model
        row = {"limit": limit, "value": value, "seed": run.config["seed"], "rung": min(run.rungs)}
        yield row | row_of(asked, split, run.config["seed"], queries, budget)


def summary_of(table: pd.DataFrame) -> pd.DataFrame:
    """A row a limit: the mean shares over the seeds, each with its interval."""
    rows = []
    for (limit, value), part in table.groupby(["limit", "value"]):
        row: dict[str, Any] = {"limit": limit, "value": value, "seeds": len(part)}
        for name in (*ASKED, "extracted"):
            counts = part[[name, "members"]].dropna()
            if len(counts):
                mean = seed_variation(*counts.to_numpy().T).mean
                interval = "" if len(counts) == 1 else f" ({mean.low * 100:.0f} to {mean.high:.0%})"
                row[name] = f"{mean.value:.0%}{interval}"
            else:
                row[name] = ""
        others = [column for column in part if str(column).endswith("_non_members")]
        rows.append(row | {"non_members": part[others].sum().sum()})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    if sys.argv[1:]:
        made = pd.DataFrame([row for run in unprotected(Path(sys.argv[1])) for row in rows_of(run)])
        made.sort_values(["limit", "value", "seed"], ignore_index=True).to_csv(TABLE, index=False, float_format="%.6g")
    print(summary_of(pd.read_csv(TABLE)).to_string(index=False))
