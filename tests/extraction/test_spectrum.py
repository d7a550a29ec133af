"""Spectral radii of prescribed spectra."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memorization.extraction.spectrum import spectral_radii
from tests import problems
from tests.extraction.searches import SHAPE, generator, ran


def test_a_contraction_has_one_end_and_its_radius():
    found = ran(problems.linear(problems.contraction(symmetric=False).float()), queries=8000)
    matrix = problems.contraction(symmetric=False)
    assert len(found.table) == 1
    assert found.images.abs().max() < 1e-3
    assert found.table["spectral_radius"][0] == pytest.approx(
        float(torch.linalg.eigvals(matrix.float().double()).abs().max()), rel=1e-6
    )
    assert found.endings["fixed"] == found.starts == found.table["hits"][0]
    assert found.table["period"][0] == 1


def test_the_radius_is_that_of_a_prescribed_spectrum():
    basis = torch.linalg.qr(torch.randn(64, 64, generator=generator()).double())[0]
    for radius in (0.3, 0.95, 1.7):
        values = torch.linspace(-0.2, radius, 64, dtype=torch.float64)
        f = problems.linear(basis @ torch.diag(values) @ basis.T)
        assert spectral_radii(f, torch.zeros(2, *SHAPE), progress=False) == pytest.approx([radius] * 2, rel=1e-8)


def test_a_radius_that_is_not_found_is_not_guessed(monkeypatch):
    """All eigenvalues of the shift lie on the unit circle; a short iteration sees none of them."""
    for name, value in {"DENSE": 16, "BASIS": 8, "RESTARTS": 2, "STEPS": 8}.items():
        monkeypatch.setattr(f"memorization.extraction.spectrum.{name}", value)
    radii = spectral_radii(lambda x: x.flatten(1).roll(1, 1).view_as(x), torch.zeros(1, *SHAPE), progress=False)
    assert np.isnan(radii).all()
