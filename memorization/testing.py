"""The conformance kit: the properties that every part must have, checked on ours and on those of other packages.

    @pytest.mark.parametrize(("kind", "name"), memorization.testing.parts("my_package"))
    def test_my_parts_conform(kind, name):
        memorization.testing.check(kind, name)

Each check raises `AssertionError`, with a line on what does not hold, for a part with its default settings.
"""

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memorization.architectures import ARCHITECTURES, Architecture
from memorization.components import Registry
from memorization.data import DATASETS, as_float
from memorization.degradations import DEGRADATIONS, Measurement, RandomPixels
from memorization.extraction import PRIORS
from memorization.extraction.priors import Prior
from memorization.recovery import METHODS, OPERATORS, Access, Iterate, solve

SHAPES = ((1, 8, 8), (3, 12, 10))
REGISTRIES: dict[str, Registry[Any]] = {
    "datasets": DATASETS,
    "architectures": ARCHITECTURES,
    "degradations": DEGRADATIONS,
    "methods": METHODS,
    "knowledge": OPERATORS,
    "priors": PRIORS,
}


def parts(package: str = "memorization") -> list[tuple[str, str]]:
    """The kind and the name of every registered part that a package defines and that can be made of nothing.

    package: as it is imported. Raises `ValueError` if there is none: pytest would skip a test of no part, and pass.
    """
    found = [
        (kind, name)
        for kind, registry in REGISTRIES.items()
        for name, part in registry.items()
        if part.__module__.split(".")[0] == package and name not in ("custom", "images", "none", "chain")
    ]
    if not found:
        way = "give the name under which it is imported; after a change of its entry points, install it again"
        raise ValueError(f"no part of {package!r} is registered; {way}")
    return found


def check(kind: str, name: str) -> None:
    """Check the part `name` of a kind (`datasets`, `architectures`, `degradations`, `methods`, `knowledge`,
    `priors`)."""
    part = REGISTRIES[kind][name]
    assert isinstance(getattr(part, "revision", None), int), f"{name} declares no revision: a whole number, 1 at first"
    if kind != "architectures":
        _check_settings(name, part)
    CHECKS[kind](name, part)


def _check_settings(name: str, part: Any) -> None:
    assert isinstance(part, type), f"{name} is no class"
    assert is_dataclass(part), f"{name} is no dataclass"
    made, again = part(), part()
    assert made == again, f"{name}: two with the same settings are not equal"
    for field in fields(made):
        try:
            setattr(made, field.name, getattr(made, field.name))
        except FrozenInstanceError:
            continue
        raise AssertionError(f"{name}.{field.name} can be changed: the dataclass must be frozen")


def _images(shape: tuple[int, int, int], count: int = 4) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _check_degradation(name: str, part: Any) -> None:
    degradation = part()
    for shape in SHAPES:
        images, seeds = _images(shape), [3, 1, 4, 5]
        before = images.clone()
        whole = degradation(images, seeds)
        assert torch.equal(images, before), f"{name} changes the images in place"
        for i in range(len(images)):
            alone = degradation(images[i : i + 1], seeds[i : i + 1]).y[0]
            assert torch.equal(alone, whole.y[i]), f"{name}: a measurement depends on the others of its batch"
        keeps = whole.y.shape == images.shape
        assert keeps == degradation.keeps_shape, (
            f"{name}.keeps_shape is {degradation.keeps_shape}; it should be {keeps}"
        )
        assert not degradation.erases or whole.erased.flatten(1).any(1).all(), f"{name} erases nothing of some image"
        assert whole.erased.shape == (len(images), 1, *shape[1:]), f"{name}: erased is {tuple(whole.erased.shape)}"
        if degradation.erases:
            mask = whole.operator.mask
            assert mask is not None, f"{name} erases, but its operator is no mask"
            assert torch.equal(mask.amin(1, keepdim=True) == 0, whole.erased), f"{name}: erased is not where H is 0"
        _check_operator(name, images, whole)
        if degradation.linear and not degradation.describe().noise:
            seen = ~whole.erased if keeps else torch.ones_like(whole.y, dtype=torch.bool)
            error = ((whole.operator.forward(images) - whole.y) * seen).abs().max()
            assert error < 1e-9, f"{name}: y is not H x where nothing was erased, by {error:.1g}"


def _check_operator(name: str, x: Tensor, measurement: Measurement) -> None:
    h, y = measurement.operator, torch.rand_like(measurement.y)
    products = (h.forward(x) * y).flatten(1).sum(1), (x * h.adjoint(y)).flatten(1).sum(1)
    assert torch.allclose(*products), f"{name}: its operator's adjoint is not the adjoint of its forward"
    weights = measurement.operator.mask
    if weights is None:  # the measurement of a mask holds a fill where nothing was seen
        solved = h.solve(y, x, 0.3)
        gradient = h.adjoint(h.forward(solved) - y) + 0.3 * (solved - x)
        assert gradient.abs().max() < 1e-5, f"{name}: its operator's solve is not the proximal step"


def _check_method(name: str, part: Any) -> None:
    method = part()
    assert method.access in tuple(Access), f"{name}.access is {method.access!r}; choose one of {', '.join(Access)}"
    assert str(method.knows).strip(), f"{name}.knows says nothing of its threat model"
    for shape in SHAPES:
        members = _images(shape)
        basis, _ = torch.linalg.qr(members.flatten(1).T)
        queried: list[int] = []

        def project(x: Tensor, basis: Tensor = basis, queried: list[int] = queried) -> Tensor:
            queried.append(len(x))
            y = x if method.access == Access.gradients else x.detach()
            return (y.flatten(1) @ basis @ basis.T).view_as(x)

        measurement = RandomPixels(0.3)(members, [1, 2, 3, 4])
        whole = solve(project, measurement, method)
        assert whole.images.isfinite().all(), f"{name}: an answer is not finite"
        assert int(whole.queries.sum()) == sum(queried), f"{name}: it queries f beside the problem's autoencoder"
        assert (method.access == Access.none) == (not queried), (
            f"{name}.access is {method.access}, {len(queried)} calls"
        )
        assert torch.equal(solve(project, measurement, method).images, whole.images), f"{name} is not deterministic"
        first = torch.tensor([0])
        alone = Measurement(measurement.y[:1], measurement.operator.select(first), 0.0, measurement.erased[:1])
        error = (solve(project, alone, method).images - whole.images[:1]).abs().max()
        assert error < 1e-6, f"{name}: an answer depends on the others of its batch, by {error:.1g}"


class _Hidden(Measurement):
    """A measurement that shows `y` and the shape alone."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("operator", "sigma"):
            raise AssertionError(f"blind knowledge looks at the measurement's {name}")
        return super().__getattribute__(name)


def _check_knowledge(name: str, part: Any) -> None:
    knowledge = part()
    for shape in SHAPES:
        images = _images(shape)
        true = RandomPixels(0.5)(images, [1, 2, 3, 4])
        measurement = _Hidden(true.y, true.operator, true.sigma, true.erased) if knowledge.blind else true
        for hypothesis in range(knowledge.hypotheses):
            estimate = knowledge.start(measurement, hypothesis)
            for k in (1, 2, 3):
                estimate = knowledge.update(estimate, true.y, images, k, k / 4)
            assert estimate.y.shape == true.y.shape, f"{name}: y became {tuple(estimate.y.shape)}"
            for what, values in {**knowledge.report(estimate), "sigma": estimate.sigma}.items():
                assert values.shape == (len(images),), f"{name}: {what} is not one number an image"
            misfit = knowledge.misfit(estimate, true.y, images)
            assert misfit.shape == (len(images),), f"{name}: misfit is not one number an image"
            assert misfit.isfinite().all(), f"{name}: misfit is not finite"
            assert len(estimate.select(torch.tensor([True, False, True, False])).y) == 2, f"{name}: select"
        solve(lambda x: x, true, Iterate(max_iterations=3), knowledge, starts=2)


def _check_architecture(name: str, part: Callable[..., nn.Module]) -> None:
    for shape in SHAPES:
        architecture, images = Architecture(name, {}, centre=False), _images(shape).float()
        model = architecture.build(shape, 0)
        assert model(images).shape == images.shape, f"{name} maps {tuple(images.shape)} to {tuple(model(images).shape)}"
        again, other = architecture.build(shape, 0).state_dict(), architecture.build(shape, 1).state_dict()
        state = model.state_dict()
        assert all(torch.equal(state[key], again[key]) for key in state), f"{name}: the seed does not set the weights"
        assert any(not torch.equal(state[key], other[key]) for key in state), f"{name}: all seeds give the same weights"
        model.load_state_dict(other)
        model.eval()
        whole, alone = model(images), model(images[:1])
        assert torch.allclose(whole[:1], alone, atol=1e-5), f"{name}: an answer depends on the others of its batch"
    json.dumps(Architecture(name, {}).identity())


def _check_dataset(name: str, part: Any) -> None:
    dataset = part(members=5, non_members=4)
    split, again, other = dataset.load(0), dataset.load(0), dataset.load(1)
    assert (len(split.members), len(split.non_members)) == (5, 4), f"{name}: it gives other numbers of images"
    assert torch.equal(split.members, again.members), f"{name}: two draws of one seed differ"
    assert split.member_indices != other.member_indices, f"{name}: all seeds draw the same images"
    images = as_float(torch.cat([split.members, split.non_members]))
    assert torch.equal(images, images.clamp(0, 1)), f"{name}: pixels leave [0, 1]"
    assert len(images.flatten(1).unique(dim=0)) == 9, f"{name}: an image is drawn twice"
    assert dataset.fingerprint() == part(members=5, non_members=4).fingerprint(), f"{name}: its fingerprint changes"
    json.dumps(dataset.identity())


def _check_prior(name: str, part: Any) -> None:
    check_prior(part(), name)


def check_prior(prior: Prior, name: str = "the prior") -> None:
    """Check a prior of whatever settings: that its draws can be started from, and repeat; see the module."""
    assert any(not arm.needs for arm in prior.arms), f"{name}: every arm needs ends, and none are known at first"
    identity = prior.identity()
    assert json.loads(json.dumps(identity)) == identity, f"{name}: its identity is not plain: {identity}"
    for shape in SHAPES:
        for arm in prior.arms:
            ends = _images(shape, max(arm.needs, 3)).float()
            before = ends.clone()
            given = ends if arm.needs else ends[:0]

            def draw(seed: int, arm: Any = arm, shape: Any = shape, given: Tensor = given) -> Tensor:
                torch.manual_seed(torch.initial_seed() + 1)  # a draw from the global generator would differ
                starts: Tensor = arm.draw(5, shape, torch.Generator().manual_seed(seed), given)
                return starts

            with torch.random.fork_rng(devices=[]):
                starts, again, other = draw(0), draw(0), draw(1)
            assert starts.shape == (5, *shape), f"{name}: {arm} draws {tuple(starts.shape)} for 5 of {shape}"
            assert starts.dtype == torch.float32, f"{name}: {arm} draws {starts.dtype}; it must be float32"
            assert starts.isfinite().all(), f"{name}: {arm} draws what is not finite"
            assert torch.equal(starts, again), f"{name}: {arm} does not depend on its generator alone"
            assert not torch.equal(starts, other), f"{name}: {arm} draws the same whatever its generator"
            assert torch.equal(ends, before), f"{name}: {arm} changes the ends in place"


CHECKS: dict[str, Callable[[str, Any], None]] = {
    "datasets": _check_dataset,
    "architectures": _check_architecture,
    "degradations": _check_degradation,
    "methods": _check_method,
    "knowledge": _check_knowledge,
    "priors": _check_prior,
}
