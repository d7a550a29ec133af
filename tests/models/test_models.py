"""Real autoencoders of other people's packages, each audited with at most three lines: `make test-models`.

With `--table FILE` what was seen is written as a page of the documentation.
"""

from __future__ import annotations

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
from memorization.extraction.spectrum import Stability
from memorization.recovery import PnPADMM
from tests.models import kinds
from tests.models.kinds import KINDS, Kind

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # by which people still save models
MOST = 3  # lines of the user's
FEW = PnPADMM(max_iterations=50)
NAMES = [kind.name for kind in KINDS]
SEEN: dict[str, tuple[str, str]] = {}  # of each kind: what the bare call says, and what was found


@pytest.fixture(scope="module", autouse=True)
def table(request):
    """Write the table once all kinds were tried."""
    yield
    if (path := request.config.getoption("--table")) and set(SEEN) == set(NAMES):
        Path(path).write_text(page())


def page() -> str:
    """What was seen, as a page."""
    packages = {"lightning": "pytorch-lightning", "numpy": "numpy"}
    names = dict.fromkeys(packages.get(kind.package, kind.package) for kind in KINDS)
    rows = [
        f"| {kind.name} | {said} | {f'`{kind.words}`' if kind.words else 'nothing'} | {found} |"
        for kind in KINDS
        for said, found in [SEEN[kind.name]]
    ]
    return "\n".join(
        [
            "# Models that were tried",
            "",
            "Small models of real classes, trained for seconds on five smooth random images, and audited with",
            "`audit(model, members, others, ...)`. `make test-models` installs the packages, tries them and writes",
            "this page.",
            "It shows that they can be audited, not how much a model of their kind remembers.",
            "",
            f"Seen with {', '.join(f'{name} {version(name)}' for name in names)}.",
            "",
            "| model | what the call says without a description | what its user adds | members recovered |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def made(kind: Kind, folder: Path):
    """A model of this kind, trained, with the images and the words."""
    members, others = kind.images()
    torch.manual_seed(0)
    model, words = kind.make(members, folder), eval(f"dict({kind.words})")
    if not kind.trained:
        kinds.trained(model, members, adapted(model, **words))
    return model, members, others, words


def refused(model, members, others, **words) -> str:
    """What the user is told of a model that needs more words; empty if it is audited."""
    try:
        audit(model, members, others, recovery=FEW, progress=False, **words)
    except ValueError as error:
        return " ".join(str(error).split())
    return ""


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_a_kind_of_model_is_audited_with_few_words_that_the_first_message_names(kind, tmp_path):
    model, members, others, words = made(kind, tmp_path)
    assert len(words) <= MOST
    said, added = "nothing: it is audited as it is", {}
    while added != words and (message := refused(model, members, others, **added)):
        said = message if not added else said
        named = {word: value for word, value in words.items() if f"{word}=" in message and word not in added}
        assert named, message
        added |= named
    result = audit(model, members, others, recovery=FEW, controls=True, progress=False, **words)
    row = result.table().iloc[0]
    assert row["train_loss"] < members.var(), "it learnt nothing"
    assert np.isfinite(result.results["psnr_erased"][:10]).all()
    assert len(str(result).splitlines()) == 5
    SEEN[kind.name] = (said.replace("|", "\\|"), f"{round(row['members_recovered'] * 5)} of 5")


@pytest.mark.parametrize("name", ["monai UNet", "diffusers VQModel", "pythae AE", "transformers ViTMAE"])
def test_one_of_each_package_is_searched_and_has_its_fixed_points_looked_for(name, tmp_path):
    model, members, _, words = made(KINDS[NAMES.index(name)], tmp_path)
    search = {"queries": 600, "batch_size": 10, "max_iterations": 20, "spectra": False, "progress": False}
    found = extract(model, members.shape[1:], members=members, **search, **words)
    assert sum(found.endings.values()) == found.starts
    table = attractors(model, members[:1], progress=False, **words).table
    assert table["attractor"].isin([*Stability]).all()


OWN = """
def {name}():
    from {module} import {name}
    return {name}({kwargs})
"""


@pytest.mark.parametrize("name", ["monai UNet", "diffusers VQModel", "transformers ViTMAE"])
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
    command += ["training.max_steps=60", "training.ladder=[10]", "training.target_loss=1e-3", "recovery=pnp_admm"]
    command += ["recovery.max_iterations=5", "tracking=none", "progress=false", "operator=known"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=kinds.environment(tmp_path))
    assert ended.returncode == 0, ended.stderr
    (done,) = (tmp_path / "runs" / "recoveries").glob("*/done.json")
    assert json.loads(done.read_text())["signature"]
