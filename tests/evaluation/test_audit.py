"""Statistics, and the audit from Python."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import fisher_exact
from sklearn.metrics import roc_curve

from memorization import audit
from memorization.architectures.autoencoder import reconstruction_loss
from memorization.components import SettingError
from memorization.degradations import Blur, Box, Chain, Downsample, RandomPixels, image_seeds
from memorization.evaluation.batch import Recipe, recover_batch
from memorization.evaluation.comparison import MemberScores, compare
from memorization.evaluation.controls import Control, controlled
from memorization.evaluation.statistics import auc, difference_interval, epsilon_bound, mcnemar, tpr_at_fpr
from memorization.evaluation.summary import summarise, threshold_curve
from memorization.recovery import Anderson, Energy, Inpaint, Iterate, Known, NullSpace, PnPADMM, Robust, solve
from tests import problems


def results(psnr, member, **columns) -> pd.DataFrame:
    """The results of one run and rung, with the given erased PSNRs (dB)."""
    table = pd.DataFrame({"image": np.arange(len(psnr)), "psnr_erased": np.asarray(psnr, float), "member": member})
    table = table.assign(recovered=table["psnr_erased"] >= 25, is_nearest=True, status="converged", signature="a")
    table = table.assign(operator_error=np.nan, queries=1, seconds=0.1, rung=1e-8, train_loss=1e-8, seed=0)
    choices = dict.fromkeys(("dataset", "architecture", "degradation", "fill", "recovery", "operator"), "x")
    return table.assign(**choices, fraction=0.8, noise=0.0, threshold_db=25.0).assign(**columns)


def test_a_summary_is_the_statistics_of_its_scores():
    generator = np.random.default_rng(0)
    psnr, member = generator.normal(25, 5, 300), np.arange(300) < 100
    status = np.where(np.arange(300) % 10 == 0, "diverged", "converged")
    row = summarise(results(psnr, member, status=status)).iloc[0]
    score = np.where(status == "diverged", -np.inf, psnr)
    area, point = auc(score[member], score[~member]), tpr_at_fpr(score[member], score[~member], 0.1)
    assert (row["auc"], row["auc_low"], row["auc_high"]) == (area.value, area.low, area.high)
    assert (row["tpr_at_fpr_0.1"], row["fpr_of_0.1"]) == (point.tpr.value, point.fpr)
    assert row["tpr_at_fpr_0.01"] >= 0
    assert np.isnan(row["tpr_at_fpr_0.001"])  # 200 non-members do not resolve it
    shares = [(psnr[part] >= 25).mean() for part in (member, ~member)]
    assert row["excess"] == pytest.approx(shares[0] - shares[1])
    assert (row["excess_low"], row["excess_high"]) == pytest.approx(
        difference_interval((round(shares[0] * 100), 100), (round(shares[1] * 200), 200))
    )
    assert row["members_diverged"] == 10
    counts = ((psnr >= 25) & member).sum(), 100, ((psnr >= 25) & ~member).sum(), 200
    assert row["epsilon_low"] == epsilon_bound(*map(int, counts), delta=1e-5)


def test_runs_and_rungs_are_summarised_apart_and_a_run_may_lack_non_members():
    member = np.arange(20) < 10
    tables = [results(np.arange(20) + 10 * k, member, rung=10.0**-k, signature=s) for k in (2, 4) for s in "ab"]
    tables.append(results(np.full(5, 30.0), True, signature="c"))
    summary = summarise(pd.concat(tables))
    assert summary["signature"].tolist() == ["a", "b", "a", "b", "c"]
    assert summary["members_recovered"].tolist() == [0.5, 0.5, 1, 1, 1]  # 20 to 29 dB, 40 to 49, 30
    assert summary["non_members"].tolist() == [10, 10, 10, 10, 0]
    assert summary[["excess", "auc", "non_members_recovered"]].isna().all(axis=1).tolist() == [False] * 4 + [True]


def test_the_threshold_curve_agrees_with_the_rule_at_each_threshold():
    generator = np.random.default_rng(0)
    member = np.arange(60) < 40
    nearest, status = generator.random(60) < 0.7, np.where(generator.random(60) < 0.2, "diverged", "converged")
    table = results(generator.normal(30, 8, 60).round(), member, is_nearest=nearest, status=status)
    curve = threshold_curve(table, [20, 30, 40])
    for _, point in curve.iterrows():
        right = (table["psnr_erased"] >= point["threshold_db"]) & nearest & (status != "diverged")
        row = summarise(table.assign(recovered=right)).iloc[0]
        for name in ("members_recovered", "non_members_recovered", "excess"):
            for key in (name, f"{name}_low", f"{name}_high"):
                assert point[key] == pytest.approx(row[key], abs=1e-12)


def test_a_missing_score_is_the_worst_and_an_exact_answer_the_best():
    member = np.arange(20) < 10
    psnr = np.where(member, 20.0, 10.0) + np.arange(20) % 10
    psnr[[0, 1, 10]] = np.nan, np.inf, np.inf
    row = summarise(results(psnr, member)).iloc[0]
    expected = np.where(np.isnan(psnr), -np.inf, psnr)
    assert row["auc"] == auc(expected[member], expected[~member]).value < 0.9
    assert (row["members_median_psnr"], row["members_best_psnr"]) == (25.5, np.inf)
    assert threshold_curve(results(psnr, member), [15]).loc[0, "members_recovered"] == 0.9
    assert np.isnan(summarise(results([np.nan, np.inf], True)).loc[0, "members_median_psnr"])


def test_an_exact_answer_is_compared_as_120_db_and_a_failed_one_as_0():
    """Infinite less infinite is no number, and one exact answer would outweigh all others."""
    first = results([np.inf, np.inf, np.nan, 300.0, 30.0, -np.inf, -40.0], True)
    second = results([np.inf, 100.0, 10.0, 120.0, 20.0, 5.0, 1e3], True, status=["converged"] * 6 + ["diverged"])
    expected = np.array([0, 20, -10, 0, 10, -5, 0])
    found = compare(MemberScores.of(first), MemberScores.of(second))
    assert found["psnr_difference"] == pytest.approx(expected.mean())
    assert np.isfinite(list(found.values())).all()
    with pytest.raises(ValueError, match="the tables hold no members"):
        compare(*2 * [MemberScores.of(first.assign(member=False))])


@pytest.mark.parametrize("recovered", [0.0, 100.0])
@pytest.mark.parametrize(("members", "others"), [(1, 1), (1, 0), (0, 3), (6, 0), (6, 6)])
def test_any_numbers_of_images_are_summarised(members, others, recovered):
    """Alone, and judged by controls; what there are no images for is NaN."""
    member = np.arange(members + others) < members
    own = results(np.full(len(member), recovered), member, task="t", setup="s")
    controls = [own.assign(control=name, psnr_erased=10.0, recovered=False) for name in ("untrained", "reference")]
    row = summarise(pd.concat([own, *controls])).iloc[0]
    assert np.isnan(row["auc"]) == (not members or not others)
    assert np.isnan(row["excess"]) == np.isnan(row["epsilon_low"]) == np.isnan(row["auc"])
    assert (row["members_diverged"], row["non_members_diverged"]) == (0, 0)
    assert np.isnan(row["members_median_psnr_low"]) == (members < 6)
    assert row["verdict"] == ("unremarkable" if members else "")
    if members:
        assert row["calibrated_median"] == pytest.approx(recovered - 10)
        assert row["verdict_p"] == 1  # as many non-members, or none, came back
        assert np.isnan(row["calibrated_auc"]) == (not others)
    else:
        assert np.isnan(row["members_recovered"])


def test_what_cannot_be_summarised_is_named():
    own = results([30.0, 10.0], [True, False], task="t", setup="s")
    with pytest.raises(ValueError, match="the table has no rows"):
        summarise(own.iloc[:0])
    with pytest.raises(ValueError, match="a control lacks 1 images of the run it belongs to, image 1 for one"):
        summarise(pd.concat([own, own.iloc[:1].assign(control="untrained")]))


def test_an_image_that_is_not_known_to_be_recovered_is_not():
    """NaN, as tables of several versions may hold when they are put together, would be true."""
    own = results([30.0, 30.0], True, recovered=[True, np.nan], is_nearest=[np.nan, True])
    assert summarise(own).loc[0, "members_recovered"] == 0.5
    assert MemberScores.of(own).recovered.tolist() == [True, False]
    assert threshold_curve(own, [25]).loc[0, "members_recovered"] == 0.5


def test_the_excess_is_tested_by_fisher_s_exact_test():
    for back, of, others_back, others in [(5, 10, 1, 8), (3, 3, 0, 9), (0, 4, 2, 4), (4, 4, 4, 4)]:
        member = np.arange(of + others) < of
        recovered = np.concatenate([np.arange(of) < back, np.arange(others) < others_back])
        own = results(np.where(recovered, 30.0, 10.0), member, task="t", setup="s")
        none = own.assign(control="inpaint", recovered=False, setup="")
        p = [fisher_exact([[back, of - back], [others_back, others - others_back]], "greater").pvalue, 0.5**back]
        assert summarise(pd.concat([own, none])).loc[0, "verdict_p"] == pytest.approx(max(p))


def test_methods_are_compared_on_the_same_members():
    generator = np.random.default_rng(0)
    member = np.arange(60) < 40
    first = results(generator.normal(27, 3, 60), member)
    second = results(first["psnr_erased"] - generator.normal(3, 1, 60), member)
    found = compare(MemberScores.of(first), MemberScores.of(second.sample(frac=1, random_state=0)))
    back = [table["recovered"][member] for table in (first, second)]
    assert found["recovered_difference"] == pytest.approx(back[0].mean() - back[1].mean())
    assert found["recovered_p"] == mcnemar(*back)
    assert found["psnr_difference_low"] < 3 < found["psnr_difference_high"]
    assert found["psnr_p"] < 1e-4
    with pytest.raises(ValueError, match="different members; a paired comparison needs the same images"):
        compare(MemberScores.of(first), MemberScores.of(second.assign(image=second["image"] + 1)))


def test_a_perfect_memory_is_found_out():
    members, others = problems.images(6, 1, torch.float32), problems.images(6, 2, torch.float32)
    result = audit(problems.nearest(members), members, others, RandomPixels(0.3))
    row = result.table().iloc[0]
    assert row["members_recovered"] == 1
    assert row["non_members_recovered"] == 0
    assert row["train_loss"] == pytest.approx(0, abs=1e-12)
    assert len(result.results) == 12
    assert result.results["member"].sum() == 6


def test_the_curves_of_an_audit_are_those_of_the_audited_autoencoder():
    """Not of its controls, of which the nearest member brings back every member."""
    members, others = problems.images(6, 1, torch.float32), problems.images(4, 2, torch.float32)
    result = audit(problems.projection(members[:3]), members, others, RandomPixels(0.3), controls=True)
    own = result.results[result.results["control"] == "none"]
    assert len(own) == 10 < len(result.results)
    member, row = own["member"].to_numpy(), result.table().iloc[0]
    curve = result.roc()
    expected = roc_curve(member, own["psnr_erased"])
    np.testing.assert_allclose(curve[["fpr", "tpr"]].to_numpy().T, expected[:2], atol=1e-12)
    assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(row["auc"])
    assert result.roc(logarithmic=True).iloc[0].tolist() == [0.5 / 4, 0.5 / 6]
    (point,) = result.threshold_curve([25]).to_dict("records")
    assert 0 < point["members_recovered"] == row["members_recovered"] < 1
    assert (point["excess_low"], point["excess_high"]) == pytest.approx((row["excess_low"], row["excess_high"]))


def test_the_batch_size_does_not_matter():
    members, others = problems.images(6, 1, torch.float32), problems.images(6, 2, torch.float32)
    f = problems.projection(members)
    tables = [
        audit(f, members, others, recovery=Energy(), batch_size=size).results.drop(columns="seconds")
        for size in (1, 5, 100)
    ]
    # beyond 80 dB a score is float32 rounding
    first, *rest = [table.assign(psnr_erased=table["psnr_erased"].clip(upper=80)) for table in tables]
    for table in rest:
        assert (table["recovered"] == first["recovered"]).all()
        np.testing.assert_allclose(table["psnr_erased"], first["psnr_erased"], atol=0.1)


def test_bad_input_is_named():
    members, others = problems.images(3, 1, torch.float32), problems.images(3, 2, torch.float32)
    broken = members.clone()
    broken[1, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="members: image 1 holds NaN"):
        audit(lambda x: x, broken, others)
    with pytest.raises(ValueError, match="it must keep the shape"):
        audit(lambda x: x[:, :, 1:], members, others)
    with pytest.raises(ValueError, match="non_members: pixels span"):
        audit(lambda x: x, members, others * 255)
    with pytest.raises(ValueError, match=r"members are \(1, 8, 8\), non-members \(1, 8, 4\)"):
        audit(lambda x: x, members, others[..., :4])
    with pytest.raises(ValueError, match="the autoencoder returns a tuple; it must return the images alone"):
        audit(lambda x: (x, x), members, others)
    with pytest.raises(ValueError, match=r"non_members are a ndarray; give a tensor, torch\.as_tensor"):
        audit(lambda x: x, members, others.numpy())
    with pytest.raises(ValueError, match=r"members require grad.* give members\.detach\(\)"):
        audit(lambda x: x, members.clone().requires_grad_(), others)
    with pytest.raises(ValueError, match=r"members are torch\.int64; give float32 in \[0, 1\], or uint8"):
        audit(lambda x: x, members.long(), others)
    with pytest.raises(ValueError, match=r"seed is 1\.5; it must be a whole number, at least 0"):
        audit(lambda x: x, members, others, seed=1.5)
    with pytest.raises(ValueError, match="recovery is 'energy'; give an object"):
        audit(lambda x: x, members, others, recovery="energy")
    with pytest.raises(ValueError, match="non_members: image 1 is member 2; give images"):
        audit(lambda x: x, members, torch.cat([others[:1], members[2:]]))


class Dropping(torch.nn.Module):
    """Half of it is in eval mode already; in train mode it would drop pixels."""

    def __init__(self):
        super().__init__()
        self.dropout, self.frozen = torch.nn.Dropout(0.5), torch.nn.Identity().eval()

    def forward(self, x):
        if self.training or self.dropout.training:
            raise RuntimeError("called in train mode")
        return self.frozen(self.dropout(x))


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_judged_in_eval_mode_and_put_back_in_its_own(fails):
    members, others = problems.images(3, 1, torch.float32), problems.images(3, 2, torch.float32)
    model = Dropping()
    if fails:
        model.frozen.forward = lambda x: x[:, :, 1:]
        with pytest.raises(ValueError, match="it must keep the shape"):
            audit(model, members, others)
    else:
        audit(model, members, others)
    assert [module.training for module in model.modules()] == [True, True, False]


def test_a_diverged_image_counts_as_not_recovered():
    members, others = problems.images(3, 1, torch.float32), problems.images(3, 2, torch.float32)
    row = audit(lambda x: x * 1e4, members, others).table().iloc[0]
    assert row["members_diverged"] == 3
    assert row["members_recovered"] == 0
    assert not pd.isna(row["members_median_psnr"])


def fails(x):
    raise KeyError("scale")


BREACHES = {
    "changes its input in place": lambda x: x.mul_(0.5),
    "fails on images of (2, 1, 6, 6): KeyError: 'scale'": fails,
    "depends on the others in its batch": lambda x: x - x.mean(0, keepdim=True),
}


@pytest.mark.parametrize("message", BREACHES)
def test_breaches_are_told_even_of_a_single_member(message):
    images = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=re.escape(message)):
        audit(BREACHES[message], images[:1], images[1:])


def test_a_row_says_what_was_done_by_the_names_of_the_registries():
    members, others = problems.images(3, 1, torch.float32), problems.images(3, 2, torch.float32)
    degradation = Chain(Box(0.3), RandomPixels(0.5, "grey", 0.1))
    table = audit(problems.nearest(members), members, others, degradation, seed=4, controls=True).results
    own = table.drop_duplicates("control").set_index("control")
    assert own["recovery"].to_dict() == {"none": "pnp_admm", "inpaint": "inpaint", "nearest": "nearest"}
    assert set(own["operator"]) == {"known"}
    assert set(own["degradation"]) == {"chain"}
    row = own.loc["none"]
    assert (row["fraction"], row["fill"], row["noise"], row["erases"]) == (0.5, "grey", 0.1, True)
    assert (row["seed"], row["threshold_db"]) == (4, 25)


def test_what_makes_a_recipe_s_numbers_is_plain_values():
    recipe = Recipe(Chain(Blur(2.0), Box(0.3)), NullSpace(), Robust(), 3, 20.0, starts=2, extrapolation=2)
    identity = recipe.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["degradation"]["name"] == "chain"
    assert (identity["degradation"]["first"]["name"], identity["degradation"]["first"]["width"]) == ("blur", 2.0)
    recovery = identity["recovery"]
    assert (recovery["name"], recovery["relaxation"]) == ("null_space", 1.0)
    assert (recovery["starts"], recovery["extrapolation"], identity["threshold_db"]) == (2, 2, 20)
    assert identity["operator"]["name"] == "robust"
    assert {part["revision"] for part in (recovery, identity["degradation"]["second"])} == {1}
    assert identity["operator"]["revision"] == Robust.revision
    assert {*identity["revisions"]} == {"solver", "scores", "anderson"}
    assert recipe.choices()["recovery"] == "null_space"
    told = Recipe(Box(0.3), Iterate(), Robust())
    assert told.identity()["operator"] == {"name": "none"}
    assert told.choices()["operator"] == "none"
    json.dumps(controlled(recipe, Control.nearest, torch.rand(2, 1, 8, 8)).identity())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold_db": np.inf}, "threshold_db is inf; it must be a finite number of dB"),
        ({"starts": -1}, "starts is -1; .* at least 0"),
        ({"starts": 2, "method": Inpaint()}, "starts is 2; Inpaint has one start: set it to 1"),
        ({"extrapolation": -1}, "extrapolation is -1; it must be at least 1; set it to 0 for none"),
        ({"extrapolation": 3, "method": Energy()}, "extrapolation is 3; .* which Energy is not; set it to 0"),
        (
            {"operator": Robust(), "degradation": Chain(Downsample(2), Blur())},
            "operator is 'robust'; it cannot be estimated where the degradation makes images smaller: choose known",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_named(settings, message):
    with pytest.raises(SettingError, match=message):
        Recipe(**{"degradation": Box(), "method": PnPADMM(), "operator": Known()} | settings)


def test_an_extrapolated_method_is_what_is_run():
    members = problems.images(4, 1, torch.float32)
    recipe = Recipe(Box(0.3), NullSpace(max_iterations=40), Known(), extrapolation=3)
    assert recipe.solving == Anderson(recipe.method, 3)
    f = problems.linear(problems.contraction(symmetric=True).float())
    expected = solve(f, recipe.degradation(members, image_seeds(0, range(4))), recipe.solving).images
    assert torch.equal(recover_batch(recipe, f, members, range(4), members).answers, expected)


def test_the_loss_is_the_mean_of_all_squared_errors_in_double_precision():
    images = torch.rand(50, 3, 9, 7, generator=torch.Generator().manual_seed(0))

    def turned(x):
        """Its answer lies in memory with the channels last."""
        return (x * 0.9).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)

    for f in (lambda x: x * 0.9, turned):
        expected = ((f(images) - images).double() ** 2).mean().item()
        assert reconstruction_loss(f, images, 16) == pytest.approx(expected, rel=1e-6)
        eight_bits = (images * 255).round().to(torch.uint8)
        assert reconstruction_loss(f, eight_bits, 16) == pytest.approx(expected, rel=1e-2)


def test_gradients_are_taken_under_inference_mode():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.Unflatten(1, (1, 8, 8)))
    images = torch.rand(6, 1, 8, 8)
    plain = audit(net, images[:3], images[3:], recovery=Energy(max_iterations=3)).results.drop(columns="seconds")
    with torch.inference_mode():
        inside = audit(net, images[:3].clone(), images[3:].clone(), recovery=Energy(max_iterations=3)).results
    pd.testing.assert_frame_equal(inside.drop(columns="seconds"), plain, check_exact=True)


def test_an_autoencoder_that_is_none_is_not_taken_for_its_reference():
    images = torch.rand(6, 1, 8, 8)
    with pytest.raises(ValueError, match="autoencoder"):
        audit(None, images[:3], images[3:])


ODD = {
    "threshold_db is 'a'; it must be a finite number of dB": {"threshold_db": "a"},
    "starts is 'a'; it must be a whole number, at least 0": {"starts": "a"},
    "recall is 'a'; it must be a whole number, at least 0": {"recall": "a"},
    "recall is -1; it must be a whole number, at least 0": {"recall": -1},
    "seed is 'a'; it must be a whole number": {"seed": "a"},
    "batch_size is 'a'; it must be a whole number": {"batch_size": "a"},
    "indices are 5; give a list, one for each of the 6 images, members first": {"indices": 5},
    "degradation is 5; give an object, such as": {"degradation": 5},
    "degradation is ''; give an object, such as": {"degradation": ""},
    "degradation is <class 'memorization.degradations.erasures.RandomPixels'>; give": {"degradation": RandomPixels},
    "seed is True; it must be a whole number": {"seed": True},
    "controls is 'no'; it must be true or false": {"controls": "no"},
    "progress is 'no'; it must be true or false": {"progress": "no"},
    "degradation is Energy(": {"degradation": Energy()},
    "recovery is 5; give an object, such as": {"recovery": 5},
    "operator is [1]; give an object, such as": {"operator": [1]},
    "reference: the autoencoder is a str, which cannot be called; give the module": {"reference": "net.pt"},
    "the autoencoder is a list, which cannot be called; give a module or a function": {"autoencoder": [1]},
    "the autoencoder is a str, which cannot be called; give the module with its weights": {"autoencoder": "net.pt"},
    "members are a list; give a tensor": {"members": [[0.5]]},
    "members are a str; give a tensor": {"members": "a.pt"},
    "non_members are a NoneType; give a tensor": {"non_members": None},
}


@pytest.mark.parametrize("message", ODD)
def test_an_odd_argument_is_named(message):
    images = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    arguments = {"autoencoder": torch.tanh, "members": images[:3], "non_members": images[3:]}
    with pytest.raises(ValueError, match=re.escape(message)):
        audit(**arguments | ODD[message])


def test_a_pixel_may_leave_its_range_by_rounding():
    images = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    images[0, 0, 0, 0] = 1
    beyond = images.clone()
    beyond[0, 0, 0, 0] = 1 + 1e-7
    tables = [audit(torch.tanh, x[:3], x[3:], recovery=Iterate(max_iterations=2)).results for x in (images, beyond)]
    pd.testing.assert_frame_equal(*(table.drop(columns="seconds") for table in tables), check_exact=True)
    beyond[0, 0, 0, 0] = 1 + 1e-5
    with pytest.raises(ValueError, match=r"members: pixels span .* to 1\.00001.*; scale them"):
        audit(torch.tanh, beyond[:3], beyond[3:])
