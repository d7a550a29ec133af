"""Real autoencoders of other people's packages, each audited with at most three lines: `make test-models`.

With `--table FILE` what was seen is written as a page of the documentation.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memorization import adapted, attractors, audit, extract
from memorization.architectures import Exported
from memorization.extraction.spectrum import Stability
from memorization.recovery import PnPADMM
from tests.models import kinds
from tests.models.kinds import KINDS, Kind

pytestmark = [  # that TorchScript and its exporter of ONNX are deprecated
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*legacy TorchScript-based ONNX export:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning"),
]
MOST = 3  # lines of the user's
FEW = PnPADMM(max_iterations=50)
NAMES = [kind.name for kind in KINDS]
SEEN: dict[str, tuple[str, str]] = {}  # of each kind: what the bare call says, and what was found
HEAD = """# Models that were tried

Each row is a small model of a real class. It was trained for seconds on five smooth random images, and audited with
`audit(model, members, others, ...)`: 80 % of the pixels erased, PnP-ADMM, known mask. The table shows that such models
can be audited, and what their user has to write. It does not show how much a model of this kind remembers.
`make test-models` installs the packages in `.venv-models`, tries the models and writes this page.

In eval mode, MONAI's `VarAutoEncoder` decodes its mean plus one standard deviation. If it was made with
`use_mean_at_inference=True`, it decodes its mean, and `output=0` is enough.

Seen with {versions}.

| model | what the first call says | what its user writes | members, non-members recovered |
|---|---|---|---|
"""


@pytest.fixture(scope="module", autouse=True)
def table(request):
    """Write the table once all kinds were tried."""
    yield
    if (path := request.config.getoption("--table")) and set(SEEN) == set(NAMES):
        Path(path).write_text(page())


def page() -> str:
    """What was seen, as a page."""
    packages = dict.fromkeys("pytorch-lightning" if kind.package == "lightning" else kind.package for kind in KINDS)
    rows = []
    for kind in KINDS:
        said, found = SEEN[kind.name]
        lines = [f"`{line}`" for line in (kind.first, kind.words) if line]
        rows.append(f"| {kind.name} | {said or 'nothing'} | {'<br>'.join(lines) or 'nothing'} | {found} |\n")
    versions = ", ".join(f"{name} {version(name).partition('+')[0]}" for name in packages)
    return HEAD.format(versions=versions) + "".join(rows)


def made(kind: Kind, folder: Path):
    """A model of this kind, trained, with the images and the words; and what it was before its user's first line."""
    members, others = kind.images()
    torch.manual_seed(0)
    given = kind.make(members, folder)
    names = {"model": given, "Exported": Exported, "Module": kinds.Module, "torch": torch}
    if "onnxruntime" in kind.first:
        names["onnxruntime"] = pytest.importorskip("onnxruntime")
    exec(kind.first, names)
    model, words = names["model"], eval(f"dict({kind.words})")
    if not kind.trained:
        kinds.trained(model, members, adapted(model, **words))
    return model, members, others, words, given


def told(capsys, model, members, others, **words) -> str:
    """What the user is told of a model that needs more words; empty if there is nothing to tell."""
    try:
        audit(model, members, others, recovery=FEW, progress=False, **words)
    except ValueError as error:
        return " ".join(str(error).split())
    return next((line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")), "")


def named(kind: Kind, message: str) -> set[str]:
    """The words that a message names with their values, and "first" if it names the line before the call."""

    def plain(text: str) -> str:
        return text.translate(str.maketrans("[]", "()", "'\" `"))

    calls = ast.parse(f"dict({kind.words})", mode="eval").body.keywords
    found = {call.arg for call in calls if plain(f"{call.arg}={ast.unparse(call.value)}") in plain(message)}
    return found | ({"first"} if kind.first and plain(kind.first.removeprefix("model = ")) in plain(message) else set())


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_a_kind_of_model_is_audited_with_few_lines_that_the_first_message_names(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model, members, others, words, given = made(kind, tmp_path)
    assert bool(kind.first) + len(words) <= MOST
    if isinstance(given, Path):
        first = told(capsys, given.name, members, others)
        assert "give the module with its weights, or memorization.architectures.Exported(file)" in first
        if message := told(capsys, model, members, others):
            first += f"<br>Then: {message}"
    else:
        if kind.first:
            model.config.mask_ratio = type(model.config)().mask_ratio  # as it was made
        first = message = told(capsys, model, members, others)
        exec(kind.first, {"model": model})
        assert named(kind, message) >= {*words, *(["first"] if kind.first else [])} - {"value_range"}
    assert named(kind, message) >= {*words} - {"value_range"}
    if "value_range" in words:  # seen by what it makes of the images, once it can be called
        rest = {name: value for name, value in words.items() if name != "value_range"}
        note = told(capsys, model, members, others, **rest)
        assert "value_range" in named(kind, note)
        first += f"<br>Then: {note}"
    assert not told(capsys, model, members, others, **words)
    result = audit(model, members, others, recovery=FEW, controls=True, progress=False, **words)
    row = result.table().iloc[0]
    assert row["train_loss"] < members.var(), "it learnt nothing"
    assert np.isfinite(result.results["psnr_erased"][:10]).all()
    assert len(str(result).splitlines()) == 5
    shares = (round(row[f"{whose}_recovered"] * 5) for whose in ("members", "non_members"))
    SEEN[kind.name] = (first.replace("|", "\\|"), "{}, {} of 5".format(*shares))


def test_monais_variational_autoencoder_is_audited_at_its_mean_which_its_own_answer_is_not(tmp_path):
    model, members, _, words, _ = made(KINDS[NAMES.index("monai VarAutoEncoder")], tmp_path)
    at_mean, own = adapted(model, **words)(members), model(members)[0]
    assert (own - at_mean).abs().max() > 1e-3
    model.use_mean_at_inference = True
    torch.testing.assert_close(model(members)[0], at_mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["monai UNet", "diffusers VQModel", "pythae AE", "transformers ViTMAE"])
def test_one_of_each_package_is_searched_and_has_its_fixed_points_looked_for(name, tmp_path):
    model, members, _, words, _ = made(KINDS[NAMES.index(name)], tmp_path)
    search = {"queries": 600, "batch_size": 10, "max_iterations": 20, "spectra": False, "progress": False}
    found = extract(model, members.shape[1:], members=members, **search, **words)
    assert sum(found.endings.values()) == found.starts
    table = attractors(model, members[:1], progress=False, **words).table
    assert set(table["attractor"]) <= set(Stability)
    assert np.isfinite(table["residual"]).all()


@pytest.mark.parametrize("name", list(kinds.COMMANDS))
def test_one_of_each_package_is_trained_and_audited_from_the_command_line(name, tmp_path):
    """The class by its import path where plain arguments do, else a function that makes it."""
    kind = KINDS[NAMES.index(name)]
    members, others = kind.images()
    for folder, images in (("train", members), ("others", others)):
        (tmp_path / folder).mkdir()
        for i, image in enumerate((images * 255).byte().permute(0, 2, 3, 1).numpy()):
            Image.fromarray(image.squeeze()).save(tmp_path / folder / f"{i}.png")
    words = kinds.COMMANDS[name]
    if "architecture.target=mine" in " ".join(words):
        (tmp_path / "mine.py").write_text(kinds.MINE)
    command = [sys.executable, "-W", "ignore", "-m", "memorization.recover", "dataset=images", "dataset.path=train"]
    command += ["dataset.others=others", "dataset.members=5", "dataset.non_members=5", "architecture=custom", *words]
    command += ["training.max_steps=200", "training.ladder=[1.0]", "training.target_loss=1e-3", "recovery=pnp_admm"]
    command += ["recovery.max_iterations=5", "tracking=none", "progress=false", "operator=known"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=kinds.environment(tmp_path))
    assert ended.returncode == 0, ended.stderr
    (done,) = (tmp_path / "runs" / "recoveries").glob("*/done.json")
    assert json.loads(done.read_text())["signature"]
