"""Membership inference of the command line: references are trainings of the store, and what they say a run beside."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import memorization
from memorization.cli.store import folders
from memorization.components import SettingError
from memorization.config.experiment import Recovering
from memorization.data import as_float, mean_image
from memorization.degradations import RandomPixels
from memorization.evaluation.batch import Recipe
from memorization.evaluation.halves import halves
from memorization.evaluation.lira import likelihood_ratio
from memorization.recovery import Known, PnPADMM
from memorization.report.command import summary
from memorization.report.findings import Findings
from memorization.report.page import build
from memorization.store import files
from memorization.store.files import StoreError
from memorization.store.reading import finished
from tests.conftest import experiment_of

SMALL = ["experiment=smoke", "tracking=none", "progress=false", "recovery=pnp_admm", "recovery.max_iterations=5"]
SMALL += ["gallery=0", "rungs=last", "training.ladder=[1e-1,5e-2]", "training.target_loss=5e-2"]
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*")


def trained(lines):
    return [line for line in lines if line.startswith("training ")]


def test_references_are_trained_once_on_their_halves_and_score_every_image(command, tmp_path):
    store = tmp_path / "runs"
    command(*SMALL)
    (recovery,), (target,) = finished(store), finished(store, "autoencoders")
    with pytest.raises(StoreError, match="no membership inference; make one with memorization-recover references=16"):
        memorization.load_lira(store)
    planned = command(*SMALL, "references=4", "--plan")[-1]
    assert planned.startswith("missing  pnp_admm")
    assert "membership inference with 4 references: new" in planned
    assert all(f"reference {number} autoencoder new" in planned for number in range(4))
    said = command(*SMALL, "references=4")
    assert len(trained(said)) == 4
    assert any("10 images of reference 0, each 1x8x8; " in line for line in said)
    assert [line.split("  ")[0] for line in said if "membership inference" in line] == ["done"]
    assert "    10 non-members resolve a false positive rate of 10 % and none below (0.1 % takes 1,000)." in said[-2]
    assert [run.folder.name for run in finished(store)] == [recovery.folder.name]
    planned = command(*SMALL, "references=4", "--plan")[-1]
    assert planned.startswith("found")
    assert " new " not in planned
    assert trained(command(*SMALL, "references=4")) == []
    assert len(trained(command(*SMALL, "references=6"))) == 2  # those of before are among them

    experiment = experiment_of(target.config)
    split = experiment.dataset.load(experiment.seed)
    images, inside = torch.cat([split.members, split.non_members]), halves(20, 6, seed=0)
    runs = {run.done["name"]: run for run in finished(store, "autoencoders")}
    weights = []
    for number, row in enumerate(inside):
        model = runs[f"fc on digits, reference {number}"].autoencoder()
        assert torch.equal(model.mean, mean_image(images[torch.from_numpy(row)]))
        weights.append(next(model.network.parameters()))
    first = next(target.autoencoder().network.parameters())
    corr = np.corrcoef([each.flatten().numpy() for each in (first, *weights)])
    assert abs(corr - np.eye(7)).max() < 0.2  # first weights of its own

    scored = {int(run.results["number"].iloc[0]): run.results for run in finished(store, "references")}
    assert [*sorted(scored)] == [0, 1, 2, 3, 4, 5]
    assert all(scored[number]["inside"].tolist() == row.tolist() for number, row in enumerate(inside))
    found = memorization.load_lira(store)
    assert found.groupby("references").size().tolist() == [20, 20]
    own = found[found["references"] == 6]
    assert own["image"].tolist() == [*split.member_indices, *split.non_member_indices]
    assert own["psnr_erased"].to_numpy() == pytest.approx(recovery.results["psnr_erased"].clip(0, 120))
    reconstructed = target.autoencoder()(as_float(images))
    losses = (reconstructed - as_float(images)).double().square().flatten(1).mean(1)
    assert own["own_psnr"].to_numpy() == pytest.approx((-10 * losses.log10()).numpy(), rel=1e-5)
    for score, column in (("psnr_erased", "lira"), ("own_psnr", "lira_loss")):
        references = np.stack([scored[number][score] for number in range(6)])
        for variant, ending in (("gaussian", ""), ("kernel", "_kernel"), ("offline", "_offline"), ("rank", "_rank")):
            expected = likelihood_ratio(own[score], references, inside, variant)
            assert own[column + ending].to_numpy() == pytest.approx(expected)
    joined = memorization.load_results(store).merge(own, on=["setup", "rung", "image"], validate="1:1")
    assert len(joined) == 20
    assert {kind for kind, _ in folders(store)} == {"autoencoders", "recoveries", "references", "lira"}

    findings = Findings.load(store)
    (inference,) = findings.inferences
    assert inference.references == 6  # of several, that with the most
    assert inference.summary["attack"].tolist() == ["own_psnr", "psnr_erased", "lira_loss", "lira"]
    assert "train loss 5e-02; 6 references" in " ".join(summary(findings).split())
    page = build(findings)
    assert page.count("6 references</th>") == 1
    assert f"{inference.summary['auc'].iloc[2]:.3f}" in page


def test_finished_runs_of_a_store_that_cannot_be_written_to_are_found(command, unwritable, capsys):
    words = [*SMALL, "references=4", "attractors=true", "probes=2"]
    made = command(*words)
    unwritable()
    again = command(*words)
    lines = [line for line in made if line.startswith("done")]
    assert [line.split("  ")[1].split(" ")[0] for line in lines] == ["probes", "attractors", "membership", "pnp_admm"]
    assert [line.split("  ")[:2] for line in again if line.startswith("found")] == [
        ["found", line.split("  ")[1]] for line in lines
    ]
    with pytest.raises(SystemExit):
        command(*SMALL, "degradation=box")
    assert "error: store=runs: cannot write there (Permission denied)" in capsys.readouterr().err


def test_when_a_reference_is_made_anew_what_all_say_is_too(command, tmp_path):
    store = tmp_path / "runs"
    command(*SMALL, "references=4")
    before = memorization.load_lira(store)
    changed = finished(store, "references")[0]
    table, done = changed.results.assign(psnr_erased=changed.results["psnr_erased"] + 1), changed.done
    files.write_table(changed.folder / "results.parquet", table)
    (changed.folder / "done.json").unlink()
    files.seal(changed.folder, {key: value for key, value in done.items() if key != "checksums"})
    said = command(*SMALL, "references=4")
    assert [line.split("  ")[0] for line in said if "membership inference" in line] == ["done"]
    after = memorization.load_lira(store)
    pd.testing.assert_series_equal(after["lira_loss"], before["lira_loss"])
    assert (after["lira"] != before["lira"]).all()


def test_references_that_cannot_be_had_are_refused_before_anything_is_made(command, tmp_path, capsys):
    def refused(*arguments):
        with pytest.raises(SystemExit):
            command(*arguments)
        return capsys.readouterr().err

    assert "references is 5; each image is in half of them" in refused(*SMALL, "references=5")
    given = ["architecture=custom", "architecture.target=torch.nn.Identity", "architecture.trained=true"]
    images = ["dataset=digits", "dataset.members=5", "dataset.non_members=5", "tracking=none", "progress=false"]
    said = refused("references=4", *given, *images)
    assert "references is 4; the weights are given, so there is nothing to train references by" in said
    assert not (tmp_path / "runs" / "recoveries").exists()


def test_a_control_has_no_references(command, tmp_path):
    said = command(*SMALL, "references=4", "control=untrained")
    assert trained(said) == []
    assert not finished(tmp_path / "runs", "lira")


def test_a_rung_that_a_reference_did_not_reach_is_named(command, tmp_path, capsys, monkeypatch):
    from memorization.jobs.training import TrainingJob

    command(*SMALL)
    monkeypatch.setattr(
        TrainingJob, "images", lambda self, split: torch.rand(300, *split.shape).round()
    )  # hard to learn
    with pytest.raises(SystemExit):
        command(*SMALL, "references=4", "training.max_steps=300")
    said = capsys.readouterr().err
    assert "references: the training of reference 0 did not reach 0.05, as it ended at a loss of" in said
    assert "raise training.max_steps, or name higher rungs=[...]" in said


def test_references_and_a_sample_are_not_asked_for_together():
    recipe = Recipe(RandomPixels(0.5), PnPADMM(), Known())
    with pytest.raises(SettingError, match=r"^sample is 4; references are asked about all images"):
        Recovering(recipe, references=4, sample=4)
