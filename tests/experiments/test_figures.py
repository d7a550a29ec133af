"""The pictures of the studies and of the front page: each was drawn from the tables that lie beside it today."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from memorization.report.provenance import changed_tables, record_tables, recorded_tables

ROOT = Path(__file__).parents[2]
FIGURES = [*sorted(ROOT.glob("experiments/*/figure.png")), ROOT / "docs/figure.png"]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda path: path.parent.name)
def test_a_figure_is_no_older_than_its_tables(figure):
    """Draw it anew with the last command of the study's page, without the store."""
    assert recorded_tables(figure)
    assert changed_tables(figure) == []


def test_a_picture_knows_the_tables_that_changed_since(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    picture, tables = tmp_path / "figure.png", [tmp_path / "a.csv", tmp_path / "of another" / "b.csv"]
    tables[1].parent.mkdir()
    Image.fromarray(pixels).save(picture)
    assert (recorded_tables(picture), changed_tables(picture)) == ({}, [])
    for table in tables:
        table.write_text("x\n1\n")
    record_tables(picture, tables)
    assert np.array_equal(np.asarray(Image.open(picture)), pixels)
    assert [*recorded_tables(picture)] == ["a.csv", "of another/b.csv"]
    assert changed_tables(picture) == []
    tables[1].write_text("x\n2\n")
    assert changed_tables(picture) == ["of another/b.csv"]
    tables[0].unlink()
    assert changed_tables(picture) == ["a.csv", "of another/b.csv"]
    record_tables(picture, tables[1:])
    assert changed_tables(picture) == []


def test_every_study_s_figure_is_drawn_from_its_tables(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    collect = importlib.import_module("collect")
    for study, draw in collect.FIGURES.items():
        results, probes = (ROOT / "experiments" / study / f"{name}.csv" for name in ("results", "probes"))
        table = collect.read(probes.read_text()) if probes.exists() else pd.DataFrame(columns=collect.PROBE)
        assert draw(collect.read(results.read_text()), table).data
