"""What a kernel refuses of a context, and what it accepts although it does harm: each with a name.

The first list is the kernel's own (mm/damon/core.c, damon_set_attrs and damon_commit_ctx; mm/damon/sysfs.c); the
second is what a proxy in front of it should refuse.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kml_envs.damon.config import (
    Action,
    Context,
    GoalMetric,
    GoalTuner,
    MonitoringAttributes,
    Quota,
    Scheme,
    WatermarkMetric,
)
from kml_envs.damon.versions import KernelVersion, missing_features
from kml_envs.errors import UserError

FEWEST_SAMPLES = 5
"""Fewer samples than this in an aggregation tell hot from warm memory no more."""

LEAST_MIN_NR_REGIONS = 3
"""The kernel wants a lower limit of at least so many regions."""

_MIGRATIONS = (Action.MIGRATE_HOT, Action.MIGRATE_COLD)
_NODE_METRICS = (
    GoalMetric.NODE_MEM_USED_BP,
    GoalMetric.NODE_MEM_FREE_BP,
    GoalMetric.NODE_MEMCG_USED_BP,
    GoalMetric.NODE_MEMCG_FREE_BP,
    GoalMetric.NODE_ELIGIBLE_MEM_BP,
)


class Reason(enum.Enum):
    """Why settings are not accepted."""

    TOO_FEW_REGIONS = "min_nr_regions below 3"
    REGION_LIMITS_CROSSED = "min_nr_regions above max_nr_regions"
    SAMPLING_ABOVE_AGGREGATION = "sample_us above aggr_us"
    TUNING_LIMITS_CROSSED = "min_sample_us above max_sample_us"
    SAMPLING_OUTSIDE_TUNING = "sample_us outside of intervals_goal"
    MIN_REGION_NOT_POWER_OF_TWO = "min_region_bytes is not a power of two"
    INVALID_RANGES = "target regions empty, overlapping or out of order"
    ZERO_GOAL = "target_value of a goal is 0"
    UNSUPPORTED_FEATURE = "feature that the kernel version does not have"
    PAGEOUT_WITHOUT_QUOTA = "pageout without a quota"
    PAGEOUT_OF_ACCESSED = "pageout of accessed regions"
    WATERMARKS_NEVER_STOP = "watermarks with low 0"
    WATERMARKS_CROSSED = "watermarks not in the order low, mid, high"
    UNKNOWN_NODE = "memory node that does not exist"
    MIGRATION_WITHOUT_QUOTA = "migration without a quota"
    MIGRATION_THRESHOLDS_CROSSED = "regions that are hot and cold at once"
    TOO_FEW_SAMPLES = "fewer than 5 samples in an aggregation"
    QUOTA_WITHOUT_WINDOW = "quota with reset_interval_ms 0"


class Refusal(NamedTuple):
    """A reason and the sentence that tells it: where, what, and what is accepted."""

    reason: Reason
    message: str


def check(context: Context, version: KernelVersion = KernelVersion.LATEST) -> Context:
    """Return a context that the kernel accepts.

    Raises:
        UserError: The kernel refuses it; the first reason.
    """
    for refusal in kernel_refusals(context, version):
        raise UserError(refusal.message)
    return context


def kernel_refusals(context: Context, version: KernelVersion = KernelVersion.LATEST) -> list[Refusal]:
    """What a kernel refuses of a context.

    Args:
        context: The settings.
        version: The kernel's version; what it does not have yet it cannot accept.

    Returns:
        All reasons, the first one first.
    """
    found = list(attribute_refusals(context.monitoring_attrs))
    for index, target in enumerate(context.targets):
        end = 0
        for start, stop in target.regions:
            if start < end or stop <= start:
                found.append(
                    Refusal(
                        Reason.INVALID_RANGES,
                        f"target {index}, region {start}-{stop}: regions must be ordered, apart and not empty",
                    )
                )
            end = stop
    for index, scheme in enumerate(context.schemes):
        if any(goal.target_value == 0 for goal in scheme.quotas.goals):
            found.append(Refusal(Reason.ZERO_GOAL, f"scheme {index}: target_value of a goal must not be 0"))
    for feature in missing_features(context, version):
        found.append(Refusal(Reason.UNSUPPORTED_FEATURE, f"kernel {version.value} does not have {feature} yet"))
    return found


def attribute_refusals(attributes: MonitoringAttributes) -> Iterator[Refusal]:
    """What a kernel refuses of monitoring attributes (damon_set_attrs)."""
    goal = attributes.intervals_goal
    if attributes.min_nr_regions < LEAST_MIN_NR_REGIONS:
        yield Refusal(
            Reason.TOO_FEW_REGIONS,
            f"min_nr_regions {attributes.min_nr_regions}: must be at least {LEAST_MIN_NR_REGIONS}",
        )
    if attributes.min_nr_regions > attributes.max_nr_regions:
        yield Refusal(
            Reason.REGION_LIMITS_CROSSED,
            f"min_nr_regions {attributes.min_nr_regions}: must be at most max_nr_regions {attributes.max_nr_regions}",
        )
    if attributes.sample_us > attributes.aggr_us:
        yield Refusal(
            Reason.SAMPLING_ABOVE_AGGREGATION,
            f"sample_us {attributes.sample_us}: must be at most aggr_us {attributes.aggr_us}",
        )
    if goal.aggrs and goal.min_sample_us > goal.max_sample_us:
        yield Refusal(
            Reason.TUNING_LIMITS_CROSSED,
            f"intervals_goal: min_sample_us {goal.min_sample_us} must be at most max_sample_us {goal.max_sample_us}",
        )
    elif goal.aggrs and not goal.min_sample_us <= attributes.sample_us <= goal.max_sample_us:
        yield Refusal(
            Reason.SAMPLING_OUTSIDE_TUNING,
            f"sample_us {attributes.sample_us}: intervals_goal wants {goal.min_sample_us}..{goal.max_sample_us}",
        )
    if attributes.min_region_bytes < 1 or attributes.min_region_bytes & (attributes.min_region_bytes - 1):
        yield Refusal(
            Reason.MIN_REGION_NOT_POWER_OF_TWO,
            f"min_region_bytes {attributes.min_region_bytes}: must be a power of two",
        )


def too_few_samples(attributes: MonitoringAttributes) -> Iterator[Refusal]:
    """The refusal of an aggregation whose samples are too few to tell hot from cold, if they are."""
    if attributes.max_nr_accesses < FEWEST_SAMPLES:
        yield Refusal(
            Reason.TOO_FEW_SAMPLES,
            f"aggr_us {attributes.aggr_us}: must be at least {FEWEST_SAMPLES} times sample_us {attributes.sample_us}",
        )


def harmful_settings(context: Context, nodes: int) -> list[Refusal]:
    """What a kernel accepts of a context although it does harm.

    Args:
        context: The settings.
        nodes: Memory nodes of the machine.

    Returns:
        All reasons, the first one first.
    """
    found = list(too_few_samples(context.monitoring_attrs))
    for index, scheme in enumerate(context.schemes):
        found.extend(
            Refusal(reason, f"scheme {index} ({scheme.action.value}): {message}")
            for reason, message in _harm_of(scheme, nodes)
        )
    found.extend(_ping_pong(context.schemes))
    return found


def _ping_pong(schemes: Sequence[Scheme]) -> Iterator[Refusal]:
    """Pairs of schemes that send the same regions back and forth: what is cold for one is hot for the other."""
    for number, cold in enumerate(schemes):
        for other, hot in enumerate(schemes):
            if cold.action is not Action.MIGRATE_COLD or hot.action is not Action.MIGRATE_HOT:
                continue
            least, most = hot.access_pattern.min_nr_accesses, cold.access_pattern.max_nr_accesses
            if least <= most and cold.target_nid != hot.target_nid:
                yield Refusal(
                    Reason.MIGRATION_THRESHOLDS_CROSSED,
                    f"schemes {number} and {other}: min_nr_accesses {least} of {hot.action.value} must be above "
                    f"max_nr_accesses {most} of {cold.action.value}",
                )


def _is_unlimited(quota: Quota) -> bool:
    """Whether a scheme may do everything at once: the temporal tuner sets no limit of its own below the goal."""
    by_goals = bool(quota.goals) and quota.goal_tuner is not GoalTuner.TEMPORAL
    return not (quota.ms or quota.bytes or by_goals)


def _harm_of(scheme: Scheme, nodes: int) -> Iterator[tuple[Reason, str]]:
    marks = scheme.watermarks
    if scheme.action is Action.PAGEOUT and _is_unlimited(scheme.quotas):
        yield Reason.PAGEOUT_WITHOUT_QUOTA, "needs a quota of time, bytes or goals"
    if scheme.action is Action.PAGEOUT and scheme.access_pattern.min_nr_accesses > 0:
        yield Reason.PAGEOUT_OF_ACCESSED, "min_nr_accesses must be 0"
    if scheme.action in _MIGRATIONS and _is_unlimited(scheme.quotas):
        yield Reason.MIGRATION_WITHOUT_QUOTA, "needs a quota of time, bytes or goals"
    if scheme.quotas.is_set and scheme.quotas.reset_interval_ms == 0:
        yield Reason.QUOTA_WITHOUT_WINDOW, "reset_interval_ms of a quota must not be 0"
    if marks.metric is not WatermarkMetric.NONE and marks.low == 0:
        yield Reason.WATERMARKS_NEVER_STOP, "watermark low must not be 0: the scheme would go on without free memory"
    if marks.metric is not WatermarkMetric.NONE and not marks.low <= marks.mid <= marks.high:
        yield Reason.WATERMARKS_CROSSED, f"watermarks {marks.low}, {marks.mid}, {marks.high}: low <= mid <= high"
    wanted = [item.id for item in scheme.dests] or [scheme.target_nid] if scheme.action in _MIGRATIONS else []
    wanted += [goal.nid for goal in scheme.quotas.goals if goal.target_metric in _NODE_METRICS]
    for nid in wanted:
        if not 0 <= nid < nodes:
            yield Reason.UNKNOWN_NODE, f"memory node {nid} does not exist: the machine has {nodes}"
