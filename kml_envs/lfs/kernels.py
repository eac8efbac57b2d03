"""Volumes under a real kernel's rules of when: F2FS's page cache and cleaning, and NILFS2's cleaner daemon.

`f2fs.py` and `nilfs2.py` hold the rules, which only decide; here the volume follows them. All functions work on one
VOLUME record.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.cleaning import clean, is_critical
from kml_envs.lfs.config import AgeClock, CleaningPolicy, Trigger
from kml_envs.lfs.f2fs import (
    ACTIVE_LOGS,
    NEVER,
    background_done,
    background_wakes,
    batch,
    checkpoint_due,
    dirty_pages,
    has_enough_invalid,
    is_idle,
    is_short,
    note_block_placed,
    note_page_written_by_user,
    policy_of,
    sort_batch,
)
from kml_envs.lfs.look_ahead import next_write
from kml_envs.lfs.nilfs2 import (
    importance,
    is_deferred,
    is_eligible,
    look,
    sleep_after,
    sleep_without_victims,
    step_size,
)
from kml_envs.lfs.placement import user_log
from kml_envs.lfs.policies import select_victim
from kml_envs.lfs.section_index import first_section, remove_section
from kml_envs.lfs.sections import open_section
from kml_envs.lfs.volume import (
    SegmentState,
    blocks,
    free_row,
    logs,
    population,
    prefree_row,
    sealed_at,
    section_states,
    section_valid,
    segments_per_section,
    slots_per_section,
)
from kml_envs.lfs.writing import (
    NANOSECONDS,
    account_time,
    note_interval,
    note_overwrite,
    rewrite,
    set_clock,
    write_block,
    write_checkpoint,
)


@compiled
def kernel_step(volume: Record) -> None:
    """Take one step under a kernel's rules; background cleaning that is due before it comes first.

    Under F2FS's rules a step is a user write into the page cache or one page of the write-back, under NILFS2's a user
    write.
    """
    if volume.f2fs.written_back >= 0:
        _write_back_page(volume)
        return
    source = volume.source
    filling = volume.user_writes < volume.block_count
    block = volume.user_writes if filling else next_write(volume)
    arrival_ns = int(source.arrival_ns)
    if volume.settings.trigger == Trigger.CLEANERD:
        _run_cleanerd_until(volume, arrival_ns)
        write_block(volume, block, arrival_ns)
        return
    _run_f2fs_thread_until(volume, arrival_ns)
    volume.f2fs.request_ns = max(arrival_ns, volume.f2fs.request_ns)
    if filling:
        write_block(volume, block, arrival_ns)
        note_block_placed(volume, block)
        if volume.user_writes == volume.block_count:
            write_checkpoint(volume)
        return
    set_clock(volume, arrival_ns)
    note_page_written_by_user(volume, block)
    volume.user_writes += 1
    account_time(volume, arrival_ns)
    if volume.f2fs.gathered == volume.f2fs.writeback_batch:
        sort_batch(volume)
        volume.f2fs.written_back = 0


@compiled
def f2fs_needs_cleaning(volume: Record) -> bool:
    """Whether F2FS cleans before the next write: f2fs_balance_fs and the loop of f2fs_gc, one victim a time.

    A checkpoint comes first, then another look.
    """
    f2fs = volume.f2fs
    if f2fs.foreground:
        f2fs.foreground = _f2fs_is_short(volume, f2fs.freed)
        return bool(f2fs.foreground == 1)
    if not _f2fs_is_short(volume, np.int64(0)):
        return False
    if population(volume)[prefree_row(volume)] > 0:
        write_checkpoint(volume)
        if not _f2fs_is_short(volume, np.int64(0)):
            return False
    f2fs.foreground = 1
    f2fs.freed = 0
    return True


@compiled
def open_f2fs_logs(volume: Record) -> None:
    """Open the logs of an empty volume in the order of mkfs.f2fs: hot, warm and cold node logs, then the data logs.

    Those that a single file does not write to keep a section each.
    """
    unused = max(ACTIVE_LOGS - volume.log_count, 0)
    for position in range(unused):
        if position == 1:
            open_section(volume, volume.f2fs.node_log)
        section = first_section(volume, free_row(volume), 0)
        remove_section(volume, free_row(volume), section)
        section_states(volume)[section] = SegmentState.CURRENT
        volume.free_sections -= 1
    if unused < 2:
        open_section(volume, volume.f2fs.node_log)
    for log in range(volume.settings.logs):
        open_section(volume, log)


@compiled
def _write_back_page(volume: Record) -> None:
    f2fs = volume.f2fs
    block = np.int64(batch(volume)[f2fs.written_back])
    f2fs.written_back += 1
    if f2fs.written_back == f2fs.gathered:
        f2fs.written_back = -1
        f2fs.gathered = 0
    if dirty_pages(volume)[block] == 0:  # a second write of the same page, or cleaning wrote it
        return
    note_interval(volume, block)
    log = user_log(volume, block, np.int64(blocks(volume)[block].location))
    note_overwrite(volume, block)
    rewrite(volume, block, log)
    note_block_placed(volume, block)


@compiled
def _f2fs_is_short(volume: Record, freed: int) -> bool:
    slots = slots_per_section(volume)
    fullest = 0
    for log in range(volume.settings.logs):
        fullest = max(fullest, int(logs(volume)[log].offset))
    node_space = slots - logs(volume)[volume.f2fs.node_log].offset
    return is_short(volume.f2fs, volume.free_sections + freed, slots, node_space, slots - fullest)


@compiled
def _run_f2fs_thread_until(volume: Record, arrival_ns: int) -> None:
    f2fs = volume.f2fs
    while f2fs.wake_ns <= arrival_ns:
        if volume.settings.age_clock == AgeClock.SECONDS:
            volume.clock = max(volume.clock, f2fs.wake_ns // NANOSECONDS)
        if f2fs_thread_cleans(volume):
            policy = policy_of(f2fs.gc_mode, True, volume.settings.policy == CleaningPolicy.ATGC)
            found = clean(volume, select_victim(volume, policy))
            f2fs.background_cleanings += found
            background_done(f2fs, found)
        prefree = int(population(volume)[prefree_row(volume)]) * segments_per_section(volume)
        if checkpoint_due(f2fs, f2fs.wake_ns, prefree, volume.segment_count):
            write_checkpoint(volume)
            f2fs.checkpoint_ns = f2fs.wake_ns
        f2fs.wake_ns += f2fs.sleep_ns


@compiled
def f2fs_thread_cleans(volume: Record) -> bool:
    """F2FS's background thread wakes at its wake time and decides whether it cleans; its sleep advances."""
    f2fs = volume.f2fs
    now = f2fs.wake_ns
    slots = volume.slots_per_section
    idle = is_idle(f2fs.gc_mode, now < volume.busy_until_ns, now - f2fs.request_ns, f2fs.idle_interval_ns)
    enough = has_enough_invalid(
        (volume.section_count - f2fs.overprovision_sections) * slots,
        volume.valid_blocks,
        volume.free_sections * slots,
        f2fs.overprovision_sections * slots,
    )
    return background_wakes(f2fs, idle, enough)


@compiled
def _run_cleanerd_until(volume: Record, arrival_ns: int) -> None:
    cleanerd = volume.cleanerd
    while cleanerd.wake_ns <= arrival_ns:
        _cleanerd_step(volume)
    # A writer without clean segments gets ENOSPC from NILFS2; here it waits for the daemon, and never for ever.
    patience = 2 * volume.section_count
    while is_critical(volume) and patience > 0:
        patience -= 1
        volume.busy_until_ns = max(volume.busy_until_ns, cleanerd.wake_ns)
        _cleanerd_step(volume)
    if is_critical(volume):
        clean(volume, select_victim(volume, np.int64(CleaningPolicy.GREEDY)))


@compiled
def _cleanerd_step(volume: Record) -> None:
    cleanerd = volume.cleanerd
    clean_segments = int(volume.free_sections)
    if not look(cleanerd, clean_segments, int(volume.clock)):
        cleanerd.wake_ns += cleanerd.idle_ns
        return
    in_seconds = volume.settings.age_clock == AgeClock.SECONDS
    now = int(cleanerd.wake_ns) // NANOSECONDS if in_seconds else int(volume.user_writes)
    selection = np.empty(step_size(cleanerd, clean_segments), np.int64)
    taken = oldest_sections(volume, now, selection)
    if taken == 0 and selection.size > 0 and in_seconds:
        oldest, protection = _oldest_reclaimable(volume, now), int(volume.settings.protection)
        cleanerd.wake_ns += sleep_without_victims(cleanerd, oldest, now, protection)
        return
    live = 0
    for section in selection[:taken]:
        live += section_valid(volume)[section]
    if taken > 0 and is_deferred(cleanerd, clean_segments, taken, taken * slots_per_section(volume) - live):
        # The next look follows at once (no_timeout): what has just been marked as modified is not eligible any more.
        cleanerd.deferred += taken
        for section in selection[:taken]:
            sealed_at(volume)[section] = now
        return
    cleanerd.cleaned += taken
    for section in selection[:taken]:
        clean(volume, section)
    cleanerd.wake_ns += sleep_after(cleanerd, clean_segments, taken, selection.size == 0)


@compiled
def _oldest_reclaimable(volume: Record, now: int) -> int:
    # Of the sealed sections that are older than the user's last write, protected or not; NEVER: there is none.
    oldest = NEVER
    for section in range(volume.section_count):
        state = section_states(volume)[section]
        if state == SegmentState.DIRTY or state == SegmentState.FULL:
            modified = int(sealed_at(volume)[section])
            if importance(modified, volume.clock, now) < volume.clock:
                oldest = min(oldest, modified)
    return oldest


@compiled
def oldest_sections(volume: Record, now: int, selection: Record) -> int:
    """Select sections by timestamp as NILFS2's cleaner daemon does: oldest first, the lower number on a tie.

    Args:
        volume: The VOLUME record; its clock is the time of the last user write.
        now: Now, in units of the age clock.
        selection: (K,) int64, filled with the sections selected.

    Returns:
        How many were selected, at most K.
    """
    count, last, lowest = 0, -1, -1
    while count < selection.size:
        best, oldest = -1, 0
        for section in range(volume.section_count):
            state = section_states(volume)[section]
            if state != SegmentState.DIRTY and state != SegmentState.FULL:
                continue
            modified = int(sealed_at(volume)[section])
            if not is_eligible(modified, volume.clock, now, volume.settings.protection):
                continue
            order = importance(modified, volume.clock, now)
            later = order > lowest or (order == lowest and section > last)
            if later and (best < 0 or order < oldest):
                best, oldest = section, order
        if best < 0:
            break
        selection[count] = best
        count += 1
        last, lowest = best, oldest
    return count
