"""Statistics, and the audit from Python."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from memorization import audit
from memorization.audit import difference_interval, median_interval, proportion_interval
from memorization.degradations import RandomPixels
from memorization.recovery import Energy
from tests import problems


def test_wilson_against_its_formula():
    z = stats.norm.ppf(0.975)
    for k, n in [(0, 50), (38, 50), (50, 50)]:
        p = k / n
        centre, half = (p + z**2 / (2 * n)), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        expected = np.array([centre - half, centre + half]) / (1 + z**2 / n)
        np.testing.assert_allclose(proportion_interval(k, n), expected, atol=1e-12)


def test_difference_interval_against_newcombe_s_published_example():
    """Newcombe (1998), table II, example (a): 56/70 - 48/80 gives 0.0524 to 0.3339."""
    np.testing.assert_allclose(difference_interval((56, 70), (48, 80)), (0.0524, 0.3339), atol=5e-5)


@pytest.mark.parametrize("n", [7, 50])
def test_the_median_interval_covers_at_least_95_percent(n):
    draws = np.random.default_rng(0).exponential(size=(4000, n))
    low, high = np.array([median_interval(draw) for draw in draws]).T
    covered = ((low <= np.log(2)) & (np.log(2) <= high)).mean()
    assert 0.945 < covered < 0.99


def test_a_perfect_memory_is_found_out():
    members, others = problems.images(6, 1, torch.float32), problems.images(6, 2, torch.float32)
    result = audit(problems.nearest(members), members, others, RandomPixels(0.3))
    row = result.summary().iloc[0]
    assert row["members_recovered"] == 1
    assert row["non_members_recovered"] == 0
    assert row["train_loss"] == pytest.approx(0, abs=1e-12)
    assert len(result.results) == 12
    assert result.results["member"].sum() == 6


def test_the_batch_size_does_not_matter():
    members, others = problems.images(6, 1, torch.float32), problems.images(6, 2, torch.float32)
    f = problems.projection(members)
    tables = [
        audit(f, members, others, recovery=Energy(), batch_size=size).results.drop(columns="seconds")
        for size in (1, 5, 100)
    ]
    # beyond 80 dB a score is float32 rounding
    first, *rest = [table.assign(psnr_erased=table["psnr_erased"].clip(upper=80)) for table in tables]
    for table in rest:
        assert (table["recovered"] == first["recovered"]).all()
        np.testing.assert_allclose(table["psnr_erased"], first["psnr_erased"], atol=0.1)


def test_bad_input_is_named():
    members, others = problems.images(3, 1, torch.float32), problems.images(3, 2, torch.float32)
    broken = members.clone()
    broken[1, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="members: image 1 holds NaN"):
        audit(lambda x: x, broken, others)
    with pytest.raises(ValueError, match="it must keep the shape"):
        audit(lambda x: x[:, :, 1:], members, others)
    with pytest.raises(ValueError, match="non_members: pixels span"):
        audit(lambda x: x, members, others * 255)
    with pytest.raises(ValueError, match=r"members are \(1, 8, 8\), non-members \(1, 8, 4\)"):
        audit(lambda x: x, members, others[..., :4])
    with pytest.raises(ValueError, match="the autoencoder returns a tuple; it must return the images alone"):
        audit(lambda x: (x, x), members, others)
    with pytest.raises(ValueError, match=r"non_members are a ndarray; give a tensor, torch\.as_tensor"):
        audit(lambda x: x, members, others.numpy())
    with pytest.raises(ValueError, match=r"members require grad.* give members\.detach\(\)"):
        audit(lambda x: x, members.clone().requires_grad_(), others)
    with pytest.raises(ValueError, match="non_members: image 1 is member 2; give images"):
        audit(lambda x: x, members, torch.cat([others[:1], members[2:]]))


class Dropping(torch.nn.Module):
    """Half of it is in eval mode already; in train mode it would drop pixels."""

    def __init__(self):
        super().__init__()
        self.dropout, self.frozen = torch.nn.Dropout(0.5), torch.nn.Identity().eval()

    def forward(self, x):
        if self.training or self.dropout.training:
            raise RuntimeError("called in train mode")
        return self.frozen(self.dropout(x))


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_judged_in_eval_mode_and_put_back_in_its_own(fails):
    members, others = problems.images(3, 1, torch.float32), problems.images(3, 2, torch.float32)
    model = Dropping()
    if fails:
        model.frozen.forward = lambda x: x[:, :, 1:]
        with pytest.raises(ValueError, match="it must keep the shape"):
            audit(model, members, others)
    else:
        audit(model, members, others)
    assert [module.training for module in model.modules()] == [True, True, False]


def test_a_diverged_image_counts_as_not_recovered():
    members, others = problems.images(3, 1, torch.float32), problems.images(3, 2, torch.float32)
    row = audit(lambda x: x * 1e4, members, others).summary().iloc[0]
    assert row["members_diverged"] == 3
    assert row["members_recovered"] == 0
    assert not pd.isna(row["members_median_psnr"])
