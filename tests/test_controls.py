"""Controls: what each one answers, and the verdict on an autoencoder that does or does not beat them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from memorization import audit, load_results, load_run
from memorization.architectures import Centred, FullyConnected
from memorization.degradations import Blur, Box, Chain, Downsample, RandomPixels
from memorization.evaluation.controls import CONTROLS, inpaintable, untrained
from memorization.evaluation.statistics import auc
from memorization.evaluation.summary import summarise
from memorization.jobs.identity import Identity
from memorization.recovery import Iterate, solve
from memorization.recovery.methods.nearest_member import NearestMember
from memorization.report import Findings, headline
from memorization.store.files import StoreError
from memorization.store.reading import finished
from memorization.store.signature import signature_of
from tests import problems
from tests.conftest import experiment_of, run_script
from tests.test_audit import results

MEMBERS, OTHERS = problems.images(12, 1, torch.float32), problems.images(12, 2, torch.float32)
MEMORY, REFERENCE = problems.nearest(MEMBERS), problems.nearest(OTHERS)


@pytest.mark.parametrize("degradation", [RandomPixels(0.9, fill="random", noise=0.1), Blur(1.0), Downsample(4)])
def test_the_nearest_member_is_found_through_any_operator(degradation):
    measured = degradation(MEMBERS[[3, 7]], [1, 2])
    answers = solve(lambda x: x, measured, NearestMember(MEMBERS)).images
    assert torch.equal(answers, MEMBERS[[3, 7]])


def test_an_untrained_copy_has_new_weights_from_the_seed_alone_and_no_mean():
    model = Centred(FullyConnected((1, 8, 8), depth=3, width=16), MEMBERS.mean(0))
    before, state = torch.nn.utils.parameters_to_vector(model.parameters()).clone(), torch.random.get_rng_state()
    copies = [torch.nn.utils.parameters_to_vector(untrained(model, seed).parameters()) for seed in (0, 0, 1)]
    assert torch.equal(copies[0], copies[1])
    assert not torch.isclose(copies[0], copies[2]).any()
    assert torch.equal(before, torch.nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(state, torch.random.get_rng_state())
    assert (untrained(model).mean == 0.5).all()
    assert torch.equal(model.mean, MEMBERS.mean(0))


def test_what_cannot_be_drawn_anew_has_no_untrained_copy():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

    assert untrained(lambda x: x) is None
    assert untrained(nn.Identity()) is None
    assert untrained(nn.Sequential(nn.Linear(4, 4), Scale())) is None


def test_inpainting_is_for_erasures():
    assert inpaintable(Box())
    assert not inpaintable(Blur())
    assert not inpaintable(Chain(Blur(), Box()))
    assert inpaintable(Chain(Box(), RandomPixels()))


def test_a_memory_beats_its_controls():
    found = audit(MEMORY, MEMBERS, OTHERS, RandomPixels(0.3), Iterate(), controls=True, reference=REFERENCE)
    table = found.summary().set_index("control")
    assert table.index.tolist() == ["none", "inpaint", "nearest", "reference"]
    assert table.loc["none", "verdict"] == "beats its controls"
    assert table.loc["none", "controls"].split(", ") == [
        "untrained not applicable (its parameters cannot be drawn anew)",
        "inpaint 0%",
        "reference 0%",
        "nearest 100% (ceiling)",
    ]
    assert table["members_recovered"].tolist() == [1, 0, 1, 0]
    assert table.loc["reference", "non_members_recovered"] == 1
    assert table.loc["none", "verdict_p"] == pytest.approx(2**-12)  # McNemar's, 12 members to none
    assert table.loc["none", "calibrated_median_low"] > 50
    assert table.loc["none", "calibrated_auc"] == 1
    assert table.loc[["inpaint", "nearest", "reference"], "verdict"].tolist() == ["", "", ""]


@pytest.mark.parametrize("degradation", [RandomPixels(0.3), Blur(0.7)])
def test_what_holds_nothing_is_unremarkable(degradation):
    model = FullyConnected((1, 8, 8), depth=2, width=16)
    found = audit(model, MEMBERS, OTHERS, degradation, controls=True, threshold_db=10).summary()
    row = found.iloc[0]
    assert row["verdict"] == "unremarkable"
    assert ("inpaint not applicable" in row["controls"]) == isinstance(degradation, Blur)
    assert ("inpaint" in found["control"].tolist()) == isinstance(degradation, RandomPixels)
    assert "reference not given" in row["controls"]
    assert set(found["control"]) <= {"none", *CONTROLS}


def test_the_untrained_control_is_at_chance():
    """The same architecture with fresh weights: members and non-members are not told apart."""
    members, others = problems.images(40, 3, torch.float32), problems.images(40, 4, torch.float32)
    model = Centred(FullyConnected((1, 8, 8), depth=3, width=64), members.mean(0))
    found = audit(model, members, others, controls=True).summary().set_index("control").loc["untrained"]
    assert found["auc_low"] < 0.5 < found["auc_high"]
    assert found["members_recovered"] == found["non_members_recovered"] == 0


def test_without_controls_there_is_no_verdict():
    row = audit(MEMORY, MEMBERS, OTHERS, RandomPixels(0.6)).summary().iloc[0]
    assert (row["control"], row["verdict"], row["controls"]) == ("none", "", "")


def test_a_general_prior_is_unremarkable_beside_its_reference():
    """Recovers members and non-members alike, as its reference does: it beats an untrained one, and is no memory."""
    member = np.arange(40) < 20
    own = results(np.full(40, 50.0), member, task="t", setup="s", control="none")
    tables = [own, own.assign(control="reference"), own.assign(control="untrained", recovered=False, rung=np.nan)]
    row = summarise(pd.concat(tables)).iloc[0]
    assert row["verdict"] == "unremarkable"
    assert row["controls"] == "untrained 0%, inpaint not run, reference 100%, nearest not run"


def test_controls_belong_to_their_task_setup_and_rung():
    member = np.arange(40) < 20
    held = results(np.where(member, 50.0, 10.0), member, task="t", setup="s", control="none")
    lost = held.assign(recovered=False, psnr_erased=10.0)
    tables = [
        held,
        lost.assign(control="reference", rung=1e-8, signature="r"),
        lost.assign(control="inpaint", setup="", rung=np.nan, signature="i").sample(frac=1, random_state=0),
        held.assign(control="untrained", setup="another", rung=np.nan, signature="u"),
        held.assign(control="inpaint", task="another", setup="", rung=np.nan, signature="j"),
        held.assign(control="reference", rung=1e-2, signature="r"),
    ]
    row = summarise(pd.concat(tables)).iloc[0]
    assert row["controls"] == "untrained not run, inpaint 0%, reference 0%, nearest not run"
    assert row["verdict"] == "beats those of its controls that were run"
    assert row["verdict_p"] == pytest.approx(max(2**-20, stats.fisher_exact([[20, 0], [0, 20]], "greater").pvalue))


def test_a_reference_that_did_not_get_as_far_is_asked_at_its_nearest_rung():
    member = np.arange(40) < 20
    held = results(np.where(member, 50.0, 10.0), member, task="t", setup="s", control="none").assign(rung=1e-8)
    lost = held.assign(recovered=False, psnr_erased=10.0, control="reference", signature="r")
    row = summarise(pd.concat([held, lost.assign(rung=1e-7), held.assign(control="reference", rung=1e-2)])).iloc[0]
    assert row["controls"] == "untrained not run, inpaint not run, reference 0% (at 1e-07), nearest not run"
    assert row["calibrated_median"] == 40


def test_the_score_is_calibrated_image_by_image():
    generator = np.random.default_rng(0)
    member, hardness = np.arange(80) < 40, generator.normal(0, 5, 80)  # dB
    own = results(20 + hardness + 3 * member, member, task="t", setup="s", control="none")
    reference = own.assign(psnr_erased=20 + hardness + generator.normal(0, 1, 80), control="reference")
    row = summarise(pd.concat([own, reference])).iloc[0]
    assert row["calibrated_median_low"] < 3 < row["calibrated_median_high"]
    difference = (own["psnr_erased"] - reference["psnr_erased"]).to_numpy()
    assert row["calibrated_auc"] == auc(difference[member], difference[~member]).value > 0.95 > row["auc"]


def test_a_reference_must_be_another():
    with pytest.raises(ValueError, match="reference is the autoencoder itself; give one that was trained without"):
        audit(MEMORY, MEMBERS, OTHERS, reference=MEMORY)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two methods and their controls, and one without controls on another degradation."""
    folder = tmp_path_factory.mktemp("controls")
    common = ["experiment=smoke", "tracking=none", "progress=false", "recovery.max_iterations=20"]
    for arguments in (["-m", "recovery=energy,iterate", "degradation=box", "controls=true"],
                      ["recovery=energy", "degradation=blur", "control=nearest"]):  # fmt: skip
        ended = run_script("recover", *arguments, *common, cwd=folder)
        assert ended.returncode == 0, ended.stderr
    return folder / "runs"


def test_each_control_is_a_run_of_its_own_and_one_without_an_autoencoder_is_made_once(store):
    names = load_results(store).groupby("signature")["control"].first().tolist()
    assert sorted(names) == sorted(
        ["none", "untrained", "reference"] * 2 + ["inpaint", "nearest"] + ["nearest"]  # the last under blur
    )
    assert len(finished(store, "autoencoders")) == 2


def test_controls_do_not_change_the_signature_of_the_run_they_belong_to(store):
    (run,) = [r for r in finished(store) if r.config["control"] == "none" and r.config["recovery"]["name"] == "energy"]
    identity = Identity.of(experiment_of(run.config))
    assert "control" not in identity.record
    assert signature_of(identity.record) == run.folder.name
    assert (run.results["task"] == identity.task).all()
    assert (run.results["setup"] == identity.setup).all()


def test_the_reference_is_trained_on_the_non_members(store):
    table = load_results(store)
    losses = {}
    for run in finished(store, "autoencoders"):
        split = load_split(run)
        f = run.autoencoder()
        losses[run.done["signature"]] = [float((f(x) - x).square().mean()) for x in (split.members, split.non_members)]
    for control, first, second in (("none", 0, 1), ("reference", 1, 0)):
        signature = table[table["control"] == control]["signature"].iloc[0]
        loss = losses[load_run(store / "recoveries" / signature).done["autoencoder"]]
        assert loss[first] < 0.5 * loss[second]


def load_split(run):
    experiment = experiment_of(run.config)
    return experiment.dataset.load(experiment.seed)


def test_the_table_shows_the_verdict_below_each_method(store):
    findings = Findings.load(store)
    assert {cell.recovery for cell in findings.cells} == {"energy", "iterate"}
    assert all(set(cell.controls) == set(CONTROLS) for cell in findings.cells)
    table = headline(findings)
    assert table.count("unremarkable (p = ") == 2
    assert table.count("members by controls: untrained 0%, inpaint 0%, reference 0%, nearest 100% (ceiling)") == 2
    assert "Unremarkable: not more members came back than non-members" in table
    assert max(map(len, table.splitlines())) <= 120


def test_a_control_without_an_autoencoder_says_so(store):
    (run,) = [run for run in finished(store) if run.config["control"] == "untrained"][:1]
    with pytest.raises(StoreError, match="is a control without a trained autoencoder"):
        run.autoencoder()
