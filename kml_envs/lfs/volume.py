"""One simulated volume as compiled code sees it: a VOLUME record, and arrays whose addresses the record holds."""

from __future__ import annotations

import enum

import numpy as np

from kml_envs.compiling import Record, array_of, compiled, constant_of
from kml_envs.lfs.f2fs import F2FS
from kml_envs.lfs.nilfs2 import CLEANERD
from kml_envs.lfs.timeline import TIMELINE
from kml_envs.workloads.source import SOURCE

LATENCY_BUCKETS = 512
AGE_BUCKETS = 16
HISTORY = 256


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
        ("drawn_ahead", np.int64),  # how many it has drawn, 0: the volume does not look ahead yet
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
