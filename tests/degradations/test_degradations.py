"""Measurements: what each degradation does to images, and that its operator says so."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage.measure import block_reduce

from memorization.components import SettingError
from memorization.degradations import (
    DEGRADATIONS,
    Blur,
    Box,
    Chain,
    Degradation,
    Description,
    Downsample,
    Fill,
    Gain,
    Half,
    Jpeg,
    Mask,
    MotionBlur,
    Noise,
    Quantise,
    RandomPixels,
    Stripes,
    Strokes,
    image_seeds,
)

IMAGES = torch.rand(5, 3, 20, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SEEDS = image_seeds(0, range(5))
ERASURES = {name: kind for name, kind in DEGRADATIONS.items() if kind.erases}
NOISY = [name for name, kind in DEGRADATIONS.items() if name not in ("jpeg", "quantise", "chain")]
CHAINS = {
    "chain": Chain(Blur(1.0), RandomPixels(0.5)),
    "chain smaller": Chain(Downsample(2), Box(0.3, noise=0.05)),
    "chain of erasures": Chain(Half(), Downsample(3)),
    "chain of chains": Chain(Chain(Gain(), MotionBlur(5)), Chain(Downsample(2), Noise(0.1))),
    "chain coded": Chain(Blur(1.0), Jpeg(50)),
}
EXAMPLES = {name: kind() for name, kind in DEGRADATIONS.items() if name != "chain"} | CHAINS
LINEAR = [name for name, degradation in EXAMPLES.items() if degradation.linear]


@pytest.fixture(params=EXAMPLES)
def name(request):
    return request.param


@pytest.fixture(params=[(3, 20, 24), (1, 25, 23)], ids=str)
def images(request):
    return torch.rand(5, *request.param, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def measured(name, images):
    return EXAMPLES[name](images, SEEDS)


def dot(a, b):
    return (a * b).flatten(1).sum(1)


def test_adjoint(measured, images):
    operator = measured.operator
    y = torch.rand(measured.y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(dot(operator.forward(images), y), dot(images, operator.adjoint(y)), rtol=1e-12, atol=0)


def test_pseudo_inverse(measured, images, name):
    """A Gaussian blur is inverted only as far as rounding allows: see `Convolution` and `Composition`."""
    atol = 1e-4 if "blur" in repr(EXAMPLES[name]).lower() else 1e-10
    operator = measured.operator
    once = operator.forward(images)
    torch.testing.assert_close(operator.forward(operator.pinv(once)), once, rtol=0, atol=atol)
    back = operator.pinv(once)
    torch.testing.assert_close(operator.pinv(operator.forward(back)), back, rtol=0, atol=atol)


@pytest.mark.parametrize("rho", [0.01, 1.0, 30.0])
def test_solve_is_stationary(measured, images, rho):
    """The gradient of the proximal objective vanishes: H^T (H x - y) + rho (x - v) = 0."""
    operator = measured.operator
    v = torch.rand(images.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y = operator.forward(images)
    x = operator.solve(y, v, rho)
    gradient = operator.adjoint(operator.forward(x) - y) + rho * (x - v)
    assert gradient.abs().max() < 1e-10


@pytest.mark.parametrize("linear", LINEAR)
def test_misfit_of_the_truth_is_the_noise_of_what_was_observed(linear, images):
    measured = EXAMPLES[linear](images, SEEDS)
    misfit = measured.operator.misfit(images, measured.y)
    difference = (measured.y - measured.operator.forward(images)).flatten(1)
    if measured.sigma == 0:
        assert (misfit < 1e-20).all()
    else:
        observed = int((misfit[0] / measured.sigma**2).round())
        assert 0.4 * difference.shape[1] < observed < 1.3 * difference.shape[1]


def test_selected_operator_is_the_operator_of_the_selection(measured, images):
    keep = torch.tensor([True, False, True, False, True])
    torch.testing.assert_close(
        measured.operator.select(keep).forward(images[keep]), measured.operator.forward(images)[keep]
    )


def test_a_measurement_depends_on_the_image_and_its_seed_alone(name):
    degradation = EXAMPLES[name]
    together = degradation(IMAGES, SEEDS)
    assert together.erased.shape == (5, 1, 20, 24)
    for i in (3, 0):
        alone = degradation(IMAGES[i : i + 1], SEEDS[i : i + 1])
        assert torch.equal(alone.y[0], together.y[i])
        assert torch.equal(alone.erased[0], together.erased[i])
        torch.testing.assert_close(
            alone.operator.forward(IMAGES[i : i + 1])[0], together.operator.forward(IMAGES)[i], rtol=0, atol=1e-14
        )


RANDOM = ["random_pixels", "box", "strokes", "stripes", "motion_blur", "gain", "noise", "chain", "chain smaller"]


@pytest.mark.parametrize("drawn", RANDOM)
def test_another_seed_is_another_measurement(drawn):
    first, second = (EXAMPLES[drawn](IMAGES, image_seeds(seed, range(5))).y for seed in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("noisy", NOISY)
def test_noise_of_every_kind_has_its_standard_deviation(noisy):
    clean, noise = (DEGRADATIONS[noisy](noise=sigma)(IMAGES, SEEDS) for sigma in (0.0, 0.2))
    assert noise.sigma == 0.2
    error = noise.y - clean.y
    assert abs(error.std() / 0.2 - 1) < 4 / math.sqrt(2 * error.numel())


def test_float32_measures_what_float64_does(name):
    """Settings are drawn alike; a coding may round a value on the boundary the other way."""
    single, double = (EXAMPLES[name](images, SEEDS) for images in (IMAGES.float(), IMAGES.float().double()))
    assert single.y.dtype == single.operator.forward(IMAGES.float()).dtype == torch.float32
    off = (single.y.double() - double.y).abs() > 1e-5
    assert off.double().mean() < (0 if name in LINEAR else 0.01) + 1e-9
    assert torch.equal(single.erased, double.erased)


@pytest.mark.parametrize("name", ERASURES)
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_the_fraction_erased_is_as_asked(name, fraction):
    erased = ERASURES[name](fraction=fraction)(IMAGES, SEEDS).erased
    share = erased.flatten(1).double().mean(1)
    assert (share - fraction).abs().max() <= (0.03 if name in ("box", "half", "stripes") else 0.5 / (20 * 24))


@pytest.mark.parametrize("fill", [fill.value for fill in Fill])
def test_fills(fill):
    measured = RandomPixels(0.5, fill=fill)(IMAGES, SEEDS)
    erased = measured.erased.expand_as(IMAGES)
    assert torch.equal(measured.y[~erased], IMAGES[~erased])
    filled = measured.y[erased]
    match fill:
        case "zero":
            assert (filled == 0).all()
        case "grey":
            assert (filled == 0.5).all()
        case "mean":
            expected = IMAGES.mean((2, 3), keepdim=True).expand_as(IMAGES)[erased]
            torch.testing.assert_close(filled, expected)
        case "random":
            assert 0 <= filled.min() < 0.01
            assert 0.99 < filled.max() <= 1
            assert abs(filled.mean() - 0.5) < 0.02


def test_noise_has_its_standard_deviation_on_every_pixel():
    for degradation in (Noise(0.2), RandomPixels(0.5, noise=0.2)):
        images = torch.full((4, 3, 64, 64), 0.5)
        measured = degradation(images, image_seeds(0, range(4)))
        error = (measured.y - images * ~measured.erased).flatten(1).std(1)
        assert measured.sigma == 0.2
        assert (error - 0.2).abs().max() < 0.01


def test_a_box_is_one_rectangle_and_moves_with_the_seed():
    erased = Box(0.36)(IMAGES, SEEDS).erased[:, 0]
    places = set()
    for mask in erased:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert mask.sum() == len(rows) * len(columns) == 12 * 14
        assert rows[-1] - rows[0] + 1 == len(rows)
        assert columns[-1] - columns[0] + 1 == len(columns)
        places.add((int(rows[0]), int(columns[0])))
    assert len(places) > 1


@pytest.mark.parametrize("side", ["bottom", "top", "left", "right"])
def test_half_erases_its_side(side):
    erased = Half(side=side)(IMAGES, SEEDS).erased[0, 0]
    inner = {
        "bottom": erased[10:].all() & ~erased[:10].any(),
        "top": erased[:10].all() & ~erased[10:].any(),
        "left": erased[:, :12].all() & ~erased[:, 12:].any(),
        "right": erased[:, 12:].all() & ~erased[:, :12].any(),
    }
    assert inner[side]


@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
@pytest.mark.parametrize(("width", "fraction"), [(3, 0.5), (2, 0.25), (1, 0.1), (5, 0.7)])
def test_stripes_are_parallel_bands_of_their_width(direction, width, fraction):
    erased = Stripes(fraction, width=width, direction=direction)(torch.rand(8, 1, 60, 60), range(8)).erased[:, 0]
    if direction == "vertical":
        erased = erased.transpose(1, 2)
    assert (erased == erased[:, :, :1]).all()
    phases = set()
    for line in erased[:, :, 0].int().numpy():
        start = int(np.flatnonzero(np.diff(line, prepend=line[-1]) == 1)[0])
        turned = np.roll(line, -start)  # begins with a whole band
        lengths = np.diff(np.flatnonzero(np.diff(turned, prepend=0, append=1 - turned[-1])))
        bands, gaps = lengths[::2], lengths[1::2]
        assert set(bands) <= {width - 1, width, width + 1}
        assert np.ptp(bands) <= 1
        assert np.ptp(gaps) <= 1
        assert bands.sum() == round(fraction * 60)
        phases.add(start)
    assert len(phases) > 1


def test_strokes_are_as_thick_as_a_brush_and_connected():
    """Far fewer pieces, and far fewer lone pixels, than as many random pixels would make."""
    images = torch.rand(6, 1, 48, 48)
    strokes, pixels = (kind(0.3)(images, [*SEEDS, 9]).erased[:, 0].numpy() for kind in (Strokes, RandomPixels))
    for stroke, pixel in zip(strokes, pixels, strict=True):
        assert ndimage.label(stroke, np.ones((3, 3)))[1] <= 8 < ndimage.label(pixel, np.ones((3, 3)))[1]
        assert ndimage.binary_opening(stroke).sum() > 0.8 * stroke.sum() > 8 * ndimage.binary_opening(pixel).sum()


@pytest.mark.parametrize("width", [0.5, 2.0, 7.0])
def test_blur_is_that_of_scipy(width, images):
    expected = ndimage.gaussian_filter(images.numpy(), (0, 0, width, width), mode="wrap", truncate=9.0)
    np.testing.assert_allclose(Blur(width)(images, SEEDS).y.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("angle", "kernel"), [(0.0, np.ones((1, 5))), (90.0, np.ones((5, 1))), (180.0, np.ones((1, 5)))]
)
def test_motion_blur_along_an_axis_is_that_of_scipy(angle, kernel, images):
    expected = ndimage.convolve(images.numpy(), kernel[None, None] / 5, mode="wrap")
    np.testing.assert_allclose(MotionBlur(5, angle)(images, SEEDS).y.numpy(), expected, atol=1e-12)


def test_motion_blur_draws_a_line_at_its_angle():
    """Of a single bright pixel: the line's length, its slope (anticlockwise; rows count downwards), its light."""
    point = torch.zeros(3, 1, 41, 41, dtype=torch.float64)
    point[:, 0, 20, 20] = 1
    rows, columns = np.mgrid[-20:21, -20:21]
    for length, angle in ((15, 30.0), (9, 135.0), (8, 80.0)):
        y = MotionBlur(length, angle)(point, SEEDS[:3]).y[0, 0].numpy()
        assert y.sum() == pytest.approx(1)
        covariance = np.cov(np.stack([columns.ravel(), -rows.ravel()]), aweights=y.ravel().clip(0), ddof=0)
        values, vectors = np.linalg.eigh(covariance)
        assert math.degrees(math.atan2(vectors[1, 1], vectors[0, 1])) % 180 == pytest.approx(angle, abs=2)
        assert values[1] == pytest.approx((length**2 - 1) / 12, rel=0.1)
        assert values[0] < 0.4
    assert len({tuple(line.flatten().tolist()) for line in MotionBlur(9)(point, SEEDS[:3]).y}) == 3


def test_downsampling_is_that_of_scikit_image():
    measured = Downsample(4)(IMAGES, SEEDS)
    np.testing.assert_allclose(measured.y.numpy(), block_reduce(IMAGES.numpy(), (1, 1, 4, 4), np.mean), atol=1e-14)
    assert not measured.erased.any()


def test_gains_are_uniform_in_their_range():
    ones = torch.ones(400, 1, 2, 2)
    gains = Gain(0.2, 0.4)(ones, image_seeds(0, range(400))).y[:, 0, 0, 0]
    assert 0.2 <= gains.min() < 0.205
    assert 0.395 < gains.max() <= 0.4
    assert abs(gains.mean() - 0.3) < 0.01


@pytest.mark.parametrize("quality", [5, 10, 90])
def test_jpeg_is_that_of_pillow(quality, images, tmp_path):
    measured = Jpeg(quality)(images, SEEDS)
    for i, (image, y) in enumerate(zip(images, measured.y, strict=True)):
        grey = len(image) == 1
        array = np.uint8(np.round(255 * image.numpy()))
        Image.fromarray(array[0] if grey else np.moveaxis(array, 0, 2)).save(tmp_path / f"{i}.jpg", quality=quality)
        decoded = np.asarray(Image.open(tmp_path / f"{i}.jpg"))
        expected = decoded[None] if grey else np.moveaxis(decoded, 2, 0)
        np.testing.assert_allclose(y.numpy(), expected / 255, atol=1e-15)
    assert measured.sigma == 0
    assert torch.equal(measured.operator.forward(images), images)


@pytest.mark.parametrize("levels", [2, 4, 256])
def test_quantised_values_are_the_nearest_levels(levels, images):
    y = Quantise(levels)(images, SEEDS).y
    allowed = torch.linspace(0, 1, levels, dtype=torch.float64)
    assert torch.isin((y * (levels - 1)).round(), torch.arange(levels)).all()
    nearest = allowed[(images[..., None] - allowed).abs().argmin(-1)]
    torch.testing.assert_close(y, nearest, rtol=0, atol=1e-12)


def test_a_chain_is_its_parts_in_turn():
    """Both draw from seeds of their own, and the second sees what the first left."""
    chain = Chain(Downsample(2), RandomPixels(0.5, noise=0.1))
    measured = chain(IMAGES, SEEDS)
    small = block_reduce(IMAGES.numpy(), (1, 1, 2, 2), np.mean)
    second = RandomPixels(0.5, noise=0.1)(torch.tensor(small), [image_seeds(seed, [1])[0] for seed in SEEDS])
    torch.testing.assert_close(measured.y, second.y)
    assert measured.sigma == 0.1
    assert measured.erased.shape == (5, 1, 20, 24)
    assert not measured.erased.any()
    twice = Chain(RandomPixels(0.5), RandomPixels(0.5))(IMAGES, SEEDS)
    assert abs(twice.erased.double().mean() - 0.75) < 0.02  # independent draws; 0.5 were they the same
    assert torch.equal(twice.erased, (twice.operator.forward(torch.ones_like(IMAGES)) == 0)[:, :1])


NOT_FIRST = {
    "first.noise is 0.1; set it to 0": Noise(0.1),
    "first.fill is 'grey'; only zero is linear": Box(fill="grey"),
    r"first is Jpeg\(quality=10\); it is not linear; put it second": Jpeg(),
    "first is Quantise": Quantise(),
    "first.second.noise is 0.2": Chain(Blur(), Downsample(noise=0.2)),
}


@pytest.mark.parametrize("message", NOT_FIRST)
def test_the_first_part_of_a_chain_is_linear_and_free_of_noise(message):
    with pytest.raises(SettingError, match=rf"^{message}"):
        Chain(NOT_FIRST[message], RandomPixels())


@pytest.mark.parametrize("second", [Stripes(0.3), Stripes(0.3, "grey", 0.05), Chain(Box(0.2), Noise(0.05))], ids=str)
def test_a_chain_of_erasures_is_one_mask(second):
    measured = Chain(Half(0.25), second)(IMAGES, SEEDS)
    assert isinstance(measured.operator, Mask)
    torch.testing.assert_close(measured.operator.weight, (~measured.erased).to(IMAGES.dtype))


def test_a_chain_is_described_by_the_part_that_erases_and_its_last_noise():
    assert Chain(Blur(), Box(0.3, "grey", 0.1)).describe() == Description(0.3, "grey", 0.1)
    assert Chain(Box(0.3), Downsample(noise=0.2)).describe() == Description(0.3, "zero", 0.2)
    assert math.isnan(Chain(Blur(), Downsample(2)).describe().fraction)
    assert type(Box(fill=Fill.grey).describe().fill) is str


def test_what_a_degradation_declares_is_what_it_does(name):
    degradation, measured = EXAMPLES[name], EXAMPLES[name](IMAGES, SEEDS)
    assert degradation.keeps_shape == (measured.y.shape == IMAGES.shape)
    of_noise = 2 * measured.sigma**2 * measured.y[0].numel() + 1e-9
    assert degradation.linear == bool((measured.operator.misfit(IMAGES, measured.y) < of_noise).all())
    assert not degradation.erases or measured.erased.any()


def test_a_chain_is_what_both_of_its_parts_are():
    declared = lambda part: (part.erases, part.keeps_shape, part.linear)
    assert declared(Chain(Half(0.25), Chain(Box(0.2), Stripes()))) == (True, True, True)
    assert declared(Chain(Half(0.25), Noise())) == declared(Chain(Blur(), Box())) == (False, True, True)
    assert declared(Chain(Box(), Downsample(2))) == (False, False, True)
    assert declared(Chain(Chain(Blur(), Downsample(2)), Jpeg())) == (False, False, False)


def test_a_degradation_of_one_s_own_needs_a_call_alone():
    class Mirror(Degradation):
        def __call__(self, images, seeds):
            return Noise(0.0)(images.flip(3), seeds)

    assert str(Mirror().describe()) == str(Description())  # of which one is NaN
    assert (Mirror.erases, Mirror.keeps_shape, Mirror.linear, Mirror.revision) == (False, True, True, 1)
    assert Chain(Mirror(), Box(0.3))(IMAGES, SEEDS).erased.any()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 2.0, float("nan"), "0.5", True, None])
def test_a_fraction_out_of_range_is_named(fraction):
    with pytest.raises(SettingError, match=r"^fraction is .*; it must lie between 0 and 1"):
        RandomPixels(fraction)


def test_other_bad_settings_are_named():
    with pytest.raises(ValueError, match=r"^fill is 'red'; choose one of zero, grey, mean, random"):
        Box(fill="red")
    with pytest.raises(ValueError, match=r"^side is 'up'; choose one of bottom"):
        Half(side="up")
    with pytest.raises(ValueError, match=r"^noise is -1; it is a standard deviation"):
        Noise(-1)
    with pytest.raises(ValueError, match=r"^noise is nan"):
        RandomPixels(0.5, noise=float("nan"))


BAD = {
    "width is 0; a Gaussian": lambda: Blur(0),
    "width is '1'; a Gaussian": lambda: Blur("1"),
    "noise is -1; it is": lambda: Blur(noise=-1),
    "noise is '1'; it is": lambda: Blur(noise="1"),
    "width is inf": lambda: Blur(float("inf")),
    "length is 1; the pixels of a line: a whole number, at least 2": lambda: MotionBlur(1),
    "angle is nan; give degrees": lambda: MotionBlur(9, float("nan")),
    "factor is 1; the side": lambda: Downsample(1),
    "lowest is 0; it must": lambda: Gain(0),
    "angle is 'up'; give degrees": lambda: MotionBlur(9, "up"),
    "highest is '1'; it must be finite": lambda: Gain(0.5, "1"),
    "first is <class .*Blur'>; give an object": lambda: Chain(Blur, Box()),
    "second is 'box'; give an object, such as Blur": lambda: Chain(Blur(), "box"),
    "highest is 0.2; it must be finite and at least lowest, 0.5": lambda: Gain(0.5, 0.2),
    "quality is 10.5; of JPEG": lambda: Jpeg(10.5),
    "quality is 96; JPEG": lambda: Jpeg(96),
    "levels is 2.5; the grey levels": lambda: Quantise(2.5),
    "width is 1.5; the pixels of a stripe": lambda: Stripes(width=1.5),
    "direction is 'diagonal'; choose one of horizontal": lambda: Stripes(direction="diagonal"),
}


@pytest.mark.parametrize("message", BAD)
def test_settings_out_of_range_are_named(message):
    with pytest.raises(SettingError, match=rf"^{message}"):
        BAD[message]()


UNFIT = {
    "width is 21; choose at most 20": Blur(21),
    "length is 45; choose at most 44": MotionBlur(45),
    "factor is 21; choose at most 20": Downsample(21),
    "width is 20; choose one below 20": Stripes(width=20),
    "fraction is 0.001; it erases 0 of the 480 pixels": Strokes(0.001),
    "second.width is 6; choose at most 5": Chain(Downsample(4), Blur(6)),
    "second.first.fraction is 0.01; it erases 0": Chain(Downsample(4), Chain(RandomPixels(0.01), Blur(2))),
}


@pytest.mark.parametrize("message", UNFIT)
def test_settings_that_do_not_fit_the_images_are_named(message):
    with pytest.raises(SettingError, match=rf"^{message}"):
        UNFIT[message](IMAGES, SEEDS)


def test_jpeg_knows_grey_and_colour_only():
    with pytest.raises(ValueError, match="grey or RGB images, not 2 channels"):
        Jpeg()(IMAGES[:, :2], SEEDS)


def test_a_seed_an_image(name):
    with pytest.raises(ValueError, match=r"5 images need as many seeds, not 4"):
        EXAMPLES[name](IMAGES, SEEDS[:4])
