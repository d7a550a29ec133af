"""The loop that all methods share: each image on its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from memorization.components import SettingError
from memorization.degradations import Blur, Downsample, Mask, Measurement, RandomPixels
from memorization.recovery import (
    METHODS,
    Alternating,
    Energy,
    Inpaint,
    Iterate,
    Known,
    NullSpace,
    PnPADMM,
    Robust,
    solve,
)
from memorization.recovery.attempt import Task
from memorization.recovery.problem import ImageState, Method, Problem, starting_image
from memorization.recovery.solver import SETTLED, differs
from memorization.recovery.tries import RECALLED, Start, Tries
from tests import problems

MEMBERS = problems.images(4, seed=1)


def explosive(factor: float):
    """A projection onto the members' span, but images whose first pixel is above 0.99 are blown up."""
    return lambda x: problems.projection(MEMBERS)(x) * torch.where(x[:, :1, :1, :1] > 0.99, factor, 1.0)


@pytest.mark.parametrize("knowledge", [Known(), Alternating(), Robust()], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("factor", [1e6, torch.inf, torch.nan])
@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.access != "none"])
def test_a_diverging_image_leaves_its_batch_mates_alone(name, factor, knowledge):
    originals = problems.images(5, seed=7) * 0.9
    measurement = problems.erase(originals, 0.3, seed=8)
    measurement.operator.weight[:, :, 0, 0] = 1
    measurement.y[:, :, 0, 0] = originals[:, :, 0, 0]
    alone = solve(problems.projection(MEMBERS), measurement, METHODS[name](), knowledge, starts=1)
    measurement.y[2, :, 0, 0] = 1.0
    together = solve(explosive(factor), measurement, METHODS[name](), knowledge, starts=1)
    others = torch.tensor([0, 1, 3, 4])
    assert together.status[2] == "diverged"
    assert torch.isfinite(together.images).all()
    torch.testing.assert_close(together.images[others], alone.images[others], atol=1e-12, rtol=0)
    assert [together.status[i] for i in others] == [alone.status[i] for i in others]


@pytest.mark.parametrize("name", METHODS)
def test_an_image_does_not_depend_on_its_batch(name):
    originals = problems.images(6, seed=9)
    measurement = problems.erase(originals, 0.5, seed=10)
    together = solve(problems.projection(MEMBERS), measurement, METHODS[name](), starts=1)
    for i in range(6):
        one = Measurement(
            measurement.y[i : i + 1],
            Mask(measurement.operator.weight[i : i + 1]),
            0.0,
            measurement.erased[i : i + 1],
        )
        alone = solve(problems.projection(MEMBERS), one, METHODS[name](), starts=1)
        torch.testing.assert_close(alone.images[0], together.images[i], atol=1e-9, rtol=0)
        assert alone.iterations[0] == together.iterations[i]


def test_a_measurement_that_is_not_finite_is_refused():
    measurement = problems.erase(MEMBERS, 0.5, seed=3)
    measurement.y[1, 0, 2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"measurement.y is not finite in image 1 of the batch \(1 in all\)"):
        solve(lambda x: x, measurement, PnPADMM())


@pytest.mark.parametrize(
    ("broken", "cause"), [(lambda x: x[..., 1:], "must keep shape"), (lambda x: x.mul_(0.5), "changes its input")]
)
@pytest.mark.parametrize("method", [Iterate(), PnPADMM(), NullSpace()], ids=lambda method: type(method).__name__)
def test_an_autoencoder_that_breaks_the_contract_is_refused(method, broken, cause):
    with pytest.raises(ValueError, match=cause):
        solve(broken, problems.erase(MEMBERS, 0.5, seed=3), method)


def test_what_a_method_cannot_work_with_is_named():
    measurement = problems.erase(MEMBERS, 0.5, seed=3)
    with pytest.raises(ValueError, match="gives no gradients"):
        solve(lambda x: x.detach(), measurement, Energy())
    with pytest.raises(ValueError, match=r"float64 to .*, torch.float32; it must keep shape and dtype"):
        solve(lambda x: x.float(), measurement, PnPADMM())
    with pytest.raises(ValueError, match=r"measurement.y is torch.float16; give float32"):
        solve(lambda x: x, replace(measurement, y=measurement.y.half()), PnPADMM())
    with pytest.raises(ValueError, match=r"measurement\.y holds no image"):
        solve(lambda x: x, problems.erase(MEMBERS[:0], 0.5, seed=3), PnPADMM())


@pytest.mark.parametrize("name", METHODS)
def test_a_mask_may_be_shared_by_all_images(name):
    measurement = problems.erase(MEMBERS, 0.5, seed=3)
    weight = measurement.operator.weight[:1]
    each = replace(measurement, operator=Mask(weight.repeat(4, 1, 1, 1)))
    shared = replace(measurement, operator=Mask(weight))
    ours, theirs = (solve(problems.projection(MEMBERS), of, METHODS[name]()) for of in (shared, each))
    torch.testing.assert_close(ours.images, theirs.images)
    assert torch.equal(ours.mask, theirs.mask)


def test_a_pixel_counts_as_observed_if_all_its_channels_were():
    y = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    weight = (torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1)) > 0.3).float()
    measurement = Measurement(y, Mask(weight), 0.0, weight.amin(1, keepdim=True) < 0.5)
    assert torch.equal(solve(lambda x: x, measurement, PnPADMM()).mask, weight.prod(1, keepdim=True))


def test_an_image_that_cannot_even_be_started_from_is_grey_and_diverged():
    """The noise is such that the weight of the data is 0 in float32."""
    measurement = Blur(1.0, noise=1e18)(problems.images(3, seed=7, dtype=torch.float32), range(3))
    for method in (NullSpace(), Energy()):
        answer = solve(lambda x: 0.9 * x, measurement, method, starts=1)
        assert answer.status == ["diverged"] * 3
        assert torch.equal(answer.images, torch.full_like(answer.images, 0.5))


def test_random_starts_differ_from_each_other():
    measurement = problems.erase(MEMBERS, 0.5, seed=3)
    sigma = torch.zeros(4, dtype=torch.float64)
    problem = Problem(measurement.y, measurement.y, measurement.operator, sigma, lambda x: x, MEMBERS[0])
    second, third = (starting_image(problem, start, own="neutral") for start in (2, 3))
    erased = measurement.erased
    assert not torch.isclose(second[erased], third[erased], atol=1e-3).all()
    torch.testing.assert_close(second[~erased], measurement.y[~erased], atol=2e-3, rtol=0)


def test_not_a_number_in_the_first_step_is_a_status():
    measurement = problems.erase(MEMBERS, 0.5, seed=3)
    answer = solve(lambda x: x * torch.nan, measurement, PnPADMM())
    assert answer.status == ["diverged"] * 4
    torch.testing.assert_close(answer.images, measurement.y)
    assert torch.isinf(answer.residual).all()


def test_the_trace_holds_each_residual_until_the_image_leaves():
    halve = lambda x: 0.5 * x
    y = torch.stack([torch.full(problems.SHAPE, 2.0**-k) for k in (1, 4)])
    measurement = Measurement(y, Mask(torch.ones_like(y)), 0.0, torch.zeros_like(y, dtype=torch.bool))
    answer = solve(halve, measurement, Iterate(tolerance=2.0**-7), trace=True)
    assert answer.iterations.tolist() == [6, 3]
    expected = torch.tensor([[2.0**-k for k in range(2, 8)], [2.0**-5, 2.0**-6, 2.0**-7, *[math.nan] * 3]])
    torch.testing.assert_close(answer.trace, expected, equal_nan=True)


@pytest.mark.parametrize("starts", [1, 3])
@pytest.mark.parametrize("method", [Iterate(tolerance=0.02), PnPADMM(tolerance=0.02), Energy(max_iterations=20)])
def test_the_path_holds_the_answers_after_fewer_iterations_and_changes_nothing(method, starts):
    measurement, counts = problems.erase(problems.images(5, seed=7), 0.5, seed=3), [0, 1, 3, 10]
    f = problems.projection(MEMBERS)
    alone, answer = (solve(f, measurement, method, starts=starts, path=path) for path in ((), counts))
    assert alone.path is None
    assert torch.equal(alone.images, answer.images)
    assert torch.equal(alone.queries, answer.queries)
    assert answer.path.shape == (5, 4, *problems.SHAPE)
    task = Task(f, measurement, method, Known(), True, path=tuple(counts))
    apart = [task.attempt(Start(k)) for k in range(starts)]
    for i, start in enumerate(answer.start.tolist()):
        torch.testing.assert_close(answer.path[i], apart[start].path[i], equal_nan=True)
        there = torch.tensor(counts) < answer.iterations[i]
        assert torch.equal(answer.path[i].isfinite().all((1, 2, 3)), there)
    for place, count in enumerate(counts[1:], 1):
        if starts == 1 and method.access == "queries":  # whose steps do not depend on how many are to come
            fewer = solve(f, measurement, replace(method, max_iterations=count))
            there = answer.iterations > count
            torch.testing.assert_close(answer.path[there, place], fewer.images[there], atol=1e-12, rtol=0)
    assert method.access == "gradients" or 1 < answer.iterations.min() < 10  # some have left


def test_parameters_get_no_gradients():
    layer = torch.nn.Linear(64, 64).double()
    measurement = problems.erase(MEMBERS, 0.5, seed=3)
    solve(lambda x: layer(x.flatten(1)).view_as(x), measurement, Energy(max_iterations=3))
    assert layer.weight.grad is None
    assert layer.bias.grad is None


@pytest.mark.parametrize("knowledge", [Known(), Robust()], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("method", [Energy(max_iterations=20), PnPADMM(), Iterate()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("degradation", [RandomPixels(0.5), Downsample(2)], ids=lambda d: type(d).__name__)
def test_inference_mode_changes_nothing(method, knowledge, degradation):
    """Not even if the measurement was made in it."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Sigmoid(), nn.Unflatten(1, problems.SHAPE)).double()
    knowledge, starts = knowledge if degradation.keeps_shape else Known(), 3

    def recovered():
        return solve(model, degradation(MEMBERS, range(4)), method, knowledge, starts=starts, trace=True, path=(0, 3))

    plain = recovered()
    with torch.inference_mode():
        inside = recovered()
    assert inside.status == plain.status
    for name in ("images", "mask", "trace", "path", "residual", "energy", "queries", "start"):
        torch.testing.assert_close(getattr(inside, name), getattr(plain, name), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("method", [Iterate(), PnPADMM(), NullSpace()], ids=lambda method: type(method).__name__)
def test_an_autoencoder_may_be_in_inference_mode_by_itself(method):
    measurement, f = problems.erase(MEMBERS, 0.5, seed=3), problems.projection(MEMBERS)
    plain, by_itself = (solve(g, measurement, method).images for g in (f, torch.inference_mode()(f)))
    assert torch.equal(plain, by_itself)


def test_progress_adds_up_to_the_budget():
    gone = []
    solve(problems.projection(MEMBERS), problems.erase(MEMBERS, 0.3, 3), PnPADMM(), on_iteration=gone.append)
    assert sum(gone) == PnPADMM().max_iterations


def two_valleys(x):
    """Each pixel is drawn to 0.2 or to 0.8, whichever is nearer: fixed points that a start decides between."""
    return torch.where(x < 0.5, 0.2, 0.8).to(x.dtype)


def test_of_several_starts_the_lowest_energy_wins_image_by_image():
    """Pixels all 0.8, of which only one is seen; grey starts at 0.5 and falls to 0.8, the random ones fall to both."""
    originals = torch.full((3, *problems.SHAPE), 0.8, dtype=torch.float64)
    originals[1] = 0.2
    measurement = problems.erase(originals, 0.3, seed=2)
    method = NullSpace()
    one = solve(two_valleys, measurement, method)
    several = solve(two_valleys, measurement, method, starts=4)
    apart = [Task(two_valleys, measurement, method, Known(), True).attempt(Start(k)) for k in range(4)]
    lowest = torch.stack([recovery.energy for recovery in apart]).min(0)
    torch.testing.assert_close(several.energy, lowest.values)
    assert torch.equal(several.start, lowest.indices)
    for i, k in enumerate(lowest.indices.tolist()):
        assert torch.equal(several.images[i], apart[k].images[i])
    assert torch.equal(several.queries, torch.stack([recovery.queries for recovery in apart]).sum(0))
    assert one.energy.isnan().all()
    assert one.start.tolist() == [0, 0, 0]


def test_the_energy_is_the_misfit_and_the_distance_to_the_fixed_point():
    measurement = problems.erase(MEMBERS, 0.3, seed=2)
    answer = solve(lambda x: 0.9 * x, measurement, Iterate(max_iterations=1), starts=2)
    x = answer.images  # 0.9 y from the first start, and 0.9 of y and grey from the second
    expected = ((x - measurement.y).square() * measurement.operator.weight + (0.1 * x).square()).sum((1, 2, 3))
    torch.testing.assert_close(answer.energy, expected)
    answer = solve(lambda x: 3 * x - 1, measurement, Iterate(max_iterations=2), starts=2)
    x = answer.images  # clipped, and so is what was rated
    expected = ((x - measurement.y).square() * measurement.operator.weight + (1 - 2 * x).square()).sum((1, 2, 3))
    torch.testing.assert_close(answer.energy, expected)


@dataclass(frozen=True)
class Guess(Method):
    """Its start of number k answers with pixels of k / 10 at once."""

    max_iterations: int = 2
    tolerance: float = 0.0
    restarts = True

    def start(self, problem, start=0):
        image = torch.full_like(problem.y, start / 10) if start >= 0 else problem.recalled
        return ImageState(image)

    def step(self, problem, state, progress):
        return ImageState(problem.autoencoder(state.x))


class Restarting(Known):
    """The truth, with restarts by themselves."""

    restarts = True


def levels(*values):
    """A measurement of whole images, each of one level."""
    y = torch.stack([torch.full(problems.SHAPE, value, dtype=torch.float64) for value in values])
    return Measurement(y, Mask(torch.ones_like(y)), 0.0, torch.zeros_like(y, dtype=torch.bool))


def test_only_images_that_are_not_solved_are_started_again():
    """That of level 0.1 from the next starting point, that of level 0.9 from none."""
    sizes, gone = [], []
    measurement = levels(0.0, 0.9, 0.1)

    def identity(x):
        sizes.append(len(x))
        return x

    answer = solve(identity, measurement, Guess(), Restarting(), on_iteration=gone.append)
    first = solve(identity, measurement, Guess(), starts=1)
    assert answer.start.tolist() == [0, 1, 1]
    assert answer.solved.tolist() == [True, False, True]
    again = SETTLED + 2  # a start takes one step and one more query for the energy
    assert answer.queries.tolist() == [2, 2 + again + 2 + again, 2 + again + 2]  # no answer settles twice
    assert sum(sizes) == answer.queries.sum() + 3
    assert torch.equal(answer.images[0], first.images[0])
    torch.testing.assert_close(answer.images[2], measurement.y[2])
    assert sum(gone) == Tries(Guess(), Restarting()).iterations == Guess().max_iterations * (7 + RECALLED)
    several = solve(identity, measurement, Guess(), starts=3)
    assert several.queries.tolist() == [6, 6, 6]
    assert several.start.tolist() == [0, 2, 1]


@pytest.mark.parametrize("fill", [0.0, None])
def test_a_hypothesis_that_supposes_nothing_else_is_not_tried(fill):
    """Of `Robust` where there is no fill: an image is then only started from settled answers and other points."""
    measurement = problems.erase(problems.images(1, seed=7), 0.5, seed=3, fill=fill or 0.0)
    if fill is None:
        measurement = replace(measurement, y=problems.images(1, seed=8))
    assert [differs(Robust(), measurement, k).tolist() for k in (1, 2)] == [[fill is not None]] * 2


def test_an_image_that_explains_y_but_is_no_fixed_point_is_not_solved():
    """Unless the autoencoder holds nothing more exactly."""
    drifting = lambda x: x + 0.004
    answers = [
        solve(drifting, levels(0.0), Guess(max_iterations=1), Restarting(), loss=loss) for loss in (None, 1e-8, 1e-3)
    ]
    assert [answer.solved.tolist() for answer in answers] == [[False], [False], [True]]


@pytest.mark.parametrize(("pull", "held"), [(0.5, True), (0.9, False), (-0.5, True)])
def test_an_answer_that_settles_near_by_is_solved(pull, held):
    """At 0.04 times `pull` from a fixed point, which ten iterations reach or not; the noise allows both."""
    autoencoder = lambda x: 0.04 + pull * (x - 0.04)
    answer = solve(autoencoder, replace(levels(0.0), sigma=0.05), Guess(max_iterations=1), Restarting())
    assert (answer.queries.tolist() == [12]) == held


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.access == "queries"])
def test_a_baseline_has_one_start_unless_told(name):
    measurement = problems.erase(problems.images(5, seed=7), 0.5, seed=3)
    answers = [solve(problems.projection(MEMBERS), measurement, METHODS[name](), starts=starts) for starts in (0, 1)]
    assert torch.equal(answers[0].images, answers[1].images)
    assert torch.equal(answers[0].queries, answers[1].queries)


@pytest.mark.parametrize("knowledge", [Known(), Robust()], ids=lambda o: type(o).__name__)
def test_the_images_of_a_bank_that_explain_a_measurement_best_are_recalled(knowledge):
    """With the nearest member as autoencoder, from 90 % erased: the first start finds another member."""
    members = problems.images(20, seed=1)
    measurement = problems.erase(members[:6], 0.9, seed=3)
    bank = torch.cat([problems.images(20, seed=5), members.flip(0)])
    f, method = problems.nearest(members), NullSpace(max_iterations=20)
    without, answer = (solve(f, measurement, method, knowledge, **kind) for kind in ({}, {"bank": bank, "recall": 2}))
    assert not torch.equal(without.images, members[:6])
    assert torch.equal(answer.images, members[:6])
    assert set(answer.start.tolist()) <= {0, -1}
    assert torch.equal(solve(f, measurement, method, knowledge, bank=bank).images, without.images)


def test_by_itself_only_what_is_not_solved_is_recalled():
    """Of the levels 0, 0.9 and 0.1 the first is solved at once, the second is in the bank, the third is not."""
    measurement, bank = levels(0.0, 0.9, 0.1), levels(0.3, 0.9).y

    def starts(**options):
        return solve(lambda x: x, measurement, Guess(), Restarting(), bank=bank, **options).start.tolist()

    assert starts() == [0, -1, 1]
    assert starts(recall=0) == [0, 1, 1]
    assert starts(loss=1e-2) == starts(starts=1) == [0, 0, 0]
    assert solve(lambda x: x, measurement, Guess(), Known(), bank=bank).start.tolist() == [0, 0, 0]


def test_a_bank_may_hold_fewer_images_than_are_asked_for():
    measurement = problems.erase(MEMBERS, 0.5, seed=3)
    f = problems.projection(MEMBERS)
    for size in (0, 1):
        answer = solve(f, measurement, NullSpace(), bank=MEMBERS[:size], recall=3)
        assert (answer.start >= -size).all()
    with pytest.raises(SettingError, match=r"^recall is 2; there is no bank"):
        solve(f, measurement, NullSpace(), recall=2)
    with pytest.raises(ValueError, match=r"^bank is \(4, 1, 7, 8\); give finite images \(M, 1, 8, 8\)"):
        solve(f, measurement, NullSpace(), bank=MEMBERS[:, :, 1:], recall=2)


def test_a_start_that_diverges_does_not_win():
    measurement = problems.erase(MEMBERS, 0.3, seed=2)
    explodes_from_grey = lambda x: torch.where((x == 0.5).any(), torch.inf, 1.0) * x
    alone = solve(explodes_from_grey, measurement, Iterate())
    both = solve(explodes_from_grey, measurement, Iterate(), starts=2)
    assert both.status == alone.status == ["converged"] * 4
    assert torch.equal(both.images, alone.images)


def test_nothing_converges_while_the_estimate_is_annealed():
    measurement = problems.erase(MEMBERS, 0.5, seed=3, fill=3.0)
    method = NullSpace(tolerance=10.0)  # which every step meets
    answer = solve(lambda x: x, measurement, method, Robust())
    assert answer.iterations.tolist() == [math.ceil(Robust.annealed * method.max_iterations) + 1] * 4
    assert solve(lambda x: x, measurement, method).iterations.tolist() == [1] * 4


def test_the_trace_of_several_starts_is_as_long_as_the_longest():
    measurement = problems.erase(MEMBERS, 0.5, seed=3)
    method = PnPADMM(max_iterations=500, tolerance=1e-4)
    answer = solve(problems.projection(MEMBERS), measurement, method, starts=4, trace=True)
    assert (answer.trace.isfinite().sum(1) == answer.iterations).all()


def test_a_diverged_image_has_infinite_energy():
    answer = solve(lambda x: 1e3 * x, problems.erase(MEMBERS, 0.5, seed=3), Iterate(), starts=2)
    assert answer.status == ["diverged"] * 4
    assert (answer.energy == torch.inf).all()


def test_iterate_asks_for_the_operator_only_with_several_starts():
    measurement = problems.erase(problems.images(5, seed=7), 0.5, seed=3)
    autoencoder = problems.projection(MEMBERS)

    def answer(knowledge, starts, of=measurement):
        return solve(autoencoder, of, Iterate(), knowledge, starts=starts).images

    assert torch.equal(answer(Known(), 1), answer(Robust(), 1))
    untrue = replace(measurement, operator=Mask(1 - measurement.operator.weight))
    assert torch.equal(answer(Robust(), 3), answer(Robust(), 3, untrue))
    assert not torch.equal(answer(Known(), 3), answer(Known(), 3, untrue))


class Held(nn.Module):
    """An autoencoder that holds an image, which it does not use."""

    def __init__(self, image):
        super().__init__()
        self.register_buffer("mean", image)

    def forward(self, x):
        return 0.5 * x


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.access != "none"])
def test_only_a_method_with_gradients_reads_what_the_model_holds(name):
    """From a smaller measurement, so that every start has to make up an image."""
    measurement = Downsample(2)(problems.images(3, seed=7), [1, 2, 3])
    method, shape = METHODS[name](max_iterations=2), problems.SHAPE
    dark, bright = (
        [solve(Held(torch.full(shape, level)), measurement, method, starts=starts).images for starts in (1, 3)]
        for level in (0.1, 0.9)
    )
    assert torch.equal(dark[0], bright[0]) == torch.equal(dark[1], bright[1]) == (method.access == "queries")


@pytest.mark.parametrize("starts", [-1, 2.5])
def test_a_number_of_starts_out_of_range_is_named(starts):
    with pytest.raises(SettingError, match=rf"^starts is {starts}; it must be a whole number, at least 0"):
        solve(lambda x: x, problems.erase(MEMBERS, 0.5, seed=3), Iterate(), starts=starts)


def test_the_control_has_one_start_and_one_step_whatever_is_known():
    measurement = problems.erase(0.4 + 0.2 * MEMBERS, 0.5, seed=3)
    answer = solve(lambda x: x, measurement, Inpaint(max_iterations=5), Robust())
    assert answer.status == ["converged"] * 4
    assert answer.iterations.tolist() == [1] * 4
    with pytest.raises(ValueError, match=r"^starts is 2; Inpaint has one start: set it to 1"):
        solve(lambda x: x, measurement, Inpaint(), starts=2)


def test_no_image_is_started_again_at_a_loss_at_which_none_is_held():
    answers = [solve(lambda x: x, levels(0.9), Guess(), Restarting(), loss=loss) for loss in (1e-2, 1e-3)]
    assert [answer.queries.item() > 50 for answer in answers] == [False, True]
