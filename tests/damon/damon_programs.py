"""What the tests of DAMON's environments share: short episodes on small monitors, and how they are played."""

import functools

import gymnasium
import numpy as np

import kml_envs  # noqa: F401 - registers the environments
from kml_envs.damon.monitor_settings import BUILTINS as MONITOR_BUILTINS
from kml_envs.damon.reclaim_settings import BUILTINS as RECLAIM_BUILTINS
from kml_envs.damon.tier_settings import BUILTINS as TIER_BUILTINS
from kml_envs.proxy import Verdict

BUILTINS = {
    "DamonMonitor-v0": MONITOR_BUILTINS,
    "DamonReclaim-v0": RECLAIM_BUILTINS,
    "DamonTier-v0": TIER_BUILTINS,
}
EVERY_BUILTIN = [(name, builtin) for name, builtins in BUILTINS.items() for builtin in builtins]
USUAL = {
    "DamonMonitor-v0": {"workloads": ["bursts-2-1"], "episode_s": 30.0, "warm_s": 10.0, "max_nr_regions": 200},
    "DamonReclaim-v0": {"workloads": ["sort-rows"], "episode_s": 20.0, "warm_s": 5.0, "max_nr_regions": 200},
    "DamonTier-v0": {"workloads": ["sqlite-queries"], "episode_s": 40.0, "warm_s": 5.0, "max_nr_regions": 200},
}


def make(name, **arguments):
    """An environment with the usual arguments, but for some."""
    return gymnasium.make(f"kml/{name}", **{**USUAL[name], **arguments}).unwrapped


make_monitor, make_reclaim, make_tier = (functools.partial(make, name) for name in USUAL)


def play(env, action, seed=1):
    """The infos at the end of an episode of one action; a function of no arguments draws each step's."""
    env.reset(seed=seed)
    truncated = False
    while not truncated:
        _, _, _, truncated, info = env.step(action() if callable(action) else action)
    return info


def middle(env):
    """The action in the middle of the box."""
    return np.zeros(env.action_space.shape, np.float32)


def begun(env):
    """The subsystem of an environment whose episode has begun."""
    env.reset(seed=0)
    return env.proxy.subsystem


def verdict_of(found):
    """The verdict that stands for the first of the reasons that `damon.checks` finds."""
    return Verdict[found[0].reason.name] if found else Verdict.ACCEPTED
