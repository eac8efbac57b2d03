"""Environments for subsystems in plain Python: one call turns a class into a registered id."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import gymnasium

from kml_envs.envs.proxy_env import ProxyEnv, ProxyVectorEnv, SubsystemFactory
from kml_envs.errors import UserError
from kml_envs.proxy import ProxyOptions, Subsystem, batch


def register_subsystem(env_id: str, subsystem: type[Subsystem], *, episode_progress: int, **options: Any) -> None:
    """Register a subsystem with Gymnasium; an id that exists already is replaced.

    After that `gymnasium.make` and `make_vec` make its environments, and with `MODULE:ID` for the id, where MODULE
    is the file that calls this, so do `train.py`, `evaluate.py` and `python -m kml_envs serve`.

    Args:
        env_id: Such as `tutorial/Readahead-v0`.
        subsystem: A class of a module that can be imported; made without arguments.
        episode_progress: Progress after which an episode is over.
        **options: Defaults of the other fields of `ProxyOptions`, such as `window`; `make` may replace them.

    Raises:
        UserError: The class is not at the top level of its module.
    """
    if "." in subsystem.__qualname__:
        raise UserError(f"{subsystem.__qualname__}: define a subsystem at the top level of its module")
    kwargs = {"subsystem": f"{subsystem.__module__}:{subsystem.__name__}", "episode_progress": episode_progress}
    gymnasium.registry.pop(env_id, None)
    gymnasium.register(
        id=env_id,
        entry_point="kml_envs.envs.own:SubsystemEnv",
        vector_entry_point="kml_envs.envs.own:SubsystemVectorEnv",
        kwargs={**kwargs, **options},
    )


class SubsystemEnv(ProxyEnv):
    """One instance of a registered subsystem; see `ProxyEnv`."""

    def __init__(
        self, *, subsystem: str, render_mode: str | None = None, info_decisions: bool = False, **options: Any
    ) -> None:
        """Put the subsystem `MODULE:CLASS` behind a proxy; the other arguments are fields of `ProxyOptions`."""
        super().__init__(
            _factory(subsystem), ProxyOptions(**options), render_mode=render_mode, info_decisions=info_decisions
        )


class SubsystemVectorEnv(ProxyVectorEnv):
    """Many instances of a registered subsystem; see `ProxyVectorEnv`."""

    def __init__(
        self,
        num_envs: int,
        *,
        subsystem: str,
        autoreset_mode: str = "same_step",
        render_mode: str | None = None,
        info_decisions: bool = False,
        **options: Any,
    ) -> None:
        """Put subsystems `MODULE:CLASS` behind a proxy; the other arguments are fields of `ProxyOptions`."""
        super().__init__(
            _factory(subsystem),
            num_envs,
            ProxyOptions(**options),
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
            info_decisions=info_decisions,
        )


def _factory(location: str) -> SubsystemFactory:
    """Makes batches of the class at `MODULE:CLASS`."""
    module, _, name = location.partition(":")
    return partial(batch, getattr(importlib.import_module(module), name))
