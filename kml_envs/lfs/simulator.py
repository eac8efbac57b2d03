"""The dynamics of a log-structured volume: user writes, invalidation, relocation, cleaning, checkpoints, time.

All functions are compiled. Those without `rows` in their name work on one instance, a VOLUME record; `advance` is
the loop that everything runs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled, highest_bit, lowest_bit, prefetch_to_write
from kml_envs.lfs.background import NANOSECONDS, f2fs_thread_cleans, oldest_sections
from kml_envs.lfs.config import AgeClock, CleaningPolicy, MtimeRule, Placement, Trigger
from kml_envs.lfs.f2fs import (
    ACTIVE_LOGS,
    background_done,
    batch,
    checkpoint_due,
    dirty_pages,
    is_short,
    note_block_moved,
    note_block_placed,
    note_page_written_by_user,
    policy_of,
    sort_batch,
)
from kml_envs.lfs.nilfs2 import is_deferred, look, sleep_after, step_size
from kml_envs.lfs.placement import block_age, note_collected, relocation_log, user_log
from kml_envs.lfs.policies import select_victim
from kml_envs.lfs.section_index import add_section, first_section, remove_section
from kml_envs.lfs.state import (
    AGE_BUCKETS,
    LATENCY_BUCKETS,
    SegmentState,
    block_shift,
    blocks,
    deaths,
    dirty_row,
    free_row,
    latencies,
    logs,
    overwrite_ages,
    owners,
    population,
    prefree_row,
    segments,
    segments_per_section,
    slots_per_section,
    valid_map,
)
from kml_envs.workloads.source import next_block, writes_until_overwrite

NO_VICTIM = -1


@compiled
def format_rows(volumes: Record, rows: Record, seeds: Record) -> None:
    """Make empty file systems on freshly allocated volumes.

    Args:
        volumes: (N,) VOLUME.
        rows: (R,) int64 instances.
        seeds: (R,) uint64 seeds of the random victim policies.
    """
    for position in range(rows.size):
        _format(volumes[rows[position]], seeds[position])


def fill_rows(volumes: NDArray[np.void], rows: NDArray[np.int64]) -> None:
    """Write every logical block of the given instances once, in address order.

    Args:
        volumes: (N,) VOLUME.
        rows: (R,) int64 instances.
    """
    advance_rows(volumes, rows, volumes["block_count"], np.zeros(volumes.size, np.bool_))


@compiled
def advance_rows(volumes: Record, rows: Record, until: Record, ask: Record) -> None:
    """`advance` the given rows: rows (R,) int64 instances, until (N,) int64 and ask (N,) bool by instance."""
    for row in rows:
        advance(volumes[row], until[row], ask[row])


@compiled
def advance(volume: Record, until: int, ask: bool) -> None:
    """Let the user write until a decision is needed or the count of user writes is reached.

    The first writes fill the volume, block by block in address order; then the workload begins.

    Args:
        volume: The VOLUME record.
        until: Stop when `user_writes` reaches this count.
        ask: Stop with `pending` set when cleaning is needed and the volume is not critical; otherwise the
            built-in policy of the settings cleans.
    """
    source = volume.source
    # What is due at `until` waits: it belongs to the write that comes after, in every caller alike.
    while volume.exhausted == 0 and volume.user_writes < until:
        if cleaning_needed(volume):
            critical = is_critical(volume)
            if ask and not critical and population(volume)[dirty_row(volume)] > 0:
                volume.pending = 1
                volume.suggestion = select_victim(volume, np.int64(volume.settings.policy))
                return
            policy = np.int64(CleaningPolicy.GREEDY) if critical else np.int64(volume.settings.policy)
            if clean(volume, select_victim(volume, policy)):
                continue
        if volume.settings.trigger >= Trigger.F2FS:
            _kernel_step(volume)
            continue
        block, arrival_ns = volume.user_writes, np.int64(-1)
        if block >= volume.block_count:
            block = next_block(source)
            arrival_ns = source.arrival_ns
            if volume.knows_deaths:
                deaths(volume)[block] = volume.user_writes + writes_until_overwrite(source)
        write_block(volume, block, arrival_ns)


@compiled
def is_critical(volume: Record) -> bool:
    """Whether free sections are at the reserve: emergency, only the built-in algorithm acts."""
    return volume.free_sections <= volume.settings.reserve_sections


@compiled
def cleaning_needed(volume: Record) -> bool:
    """Whether a section must be cleaned before the user may write the next block."""
    settings = volume.settings
    if settings.trigger != Trigger.FREE_SECTIONS:
        if settings.trigger == Trigger.F2FS:
            return _f2fs_needs_cleaning(volume)
        if settings.trigger == Trigger.CLEANERD:
            return False
        garbage = volume.written_slots - volume.valid_blocks
        return garbage > settings.garbage_share * volume.written_slots
    if volume.free_sections > settings.trigger_sections:
        return False
    if settings.checkpoint_interval > 0:
        write_checkpoint(volume)
        return volume.free_sections <= settings.trigger_sections
    return True


@compiled
def clean(volume: Record, victim: int) -> bool:
    """Relocate the valid blocks of a section and free it.

    Args:
        volume: The VOLUME record.
        victim: A sealed section, or -1.

    Returns:
        Whether there was a victim.
    """
    settings = volume.settings
    volume.pending = 0
    volume.victim = victim
    if victim < 0:
        return False
    slots = slots_per_section(volume)
    head = segments(volume)[victim * segments_per_section(volume)]
    valid = np.int64(head.section_valid)
    _leave_index(volume, victim)
    head.state = SegmentState.CLEANING
    if settings.placement == Placement.SEPBIT:
        note_collected(volume, head.log, volume.user_writes - head.opened_at)
    _relocate(volume, victim * slots, (victim + 1) * slots, np.int64(head.log))
    volume.moved += valid
    volume.written_slots += valid
    volume.cleanings += 1
    volume.f2fs.freed += 1
    for segment in range(victim * segments_per_section(volume), (victim + 1) * segments_per_section(volume)):
        _note_checkpointed(volume, segment)
        segments(volume)[segment].valid = 0
    head.section_valid = 0
    _release(volume, victim)
    spent = valid * (settings.read_ns + settings.write_ns) + settings.erase_ns
    volume.cleaning_ns += spent
    volume.cleaning_until_ns = max(volume.busy_until_ns, volume.source.arrival_ns) + spent
    volume.busy_until_ns = volume.cleaning_until_ns
    return True


@compiled
def write_block(volume: Record, block: int, arrival_ns: int) -> None:
    """One user write: the old copy becomes invalid, the new one goes to its log.

    Args:
        volume: The VOLUME record.
        block: Logical block.
        arrival_ns: When the request arrived; negative: when the write before it was done.
    """
    settings = volume.settings
    volume.clock = volume.user_writes
    if settings.age_clock == AgeClock.SECONDS:
        volume.clock = max(arrival_ns, np.int64(0)) // 1_000_000_000
    record = blocks(volume)[block]
    location = np.int64(record.location)
    log = user_log(volume, block, location)
    if location >= 0:
        bucket = highest_bit(np.uint64(block_age(volume, block) + 1))
        overwrite_ages(volume)[min(max(bucket - volume.age_shift, 0), AGE_BUCKETS - 1)] += 1
        _invalidate(volume, location)
    else:
        volume.valid_blocks += 1
    volume.written_slots += 1
    record.written_at = np.uint32(volume.user_writes & 0xFFFFFFFF)
    _append(volume, block, log)
    volume.user_writes += 1
    if arrival_ns >= 0 or volume.user_writes > volume.block_count:  # time begins with the workload, not with the fill
        _account_time(volume, arrival_ns)
    if settings.checkpoint_interval > 0 and (
        volume.user_writes - volume.last_checkpoint >= settings.checkpoint_interval
    ):
        write_checkpoint(volume)


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
        _make_free(volume, section)
        section = first_section(volume, prefree_row(volume), section + 1)


@compiled
def checkpointed_valid(volume: Record, segment: int) -> int:
    """Valid blocks of a segment at the last checkpoint; F2FS's ckpt_valid_blocks."""
    record = segments(volume)[segment]
    if record.checkpoint == volume.checkpoints + 1:
        return record.checkpointed_valid
    return record.valid


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
def _relocate(volume: Record, begin: int, end: int, source_log: int) -> None:
    # Blocks that follow each other into the same segment are a run: what is known of it is written down once.
    log, first, slot, limit = np.int64(-1), np.int64(0), np.int64(0), np.int64(0)
    for word in range(begin >> 6, (end + 63) >> 6):
        bits = _take_valid(volume, word, begin, end)
        coming = bits
        while coming != 0:  # on a large volume the maps are far away: let all fetches of a word overlap
            prefetch_to_write(blocks(volume)[owners(volume)[(word << 6) + lowest_bit(coming)]])
            coming &= coming - np.uint64(1)
        while bits != 0:
            block = np.int64(owners(volume)[(word << 6) + lowest_bit(bits)])
            bits &= bits - np.uint64(1)
            target = _relocation_target(volume, block, source_log)
            if target != log or slot == limit:
                if log >= 0:
                    _close_run(volume, log, first, slot)
                log = target
                first = _next_slot(volume, log)
                if volume.exhausted:
                    return
                slot, limit = first, ((first >> block_shift(volume)) + 1) << block_shift(volume)
            owners(volume)[slot] = block
            blocks(volume)[block].location = slot
            slot += 1
    if log >= 0:
        _close_run(volume, log, first, slot)


@compiled
def _relocation_target(volume: Record, block: int, source_log: int) -> int:
    if volume.node_count == 0:
        return relocation_log(volume, block, source_log)
    log = relocation_log(volume, block, source_log) if block < volume.block_count else np.int64(0)
    return note_block_moved(volume, block, log)


@compiled
def _append(volume: Record, block: int, log_number: int) -> None:
    slot = _next_slot(volume, log_number)
    if volume.exhausted:
        return
    owners(volume)[slot] = block
    blocks(volume)[block].location = slot
    _close_run(volume, log_number, slot, slot + 1)


@compiled
def _next_slot(volume: Record, log_number: int) -> int:
    log = logs(volume)[log_number]
    if log.section < 0:
        _open_section(volume, log_number)
    return log.section * slots_per_section(volume) + log.offset


@compiled
def _close_run(volume: Record, log_number: int, begin: int, end: int) -> None:
    # The slots begin..end - 1 of one segment have been written: its counts, bitmap and mtime follow.
    log = logs(volume)[log_number]
    number = begin >> block_shift(volume)
    segment = segments(volume)[number]
    head = segments(volume)[log.section * segments_per_section(volume)]
    _note_checkpointed(volume, number)
    if volume.settings.mtime_rule == MtimeRule.LAST_WRITE:
        segment.mtime = volume.clock
    else:
        for added in range(end - begin):
            valid = segment.valid + added
            segment.mtime = (segment.mtime * valid + volume.clock) // (valid + 1)
    volume.newest_mtime = max(volume.newest_mtime, volume.clock)
    segment.valid += end - begin
    head.section_valid += end - begin
    _mark_valid(volume, begin, end)
    log.offset += end - begin
    if log.offset == slots_per_section(volume):
        seal_section(volume, log.section)
        log.section = -1
        if volume.node_count > 0:  # F2FS opens the next segment at once (f2fs_allocate_data_block)
            _open_section(volume, log_number)


@compiled
def _mark_valid(volume: Record, begin: int, end: int) -> None:
    while begin < end:
        upto = min(end, ((begin >> 6) + 1) << 6)
        ones = ~np.uint64(0) >> np.uint64(64 - (upto - begin))
        valid_map(volume)[begin >> 6] |= ones << np.uint64(begin & 63)
        begin = upto


@compiled
def _open_section(volume: Record, log_number: int) -> None:
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
    head = segments(volume)[section * volume.segments_per_section]
    head.state = SegmentState.CURRENT
    head.log = log_number
    head.relocated = volume.settings.user_logs <= log_number < volume.settings.logs
    head.opened_at = volume.user_writes
    head.last_invalidation = volume.user_writes


@compiled
def seal_section(volume: Record, section: int) -> None:
    """Close a section for writing: from now on it is full, dirty, or released where no block in it is valid."""
    head = segments(volume)[section * volume.segments_per_section]
    head.sealed_at = volume.clock
    if head.section_valid == volume.slots_per_section:
        head.state = SegmentState.FULL
    elif head.section_valid == 0 and volume.settings.keep_empty == 0:
        volume.emptied += 1
        _release(volume, section)
    else:
        _become_dirty(volume, section)


@compiled
def _invalidate(volume: Record, slot: int) -> None:
    number = slot >> block_shift(volume)
    segment = segments(volume)[number]
    section = number
    if segments_per_section(volume) > 1:
        section = number // segments_per_section(volume)
    head = segments(volume)[section * segments_per_section(volume)]
    valid_map(volume)[slot >> 6] &= ~(np.uint64(1) << np.uint64(slot & 63))
    _note_checkpointed(volume, number)
    if volume.settings.mtime_rule == MtimeRule.WEIGHTED_MEAN:
        segment.mtime = (segment.mtime * segment.valid + volume.clock) // (segment.valid + 1)
        volume.newest_mtime = max(volume.newest_mtime, volume.clock)
    segment.valid -= 1
    head.section_valid -= 1
    head.last_invalidation = volume.user_writes
    if head.state == SegmentState.DIRTY:
        remove_section(volume, head.section_valid + 1, section)
        if head.section_valid == 0 and volume.settings.keep_empty == 0:
            remove_section(volume, dirty_row(volume), section)
            volume.emptied += 1
            _release(volume, section)
        else:
            add_section(volume, head.section_valid, section)
    elif head.state == SegmentState.FULL:
        _become_dirty(volume, section)


@compiled
def _become_dirty(volume: Record, section: int) -> None:
    head = segments(volume)[section * volume.segments_per_section]
    head.state = SegmentState.DIRTY
    add_section(volume, head.section_valid, section)
    add_section(volume, dirty_row(volume), section)


@compiled
def _leave_index(volume: Record, section: int) -> None:
    head = segments(volume)[section * volume.segments_per_section]
    if head.state == SegmentState.DIRTY:
        remove_section(volume, head.section_valid, section)
        remove_section(volume, dirty_row(volume), section)


@compiled
def _release(volume: Record, section: int) -> None:
    head = segments(volume)[section * volume.segments_per_section]
    head.erases += 1
    if volume.settings.checkpoint_interval > 0:
        head.state = SegmentState.PREFREE
        add_section(volume, prefree_row(volume), section)
    else:
        _make_free(volume, section)


@compiled
def _make_free(volume: Record, section: int) -> None:
    segments(volume)[section * volume.segments_per_section].state = SegmentState.FREE
    add_section(volume, free_row(volume), section)
    volume.free_sections += 1
    volume.written_slots -= volume.slots_per_section


@compiled
def _note_checkpointed(volume: Record, segment: int) -> None:
    # The count at the last checkpoint is written down lazily, when it changes for the first time after it.
    record = segments(volume)[segment]
    current = volume.checkpoints + 1
    if record.checkpoint != current:
        record.checkpoint = current
        record.checkpointed_valid = record.valid


@compiled
def _account_time(volume: Record, arrival_ns: int) -> None:
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
def _kernel_step(volume: Record) -> None:
    # Under F2FS's rules a step is a user write into the page cache or one page of the write-back; under NILFS2's a
    # user write. Background cleaning that is due before the write comes first.
    if volume.f2fs.written_back >= 0:
        _write_back_page(volume)
        return
    source = volume.source
    filling = volume.user_writes < volume.block_count
    block = volume.user_writes if filling else next_block(source)
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
    volume.clock = volume.user_writes
    if volume.settings.age_clock == AgeClock.SECONDS:
        volume.clock = max(arrival_ns, 0) // NANOSECONDS
    note_page_written_by_user(volume, block)
    volume.user_writes += 1
    _account_time(volume, arrival_ns)
    if volume.f2fs.gathered == volume.f2fs.writeback_batch:
        sort_batch(volume)
        volume.f2fs.written_back = 0


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
    location = np.int64(blocks(volume)[block].location)
    log = user_log(volume, block, location)
    bucket: int = highest_bit(np.uint64(block_age(volume, block) + 1))
    overwrite_ages(volume)[min(max(bucket - volume.age_shift, 0), AGE_BUCKETS - 1)] += 1
    blocks(volume)[block].written_at = np.uint32(volume.user_writes & 0xFFFFFFFF)
    _rewrite(volume, block, log)
    note_block_placed(volume, block)


@compiled
def _rewrite(volume: Record, block: int, log: int) -> None:
    location = np.int64(blocks(volume)[block].location)
    if location >= 0:
        _invalidate(volume, location)
    else:
        volume.valid_blocks += 1
    volume.written_slots += 1
    _append(volume, block, log)


@compiled
def _write_dirty_nodes(volume: Record) -> None:
    for node in range(volume.block_count, volume.block_count + volume.node_count):
        if dirty_pages(volume)[node]:
            dirty_pages(volume)[node] = 0
            volume.f2fs.node_writes += 1
            _rewrite(volume, node, volume.f2fs.node_log)
    volume.f2fs.dirty_nodes = 0


@compiled
def _f2fs_is_short(volume: Record, freed: int) -> bool:
    slots = slots_per_section(volume)
    fullest = 0
    for log in range(volume.settings.logs):
        fullest = max(fullest, int(logs(volume)[log].offset))
    node_space = slots - logs(volume)[volume.f2fs.node_log].offset
    return is_short(volume.f2fs, volume.free_sections + freed, slots, node_space, slots - fullest)


@compiled
def _f2fs_needs_cleaning(volume: Record) -> bool:
    # f2fs_balance_fs and the loop of f2fs_gc, one victim a time: a checkpoint first, then another look.
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
def _run_cleanerd_until(volume: Record, arrival_ns: int) -> None:
    cleanerd = volume.cleanerd
    while cleanerd.wake_ns <= arrival_ns:
        _cleanerd_step(volume)
    # A writer without clean segments gets ENOSPC from NILFS2; here it waits for the daemon, and never for ever.
    patience = 2 * volume.sections
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
    taken, failed = 0, False
    if look(cleanerd, clean_segments):
        now = cleanerd.wake_ns // NANOSECONDS if volume.settings.age_clock == AgeClock.SECONDS else volume.user_writes
        selection = np.empty(step_size(cleanerd, clean_segments), np.int64)
        taken = oldest_sections(volume, now, selection)
        failed = selection.size == 0
        live = 0
        for section in selection[:taken]:
            live += segments(volume)[section * segments_per_section(volume)].section_valid
        if taken > 0 and is_deferred(cleanerd, clean_segments, taken, taken * slots_per_section(volume) - live):
            cleanerd.deferred += taken
            for section in selection[:taken]:
                segments(volume)[section * segments_per_section(volume)].sealed_at = now
        else:
            cleanerd.cleaned += taken
            for section in selection[:taken]:
                clean(volume, section)
    cleanerd.wake_ns += sleep_after(cleanerd, clean_segments, taken, failed)


@compiled
def _open_f2fs_logs(volume: Record) -> None:
    # mkfs.f2fs opens hot, warm and cold node logs first, then hot, warm and cold data logs. Those that a single
    # file does not write to keep a section each.
    unused = max(ACTIVE_LOGS - volume.log_count, 0)
    for position in range(unused):
        if position == 1:
            _open_section(volume, volume.f2fs.node_log)
        section = first_section(volume, free_row(volume), 0)
        remove_section(volume, free_row(volume), section)
        segments(volume)[section * segments_per_section(volume)].state = SegmentState.CURRENT
        volume.free_sections -= 1
    if unused < 2:
        _open_section(volume, volume.f2fs.node_log)
    for log in range(volume.settings.logs):
        _open_section(volume, log)


@compiled
def _format(volume: Record, seed: Record) -> None:
    volume.random = seed
    volume.victim = NO_VICTIM
    volume.lifetime_threshold = np.inf
    for block in range(volume.block_count + volume.node_count):
        blocks(volume)[block].location = -1
    for slot in range(volume.sections * volume.slots_per_section):
        owners(volume)[slot] = -1
    for log in range(volume.log_count):
        logs(volume)[log].section = -1
    for section in range(volume.sections):
        add_section(volume, free_row(volume), section)
    volume.free_sections = volume.sections
    volume.minimum_free = volume.sections
    if volume.node_count > 0:
        _open_f2fs_logs(volume)
