"""What a model must do to be audited, and what is said of a breach."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from memorization import audit, load_run
from memorization.architectures import Adapted
from memorization.architectures.external.contract import check_contract
from memorization.degradations import RandomPixels
from memorization.recovery import Energy, Iterate
from memorization.store.reading import finished
from tests import problems
from tests.architectures.own_models import ALLOWED, MARKS, MODEL, SAVE, SHAPE, SPLIT, Transformer, transformer

pytestmark = MARKS


class Returning(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(x)


def few(x):
    if len(x) > 4:
        raise RuntimeError("too many")
    return x


CONTRACT = {
    "returns a tuple": lambda x: (x, x),
    "returns a dict": lambda x: {"images": x},
    "it must keep the shape": lambda x: x[:, :, 1:],
    "holds NaN or infinite values": lambda x: x / 0,
    "is not deterministic: two calls on the same images differ by up to": lambda x: x + torch.rand_like(x),
    "differ by up to .*e-05": lambda x: x + 1e-4 * torch.rand_like(x),
    "depends on the others in its batch": lambda x: x - x.mean(0),
    "changes its input in place": lambda x: x.mul_(0.5),
    r"^batch_size is 11; .* fails on images of \(11, 1, 8, 8\): too many; choose another": lambda x: few(x),
    "to torch.float16 on cpu; it must keep both": lambda x: x.half(),
    r"fails on images of \(2, 1, 8, 8\): mat1 and mat2 shapes cannot be multiplied": lambda x: x @ torch.ones(3, 3),
}


@pytest.mark.parametrize("message", CONTRACT)
@pytest.mark.parametrize("wrap", [Returning, lambda change: change])
def test_a_breach_of_the_contract_is_one_line(message, wrap):
    with pytest.raises(ValueError, match=message) as raised:
        audit(wrap(CONTRACT[message]), SPLIT.members, SPLIT.non_members, recovery=Iterate())
    assert "\n" not in str(raised.value)


def test_a_model_elsewhere_or_in_half_precision_is_refused():
    with pytest.raises(ValueError, match="the autoencoder has no weights: they are on the meta device"):
        audit(transformer().to("meta"), SPLIT.members, SPLIT.non_members)
    with pytest.raises(ValueError, match=r"is on cpu, the images on meta; move one of them: autoencoder.to\('meta'\)"):
        check_contract(transformer(), torch.rand(2, *SHAPE, device="meta"))
    with pytest.raises(ValueError, match="lazy layers have no weights yet"):
        audit(nn.LazyConv2d(1, 1), SPLIT.members, SPLIT.non_members)
    for half in (torch.float16, torch.bfloat16):
        with pytest.raises(ValueError, match=rf"weights are {half}, the images torch.float32; give autoencoder.to\("):
            audit(transformer().to(half), SPLIT.members, SPLIT.non_members)


def test_a_file_in_half_precision_is_taken(command, tmp_path):
    save_file({key: value.half() for key, value in transformer().state_dict().items()}, tmp_path / "own.safetensors")
    _, err = command(MODEL, ALLOWED, "architecture.weights=own.safetensors", "recovery=iterate")
    assert err == ""
    (run,) = finished(tmp_path / "runs", "autoencoders")
    kept = load_run(run.folder, packages=["tests"]).autoencoder()
    torch.testing.assert_close(kept(SPLIT.members), transformer().half().float()(SPLIT.members))


def test_what_is_no_autoencoder_yet_is_named(tmp_path):
    with pytest.raises(ValueError, match="the autoencoder is the class Transformer; give an instance"):
        audit(Transformer, SPLIT.members, SPLIT.non_members)
    SAVE["own.pt2"](tmp_path / "own.pt2")
    with pytest.raises(ValueError, match=r"the autoencoder is an ExportedProgram, .* give its module\(\)"):
        audit(torch.export.load(tmp_path / "own.pt2"), SPLIT.members, SPLIT.non_members)


class Shy(nn.Module):
    """Fails on the first of the images that it never saw."""

    def forward(self, x):
        if any(torch.equal(image, SPLIT.non_members[0]) for image in x):
            raise RuntimeError("a stranger")
        return x


def test_the_contract_is_checked_on_images_of_both_kinds(command, tmp_path):
    message = r"fails on images of (2, 1, 8, 8): a stranger"
    with pytest.raises(ValueError, match=re.escape(message)):
        audit(Shy(), SPLIT.members, SPLIT.non_members, recovery=Iterate())
    _, err = command(f"architecture.target={__name__}.Shy", ALLOWED, "recovery=iterate")
    assert message in err
    assert not (tmp_path / "runs").exists()


class Modeless(nn.Module):
    """Has methods `eval` and `train` of its own: they raise, or return nothing, as is easily forgotten."""

    def __init__(self, method: str = "", answer: bool = True) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)
        self.method, self.answer = method, answer

    def eval(self):
        if self.method == "eval":
            raise NotImplementedError("no modes")
        return super().eval()

    def train(self, mode=True):
        if self.method == ("train" if mode else "predict"):
            raise RuntimeError("no modes")
        super().train(mode)
        return self if self.answer else None

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["architecture.kwargs={method:eval}"], "Modeless.eval() fails: no modes; leave eval and train as nn."),
        (["architecture.kwargs={method:train}"], "Modeless.train(True) fails: no modes; leave eval and train as nn."),
        (["architecture.kwargs={method:predict}", "architecture.centre=true"], "Modeless.train(False) fails: no modes"),
        (["architecture.kwargs={answer:false}"], "Modeless.train(True) returns None; it must end with `return self`"),
    ],
)
@pytest.mark.parametrize("module", ["train", "recover"])
def test_a_model_without_modes_is_named_before_anything_is_written(command, tmp_path, module, settings, message):
    words = ["training.max_steps=2", "training.ladder=[5]", "architecture.centre=false"]
    _, err = command(f"architecture.target={__name__}.Modeless", ALLOWED, *words, *settings, module=module)
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_trained_model_needs_no_training_mode(command):
    words = ["architecture.kwargs={method:train}", "architecture.trained=true", "recovery=iterate"]
    _, err = command(f"architecture.target={__name__}.Modeless", ALLOWED, *words)
    assert err == ""


def test_a_loss_above_the_variance_is_told(command, tmp_path, capsys):
    audit(lambda x: 1 - x, SPLIT.members, SPLIT.non_members, recovery=Iterate(max_iterations=1))
    assert "above their variance of 0.14: are these the images that it was trained on, and is value_range" in (
        capsys.readouterr().out
    )
    signed = Adapted(lambda x: 0.9 * x if x.min() < 0 else -x)
    audit(signed, SPLIT.members, SPLIT.non_members, recovery=Iterate(max_iterations=1))
    assert "value_range right? With value_range=[-1,1] it is 0.0018.\n" in capsys.readouterr().out
    audit(lambda x: 0.9 * x, SPLIT.members, SPLIT.non_members, recovery=Iterate(max_iterations=1))
    assert not capsys.readouterr().out
    SAVE["own.pt"](tmp_path / "own.pt")
    out, _ = command(MODEL, ALLOWED, "architecture.weights=own.pt", "architecture.value_range=[-9,9]", module="train")
    assert "note: the loss on the members is" in out


def test_a_training_that_reached_no_rung_says_so(command):
    out, _ = command(MODEL, ALLOWED, "training.max_steps=3", module="train")
    assert "note: no rung of training.ladder was reached (the highest is 0.01): no weights are kept" in out
    assert "note: the training ended at its budget of 3 steps" in out
    assert re.search(r"after 3 steps in \d+ s →", out)


NO_GRADIENTS = {
    "nearest": problems.nearest(SPLIT.members),
    "no_grad": torch.no_grad()(transformer()),
    "numpy": lambda x: torch.from_numpy(x.detach().numpy() * 0.5),
}


@pytest.mark.parametrize("kind", NO_GRADIENTS)
def test_a_callable_without_gradients_can_only_be_queried(kind):
    model = NO_GRADIENTS[kind]
    with pytest.raises(ValueError, match="gives no gradients, which the method needs; choose one that only queries"):
        audit(model, SPLIT.members, SPLIT.non_members, recovery=Energy(max_iterations=3))
    result = audit(model, SPLIT.members, SPLIT.non_members, recovery=Iterate(max_iterations=3))
    assert len(result.results) == 11


def test_the_numbers_of_the_images_draw_their_degradations():
    numbers = SPLIT.member_indices + SPLIT.non_member_indices
    first, second = (
        audit(
            transformer(), SPLIT.members, SPLIT.non_members, recovery=Iterate(max_iterations=2), indices=given
        ).results
        for given in (None, numbers)
    )
    assert list(second["image"]) == numbers
    assert list(first["member"]) == list(second["member"]) == [True] * 6 + [False] * 5
    assert (first["psnr_erased"] != second["psnr_erased"]).all()


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([1, 2, 3], "indices are 3; give one for each of the 11 images"),
        ([0, 1, -2, *range(3, 11)], "indices: -2 of image 2 is no number of an image; give whole numbers from 0 on"),
        ([0, 1.5, *range(2, 11)], "indices: 1.5 of image 1 is no number"),
        ([0, "1", *range(2, 11)], "indices: '1' of image 1 is no number"),
        ([*range(10), 7], "indices: images 7 and 10 are both 7; give each a number of its own"),
    ],
)
def test_a_wrong_number_of_an_image_is_named(indices, message):
    with pytest.raises(ValueError, match=message):
        audit(transformer(), SPLIT.members, SPLIT.non_members, indices=indices)


@pytest.mark.parametrize(
    ("members", "others", "message"),
    [
        ([0, 1, 1], [], "members: image 2 is image 1 again; give each once"),
        ([0], [-1, -2, -1], "non_members: image 2 is image 0 again; give each once"),
        ([0, 1], [-1, 1], "non_members: image 1 is member 1; give images that the autoencoder never saw"),
    ],
)
def test_an_image_that_is_given_twice_is_named(members, others, message):
    pool = torch.cat([SPLIT.members, SPLIT.non_members])
    with pytest.raises(ValueError, match=message):
        audit(transformer(), pool[members], pool[others or [-1]], RandomPixels(0.5), Iterate())
