"""Near-member probes: how they are made, and whose answer they get."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from skimage.transform import rotate as skimage_rotate

from memorization import load_run
from memorization.degradations import RandomPixels
from memorization.evaluation.batch import Recipe
from memorization.evaluation.probes import KINDS, attraction, blend, crop, jpeg, recover_probes, rotate, shift
from memorization.evaluation.statistics import proportion_interval
from memorization.evaluation.verdict import controls_of
from memorization.recovery import Iterate, Known, NullSpace
from memorization.report.findings import Findings, distinct
from memorization.report.tables import headline
from memorization.store.reading import finished
from tests import problems
from tests.conftest import run_script

IMAGES, OTHERS = problems.images(10, 1, torch.float32), problems.images(4, 2, torch.float32)
COARSE = torch.rand(2, 3, 3, 4, generator=torch.Generator().manual_seed(0))
SMOOTH = torch.nn.functional.interpolate(COARSE, (24, 32), mode="bicubic").clamp(0, 1)
RECIPE = Recipe(RandomPixels(0.5), NullSpace(max_iterations=20), Known())


def test_a_shift_moves_and_repeats_the_edge():
    moved = shift(IMAGES, 2, OTHERS)
    assert torch.equal(moved[..., 2:, 2:], IMAGES[..., :-2, :-2])
    assert torch.equal(moved[..., 0, 2:], IMAGES[..., 0, :-2])


def test_a_rotation_is_that_of_scikit_image():
    turned = rotate(SMOOTH, 10, OTHERS)
    for image, own in zip(SMOOTH, turned, strict=True):
        expected = skimage_rotate(image.permute(1, 2, 0).numpy(), 10, order=1, mode="reflect", center=(15.5, 11.5))
        inside = np.s_[4:-4, 4:-4]
        np.testing.assert_allclose(own.permute(1, 2, 0).numpy()[inside], expected[inside], atol=1e-4)
    assert torch.allclose(rotate(SMOOTH, 0, OTHERS), SMOOTH, atol=1e-5)


def test_a_crop_is_the_top_left_part_enlarged():
    expected = torch.nn.functional.interpolate(SMOOTH[..., :12, :16], (24, 32), mode="bilinear")
    inside = np.s_[..., 1:-2, 1:-2]
    torch.testing.assert_close(crop(SMOOTH, 0.5, OTHERS)[inside], expected[inside])


def test_a_blend_takes_the_others_in_turns():
    mixed = blend(IMAGES, 0.25, OTHERS)
    torch.testing.assert_close(mixed[5], 0.75 * IMAGES[5] + 0.25 * OTHERS[1])


def test_every_kind_keeps_shape_and_range_and_goes_further_with_its_strength():
    for name, kind in KINDS.items():
        distances = []
        for strength in kind.strengths:
            probes = kind.make(SMOOTH, strength, SMOOTH.flip(0))
            assert probes.shape == SMOOTH.shape, name
            assert 0 <= probes.min() <= probes.max() <= 1, name
            distances.append(float((probes - SMOOTH).square().mean().sqrt()))
        assert distances[0] > 0, name
        assert distances == sorted(distances), name
    assert torch.equal(jpeg(SMOOTH, 50, SMOOTH), jpeg(SMOOTH, 50, SMOOTH))


def test_a_memory_answers_with_the_member_and_an_identity_with_the_probe():
    memory = recover_probes(RECIPE, problems.nearest(IMAGES), IMAGES, OTHERS, kinds={"blend": KINDS["blend"]})
    near = memory[memory["strength"] == 0.1]
    assert near["attracted"].all()
    assert near["captured"].all()
    assert (near["psnr_member"] > 100).all()
    assert memory[memory["kind"] == "none"]["captured"].all()
    none = Recipe(RandomPixels(0.5), Iterate(max_iterations=1), Known())
    copy = recover_probes(none, lambda x: x, IMAGES, OTHERS, kinds={"shift": KINDS["shift"]})
    assert not copy["captured"].any()


def test_the_table_holds_one_row_a_probe_with_its_distance():
    kinds = {name: KINDS[name] for name in ("shift", "blend")}
    table = recover_probes(
        RECIPE, problems.nearest(IMAGES), IMAGES, OTHERS, count=6, indices=range(50, 60), kinds=kinds, batch_size=4
    )
    assert len(table) == 6 * 9
    assert sorted(set(table["member"])) == list(range(50, 56))
    own = table[(table["kind"] == "blend") & (table["strength"] == 0.5)]
    expected = (blend(IMAGES, 0.5, OTHERS) - IMAGES)[:6].flatten(1).square().mean(1).sqrt()
    np.testing.assert_allclose(own["distance"], expected, rtol=1e-5)
    assert (table[table["kind"] == "none"]["distance"] == 0).all()


def test_a_diverged_answer_is_drawn_nowhere():
    table = recover_probes(RECIPE, lambda x: 1e4 * x, IMAGES, OTHERS, kinds={"shift": KINDS["shift"]})
    assert (table["status"] == "diverged").all()
    assert not table[["attracted", "captured"]].any(axis=None)


def test_images_with_other_channels_have_no_jpeg():
    images = problems.images(4, 1, torch.float32).repeat(1, 2, 1, 1)
    assert "jpeg" not in set(recover_probes(RECIPE, lambda x: x, images, images.flip(0))["kind"])


def test_an_autoencoder_in_double_precision_is_given_its_own():
    double = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(IMAGES[0].numel())).double()
    found = recover_probes(RECIPE, torch.nn.Sequential(double, torch.nn.Unflatten(1, IMAGES.shape[1:])), IMAGES, OTHERS)
    assert found["psnr_probe"].dtype == np.float64


def test_attraction_counts_each_kind_and_strength():
    table = pd.DataFrame(
        {"member": range(8), "kind": ["shift"] * 8, "strength": [1.0] * 4 + [2.0] * 4, "distance": range(8)}
    ).assign(psnr_probe=20.0, psnr_member=30.0, attracted=[True, True, True, False] + [False] * 4, captured=False)
    rows = attraction(table)
    assert rows["attracted"].tolist() == [0.75, 0]
    assert rows["distance"].tolist() == [1.5, 5.5]
    assert (rows["attracted_low"][0], rows["attracted_high"][0]) == tuple(map(float, proportion_interval(3, 4)))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probes")
    arguments = ["experiment=smoke", "tracking=none", "progress=false", "rungs=last", "probes=3", "recovery=iterate"]
    arguments.append("controls=true")
    ended = run_script("recover", *arguments, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    assert "probes of iterate random_pixels 0.8" in ended.stdout
    return folder / "runs"


def test_probes_that_two_runs_made_count_once():
    row = {"setup": "s", "rung": 1e-8, "member": 3, "kind": "shift", "strength": 1.0, "attracted": True}
    other = {**row, "strength": 2.0}
    assert len(distinct(pd.DataFrame([row, row, other]))) == 2


def test_probes_of_a_run_are_found_by_the_report(store):
    (run,) = finished(store, "probes")
    results = load_run(run.folder).results
    assert len(results) == 3 * (1 + sum(len(kind.strengths) for kind in KINDS.values()))
    findings = Findings.load(store)
    ((_, table),) = findings.probed
    pd.testing.assert_frame_equal(
        table.drop(columns=["setup", "rung"]).reset_index(drop=True), attraction(results).reset_index(drop=True)
    )
    shown = headline(findings)
    assert "Near-member probes: digits / fc; random_pixels 80 %, zero fill; iterate" in shown
    assert all(f"    {kind}: " in shown for kind in KINDS)
    assert max(map(len, shown.splitlines())) <= 120


@pytest.fixture(scope="module")
def collect():
    """The script that writes a study's tables and figure."""
    path = Path(__file__).parents[2] / "experiments" / "collect.py"
    spec = importlib.util.spec_from_file_location("collect", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_study_s_tables_hold_its_probes_with_their_method_and_degradation(store, collect, tmp_path):
    summary = collect.summary_of("smoke", store)
    table = collect.probed(summary, store)
    (run,) = finished(store, "probes")
    expected = attraction(run.results)
    pd.testing.assert_frame_equal(table[expected.columns], expected)
    row = summary.loc[summary["control"] == "none", collect.CELL[:-1]].iloc[0]
    set_by, others = row.dropna().index, row.index[row.isna()]
    assert {"starts", "max_iterations", "network"} <= {*set_by}
    assert (table[set_by] == row[set_by]).all(axis=None)
    assert table[others].isna().all(axis=None)
    assert collect.probed(summary, tmp_path).empty


def test_a_row_of_a_study_that_was_not_made_anew_keeps_its_controls(store, collect, tmp_path):
    summary = collect.summary_of("smoke", store)
    file = tmp_path / "results.csv"
    file.write_text(collect.written(summary))
    kept = collect.with_older(summary.iloc[:0], file, collect.CELL)
    assert controls_of(kept) == controls_of(summary)
    assert sum(map(len, controls_of(kept))) == 4
    assert len(collect.with_older(summary, file, collect.CELL)) == len(summary)
    assert collect.with_older(summary, tmp_path / "none.csv", collect.CELL) is summary


def test_the_figure_of_an_audit_has_a_panel_for_each_cell_and_a_colour_for_one_meaning(store, collect):
    summary = collect.summary_of("smoke", store)
    probes = collect.probed(summary, store)
    whole = collect.controls(summary, pd.concat([probes, probes.assign(recovery="energy")]))
    above, *below = (
        [trace for trace in whole.data if trace.yaxis == axis] for axis in sorted({trace.yaxis for trace in whole.data})
    )
    assert [[trace.name for trace in panel] for panel in below] == 2 * [list(KINDS)]
    colours = [{trace.marker.color or trace.line.color for trace in panel} for panel in (above, *below)]
    assert not colours[0] & colours[1]
    assert colours[1] == colours[2]
    assert {trace.legend for trace in above} != {trace.legend for panel in below for trace in panel}
    # a control that was not made for a cell leaves its place empty, and does not move the others
    fewer = collect.controls(summary[summary["control"] != "untrained"], probes)
    assert list(fewer.layout.xaxis.ticktext) == ["audited", "inpaint", "reference", "nearest"]
    assert len(collect.controls(summary, probes.iloc[:0]).data) == 2
