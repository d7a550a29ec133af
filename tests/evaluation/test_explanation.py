"""What explains recovery: columns that decide are found, others are not, and what cannot be told is not told."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from memorization.components import SettingError
from memorization.evaluation import explanation
from memorization.evaluation.explanation import described, explain
from tests import problems
from tests.conftest import run_script

FAST = {"permutations": 19, "resamples": 99, "repeats": 2}
NOISE = ["a", "b", "c"]
ROOT = Path(__file__).parents[2]


def table(seed, count=60, strength=0.0):
    """Normal columns, and an outcome that is true the likelier, the larger `decides`."""
    generator = np.random.default_rng(seed)
    values = pd.DataFrame({name: generator.normal(size=count) for name in ["decides", *NOISE]})
    latent = strength * values["decides"] + generator.logistic(size=count)
    return values.assign(recovered=latent > latent.median())


def test_the_column_that_decides_is_found_and_the_others_are_not():
    found = explain(table(0, strength=4.0), "recovered", ["decides", *NOISE], **FAST)
    score, effects = found.score.iloc[0], found.effects.set_index("column")
    assert score["auc_low"] > score["chance_high"] > 0.5
    assert score["p"] == pytest.approx(1 / 20)
    assert score["log_loss"] < score["log_loss_chance"]
    assert effects.loc["decides", "effect_low"] > 0
    assert effects.loc["decides", "alone_low"] > 0.5
    assert (effects.loc[NOISE, "effect_low"] < 0).all()
    assert (effects.loc[NOISE, "effect_high"] > 0).all()


def test_where_no_column_decides_the_score_is_that_of_chance_and_few_effects_exclude_zero():
    found = [explain(table(seed), "recovered", ["decides", *NOISE], **FAST) for seed in range(4)]
    scores, effects = (pd.concat(parts, ignore_index=True) for parts in zip(*found, strict=True))
    assert ((scores["auc_low"] < 0.5) & (scores["auc_high"] > 0.5)).sum() >= 3
    assert (scores["p"] > 0.05).sum() >= 3
    assert ((effects["effect_low"] > 0) | (effects["effect_high"] < 0)).sum() <= 2  # of 16
    assert (effects["effect_low"] <= effects["effect"]).all()
    assert (effects["effect"] <= effects["effect_high"]).all()


def test_a_column_that_separates_the_classes_has_a_finite_effect():
    values = table(1)
    found = explain(values.assign(a=values["recovered"] * 1.0), "recovered", ["a", "b"], **FAST)
    assert found.score.loc[0, "auc"] == 1
    assert 0 < found.effects.loc[0, "effect_low"] < found.effects.loc[0, "effect_high"] < 10
    assert found.score.loc[0, "auc_low"] < 1  # the folds agree, and are few


def test_columns_that_cannot_be_used_are_left_out_and_said():
    values = table(2, strength=4.0).assign(constant=1.0, absent=np.nan)
    values.loc[:19, "rare"] = 1.0
    values.loc[:2, "a"] = [np.nan, np.inf, -np.inf]
    found = explain(values, "recovered", ["decides", "a", "constant", "absent", "rare", "other"], **FAST)
    assert found.effects.set_index("column")["note"].to_dict() == {
        "decides": "",
        "a": "",
        "constant": "left out: constant",
        "absent": "left out: missing in 100% of the images",
        "rare": "left out: missing in 67% of the images",
        "other": "left out: there is none",
    }
    assert found.effects.set_index("column").loc["constant":, "effect"].isna().all()
    assert found.score.loc[0, ["images", "columns"]].tolist() == [57, 2]
    assert found.score.loc[0, "note"].startswith("3 images left out, in which a value is missing")


@pytest.mark.parametrize(
    ("positives", "said"),
    [
        (60, "nothing to explain: all of the 60 images"),
        (0, "nothing to explain: none of the 60 images"),
        (1, "too few to fit: 1 of 60 images are true, 59 are not; 5 of each are needed"),
        (57, "too few to fit: 57 of 60 images are true, 3 are not; 5 of each are needed"),
    ],
)
def test_too_few_of_a_class_are_said_in_place_of_a_fit(positives, said):
    found = explain(table(0).assign(recovered=np.arange(60) < positives), "recovered", NOISE)
    assert found.score.loc[0, "note"] == said
    assert np.isnan(found.score.loc[0, "auc"])
    assert found.effects["effect"].isna().all()


def test_a_table_without_a_column_that_varies_is_said():
    assert explain(table(0).assign(a=1), "recovered", ["a"]).score.loc[0, "note"] == "no column varies"


def test_columns_that_share_their_effect_are_noted():
    values = table(0, strength=4.0)
    found = explain(values.assign(a=-(values["decides"] ** 3)), "recovered", ["decides", "a", "b"], **FAST)
    assert found.effects["correlated_with"].tolist() == ["a (-1.00)", "decides (-1.00)", ""]


def test_nothing_is_changed_and_the_same_comes_out_again():
    values = table(3, strength=1.0)
    before = values.copy()
    one, two = (explain(values, "recovered", NOISE, **FAST) for _ in range(2))
    pd.testing.assert_frame_equal(values, before)
    for left, right in zip(one, two, strict=True):
        pd.testing.assert_frame_equal(left, right)


def test_any_seed_is_taken_and_those_that_differ_draw_other_folds():
    values, few = table(3, strength=1.0), {"permutations": 1, "resamples": 1, "repeats": 2}
    found = [explain(values, "recovered", NOISE, **few, seed=seed).score["auc"][0] for seed in (0, 2**33, 2**33 + 1)]
    assert len({*found}) == 3
    with pytest.raises(SettingError, match="seed is -1"):
        explain(values, "recovered", NOISE, seed=-1)


def test_what_is_told_of_an_image():
    members = problems.images(4, 0, torch.float64)
    members[3] = members[0] + 0.01
    found = described(lambda x: x + 0.1, members, [5, 6, 7, 8])
    assert found["image"].tolist() == [5, 6, 7, 8]
    np.testing.assert_allclose(found["own_loss"], -2)
    np.testing.assert_allclose(found["contrast"], members.flatten(1).numpy().std(1))
    np.testing.assert_allclose(found["nearest_member_distance"][[0, 3]], 0.01, rtol=1e-6)
    assert np.isnan(described(lambda x: x, members[:1], [0])["nearest_member_distance"][0])
    network = torch.nn.Conv2d(members.shape[1], members.shape[1], 1)
    single, double = (described(network.to(dtype), members.float(), range(4)) for dtype in (torch.float, torch.double))
    np.testing.assert_allclose(double["own_loss"], single["own_loss"], rtol=1e-5)


def test_images_are_told_of_in_parts(monkeypatch):
    members, asked = problems.images(8, 0, torch.float64), []
    members[7] = members[0] + 0.01
    whole = described(lambda x: x + 0.1, members, range(8))
    monkeypatch.setattr(explanation, "MEMBERS_AT_ONCE", 3)
    parts = described(lambda x: asked.append(len(x)) or x + 0.1, members, range(8))
    assert asked == [3, 3, 2]
    pd.testing.assert_frame_equal(parts, whole, rtol=1e-12)


def test_the_script_joins_a_store(tmp_path, capsys):
    common = ["tracking=none", "progress=false", "dataset=digits", "dataset.members=10", "dataset.non_members=10"]
    common += ["architecture.depth=3", "architecture.width=128", "training.max_steps=300", "training.ladder=[1e-2]"]
    common.append("training.target_loss=1e-2")
    for module, own in {
        "recover": ["recovery=iterate", "recovery.max_iterations=20", "attractors=true", "controls=true"],
        "extract": ["search.queries=500", "spectra=false"],
    }.items():
        ended = run_script(module, *common, *own, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
    spec = importlib.util.spec_from_file_location("explain", ROOT / "experiments" / "explain.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main([str(tmp_path / "runs"), str(tmp_path / "out"), "--permutations=9", "--resamples=9"])
    said = capsys.readouterr().out
    assert "recovered by iterate random_pixels 0.8, at 0.01: " in said
    rows = pd.read_csv(tmp_path / "out" / "table.csv")
    assert len(rows) == 10
    expected = {"attracting", "spectral_radius", "basin_noise", "basin_erased", "own_loss", "contrast", "extracted"}
    assert expected <= set(rows.columns)
    assert rows["reference_psnr of iterate random_pixels 0.8"].notna().all()
    effects = pd.read_csv(tmp_path / "out" / "effects.csv")
    assert set(effects["outcome"]) == {"recovered by iterate random_pixels 0.8", "extracted"}
