"""Architectures: sizes, initial signals, skips, bottlenecks, and when the tied one is a proximal map."""

from __future__ import annotations

import json
import math

import pytest
import torch
from scipy.integrate import quad
from sklearn.decomposition import PCA
from torch import nn

from memorization.architectures import ARCHITECTURES, Architecture, Centred, Output, build
from memorization.architectures.autoencoder import has_modes, least_loss
from memorization.architectures.convolutional import doubling
from memorization.architectures.initialisation import ACTIVATIONS, GAINS, PROXIMAL, initialise, redraw
from memorization.architectures.tied import Contraction
from memorization.components import SettingError


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def jacobian(network, shape, seed=0):
    """(P, P) of `network` at a random image of `shape`, in float64."""
    network, x = network.double(), noise(1, *shape, seed=seed, dtype=torch.float64)
    pixels = math.prod(shape)
    return torch.autograd.functional.jacobian(network, x).reshape(pixels, pixels)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 25, 25), (3, 17, 30), (3, 1, 5)])
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "custom"])  # which is the user's
def test_images_of_any_size_come_back_at_their_size_through_every_parameter(name, shape):
    model = build(name, shape, centre=True, seed=0)
    y = model(noise(2, *shape))
    assert y.shape == (2, *shape)
    y.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


SAME = [
    ("fc", {"activation": "prelu"}), ("conv", {"activation": "sigmoid"}), ("unet", {"skips": "all"}),
    ("tied", {"proximal": True, "activation": "tanh"}),
]  # fmt: skip


@pytest.mark.parametrize("output", Output)
@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize(("name", "settings"), SAME)
def test_weights_loaded_into_a_blank_autoencoder_make_the_one_that_they_are_of(name, settings, centre, output):
    if output is Output.sigmoid:
        settings = {key: value for key, value in settings.items() if key != "proximal"}
    architecture = Architecture.of(name, centre, output, **settings)
    model = architecture.build((3, 16, 16), 1).eval()
    blank = architecture.blank((3, 16, 16))
    assert all(tensor.is_meta for tensor in blank.state_dict().values())  # no weight was drawn
    blank.load_state_dict({key: value.clone() for key, value in model.state_dict().items()}, assign=True)
    x = noise(2, 3, 16, 16)
    assert torch.equal(blank.eval()(x), model(x))
    for own in (blank, model):
        torch.manual_seed(5)
        redraw(own)
    assert torch.equal(blank(x), model(x))


def left_by_components(images, count):
    """The mean squared error of the best approximation by `count` principal components, by scikit-learn."""
    flat = images.flatten(1).double().numpy()
    components = PCA(count, svd_solver="full").fit(flat)
    return ((components.inverse_transform(components.transform(flat)) - flat) ** 2).mean()


def test_fewer_units_than_images_leave_a_loss_that_no_weights_undercut():
    model = build("fc", (1, 4, 4), centre=True, seed=0, depth=3, width=6)
    images = noise(12, 1, 4, 4)
    least = least_loss(model, images)
    assert least == pytest.approx(left_by_components(images, 6), rel=1e-12)
    assert least_loss(model, torch.cat([images, images])) == pytest.approx(least / 2)  # the first 12 of them count
    assert least_loss(model, images[:7]) == 0
    last = model.network.layers[-1]  # weights that reach it, given hidden units that say which image it is
    with torch.no_grad():
        u, s, vh = torch.linalg.svd(images.flatten(1) - images.flatten(1).mean(0), full_matrices=False)
        last.weight.copy_(vh[:6].T * s[:6])
        reached = last(u[:, :6]) - last.bias + images.flatten(1).mean(0)
    assert (reached - images.flatten(1)).square().mean() == pytest.approx(least, rel=1e-5)


def test_no_least_loss_is_claimed_where_the_last_layer_is_not_linear():
    images = noise(30, 1, 4, 4)
    assert least_loss(build("fc", (1, 4, 4), centre=True, output="sigmoid", seed=0, depth=3, width=6), images) == 0
    assert least_loss(build("conv", (1, 4, 4), centre=True, seed=0), images) == 0


class Mixed(nn.Module):
    """A network of somebody else that holds one of ours beside a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.ours = nn.Dropout(), build("fc", (1, 4, 4), centre=False, seed=0, depth=2, width=6)


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("output", Output)
def test_modes_are_declared_by_the_network_itself(centre, output):
    model = build("fc", (1, 4, 4), centre=centre, output=output, seed=0, depth=2, width=6)
    assert not has_modes(model)
    model.eval()
    assert has_modes(Mixed())
    assert has_modes(Centred(Mixed(), torch.zeros(1, 4, 4)))


def test_equal_architectures_have_equal_identities_however_they_are_written():
    short, long = Architecture("conv"), Architecture("conv", {"depth": 4, "channels": [32, 64, 128]}, output="linear")
    assert json.dumps(short.identity(), sort_keys=True) == json.dumps(long.identity(), sort_keys=True)
    assert short.identity() != Architecture("conv", {"depth": 3}).identity() != Architecture("unet").identity()
    assert {"name", "revision", "revisions", "centre", "output", "depth"} <= set(short.identity())
    with pytest.raises(SettingError, match=r"^name is 'cnv'; choose one of fc, conv"):
        Architecture("cnv")


def test_the_seed_alone_decides_the_weights():
    first, again, other = (build("unet", (1, 9, 9), centre=False, seed=seed, depth=2) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "prelu", "elu", "gelu", "silu"])
def test_these_gains_keep_the_second_moment(name):
    activation = ACTIVATIONS[name]()

    def weighted(z):
        return activation(torch.tensor(z)).item() ** 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    moment = quad(weighted, -10, 0)[0] + quad(weighted, 0, 10)[0]
    assert GAINS[name] ** 2 * moment == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "sine"])
def test_these_gains_undo_the_slope_at_zero(name):
    zero = torch.zeros((), requires_grad=True)
    ACTIVATIONS[name]()(zero).backward()
    assert GAINS[name] * zero.grad == pytest.approx(1)


@pytest.mark.parametrize("initialisation", ["he", "orthogonal"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_differences_of_images_survive_ten_layers(activation, initialisation):
    model = build("fc", (1, 16, 16), centre=False, seed=0, activation=activation, initialisation=initialisation)
    x = 0.2 * noise(2, 1, 16, 16)
    y = model(x)
    ratio = ((y[0] - y[1]).norm() / (x[0] - x[1]).norm()).item()
    assert 0.03 < ratio < 10


@pytest.mark.parametrize("initialisation", ["he", "orthogonal"])
def test_a_transposed_convolution_starts_with_the_variance_of_a_convolution(initialisation):
    torch.manual_seed(0)
    layer = initialise(doubling(64, 32, 5, (32, 32)), initialisation, "tanh")
    y = layer(noise(8, 64, 16, 16))
    assert y.shape == (8, 32, 32, 32)
    assert y[..., 4:-4, 4:-4].var().item() == pytest.approx(1, rel=0.1)


def test_the_contraction_divides_by_the_spectral_norm_and_so_does_its_gradient():
    for shape in ((7, 4), (4, 7)):
        weight = noise(*shape, dtype=torch.float64).requires_grad_()
        direction = noise(*shape, seed=1, dtype=torch.float64)
        expected = weight / torch.linalg.matrix_norm(weight, 2)
        torch.testing.assert_close(Contraction()(weight), expected)
        gradients = [torch.autograd.grad((y * direction).sum(), weight) for y in (Contraction()(weight), expected)]
        torch.testing.assert_close(*gradients)
    small = 0.01 * noise(4, 7)
    assert torch.equal(Contraction()(small), small)


@pytest.mark.parametrize("width", [10, 60])
@pytest.mark.parametrize("activation", PROXIMAL)
def test_the_proximal_tied_network_has_the_jacobian_of_a_proximal_map(activation, width):
    shape = (1, 5, 5)
    network = build(
        "tied", shape, centre=True, seed=0, width=width, activation=activation, proximal=True, initialisation="he"
    )
    for parameter in network.parameters():  # anything a training may lead to
        parameter.data += noise(*parameter.shape, seed=1)
    for seed in range(3):
        matrix = jacobian(network, shape, seed)
        torch.testing.assert_close(matrix, matrix.T)
        eigenvalues = torch.linalg.eigvalsh(matrix)
        assert eigenvalues.min() >= -1e-12
        assert eigenvalues.max() <= 1 + 1e-12
        assert eigenvalues.max() > 1e-3


def test_without_the_option_the_tied_network_expands_and_the_untied_one_is_not_even_symmetric():
    shape = (1, 5, 5)
    tied = build("tied", shape, centre=False, seed=0, width=60)
    tied.layer.weight.data *= 30
    matrix = jacobian(tied, shape)
    torch.testing.assert_close(matrix, matrix.T)
    assert torch.linalg.eigvalsh(matrix).max() > 1
    untied = jacobian(build("fc", shape, centre=False, seed=0, depth=2, width=60), shape)
    assert (untied - untied.T).norm() > 0.1 * untied.norm()


def silenced(network, blocks, x):
    """The output of a U-Net whose encoder blocks `blocks` give zeros."""
    hooks = [network.encoder[i].register_forward_hook(lambda *call: torch.zeros_like(call[2])) for i in blocks]
    y = network(x)
    for hook in hooks:
        hook.remove()
    return y


@pytest.mark.parametrize(("skips", "deepest", "inner"), [("none", 0, 0), ("inner", 1, 0), ("all", 1, 1)])
def test_skips_decide_what_passes_beside_the_deepest_level(skips, deepest, inner):
    """Does the output still depend on the image with the deepest level silenced; with all but full resolution?"""
    network = build("unet", (1, 12, 12), centre=False, seed=0, depth=3, channels=(8,), skips=skips)
    for blocks, expected in (((2,), deepest), ((1, 2), inner)):
        y = silenced(network, blocks, noise(2, 1, 12, 12))
        assert bool((y[0] != y[1]).any()) == bool(expected)


def test_a_dense_bottleneck_bounds_the_rank():
    network = build("conv", (1, 10, 10), centre=False, seed=0, depth=2, bottleneck=5)
    values = torch.linalg.svdvals(jacobian(network, (1, 10, 10)))
    assert values[4] > 1e-8
    assert values[5] < 1e-12


def test_a_sigmoid_output_lies_in_range_and_is_the_mean_where_the_network_gives_nothing():
    x = noise(4, 1, 6, 6)
    assert build("fc", (1, 6, 6), centre=False, seed=0, output="linear")(x).min() < 0
    for centre in (True, False):
        y = build("fc", (1, 6, 6), centre=centre, seed=0, output="sigmoid")(x)
        assert 0 < y.min() < y.max() < 1
    mean = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(0))
    nothing = Centred(nn.Sequential(nn.Flatten(0), nn.ReLU(), nn.Unflatten(0, (1, 1, 6, 6))), mean, sigmoid=True)
    torch.testing.assert_close(nothing(torch.zeros(1, 1, 6, 6)), mean.unsqueeze(0))


WRONG = {
    "activation": ("fc", {"activation": "swish"}, "'swish'; choose one of relu, leaky_relu, prelu"),
    "initialisation": ("conv", {"initialisation": "xavier"}, "'xavier'; choose one of he, default, orthogonal"),
    "skips": ("unet", {"skips": "outer"}, "'outer'; choose one of all, inner, none"),
    "output": ("fc", {"output": "clamp"}, "'clamp'; choose one of linear, sigmoid"),
    "channels": ("unet", {"channels": (8, 0)}, r"\[8, 0\]; name at least one"),
    "depth": ("unet", {"depth": 1}, "1; a U-Net has at least 2"),
    "kernel_size": ("conv", {"kernel_size": 4}, "4; it must be odd"),
    "bottleneck": ("conv", {"bottleneck": -1}, "-1; it must be at least 1, or 0"),
    "scale": ("tied", {"scale": 0}, "0; it must be above 0"),
    "width": ("tied", {"width": 0}, "0; it must be at least 1"),
}


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_setting_is_named_with_the_way_out(key):
    name, settings, message = WRONG[key]
    with pytest.raises(ValueError, match=rf"^{key} is {message}"):
        build(name, (1, 8, 8), centre=True, seed=0, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"activation": "gelu"},
            "^activation is 'gelu'; it is not proximal; choose one of relu, .* or set proximal to false",
        ),
        ({"output": "sigmoid"}, "^output is 'sigmoid'; it is not a proximal map; choose linear, or proximal false"),
    ],
)
def test_what_cannot_be_proximal_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build("tied", (1, 8, 8), centre=True, seed=0, proximal=True, **settings)


def test_a_size_beyond_the_machine_is_named():
    message = r"^width is 100000000; .* parameters need .* GB, and this machine has .*; make it smaller"
    with pytest.raises(ValueError, match=message):
        build("fc", (1, 6, 6), centre=True, seed=0, depth=10, width=100_000_000)
