"""Runs of different versions of the code are different runs, and what stands in one table says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from memorization.report.findings import Findings
from memorization.report.page import build
from memorization.report.tables import headline
from memorization.store.versions import differing, words
from tests.report.store import write_run

PRESENT = {"data": 1, "digits": 1, "fc": 1, "training": 1, "solver": 1, "scores": 1, "random_pixels": 1, "energy": 2}


def methods(findings: Findings) -> list[str]:
    return [cell.labels.method for cell in findings.last_cells]


@pytest.mark.parametrize(
    ("other", "name"),
    [(None, "energy known, older code"), (PRESENT | {"energy": 1}, "energy known, energy revision 1")],
)
def test_runs_of_other_revisions_are_no_repetitions(tmp_path: Path, other: dict[str, int] | None, name: str) -> None:
    write_run(tmp_path, {}, revisions=PRESENT)
    write_run(tmp_path, {"rungs": "last"}, recovered=(1, 0), revisions=other)
    findings = Findings.load(tmp_path)
    assert name in methods(findings)
    assert sorted(cell.members.successes for cell in findings.last_cells) == [1, 2]
    assert all(not cell.repeated for cell in findings.cells)
    assert {cell.labels.variant for cell in findings.cells} == {
        text.removeprefix("energy ") for text in methods(findings)
    }
    note = " ".join(headline(findings).split())
    assert "Runs of different versions stand in this table: " in note
    assert "Run the sweep again with the present version" in note
    assert "Runs of different versions stand in this table: " in build(findings)


@pytest.mark.parametrize("revisions", [None, PRESENT])
def test_runs_of_one_version_are_repetitions_as_before(tmp_path: Path, revisions: dict[str, int] | None) -> None:
    for rungs in ("all", "last"):
        write_run(tmp_path, {"rungs": rungs}, revisions=revisions)
    findings = Findings.load(tmp_path)
    assert methods(findings) == ["energy known"]
    assert all(len(cell.repeated) == 1 for cell in findings.cells)
    assert "different versions" not in headline(findings)
    assert "different versions" not in build(findings)


def test_what_was_trained_or_degraded_by_other_code_has_a_name_of_its_own(tmp_path: Path) -> None:
    """No picture, no pair of methods and no line joins what was not degraded alike."""
    write_run(tmp_path, {}, autoencoder="0123456789abcdef", revisions=PRESENT)
    write_run(tmp_path, {}, autoencoder="fedcba9876543210", revisions=PRESENT | {"training": 2})
    write_run(tmp_path, {}, autoencoder="fedcba9876543210", revisions=PRESENT | {"training": 2, "random_pixels": 3})
    write_run(tmp_path, {"recovery.name": "iterate"}, autoencoder="aaaaaaaaaaaaaaaa")
    names = [(cell.labels.autoencoder, cell.labels.degradation) for cell in Findings.load(tmp_path).last_cells]
    random_pixels = "random_pixels 50 %, zero fill"
    assert sorted(names) == [
        ("digits / fc, older code", random_pixels),
        ("digits / fc, training revision 1", random_pixels),
        ("digits / fc, training revision 2", f"{random_pixels}, random_pixels revision 1"),
        ("digits / fc, training revision 2", f"{random_pixels}, random_pixels revision 3"),
    ]


def test_other_images_under_one_version_are_told_apart_by_signatures(tmp_path: Path) -> None:
    for autoencoder in ("0123456789abcdef", "fedcba9876543210"):
        write_run(tmp_path, {}, autoencoder=autoencoder, revisions=PRESENT)
    names = {cell.labels.autoencoder for cell in Findings.load(tmp_path).cells}
    assert names == {"digits / fc, autoencoder 01234567", "digits / fc, autoencoder fedcba98"}


def test_runs_of_other_revisions_are_no_repetitions_over_seeds(tmp_path: Path) -> None:
    write_run(tmp_path, {"seed": 0}, revisions=PRESENT)
    write_run(tmp_path, {"seed": 1}, revisions=PRESENT | {"solver": 2})
    assert Findings.load(tmp_path).over_seeds == []
    write_run(tmp_path, {"seed": 1}, revisions=PRESENT)
    ((_, found, _),) = Findings.load(tmp_path).over_seeds
    assert found.seeds == 2


def test_controls_of_another_version_are_named(tmp_path: Path) -> None:
    write_run(tmp_path, {}, revisions=PRESENT)
    write_run(tmp_path, {"control": "inpaint"})
    assert "1 run of older code" in " ".join(headline(Findings.load(tmp_path)).split())


def test_the_note_names_parts_revisions_and_numbers_of_runs() -> None:
    runs = [{"revisions": {"energy": 1, "robust": number}} for number in (1, 2, 2)]
    assert differing([]) == differing([{}, {}]) == differing(runs[1:]) == ""
    assert differing([*runs, {}]).startswith(
        "Runs of different versions stand in this table: robust revision 1 (1 run) and revision 2 (2 runs); 1 run of "
        "older code, which noted no revisions, beside 3 that did. "
    )


def test_words_tell_revisions_apart_and_say_nothing_of_what_agrees() -> None:
    assert words([{"a": 1, "b": 2}, {"a": 1, "b": 3}]) == ["b revision 2", "b revision 3"]
    assert words([{"a": 1}, {"a": 1}, {}]) == ["", "", "older code"]
    assert words([{"a": 1, "new": 1}, {"a": 1}]) == ["", "older code"]
    assert words([{}, {}]) == ["", ""]


def loaded(code: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after `code`."""
    script = f"{code}\nimport sys; print('loaded', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.rpartition("loaded ")[2].split()}


def test_the_note_needs_neither_pandas_nor_torch() -> None:
    assert not loaded("import memorization.store.versions") & {"pandas", "numpy", "torch"}


def test_the_report_loads_neither_hydra_nor_lightning_nor_wandb(tmp_path: Path) -> None:
    write_run(tmp_path, {})
    calls = [["--store", str(tmp_path), *options] for options in ([], ["--summary"], ["--json"], ["--compare"])]
    code = f"from memorization.report import main\nfor words in {calls!r}: main(words)"
    assert not loaded(code) & {"hydra", "lightning", "pytorch_lightning", "wandb"}
