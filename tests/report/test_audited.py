"""The result of an audit from Python: its five lines, its page, its plot, and what a notebook shows."""

from __future__ import annotations

import ast
import inspect
import json
import re
from typing import NamedTuple

import pytest
import torch

from memorization import audit
from memorization.data import as_float
from memorization.degradations import Blur, RandomPixels
from memorization.evaluation import audit as measuring
from memorization.evaluation import extraction
from memorization.extraction import TO_RECALL
from memorization.recovery import Energy, Inpaint, Iterate, NullSpace, Robust
from memorization.report import threat
from memorization.store.files import StoreError
from tests import problems

MEMBERS, OTHERS = problems.images(9, 1, torch.float32), problems.images(8, 2, torch.float32)


nearest = problems.nearest(MEMBERS)


class Found(NamedTuple):
    """An extraction, as far as a bank is made of it."""

    images: torch.Tensor


@pytest.fixture(scope="module")
def result():
    return audit(nearest, MEMBERS, OTHERS, RandomPixels(0.5), Iterate(), controls=True, progress=False)


def test_it_says_in_five_lines_what_was_found_and_assumed(result):
    answer, auc, controls, verdict, assumed = str(result).splitlines()
    row = result.table().iloc[0]
    came = round(row["members_recovered"] * 9)
    assert f"iterate recovered {came} of 9 members (" in answer
    assert " of 8 non-members (0 %, 95 % interval 0 to 32 %)" in answer
    assert auc.startswith(f"AUC {row['auc']:.3f} ({row['auc_low']:.3f} to {row['auc_high']:.3f})")
    indicative = "indicative only: all images share one training."
    assert auc.endswith(f"Epsilon at least {row['epsilon_low']:.2f} (delta 1e-05), {indicative}")
    assert controls == f"Controls, members recovered: {row['controls']}."
    assert "untrained not applicable" in controls
    assert verdict == f"Verdict: {row['verdict']} (p = {row['verdict_p']:.2g})."
    assert "images degraded by random_pixels 50 %, zero fill" in assumed
    assert "recovered is what reaches 25 dB" in assumed
    assert repr(result) == str(result)


def test_it_says_where_nothing_bounds_epsilon():
    _, auc, *_ = str(audit(lambda x: x, MEMBERS, OTHERS, progress=False)).splitlines()
    assert " Epsilon at least 0.00 (delta 1e-05), " in auc


@pytest.mark.parametrize(
    ("recovery", "assumed"),
    [
        (Energy(max_iterations=2), "Assumed: gradients of the autoencoder, operator robust; "),
        (NullSpace(max_iterations=2), "Assumed: queries of the autoencoder, operator robust; "),
        (Iterate(max_iterations=2), "Assumed: queries of the autoencoder; "),
        (Inpaint(), "Assumed: none of the autoencoder, operator robust; "),
    ],
)
def test_it_says_what_the_method_may_use(recovery, assumed):
    model = torch.nn.Conv2d(1, 1, 1)
    found = str(audit(model, MEMBERS, OTHERS, RandomPixels(0.5), recovery, Robust(), progress=False)).splitlines()
    assert found[4].startswith(assumed)
    assert found[2:4] == ["Controls: none were run; controls=True adds them.", "Verdict: none without controls."]


def soft(x):
    """The nearest member, of a soft choice, which gives gradients."""
    closeness = -10 * torch.cdist(x.flatten(1), MEMBERS.flatten(1)).square()
    return (closeness.softmax(1) @ MEMBERS.flatten(1)).view_as(x)


@pytest.mark.parametrize(
    ("tries", "count"), [({}, 3), ({"recall": 2}, 2), ({"recall": 0}, 0), ({"starts": 1}, 0), ({"recall": None}, 3)]
)
def test_it_says_of_the_bank_that_it_was_made_unless_there_is_none(tries, count, monkeypatch, tmp_path, browser):
    asked = []
    monkeypatch.setattr(extraction, "extract", lambda *rest, **how: asked.append(how) or Found(MEMBERS[:4]))
    parts = (RandomPixels(0.5), Energy(max_iterations=5), Robust())
    found = audit(soft, MEMBERS, OTHERS, *parts, **tries, progress=False)
    assumed = str(found).splitlines()[4]
    assert assumed.startswith("Assumed: gradients of the autoencoder, operator robust; ")
    told = f"a bank of images that came out unasked, made once with about {TO_RECALL.queries:,} queries of the "
    told += f"autoencoder; {count} of them are tried"
    assert (told in assumed) == bool(count)
    assert [how["queries"] for how in asked] == [TO_RECALL.queries] * bool(count)
    page = browser.new_page()
    page.goto(found.report(tmp_path / "audit.html").as_uri())
    card = page.inner_text("#card")
    page.close()
    assert (f"Recalls\n{told}" in card) == bool(count)
    assert ("an image, on average, beside those of the bank" in card) == bool(count)
    assert "where it recalls, a bank of images extracted from f with queries alone" in card
    assert f"recall={tries.get('recall')}" in found._config()["call"]


@pytest.mark.parametrize(
    ("recovery", "operator", "loss", "count"),
    [
        ({"name": "energy", "starts": 0, "recall": None}, "robust", 1e-8, 3),
        ({"name": "energy", "starts": 0, "recall": None}, "robust", 1e-1, 0),  # no image is held as a fixed point
        ({"name": "energy", "starts": 0, "recall": None}, "known", 1e-8, 0),
        ({"name": "energy", "starts": 3, "recall": None}, "robust", 1e-8, 0),
        ({"name": "energy", "starts": 0, "recall": 0}, "robust", 1e-8, 0),
        ({"name": "iterate", "starts": 1, "recall": 2}, "none", 1e-1, 2),
        ({"name": "energy", "starts": 0}, "robust", 1e-8, 0),  # of older code
        ({"name": "of a package that is gone", "starts": 0, "recall": None}, "robust", 1e-8, 0),
    ],
)
def test_a_run_of_a_store_says_of_its_bank(recovery, operator, loss, count):
    told = threat.bank({"recovery": recovery, "operator": {"name": operator}}, loss)
    assert told.endswith(f"; {count} of them are tried" if count else "")
    assert bool(told) == bool(count)


def test_its_page_has_the_call_as_it_would_be_typed(tmp_path):
    words = {"call": lambda model, x: model(x), "value_range": (0, 1), "progress": False}
    page = audit(nearest, MEMBERS, OTHERS, RandomPixels(0.5), Iterate(), **words).report(tmp_path / "audit.html")
    (call,) = set(re.findall(r'"memorization\.audit\([^"]*\)"', page.read_text()))
    given = {word.arg: ast.unparse(word.value) for word in ast.parse(json.loads(call)).body[0].value.keywords}
    assert given["degradation"] == "RandomPixels(fraction=0.5, fill='zero', noise=0.0)"
    assert (given["call"], given["value_range"]) == ("...", "(0, 1)")
    assert "progress" not in given


def test_its_page_is_the_one_of_a_store(result, tmp_path):
    page = result.report(tmp_path / "audit.html").read_text()
    answer, *_ = str(result).splitlines()
    assert f'<p class="answer">{answer}</p>' in page
    assert result.table()["controls"][0] in page
    assert "An audit from Python of own / function" in page
    assert "memorization.audit(function(), members, non_members, degradation=RandomPixels(fraction=0.5" in page
    assert str(tmp_path) not in page
    assert not re.search(r"/recoveries/|/tmp", page.split("<footer>")[0].split("plotly.js")[0])
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file.audit.html: cannot be written \(File exists\); name another file"):
        result.report(tmp_path / "file" / "audit.html")
    with pytest.raises(StoreError, match=rf"^{tmp_path}: cannot be written \(Is a directory\); name another file"):
        result.report(tmp_path)
    (tmp_path / "link.html").symlink_to("audit.html")
    (tmp_path / "audit.html").write_text("old")
    result.report(tmp_path / "link.html")
    assert (tmp_path / "link.html").is_symlink()
    assert answer in (tmp_path / "audit.html").read_text()


def test_the_pictures_are_those_of_the_first_images_of_each_kind(result):
    shown = result.pictures
    assert shown["row"].tolist() == [*range(6), *range(9, 15)]
    originals = torch.cat([MEMBERS, OTHERS])[shown["row"]]
    torch.testing.assert_close(as_float(shown["original"]), originals, atol=0.5 / 255, rtol=0)
    html = result._repr_html_()
    assert html.count("<img ") == 3 * 12
    assert html.count("✓") == result.results["recovered"][:6].sum() > 0
    few = audit(nearest, MEMBERS[:2], OTHERS[:1], Blur(), Iterate(max_iterations=2), batch_size=1, progress=False)
    assert few._repr_html_().count("<img ") == 3 * 3


def test_the_plot_has_each_image_and_each_share(result):
    members, others, shares = result.plot().data
    assert (len(members.y), len(others.y)) == (9, 8)
    assert list(shares.y) == ["members", "non-members", "members, inpaint", "members, nearest"]
    assert shares.x[0] == 100 * result.table()["members_recovered"][0]
    assert shares.x[3] + shares.error_x.array[3] == pytest.approx(100)


def test_it_is_documented_as_what_it_wraps(capsys):
    assert inspect.signature(audit) == inspect.signature(measuring.audit)
    assert audit.__doc__ == measuring.audit.__doc__
    audit(nearest, MEMBERS, OTHERS, RandomPixels(0.5), Iterate(max_iterations=2))
    assert capsys.readouterr().err == ""  # no bar of what takes no time
