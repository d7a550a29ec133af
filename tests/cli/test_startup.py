"""What each command loads before it answers, in a fresh interpreter; and that what it knows without is true."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from enum import EnumType
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import memorization
from memorization.config import choices
from memorization.config.choices import Choice
from memorization.engine import settings
from tests.report.store import write_probes, write_run

HEAVY = {"torch", "pytorch_lightning", "torchmetrics", "wandb", "pandas", "pyarrow", "scipy", "sklearn", "skimage"}
HEAVY |= {"plotly", "datasets"}
SHOWN = [
    ("recover", "--help"),
    ("train", "--help"),
    ("extract", "--help"),
    ("recover", "--help", "recovery"),
    ("extract", "--help", "keys"),
    ("recover", "--cfg", "job"),
    ("extract", "--cfg", "job"),
    ("recover", "recovery.wieght=2"),
    ("recover", "--version"),
    ("report", "--help"),
    ("cli.store", "--help"),
    ("tracking.dashboard", "--help"),
]


def loaded(*words: str) -> set[str]:
    """The heavy packages that are there once a command, called by its module and arguments, has ended."""
    code = "import atexit, runpy, sys\n"
    code += "atexit.register(lambda: print('\\nloaded', *{name.partition('.')[0] for name in sys.modules}))\n"
    code += f"sys.argv = {list(words)!r}\nrunpy.run_module('memorization.{words[0]}', run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return {*ended.stdout.rpartition("loaded ")[2].split()} & HEAVY


@pytest.fixture(scope="module", autouse=True)
def asked_once() -> None:
    """The first command after a change of the code asks the components."""
    choices.choices()


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_a_command_that_only_shows_something_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    assert loaded(*words) == set()


def test_the_version_is_that_of_this_project(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from memorization import recover

    monkeypatch.setattr("sys.argv", ["memorization-recover", "--version"])
    recover.main()
    assert capsys.readouterr().out.startswith(f"memorization {version('memorization')}, hydra-core ")


def test_the_store_is_listed_without_anything_heavy(tmp_path: Path) -> None:
    assert loaded("cli.store", "--store", str(tmp_path), "list") == set()


@pytest.mark.parametrize("table", ["--summary", "--compare", "--json"])
def test_a_table_of_a_store_is_made_with_pandas_and_scipy_alone(tmp_path: Path, table: str) -> None:
    write_probes(tmp_path, write_run(tmp_path, {}), {"none": [4], "shift": [4, 1]})
    write_run(tmp_path, {"recovery": {"name": "pnp_admm"}})
    assert loaded("report", "--store", str(tmp_path), table) == {"pandas", "pyarrow", "scipy"}


def test_an_audit_loads_no_part_of_a_page_or_of_a_command() -> None:
    code = "import sys; from memorization import audit; print(*{name.partition('.')[0] for name in sys.modules})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {*shown.split()} & {"plotly", "jinja2", "sklearn", "playwright", "pytorch_lightning", "wandb", "hydra"}


def test_what_a_store_has_is_found_without_lightning_and_pandas(smoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(smoke[0])
    found = loaded("recover", "-m", "experiment=smoke", "--plan")
    assert "torch" in found  # the components are made, which checks their settings
    assert not found & {"pytorch_lightning", "torchmetrics", "wandb", "pandas", "sklearn", "skimage", "plotly"}


def as_words(choice: Choice) -> list[Any]:
    """A choice as values that can be compared: of an enumeration, its name and members."""

    def plain(kind: Any) -> Any:
        if not isinstance(kind, EnumType):
            return kind
        return kind.__name__, [(name, str(word)) for name, word in kind.__members__.items()]

    return [choice.component, choice.told, [(key, plain(kind), default) for key, kind, default in choice.fields]]


def test_what_is_kept_of_the_components_is_what_they_say() -> None:
    kept, asked = choices.choices(), choices.asked()
    assert {group: [*known] for group, known in kept.items()} == {group: [*known] for group, known in asked.items()}
    for group, known in asked.items():
        for name, choice in known.items():
            assert as_words(kept[group][name]) == as_words(choice)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of one's own, which is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(choices, "choices", choices.choices.__wrapped__)
    return tmp_path / "memorization"


def test_other_code_is_asked_anew(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(Path(memorization.__file__).parent, tmp_path / "code", ignore=lambda *_: ["__pycache__"])
    monkeypatch.setattr(choices, "PACKAGE", tmp_path / "code")
    choices.choices()
    (kept,) = alone.glob("choices-*.json")
    told = json.loads(kept.read_text())
    told["choices"]["training"]["adam"]["told"] = "kept"
    kept.write_text(json.dumps(told))
    assert choices.choices()["training"]["adam"].told == "kept"
    with (tmp_path / "code/engine/settings.py").open("a") as file:
        file.write("\n")
    assert choices.choices()["training"]["adam"].told == settings.Training.__doc__.partition("\n")[0]


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"code": 1'])
def test_a_damaged_cache_is_made_anew(alone: Path, damage: str) -> None:
    good = choices.choices()
    (kept,) = alone.glob("choices-*.json")
    whole = kept.read_text()
    kept.write_text(damage)
    assert {group: [*known] for group, known in choices.choices().items()} == {g: [*known] for g, known in good.items()}
    assert kept.read_text() == whole


def test_a_cache_that_cannot_be_written_costs_time_alone(alone: Path) -> None:
    alone.write_text("a file where the folder would be")
    assert "energy" in choices.choices()["recovery"]


def test_of_parts_of_other_packages_nothing_is_kept(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        groups = frozenset({"console_scripts", "memorization.methods"})

    monkeypatch.setattr(choices, "entry_points", Installed)
    assert "energy" in choices.choices()["recovery"]
    assert not alone.exists()


def test_ctrl_c_while_a_command_begins_is_no_traceback() -> None:
    code = "import sys; sys.argv = ['memorization-recover']; import memorization; raise KeyboardInterrupt"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")
