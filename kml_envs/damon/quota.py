"""Quotas of schemes: the feedback loop, the effective size, and which priorities fit into it.

All functions are compiled. The arithmetic is the kernel's (mm/damon/core.c and ops-common.c): whole numbers, floor
divisions.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled, highest_bit
from kml_envs.damon.config import GoalMetric, GoalTuner
from kml_envs.damon.machine import METRICS, measure_goal, node_pages
from kml_envs.damon.memory_config import FAST_NODE, SLOW_NODE
from kml_envs.damon.state import GOALS, SCORES, goals, histogram, regions, schemes
from kml_envs.damon.versions import AccessSum

NO_LIMIT = 2**63 - 1
"""Effective size of a quota that lets everything pass."""

_SCALE = np.uint64(10_000)
_LARGEST = np.uint64(2**64 - 1)
_ELIGIBLE = METRICS.index(GoalMetric.NODE_ELIGIBLE_MEM_BP)
_TEMPORAL = tuple(GoalTuner).index(GoalTuner.TEMPORAL)
_BYTES_PER_MS_UNMEASURED = 1024 * 4096
_LONGEST_AGE_BITS = 32


@compiled
def next_input(last: int, score: int) -> int:
    """Move an input towards the one whose score is 10,000 (damon_feed_loop_next_input).

    Args:
        last: uint64, the input that led to the score.
        score: uint64, in 1/10,000 of the goal; assumed to grow with the input.

    Returns:
        uint64, at least 10,000 unless the score is the goal.
    """
    if score == _SCALE:
        return last
    if score >= _SCALE + _SCALE:
        return _SCALE
    over = score > _SCALE
    difference = score - _SCALE if over else _SCALE - score
    if last < _LARGEST // difference:
        compensation = last * difference // _SCALE
    else:
        compensation = last // _SCALE * difference
    if over:
        return max(last - compensation, _SCALE)
    return last + compensation if last < _LARGEST - compensation else _LARGEST


@compiled
def access_sum(monitor: Record, region: Record) -> int:
    """Accesses of a region as schemes see them: those of about the last aggregation interval, by the version's rule."""
    rule = monitor.rules.access_sum
    if rule == AccessSum.COUNT:
        return region.nr_accesses
    if rule == AccessSum.MOVING:
        return region.nr_accesses_bp // 10_000
    left = (monitor.next_aggregation - monitor.samples) * 10_000 // max(monitor.window_samples, np.int64(1))
    return computed_sum(region.nr_accesses, region.last_nr_accesses, left)


@compiled
def computed_sum(accesses: int, last: int, left_bp: int) -> int:
    """Accesses of the last aggregation interval (damon_mvsum).

    Args:
        accesses: Of the running aggregation.
        last: Of the aggregation before.
        left_bp: Part of the running one that is still to come, in 1/10,000.
    """
    if left_bp == 10_000:
        return last
    return accesses + last * left_bp // 10_000


@compiled
def moving_sum(total: int, last: int, window: int, added: int) -> int:
    """Pseudo moving sum after a sample (damon_moving_sum).

    Args:
        total: The sum so far.
        last: The sum of the last whole window.
        window: Samples of a window.
        added: The new sample.
    """
    return total - last // window + added


@compiled
def adjust_quota(monitor: Record, number: int) -> None:
    """Begin a new window if it is time, and find the least priority that fits (damos_adjust_quota).

    Args:
        monitor: The MONITOR record.
        number: The scheme, which is due.
    """
    scheme = schemes(monitor)[number]
    if not _is_set(scheme):
        return
    if monitor.time_us - scheme.window_start_us >= scheme.reset_interval_us:
        if scheme.window_start_us >= 0 and is_exhausted(monitor, scheme):
            scheme.qt_exceeds += 1
        scheme.total_charged_bytes += scheme.charged_bytes
        scheme.charged_bytes = 0
        scheme.window_start_us = monitor.time_us
        _set_effective_quota(monitor, number)
    _set_least_score(monitor, scheme)


@compiled
def has_limit(monitor: Record, scheme: Record) -> bool:
    """Whether a scheme's quota limits it now."""
    if monitor.rules.zero_quota_is_none:
        return _is_set(scheme)
    return scheme.effective_bytes > 0


@compiled
def is_exhausted(monitor: Record, scheme: Record) -> bool:
    """Whether a scheme has used up this window's quota."""
    return has_limit(monitor, scheme) and scheme.charged_bytes >= scheme.effective_bytes


@compiled
def matches_pattern(monitor: Record, scheme: Record, region: Record) -> bool:
    """Whether a region is of a scheme's access pattern (__damos_valid_target)."""
    size, accesses = region.end - region.start, access_sum(monitor, region)
    return (
        scheme.min_sz <= size <= scheme.max_sz
        and scheme.min_nr_accesses <= accesses <= scheme.max_nr_accesses
        and scheme.min_age <= region.age <= scheme.max_age
    )


@compiled
def priority_score(monitor: Record, scheme: Record, region: Record) -> int:
    """Priority of a region under a scheme's quota, 0..99 (damon_hot_score, damon_cold_score)."""
    if scheme.priority == 0:
        return SCORES - 1
    accesses = access_sum(monitor, region) if monitor.rules.access_sum == AccessSum.COMPUTED else region.nr_accesses
    attributes = monitor.attributes
    most = max(attributes.aggr_us // max(attributes.sample_us, np.int64(1)), np.int64(1))
    frequency = accesses * 100 // most
    seconds = region.age * attributes.aggr_us // 1_000_000
    bits = min(highest_bit(np.uint64(seconds)) + 1, _LONGEST_AGE_BITS)
    if frequency == 0:
        bits = -bits
    age = (bits + _LONGEST_AGE_BITS) * 100 // _LONGEST_AGE_BITS // 2
    weights = scheme.nr_accesses_permil + scheme.age_permil
    hotness = scheme.nr_accesses_permil * frequency + scheme.age_permil * age
    if weights > 0:
        hotness = hotness // weights
    hotness = hotness * (SCORES - 1) // 100
    return hotness if scheme.priority > 0 else SCORES - 1 - hotness


@compiled
def _is_set(scheme: Record) -> bool:
    return scheme.quota_ms > 0 or scheme.quota_bytes > 0 or scheme.goal_count > 0


@compiled
def _set_effective_quota(monitor: Record, number: int) -> None:
    scheme = schemes(monitor)[number]
    effective = np.int64(NO_LIMIT)
    if scheme.goal_count > 0:
        effective = _tuned_bytes(scheme, _quota_score(monitor, number))
    if scheme.quota_ms > 0:
        per_ms = np.int64(_BYTES_PER_MS_UNMEASURED)
        if scheme.total_charged_ns > 0:
            per_ms = np.int64(float(scheme.total_charged_bytes) * 1e6 / float(scheme.total_charged_ns))
        effective = min(effective, per_ms * scheme.quota_ms)
        if monitor.rules.zero_quota_is_none:
            effective = max(effective, monitor.attributes.min_region_bytes)
    if scheme.quota_bytes > 0:
        effective = min(effective, scheme.quota_bytes)
    scheme.effective_bytes = effective


@compiled
def _quota_score(monitor: Record, number: int) -> int:
    score = np.int64(0)
    for index in range(schemes(monitor)[number].goal_count):
        goal = goals(monitor)[number * GOALS + index]
        if goal.metric == _ELIGIBLE:
            goal.current_value = _eligible_bp(monitor, schemes(monitor)[number], goal.nid)
        score = max(score, measure_goal(monitor, goal) * 10_000 // max(goal.target_value, np.int64(1)))
    return score


@compiled
def _eligible_bp(monitor: Record, scheme: Record, node: int) -> int:
    """Share of a node in the memory of a scheme's pattern, whatever its filters; 0 where that is nothing.

    Source: damos_get_node_eligible_mem_bp, which knows pages of physical memory only.
    """
    if monitor.physical == 0:
        return np.int64(0)
    if monitor.memory == 0:
        return monitor.machine.node_eligible_bp[node]
    found, total = 0.0, 0.0
    for index in range(monitor.region_count):
        region = regions(monitor)[index]
        if matches_pattern(monitor, scheme, region):
            on_fast = node_pages(monitor, region.start, region.end, FAST_NODE)
            on_slow = node_pages(monitor, region.start, region.end, SLOW_NODE)
            total += on_fast + on_slow
            found += on_fast if node == FAST_NODE else (on_slow if node == SLOW_NODE else 0.0)
    return np.int64(found * 10_000.0 / total) if total > 0.0 else np.int64(0)


@compiled
def _tuned_bytes(scheme: Record, score: int) -> int:
    if scheme.goal_tuner == _TEMPORAL:
        if score >= 10_000:
            return np.int64(0)
        return scheme.quota_bytes if scheme.quota_bytes > 0 else np.int64(NO_LIMIT)
    scheme.effective_bp = next_input(max(scheme.effective_bp, _SCALE), np.uint64(max(score, np.int64(0))))
    return np.int64(scheme.effective_bp // _SCALE)


@compiled
def _set_least_score(monitor: Record, scheme: Record) -> None:
    room = histogram(monitor)
    for score in range(SCORES):
        room[score] = 0
    for index in range(monitor.region_count):
        region = regions(monitor)[index]
        if matches_pattern(monitor, scheme, region):
            room[priority_score(monitor, scheme, region)] += region.end - region.start
    score, total = np.int64(SCORES - 1), np.int64(0)
    while score > 0:
        total += room[score]
        if total >= scheme.effective_bytes:
            break
        score -= 1
    scheme.min_score = score
