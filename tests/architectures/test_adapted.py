"""Other people's models, described by a few words, and what is said of one that needs them."""

from __future__ import annotations

import copy
import dataclasses
import re
import threading
import types
from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from memorization import adapted, attractors, audit, extract
from memorization.architectures import Adapted
from memorization.architectures.external.contract import check_contract, evaluating
from memorization.components import SettingError
from memorization.recovery import Energy, Iterate
from tests import problems

MEMBERS, OTHERS = problems.images(4, 1, torch.float32), problems.images(4, 2, torch.float32)
FEW = Iterate(max_iterations=3)


def faces(size: int, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand(8, channels, size, size, generator=torch.Generator().manual_seed(size))
    return images[:4], images[4:]


class Convolution(nn.Module):
    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.layer(x)


@dataclasses.dataclass
class DecoderOutput:
    sample: torch.Tensor


class ModelOutput(OrderedDict):
    """Its keys are attributes, too."""

    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(name)


class InAnObject(Convolution):
    def forward(self, x):
        return DecoderOutput(self.layer(x))


class InADict(Convolution):
    def forward(self, inputs):
        x = inputs["data"]
        return ModelOutput(loss=torch.zeros(()), recon_x=self.layer(x), z=x.flatten(1)[:, :3])


class Slotted:
    __slots__ = ("image", "loss")

    def __init__(self, image):
        self.image, self.loss = image, 0.0


class InSlots(Convolution):
    def forward(self, x):
        return Slotted(self.layer(x))


class InATuple(Convolution):
    def forward(self, x):
        return x.flatten(1)[:, :3], (DecoderOutput(self.layer(x)),)


class Variational(Convolution):
    """Draws its code, in eval mode as well."""

    def encode(self, x):
        return self.layer(x), torch.zeros_like(x)

    def decode(self, z):
        return torch.sigmoid(z)

    def forward(self, x):
        mean, log_variance = self.encode(x)
        return self.decode(mean + torch.randn_like(mean) * (log_variance / 2).exp()), mean.mean(), log_variance.mean()


class ShiftedVariational(Variational):
    """Draws nothing, but does not decode its mean: as MONAI's in eval mode."""

    def forward(self, x):
        mean, log_variance = self.encode(x)
        return self.decode(mean + (log_variance / 2).exp()), mean, log_variance


class VariationalMean(Variational):
    def forward(self, x):
        mean, log_variance = self.encode(x)
        return self.decode(mean), mean.mean(), log_variance.mean()


class OfSize28(nn.Module):
    """Dense: 784 inputs, whatever the shape."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(784, 16), nn.Tanh(), nn.Linear(16, 784))

    def forward(self, x):
        return self.layers(x.flatten(1)).view(-1, 1, 28, 28)


class OfMultiplesOf4(nn.Module):
    """Gives 28x28 for 25x25."""

    def forward(self, x):
        margin = -x.shape[-1] % 4
        return nn.functional.pad(x, (0, margin, 0, margin)) * 0.5


class Skipping(nn.Module):
    """A U-Net in small: its skip and its decoder fit for even sizes alone."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 2, 2, 2), nn.ConvTranspose2d(2, 1, 2, 2)

    def forward(self, x):
        return torch.cat([self.up(self.down(x)), x], 1).mean(1, keepdim=True)


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x)


class OfThree(Convolution):
    def forward(self, x):
        assert len(x) == 3, f"a batch of 3 images, got {len(x)}"
        return self.layer(x)


class Stepped(Convolution):
    def forward(self, sample, timestep):
        return self.layer(sample)


class Denoising(Convolution):
    def forward(self, sample, timestep):
        return DecoderOutput(self.layer(sample) + timestep)


class Conditioned(Convolution):
    def forward(self, x, condition):
        return self.layer(x) + condition.mean()


class Named(Convolution):
    def forward(self, *, image):
        return self.layer(image)


class Channelless(Convolution):
    """Takes and gives (B, H, W)."""

    def forward(self, x):
        batch, height, width = x.shape
        return self.layer(x.view(batch, 1, height, width)).view(x.shape)


class OneByOne(Convolution):
    """Takes and gives (C, H, W)."""

    def forward(self, x):
        channels, height, width = x.shape
        return self.layer(x).view(channels, height, width)


class Halves(nn.Module):
    """Has no `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(64, 4), nn.Linear(4, 64)


class Echoing(Convolution):
    """Hands back what it was given, beside what it made of it."""

    def forward(self, x):
        return {"target": x, "made": self.layer(x)}


class InADistribution(Variational):
    """Its code is a distribution of torch."""

    def encode(self, x):
        return torch.distributions.Normal(self.layer(x), 1.0)

    def forward(self, x):
        return self.decode(self.encode(x).rsample())


class InWords(Variational):
    """Its code is a dict."""

    def encode(self, x):
        return {"mu": self.layer(x), "logvar": torch.zeros_like(x)}

    def forward(self, x):
        return self.decode(self.encode(x)["mu"] + torch.randn_like(x))


class AlwaysTraining(nn.Module):
    """Uses the statistics of the batch, whatever its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Unflatten(1, (1, 8, 8)))

    def forward(self, x):
        return self.layers.train()(x)


class InPatches(Convolution):
    """Answers in patches, as a masked autoencoder, and joins them by a method."""

    def forward(self, x):
        return ModelOutput(logits=nn.functional.unfold(self.layer(x), 4, stride=4).mT)

    def unpatchify(self, patches):
        return nn.functional.fold(patches.mT, 8, 4, stride=4)


class Masked(InPatches):
    """Hides pixels at random, in eval mode as well."""

    def __init__(self) -> None:
        super().__init__()
        self.config = types.SimpleNamespace(mask_ratio=0.5)

    def forward(self, x):
        return super().forward(x * (torch.rand_like(x) >= self.config.mask_ratio))


class Array(Convolution):
    def forward(self, x):
        return self.layer(x).detach().numpy()


class Logits(Convolution):
    def forward(self, x):
        return ModelOutput(logits=x.flatten(1)[:, :16])


def decode_mean(model, x):
    return model.decode(model.encode(x)[0])


SUITABLE = {
    "an attribute": (InAnObject, {"output": "sample"}),
    "a key": (InADict, {"output": "recon_x", "call": lambda model, x: model({"data": x})}),
    "a key of what is given": (InADict, {"output": "recon_x", "input_key": "data"}),
    "an attribute in a slot": (InSlots, {"output": "image"}),
    "an index": (InADict, {"output": 1, "input_key": "data"}),
    "one within another": (InATuple, {"output": "1.0.sample"}),
    "counted from the end": (InATuple, {"output": "-1.0.sample"}),
    "a function": (InATuple, {"output": lambda answer: answer[1][0].sample}),
    "batches of three": (OfThree, {"batch": 3}),
    "called with a step": (Stepped, {"call": lambda model, x: model(x, timestep=3)}),
}


@pytest.mark.parametrize("kind", SUITABLE)
def test_a_described_model_is_audited_as_the_plain_one(kind):
    model, description = SUITABLE[kind]
    plain, given = (
        audit(model, MEMBERS, OTHERS, recovery=Energy(max_iterations=3), controls=True, **words).results
        for model, words in ((Convolution(), {}), (model(), description))
    )
    differing = ["seconds", "architecture"]
    pd.testing.assert_frame_equal(given.drop(columns=differing), plain.drop(columns=differing), rtol=1e-4)
    assert set(given["architecture"]) == {model.__name__}
    assert set(given["control"]) == {"none", "untrained", "inpaint", "nearest"}


def test_a_described_model_stays_a_module():
    model = InAnObject()
    found = adapted(model, output="sample", value_range=(-1, 1), pad_to=4)
    assert dict(found.named_modules())["network"] is model
    found.eval()
    assert not model.training
    torch.testing.assert_close(copy.deepcopy(found)(MEMBERS), found(MEMBERS))
    assert adapted(model) is model


def test_a_method_of_a_module_stands_for_the_module():
    model = Variational()
    found = adapted(model.decode)
    assert next(found.parameters()) is model.layer.weight
    torch.testing.assert_close(found(MEMBERS), torch.sigmoid(MEMBERS))


def test_values_layout_and_size_are_those_of_the_model():
    seen = []

    def note(x):
        seen.append(x)
        return x

    images, _ = faces(25, 3)
    for words, shape in [
        ({"layout": "channels_last", "pad_to": 8}, (4, 32, 32, 3)),
        ({"layout": "flat", "resize_to": (30, 28)}, (4, 30 * 28 * 3)),
        ({"value_range": [0, 255], "batch": 3}, (3, 3, 25, 25)),
    ]:
        seen.clear()
        found = adapted(note, **words)(images)
        assert seen[0].shape == shape
        assert found.shape == images.shape
        if "resize_to" not in words:
            torch.testing.assert_close(found, images)
    assert [len(part) for part in seen] == [3, 3]
    assert seen[0].max() > 200
    torch.testing.assert_close(adapted(note, resize_to=50)(images).mean(), images.mean(), rtol=1e-2, atol=0)
    assert not torch.equal(adapted(note, resize_to=12)(images), images)


def test_padding_repeats_the_edge_and_is_cut_off():
    given = []
    image = torch.arange(6.0).view(1, 1, 2, 3) / 6
    Adapted(lambda x: given.append(x) or x, pad_to=4)(image)
    rows = torch.tensor([[0, 1, 2, 2], *[[3, 4, 5, 5]] * 3]) / 6
    torch.testing.assert_close(given[0][0, 0], rows)


class Predictor:
    """As of scikit-learn: no function, and NumPy alone."""

    def predict(self, x):
        return np.tanh(x.astype(np.float64))


class Regressor(Predictor):
    """Takes rows, as its kind in scikit-learn."""

    n_features_in_ = 64


NUMPY = {
    "arrays of images": (lambda x: np.tanh(x.astype(np.float32)), {}),
    "tensors to arrays": (lambda x: np.tanh(np.asarray(x)), {}),
    "rows": (lambda x: np.tanh(x.astype(np.float64)), {"layout": "flat"}),
    "an object": (Predictor(), {"call": lambda model, x: model.predict(x)}),
    "a key": (lambda x: {"y": np.tanh(x.astype(np.float32))}, {"output": "y"}),
}


@pytest.mark.parametrize("kind", NUMPY)
def test_functions_of_numpy_arrays_are_audited(kind):
    model, words = NUMPY[kind]
    torch.testing.assert_close(adapted(model, **words)(MEMBERS), torch.tanh(MEMBERS))
    found = audit(model, MEMBERS, OTHERS, recovery=FEW, **words).results
    expected = audit(torch.tanh, MEMBERS, OTHERS, recovery=FEW).results
    np.testing.assert_allclose(found["psnr"], expected["psnr"], rtol=1e-4)
    with pytest.raises(ValueError, match=r"gives no gradients.*\(its output does not require grad"):
        audit(model, MEMBERS, OTHERS, recovery=Energy(max_iterations=2), **words)


def test_extractions_and_attractors_are_of_a_described_model():
    words = {"output": "sample"}
    first = extract(InAnObject(), (1, 8, 8), queries=400, progress=False, **words).table
    second = extract(Convolution(), (1, 8, 8), queries=400, progress=False).table
    pd.testing.assert_frame_equal(first, second)
    first, second = attractors(InAnObject(), MEMBERS, **words), attractors(Convolution(), MEMBERS)
    assert first.dtype == torch.float64
    pd.testing.assert_frame_equal(first.table, second.table)


ADVICE = {
    'DecoderOutput has `sample` of shape (2, 1, 8, 8): give output="sample"': (InAnObject, {}, 8),
    'without smaple: DecoderOutput has `sample` of shape (2, 1, 8, 8): give output="sample"': (
        InAnObject,
        {"output": "smaple"},
        8,
    ),
    'ModelOutput has `recon_x` of shape (2, 1, 8, 8): give input_key="data", output="recon_x"': (InADict, {}, 8),
    'tuple has `1.0.sample` of shape (2, 1, 8, 8): give output="1.0.sample"': (InATuple, {}, 8),
    'Slotted has `image` of shape (2, 1, 8, 8): give output="image"': (InSlots, {}, 8),
    "tuple has `0` of shape (2, 1, 8, 8); it samples, as a VAE does: give what it makes of its posterior mean: "
    "call=lambda model, x: model.decode(model.encode(x)[0])": (Variational, {}, 8),
    "give output=0 or output=1 or output=2; it decodes another code than its posterior mean; to decode that: "
    "call=lambda model, x: model.decode(model.encode(x)[0])": (ShiftedVariational, {}, 8),
    "two calls on the same images differ by up to": (Variational, {"output": 0}, 8),
    "give what it makes of its posterior mean: call=lambda model, x: model.decode(model.encode(x)[0])": (
        Variational,
        {"output": 0},
        8,
    ),
    "maps (2, 1, 25, 25) to (2, 1, 28, 28); it must keep the shape; give pad_to=4": (OfMultiplesOf4, {}, 25),
    "Sizes of tensors must match except in dimension 1. Expected size 24 but got size 25 for tensor number 1 in the "
    "list.; give pad_to=2, with which it does": (Skipping, {}, 25),
    "mat1 and mat2 shapes cannot be multiplied (2x900 and 784x16); give resize_to=28, with which it does": (
        OfSize28,
        {},
        30,
    ),
    'mat1 and mat2 shapes cannot be multiplied (56x28 and 784x784); give layout="flat", with which it does': (
        lambda: nn.Linear(784, 784),
        {},
        28,
    ),
    "mat1 and mat2 shapes cannot be multiplied (16x8 and 300x300); are these images of the size that it was made for "
    "(resize_to), and in its layout (channels_last, flat)?": (lambda: nn.Linear(300, 300), {}, 8),
    "a batch of 3 images, got 2; give batch=3, with which it does": (OfThree, {}, 8),
    "to have 3 channels, but got 1 channels instead; it takes images in colour: give it grey ones as such: call=lambda "
    "model, x: model(x.expand(-1, 3, -1, -1)).mean(1, keepdim=True)": (lambda: Convolution(3), {}, 8),
    "to have 5 channels, but got 1 channels instead; are these images in its layout": (lambda: Convolution(5), {}, 8),
    "returns a ndarray; it must return the images alone; give output=torch.as_tensor": (Array, {}, 8),
    "argument: 'timestep'; give call=lambda model, x: model(x, timestep=0), with which it does": (Stepped, {}, 8),
    '`sample` of shape (2, 1, 8, 8): give call=lambda model, x: model(x, timestep=0), output="sample"': (
        Denoising,
        {},
        8,
    ),
    "argument: 'condition'; say how it is called: call=lambda model, x: model(x, condition=...)": (Conditioned, {}, 8),
    "fails on images of (2, 1, 8, 8): Named.forward() takes 1 positional argument but 2 were given; give call=lambda "
    "model, x: model(image=x), with which it does": (Named, {}, 8),
    "give call=lambda model, x: model(x.squeeze(1)).unsqueeze(1), with which it does": (Channelless, {}, 8),
    "give call=lambda model, x: torch.stack([model(image) for image in x]), with which": (OneByOne, {}, 8),
    'give call=lambda model, x: model.decoder(model.encoder(x)), layout="flat", with which': (Halves, {}, 8),
    'dict has `made` of shape (2, 1, 8, 8): give output="made"': (Echoing, {}, 8),
    "posterior mean: call=lambda model, x: model.decode(model.encode(x).mean)": (InADistribution, {}, 8),
    "posterior mean: call=lambda model, x: model.decode(model.encode(x)['mu'])": (InWords, {}, 8),
    "more than 1 value per channel when training, got input size torch.Size([1, 64]); in eval mode it must treat each "
    "image on its own, without statistics of the batch": (AlwaysTraining, {}, 8),
    "changes its input in place; give call=lambda model, x: model(x.clone())": (lambda: lambda x: x.mul_(0.5), {}, 8),
    "to torch.float16 on cpu; it must keep both: give call=lambda model, x: model(x).to(x)": (
        lambda: lambda x: x.half(),
        {},
        8,
    ),
    "`logits` holds patches: join them: call=lambda model, x: model.unpatchify(model(x).logits)": (InPatches, {}, 8),
    "unpatchify(model(x).logits); it hides parts at random: set model.config.mask_ratio = 0.0": (Masked, {}, 8),
    "by up to 0.5; it hides parts": (Masked, {"call": lambda model, x: model.unpatchify(model(x).logits)}, 8),
    "none of its parts has the shape of the images; it has `logits` of shape (2, 16)": (Logits, {}, 8),
    "output=0: the autoencoder returns a Tensor; leave it out": (Convolution, {"output": 0}, 8),
    "the autoencoder is a Predictor, which cannot be called; say how it is called: call=lambda model, x: model.predict("
    "x)": (Predictor, {}, 8),
    'call=lambda model, x: model.predict(x), layout="flat"': (Regressor, {}, 8),
    "the autoencoder is a str, which cannot be called; give the module with its weights, or memorization.architectures."
    "Exported(file) of a program": (lambda: "net.onnx", {}, 8),
    "the autoencoder is a OrderedDict, which cannot be called; if it is a state dict, give the module with it": (
        lambda: Convolution().state_dict(),
        {},
        8,
    ),
}


@pytest.mark.parametrize("message", ADVICE)
def test_the_first_message_names_the_line_to_write(message):
    model, words, size = ADVICE[message]
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        audit(model(), *faces(size), recovery=FEW, **words)
    assert "\n" not in str(raised.value)


def test_a_vae_that_decodes_its_mean_is_not_told_to():
    with pytest.raises(ValueError, match=r"give output=0$"):
        audit(VariationalMean(), *faces(8), recovery=FEW)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Conditioned, "say how it is called: {}model(x, condition=...))"),
        (InPatches, "`logits` holds patches: join them: {}model.unpatchify(model(x).logits))"),
        (Variational, "of its posterior mean: {}model.decode(model.encode(x)[0]))"),
        (Denoising, "give {}model(x, timestep=0)) architecture.output=sample"),
        (lambda: Convolution(3), "as such: {}model(x.expand(-1, 3, -1, -1)).mean(1, keepdim=True))"),
    ],
)
def test_where_no_call_can_be_given_a_function_is_named_in_its_place(model, message):
    made = f"memorization.adapted({type(model()).__name__}(...), call=lambda model, x: "
    message = message.format(f"architecture.target=MODULE.net, of def net(): return {made}")
    with pytest.raises(ValueError, match=re.escape(message)):
        check_contract(model().eval(), MEMBERS, prefix="architecture.")


@pytest.mark.parametrize(
    ("model", "size", "words"),
    [(OfMultiplesOf4, 25, {"pad_to": 4}), (Skipping, 25, {"pad_to": 2}), (OfSize28, 30, {"resize_to": 28})],
)
def test_what_is_advised_is_taken(model, size, words):
    assert len(audit(model(), *faces(size), recovery=FEW, **words).results) == 8


def test_the_range_of_values_that_is_advised_is_the_best_of_the_usual(capsys):
    audit(lambda x: 0.9 * x + 20, MEMBERS, OTHERS, recovery=FEW)
    assert "With value_range=[0,255] it is" in capsys.readouterr().out


def test_a_layout_is_found_by_trying():
    with pytest.raises(ValueError, match='; give layout="channels_last", with which it does'):
        audit(ChannelsLast(), *faces(8, 3), recovery=FEW)
    assert len(audit(ChannelsLast(), *faces(8, 3), recovery=FEW, layout="channels_last").results) == 8


def test_the_mean_of_a_variational_one_is_audited():
    found = audit(Variational(), MEMBERS, OTHERS, recovery=Energy(max_iterations=2), call=decode_mean)
    torch.testing.assert_close(
        adapted(Variational(), call=decode_mean)(MEMBERS), Variational().layer(MEMBERS).sigmoid()
    )
    assert len(found.results) == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"pad_to": 0}, "pad_to is 0; it must be a whole number, at least 1"),
        ({"batch": 1.5}, r"batch is 1\.5; it must be a whole number, at least 0"),
        ({"resize_to": "28"}, "resize_to is '28'; give a size in pixels, such as 28, or height and width"),
        ({"resize_to": (1, 2, 3)}, r"resize_to is \(1, 2, 3\); give a size"),
        ({"resize_to": 28, "pad_to": 4}, "pad_to is 4; choose one of it and resize_to"),
        ({"value_range": 5}, r"value_range is \[5\]; give black and white"),
        ({"value_range": ("a", "b")}, "value_range is .*; give black and white"),
        ({"value_range": (0, np.inf)}, "value_range is .*; give black and white"),
        ({"call": "model"}, "call is 'model'; give a function"),
        ({"call": lambda x: x}, "call is .*; give a function, such as lambda model, x: model"),
        ({"layout": "last"}, "layout is 'last'; choose one of channels_first, channels_last, flat"),
    ],
)
def test_a_wrong_word_of_a_description_is_named(words, message):
    with pytest.raises(SettingError, match=message):
        audit(Convolution(), MEMBERS, OTHERS, **words)
    with pytest.raises(
        TypeError, match="there is no argument 'ouput'; an autoencoder is described by output, call, in"
    ):
        adapted(Convolution(), ouput="sample")


def test_torch_s_own_reason_for_no_gradients_is_told():
    with torch.inference_mode():
        made = Convolution()
        with pytest.raises(ValueError, match=r"no gradients.*torch: Inference tensors.*make or load the model outside"):
            audit(made, MEMBERS, OTHERS, recovery=Energy(max_iterations=2))
    rounded = torch.fx.symbolic_trace(Convolution())
    rounded.forward = lambda x: torch.bitwise_not((x * 255).byte()).float() / 255
    with pytest.raises(ValueError, match=r"\(its output does not require grad"):
        audit(rounded, MEMBERS, OTHERS, recovery=Energy(max_iterations=2))


class Stubborn(AlwaysTraining):
    """Cannot be put in eval mode as others."""

    def forward(self, x):
        return self.layers(x)

    def train(self, mode=True):
        raise NotImplementedError("its mode is its own")


def test_a_model_whose_eval_fails_is_put_in_eval_mode_all_the_same():
    model = Stubborn()
    expected = audit(nn.Sequential(*Stubborn().layers).eval(), MEMBERS, OTHERS, recovery=FEW)
    found = audit(model, MEMBERS, OTHERS, recovery=FEW)
    np.testing.assert_array_equal(found.results["psnr"], expected.results["psnr"])
    assert all(module.training for module in model.modules())


class Refused(nn.Module):
    """Goes on learning whatever its mode, and changes more than that."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.frozen = nn.BatchNorm2d(1), nn.Conv2d(1, 1, 1).requires_grad_(False)

    def forward(self, x):
        self.norm.train()
        self.frozen.requires_grad_(True)
        return self.frozen(self.norm(x))


def test_a_model_that_is_refused_is_left_as_it_was():
    model = Refused().train()
    model.norm.eval()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="depends on the others in its batch"):
        audit(model, MEMBERS, OTHERS)
    assert [module.training for module in model.modules()] == [True, False, True]
    assert [weight.requires_grad for weight in model.parameters()] == [True, True, False, False]
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


class Remembering(Convolution):
    """Keeps what it saw last, in buffers of another size, of another type, and of none."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("last", "count", "spare"):
            self.register_buffer(name, torch.zeros(3))

    def forward(self, x):
        self.last, self.count, self.spare = x.detach(), self.count.double() + 1, None
        return self.layer(x)


def test_buffers_that_a_model_replaces_are_put_back():
    model = Remembering()
    before = copy.deepcopy(model.state_dict())
    assert len(audit(model, MEMBERS, OTHERS, recovery=FEW).results) == 8
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_a_frozen_script_is_audited():
    plain = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1)).eval()
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        frozen = torch.jit.freeze(torch.jit.script(plain))
    assert not hasattr(frozen, "training")
    tables = [audit(model, MEMBERS, OTHERS, recovery=FEW, controls=True) for model in (plain, frozen)]
    np.testing.assert_allclose(*(table.results.query("control == 'none'")["psnr"] for table in tables), rtol=1e-4)
    assert tables[1].missing["untrained"] == "not applicable (it has no weights to draw anew)"
    with evaluating(frozen):
        check_contract(frozen, MEMBERS)


class Locked(Convolution):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Unwilling(Convolution):
    """Fails as soon as its weights are others."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = self.layer.weight.detach().sum().item()

    def forward(self, x):
        if self.layer.weight.detach().sum().item() != self.whole:
            raise RuntimeError("not my weights")
        return self.layer(x)


@pytest.mark.parametrize(("model", "reason"), [(Locked, "cannot pickle '_thread.lock'"), (Unwilling, "not my weights")])
def test_a_control_that_cannot_be_made_costs_no_score(model, reason):
    found = audit(model(), MEMBERS, OTHERS, recovery=FEW, controls=True)
    assert set(found.results["control"]) == {"none", "inpaint", "nearest"}
    assert found.missing["untrained"].startswith("not applicable (")
    assert reason in found.missing["untrained"]
    assert "untrained not applicable" in found.summary().loc[0, "controls"]


def test_a_reference_is_refused_before_anything_is_computed():
    called = []

    def count(x):
        called.append(len(x))
        return x

    with pytest.raises(ValueError, match=r"^reference: the autoencoder returns a tuple; .* give output=0$"):
        audit(count, MEMBERS, OTHERS, recovery=FEW, reference=lambda x: (x,))
    assert sum(called) < 30
    late = []

    def fails_late(x):
        late.append(len(x))
        if len(late) > 4:
            raise RuntimeError("the session is over")
        return x

    found = audit(count, MEMBERS, OTHERS, recovery=FEW, reference=fails_late)
    assert found.missing["reference"] == "not applicable (the session is over)"
    assert set(found.results["control"]) == {"none"}
