"""The state of N simulated volumes as one structure of arrays, instance axis first."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, array_of, compiled, constant_of
from kml_envs.lfs.config import LfsConfig, Placement, Trigger
from kml_envs.lfs.f2fs import F2FS, NEVER, f2fs_record
from kml_envs.lfs.nilfs2 import CLEANERD, cleanerd_record
from kml_envs.lfs.timeline import TIMELINE, timeline_record
from kml_envs.workloads.source import SOURCE, WorkloadTable, start_source


class SegmentState(enum.IntEnum):
    """State of a section."""

    FREE = 0
    CURRENT = 1  # an open log writes to it
    DIRTY = 2  # sealed, some blocks valid and some not: a candidate
    FULL = 3  # sealed, all blocks valid
    PREFREE = 4  # no valid block; free after the next checkpoint
    CLEANING = 5  # its blocks are being relocated


BLOCK = np.dtype([("location", np.int32), ("written_at", np.uint32)], align=True)
"""A logical block: its slot (-1: never written) and the user write that wrote it, modulo 2**32."""

SEGMENT = np.dtype(
    [
        ("valid", np.int32),  # valid blocks
        ("checkpointed_valid", np.int32),  # valid blocks at the checkpoint `checkpoint`
        ("checkpoint", np.int32),  # number of the last checkpoint before the valid count changed
    ],
    align=True,
)
"""The counts of a segment; its mtime stands in `mtimes`."""

SECTION = np.dtype(
    [
        ("last_invalidation", np.int64),  # user writes
        ("opened_at", np.int64),  # user writes
        ("erases", np.int32),  # times that it was cleaned or emptied
        ("log", np.int8),  # log that wrote it
        ("relocated", np.int8),  # 1: the log holds relocated blocks only
    ],
    align=True,
)
"""What is asked of few sections at a time. What is read of all sections at once has arrays of its own, packed close."""

LOG = np.dtype([("section", np.int64), ("offset", np.int64)], align=True)
"""An open log: the section that it writes to (-1: none) and the next slot in it."""

SETTINGS = np.dtype(
    [
        ("policy", np.int64),
        ("placement", np.int64),
        ("trigger", np.int64),
        ("trigger_sections", np.int64),
        ("reserve_sections", np.int64),
        ("garbage_share", np.float64),
        ("choices", np.int64),
        ("window", np.float64),
        ("protection", np.int64),
        ("max_search", np.int64),
        ("age_clock", np.int64),
        ("mtime_rule", np.int64),
        ("checkpoint_interval", np.int64),
        ("candidate_age", np.int64),  # ATGC age threshold, in units of the age clock
        ("keep_empty", np.int8),  # 1: a section without a live block stays until it is cleaned
        ("user_logs", np.int64),
        ("logs", np.int64),
        ("age_threshold", np.int64, (6,)),  # user writes
        ("thresholds", np.int64),
        ("interval_gain", np.float64),  # UPDATE_INTERVAL: weight of a block's newest interval
        ("user_interval_scale", np.float64),  # what a user write's interval is multiplied by before it is classed
        ("age_weight", np.float64),  # how much of its age a relocated block's interval is lengthened by
        ("score", np.float64, (8,)),  # weights of the SCORE policy
        ("write_ns", np.int64),
        ("read_ns", np.int64),
        ("erase_ns", np.int64),
        ("checkpoint_ns", np.int64),
    ],
    align=True,
)

LOOK_AHEAD = 16  # user writes
CACHED_BLOCKS = 1 << 16  # a volume of so many logical blocks, 3/4 MiB of maps, fits into a processor's own cache

VOLUME = np.dtype(
    [
        ("settings", SETTINGS),
        ("source", SOURCE),
        ("ahead", SOURCE),  # a copy that runs ahead of the source, see look_ahead.py
        ("upcoming", np.int64, (LOOK_AHEAD,)),  # ring of the blocks that it drew last
        ("drawn_ahead", np.int64),  # how many it has drawn
        ("looks_ahead", np.int8),  # 1: the volume is too large for a cache
        ("f2fs", F2FS),
        ("cleanerd", CLEANERD),
        ("timeline", TIMELINE),
        ("random", np.uint64),  # SplitMix64 state of random victim selection
        # sizes
        ("block_count", np.int64),  # logical blocks
        ("node_count", np.int64),  # node blocks, numbered behind the logical blocks; F2FS's rules only
        ("segment_count", np.int64),
        ("section_count", np.int64),
        ("slots_per_section", np.int64),
        ("segments_per_section", np.int64),
        ("block_shift", np.int64),  # log2 of blocks per segment
        ("log_count", np.int64),
        ("index_rows", np.int64),
        ("word_count", np.int64),
        ("group_count", np.int64),
        ("age_shift", np.int64),  # log2 of the age that falls into the first bucket of `overwrite_ages`
        ("knows_deaths", np.int8),  # `deaths` is there
        ("keeps_intervals", np.int8),  # `intervals` is there
        # addresses of this instance's arrays in LfsState, of the same names
        ("blocks", np.uint64),
        ("owners", np.uint64),
        ("valid_map", np.uint64),
        ("segments", np.uint64),
        ("mtimes", np.uint64),
        ("sections", np.uint64),
        ("section_states", np.uint64),
        ("section_valid", np.uint64),
        ("sealed_at", np.uint64),
        ("logs", np.uint64),
        ("index", np.uint64),
        ("index_summary", np.uint64),
        ("population", np.uint64),
        ("overwrite_ages", np.uint64),
        ("overwrite_intervals", np.uint64),
        ("latencies", np.uint64),
        ("deaths", np.uint64),
        ("rates", np.uint64),
        ("intervals", np.uint64),
        ("history", np.uint64),
        ("dirty_pages", np.uint64),
        ("batch", np.uint64),
        # what observations call recent: the last quarter volume before the mark
        ("mark_writes", np.int64),  # counters at the mark
        ("mark_moved", np.int64),
        ("mark_cleanings", np.int64),
        ("recent_moved", np.float64),  # blocks moved per user write
        ("recent_victim", np.float64),  # valid share of the victims
        ("marks", np.int64),  # marks so far
        ("age_products", np.int64),  # sum of age bucket times interval bucket over the overwritten blocks
        # counters and state
        ("user_writes", np.int64),  # user blocks written, fill included
        ("moved", np.int64),  # blocks relocated by cleaning
        ("cleanings", np.int64),  # sections cleaned
        ("emptied", np.int64),  # sections that lost their last block without cleaning
        ("checkpoints", np.int64),
        ("last_checkpoint", np.int64),  # user writes
        ("clock", np.int64),  # now, in units of the age clock
        ("newest_mtime", np.int64),  # running maximum
        ("written_slots", np.int64),  # slots of sections that are not free, up to each log's position
        ("valid_blocks", np.int64),
        ("free_sections", np.int64),
        ("minimum_free", np.int64),  # fewest free sections seen
        ("scan_start", np.int64),  # last_victim: where the next scan begins
        ("victim", np.int64),  # section cleaned last, -1: none
        ("suggestion", np.int64),  # pending decision: the section that the built-in policy takes
        ("pending", np.int8),  # a cleaning decision is waiting
        ("exhausted", np.int8),  # a log found no free section
        ("busy_until_ns", np.int64),  # the device is free from here on
        ("completed_ns", np.int64),  # the last user write was done
        ("cleaning_until_ns", np.int64),  # the last cleaning ends here
        ("user_ns", np.int64),  # device time of user writes
        ("cleaning_ns", np.int64),  # device time of cleaning
        ("stalls", np.int64),  # user writes that waited for cleaning
        ("stall_ns", np.int64),
        ("lifetime_sum", np.int64),  # SepBIT: lifetimes of collected class-0 sections
        ("lifetime_count", np.int64),
        ("lifetime_threshold", np.float64),  # SepBIT: mean of the last full sixteen; infinite at first
    ],
    align=True,
)

ARRAYS = (
    "blocks",
    "owners",
    "valid_map",
    "segments",
    "mtimes",
    "sections",
    "section_states",
    "section_valid",
    "sealed_at",
    "logs",
    "index",
    "index_summary",
    "population",
    "overwrite_ages",
    "overwrite_intervals",
    "latencies",
    "deaths",
    "rates",
    "intervals",
    "history",
    "dirty_pages",
    "batch",
)
LATENCY_BUCKETS = 512
AGE_BUCKETS = 16
HISTORY = 256


class LfsState(NamedTuple):
    """N volumes. S segments, C sections of B blocks, P logical blocks, L logs, R = B + 3 index rows.

    Compiled functions get one VOLUME record, which holds the addresses of its rows of the other arrays.
    """

    volumes: NDArray[np.void]  # (N,) VOLUME
    blocks: NDArray[np.void]  # (N, P) BLOCK
    owners: NDArray[np.int32]  # (N, S * blocks per segment) logical block last written to each slot
    valid_map: NDArray[np.uint64]  # (N, ceil(S * blocks per segment / 64)) bitmap of slots with a live block
    segments: NDArray[np.void]  # (N, S) SEGMENT
    mtimes: NDArray[np.int64]  # (N, S) modification times of the segments in units of the age clock, see MtimeRule
    sections: NDArray[np.void]  # (N, C) SECTION
    section_states: NDArray[np.int8]  # (N, C) SegmentState
    section_valid: NDArray[np.int32]  # (N, C) valid blocks of the section
    sealed_at: NDArray[np.int64]  # (N, C) when the section was sealed, in units of the age clock
    logs: NDArray[np.void]  # (N, L) LOG
    index: NDArray[np.uint64]  # (N, ceil(C / 64), R) bitmaps of sections, see section_index.py
    index_summary: NDArray[np.uint64]  # (N, R, ceil(C / 4096)) bitmap of the non-empty words of `index`
    population: NDArray[np.int32]  # (N, R) sections in each row
    overwrite_ages: NDArray[np.int64]  # (N, AGE_BUCKETS) overwritten blocks by log2 of their age in user writes
    overwrite_intervals: NDArray[np.int64]  # (N, AGE_BUCKETS) the same by the update interval that was expected
    latencies: NDArray[np.int64]  # (N, LATENCY_BUCKETS) user writes by latency
    deaths: NDArray[np.int64]  # (N, P) or (N, 0): user write that will overwrite the block (clairvoyant only)
    rates: NDArray[np.float64]  # (N, P) or (N, 0): write probability of the block (informed only)
    intervals: NDArray[np.float32]  # (N, P) or (N, 0): smoothed update interval of the block in user writes
    history: NDArray[np.float64]  # (N, HISTORY) ring: blocks moved per user write between two marks
    dirty_pages: NDArray[np.uint8]  # (N, P + node blocks) or (N, 0): see f2fs.py, as the next
    batch: NDArray[np.int32]  # (N, blocks of a write-back) or (N, 0)
    table: WorkloadTable  # kept alive for the sources


def allocate(
    config: LfsConfig, table: WorkloadTable, instances: int, *, foresight: bool = False, rates: bool = False
) -> LfsState:
    """Allocate unformatted volumes; `simulator.format_volume` makes them usable.

    Args:
        config: Sizes of every instance, and the settings that they start with.
        table: The workloads that the instances may run, bound to the volume size of `config`.
        instances: N.
        foresight: Allocate the death times that the clairvoyant oracle reads.
        rates: Allocate the write probabilities that the informed oracle reads.

    Returns:
        The state, all zero but for settings, sizes and addresses.
    """
    geometry = config.geometry
    words = -(-geometry.sections // 64)
    rows = geometry.blocks_per_section + 3
    nodes = config.node_blocks
    paged = geometry.volume_blocks + nodes if nodes else 0
    logs = config.placement.logs + (nodes > 0)
    state = LfsState(
        volumes=np.zeros(instances, VOLUME),
        blocks=np.zeros((instances, geometry.volume_blocks + nodes), BLOCK),
        owners=np.zeros((instances, geometry.physical_blocks), np.int32),
        valid_map=np.zeros((instances, -(-geometry.physical_blocks // 64)), np.uint64),
        segments=np.zeros((instances, geometry.segments), SEGMENT),
        mtimes=np.zeros((instances, geometry.segments), np.int64),
        sections=np.zeros((instances, geometry.sections), SECTION),
        section_states=np.zeros((instances, geometry.sections), np.int8),
        section_valid=np.zeros((instances, geometry.sections), np.int32),
        sealed_at=np.zeros((instances, geometry.sections), np.int64),
        logs=np.zeros((instances, logs), LOG),
        index=np.zeros((instances, words, rows), np.uint64),
        index_summary=np.zeros((instances, rows, -(-words // 64)), np.uint64),
        population=np.zeros((instances, rows), np.int32),
        overwrite_ages=np.zeros((instances, AGE_BUCKETS), np.int64),
        overwrite_intervals=np.zeros((instances, AGE_BUCKETS), np.int64),
        latencies=np.zeros((instances, LATENCY_BUCKETS), np.int64),
        deaths=np.zeros((instances, geometry.volume_blocks if foresight else 0), np.int64),
        rates=np.zeros((instances, geometry.volume_blocks if rates else 0), np.float64),
        intervals=np.zeros((instances, geometry.volume_blocks if config.placement.keeps_intervals else 0), np.float32),
        history=np.zeros((instances, HISTORY), np.float64),
        dirty_pages=np.zeros((instances, paged), np.uint8),
        batch=np.zeros((instances, config.f2fs.writeback_batch if nodes else 0), np.int32),
        table=table,
    )
    sizes = {
        "settings": settings_record(config),
        "f2fs": f2fs_record(config),
        "cleanerd": cleanerd_record(config),
        "timeline": timeline_record(config),
        "block_count": geometry.volume_blocks,
        "node_count": nodes,
        "segment_count": geometry.segments,
        "section_count": geometry.sections,
        "slots_per_section": geometry.blocks_per_section,
        "segments_per_section": geometry.segments_per_section,
        "block_shift": geometry.blocks_per_segment.bit_length() - 1,
        "log_count": logs,
        "index_rows": rows,
        "word_count": words,
        "group_count": -(-words // 64),
        "age_shift": max(0, geometry.volume_blocks.bit_length() - AGE_BUCKETS + 4),
        "knows_deaths": foresight,
        "keeps_intervals": config.placement.keeps_intervals,
        "looks_ahead": geometry.volume_blocks > CACHED_BLOCKS,
    }
    for name, value in sizes.items():
        state.volumes[name] = value
    for name in ARRAYS:
        array = getattr(state, name)
        state.volumes[name] = array.ctypes.data + np.arange(instances, dtype=np.uint64) * np.uint64(array.strides[0])
    return state


def settings_record(config: LfsConfig) -> NDArray[np.void]:
    """Lay a configuration out as a SETTINGS record, shape ()."""
    cleaning, placement, latency = config.cleaning, config.placement, config.latency
    record = np.zeros((), SETTINGS)
    values: dict[str, Any] = {
        "policy": cleaning.policy,
        "placement": placement.rule,
        "trigger": cleaning.trigger,
        "trigger_sections": config.trigger_sections,
        "reserve_sections": config.reserve_sections,
        "garbage_share": cleaning.garbage_share,
        "choices": cleaning.choices,
        "window": cleaning.window,
        "protection": cleaning.protection,
        "max_search": cleaning.max_search,
        "age_clock": cleaning.age_clock,
        "mtime_rule": cleaning.mtime_rule,
        "checkpoint_interval": cleaning.checkpoint_interval or (NEVER if cleaning.trigger is Trigger.F2FS else 0),
        "keep_empty": cleaning.trigger in (Trigger.GARBAGE_SHARE, Trigger.CLEANERD),
        "candidate_age": cleaning.candidate_age,
        "user_logs": placement.user_logs,
        "logs": placement.logs,
        "thresholds": len(placement.age_thresholds),
        "interval_gain": placement.interval_gain,
        "user_interval_scale": 1.0,
        "age_weight": 0.25,
        "write_ns": latency.write_ns,
        "read_ns": latency.read_ns,
        "erase_ns": latency.erase_ns,
        "checkpoint_ns": latency.checkpoint_ns,
    }
    for name, value in values.items():
        record[name] = value
    ages = placement.age_thresholds
    if placement.rule is Placement.TEMPERATURE:
        ages = (placement.hot_age, placement.warm_age)
    record["age_threshold"][: len(ages)] = np.floor(np.array(ages) * config.geometry.volume_blocks)
    return record


def copy_row(source: LfsState, source_row: int, target: LfsState, target_row: int) -> None:
    """Copy one instance over another of the same configuration: how snapshots are restored and shadows begin."""
    for name in ARRAYS:
        getattr(target, name)[target_row] = getattr(source, name)[source_row]
    addresses = target.volumes[list(ARRAYS)][target_row].copy()
    target.volumes[target_row] = source.volumes[source_row]
    for name in ARRAYS:
        target.volumes[name][target_row] = addresses[name]


def set_source(state: LfsState, row: int, workload: int, seed: int) -> None:
    """Let an instance run a workload of the state's table from a seed (see `start_source`).

    On a volume that has been in use, the workload's time begins when the device is free: its clocks never run back.
    """
    source, begin_ns = start_source(state.table, workload, seed), state.volumes["busy_until_ns"][row]
    source["loop_offset_ns"] += begin_ns
    source["arrival_ns"][source["arrival_ns"] >= 0] += begin_ns
    state.volumes["source"][row] = source[0]


blocks = array_of("blocks", BLOCK)
"""The BLOCK records of a volume, (P,)."""

owners = array_of("owners", np.int32)
"""Logical block last written to each slot, (S * blocks per segment,) int32."""

valid_map = array_of("valid_map", np.uint64)
"""Bitmap of the slots that hold a live block, (ceil(S * blocks per segment / 64),) uint64."""

segments = array_of("segments", SEGMENT)
"""The SEGMENT records of a volume, (S,)."""

mtimes = array_of("mtimes", np.int64)
"""Modification times of the segments, (S,) int64 in units of the age clock."""

sections = array_of("sections", SECTION)
"""The SECTION records of a volume, (C,)."""

section_states = array_of("section_states", np.int8)
"""SegmentState of the sections, (C,) int8."""

section_valid = array_of("section_valid", np.int32)
"""Valid blocks of the sections, (C,) int32."""

sealed_at = array_of("sealed_at", np.int64)
"""When the sections were sealed, (C,) int64 in units of the age clock."""

logs = array_of("logs", LOG)
"""The LOG records of a volume, (L,)."""

index_words = array_of("index", np.uint64)
"""Bitmaps of the section index, (words * R,) uint64: see section_index.py."""

index_summary = array_of("index_summary", np.uint64)
"""Second level of the section index, (R * groups,) uint64."""

population = array_of("population", np.int32)
"""Sections in each row of the section index, (R,) int32."""

overwrite_ages = array_of("overwrite_ages", np.int64, AGE_BUCKETS)
"""Overwritten blocks by age, (AGE_BUCKETS,) int64."""

overwrite_intervals = array_of("overwrite_intervals", np.int64, AGE_BUCKETS)
"""Overwritten blocks by the update interval that was expected of them, (AGE_BUCKETS,) int64."""

latencies = array_of("latencies", np.int64, LATENCY_BUCKETS)
"""User writes by latency, (LATENCY_BUCKETS,) int64."""

deaths = array_of("deaths", np.int64)
"""User write that will overwrite each block, (P,) int64; only where `knows_deaths`."""

rates = array_of("rates", np.float64)
"""Write probability of each block, (P,) float64; only under the informed oracle."""

intervals = array_of("intervals", np.float32)
"""Smoothed update interval of each block in user writes, (P,) float32; only where `keeps_intervals`."""

index_rows = constant_of("index_rows")
"""Rows of the section index."""

history = array_of("history", np.float64)
"""Blocks moved per user write between two marks, (HISTORY,) float64 ring."""

group_count = constant_of("group_count")
"""Words of a row of the index summary."""

slots_per_section = constant_of("slots_per_section")
"""Slots of a section."""

segments_per_section = constant_of("segments_per_section")
"""Segments of a section."""

block_shift = constant_of("block_shift")
"""log2 of blocks per segment."""


@compiled
def dirty_row(volume: Record) -> int:
    """Row of the section index that holds all dirty sections."""
    return index_rows(volume) - 2


@compiled
def free_row(volume: Record) -> int:
    """Row of the section index that holds the free sections."""
    return index_rows(volume) - 1


@compiled
def prefree_row(volume: Record) -> int:
    """Row of the section index that holds the prefree sections (a full section is in no row of a valid count)."""
    return index_rows(volume) - 3
