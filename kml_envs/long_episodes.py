"""How long an episode is to be in which a proxy in mode `auto` finds out how far it can trust an agent.

Evidence is kept over episodes, but what a unit usually costs is found out anew in each, and only whole units count. An
episode of 5 volumes of user writes, the environments' default, holds two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

from kml_envs.registration import NAMESPACE, find_environment

UNITS = 60.0
"""Length of a deployment, where nothing else is asked for; what a unit is depends on the environment: `unit_of`."""

DAMON_UNIT_S = 30.0
"""Seconds of a program under DAMON that stand for a volume of user writes."""


def is_own(env_id: str) -> bool:
    """Whether an environment is of the user's own making, `MODULE:ID`, without suites of workloads."""
    return ":" in env_id


def unit_of(env_id: str) -> str:
    """What the length of a deployment counts in: volumes of user writes, half minutes of a program, or windows."""
    return "half minutes" if _is_damon(env_id) else "windows" if is_own(env_id) else "volumes"


def episode_length(env_id: str, arguments: Mapping[str, Any], units: float = UNITS) -> dict[str, Any]:
    """The argument that makes an episode so many units long.

    Args:
        env_id: The environment.
        arguments: Its other arguments.
        units: Length.

    Returns:
        One argument.
    """
    if _is_damon(env_id):
        return {"episode_s": DAMON_UNIT_S * units}
    if not is_own(env_id):
        return {"episode_volumes": units}
    return {"episode_progress": round(units * window_of(env_id, arguments))}


def with_long_episodes(env_id: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an environment with long episodes, unless they say how long these are.

    An environment of one's own has them if it has a window, and was made by `envs.own.register_subsystem`.
    """
    if not is_own(env_id):
        return {**episode_length(env_id, arguments), **arguments}
    registered = gymnasium.spec(find_environment(env_id)).kwargs
    known = "episode_progress" in registered and "episode_progress" not in arguments
    if not known or not {**registered, **arguments}.get("window"):
        return dict(arguments)
    return {**episode_length(env_id, arguments), **arguments}


def window_of(env_id: str, arguments: Mapping[str, Any]) -> int:
    """Progress in one unit of an environment of one's own; 0: it has no window."""
    played = {**arguments, "mode": "recommendation", "efficiency": "none"}
    played.pop("autoreset_mode", None)  # which vector environments have
    environment: Any = gymnasium.make(find_environment(env_id), disable_env_checker=True, **played).unwrapped
    window = int(environment.proxy.options.window or 0)
    environment.close()
    return window


def _is_damon(env_id: str) -> bool:
    return env_id.startswith(f"{NAMESPACE}/Damon")
