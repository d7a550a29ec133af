"""What an iteration asks of the autoencoder, counted in floating-point operations."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from memorization import architectures
from memorization.recovery import Energy, Iterate, NullSpace, PnPADMM, solve
from tests import problems


@pytest.mark.parametrize("method", [Iterate, PnPADMM, NullSpace, Energy])
def test_an_iteration_is_one_forward_pass_and_with_gradients_one_backward_pass_to_the_input(method):
    """Parameters that require a gradient would make it a third pass; none is computed for them."""
    model = architectures.build("fc", problems.SHAPE, centre=True, seed=0, depth=3, width=32).eval()
    measurement = problems.erase(problems.images(4, 1, torch.float32), 0.5, 2)

    def flops(iterations):
        with FlopCounterMode(display=False) as counter:
            solve(lambda x: model(x * 1), measurement, method(max_iterations=iterations, tolerance=0.0))
        return counter.get_total_flops()

    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(measurement.y)
    passes = 2 if method.access == "gradients" else 1
    assert flops(4) - flops(2) == 2 * passes * forward.get_total_flops()
    assert all(parameter.grad is None for parameter in model.parameters())
