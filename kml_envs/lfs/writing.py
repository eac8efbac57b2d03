"""What a user write does, and when: blocks, checkpoints and device time. All functions work on one VOLUME record."""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled, highest_bit
from kml_envs.lfs.config import AgeClock
from kml_envs.lfs.f2fs import dirty_pages
from kml_envs.lfs.placement import block_age, user_log
from kml_envs.lfs.section_index import first_section, remove_section
from kml_envs.lfs.sections import append, invalidate, make_free
from kml_envs.lfs.volume import (
    AGE_BUCKETS,
    LATENCY_BUCKETS,
    blocks,
    intervals,
    latencies,
    overwrite_ages,
    overwrite_intervals,
    prefree_row,
)

NANOSECONDS = 1_000_000_000


@compiled
def write_block(volume: Record, block: int, arrival_ns: int) -> None:
    """One user write: the old copy becomes invalid, the new one goes to its log.

    Args:
        volume: The VOLUME record.
        block: Logical block.
        arrival_ns: When the request arrived; negative: when the write before it was done.
    """
    settings = volume.settings
    set_clock(volume, arrival_ns)
    note_interval(volume, block)
    log = user_log(volume, block, np.int64(blocks(volume)[block].location))
    note_overwrite(volume, block)
    rewrite(volume, block, log)
    volume.user_writes += 1
    if arrival_ns >= 0 or volume.user_writes > volume.block_count:  # time begins with the workload, not with the fill
        account_time(volume, arrival_ns)
    if settings.checkpoint_interval > 0 and (
        volume.user_writes - volume.last_checkpoint >= settings.checkpoint_interval
    ):
        write_checkpoint(volume)


@compiled
def set_clock(volume: Record, arrival_ns: int) -> None:
    """Set the age clock for a write that arrives now; a negative time counts as zero."""
    volume.clock = volume.user_writes
    if volume.settings.age_clock == AgeClock.SECONDS:
        volume.clock = max(arrival_ns, np.int64(0)) // NANOSECONDS


@compiled
def note_interval(volume: Record, block: int) -> None:
    """Bring the smoothed update interval of a block that the user overwrites up to date, where it is kept."""
    if volume.keeps_intervals == 0 or blocks(volume)[block].location < 0:
        return
    age, interval = block_age(volume, block), intervals(volume)[block]
    expected = _age_bucket(volume, np.int64(interval))
    overwrite_intervals(volume)[expected] += 1
    volume.age_products += _age_bucket(volume, age) * expected
    intervals(volume)[block] = np.float32(interval + volume.settings.interval_gain * (age - interval))


@compiled
def note_overwrite(volume: Record, block: int) -> None:
    """Count the age of the copy that the user's write replaces, and begin the age of the new one."""
    if blocks(volume)[block].location >= 0:
        overwrite_ages(volume)[_age_bucket(volume, block_age(volume, block))] += 1
    blocks(volume)[block].written_at = np.uint32(volume.user_writes & 0xFFFFFFFF)


@compiled
def rewrite(volume: Record, block: int, log: int) -> None:
    """Write a block to a log; its old copy, if it has one, becomes invalid."""
    location = np.int64(blocks(volume)[block].location)
    if location >= 0:
        invalidate(volume, location)
    else:
        volume.valid_blocks += 1
    volume.written_slots += 1
    append(volume, block, log)


@compiled
def write_checkpoint(volume: Record) -> None:
    """Make the state durable: prefree sections become free, checkpointed counts start anew."""
    volume.checkpoints += 1
    volume.last_checkpoint = volume.user_writes
    if volume.node_count > 0:
        _write_dirty_nodes(volume)
    volume.busy_until_ns += volume.settings.checkpoint_ns
    section = first_section(volume, prefree_row(volume), 0)
    while section >= 0:
        remove_section(volume, prefree_row(volume), section)
        make_free(volume, section)
        section = first_section(volume, prefree_row(volume), section + 1)


@compiled
def account_time(volume: Record, arrival_ns: int) -> None:
    """Account for the device time of a user write, and for its wait behind cleaning.

    Args:
        volume: The VOLUME record.
        arrival_ns: When the request arrived; negative: when the write before it was done.
    """
    settings = volume.settings
    arrival = arrival_ns if arrival_ns >= 0 else volume.completed_ns
    begin = max(arrival, volume.busy_until_ns)
    if begin > arrival and volume.cleaning_until_ns > arrival:
        volume.stalls += 1
        volume.stall_ns += min(begin, volume.cleaning_until_ns) - arrival
    volume.busy_until_ns = begin + settings.write_ns
    volume.completed_ns = volume.busy_until_ns
    volume.user_ns += settings.write_ns
    latencies(volume)[latency_bucket(volume.busy_until_ns - arrival)] += 1


@compiled
def latency_bucket(latency_ns: int) -> int:
    """Histogram bucket of a latency: eight buckets an octave, bucket k holds about 2**(k / 8) ns."""
    if latency_ns < 8:
        return max(latency_ns, np.int64(0))
    exponent = highest_bit(np.uint64(latency_ns))
    return min(exponent * 8 + ((latency_ns >> (exponent - 3)) & 7), LATENCY_BUCKETS - 1)


@compiled
def _age_bucket(volume: Record, age: int) -> int:
    bucket = highest_bit(np.uint64(age + 1)) - volume.age_shift
    return min(max(bucket, np.int64(0)), np.int64(AGE_BUCKETS - 1))


@compiled
def _write_dirty_nodes(volume: Record) -> None:
    for node in range(volume.block_count, volume.block_count + volume.node_count):
        if dirty_pages(volume)[node]:
            dirty_pages(volume)[node] = 0
            volume.f2fs.node_writes += 1
            rewrite(volume, node, volume.f2fs.node_log)
    volume.f2fs.dirty_nodes = 0
