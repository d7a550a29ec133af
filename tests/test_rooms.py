"""The rooms: what each may import, in the code and in a fresh interpreter."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import memorization

ROOT = Path(memorization.__file__).parents[1]
CORE = ["data", "degradations", "architectures", "recovery", "extraction", "evaluation"]
LINT = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]


@pytest.mark.parametrize("room", CORE)
def test_the_core_loads_nothing_of_the_framework(room, loaded):
    assert loaded[room] == set()


def test_the_report_is_made_without_hydra_and_lightning(loaded):
    assert loaded["report"] <= {"omegaconf", "filelock", "plotly"}


def room_modules(room):
    """Every module of a room, by its dotted name."""
    paths = sorted((ROOT / "memorization" / room).rglob("*.py"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths if path.stem[:2] != "__"]


@pytest.fixture(scope="module")
def loaded():
    """What of the framework is there in a fresh interpreter, once it has imported all of a room and of those before."""
    framework = {"hydra", "omegaconf", "pytorch_lightning", "lightning_fabric", "wandb", "filelock", "plotly"}
    code = "import sys"
    for room in (*CORE, "report"):
        imports = "\n".join(f"import {name}" for name in (f"memorization.{room}", *room_modules(room)))
        code += f"\n{imports}\nprint({room!r}, *({framework!r} & {{*sys.modules}}))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return {room: set(found) for room, *found in map(str.split, ended.stdout.splitlines())}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        (None, ""),
        ("data/split.py", "import memorization.recovery.solver"),
        ("recovery/solver.py", "import pytorch_lightning"),
        ("evaluation/metrics.py", "import memorization.config.groups"),
        ("report/page.py", "import hydra"),
        ("degradations/erasures.py", "import memorization.architectures"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, module, line):
    shutil.copytree(ROOT / "memorization", tmp_path / "memorization")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    if module:
        with (tmp_path / "memorization" / module).open("a") as file:
            file.write(f"\n{line}\n")
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    ended = subprocess.run(LINT, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert ended.returncode == (1 if module else 0), ended.stdout + ended.stderr
    assert ("BROKEN" in ended.stdout) == bool(module)


def test_few_modules_lie_beside_the_rooms():
    assert len(list((ROOT / "memorization").glob("*.py"))) <= 6


KEY = re.compile(
    r"\b(dataset|architecture|training|degradation|recovery|operator|tracking|trainer)\.[a-z_]+( is\b|=)"
    r"|\b(dataset|architecture|degradation|recovery|operator|control|rungs|controls|probes)=|--plan"
)


def test_below_the_configuration_no_key_of_it_is_spelled():
    """In no text of the program; of docstrings, which tell readers, nothing is asked."""
    for room in ("data", "degradations", "architectures", "recovery", "evaluation", "store", "engine"):
        for path in sorted((ROOT / "memorization" / room).rglob("*.py")):
            tree = ast.parse(path.read_text())
            told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in told]
            spelled = [f"{path}:{text.lineno}: {text.value}" for text in texts if KEY.search(str(text.value))]
            assert not spelled
