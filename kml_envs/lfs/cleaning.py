"""Cleaning a section: its valid blocks are relocated, and it is released. All functions work on one VOLUME record."""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled, lowest_bit, prefetch_to_write
from kml_envs.lfs.config import Placement
from kml_envs.lfs.f2fs import note_block_moved
from kml_envs.lfs.placement import note_collected, relocation_log
from kml_envs.lfs.sections import close_run, leave_index, next_slot, note_checkpointed, release
from kml_envs.lfs.timeline import NONE
from kml_envs.lfs.volume import (
    SegmentState,
    block_shift,
    blocks,
    owners,
    section_states,
    section_valid,
    sections,
    segments,
    segments_per_section,
    slots_per_section,
    valid_map,
)


@compiled
def is_critical(volume: Record) -> bool:
    """Whether free sections are at the reserve: emergency, only the built-in algorithm acts."""
    return volume.free_sections <= volume.settings.reserve_sections


@compiled
def clean(volume: Record, victim: int) -> bool:
    """Relocate the valid blocks of a section and free it.

    Args:
        volume: The VOLUME record.
        victim: A sealed section, or -1.

    Returns:
        Whether there was a victim.
    """
    volume.pending = 0
    volume.victim = victim
    if victim < 0:
        return False
    slots = slots_per_section(volume)
    valid = np.int64(section_valid(volume)[victim])
    _begin(volume, victim)
    _relocate(volume, victim * slots, (victim + 1) * slots, np.int64(sections(volume)[victim].log))
    volume.f2fs.freed += 1
    for segment in range(victim * segments_per_section(volume), (victim + 1) * segments_per_section(volume)):
        note_checkpointed(volume, segment)
        segments(volume)[segment].valid = 0
    section_valid(volume)[victim] = 0
    _account(volume, valid, volume.source.arrival_ns)
    _finish(volume, victim)
    return True


@compiled
def clean_partly(volume: Record, victim: int, quota: int, begin_ns: int) -> None:
    """Relocate some valid blocks of a section, and free it when none is left.

    The section stays in state CLEANING in between; the user may overwrite blocks of it meanwhile.

    Args:
        volume: The VOLUME record.
        victim: A sealed section, or `timeline.victim`, the one that has been cleaned in part: it goes first.
        quota: Most blocks to move.
        begin_ns: When the operation begins, if the device is free.
    """
    timeline = volume.timeline
    slots, per_segment = slots_per_section(volume), np.int64(1) << block_shift(volume)
    volume.victim = victim
    if timeline.victim != victim:
        _begin(volume, victim)
        timeline.victim = victim
        timeline.cursor = victim * slots
    moved = np.int64(0)
    while section_valid(volume)[victim] > 0 and moved < quota:
        number = np.int64(timeline.cursor) >> block_shift(volume)
        end, taken = _next_live(volume, np.int64(timeline.cursor), (number + 1) * per_segment, quota - moved)
        segment = segments(volume)[number]
        note_checkpointed(volume, number)
        _relocate(volume, np.int64(timeline.cursor), end, np.int64(sections(volume)[victim].log))
        segment.valid -= taken
        section_valid(volume)[victim] -= taken
        moved += taken
        timeline.cursor = end
    _account(volume, moved, begin_ns)
    finish_if_empty(volume)


@compiled
def finish_if_empty(volume: Record) -> None:
    """Free the section that has been cleaned in part, if there is one and no block in it is valid any more."""
    timeline = volume.timeline
    if timeline.victim >= 0:
        if section_valid(volume)[timeline.victim] == 0:
            _finish(volume, timeline.victim)
            timeline.victim = NONE


@compiled
def _begin(volume: Record, victim: int) -> None:
    leave_index(volume, victim)
    section_states(volume)[victim] = SegmentState.CLEANING
    if volume.settings.placement == Placement.SEPBIT:
        record = sections(volume)[victim]
        note_collected(volume, record.log, volume.user_writes - record.opened_at)


@compiled
def _finish(volume: Record, victim: int) -> None:
    volume.cleanings += 1
    release(volume, victim)
    volume.cleaning_ns += volume.settings.erase_ns
    volume.cleaning_until_ns += volume.settings.erase_ns
    volume.busy_until_ns = max(volume.busy_until_ns, volume.cleaning_until_ns)


@compiled
def _account(volume: Record, moved: int, begin_ns: int) -> None:
    settings = volume.settings
    volume.moved += moved
    volume.written_slots += moved
    spent = moved * (settings.read_ns + settings.write_ns)
    volume.cleaning_ns += spent
    volume.cleaning_until_ns = max(volume.busy_until_ns, begin_ns) + spent
    volume.busy_until_ns = volume.cleaning_until_ns


@compiled
def _next_live(volume: Record, begin: int, end: int, most: int) -> tuple[int, int]:
    # The slot behind at most so many live blocks of the slots begin..end - 1, and how many they are.
    slot, found = begin, np.int64(0)
    while slot < end and found < most:
        found += np.int64((valid_map(volume)[slot >> 6] >> np.uint64(slot & 63)) & np.uint64(1))
        slot += 1
    return slot, found


@compiled
def _relocate(volume: Record, begin: int, end: int, source_log: int) -> None:
    # Blocks that follow each other into the same segment are a run: what is known of it is written down once.
    log, first, slot, limit = np.int64(-1), np.int64(0), np.int64(0), np.int64(0)
    for word in range(begin >> 6, (end + 63) >> 6):
        bits = _take_valid(volume, word, begin, end)
        coming = bits
        while coming != 0:  # on a large volume the maps are far away: let all fetches of a word overlap
            prefetch_to_write(blocks(volume), np.int64(owners(volume)[(word << 6) + lowest_bit(coming)]))
            coming &= coming - np.uint64(1)
        while bits != 0:
            block = np.int64(owners(volume)[(word << 6) + lowest_bit(bits)])
            bits &= bits - np.uint64(1)
            target = _relocation_target(volume, block, source_log)
            if target != log or slot == limit:
                if log >= 0:
                    close_run(volume, log, first, slot)
                log = target
                first = next_slot(volume, log)
                if volume.exhausted:
                    return
                slot, limit = first, ((first >> block_shift(volume)) + 1) << block_shift(volume)
            owners(volume)[slot] = block
            blocks(volume)[block].location = slot
            slot += 1
    if log >= 0:
        close_run(volume, log, first, slot)


@compiled
def _take_valid(volume: Record, word: int, begin: int, end: int) -> Record:
    # The bits of the slots begin..end - 1 in a word of the bitmap of live blocks; they are cleared there.
    bits = valid_map(volume)[word]
    if word == begin >> 6:
        bits &= ~np.uint64(0) << np.uint64(begin & 63)
    if word == end >> 6:
        bits &= ~(~np.uint64(0) << np.uint64(end & 63))
    valid_map(volume)[word] ^= bits
    return bits


@compiled
def _relocation_target(volume: Record, block: int, source_log: int) -> int:
    if volume.node_count == 0:
        return relocation_log(volume, block, source_log)
    log = relocation_log(volume, block, source_log) if block < volume.block_count else np.int64(0)
    return note_block_moved(volume, block, log)
