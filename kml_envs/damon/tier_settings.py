"""What tiering is tuned by: the settings of the schemes that migrate memory, and what an action stands for.

Two schemes move memory between two nodes: one takes cold regions from the fast node 0 to the slow node 1, the other
hot ones back. Filters look at each page once more, as in damo's mem_tier: only young pages are promoted, and where cold
means not accessed at all, only others are demoted. Demotion has a goal, too: its quota is 0 as long as enough of node 0
is free (the kernel's temporal tuner).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.damon.config import (
    AccessPattern,
    Action,
    Context,
    Filter,
    FilterType,
    GoalMetric,
    GoalTuner,
    MonitoringAttributes,
    Operations,
    Quota,
    QuotaGoal,
    Scheme,
    Weights,
)
from kml_envs.damon.memory_config import FAST_NODE, SLOW_NODE
from kml_envs.damon.monitor import most_accesses_of
from kml_envs.damon.policies import POLICIES
from kml_envs.damon.schemes import copy_settings
from kml_envs.damon.simulator import write_scheme
from kml_envs.damon.state import GOALS, allocate, goals, schemes
from kml_envs.errors import unknown_name

FloatArray = NDArray[np.float64]

STATIC = "none"
"""The built-in algorithm that moves nothing: memory stays where it was first touched, and DAMON only watches."""
BUILTINS = ("mem_tier", "hmsdk", "fixed_thresholds", STATIC)
"""Built-in algorithms: of `damon.policies`, damo's own first."""

ACTION_NAMES = ("hot_accesses", "hot_age", "hot_quota", "cold_accesses", "cold_age", "cold_quota", "free_goal")
COLD, HOT = 0, 1
"""Places of the two schemes, in damo's order."""
HOT_AGE_S, HOT_AGE_RANGE = 0.25, 4.0
COLD_AGE_S, COLD_AGE_RANGE = 5.0, 5.0  # at the zero action, and powers of two by which the action moves it
MOST_QUOTA, QUOTA_RANGE = 1 << 30, 6.0  # bytes per second, and powers of two from there down to the zero action
LEAST_QUOTA_SHARE = 2.0 ** (-2.0 * QUOTA_RANGE)
FREE_GOAL_BP, FREE_GOAL_RANGE = 200.0, 4.0  # of node 0, as the cold age
APPLY_INTERVAL_US = 1_000_000
WEIGHTS = Weights(0, 500, 500)

_SECOND_US = 1_000_000


def builtin_context(name: str, attributes: MonitoringAttributes) -> Context:
    """DAMON's settings under a built-in algorithm, with the environment's attributes unless it brings its own.

    Raises:
        UserError: There is no such built-in algorithm.
    """
    if name not in BUILTINS:
        raise unknown_name("built-in algorithm", name, BUILTINS)
    return watching_context(attributes) if name == STATIC else POLICIES[name].context(attributes)


def watching_context(attributes: MonitoringAttributes) -> Context:
    """DAMON's settings while nothing is moved."""
    return Context(Operations.PADDR, attributes, schemes=(Scheme(Action.STAT, AccessPattern()),) * 2)


def recommended_context(action: FloatArray, attributes: MonitoringAttributes) -> Context:
    """The settings that an action stands for: what the compiled `apply_parameters` writes.

    Args:
        action: (7,) float64 in [-1, 1], in the order of ACTION_NAMES.
        attributes: Of the monitoring.
    """
    given = np.asarray(action, np.float64)
    numbers = [int(number) for number in _settings(given, attributes.max_nr_accesses, attributes.aggr_us)]
    hot_accesses, hot_age, hot_quota, cold_accesses, cold_age, cold_quota, free_goal = numbers
    goal = QuotaGoal(GoalMetric.NODE_MEM_FREE_BP, target_value=free_goal, nid=FAST_NODE)
    quota = Quota(reset_interval_ms=1000, weights=WEIGHTS)
    demote = Scheme(
        Action.MIGRATE_COLD,
        AccessPattern(max_nr_accesses=cold_accesses, min_age=cold_age),
        apply_interval_us=APPLY_INTERVAL_US,
        quotas=replace(quota, bytes=cold_quota, goals=(goal,), goal_tuner=GoalTuner.TEMPORAL),
        filters=(Filter(FilterType.YOUNG, matching=True, allow=False),) if cold_accesses == 0 else (),
        target_nid=SLOW_NODE,
    )
    promote = Scheme(
        Action.MIGRATE_HOT,
        AccessPattern(min_nr_accesses=hot_accesses, min_age=hot_age),
        apply_interval_us=APPLY_INTERVAL_US,
        quotas=replace(quota, bytes=hot_quota),
        filters=(Filter(FilterType.YOUNG, matching=True, allow=True),),
        target_nid=FAST_NODE,
    )
    return Context(Operations.PADDR, attributes, schemes=(demote, promote))


def on_nodes(context: Context, fast: int, slow: int) -> Context:
    """The settings of tiering, for a machine whose fast and slow node have other numbers than FAST_NODE and SLOW_NODE.

    Args:
        context: The settings; all goals are of a node.
        fast: Number of the fast node.
        slow: Number of the slow node.
    """
    number = {FAST_NODE: fast, SLOW_NODE: slow}

    def renumbered(scheme: Scheme) -> Scheme:
        goals = tuple(replace(goal, nid=number[goal.nid]) for goal in scheme.quotas.goals)
        target_nid = number.get(scheme.target_nid, scheme.target_nid)  # schemes that move nothing have none
        return replace(scheme, target_nid=target_nid, quotas=replace(scheme.quotas, goals=goals))

    return replace(context, schemes=tuple(renumbered(scheme) for scheme in context.schemes))


def laid_out(context: Context) -> tuple[NDArray[np.void], NDArray[np.void], NDArray[np.void]]:
    """The settings of a context's two schemes as SCHEME, GOAL and FILTER records."""
    template = allocate(1, 10, 2)
    for number, scheme in enumerate(context.schemes):
        write_scheme(template, 0, number, scheme, Operations.PADDR)
    return template.schemes[0].copy(), template.goals[0].copy(), template.filters[0].copy()


@compiled
def _settings(parameters: Record, most_accesses: int, aggr_us: int) -> Record:
    """What an action (7,) stands for in the kernel's units: samples, aggregations, bytes per second, 1/10,000."""
    hot_age_s = HOT_AGE_S * (2.0 ** (HOT_AGE_RANGE * (1.0 + parameters[1])) - 1.0)
    cold_age_s = COLD_AGE_S * 2.0 ** (COLD_AGE_RANGE * parameters[4])
    return (
        np.int64((1.0 + parameters[0]) ** 2 / 4.0 * most_accesses),
        np.int64(hot_age_s * _SECOND_US / aggr_us),
        _quota_bytes(parameters[2]),
        np.int64((1.0 + parameters[3]) ** 2 / 8.0 * most_accesses),
        np.int64(math.ceil(cold_age_s * _SECOND_US / aggr_us)),
        _quota_bytes(parameters[5]),
        np.int64(FREE_GOAL_BP * 2.0 ** (FREE_GOAL_RANGE * parameters[6])),
    )


@compiled
def _quota_bytes(parameter: float) -> int:
    return int((2.0 ** (QUOTA_RANGE * (parameter - 1.0)) - LEAST_QUOTA_SHARE) * MOST_QUOTA)


@compiled
def settings_rows(parameters: Record, most_accesses: int, aggr_us: int, settings: Record) -> None:
    """Write what actions (N, 7) stand for: (N, 7) int64 samples, aggregations, bytes per second and 1/10,000."""
    for i in range(parameters.shape[0]):
        found = _settings(parameters[i], most_accesses, aggr_us)
        settings[i, 0], settings[i, 1], settings[i, 2] = found[0], found[1], found[2]
        settings[i, 3], settings[i, 4], settings[i, 5], settings[i, 6] = found[3], found[4], found[5], found[6]


@compiled
def apply_parameters(monitor: Record, recommended: Record, recommended_goals: Record, parameters: Record) -> None:
    """Take over the agent's settings of the schemes.

    Args:
        monitor: The MONITOR record.
        recommended: (2,) SCHEME, all other settings of the two.
        recommended_goals: (2 * GOALS,) GOAL, likewise.
        parameters: (7,) float64 in [-1, 1], in the order of ACTION_NAMES.
    """
    copy_schemes(monitor, recommended, recommended_goals)
    cold, hot = schemes(monitor)[COLD], schemes(monitor)[HOT]
    attributes = monitor.attributes
    found = _settings(parameters, most_accesses_of(attributes), attributes.aggr_us)
    hot.min_nr_accesses, hot.min_age, hot.quota_bytes = found[0], found[1], found[2]
    cold.max_nr_accesses, cold.min_age, cold.quota_bytes = found[3], found[4], found[5]
    cold.filter_count = 1 if cold.max_nr_accesses == 0 else 0
    goals(monitor)[COLD * GOALS].target_value = found[6]


@compiled
def copy_schemes(monitor: Record, settings: Record, wanted: Record) -> None:
    """Copy settings of two schemes (2,) SCHEME and of their goals (2 * GOALS,) GOAL into the monitor's."""
    for number in range(2):
        copy_settings(schemes(monitor)[number], settings[number])
        for place in range(number * GOALS, number * GOALS + settings[number].goal_count):
            goal, other = goals(monitor)[place], wanted[place]
            goal.metric, goal.target_value, goal.nid = other.metric, other.target_value, other.nid
