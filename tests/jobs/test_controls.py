"""Controls: what each one answers, and the verdict on an autoencoder that does or does not beat them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from memorization import audit, load_results, load_run
from memorization.architectures import Centred, FullyConnected, build
from memorization.degradations import Blur, Box, Chain, Downsample, RandomPixels
from memorization.evaluation.controls import CONTROLS, InapplicableError, untrained
from memorization.evaluation.statistics import auc
from memorization.evaluation.summary import summarise
from memorization.jobs.identity import Identity
from memorization.recovery import Iterate, solve
from memorization.recovery.methods.nearest_member import NearestMember
from memorization.report.findings import Findings
from memorization.report.tables import headline
from memorization.store.files import StoreError
from memorization.store.reading import finished
from memorization.store.signature import signature_of
from tests import problems
from tests.conftest import experiment_of, run_script
from tests.evaluation.test_audit import results

MEMBERS, OTHERS = problems.images(12, 1, torch.float32), problems.images(12, 2, torch.float32)
MEMORY, REFERENCE = problems.nearest(MEMBERS), problems.nearest(OTHERS)


@pytest.mark.parametrize("degradation", [RandomPixels(0.9, fill="random", noise=0.1), Blur(1.0), Downsample(4)])
def test_the_nearest_member_is_found_through_any_operator(degradation):
    measured = degradation(MEMBERS[[3, 7]], [1, 2])
    answers = solve(lambda x: x, measured, NearestMember(MEMBERS)).images
    assert torch.equal(answers, MEMBERS[[3, 7]])


CHOICES = [
    ("fc", {"depth": 3, "width": 16}),
    ("fc", {"initialisation": "default"}),
    ("conv", {"depth": 2, "bottleneck": 5, "activation": "prelu"}),
    ("unet", {"depth": 3, "skips": "all", "activation": "sigmoid", "output": "sigmoid"}),
    ("tied", {"width": 20, "initialisation": "orthogonal", "output": "sigmoid"}),
    ("tied", {"proximal": True, "bias": False}),
]


@pytest.mark.parametrize(("name", "settings"), CHOICES)
@pytest.mark.parametrize("centre", [True, False])
def test_an_untrained_copy_is_what_the_seed_builds(name, settings, centre):
    """The same for `audit` and the command line, but for the members' mean, which a new one has not yet."""
    model, other = (
        build(name, (1, 8, 8), centre=centre, seed=seed, **settings).requires_grad_(False) for seed in (3, 7)
    )
    kept, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    fresh, expected = untrained(model, 7).state_dict(), other.state_dict()
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(kept[key], value) for key, value in model.state_dict().items())
    for key in expected:
        assert torch.equal(fresh[key], expected[key] if key != "mean" else torch.full((1, 8, 8), 0.5)), key
    assert not all(torch.equal(fresh[key], kept[key]) for key in kept if key != "mean")


def test_an_untrained_copy_has_the_initial_weights_of_its_architecture():
    """He's, of standard deviation sqrt(2 / 512) = 0.0625; torch's own have 0.0255."""
    model = FullyConnected((1, 8, 8), depth=4, width=512)
    weights = [layer.weight for layer in untrained(model).modules() if isinstance(layer, nn.Linear)]
    assert weights[1].std().item() == pytest.approx(0.0625, rel=0.02)


def test_a_module_draws_the_weights_of_its_parts_by_its_own_rule():
    class Quiet(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def reset_parameters(self):
            nn.init.constant_(self.layer.weight, 0.25)
            nn.init.zeros_(self.layer.bias)

    fresh = untrained(nn.Sequential(Quiet(), nn.Linear(4, 4)))
    assert (fresh[0].layer.weight == 0.25).all()
    assert fresh[1].weight.std() > 0.1


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


class Partial(nn.Module):
    """Its `reset_parameters` forgets a part."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def reset_parameters(self):
        self.first.reset_parameters()


def test_what_cannot_be_drawn_anew_has_no_untrained_copy():
    for unsuitable, reason in [
        (lambda x: x, "it has no weights"),
        (nn.Identity(), "it has no weights"),
        (nn.Sequential(nn.Linear(4, 4), Scale()), "no reset_parameters draws its weights 1.scale anew"),
        (Partial(), "no reset_parameters draws its weights second.weight anew"),
    ]:
        with pytest.raises(InapplicableError, match=reason):
            untrained(unsuitable)


NORMED = {
    "weight": torch.nn.utils.parametrizations.weight_norm,
    "spectral": torch.nn.utils.parametrizations.spectral_norm,
    "old weight": torch.nn.utils.weight_norm,
    "old spectral": torch.nn.utils.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("norm", NORMED)
def test_weights_that_stay_what_they_were_trained_to_be_are_no_untrained_control(norm, own):
    model = FullyConnected((1, 8, 8), depth=2, width=16) if own else nn.Sequential(nn.Flatten(), nn.Linear(64, 64))
    layers = model.layers if own else model
    layers[-1] = NORMED[norm](layers[-1])
    with pytest.raises(InapplicableError):
        untrained(model)
    autoencoder = model if own else nn.Sequential(model, nn.Unflatten(1, (1, 8, 8)))
    found = audit(autoencoder.requires_grad_(False), MEMBERS, OTHERS, RandomPixels(0.3), Iterate(5), controls=True)
    assert "untrained" not in found.results["control"].tolist()
    assert found.table().loc[0, "controls"].startswith("untrained not applicable (")


def test_inpainting_is_for_erasures():
    assert Box().erases
    assert not Blur().erases
    assert not Chain(Blur(), Box()).erases
    assert Chain(Box(), RandomPixels()).erases


def test_a_memory_beats_its_controls():
    found = audit(MEMORY, MEMBERS, OTHERS, RandomPixels(0.3), Iterate(), controls=True, reference=REFERENCE)
    table = found.table().set_index("control")
    assert table.index.tolist() == ["none", "inpaint", "nearest", "reference"]
    assert table.loc["none", "verdict"] == "beats its controls"
    assert table.loc["none", "controls"].split(", ") == [
        "untrained not applicable (it has no weights to draw anew)",
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
    found = audit(model, MEMBERS, OTHERS, degradation, controls=True, threshold_db=10).table()
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
    found = audit(model, members, others, controls=True).table().set_index("control").loc["untrained"]
    assert found["auc_low"] < 0.5 < found["auc_high"]
    assert found["members_recovered"] == found["non_members_recovered"] == 0


def test_without_controls_there_is_no_verdict():
    row = audit(MEMORY, MEMBERS, OTHERS, RandomPixels(0.6)).table().iloc[0]
    assert (row["control"], row["verdict"], row["controls"]) == ("none", "", "")


def test_a_general_prior_is_unremarkable_beside_its_reference():
    """Recovers members and non-members alike, as its reference does: it beats an untrained one, and is no memory."""
    member = np.arange(40) < 20
    own = results(np.full(40, 50.0), member, task="t", setup="s", control="none")
    tables = [own, own.assign(control="reference"), own.assign(control="untrained", recovered=False, rung=np.nan)]
    row = summarise(pd.concat(tables)).iloc[0]
    assert row["verdict"] == "unremarkable"
    assert row["controls"] == "untrained 0%, inpaint not run, reference 100%, nearest not run"


@pytest.mark.parametrize(
    ("facts", "complete"),
    [
        ({"degradation": "chain", "fill": "zero", "erases": True}, False),  # two erasures
        ({"degradation": "chain", "fill": "zero", "erases": False}, True),  # blur, then an erasure
        ({"degradation": "blur", "fill": "none", "erases": False}, True),
        ({"degradation": "box", "fill": "zero", "erases": np.nan}, False),
        # of an older version, which did not say whether its degradation erases
        ({"degradation": "Chain", "fill": "zero"}, False),
        ({"degradation": "blur", "fill": "none"}, True),
    ],
)
def test_the_verdict_claims_only_what_was_run(facts, complete):
    """The control `inpaint` was left out: whether it applies is a fact of the degradation."""
    member = np.arange(40) < 20
    own = results(np.where(member, 50.0, 10.0), member, task="t", setup="s", control="none", **facts)
    lost = own.assign(recovered=False, psnr_erased=10.0)
    row = summarise(pd.concat([own, lost.assign(control="untrained"), lost.assign(control="reference")])).iloc[0]
    said = "not applicable" if complete else "not run"
    assert row["controls"] == f"untrained 0%, inpaint {said}, reference 0%, nearest not run"
    assert row["verdict"] == ("beats its controls" if complete else "beats those of its controls that were run")


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
    assert all(f"{name} " in cell.controls_text for name in CONTROLS for cell in findings.cells)
    table = headline(findings)
    assert table.count("unremarkable (p = ") == 2
    assert table.count("members by controls: untrained 0%, inpaint 0%, reference 0%, nearest 100% (ceiling)") == 2
    assert "Unremarkable: not more members came back than non-members" in table
    assert max(map(len, table.splitlines())) <= 120


def test_a_control_without_an_autoencoder_says_so(store):
    (run,) = [run for run in finished(store) if run.config["control"] == "untrained"][:1]
    with pytest.raises(StoreError, match="is a control without a trained autoencoder"):
        run.autoencoder()


class Codebook(torch.nn.Module):
    """Learns in a buffer, as codebooks of moving averages do."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 64)
        self.register_buffer("codes", torch.rand(5, 64))

    def forward(self, x):
        return self.layer(self.codes[torch.cdist(x.flatten(1), self.codes).argmin(1)]).view_as(x)


def test_what_was_learned_in_a_buffer_is_not_called_untrained():
    with pytest.raises(InapplicableError, match="draws its weights codes anew"):
        untrained(Codebook())
