"""The monitor: sampling accesses, aggregating them into regions, adapting regions and intervals.

All functions are compiled and work on one MONITOR record; `advance` is the loop of the kernel's kdamond_fn
(mm/damon/core.c), one pass for one or several samples.
"""

from __future__ import annotations

import math

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.damon.binomial import draw_binomial
from kml_envs.damon.config import PAGE_BYTES
from kml_envs.damon.machine import catch_up, detected_share, folio_touched_probability, live_until
from kml_envs.damon.quota import next_input
from kml_envs.damon.regions import (
    clear_aggregation,
    mapped_ranges,
    merge_regions,
    set_regions,
    split_regions,
    three_ranges,
    total_bytes,
    update_size_limit,
)
from kml_envs.damon.schemes import activation_wait_us, apply_schemes, samples_in
from kml_envs.damon.state import ATTRIBUTES, binomial, probabilities, regions, schemes
from kml_envs.damon.versions import AccessSum
from kml_envs.workloads.access import (
    move_to,
    next_boundary,
    range_end,
    range_is_swept,
    range_rate,
    range_start,
    touch_probability,
)
from kml_envs.workloads.source import random_below, random_unit


@compiled
def advance(monitor: Record, until_us: int) -> None:
    """Let the monitor work until a time, rounded up to whole sampling intervals.

    Args:
        monitor: The MONITOR record.
        until_us: In the time of the simulation.
    """
    if monitor.paused:
        monitor.time_us = max(monitor.time_us, until_us)
    catch_up(monitor)
    while monitor.time_us < until_us:
        wait = activation_wait_us(monitor)
        if wait > 0:
            _sleep(monitor, wait)
        else:
            _sample(monitor, until_us)
    catch_up(monitor)


@compiled
def advance_program(monitor: Record, until_us: int) -> None:
    """Let the program run until exactly a time, and the monitor with it.

    A sampling interval or a sleep that ends later is left for the next call, so that programs whose monitors have
    different intervals stay in step.

    Args:
        monitor: The MONITOR record, which has a memory; its `memory_time_us` is the program's time.
        until_us: In the time of the simulation.
    """
    if monitor.paused:
        monitor.time_us = max(monitor.time_us, until_us)
    while True:
        wait = activation_wait_us(monitor)
        if monitor.time_us + (wait if wait > 0 else monitor.attributes.sample_us) > until_us:
            break
        if wait > 0:
            _sleep(monitor, wait)
        else:
            _sample(monitor, until_us - monitor.attributes.sample_us + 1)
    live_until(monitor, until_us)


@compiled
def begin(monitor: Record) -> None:
    """Start the timers and compute the size limit (kdamond_init_ctx)."""
    monitor.samples = 0
    _restart_timers(monitor)
    monitor.next_tuning = monitor.next_aggregation * monitor.attributes.aggrs
    update_size_limit(monitor)


@compiled
def change_attributes(monitor: Record, attributes: Record) -> None:
    """Change the attributes of a running monitor (damon_set_attrs): what was counted is converted.

    Args:
        monitor: The MONITOR record.
        attributes: The new ATTRIBUTES record.
    """
    aggregating = monitor.samples < monitor.next_aggregation
    convert_results(monitor, attributes, aggregating and not monitor.rules.keeps_running_counts)
    retuned = monitor.attributes.aggrs != attributes.aggrs
    monitor.attributes = attributes
    _restart_timers(monitor)
    if retuned:
        monitor.next_tuning = monitor.samples + monitor.window_samples * attributes.aggrs


@compiled
def convert_results(monitor: Record, attributes: Record, aggregating: bool) -> None:
    """Convert accesses and ages to new intervals (damon_update_monitoring_results).

    Args:
        monitor: The MONITOR record, still with the old attributes.
        attributes: The new ATTRIBUTES record.
        aggregating: In the middle of an aggregation, whose counts are given up.
    """
    old = monitor.attributes
    old_most, new_most = most_accesses_of(old), most_accesses_of(attributes)
    for index in range(monitor.region_count):
        region = regions(monitor)[index]
        region.age = region.age * old.aggr_us // max(attributes.aggr_us, np.int64(1))
        region.last_nr_accesses = region.last_nr_accesses * 10_000 // old_most * new_most // 10_000
        if aggregating:
            region.nr_accesses = 0
            region.nr_accesses_bp = region.last_nr_accesses * 10_000
        else:
            region.nr_accesses = region.nr_accesses * 10_000 // old_most * new_most // 10_000
            region.nr_accesses_bp = region.nr_accesses * 10_000


@compiled
def most_accesses_of(attributes: Record) -> int:
    """Most accesses that a region can have in an aggregation (damon_max_nr_accesses)."""
    return max(attributes.aggr_us // max(attributes.sample_us, np.int64(1)), np.int64(1))


@compiled
def interval_factor_bp(monitor: Record) -> int:
    """Factor for the intervals that brings observed accesses to their goal, in 1/10,000, at least a half.

    Source: damon_get_intervals_adaptation_bp.
    """
    observed = np.float64(0.0)
    for index in range(monitor.region_count):
        region = regions(monitor)[index]
        observed += np.float64(region.end - region.start) * region.nr_accesses
    most = np.float64(total_bytes(monitor)) * most_accesses_of(monitor.attributes)
    target = max(np.floor(most * monitor.attributes.access_bp / 10_000), 1.0)
    return adaptation_bp(np.int64(min(observed * 10_000 / target, 1e18)))


@compiled
def adaptation_bp(score: int) -> int:
    """Factor for the intervals for a score, both in 1/10,000; shrinking is at most by half."""
    factor = np.int64(next_input(np.uint64(100_000_000), np.uint64(score)) // np.uint64(10_000))
    return factor if factor > 10_000 else 5_000 + factor // 2


@compiled
def update_ranges(monitor: Record) -> None:
    """Let the regions of every target follow its mapped ranges (damon_va_update)."""
    ranges = np.empty((3, 2), np.int64)
    for target in range(monitor.target_count):
        mapped = mapped_ranges(monitor, target)
        if mapped.shape[0] > 0:
            set_regions(monitor, target, ranges[: three_ranges(mapped, ranges)])


@compiled
def _sleep(monitor: Record, wait_us: int) -> None:
    monitor.slept_us += wait_us
    monitor.time_us += wait_us
    catch_up(monitor)


@compiled
def _sample(monitor: Record, until_us: int) -> None:
    """Take the samples up to the next thing that happens, but no more once a time is reached, and do what is due."""
    move_to(monitor.access, monitor.time_us)
    _remember_probabilities(monitor)
    count = _samples_ahead(monitor, until_us)
    if monitor.per_sample:
        _sample_pages(monitor)
    else:
        _sample_regions(monitor, count)
    monitor.checks += count * monitor.region_count
    monitor.time_us += count * monitor.attributes.sample_us
    monitor.samples += count
    _after_sampling(monitor)


@compiled
def _samples_ahead(monitor: Record, until_us: int) -> int:
    """Samples until the next thing happens: these can be taken at once."""
    if monitor.per_sample:
        return np.int64(1)
    sample_us = monitor.attributes.sample_us
    count = min(monitor.next_aggregation, monitor.next_update) - monitor.samples
    for number in range(monitor.scheme_count):
        apply = schemes(monitor)[number].next_apply
        if apply > monitor.samples:  # an inactive one's may have passed
            count = min(count, apply - monitor.samples)
    count = min(count, (until_us - monitor.time_us + sample_us - 1) // sample_us)
    count = min(count, (next_boundary(monitor.access) - monitor.time_us) // sample_us)
    return np.int64(1) if monitor.swept else max(count, np.int64(1))


@compiled
def _sample_regions(monitor: Record, count: int) -> None:
    # In each sample a fresh page of the region is drawn, so that the accesses found are binomial.
    sample_us, share = float(monitor.attributes.sample_us), detected_share(monitor)
    window = most_accesses_of(monitor.attributes)
    moving = monitor.rules.access_sum == AccessSum.MOVING
    table = binomial(monitor)
    most, cursor, behind = np.int64(0), monitor.access.first, np.int64(0)
    for index in range(monitor.region_count):
        region = regions(monitor)[index]
        if monitor.swept:
            touched = touch_probability(monitor.access, region.start, region.end, sample_us)
        else:
            if region.start < behind:  # another target
                cursor = monitor.access.first
            behind = region.end
            cursor = _first_range(monitor.access, cursor, region.start)
            touched = _mean_probability(monitor, cursor, region.start, region.end)
        found = draw_binomial(monitor, table, count, touched * share)
        region.nr_accesses += found
        if moving:
            region.nr_accesses_bp += found * 10_000 - count * (region.last_nr_accesses * 10_000 // window)
        most = max(most, region.nr_accesses)
    monitor.most_accesses = most


@compiled
def _first_range(access: Record, index: int, start: int) -> int:
    while index < access.last and range_end(access, index) <= start:
        index += 1
    return index


@compiled
def _mean_probability(monitor: Record, index: int, start: int, end: int) -> float:
    access, probability = monitor.access, probabilities(monitor)
    touched = 0.0
    while index < access.last and range_start(access, index) < end:
        overlap = min(end, range_end(access, index)) - max(start, range_start(access, index))
        touched += overlap * probability[index]
        index += 1
    return touched / (end - start)


@compiled
def _remember_probabilities(monitor: Record) -> None:
    """Work out once what stays the same as long as the phase and the sampling interval do."""
    access, sample_us = monitor.access, monitor.attributes.sample_us
    if monitor.probable_phase == access.phase and monitor.probable_us == sample_us:
        return
    monitor.probable_phase, monitor.probable_us, monitor.swept = access.phase, sample_us, 0
    for index in range(access.first, access.last):
        if range_is_swept(access, index):
            monitor.swept = 1
        else:
            probabilities(monitor)[index] = -math.expm1(-range_rate(access, index) * sample_us * 1e-6)


@compiled
def _sample_pages(monitor: Record) -> None:
    sample_us, share = float(monitor.attributes.sample_us), detected_share(monitor)
    window = most_accesses_of(monitor.attributes)
    moving = monitor.rules.access_sum == AccessSum.MOVING
    folio = monitor.folio_bytes
    most, last_folio, found = np.int64(0), np.int64(-1), False
    for index in range(monitor.region_count):
        region = regions(monitor)[index]
        pages = max((region.end - region.start) // PAGE_BYTES, np.int64(1))
        address = region.start + random_below(monitor, pages) * PAGE_BYTES
        # Regions that meet in a huge page share its only accessed bit: the second look would find it cleared.
        if folio <= PAGE_BYTES or address // folio != last_folio:
            last_folio = address // folio
            if folio > PAGE_BYTES:
                touched = folio_touched_probability(monitor, address)
            else:
                touched = touch_probability(monitor.access, address, address + PAGE_BYTES, sample_us)
            found = random_unit(monitor) < touched * share
        region.nr_accesses += found
        if moving:
            region.nr_accesses_bp += found * 10_000 - region.last_nr_accesses * 10_000 // window
        most = max(most, region.nr_accesses)
    monitor.most_accesses = most


@compiled
def _after_sampling(monitor: Record) -> None:
    aggregated = monitor.samples >= monitor.next_aggregation
    if aggregated:
        merge_regions(monitor, monitor.most_accesses // 10)
        if monitor.rules.access_sum == AccessSum.MOVING:
            for index in range(monitor.region_count):
                regions(monitor)[index].nr_accesses_bp = regions(monitor)[index].nr_accesses * 10_000
        if monitor.rules.limit_follows_aggregations:
            update_size_limit(monitor)
    apply_schemes(monitor)
    if aggregated:
        monitor.aggregations += 1
        deadline = monitor.next_aggregation
        if monitor.attributes.aggrs > 0 and monitor.samples >= monitor.next_tuning:
            monitor.next_tuning += monitor.window_samples * monitor.attributes.aggrs
            _tune_intervals(monitor)
        monitor.window_samples = samples_in(monitor, monitor.attributes.aggr_us)
        monitor.next_aggregation = deadline + monitor.window_samples
        clear_aggregation(monitor)
        split_regions(monitor)
    if monitor.samples >= monitor.next_update:
        monitor.next_update += samples_in(monitor, monitor.attributes.update_us)
        if monitor.follows_mappings:
            update_ranges(monitor)
        update_size_limit(monitor)


@compiled
def _tune_intervals(monitor: Record) -> None:
    factor = interval_factor_bp(monitor)
    if factor == 10_000:
        return
    attributes = monitor.attributes
    ratio = attributes.aggr_us // max(attributes.sample_us, np.int64(1))
    tuned = np.empty(1, ATTRIBUTES)
    tuned[0] = attributes
    sample_us = min(attributes.sample_us * factor // 10_000, attributes.max_sample_us)
    tuned[0].sample_us = max(sample_us, attributes.min_sample_us)
    tuned[0].aggr_us = tuned[0].sample_us * ratio
    change_attributes(monitor, tuned[0])


@compiled
def _restart_timers(monitor: Record) -> None:
    monitor.window_samples = samples_in(monitor, monitor.attributes.aggr_us)
    monitor.next_aggregation = monitor.samples + monitor.window_samples
    monitor.next_update = monitor.samples + samples_in(monitor, monitor.attributes.update_us)
    for number in range(monitor.scheme_count):
        scheme = schemes(monitor)[number]
        interval = scheme.apply_interval_us if scheme.apply_interval_us > 0 else monitor.attributes.aggr_us
        scheme.next_apply = monitor.samples + samples_in(monitor, interval)
