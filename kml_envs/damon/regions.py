"""Rules of the set of regions: cutting, splitting, merging, ageing, and following the monitored ranges.

All functions are compiled and work on the regions of a MONITOR record, sorted by target and address. The arithmetic
is the kernel's (mm/damon/core.c): whole numbers, floor divisions.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.damon.state import mappings, region_capacity, regions, spare
from kml_envs.workloads.source import random_below


@compiled
def align_down(value: int, unit: int) -> int:
    """Round down to a multiple of `unit`."""
    return value // unit * unit


@compiled
def align_up(value: int, unit: int) -> int:
    """Round up to a multiple of `unit`."""
    return (value + unit - 1) // unit * unit


@compiled
def total_bytes(monitor: Record) -> int:
    """Bytes of all regions."""
    total = 0
    for index in range(monitor.region_count):
        total += regions(monitor)[index].end - regions(monitor)[index].start
    return total


@compiled
def region_size_limit(monitor: Record) -> int:
    """Largest size of a region that keeps the minimal number of regions (damon_region_sz_limit)."""
    smallest = monitor.attributes.min_region_bytes
    limit = max(total_bytes(monitor) // max(monitor.attributes.min_nr_regions, np.int64(1)), smallest)
    return align_up(limit, smallest) if monitor.rules.enforces_minimum else limit


@compiled
def update_size_limit(monitor: Record) -> None:
    """Recompute the size limit; where the version enforces it, cut what is larger."""
    monitor.size_limit = region_size_limit(monitor)
    if monitor.rules.enforces_minimum:
        index = 0
        while index < monitor.region_count:
            region = regions(monitor)[index]
            if region.end - region.start > monitor.size_limit and not cut_region(monitor, index, monitor.size_limit):
                return
            index += 1


@compiled
def cut_region(monitor: Record, index: int, size: int) -> bool:
    """Cut a region in two (damon_split_region_at); the right part follows at `index + 1`.

    Args:
        monitor: The MONITOR record.
        index: The region.
        size: Bytes of the left part, less than the region has.

    Returns:
        Whether there was room for one more.
    """
    if not insert_region(monitor, index + 1):
        return False
    left, right = regions(monitor)[index], regions(monitor)[index + 1]
    _inherit(monitor, left, right, left.start + size)
    return True


@compiled
def insert_region(monitor: Record, index: int) -> bool:
    """Make room for a region without history at a place; return whether there was any."""
    if monitor.region_count == region_capacity(monitor):
        monitor.refused_cuts += 1
        return False
    items = regions(monitor)
    for moved in range(monitor.region_count, index, -1):
        items[moved] = items[moved - 1]
    _clear(items[index])
    monitor.region_count += 1
    return True


@compiled
def is_last_region(monitor: Record, index: int) -> bool:
    """Whether a region is the last one of its target (damon_is_last_region)."""
    return bool(
        index + 1 == monitor.region_count or regions(monitor)[index + 1].target != regions(monitor)[index].target
    )


@compiled
def merge_regions(monitor: Record, threshold: int) -> None:
    """Age all regions and join neighbours that are alike (kdamond_merge_regions).

    Args:
        monitor: The MONITOR record.
        threshold: Largest difference of accesses between regions that are alike.
    """
    rules, attributes = monitor.rules, monitor.attributes
    most = max(attributes.aggr_us // max(attributes.sample_us, np.int64(1)), np.int64(1))
    merge_once(monitor, threshold, True)
    if not rules.merge_respects_maximum:
        return
    threshold = max(np.int64(1), threshold * 2)
    while monitor.region_count > attributes.max_nr_regions and threshold // 2 < most:
        merge_once(monitor, threshold, rules.merge_ages_once == 0)
        threshold = max(np.int64(1), threshold * 2)


@compiled
def merge_once(monitor: Record, threshold: int, ages: bool) -> None:
    """One pass over all regions (damon_merge_regions_of)."""
    items = regions(monitor)
    limit, zero_resets_age = monitor.size_limit, monitor.rules.zero_resets_age
    kept = -1
    for index in range(monitor.region_count):
        region = items[index]
        if ages:
            accesses, last = region.nr_accesses, region.last_nr_accesses
            if abs(accesses - last) > threshold or (zero_resets_age and (accesses == 0) != (last == 0)):
                region.age = 0
            else:
                region.age += 1
        if kept >= 0 and _may_join(items[kept], region, threshold, limit):
            _join(items[kept], region)
        else:
            kept += 1
            if kept < index:
                items[kept] = items[index]
    monitor.region_count = kept + 1


@compiled
def join_slices(monitor: Record) -> None:
    """Join neighbours with equal accesses and ages: what schemes cut apart and left alike."""
    items = regions(monitor)
    kept = -1
    for index in range(monitor.region_count):
        region = items[index]
        if (
            kept >= 0
            and items[kept].last_nr_accesses == region.last_nr_accesses
            and items[kept].age == region.age
            and _may_join(items[kept], region, np.int64(0), monitor.size_limit)
        ):
            items[kept].end = region.end
        else:
            kept += 1
            if kept < index:
                items[kept] = items[index]
    monitor.region_count = kept + 1


@compiled
def split_regions(monitor: Record) -> None:
    """Cut regions at random, as far as the maximal number allows (kdamond_split_regions)."""
    count, most = monitor.region_count, monitor.attributes.max_nr_regions
    if count > most // 2:
        if monitor.rules.splits_above_half and count < most:
            _split_some(monitor, most // (most - count))
        return
    parts = 2
    if monitor.regions_at_split == count and count < most // 3:
        parts = 3
    split_all(monitor, parts)
    monitor.regions_at_split = count


@compiled
def split_all(monitor: Record, parts: int) -> None:
    """Cut every region into so many parts (damon_split_regions_of)."""
    items, room = regions(monitor), spare(monitor)
    smallest = monitor.attributes.min_region_bytes
    for index in range(monitor.region_count):
        room[index] = items[index]
    written = 0
    for index in range(monitor.region_count):
        waiting = monitor.region_count - index
        first = written
        items[written] = room[index]
        size = items[written].end - items[written].start
        for _ in range(parts - 1):
            if size <= 2 * smallest:
                break
            left = _random_left_part(monitor, size, smallest)
            if left == 0 or left >= size:
                continue
            if written + 1 + waiting > region_capacity(monitor):
                monitor.refused_cuts += 1
                break
            # The left part is what is cut further: its right neighbours move up.
            written += 1
            for moved in range(written, first + 1, -1):
                items[moved] = items[moved - 1]
            _clear(items[first + 1])
            _inherit(monitor, items[first], items[first + 1], items[first].start + left)
            size = left
        written += 1
    monitor.region_count = written


@compiled
def clear_aggregation(monitor: Record) -> None:
    """Begin to count anew; the counts become those of the aggregation before (kdamond_reset_aggregated)."""
    for index in range(monitor.region_count):
        region = regions(monitor)[index]
        region.last_nr_accesses = region.nr_accesses
        region.nr_accesses = 0


@compiled
def set_regions(monitor: Record, target: int, ranges: Record) -> None:
    """Fit the regions of a target to ranges, keeping the history of what stays (damon_set_regions).

    Args:
        monitor: The MONITOR record.
        target: Index of the target.
        ranges: (K, 2) int64, sorted and disjoint starts and ends.
    """
    unit = monitor.attributes.min_region_bytes
    _drop_outside(monitor, target, ranges)
    for row in range(ranges.shape[0]):
        start, end = align_down(ranges[row, 0], unit), align_up(ranges[row, 1], unit)
        first = _first_behind(monitor, target, ranges[row, 0])
        index = first
        while index < monitor.region_count and _begins_before(monitor, index, target, ranges[row, 1]):
            index += 1
        if index == first:
            if insert_region(monitor, first):
                _place(regions(monitor)[first], target, start, end)
            continue
        regions(monitor)[first].start = start
        regions(monitor)[index - 1].end = end
        _fill_holes(monitor, target, first, index)


@compiled
def three_ranges(mapped: Record, ranges: Record) -> int:
    """Cover mapped ranges by three, which leave out the two largest gaps (__damon_va_three_regions).

    Args:
        mapped: (V, 2) int64, sorted starts and ends, at least one row.
        ranges: (3, 2) int64, written.

    Returns:
        Rows written: fewer than three if there are fewer than two gaps.
    """
    largest, second = -1, -1
    for row in range(1, mapped.shape[0]):
        gap = mapped[row, 0] - mapped[row - 1, 1]
        if gap <= 0:
            continue
        if largest < 0 or gap > mapped[largest, 0] - mapped[largest - 1, 1]:
            largest, second = row, largest
        elif second < 0 or gap > mapped[second, 0] - mapped[second - 1, 1]:
            second = row
    written = 0
    ranges[0, 0] = mapped[0, 0]
    for row in (min(largest, second), max(largest, second)):
        if row > 0:
            ranges[written, 1] = mapped[row - 1, 1]
            written += 1
            ranges[written, 0] = mapped[row, 0]
    ranges[written, 1] = mapped[-1, 1]
    return written + 1


@compiled
def mapped_ranges(monitor: Record, target: int) -> Record:
    """The ranges of a target that are mapped, (V, 2) int64."""
    found = np.empty((monitor.mapping_count, 2), np.int64)
    count = 0
    for row in range(monitor.mapping_count):
        if mappings(monitor)[3 * row] == target:
            found[count, 0] = mappings(monitor)[3 * row + 1]
            found[count, 1] = mappings(monitor)[3 * row + 2]
            count += 1
    return found[:count]


@compiled
def is_mapped(monitor: Record, region: Record) -> bool:
    """Whether all of a region is mapped; where mappings are not followed, it is taken to be."""
    if monitor.follows_mappings == 0:
        return True
    reached = region.start
    for row in range(monitor.mapping_count):
        if mappings(monitor)[3 * row] == region.target and mappings(monitor)[3 * row + 1] <= reached:
            reached = max(reached, mappings(monitor)[3 * row + 2])
    return reached >= region.end


@compiled
def split_evenly(monitor: Record, index: int, pieces: int) -> bool:
    """Cut a region into pieces of equal size (damon_va_evenly_split_region).

    Args:
        monitor: The MONITOR record.
        index: The region.
        pieces: How many; the last one takes the remainder.

    Returns:
        Whether it was possible: no pieces, or pieces smaller than the smallest region, are refused.
    """
    if pieces <= 0 or index >= monitor.region_count:
        return False
    region = regions(monitor)[index]
    if pieces == 1:
        return True
    size = align_down((region.end - region.start) // pieces, monitor.attributes.min_region_bytes)
    if size == 0:
        return False
    for piece in range(pieces - 1):
        if not cut_region(monitor, index + piece, size):
            return False
    return True


@compiled
def _may_join(left: Record, right: Record, threshold: int, limit: int) -> bool:
    return (
        left.end == right.start
        and left.target == right.target
        and abs(left.nr_accesses - right.nr_accesses) <= threshold
        and right.end - left.start <= limit
    )


@compiled
def _join(left: Record, right: Record) -> None:
    left_size, right_size = left.end - left.start, right.end - right.start
    total = left_size + right_size
    left.nr_accesses = _weighted_mean(left.nr_accesses, left_size, right.nr_accesses, right_size, total)
    left.age = _weighted_mean(left.age, left_size, right.age, right_size, total)
    left.nr_accesses_bp = left.nr_accesses * 10_000
    left.end = right.end


@compiled
def _weighted_mean(left: int, left_size: int, right: int, right_size: int, total: int) -> int:
    return left if left == right else (left * left_size + right * right_size) // total


@compiled
def _random_left_part(monitor: Record, size: int, unit: int) -> int:
    return align_down((1 + random_below(monitor, 9)) * size // 10, unit)


@compiled
def _split_some(monitor: Record, step: int) -> None:
    items, room = regions(monitor), spare(monitor)
    count, most, smallest = monitor.region_count, monitor.attributes.max_nr_regions, monitor.attributes.min_region_bytes
    for index in range(count):
        room[index] = items[index]
    written = 0
    for index in range(count):
        items[written] = room[index]
        size = items[written].end - items[written].start
        if monitor.region_count < most and (monitor.split_phase + index) % step == 0 and size >= 2 * smallest:
            left = _random_left_part(monitor, size, smallest)
            if left > 0 and monitor.region_count == region_capacity(monitor):
                monitor.refused_cuts += 1
            elif left > 0:
                _clear(items[written + 1])
                _inherit(monitor, items[written], items[written + 1], items[written].start + left)
                monitor.region_count += 1
                written += 1
        written += 1
    monitor.split_phase += 1


@compiled
def _inherit(monitor: Record, left: Record, right: Record, border: int) -> None:
    right.start, right.end, right.target = border, left.end, left.target
    left.end = border
    right.age = left.age
    right.last_nr_accesses = left.last_nr_accesses
    if monitor.rules.split_copies_accesses:
        right.nr_accesses = left.nr_accesses
        right.nr_accesses_bp = left.nr_accesses_bp


@compiled
def _place(region: Record, target: int, start: int, end: int) -> None:
    region.target, region.start, region.end = target, start, end


@compiled
def _clear(region: Record) -> None:
    region.nr_accesses = 0
    region.last_nr_accesses = 0
    region.age = 0
    region.nr_accesses_bp = 0


@compiled
def _drop_outside(monitor: Record, target: int, ranges: Record) -> None:
    items = regions(monitor)
    kept = 0
    for index in range(monitor.region_count):
        inside = items[index].target != target
        for row in range(ranges.shape[0]):
            inside = inside or (items[index].start < ranges[row, 1] and ranges[row, 0] < items[index].end)
        if inside:
            if kept < index:
                items[kept] = items[index]
            kept += 1
    monitor.region_count = kept


@compiled
def _first_behind(monitor: Record, target: int, start: int) -> int:
    index = 0
    while index < monitor.region_count:
        region = regions(monitor)[index]
        if region.target > target or (region.target == target and region.end > start):
            break
        index += 1
    return index


@compiled
def _begins_before(monitor: Record, index: int, target: int, end: int) -> bool:
    return regions(monitor)[index].target == target and regions(monitor)[index].start < end


@compiled
def _fill_holes(monitor: Record, target: int, first: int, behind: int) -> None:
    index = first
    while index + 1 < behind:
        left, right = regions(monitor)[index].end, regions(monitor)[index + 1].start
        if left != right and insert_region(monitor, index + 1):
            _place(regions(monitor)[index + 1], target, left, right)
            behind += 1
        index += 1
