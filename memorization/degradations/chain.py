"""Two degradations in a row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from memorization.components import SettingError, within
from memorization.degradations.measurement import Degradation, Description, Measurement, image_seeds
from memorization.degradations.operators import compose


@dataclass(frozen=True)
class Chain(Degradation):
    """Applies `first`, then `second` to what `first` left: `Chain(Blur(2.0), RandomPixels(0.8))`.

    `first` must be linear and free of noise, so that the whole is `H x` with one operator and one noise. Either may be
    a chain itself. A chain is what both parts are: it `erases` if both do. The pixels erased by either part are scored;
    a mask of `second` on a measurement smaller than the image erases none of the image's pixels.
    """

    first: Degradation
    second: Degradation

    def __post_init__(self) -> None:
        for name in ("first", "second"):
            if not isinstance(part := getattr(self, name), Degradation):
                raise SettingError(name, part, "give an object, such as Blur()")
        for name in ("erases", "keeps_shape", "linear"):
            object.__setattr__(self, name, getattr(self.first, name) and getattr(self.second, name))
        _check_exact("first", self.first)

    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Measurement:
        own = [image_seeds(seed, (0, 1)) for seed in seeds]
        with within("first"):
            first = self.first(images, [seed for seed, _ in own])
        with within("second"):
            second = self.second(first.y, [seed for _, seed in own])
        same = first.erased.shape == second.erased.shape
        erased = first.erased | second.erased if same else first.erased
        return Measurement(second.y, compose(second.operator, first.operator), second.sigma, erased)

    def describe(self) -> Description:
        """The noise of the second part; the rest of the last part that erases."""
        first, second = self.first.describe(), self.second.describe()
        return second if second.fill != "none" else replace(first, noise=second.noise)


def _check_exact(field: str, part: Degradation) -> None:
    """Raise `SettingError` unless the `part` of a chain measures `H x` and adds nothing to it."""
    if isinstance(part, Chain):  # whose first part was checked when it was made
        with within(field):
            _check_exact("second", part.second)
    elif not part.linear:
        raise SettingError(field, part, "it is not linear; put it second")
    elif noise := part.describe().noise:
        raise SettingError(f"{field}.noise", noise, "set it to 0 and let the second part add noise")
    elif (fill := part.describe().fill) not in ("none", "zero"):
        raise SettingError(f"{field}.fill", fill, "only zero is linear: choose it, or put this part second")
