"""Other packages: their parts are found, composed, run, reported and listed, without a line changed here."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from memorization import testing
from memorization.config import choices
from tests.preloaded import PYTHON

PARTS = {"datasets": "waves", "architectures": "shallow", "degradations": "checkerboard", "methods": "blended"}
PARTS |= {"priors": "stripes"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder in which the example package is installed."""
    folder, source = tmp_path_factory.mktemp("installed"), Path(__file__).parents[1] / "example"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return folder


def called(module, *words, beside, cwd):
    """What `python -m module` prints where the folder `beside` is on the path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(beside), os.environ.get("PYTHONPATH", "")])}
    command = [*PYTHON, "-m", module, *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_example_is_listed_swept_and_reported(installed, tmp_path):
    shown = called("memorization.recover", "--help", beside=installed, cwd=tmp_path)
    assert all(re.search(rf" {name}\b", shown.stdout) for kind, name in PARTS.items() if kind != "priors"), shown.stderr
    words = ["-m", "experiment=waves", "recovery.share=0.3,0.5", "operator=known", "tracking=none", "progress=false"]
    swept = called("memorization.recover", *words, beside=installed, cwd=tmp_path)
    assert "2 of 2 jobs: 2 done" in swept.stdout, swept.stderr
    assert swept.stderr == ""
    told = called("memorization.report", beside=installed, cwd=tmp_path).stdout
    assert "waves / shallow: 10 members and 10 non-members" in told
    assert "checkerboard 50 %, zero fill" in told
    assert "blended known, share=0.3" in told
    shown = called("memorization.extract", "--help", beside=installed, cwd=tmp_path)
    assert re.search(r" prior .*\bstripes\b", shown.stdout), shown.stderr
    explained = called("memorization.recover", "--help", "recovery", beside=installed, cwd=tmp_path).stdout
    assert "\nrecovery=blended\n" in explained
    assert "recovery.share: number; default " in explained
    explained = called("memorization.recover", "--help", "degradation", beside=installed, cwd=tmp_path).stdout
    assert re.search(
        r"degradation\.side: whole number; default 2\n +of a field, [^:]* is seen\s+whole,\s+and", explained
    )
    wrong = called(
        "memorization.recover", "degradation=checkerboard", "degradation.side=0", beside=installed, cwd=tmp_path
    )
    assert wrong.stderr == "error: degradation.side is 0; the side of a field, in pixels: at least 1\n"


def test_the_parts_of_the_example_conform(installed, tmp_path):
    checks = "from memorization.testing import check, parts; found = [*parts('memorization_example')]; "
    code = checks + "print(found); [check(*part) for part in found]"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])}
    ended = subprocess.run([*PYTHON, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{[*PARTS.items()]}\n"


def test_the_meaning_of_a_key_is_read_from_a_docstring():
    text = """Moves images.

    Args:
        to (float | None): where to,
            in pixels.
        width, height: of the frame
    and what follows.
    turned: by: degrees
    """
    said = {key: choices._meaning(inspect.cleandoc(text), key) for key in ("to", "height", "turned", "frame", "Args")}
    of_some = {"to": "where to, in pixels.", "height": "of the frame", "turned": "by: degrees"}
    assert said == {**of_some, "frame": "", "Args": ""}


def test_a_package_without_a_part_is_not_taken_to_conform():
    with pytest.raises(ValueError, match=r"^no part of 'my-package' is registered; give the name under which"):
        testing.parts("my-package")


@pytest.mark.parametrize(
    ("part", "old", "new", "said"),
    [
        ("checkerboard", "images * seen", "images * seen + images.mean()", "depends on the others of its batch"),
        ("checkerboard", "erased=erased", "erased=~erased", "erased is not where H is 0"),
        ("blended", "problem.autoencoder(state.x)", "problem.autoencoder(state.x.mean(0, True).expand_as(state.x))",
         "depends on the others of its batch"),
        ("blended", "revision: ClassVar[int] = 1", "", "declares no revision"),
        ("waves", "@dataclass(frozen=True)", "@dataclass", "must be frozen"),
        ("stripes", "generator=generator", "", "does not depend on its generator alone"),
        ("stripes", "torch.arange(height)", "torch.arange(2)", "draws (5, 1, 2, 8) for 5 of (1, 8, 8)"),
        ("shallow", "return y", "return y.mean(1, keepdim=True)", "maps"),
    ],
)  # fmt: skip
def test_a_part_that_is_broken_does_not_conform(installed, tmp_path, part, old, new, said):
    package = tmp_path / "memorization_example"
    subprocess.run(["cp", "-r", str(installed / "memorization_example"), str(package)], check=True)
    file = package / f"{part}.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    kind = next(kind for kind, name in PARTS.items() if name == part)
    code = f"from memorization.testing import check; check({kind!r}, {part!r})"
    path = os.pathsep.join([str(tmp_path), str(installed), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run([*PYTHON, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "AssertionError" in ended.stderr
    assert said in ended.stderr


@pytest.mark.parametrize(("kind", "name"), testing.parts())
def test_our_own_parts_conform(kind, name):
    testing.check(kind, name)


def test_a_package_that_cannot_be_imported_costs_a_note(installed, tmp_path):
    package = tmp_path / "memorization_example"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('broken')")
    path = os.pathsep.join([str(tmp_path), str(installed), os.environ.get("PYTHONPATH", "")])
    code = "from memorization.degradations import DEGRADATIONS; print(*DEGRADATIONS)"
    ended = subprocess.run(
        [*PYTHON, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert ended.stdout.startswith("random_pixels box")
    assert "checkerboard of memorization_example.checkerboard:Checkerboard cannot be imported" in ended.stderr
    assert "broken" in ended.stderr


def test_files_of_configuration_need_no_init_file(tmp_path):
    facts = tmp_path / "bare-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: bare\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[memorization.conf]\nbare = bare.conf\n")
    (tmp_path / "bare" / "conf" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults:\n  - override /dataset: digits\n"
    (tmp_path / "bare" / "conf" / "experiment" / "mine.yaml").write_text(text)
    shown = called("memorization.recover", "-m", "experiment=mine", "--plan", beside=tmp_path, cwd=tmp_path)
    assert "1 of 1 jobs: 1 missing" in shown.stdout, shown.stderr
    assert shown.stderr == ""


BAD = """
from __future__ import annotations
import sys
from dataclasses import dataclass
from memorization.degradations import Box

@dataclass(frozen=True)
class Inheriting(Box):
    corner: bool = False

def unannotated(shape, width=3):
    return None

number = 3
"""


def test_a_bad_part_of_another_package_costs_a_note_and_not_the_command(tmp_path):
    (tmp_path / "bad.py").write_text(BAD)
    (tmp_path / "leaving.py").write_text("import sys; sys.exit(3)")
    facts = tmp_path / "bad-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1\n")
    (facts / "entry_points.txt").write_text(
        "[memorization.degradations]\ninheriting = bad:Inheriting\nbox = bad:Inheriting\nnumber = bad:number\n"
        "leaving = leaving:Part\n"
        "[memorization.architectures]\nunannotated = bad:unannotated\n[memorization.conf]\nbad = not_there\n"
    )
    shown = called("memorization.recover", "--help", beside=tmp_path, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "inheriting" in shown.stdout
    notes = [line for line in shown.stderr.splitlines() if line.startswith("note: memorization.")]
    assert len({line.split(": ")[2].split()[0] for line in notes}) == 5, notes
    taken = "box of bad:Inheriting has a name that memorization itself has taken (give it another name among the entry"
    assert any(taken in line for line in notes)
