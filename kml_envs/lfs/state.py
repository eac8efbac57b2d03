"""The state of N simulated volumes as one structure of arrays, instance axis first."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kml_envs.lfs.config import LfsConfig, Placement, Trigger
from kml_envs.lfs.f2fs import NEVER, f2fs_record
from kml_envs.lfs.nilfs2 import cleanerd_record
from kml_envs.lfs.timeline import timeline_record
from kml_envs.lfs.volume import (
    AGE_BUCKETS,
    BLOCK,
    CACHED_BLOCKS,
    HISTORY,
    LATENCY_BUCKETS,
    LOG,
    SECTION,
    SEGMENT,
    SETTINGS,
    VOLUME,
)
from kml_envs.workloads.source import WorkloadTable, start_source

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
    target.volumes["drawn_ahead"][target_row] = 0


def set_source(state: LfsState, row: int, workload: int, seed: int) -> None:
    """Let an instance run a workload of the state's table from a seed (see `start_source`).

    On a volume that has been in use, the workload's time begins when the device is free: its clocks never run back.
    """
    source, begin_ns = start_source(state.table, workload, seed), state.volumes["busy_until_ns"][row]
    source["loop_offset_ns"] += begin_ns
    source["arrival_ns"][source["arrival_ns"] >= 0] += begin_ns
    state.volumes["source"][row] = source[0]
    state.volumes["drawn_ahead"][row] = 0
