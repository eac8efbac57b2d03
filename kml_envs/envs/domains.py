"""Splitting a volume of a file system into domains, so that mode `auto` can compare in space."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import gymnasium

from kml_envs.errors import UserError
from kml_envs.proxy.automatic import LEAST_COMPARED
from kml_envs.registration import find_environment

LEAST_SEGMENTS = 256
"""Segments of a domain: in smaller ones the logs and the reserve take so much that cleaning costs more."""

LEAST_DOMAINS = 2 * LEAST_COMPARED + 1
"""Four a side are compared, and one is never the agent's."""

AUTOMATIC = "auto"
"""As many domains as fit."""


def comparison_of(env_id: str, env_kwargs: Mapping[str, Any]) -> tuple[int, str]:
    """How an environment's mode `auto` compares.

    Args:
        env_id: The environment.
        env_kwargs: Its arguments; those that it does not know are left to it.

    Returns:
        The number of its domains, and how it compares in plain words.

    Raises:
        UserError: An argument is out of range.
    """
    arguments = _arguments_of(env_id)
    if arguments is None:
        return 1, "compared in time: it has no domains"
    known = {field.name for field in dataclasses.fields(arguments)}
    given = arguments(**{key: value for key, value in env_kwargs.items() if key in known})
    return given.domain_count(), given.comparison()


def has_domains(env_id: str) -> bool:
    """Whether an environment takes the argument `domains`."""
    return _arguments_of(env_id) is not None


def choose_domains(wanted: int | str, segments: int) -> int:
    """How many domains a volume is split into.

    Args:
        wanted: A number; or "auto", as many as fit.
        segments: Segments of the volume.

    Returns:
        At least `LEAST_DOMAINS` of at least `LEAST_SEGMENTS` segments; or 1, the comparison is in time.

    Raises:
        UserError: There are too few domains, or they would be too small.
    """
    fitting = segments // LEAST_SEGMENTS
    if wanted == AUTOMATIC:
        return fitting if fitting >= LEAST_DOMAINS else 1
    if isinstance(wanted, str) or (wanted != 1 and not LEAST_DOMAINS <= wanted <= fitting):
        raise UserError(
            f"domains {wanted}: 1, {AUTOMATIC}, and from {LEAST_DOMAINS} on as many as have {LEAST_SEGMENTS} segments "
            f"each are accepted; {segments} segments are enough for {fitting}"
        )
    return wanted


def describe_comparison(wanted: int | str, segments: int) -> str:
    """How mode `auto` compares, in plain words; arguments and errors as of `choose_domains`."""
    domains = choose_domains(wanted, segments)
    if domains > 1:
        return f"compared in space: {domains} domains of {segments // domains} segments"
    if wanted == AUTOMATIC:
        return f"compared in time: {segments} segments < {LEAST_DOMAINS} x {LEAST_SEGMENTS}"
    return "compared in time, as domains 1 says"


def _arguments_of(env_id: str) -> Any:  # noqa: ANN401 (a subclass of LfsArguments)
    """What holds the arguments of an environment of the file system; None for others."""
    entry_point = gymnasium.spec(find_environment(env_id)).entry_point
    if isinstance(entry_point, str):
        module, _, name = entry_point.partition(":")
        entry_point = getattr(importlib.import_module(module), name)
    arguments = getattr(entry_point, "arguments", None)
    return arguments if hasattr(arguments, "domain_count") else None
