"""The life of a section: opened by a log, written, sealed, dirty as its blocks are overwritten, released, free again.

Every change of a section's state or valid count passes here, so that counts, bitmaps and index agree. All functions
work on one instance, a VOLUME record.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.config import MtimeRule
from kml_envs.lfs.section_index import add_section, first_section, remove_section
from kml_envs.lfs.volume import (
    SegmentState,
    block_shift,
    blocks,
    dirty_row,
    free_row,
    logs,
    mtimes,
    owners,
    prefree_row,
    sealed_at,
    section_states,
    section_valid,
    sections,
    segments,
    segments_per_section,
    slots_per_section,
    valid_map,
)


@compiled
def open_section(volume: Record, log_number: int) -> None:
    """Let a log begin to write to the first free section; without one, the volume is exhausted."""
    section = first_section(volume, free_row(volume), 0)
    if section < 0:
        volume.exhausted = 1
        return
    remove_section(volume, free_row(volume), section)
    volume.free_sections -= 1
    volume.minimum_free = min(volume.minimum_free, volume.free_sections)
    log = logs(volume)[log_number]
    log.section = section
    log.offset = 0
    section_states(volume)[section] = SegmentState.CURRENT
    record = sections(volume)[section]
    record.log = log_number
    record.relocated = volume.settings.user_logs <= log_number < volume.settings.logs
    record.opened_at = volume.user_writes
    record.last_invalidation = volume.user_writes


@compiled
def next_slot(volume: Record, log_number: int) -> int:
    """The slot that a log writes next, in a new section where the log has none."""
    log = logs(volume)[log_number]
    if log.section < 0:
        open_section(volume, log_number)
    return log.section * slots_per_section(volume) + log.offset


@compiled
def append(volume: Record, block: int, log_number: int) -> None:
    """Write a block to the next slot of a log."""
    slot = next_slot(volume, log_number)
    if volume.exhausted:
        return
    owners(volume)[slot] = block
    blocks(volume)[block].location = slot
    close_run(volume, log_number, slot, slot + 1)


@compiled
def close_run(volume: Record, log_number: int, begin: int, end: int) -> None:
    """Note that a log has written the slots begin..end - 1 of one segment: its counts, bitmap and mtime follow."""
    log = logs(volume)[log_number]
    number = begin >> block_shift(volume)
    segment = segments(volume)[number]
    note_checkpointed(volume, number)
    if volume.settings.mtime_rule == MtimeRule.LAST_WRITE:
        mtimes(volume)[number] = volume.clock
    else:
        for added in range(end - begin):
            valid = segment.valid + added
            mtimes(volume)[number] = (mtimes(volume)[number] * valid + volume.clock) // (valid + 1)
    volume.newest_mtime = max(volume.newest_mtime, volume.clock)
    segment.valid += end - begin
    section_valid(volume)[log.section] += end - begin
    _mark_valid(volume, begin, end)
    log.offset += end - begin
    if log.offset == slots_per_section(volume):
        seal_section(volume, log.section)
        log.section = -1
        if volume.node_count > 0:  # F2FS opens the next segment at once (f2fs_allocate_data_block)
            open_section(volume, log_number)


@compiled
def seal_section(volume: Record, section: int) -> None:
    """Close a section for writing: from now on it is full, dirty, or released where no block in it is valid."""
    sealed_at(volume)[section] = volume.clock
    valid = section_valid(volume)[section]
    if valid == volume.slots_per_section:
        section_states(volume)[section] = SegmentState.FULL
    elif valid == 0 and volume.settings.keep_empty == 0:
        volume.emptied += 1
        release(volume, section)
    else:
        _become_dirty(volume, section)


@compiled
def close_log(volume: Record, log_number: int) -> None:
    """Seal the section that a log writes to before it is full: what is left of it is garbage until it is cleaned."""
    log = logs(volume)[log_number]
    if log.section >= 0:
        volume.written_slots += slots_per_section(volume) - log.offset
        seal_section(volume, log.section)
        log.section = -1


@compiled
def invalidate(volume: Record, slot: int) -> None:
    """Note that the block in a slot is overwritten; a section that loses its last block is released."""
    number = slot >> block_shift(volume)
    segment = segments(volume)[number]
    section = number
    if segments_per_section(volume) > 1:
        section = number // segments_per_section(volume)
    valid_map(volume)[slot >> 6] &= ~(np.uint64(1) << np.uint64(slot & 63))
    note_checkpointed(volume, number)
    if volume.settings.mtime_rule == MtimeRule.WEIGHTED_MEAN:
        mtimes(volume)[number] = (mtimes(volume)[number] * segment.valid + volume.clock) // (segment.valid + 1)
        volume.newest_mtime = max(volume.newest_mtime, volume.clock)
    segment.valid -= 1
    left = np.int64(section_valid(volume)[section] - 1)
    section_valid(volume)[section] = left
    sections(volume)[section].last_invalidation = volume.user_writes
    if section_states(volume)[section] == SegmentState.DIRTY:
        remove_section(volume, left + 1, section)
        if left == 0 and volume.settings.keep_empty == 0:
            remove_section(volume, dirty_row(volume), section)
            volume.emptied += 1
            release(volume, section)
        else:
            add_section(volume, left, section)
    elif section_states(volume)[section] == SegmentState.FULL:
        _become_dirty(volume, section)


@compiled
def leave_index(volume: Record, section: int) -> None:
    """Take a section out of the candidates, where it is one."""
    if section_states(volume)[section] == SegmentState.DIRTY:
        remove_section(volume, np.int64(section_valid(volume)[section]), section)
        remove_section(volume, dirty_row(volume), section)


@compiled
def release(volume: Record, section: int) -> None:
    """Give a section without live blocks back: free at once, or after the next checkpoint."""
    sections(volume)[section].erases += 1
    if volume.settings.checkpoint_interval > 0:
        section_states(volume)[section] = SegmentState.PREFREE
        add_section(volume, prefree_row(volume), section)
    else:
        make_free(volume, section)


@compiled
def make_free(volume: Record, section: int) -> None:
    """Make a section free for logs to open."""
    section_states(volume)[section] = SegmentState.FREE
    add_section(volume, free_row(volume), section)
    volume.free_sections += 1
    volume.written_slots -= volume.slots_per_section


@compiled
def note_checkpointed(volume: Record, segment: int) -> None:
    """Keep a segment's valid count at the last checkpoint: lazily, before it changes for the first time after it."""
    record = segments(volume)[segment]
    current = volume.checkpoints + 1
    if record.checkpoint != current:
        record.checkpoint = current
        record.checkpointed_valid = record.valid


@compiled
def checkpointed_valid(volume: Record, segment: int) -> int:
    """Valid blocks of a segment at the last checkpoint; F2FS's ckpt_valid_blocks."""
    record = segments(volume)[segment]
    if record.checkpoint == volume.checkpoints + 1:
        return record.checkpointed_valid
    return record.valid


@compiled
def _become_dirty(volume: Record, section: int) -> None:
    section_states(volume)[section] = SegmentState.DIRTY
    add_section(volume, np.int64(section_valid(volume)[section]), section)
    add_section(volume, dirty_row(volume), section)


@compiled
def _mark_valid(volume: Record, begin: int, end: int) -> None:
    while begin < end:
        upto = min(end, ((begin >> 6) + 1) << 6)
        ones = ~np.uint64(0) >> np.uint64(64 - (upto - begin))
        valid_map(volume)[begin >> 6] |= ones << np.uint64(begin & 63)
        begin = upto
