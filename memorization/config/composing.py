"""Hydra's composition without its repetitions: each file is read once, and each set of choices composed once.

Hydra reads and composes everything anew for each job of a sweep, twice. Here it keeps what it
read from each file, and what it composed from each set of choices (GROUP=CHOICE). Keys that a job sets (KEY=VALUE) are
set on a copy.
"""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository, IConfigRepository
from hydra._internal.defaults_list import DefaultsList
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig


@contextmanager
def once() -> Iterator[None]:
    """In this block Hydra repeats nothing: files and registered schemas are taken not to change."""
    read: dict[object, ConfigResult | None] = {}
    listed: dict[object, DefaultsList] = {}
    composed: dict[object, DictConfig] = {}
    load = ConfigRepository.load_config
    compose = ConfigLoaderImpl._compose_config_from_defaults_list
    listing = defaults_list.create_defaults_list

    def loading(self: ConfigRepository, config_path: str) -> ConfigResult | None:
        key = (_places(self), config_path)
        if key not in read:
            read[key] = load(self, config_path)
        return copy.deepcopy(read[key])  # Hydra changes what it has read

    def choosing(
        repo: IConfigRepository, config_name: str | None, overrides_list: list[Override], **how: bool
    ) -> DefaultsList:
        values = [override for override in overrides_list if _is_value(override, repo)]
        choices = [override for override in overrides_list if override not in values]
        key = (_places(repo), config_name, *(choice.input_line for choice in choices), *how.items())
        if key not in listed:
            listed[key] = listing(repo, config_name, choices, **how)
        return replace(listed[key], config_overrides=values)

    def composing(self: ConfigLoaderImpl, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        key = (_places(repo), repr(defaults))
        if key not in composed:
            composed[key] = compose(self, defaults, repo)
        return copy.deepcopy(composed[key])

    def copied(self: ConfigRepository, memo: dict[int, Any]) -> ConfigRepository:
        return copy.copy(self)  # without all schemas; its list of places is replaced, never changed

    with ExitStack() as stack:
        for where, name, function in (
            (ConfigRepository, "load_config", loading),
            (ConfigRepository, "__deepcopy__", copied),
            (ConfigLoaderImpl, "_compose_config_from_defaults_list", composing),
            (config_loader_impl, "create_defaults_list", choosing),
        ):
            stack.enter_context(mock.patch.object(where, name, function, create=True))
        yield


def _places(repo: IConfigRepository) -> tuple[str, ...]:
    """Where configuration is looked for, in order."""
    return tuple(f"{source.provider} {source.path}" for source in repo.get_sources())


def _is_value(override: Override, repo: IConfigRepository) -> bool:
    """Does this set a value, which changes no list of defaults? As Hydra tells it."""
    if override.is_sweep_override():
        return False
    return isinstance(override.value(), dict) or not repo.group_exists(override.key_or_group)
