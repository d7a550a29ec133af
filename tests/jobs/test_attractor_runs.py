"""Attractors of the command line: a run of its own, shared by the recoveries of an autoencoder, and joined to them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import memorization
from memorization.cli.store import folders
from memorization.data import as_float
from memorization.jobs.attractors import COLUMNS, told
from memorization.store.files import StoreError
from memorization.store.reading import finished
from tests.conftest import experiment_of

SMALL = ["experiment=smoke", "tracking=none", "progress=false", "recovery.max_iterations=5", "gallery=0"]
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*")


def test_they_are_made_once_for_an_autoencoder_and_shared(command, tmp_path):
    store = tmp_path / "runs"
    command(*SMALL, "recovery=iterate")
    without = finished(store)[0].folder.name
    with pytest.raises(StoreError, match="holds no attractors; make them with memorization-recover attractors=true"):
        memorization.load_attractors(store)
    planned = command(*SMALL, "recovery=iterate", "attractors=true", "--plan")[-1]
    assert planned.startswith("missing  iterate")
    assert planned.count("attractors at 1e-01 new") == planned.count("attractors at 1e-02 new") == 1
    said = command(*SMALL, "recovery=iterate", "attractors=true")
    assert [line.split("  ")[:2] for line in said[-3:-1]] == [
        ["done", "attractors at 1e-01"],
        ["done", "attractors at 1e-02"],
    ]
    assert said[-1].startswith("found  iterate")
    assert [run.folder.name for run in finished(store)] == [without]
    assert command(*SMALL, "recovery=iterate", "attractors=true", "--plan")[-1].startswith("found")
    other = command(*SMALL, "recovery=pnp_admm", "degradation=box", "rungs=last", "attractors=true")
    assert [line.split("  ")[:2] for line in other if "attractors" in line] == [["found", "attractors at 1e-02"]]
    assert [kind for kind, _ in folders(store)].count("attractors") == 2

    found = memorization.load_attractors(store)
    assert len(found) == 2 * 20
    autoencoder = finished(store, "autoencoders")[0]
    experiment = experiment_of(autoencoder.config)
    split = experiment.dataset.load(experiment.seed)
    images = torch.cat([as_float(split.members), as_float(split.non_members)])
    expected = memorization.attractors(autoencoder.autoencoder(0.01), images, progress=False).table
    own = found[found["rung"] == 0.01]
    assert own["image"].tolist() == [*split.member_indices, *split.non_member_indices]
    for column, name in COLUMNS.items():
        assert own[name].tolist() == pytest.approx(expected[column].tolist(), nan_ok=True), name

    results = memorization.load_results(store).sample(frac=1, random_state=0).reset_index(drop=True)
    assert not set(COLUMNS.values()) & set(results.columns)
    joined = memorization.with_attractors(results, store)
    assert list(joined.columns) == [*results.columns, *COLUMNS.values()]
    pd.testing.assert_frame_equal(joined[results.columns], results, check_dtype=False, check_categorical=False)
    row, at = joined.iloc[7], found.set_index(["rung", "image"])
    for name in COLUMNS.values():
        np.testing.assert_equal(row[name], at.loc[(row["rung"], row["image"]), name])


class Detached(nn.Module):
    """An autoencoder that gives no derivatives."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x):
        return (x * self.scale).detach()


def test_without_derivatives_they_are_not_applicable_and_the_recovery_is_made(command, tmp_path):
    torch.save(Detached((1, 8, 8)).state_dict(), tmp_path / "own.pt")
    own = [
        "architecture=custom",
        f"architecture.target={__name__}.Detached",
        "architecture.allowed=[tests]",
        "architecture.weights=own.pt",
        "dataset=digits",
        "dataset.members=6",
        "dataset.non_members=5",
        "recovery=iterate",
    ]
    said = command(*own, *SMALL[1:], "attractors=true")
    assert said[-2].startswith("not applicable  attractors: the autoencoder gives no gradients")
    assert said[-1].startswith("done  iterate")
    assert len(finished(tmp_path / "runs")) == 1
    assert not finished(tmp_path / "runs", "attractors")


def test_the_line_counts_the_verdicts_in_a_fixed_order():
    verdicts = ["none", "attracting", "attracting", "repelling", "none"]
    table = pd.DataFrame({"member": [True] * 4 + [False], "attractor": verdicts})
    assert told(table) == "members: 2 attracting, 1 repelling, 1 none; non-members: 1 none"
