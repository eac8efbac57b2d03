"""Schemes (DAMOS): which regions they are applied to, when, and what is written down of it.

All functions are compiled and work on one MONITOR record; the order is the kernel's (mm/damon/core.c,
kdamond_apply_schemes).
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.damon.config import ACTIONS, Action, FilterType, WatermarkMetric
from kml_envs.damon.machine import (
    FILTER_TYPES,
    advises,
    apply_action,
    catch_up,
    matching_share,
    young_share,
)
from kml_envs.damon.memory_config import FAST_NODE, SLOW_NODE
from kml_envs.damon.quota import adjust_quota, has_limit, is_exhausted, matches_pattern, priority_score
from kml_envs.damon.regions import align_down, cut_region, is_last_region, is_mapped, join_slices
from kml_envs.damon.state import DESTINATIONS, FILTERS, destinations, filters, region_capacity, regions, schemes, tried

_STAT = ACTIONS.index(Action.STAT)
_PAGEOUT = ACTIONS.index(Action.PAGEOUT)
_ADDR = FILTER_TYPES.index(FilterType.ADDR)
_YOUNG = FILTER_TYPES.index(FilterType.YOUNG)
_NO_METRIC = tuple(WatermarkMetric).index(WatermarkMetric.NONE)

REJECTED, PASSED, ALLOWED = 0, 1, 2


@compiled
def watermark_wait_us(monitor: Record, scheme: Record) -> int:
    """Set whether a scheme is active, and return how long to wait if it is not (damos_wmark_wait_us).

    Above the high watermark nothing needs to be done, below the low one it would be too late; between the middle and
    the high one a scheme stays what it is.
    """
    if scheme.watermark_metric == _NO_METRIC:
        return np.int64(0)
    value = monitor.machine.free_permil
    if value > scheme.high or value < scheme.low:
        scheme.active = 0
    elif value < scheme.mid:
        scheme.active = 1
    return np.int64(0) if scheme.active else scheme.watermark_interval_us


@compiled
def activation_wait_us(monitor: Record) -> int:
    """How long monitoring stands still before the watermarks are looked at again: 0 if any scheme is active."""
    shortest = np.int64(0)
    for number in range(monitor.scheme_count):
        wait = watermark_wait_us(monitor, schemes(monitor)[number])
        shortest = wait if number == 0 else min(shortest, wait)
    return shortest


@compiled
def apply_schemes(monitor: Record) -> None:
    """Apply the schemes whose time has come to all regions (kdamond_apply_schemes)."""
    due = 0
    for number in range(monitor.scheme_count):
        scheme = schemes(monitor)[number]
        if _is_due(monitor, scheme):
            due += 1
            if scheme.action != _STAT:
                catch_up(monitor)
            scheme.tried_count = 0
            scheme.tried_bytes = 0
            adjust_quota(monitor, number)
    if due == 0:
        return
    index = 0
    while index < monitor.region_count:
        behind = monitor.region_count - index - 1
        _apply_to_region(monitor, index)
        index = monitor.region_count - behind  # what was cut off has its turn next time
    attributes = monitor.attributes
    for number in range(monitor.scheme_count):
        scheme = schemes(monitor)[number]
        if monitor.samples >= scheme.next_apply:
            if _is_due(monitor, scheme):
                scheme.nr_snapshots += 1
            interval = scheme.apply_interval_us if scheme.apply_interval_us > 0 else attributes.aggr_us
            scheme.next_apply += samples_in(monitor, interval)
    if monitor.rules.rejoins_slices:
        join_slices(monitor)


@compiled
def samples_in(monitor: Record, interval_us: int) -> int:
    """Samples after which a timer ends, at least one."""
    sample_us = max(monitor.attributes.sample_us, np.int64(1))
    if monitor.rules.rounds_timers_up:
        interval_us += sample_us - 1
    return max(interval_us // sample_us, np.int64(1))


@compiled
def copy_settings(scheme: Record, settings: Record) -> None:
    """Take over the settings of another SCHEME record; quota, statistics and what it did before stay.

    Goals, filters and destinations stand outside of the record: only how many there are is copied.
    """
    scheme.action, scheme.supported, scheme.priority = settings.action, settings.supported, settings.priority
    scheme.min_sz, scheme.max_sz = settings.min_sz, settings.max_sz
    scheme.min_nr_accesses, scheme.max_nr_accesses = settings.min_nr_accesses, settings.max_nr_accesses
    scheme.min_age, scheme.max_age = settings.min_age, settings.max_age
    scheme.apply_interval_us = settings.apply_interval_us
    scheme.target_nid = settings.target_nid
    scheme.max_nr_snapshots = settings.max_nr_snapshots
    scheme.quota_ms, scheme.quota_bytes = settings.quota_ms, settings.quota_bytes
    scheme.reset_interval_us = settings.reset_interval_us
    scheme.goal_tuner, scheme.goal_count = settings.goal_tuner, settings.goal_count
    scheme.nr_accesses_permil, scheme.age_permil = settings.nr_accesses_permil, settings.age_permil
    scheme.fail_charge_num, scheme.fail_charge_denom = settings.fail_charge_num, settings.fail_charge_denom
    scheme.watermark_metric = settings.watermark_metric
    scheme.watermark_interval_us = settings.watermark_interval_us
    scheme.high, scheme.mid, scheme.low = settings.high, settings.mid, settings.low
    scheme.core_filter_count, scheme.filter_count = settings.core_filter_count, settings.filter_count
    scheme.destination_count = settings.destination_count
    scheme.core_default_reject = settings.core_default_reject
    scheme.ops_default_reject = settings.ops_default_reject


@compiled
def _is_due(monitor: Record, scheme: Record) -> bool:
    ended = scheme.max_nr_snapshots > 0 and scheme.nr_snapshots >= scheme.max_nr_snapshots
    return scheme.active == 1 and monitor.samples >= scheme.next_apply and not ended


@compiled
def _apply_to_region(monitor: Record, index: int) -> None:
    for number in range(monitor.scheme_count):
        scheme = schemes(monitor)[number]
        if not _is_due(monitor, scheme) or is_exhausted(monitor, scheme):
            continue
        if scheme.charged_target >= 0:
            skipped = _skip_charged(monitor, scheme, index)
            if skipped < 0:
                continue
            index += skipped
        region = regions(monitor)[index]
        if not matches_pattern(monitor, scheme, region):
            continue
        if has_limit(monitor, scheme) and priority_score(monitor, scheme, region) < scheme.min_score:
            continue
        part, end = index, region.end
        _apply(monitor, number, part)
        while regions(monitor)[part].end < end and not is_exhausted(monitor, scheme):
            part += 1  # a filter cut the region at the border of its range
            _apply(monitor, number, part)


@compiled
def _skip_charged(monitor: Record, scheme: Record, index: int) -> int:
    """Pass over what the scheme did in the last window (damos_skip_charged_region).

    Returns:
        -1: leave the region out; 1: its first part was cut off, go on with the rest; 0: go on.
    """
    region = regions(monitor)[index]
    if region.target != scheme.charged_target:
        return -1
    if is_last_region(monitor, index):
        scheme.charged_target = -1  # the end of the list: begin anew
        return -1
    if region.end <= scheme.charged_address:
        return -1
    cut = 0
    if region.start < scheme.charged_address:
        smallest = monitor.attributes.min_region_bytes
        size = align_down(scheme.charged_address - region.start, smallest)
        if size == 0:
            if region.end - region.start <= smallest:
                return -1
            size = smallest
        if not cut_region(monitor, index, size):
            return -1
        cut = 1
    scheme.charged_target = -1
    return cut


@compiled
def _apply(monitor: Record, number: int, index: int) -> None:
    scheme = schemes(monitor)[number]
    limited = has_limit(monitor, scheme)
    size = regions(monitor)[index].end - regions(monitor)[index].start
    if limited and size > scheme.effective_bytes - scheme.charged_bytes:
        size = align_down(scheme.effective_bytes - scheme.charged_bytes, monitor.attributes.min_region_bytes)
        if size == 0 or not cut_region(monitor, index, size):
            _count(scheme, np.int64(0), np.int64(0), np.int64(0))
            return
    verdict = _core_filters(monitor, number, index)
    if verdict == REJECTED:
        return
    region = regions(monitor)[index]
    size = region.end - region.start
    passed, applied = size, np.int64(0)
    if verdict != ALLOWED and not advises(monitor, scheme):
        passed = _passing_bytes(monitor, number, region.start, region.end)
    if scheme.supported:
        to_fast = _destination_share(monitor, number, FAST_NODE)
        to_slow = _destination_share(monitor, number, SLOW_NODE)
        applied = apply_action(monitor, scheme, region.start, region.end, passed / size, to_fast, to_slow)
        if advises(monitor, scheme):
            passed = np.int64(0)
            applied = size if is_mapped(monitor, region) else np.int64(0)
    _note_tried(monitor, number, region, passed)
    charge = size
    if scheme.fail_charge_denom > 0:
        charge = applied + (size - applied) * scheme.fail_charge_num // scheme.fail_charge_denom
    scheme.charged_bytes += charge
    if limited and scheme.charged_bytes >= scheme.effective_bytes:
        scheme.charged_target = region.target
        scheme.charged_address = region.end + 1
    if scheme.action != _STAT:
        region.age = 0
    _count(scheme, size, applied, passed)


@compiled
def _destination_share(monitor: Record, number: int, node: int) -> float:
    """Share of a scheme's pages that migrate to a node.

    A page goes where its index, modulo the sum of the weights, says (damos_va_migrate_dests_add): of many pages, each
    destination gets the share of its weight, and another application changes nothing.
    """
    scheme = schemes(monitor)[number]
    share, total = np.int64(0), np.int64(0)
    for place in range(scheme.destination_count):
        destination = destinations(monitor)[number * DESTINATIONS + place]
        total += destination.weight
        if destination.id == node:
            share += destination.weight
    if total == 0:
        return 1.0 if scheme.target_nid == node else 0.0
    return share / total


@compiled
def _count(scheme: Record, size: int, applied: int, passed: int) -> None:
    scheme.nr_tried += 1
    scheme.sz_tried += size
    scheme.nr_applied += applied > 0
    scheme.sz_applied += applied
    scheme.sz_ops_filter_passed += passed


@compiled
def _note_tried(monitor: Record, number: int, region: Record, passed: int) -> None:
    scheme = schemes(monitor)[number]
    scheme.tried_bytes += region.end - region.start
    if scheme.tried_count < region_capacity(monitor):
        row = number * region_capacity(monitor) + scheme.tried_count
        noted = tried(monitor)[row]
        noted.start, noted.end, noted.target = region.start, region.end, region.target
        noted.nr_accesses, noted.last_nr_accesses = region.nr_accesses, region.last_nr_accesses
        noted.age, noted.nr_accesses_bp = region.age, region.nr_accesses_bp
        noted.sz_filter_passed = passed
        scheme.tried_count += 1


@compiled
def _core_filters(monitor: Record, number: int, index: int) -> int:
    scheme = schemes(monitor)[number]
    for place in range(scheme.core_filter_count):
        item = filters(monitor)[number * FILTERS + place]
        if _core_filter_matches(monitor, item, index):
            return ALLOWED if item.allow else REJECTED
    return REJECTED if scheme.core_default_reject else PASSED


@compiled
def _core_filter_matches(monitor: Record, item: Record, index: int) -> bool:
    """Whether a filter is for a region; one that lies across a border of its range is cut there first."""
    region = regions(monitor)[index]
    if item.type != _ADDR:
        return (region.target == item.first) == (item.matching == 1)
    unit = monitor.attributes.min_region_bytes
    first, last = align_down(item.first, unit), align_down(item.last, unit)
    inside = region.start < last and first < region.end
    if inside and region.start < first:
        inside = not cut_region(monitor, index, first - region.start)
    elif inside and region.end > last:
        cut_region(monitor, index, last - region.start)
    return inside == (item.matching == 1)


@compiled
def _passing_bytes(monitor: Record, number: int, start: int, end: int) -> int:
    """Bytes of a range that pass the filters of the operations set: for each page the first that matches decides."""
    scheme = schemes(monitor)[number]
    undecided, passed = 1.0, 0.0
    rechecks = scheme.action == _PAGEOUT and monitor.physical == 1
    for place in range(scheme.core_filter_count, scheme.filter_count):
        item = filters(monitor)[number * FILTERS + place]
        rechecks = rechecks and item.type != _YOUNG
        share = matching_share(monitor, item, start, end)
        if item.matching == 0:
            share = 1.0 - share
        if item.allow:
            passed += undecided * share
        undecided *= 1.0 - share
    if rechecks:
        # Without a filter for young pages paddr looks once more itself: its own filter comes last, and rejects them
        # (damon_pa_pageout).
        undecided *= 1.0 - young_share(monitor, start, end)
    if scheme.ops_default_reject == 0:
        passed += undecided
    return min(np.int64(passed * (end - start) + 0.5), end - start)
