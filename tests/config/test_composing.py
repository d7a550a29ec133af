"""Composing once what the jobs of a sweep have in common changes nothing of what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from memorization.cli import entry
from memorization.config import composing, schema
from tests.conftest import run_script

OVERRIDES = [
    [],
    ["seed=1", "seed=2"],
    ["recovery=energy", "recovery.weight=0.5"],
    ["recovery=energy", "seed=3"],  # of the same choices, without the weight
    ["recovery.weight=0.5"],  # no key of the default's
    ["experiment=smoke", "degradation=chain", "degradation@degradation.first=box"],
    ["experiment=smoke", "degradation=chain", "degradation@degradation.second=noise"],
    ["experiment=nothing_like_it"],
    ["recoveri=energy"],
    ["recovery={batch_size:7}"],  # a group's name, but a value
    ["++recovery=energy"],
    ["+extra={a:{b:1}}", "+extra.a.c=${seed}"],
    ["+extra=1", "++extra=2"],
    ["+seed=1"],
    ["~tracking"],
    ["~tracking.mode"],
    ["~degradation"],
    ["+experiment=smoke"],
    ["experiment=smoke", "hydra.sweep.dir=elsewhere", "hydra.job.name=other"],
    ["hydra/job_logging=default"],
    ["hydra.nothing=1"],
    ["hydra.sweep.dir=${store}/x", "store=a b"],
    ["cluster=joblib"],
    ["hydra.searchpath=[file://HERE]", "experiment=own", "seed=4"],
    ["experiment=own"],  # which only that place has
    ["seed=1,2"],
    ["rungs=[1e-1,last]"],
    ["dataset.size=choice(8,16)"],
]


@pytest.fixture
def loader(tmp_path: Path) -> Any:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/own.yaml").write_text("# @package _global_\ndefaults:\n  - smoke\nseed: 9\n")
    schema.register()
    with initialize_config_dir(str(entry.CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def outcome(loader: Any, words: list[str], mode: RunMode) -> Any:
    """What a composition gives: all values, their types and flags; or its error."""
    try:
        config = loader.load_configuration("recover", words, mode)
    except Exception as error:
        return type(error), str(error), repr(error.__cause__)
    kept = OmegaConf.to_container(config, resolve=False)
    return kept, [(name, *told) for name, told in leaves(config)]


def leaves(config: DictConfig, prefix: str = "") -> Any:
    for key in config:
        node = config._get_node(key)
        flags = (node._metadata.ref_type, node._metadata.object_type, node._metadata.optional, node._metadata.flags)
        yield f"{prefix}{key}", (*map(str, flags), node._get_full_key(None))
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
            yield from leaves(node, f"{prefix}{key}.")


@pytest.mark.parametrize("mode", RunMode)
def test_what_is_kept_is_what_hydra_composes(loader: Any, tmp_path: Path, mode: RunMode) -> None:
    asked = [[word.replace("HERE", str(tmp_path)) for word in words] for words in OVERRIDES]
    expected = [outcome(loader, words, mode) for words in asked]
    with composing.once():
        for words, told in [*zip(asked, expected, strict=True)] * 2:
            assert outcome(loader, words, mode) == told, words
    assert sum(isinstance(told[0], type) for told in expected) >= 8  # errors


def test_jobs_do_not_share_what_they_change(loader: Any) -> None:
    with composing.once():
        first = loader.load_configuration("recover", ["experiment=smoke"], RunMode.RUN)
        first.architecture.width, first.hydra.job.name = 1, "first"
        first.rungs.append(1e-5)
        second = loader.load_configuration("recover", ["experiment=smoke", "seed=1"], RunMode.RUN)
    assert (second.architecture.width, second.rungs) == (128, [1e-1, 1e-2])
    assert second.hydra.job.name != "first"


def test_choices_are_composed_once_for_all_jobs(loader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    merged = []
    single = type(loader)._load_single_config

    def counted(self: Any, default: Any, repo: Any) -> Any:
        merged.append(default.config_path)
        return single(self, default, repo)

    monkeypatch.setattr(type(loader), "_load_single_config", counted)
    with composing.once():
        for seed in range(5):
            for method in ("energy", "iterate"):
                config = loader.load_configuration("recover", [f"recovery={method}", f"seed={seed}"], RunMode.RUN)
                assert (config.recovery.name, config.seed) == (method, seed)
    assert merged.count("recover") == 2


def test_a_job_that_cannot_be_composed_ends_a_sweep_before_its_first(tmp_path: Path) -> None:
    refused = run_script("recover", "-m", "experiment=smoke", "+extra=1,2", "recovery.nothing=1", cwd=tmp_path)
    assert refused.returncode == 1
    assert "recovery.nothing" in refused.stderr
    assert "done" not in refused.stdout
    assert not (tmp_path / "runs/recoveries").exists()
