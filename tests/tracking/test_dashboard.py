"""The dashboard as code: it serialises without a server, and names nothing that no run logs."""

from __future__ import annotations

import importlib.util
import json
from unittest.mock import Mock

import pytest

from memorization.tracking.curves import GALLERIES, LAST
from memorization.tracking.dashboard import main
from tests.conftest import run_script
from tests.tracking.test_tracking import DEAD, of_type, records

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # of wandb-workspaces


def found(definition: object, *keys: str) -> set[str]:
    """All texts under any of these keys, however deep."""
    if isinstance(definition, list):
        return set().union(*(found(item, *keys) for item in definition))
    if not isinstance(definition, dict):
        return set()
    texts = set()
    for key, value in definition.items():
        if key in keys:
            texts |= {value} if isinstance(value, str) else set(value)
        texts |= found(value, *keys)
    return texts


EXTRACTION = [
    "dataset=digits", "dataset.members=6", "dataset.non_members=5", "architecture.depth=5", "architecture.width=64",
    "training.learning_rate=3e-3", "training.target_loss=1e-3", "training.ladder=[1e-3]", "progress=false",
    "search.queries=8000", "search.batch_size=10", "search.max_iterations=60",
]  # fmt: skip


def test_the_definition_names_just_what_runs_log(smoke, tmp_path, capsys):
    main(["--dry-run", "--entity", "somebody"])
    definition = json.loads(capsys.readouterr().out)
    ended = run_script("extract", *EXTRACTION, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    logged, asked = set(), set()
    for folder in (smoke[0], tmp_path):
        for run in (folder / "runs" / "wandb").glob("offline-run-*"):
            log = records(run)
            for row in of_type(log, "history"):
                logged |= {name.removesuffix("._type") for name in row["item"]}
            (kind,) = {row["job_type"] for row in of_type(log, "run") if "display_name" in row}
            asked |= {kind} if '"seed"' in json.dumps(log) else set()
    assert asked == {"train", "recover", "extract"}
    assert set(definition) == {"workspace", "report"}
    for part in definition.values():
        panels = [panel for panel in json.dumps(part).split('"viewType"')[1:] if "Run History" in panel]
        assert len(panels) == 12
        named = found(part, "metrics", "xAxis", "yAxis", "mediaKeys") - {
            "_step"
        }  # W&B's own, of panels without an axis
        by_seed = {"config:seed.value", *(f"summary:{name}" for name in LAST.values())}
        assert by_seed <= named
        assert {"members/median_psnr_erased", "members/recovered", "rung", "train/loss", "gallery"} <= named
        assert {"extraction/extracted", "extraction/queries", "ends"} <= named
        assert named - by_seed | {*LAST.values()} <= logged
        assert set(found(part, "groupAgg") | found(part, "groupArea")) == {"mean", "minmax"}
    for _, table in GALLERIES.values():
        assert table in json.dumps(definition["report"])
        assert table in logged


def test_runs_that_differ_in_their_seed_alone_are_one_line(capsys):
    main(["--dry-run"])
    definition = json.dumps(json.loads(capsys.readouterr().out))
    assert '"displayName"' in definition
    assert '"group"' in definition


@pytest.mark.parametrize("key", [None, "0" * 40])
def test_without_a_key_or_a_server_one_line_says_what_to_do(key, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("WANDB_BASE_URL", DEAD)
    monkeypatch.setattr("memorization.tracking.dashboard.SECONDS", 1)
    with pytest.raises(SystemExit, match=r"^error: W&B is not reached \([^\n]+wandb login[^\n]+--dry-run$"):
        main(["--project", "p"])


def test_an_error_without_a_text_is_told_by_its_kind(monkeypatch):
    monkeypatch.setattr("memorization.tracking.dashboard.save", Mock(side_effect=TimeoutError()))
    with pytest.raises(SystemExit, match=r"^error: W&B is not reached \(TimeoutError\); "):
        main(["--project", "p"])


def test_without_the_extra_one_line_names_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", {"wandb_workspaces": None}.get)
    with pytest.raises(SystemExit, match=r"^error: [^\n]*pip install 'memorization\[dashboard\]'$"):
        main(["--dry-run"])
