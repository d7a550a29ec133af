"""An autoencoder of one's own: a class or function and what describes it, from the command line and from Python."""

from __future__ import annotations

import shlex
import shutil

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from memorization import adapted, audit, load_run, train
from memorization.architectures import Adapted, build
from memorization.cli import entry
from memorization.config import schema
from memorization.config.experiment import record_of, resolve
from memorization.degradations import RandomPixels
from memorization.jobs.identity import of_autoencoder
from memorization.recovery import Energy, Iterate, Known
from memorization.report import reproduce
from memorization.store.reading import finished
from tests.architectures.own_models import (
    ALLOWED,
    COMMON,
    MARKS,
    MODEL,
    SAVE,
    SHAPE,
    SPLIT,
    Keyed,
    Transformer,
    program,
    transformer,
)

pytestmark = MARKS


def half(x, share=0.5):
    """A function of images, of NumPy arrays."""
    return np.float32(share) * x.astype(np.float32)


class Signed(nn.Module):
    """Takes and gives rows of pixels in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, x):
        assert x.ndim == 2
        assert x.min() < 0
        return self.layer(x)


@pytest.mark.parametrize(
    ("name", "recovery"),
    [("own.safetensors", "energy"), ("own.pt", "iterate"), ("own.ckpt", "iterate"), ("own.pt2", "energy")],
)
def test_the_command_line_and_python_agree(name, recovery, command, tmp_path):
    SAVE[name](tmp_path / name)
    given = [f"architecture.export={name}"] if name == "own.pt2" else [MODEL, ALLOWED, f"architecture.weights={name}"]
    out, err = command(*given, f"recovery={recovery}")
    assert err == ""
    assert "nothing to train" in out
    (run,) = finished(tmp_path / "runs")
    expected = audit(
        transformer(),
        SPLIT.members,
        SPLIT.non_members,
        RandomPixels(0.5),
        {"iterate": Iterate, "energy": Energy}[recovery](max_iterations=15),
        Known(),
        indices=SPLIT.member_indices + SPLIT.non_member_indices,
    ).results
    for column in ("image", "member", "status", "iterations", "queries", "nearest_member", "recovered"):
        assert list(run.results[column]) == list(expected[column]), column
    for column in ("psnr_erased", "psnr", "ssim", "residual", "train_loss"):
        np.testing.assert_allclose(run.results[column], expected[column], rtol=1e-4, err_msg=column)
    (tmp_path / name).unlink()  # the store needs it no more
    again = load_run(run.folder, packages=["tests"]).autoencoder()
    torch.testing.assert_close(again(SPLIT.members), transformer()(SPLIT.members))


def test_nothing_to_train_is_said_and_found_again(command, tmp_path):
    SAVE["own.pt"](tmp_path / "own.pt")
    arguments = [MODEL, ALLOWED, "architecture.weights=own.pt"]
    out, _ = command(*arguments, module="train")
    assert "its weights are given, nothing to train" in out
    out, _ = command(*arguments, "training.max_steps=7", module="train")  # changes nothing
    assert out.startswith("found")


def test_a_class_without_weights_is_trained(command, tmp_path):
    _, err = command(MODEL, ALLOWED, "architecture.kwargs={dim:16}", "training.max_steps=40", "recovery=iterate",
                       "training.ladder=[5e-1]", "architecture.centre=true")  # fmt: skip
    assert err == ""
    (run,) = finished(tmp_path / "runs", "autoencoders")
    assert run.done["steps"] == 39
    kept = load_run(run.folder, packages=["tests"]).autoencoder()
    assert kept.network.embed.out_channels == 16
    with pytest.raises(ValueError, match=r"outside the allowed packages .*load_run\(folder, packages="):
        load_run(run.folder).autoencoder()


def test_what_is_worth_knowing_of_the_images_is_told(monkeypatch, tmp_path, capsys):
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "5.heic").write_bytes(b"")
    words = ["dataset=images", f"dataset.path={tmp_path}", "dataset.members=2", "dataset.non_members=2"]
    words += ["training.max_steps=2", "tracking=none", "progress=false", "architecture.depth=2", "dataset.size=16"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["memorization-train", *words])
    train.main()
    out = capsys.readouterr().out
    assert "note: 1 .heic passed over: files of other kinds\n" in out
    assert "note: a size of 16 pixels enlarges 4 of 4 images\n" in out


def test_a_file_counts_by_its_content(composed, tmp_path):
    def signed(file, **changes):
        config = composed(*COMMON, f"architecture.weights={file}", MODEL, *changes.pop("more", []))
        return of_autoencoder(resolve(config))

    SAVE["own.pt"](tmp_path / "a.pt")
    shutil.copy(tmp_path / "a.pt", tmp_path / "b.pt")
    torch.save({"x": torch.zeros(1)}, tmp_path / "c.pt")
    first = signed(tmp_path / "a.pt")
    assert first == signed(tmp_path / "b.pt") == signed(tmp_path / "a.pt", more=[ALLOWED, "training.max_steps=3"])
    assert first != signed(tmp_path / "c.pt")
    assert first != signed(tmp_path / "a.pt", more=["architecture.layout=flat"])


@pytest.fixture
def composed():
    schema.register()
    with initialize_config_dir(str(entry.CONF), version_base="1.3"):
        yield lambda *words: compose("recover", overrides=list(words))


def test_the_command_of_a_report_composes_to_the_same_model(composed):
    config = composed(*COMMON, MODEL, ALLOWED, "architecture.kwargs={dim:16,shape:[1,8,8]}", "architecture.layout=flat")
    again = composed(*shlex.split(reproduce.command(record_of(config)))[1:])
    assert resolve(again).architecture == resolve(config).architecture


def test_range_and_layout_are_adapted():
    torch.manual_seed(0)
    network, x = Signed(), SPLIT.members
    own = network(x.flatten(1) * 2 - 1)
    expected = ((own + 1) / 2).view_as(x)
    torch.testing.assert_close(Adapted(network, (-1, 1), "flat")(x), expected)
    last = Adapted(lambda y: y.flip(3), layout="channels_last")
    colours = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(last(colours), colours.flip(1))
    for wrong in (Adapted(lambda y: y.view_as(x), (-1, 1), "flat"), Adapted(lambda y: y.mT, layout="channels_last")):
        with pytest.raises(ValueError, match=r"the autoencoder maps .* it must keep the shape"):
            wrong(colours if wrong.layout == "channels_last" else x)
    built = build(
        "custom", SHAPE, centre=False, seed=0, target=f"{__name__}.Signed", allowed=["tests"], value_range=[-1, 1],
        layout="flat",
    )  # fmt: skip
    assert built(x).shape == x.shape


NAMES = {
    MODEL: "outside the allowed packages (memorization, torch.nn); if you trust its code, set architecture.allowed to",
    f"{ALLOWED} architecture.target={__name__}.Transforme": "has no attribute 'Transforme'; did you mean Transfor",
    f"{ALLOWED} architecture.target={__name__}.Quux": "has no attribute 'Quux'; is it installed, or its folder on",
    f"architecture.allowed=tests {MODEL}": "architecture.allowed=tests: it takes a list; give architecture.allowed=[te",
    f"{ALLOWED} {MODEL} architecture.value_range=2": "give architecture.value_range=[2]",
    "architecture.export=own.pt": "own.pt'; it is a file of torch.save, no program: name its class as architecture",
    "architecture.target=ViT architecture.allowed=[ViT]": "is 'ViT'; this is no class; give package.module.Class",
    f"{ALLOWED} architecture.target=tests.nowhere.Net": "No module named 'tests.nowhere'; is it installed, or",
    f"{ALLOWED} architecture.target={__name__}.SPLIT": "SPLIT'; this is no class of nn.Module, and no function",
    f"{ALLOWED} {MODEL} architecture.kwargs={{dm:3}}": "unexpected keyword argument 'dm'",
    f"{ALLOWED} {MODEL} architecture.kwargs=3": "architecture.kwargs is 3; give the arguments of the class by their na",
    "seed=0": "architecture.target is ''; name either a class (package.module.Class), or a file as architecture.export",
    f"{ALLOWED} {MODEL} architecture.value_range=[1,0]": "value_range is [1.0, 0.0]; give black and white",
    f"{ALLOWED} {MODEL} architecture.layout=last": "layout is 'last'; choose one of channels_first, channels_l",
    "architecture.export=own.pt2 architecture.weights=own.pt": "leave out architecture.weights and architecture.kwargs",
    f"{ALLOWED} {MODEL} architecture.weights=own.pt architecture.centre=true": "is; set architecture.centre to",
    f"{ALLOWED} {MODEL} architecture.weights=own.pt rungs=[1e-2]": "an autoencoder whose weights are given has one",
}


@pytest.mark.parametrize("arguments", NAMES)
def test_names_and_settings_that_are_refused(arguments, command, tmp_path):
    for name in ("own.pt", "own.pt2"):
        SAVE[name](tmp_path / name)
    _, err = command(*arguments.split(), "recovery=iterate")
    assert NAMES[arguments] in err
    assert not (tmp_path / "runs").exists()


def test_a_model_is_described_on_the_command_line(command, tmp_path):
    torch.save(Keyed().state_dict(), tmp_path / "own.pt")
    given = [f"architecture.target={__name__}.Keyed", ALLOWED, "architecture.weights=own.pt", "recovery=energy"]
    given += ["architecture.value_range=[-1,1]"]
    _, err = command(*given)
    assert "dict has `recon` of shape (2, 1, 8, 8): give architecture.input_key=img architecture.output=recon" in err
    _, err = command(*given, "architecture.input_key=img", "architecture.output=recon", "controls=true")
    assert err == ""
    described = {"input_key": "img", "output": "recon", "value_range": (-1, 1)}
    numbers = SPLIT.member_indices + SPLIT.non_member_indices
    expected = audit(
        Keyed(), SPLIT.members, SPLIT.non_members, RandomPixels(0.5), Energy(max_iterations=15), indices=numbers,
        controls=True, **described,
    ).results  # fmt: skip
    found = {run.config["control"]: run.results for run in finished(tmp_path / "runs")}
    for control in ("none", "untrained"):
        rows = expected[expected["control"] == control]
        np.testing.assert_allclose(found[control]["psnr"], rows["psnr"], rtol=1e-4)
    (run,) = finished(tmp_path / "runs", "autoencoders")
    again = load_run(run.folder, packages=["tests"]).autoencoder()
    torch.testing.assert_close(again(SPLIT.members), Adapted(Keyed(), **described)(SPLIT.members))


def test_size_and_batch_are_described_on_the_command_line(composed):
    words = ["architecture.resize_to=28", "architecture.batch=4", "architecture.layout=flat"]
    assert resolve(composed(*COMMON, MODEL, *words)).architecture.arguments["resize_to"] == 28
    settings = resolve(composed(*COMMON, MODEL, "architecture.resize_to=[4,8]", "architecture.output=0"))
    assert list(settings.architecture.arguments["resize_to"]) == [4, 8]
    assert settings.architecture.output == "0"
    words = ["architecture.pad_to=4", "architecture.target=torch.nn.Identity"]
    padded = resolve(composed(*COMMON, *words)).architecture.build((1, 7, 6), 0)
    assert padded(torch.zeros(2, 1, 7, 6)).shape == (2, 1, 7, 6)
    again = composed(*shlex.split(reproduce.command(record_of(composed(*COMMON, *words))))[1:])
    assert resolve(again).architecture == resolve(composed(*COMMON, *words)).architecture


def test_words_that_came_later_leave_older_names_as_they_were(composed):
    identity = resolve(composed(*COMMON, MODEL)).architecture.identity()
    expected = {"target", "kwargs", "value_range", "layout", "name", "centre", "output", "revision", "revisions"}
    assert set(identity) == expected
    assert identity["output"] == "linear"
    named = resolve(composed(*COMMON, MODEL, "architecture.output=recon", "architecture.batch=2")).architecture
    assert named.identity() == {**identity, "output": "recon", "batch": 2}
    with pytest.raises(ValueError, match="output is 'recon'; choose one of linear, sigmoid"):
        resolve(composed("architecture=fc", "architecture.output=recon"))


def with_weights(dim=32):
    """A function that makes a model and brings its weights."""
    torch.manual_seed(0)
    return Transformer(SHAPE, dim).eval()


def number():
    return 3


def test_functions_are_targets(command, tmp_path):
    given = [ALLOWED, "recovery=iterate", "controls=true"]
    _, err = command(f"architecture.target={__name__}.half", *given)
    assert "has no parameters to train; give architecture.weights=FILE, or architecture.trained=true for one" in err
    out, err = command(
        f"architecture.target={__name__}.half", "architecture.trained=true", "architecture.kwargs={share:0.25}", *given
    )
    assert err == ""
    assert "untrained not applicable (it has no weights to draw anew)" in out
    out, err = command(f"architecture.target={__name__}.with_weights", "architecture.trained=true", *given)
    assert err == ""
    assert (
        "its weights are given"
        in command(
            f"architecture.target={__name__}.with_weights", "architecture.trained=true", ALLOWED, module="train"
        )[0]
        or "found" in out
    )
    expected = [transformer(), lambda x: 0.25 * x]
    runs = {run.config["architecture"]["target"]: run for run in finished(tmp_path / "runs", "autoencoders")}
    for name, function in zip(("with_weights", "half"), expected, strict=True):
        kept = load_run(runs[f"{__name__}.{name}"].folder, packages=["tests"]).autoencoder()
        torch.testing.assert_close(kept(SPLIT.members), function(SPLIT.members))
    _, err = command(f"architecture.target={__name__}.number", *given)
    assert f"target is '{__name__}.number'; it returns a int; give a function that makes a module, or of ima" in err


def called():
    """As a message tells to write, of a model that is called in another way."""
    return adapted(Keyed(), call=lambda model, x: model({"img": 2 * x - 1})["recon"])


def test_weights_are_loaded_into_the_model_that_a_function_adapts(composed, tmp_path):
    save_file({key: 2 * value for key, value in Keyed().state_dict().items()}, tmp_path / "own.safetensors")
    named = [f"architecture.target={__name__}.called", ALLOWED, f"architecture.weights={tmp_path}/own.safetensors"]
    model = resolve(composed(*COMMON, *named)).architecture.build(SHAPE, 0)
    expected = 2 * Keyed()({"img": 2 * SPLIT.members - 1})["recon"]
    torch.testing.assert_close(model(SPLIT.members), expected)


class Leaving(nn.Module):
    """A script that reads the command line as its own, and ends."""

    def __init__(self, status: int = 2) -> None:
        raise SystemExit(status)


def test_code_that_ends_the_process_is_an_error_of_its_own(command, tmp_path, monkeypatch):
    _, err = command(f"architecture.target={__name__}.Leaving", ALLOWED, "recovery=iterate")
    assert err == (f"error: architecture.kwargs is {{}}; {__name__}.Leaving cannot be made of them: SystemExit: 2\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    _, err = command("architecture.target=leaving.Net", "architecture.allowed=[leaving]", "recovery=iterate")
    assert err == "error: architecture.target is 'leaving.Net'; SystemExit: 3\n"


def test_an_import_that_was_killed_goes_on(command, tmp_path):
    """After the program was written: what an earlier version left beside it does no harm, either."""
    (tmp_path / "own.pt2").write_bytes(program())
    given = ["architecture.export=own.pt2", "recovery=iterate"]
    command(*given)
    (run,) = finished(tmp_path / "runs", "autoencoders")
    (run.folder / "done.json").unlink()
    (kept,) = (run.folder / "weights").iterdir()
    shutil.copy(kept, kept.with_suffix(".safetensors"))
    out, err = command(*given, "recovery.max_iterations=3")
    assert err == ""
    assert "nothing to train" in out
    (run,) = finished(tmp_path / "runs", "autoencoders")
    assert [path.suffix for path in (run.folder / "weights").iterdir()] == [".pt2"]
