"""Which rules and which features a kernel version has: the one table that the simulator switches by."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kml_envs.damon.config import Action, Context, FilterType, GoalMetric, GoalTuner, IntervalsGoal, Scheme


class KernelVersion(enum.Enum):
    """The version of DAMON that is simulated.

    V6_17 is what 6.11 to 6.17 do; rules that came before or after are in the tables below.
    """

    V6_1 = "6.1"
    V6_17 = "6.17"
    LATEST = "latest"


class AccessSum(enum.IntEnum):
    """The number of accesses that a scheme matches, and priorities are made of."""

    COUNT = 0  # of the running aggregation
    MOVING = 1  # a pseudo moving sum, kept up to date with every sample (damon_moving_sum, 6.7)
    COMPUTED = 2  # computed from the last two aggregations when needed (damon_nr_accesses_mvsum, 7.3)


@dataclass(frozen=True)
class Rules:
    """The rules that differ between versions, under the names of the flags in `state.RULES`.

    Attributes:
        access_sum: What schemes look at.
        rounds_timers_up: Timers measure time, so that an interval that is no multiple of the sampling interval ends
            late; otherwise they count samples and it ends early.
        split_copies_accesses: Both parts of a cut region keep its number of accesses.
        merge_respects_maximum: Merging is repeated with a growing threshold while there are too many regions.
        merge_ages_once: Only the first of these passes changes the ages.
        zero_resets_age: The age begins anew when a region turns from not accessed to accessed, or back.
        enforces_minimum: Regions above the size limit are cut, so that the minimal number of regions holds; and the
            limit is rounded up to whole smallest regions.
        limit_follows_aggregations: The size limit is computed anew with every aggregation; otherwise only when the
            monitored ranges are read.
        keeps_running_counts: A change of the attributes in the middle of an aggregation converts its counts;
            otherwise they are given up.
        splits_above_half: Some regions are cut even with more than half of the maximal number of regions.
        zero_quota_is_none: An effective quota of zero bytes lets nothing pass; otherwise it means no limit.
        rejoins_slices: Parts that a scheme cut off and left alike are joined again after it.
    """

    access_sum: AccessSum
    rounds_timers_up: bool = False
    split_copies_accesses: bool = True
    merge_respects_maximum: bool = True
    merge_ages_once: bool = False
    zero_resets_age: bool = False
    enforces_minimum: bool = False
    limit_follows_aggregations: bool = True
    keeps_running_counts: bool = False
    splits_above_half: bool = False
    zero_quota_is_none: bool = False
    rejoins_slices: bool = False


RULES = {
    KernelVersion.V6_1: Rules(
        AccessSum.COUNT,
        rounds_timers_up=True,
        split_copies_accesses=False,
        merge_respects_maximum=False,
        limit_follows_aggregations=False,
        keeps_running_counts=True,
    ),
    KernelVersion.V6_17: Rules(AccessSum.MOVING),
    KernelVersion.LATEST: Rules(
        AccessSum.COMPUTED,
        merge_ages_once=True,
        zero_resets_age=True,
        enforces_minimum=True,
        splits_above_half=True,
        zero_quota_is_none=True,
        rejoins_slices=True,
    ),
}

_RELEASE = {KernelVersion.V6_1: (6, 1), KernelVersion.V6_17: (6, 17), KernelVersion.LATEST: (1 << 30, 0)}

FEATURES = {
    "tried regions": (6, 2),
    "filters": (6, 3),
    "address and target filters": (6, 6),
    "apply_interval_us": (6, 7),
    "quota goals": (6, 8),
    "goal metric": (6, 9),
    "young filter": (6, 10),
    "migration": (6, 11),
    "allow filters": (6, 14),
    "intervals_goal": (6, 15),
    "active, hugepage_size and unmapped filters": (6, 15),
    "node goals": (6, 16),
    "dests": (6, 17),
    "addr_unit": (6, 18),
    "memcg goals": (6, 19),
    "active_mem_bp and inactive_mem_bp goals": (7, 0),
    "max_nr_snapshots": (7, 0),
    "goal_tuner": (7, 1),
    "pause": (7, 2),
    "fail_charge": (7, 2),
    "node_eligible_mem_bp goal": (7, 2),
    "collapse": (7, 2),
}
"""The release that first had a feature."""


def has_feature(version: KernelVersion, feature: str) -> bool:
    """Whether a version has a feature of FEATURES."""
    return FEATURES[feature] <= _RELEASE[version]


def missing_features(context: Context, version: KernelVersion) -> list[str]:
    """Features that a context uses and a version does not have, each once, the oldest first."""
    used = _context_features(context)
    for scheme in context.schemes:
        used |= _scheme_features(scheme)
    return [feature for feature in FEATURES if feature in used and not has_feature(version, feature)]


def _context_features(context: Context) -> set[str]:
    flags = {
        "intervals_goal": context.monitoring_attrs.intervals_goal != IntervalsGoal(),
        "addr_unit": context.addr_unit != 1,
        "pause": context.pause,
    }
    return {name for name, used in flags.items() if used}


def _scheme_features(scheme: Scheme) -> set[str]:
    filters = {item.type for item in scheme.filters}
    metrics = {goal.target_metric for goal in scheme.quotas.goals}
    lru_metrics = {GoalMetric.ACTIVE_MEM_BP, GoalMetric.INACTIVE_MEM_BP}
    flags = {
        "filters": bool(filters),
        "address and target filters": bool(filters & {FilterType.ADDR, FilterType.TARGET}),
        "apply_interval_us": bool(scheme.apply_interval_us),
        "quota goals": bool(metrics),
        "goal metric": bool(metrics - {GoalMetric.USER_INPUT}),
        "young filter": FilterType.YOUNG in filters,
        "migration": scheme.action in (Action.MIGRATE_HOT, Action.MIGRATE_COLD),
        "allow filters": any(item.allow for item in scheme.filters),
        "active, hugepage_size and unmapped filters": bool(
            filters & {FilterType.ACTIVE, FilterType.HUGEPAGE_SIZE, FilterType.UNMAPPED}
        ),
        "node goals": bool(metrics & {GoalMetric.NODE_MEM_USED_BP, GoalMetric.NODE_MEM_FREE_BP}),
        "dests": bool(scheme.dests),
        "memcg goals": bool(metrics & {GoalMetric.NODE_MEMCG_USED_BP, GoalMetric.NODE_MEMCG_FREE_BP}),
        "active_mem_bp and inactive_mem_bp goals": bool(metrics & lru_metrics),
        "max_nr_snapshots": bool(scheme.max_nr_snapshots),
        "goal_tuner": scheme.quotas.goal_tuner is not GoalTuner.CONSIST,
        "fail_charge": bool(scheme.quotas.fail_charge_denom),
        "node_eligible_mem_bp goal": GoalMetric.NODE_ELIGIBLE_MEM_BP in metrics,
        "collapse": scheme.action is Action.COLLAPSE,
    }
    return {name for name, used in flags.items() if used}
