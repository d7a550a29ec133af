"""Priors draw what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from memorization.components import SettingError
from memorization.extraction import Combinations, Folder, Mixture, Noise, Search
from memorization.extraction.priors import Combined, Kind
from tests import problems
from tests.extraction.searches import NO_ENDS, SHAPE, generator


@pytest.mark.parametrize("spectrum", [0.0, 1.0, 2.0])
def test_noise_has_its_spectrum_and_scale(spectrum):
    images = Noise(spectrum, 2.0).draw(100, (3, 32, 32), generator(), torch.empty(0, 3, 32, 32)) - 0.5
    assert images.dtype == torch.float32
    assert images.std() == pytest.approx(2, rel=0.02)
    power = torch.fft.rfft2(images).abs().square().mean((0, 1))[1:16, 1:16]
    frequency = torch.fft.fftfreq(32)[1:16, None].square() + torch.fft.rfftfreq(32)[1:16].square()
    slope = np.polyfit(frequency.sqrt().log().flatten(), power.log().flatten(), 1)[0]
    assert slope == pytest.approx(-2 * spectrum, abs=0.05)


def test_the_channels_of_noise_are_alike_to_a_varying_degree():
    images = Noise().draw(200, (3, 16, 16), generator(), torch.empty(0, 3, 16, 16)).flatten(2)
    alike = np.array([np.corrcoef(image[:2])[0, 1] for image in images])
    assert alike.min() < 0.1
    assert alike.max() > 0.9
    assert alike.mean() == pytest.approx(0.5, abs=0.07)
    assert Noise().draw(3, (1, 1, 1), generator(), NO_ENDS).shape == (3, 1, 1, 1)


def test_combinations_are_of_the_ends():
    ends = problems.images(2, 5, torch.float32)
    a, b = ends.flatten(1)
    along = (b - a) / (b - a).norm()

    def drawn(kind):
        return Combined(kind).draw(100, SHAPE, generator(), ends)

    for kind, low, high in ((Kind.between, 0, 1), (Kind.beyond, -5, 6)):
        off = drawn(kind).flatten(1) - a
        share = off @ along / (b - a).norm()
        assert (off - (off @ along)[:, None] * along).abs().max() < 1e-4
        assert low - 1e-5 <= share.min() < 0.2 * low + 0.1
        assert high - 0.2 * (high - low) - 0.1 < share.max() <= high + 1e-5
    turned = drawn(Kind.turned)
    every = torch.cat([torch.rot90(flipped, k, (2, 3)) for flipped in (ends, ends.flip(3)) for k in range(4)])
    distance = torch.cdist(turned.flatten(1), every.flatten(1)).min(1)
    assert distance.values.max() < 1e-5
    assert len(distance.indices.unique()) == 14  # each of the other seven of both
    noise = drawn(Kind.disturbed).flatten(1)[:, None] - ends.flatten(1)
    deviation = noise.square().mean(2).sqrt().min(1).values
    assert 0 < deviation.min() < 0.1 < 0.6 < deviation.max() < 3
    square = Combined(Kind.turned).draw(20, (3, 4, 6), generator(), torch.rand(2, 3, 4, 6))
    assert square.shape == (20, 3, 4, 6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Mixture(spectra=[]), "spectra is []; name at least one"),
        (lambda: Mixture(scales=[]), "scales is []; name at least one"),
        (lambda: Mixture(spectra=[1.0, 11.0]), "spectra is [1.0, 11.0]; it is the exponent of 1/f^spectrum, from 0 "),
        (lambda: Mixture(scales=[1.0, -1.0]), "scales is [1.0, -1.0]; it must be above 0 and finite"),
        (lambda: Noise(scale=math.inf), "scale is inf; it must be above 0"),
        (lambda: Noise(scale=1e39), "scale is 1e+39; it is a deviation in pixels of [0, 1], at most 1e+06"),
        (lambda: Search(extrapolation=51), "extrapolation is 51; it is at most 50: so many steps are kept"),
        (lambda: Noise(scale="1"), "scale is '1'; it must be above 0 and finite"),
        (lambda: Noise(scale=True), "scale is True; it must be above 0 and finite"),
        (lambda: Noise(spectrum="1"), "spectrum is '1'; it is the exponent of 1/f^spectrum"),
        (lambda: Combinations(scale=None), "scale is None; it must be above 0"),
        (lambda: Mixture(spectra=1.0), "spectra is 1; name at least one, in a list such as [0.0, 1.0]"),
        (lambda: Mixture(scales="12"), "scales is '12'; name at least one, in a list"),
        (
            lambda: Mixture(scales=np.ones((2, 2))),
            "scales is array([[1., 1.], [1., 1.]]); name at least one, in a list",
        ),
        (lambda: Mixture(spectra=[0.0, "1"]), "spectra is [0.0, '1']; it is the exponent"),
        (lambda: Mixture(deflation="no"), "deflation is 'no'; it must be true or false"),
        (lambda: Folder("images", noise="1"), "noise is '1'; it is a standard deviation"),
        (lambda: Folder(3).arms[0].identity(), "path is 3; name a folder of images"),
        (lambda: Search(prior="noise"), "prior is 'noise'; give an object, such as Noise() or Mixture()"),
        (lambda: Search(unseen="few"), "unseen is 'few'; it is a number of ends"),
        (lambda: Search(same=None), "same is None; it must be above 0"),
        (lambda: Search(queries=True), "queries is True; it must be a whole number"),
        (lambda: Noise(spectrum=math.nan), "spectrum is nan; it is the exponent"),
        (lambda: Combinations(scale=0), "scale is 0; it must be above 0"),
        (lambda: Folder(noise=-1), "noise is -1; it is a standard deviation"),
        (lambda: Folder("/nowhere/at/all").identity(), "path is '/nowhere/at/all'; "),
        (lambda: Folder().identity(), "path is ''; name a folder"),
        (lambda: Combined("sideways"), "kind is 'sideways'; choose one of between, beyond, turned, disturbed"),
    ],
)
def test_a_prior_that_cannot_be_used_is_refused(make, said):
    with pytest.raises(SettingError) as refused:
        make()
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_images_of_a_folder_fit_the_shape(folder):
    prior = Folder(str(folder), noise=0.0)
    colours = prior.draw(40, (3, 12, 12), generator(), NO_ENDS)
    assert colours.shape == (40, 3, 12, 12)
    torch.testing.assert_close(colours[:, :2, 0, 0], torch.tensor([[200, 100]]).expand(40, 2) / 255)
    blue = {round(float(value * 255)) for value in colours[:, 2, 0, 0]}
    assert blue == {0, 50, 100}
    assert colours[:, :, -2:].abs().max() == 0
    grey = prior.draw(5, (1, 8, 12), generator(), NO_ENDS)
    assert grey.shape == (5, 1, 8, 12)
    assert 0.4 < grey[:, :, 0].min() <= grey[:, :, 0].max() < 0.6
    small = prior.draw(5, (3, 4, 4), generator(), NO_ENDS)
    assert small.shape == (5, 3, 4, 4)
    noisy = Folder(str(folder), noise=0.3).draw(40, (3, 12, 12), generator(), NO_ENDS)
    assert (noisy - colours).std() == pytest.approx(0.3, rel=0.1)
    with pytest.raises(SettingError, match="images have 1 or 3 channels, and the autoencoder takes 2"):
        prior.draw(5, (2, 8, 8), generator(), NO_ENDS)
    moved = folder.rename(folder.with_name("moved"))
    assert Folder(str(moved), 0.1).identity()["fingerprint"] == Folder(str(moved), 0.2).identity()["fingerprint"]
