"""Fetching what the coming user writes will touch, so that a large volume does not wait for memory at every block.

A copy of the workload's source runs ahead of it. For each block that it draws, the block's record is asked for first
and, when that has come, the segment and the bitmap word of its old copy. A large volume does so as it goes; so do those
of a batch of small ones, each of which has left the cache when its turn comes again, and besides they fetch for the
volumes whose turn is next. Nothing here changes what a volume does.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import CACHE_LINE_BYTES, Record, compiled, prefetch_record, prefetch_to_write
from kml_envs.lfs.section_index import fewest_valid, first_section_around
from kml_envs.lfs.volume import (
    LOOK_AHEAD,
    block_shift,
    blocks,
    dirty_row,
    group_count,
    index_rows,
    index_summary,
    index_words,
    logs,
    owners,
    population,
    section_states,
    section_valid,
    sections,
    segments,
    segments_per_section,
    slots_per_section,
    valid_map,
)
from kml_envs.workloads.source import next_block

_OWNERS_PER_LINE = CACHE_LINE_BYTES // 4
_WORDS_PER_LINE = CACHE_LINE_BYTES // 8


@compiled
def begin_look_ahead(volume: Record) -> None:
    """Let the copy of the source run ahead from where the source is now, unless it does already."""
    if volume.drawn_ahead > 0 or volume.source.phase_count == 0:  # a volume may be filled before it has a workload
        return
    volume.ahead = volume.source
    for _ in range(LOOK_AHEAD):
        _draw_ahead(volume)


@compiled
def next_write(volume: Record) -> int:
    """Draw the block of the next user write from the volume's source; its copy, where it runs ahead, does so further.

    The record of one more block is asked for, and the segment of one whose record should have come.
    """
    block = next_block(volume.source)
    if volume.drawn_ahead > 0:
        _draw_ahead(volume)
        _fetch_old_copy(volume, volume.upcoming[(volume.drawn_ahead + LOOK_AHEAD // 2) % LOOK_AHEAD])
    return block


@compiled
def fetch_ahead(volumes: Record, row: int, victims: Record, rows: Record) -> None:
    """Fetch what the rows behind `row` will touch, a step further for each of them: call it for every row in turn.

    First the record is asked for, then the index and the records of the coming writes, then their old copies and the
    victim's owners, at last the blocks that will be relocated.

    Args:
        volumes: (N,) VOLUME.
        row: The row whose turn it is.
        victims: (N,) int32, section that each row is about to clean. -1: not known; a guess replaces it.
        rows: (N,) bool, the rows that have a turn.
    """
    if row + 4 < volumes.size and rows[row + 4]:
        prefetch_record(volumes, row + 4)
    if row + 3 < volumes.size and rows[row + 3]:
        volume = volumes[row + 3]
        _fetch_index(volume)
        begin_look_ahead(volume)
        for block in volume.upcoming:
            prefetch_to_write(blocks(volume), block)
    if row + 2 < volumes.size and rows[row + 2]:
        volume = volumes[row + 2]
        for block in volume.upcoming:
            _fetch_old_copy(volume, block)
        if victims[row + 2] < 0 and population(volume)[dirty_row(volume)] > 0:
            victims[row + 2] = first_section_around(volume, fewest_valid(volume), volume.scan_start)
        if victims[row + 2] >= 0:
            _fetch_section(volume, np.int64(victims[row + 2]))
    if row + 1 < volumes.size and rows[row + 1] and victims[row + 1] >= 0:
        _fetch_valid_blocks(volumes[row + 1], np.int64(victims[row + 1]))


@compiled
def _fetch_index(volume: Record) -> None:
    rows = index_rows(volume)
    for row in range(0, volume.word_count * rows, _WORDS_PER_LINE):
        prefetch_to_write(index_words(volume), row)
    for row in range(0, rows * group_count(volume), _WORDS_PER_LINE):
        prefetch_to_write(index_summary(volume), row)
    for row in range(0, rows, 2 * _WORDS_PER_LINE):
        prefetch_to_write(population(volume), row)
    prefetch_to_write(logs(volume), np.int64(0))


@compiled
def _fetch_old_copy(volume: Record, block: int) -> None:
    location = np.int64(blocks(volume)[block].location)
    if location >= 0:
        segment = location >> block_shift(volume)
        section = segment
        if segments_per_section(volume) > 1:
            section = segment // segments_per_section(volume)
        prefetch_to_write(segments(volume), segment)
        prefetch_to_write(sections(volume), section)
        prefetch_to_write(section_states(volume), section)
        prefetch_to_write(section_valid(volume), section)
        prefetch_to_write(valid_map(volume), location >> 6)


@compiled
def _fetch_section(volume: Record, section: int) -> None:
    slots = slots_per_section(volume)
    prefetch_to_write(segments(volume), section * segments_per_section(volume))
    prefetch_to_write(sections(volume), section)
    for slot in range(section * slots, (section + 1) * slots, _OWNERS_PER_LINE):
        prefetch_to_write(owners(volume), slot)
    prefetch_to_write(valid_map(volume), (section * slots) >> 6)


@compiled
def _fetch_valid_blocks(volume: Record, section: int) -> None:
    slots = slots_per_section(volume)
    for slot in range(section * slots, (section + 1) * slots):
        if (valid_map(volume)[slot >> 6] >> np.uint64(slot & 63)) & np.uint64(1):
            prefetch_to_write(blocks(volume), np.int64(owners(volume)[slot]))


@compiled
def _draw_ahead(volume: Record) -> None:
    block = next_block(volume.ahead)
    prefetch_to_write(blocks(volume), block)
    volume.upcoming[volume.drawn_ahead % LOOK_AHEAD] = block
    volume.drawn_ahead += 1
