"""Checks of settings that several parts share; each raises `SettingError`."""

import math
from enum import StrEnum
from typing import Any

import numpy as np

from memorization.components import SettingError, choose, is_whole, number


def check_whole(field: str, value: Any, least: int, what: str = "it must be") -> None:
    """The value must be a whole number of at least `least`; `what` says what it counts."""
    if not is_whole(value) or value < least:
        raise SettingError(field, value, f"{what} a whole number, at least {least}")


def check_positive(part: object, *names: str) -> None:
    """The fields `names` of `part` must be above 0 and finite."""
    for name in names:
        if not 0 < number(value := getattr(part, name)) < math.inf:
            raise SettingError(name, value, "it must be above 0 and finite")


def check_noise(noise: float) -> None:
    """The standard deviation of a noise must be one."""
    if not 0 <= number(noise) < math.inf:
        raise SettingError("noise", noise, "it is a standard deviation in pixels of [0, 1], at least 0")


def check_flag(field: str, value: Any) -> None:
    """The value must be true or false."""
    if not isinstance(value, bool | np.bool_):
        raise SettingError(field, value, "it must be true or false")


def as_choice(part: object, field: str, choices: type[StrEnum]) -> None:
    """Turn the word in a field of `part`, a frozen dataclass, into one of `choices`."""
    object.__setattr__(part, field, choose(field, getattr(part, field), choices))
