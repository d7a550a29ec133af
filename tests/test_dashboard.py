"""The dashboard as code: it serialises without a server, and names nothing that no run logs."""

from __future__ import annotations

import importlib.util
import json

import pytest

from memorization.tracking.dashboard import main
from tests.test_tracking import DEAD, of_type, records

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


def test_the_definition_names_just_what_runs_log(smoke, capsys):
    main(["--dry-run", "--entity", "somebody"])
    definition = json.loads(capsys.readouterr().out)
    folder, _ = smoke
    logged = set()
    for run in (folder / "runs" / "wandb").glob("offline-run-*"):
        for row in of_type(records(run), "history"):
            logged |= {name.removesuffix("._type") for name in row["item"]}
    assert set(definition) == {"workspace", "report"}
    for part in definition.values():
        panels = [panel for panel in json.dumps(part).split('"viewType"')[1:] if "Run History" in panel]
        assert len(panels) == 7
        named = found(part, "metrics", "xAxis", "mediaKeys") - {"_step"}  # W&B's own, of panels without an axis
        assert {"members/median_psnr_erased", "members/recovered", "train_loss", "train/loss", "gallery"} <= named
        assert named <= logged
    assert "gallery_table" in json.dumps(definition["report"])
    assert "gallery_table" in logged


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


def test_without_the_extra_one_line_names_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", {"wandb_workspaces": None}.get)
    with pytest.raises(SystemExit, match=r"^error: [^\n]*pip install 'memorization\[dashboard\]'$"):
        main(["--dry-run"])
