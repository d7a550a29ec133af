"""The front page and the documentation: what is quoted works, what is listed is all there is."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from torch import nn

import memorization
from memorization.cli.entry import CONF
from memorization.cli.store import arguments
from memorization.config import schema
from memorization.config.experiment import resolve
from memorization.degradations import Blur, Gain
from memorization.evaluation.batch import Recipe, recover_batch
from memorization.recovery import Estimated, PnPADMM
from memorization.report import parsed
from tests.cli import test_extract_command

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CONFIGURED = {"memorization-train": "train", "memorization-recover": "recover", "memorization-extract": "extract"}
FLAGS = {"-m", "--plan", "--help"}
PLACES = ("hydra.", "hydra/")  # of sweepers and launchers, which are not composed here


def blocks(language: str) -> list[tuple[str, str]]:
    """The page and the text of each block of a language."""
    return [
        (page.relative_to(ROOT).as_posix(), text)
        for page in PAGES
        for kind, text in BLOCK.findall(page.read_text())
        if kind == language
    ]


def commands() -> list[tuple[str, str]]:
    """The page and the text of each quoted command, once each."""
    found = {}
    for page, text in blocks(""):
        for line in text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                found[shlex.join(words)] = page
    return [(page, command) for command, page in found.items()]


@pytest.fixture(scope="module")
def reference():
    """The module that makes the reference pages."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import reference
    finally:
        sys.path.remove(str(ROOT / "docs"))
    return reference


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with what the examples call the reader's own: a model, its weights and images."""
    (tmp_path / "my_models.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, 64), nn.Unflatten(1, (1, 8, 8)))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Unflatten(1, (1, 8, 8)))
    torch.save(net.state_dict(), "net.pt")
    for name in ("members", "others"):
        torch.save(torch.rand(4, 1, 8, 8), f"{name}.pt")
    return tmp_path


def test_the_front_page_is_short():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_quoted_command_is_understood(page, command):
    check_understood([word for word in shlex.split(command) if word != "PYTHONPATH=."])


@pytest.mark.parametrize("study", sorted(page.parent.name for page in ROOT.glob("experiments/*/README.md")))
def test_the_commands_of_a_study_are_understood(study, tmp_path):
    """As bash would run them, loops and variables included, with programs that only write down their arguments."""
    page, written = ROOT / "experiments" / study / "README.md", tmp_path / "commands"
    for name in (*CONFIGURED, "memorization-report", "make", "python"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\nprintf '%s\\t' {name} \"$@\" >> {written}\necho >> {written}\n")
        program.chmod(0o755)
    for kind, block in BLOCK.findall(page.read_text()):
        if kind == "":
            environment = {"PATH": f"{tmp_path / 'bin'}:{os.defpath}"}
            ended = subprocess.run(["bash", "-euc", block], cwd=ROOT, env=environment, capture_output=True, text=True)
            assert ended.returncode == 0, ended.stderr
    commands = dict.fromkeys(written.read_text().splitlines())
    assert commands
    for command in commands:
        check_understood(command.rstrip("\t").split("\t"))


def check_understood(command):
    """Raise if a program, a key or a value of a command, which is a list of words, do not exist; nor an option but of a
    script of ours, of which it is checked that it is there."""
    program, *words = command
    if program in CONFIGURED:
        check_configured(CONFIGURED[program], [word for word in words if word not in FLAGS])
    elif program == "memorization-report":
        parsed(words)
    elif program == "memorization-store":
        arguments().parse_args(words)
    elif program == "memorization-dashboard":
        assert words == ["--dry-run"]
    elif program == "make":
        assert re.search(f"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
    else:
        assert (program, words[0]) in {("OMP_NUM_THREADS=1", "memorization-recover"), ("python", words[0])}, command
        assert program != "python" or (ROOT / words[0]).is_file()


def check_configured(name, words):
    """Raise if a key or a value of a command does not exist; of swept values, the first is tried."""
    schema.register()
    overrides = []
    for word in words:
        override = OverridesParser.create().parse_override(word)
        if word.startswith(PLACES):
            continue
        value = override.value()
        swept = override.is_sweep_override()
        if swept and not isinstance(value, ChoiceSweep):  # an interval, for Optuna
            continue
        if swept and (group := CONF / override.key_or_group).is_dir():
            assert set(map(str, value.list)) <= {file.stem for file in group.glob("*.yaml")}
        overrides.append(f"{override.get_key_element()}={shown(value.list[0])}" if swept else word)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        resolve(compose(name, overrides))


def shown(value):
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, list) else value


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_quoted_python_is_python(page, code):
    compile(code, page, "exec")


def test_the_example_of_the_front_page_audits_a_model(own, capsys):
    (code,) = (text for page, text in blocks("python") if page == "README.md")
    exec(code, {})
    assert "Verdict" in capsys.readouterr().out
    assert (own / "audit.html").stat().st_size > 100_000


def test_the_example_of_a_model_of_ones_own_audits_it(own, capsys):
    code = next(text for page, text in blocks("python") if page == "docs/howto/own_model.md")
    exec(code, {})
    assert "energy" in capsys.readouterr().out


def test_the_example_of_a_part_of_ones_own_works():
    code = next(text for page, text in blocks("python") if page == "docs/howto/plugin.md")
    names = {"__name__": __name__}
    exec(code, names)
    measured = names["Checkerboard"](side=4)(torch.ones(2, 1, 8, 8), seeds=[0, 1])
    assert torch.equal(measured.y == 0, measured.erased)
    assert measured.erased.double().mean() == 0.5
    with pytest.raises(ValueError, match="side is 0"):
        names["Checkerboard"](side=0)


def test_the_example_of_a_membership_inference_tells_members(capsys):
    (code,) = (text for page, text in blocks("python") if page == "docs/howto/audit.md")
    names = {}
    exec(code, names)
    assert "LiRA on the erased PSNR" in capsys.readouterr().out
    assert len(names["found"].table) == 40


def test_results_are_read_in_pandas_as_the_page_says(smoke, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(smoke[0])
    names = {}
    for code in (text for page, text in blocks("python") if page == "docs/howto/pandas.md"):
        for page in ("psnr.html", "shares.html", "intervals.html"):
            code = code.replace(page, str(tmp_path / page))
        exec(code, names)
    assert "energy" in capsys.readouterr().out
    assert (tmp_path / "psnr.html").is_file()
    assert (tmp_path / "shares.html").is_file()
    assert (tmp_path / "intervals.html").is_file()
    assert set(names["results"]["iterations_allowed"]) == {20}


def test_every_key_is_explained(reference):
    assert reference.explained() == (set(), set())


def test_every_column_of_results_is_explained(reference, smoke):
    found = set(memorization.load_results(smoke[0] / "runs").columns)
    images = torch.rand(2, 1, 8, 8)
    for degradation, family in ((Blur(1.0), "blur"), (Gain(), "gain")):
        recipe = Recipe(degradation, PnPADMM(max_iterations=1), Estimated(family))
        found |= set(recover_batch(recipe, lambda x: x, images, [0, 1], images).scores.columns)
    assert found == set(reference.COLUMNS)
    assert set(reference.ENDS) == test_extract_command.COLUMNS  # which a run is compared with there


def test_what_the_front_page_links_to_is_there():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        links = re.findall(r"""(?:\]\(|src=")(?!https:)([^)"#]+)""", page.read_text())
        assert links
        assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_experiment_is_listed_among_the_sweeps():
    cells = re.findall(r"^\|(.*?)\|", (ROOT / "docs/howto/sweeps.md").read_text(), re.MULTILINE)
    listed = re.findall(r"`(\w+)`", "".join(cells))
    assert {path.stem for path in (ROOT / "conf/experiment").glob("*.yaml")} <= set(listed)


def test_extras_that_are_named_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for page in PAGES for name in re.findall(r"memorization\[([a-z]+)\]", page.read_text())}
    assert named
    assert named <= set(extras)


def test_a_release_has_one_version():
    newest, date = re.findall(r"^## (\d\S*) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["version"], str(cited["date-released"])) == (newest, date)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]
    assert settings["version"]["fallback-version"] == newest


def test_the_site_is_built_without_a_warning_and_needs_no_network(tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for page in site.rglob("*.html"):
        assert not re.search(r"""<(?:script|link|img)[^>]*(?:src|href)=["']?(?:https?:)?//""", page.read_text()), page
    tour = (site / "tour" / "index.html").read_text()
    assert "members extracted" in tour  # it was run
    assert "Traceback" not in tour


README_ROWS = {  # of the front page's table: the method, and what it knows
    "`energy`, mask known (ours)": ("energy", "known"),
    "`energy`, blind (ours)": ("energy", "robust"),
    "`pnp_admm`, mask known (the paper's)": ("pnp_admm", "known"),
    "`pnp_admm`, blind (the paper's)": ("pnp_admm", "alternating"),
    "`iterate`: apply the autoencoder again and again": ("iterate", "none"),
}


def test_the_numbers_of_the_front_page_are_those_of_the_table():
    table = pd.read_csv(ROOT / "experiments/faces/seeds.csv")
    table = table[table["degradation"].eq("random_pixels") & table["fraction"].eq(0.8)]
    table = table.set_index(["recovery", "operator", "rung"])
    assert (table["seeds"] == 5).all()
    assert table["non_members_recovered"].sum() == 0
    quoted = [
        row.strip("| ").split(" | ") for row in (ROOT / "README.md").read_text().splitlines() if row.startswith("| `")
    ]
    assert [row[0] for row in quoted] == list(README_ROWS)
    for name, *cells in quoted:
        for rung, cell in zip((1e-2, 1e-4, 1e-8), cells, strict=True):
            found = 100 * table.loc[(*README_ROWS[name], rung), ["recovered", "recovered_low", "recovered_high"]]
            assert cell == "{:.0f} % ({:.0f} to {:.0f})".format(*found)


def test_what_the_front_page_says_of_extraction_is_in_the_tables():
    said = " ".join((ROOT / "README.md").read_text().split())
    counts = re.findall(r" (\d+), (\d+) and (\d+) of (\d+) (faces|photographs)\b", said)
    assert [(int(members), images) for *_, members, images in counts] == [(50, "faces"), (100, "photographs")]
    for *found, members, images in counts:
        seeds = pd.read_csv(ROOT / "experiments/extraction/seeds.csv")
        seeds = seeds[seeds["dataset"].eq({"photographs": "images"}.get(images, images)) & seeds["rung"].eq(1e-8)]
        assert (seeds["members"] == int(members)).all()
        assert [int(count) for count in found] == seeds.sort_values("seed")["extracted"].tolist()
    table = pd.read_csv(ROOT / "experiments/extraction/results.csv")
    assert (table.loc[table["control"] != "none", "extracted"] == 0).all()
    assert set(table["control"]) == {"none", "reference", "untrained"}
