"""F2FS's rules of when: the foreground trigger, the page cache, and the background thread with its sleep times.

Sources are fs/f2fs/segment.h, segment.c, data.c and gc.c of Linux 6.1 to 6.12. The functions here only decide and
count; `kernels.py` writes, cleans and checkpoints.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, array_of, compiled
from kml_envs.lfs.config import Background, CleaningPolicy, GcMode, LfsConfig, Trigger

NEVER = np.iinfo(np.int64).max
LIMIT_INVALID = 40  # percent of the user's blocks (LIMIT_INVALID_BLOCK)
CHECKPOINT_INTERVAL_NS = 60_000_000_000  # DEF_CP_INTERVAL
PREFREE_LIMIT = 5  # percent of the segments, or PREFREE_SEGMENTS if that is less (rec_prefree_segments)
PREFREE_SEGMENTS = 4096
LIMIT_FREE = 40  # percent of the invalid blocks (LIMIT_FREE_BLOCK)
ACTIVE_LOGS = 6  # NR_CURSEG_PERSIST_TYPE

F2FS = np.dtype(
    [
        ("reserved_sections", np.int64),
        ("overprovision_sections", np.int64),
        ("inode_blocks", np.int64),
        ("blocks_per_node", np.int64),
        ("writeback_batch", np.int64),
        ("node_log", np.int64),
        ("gc_mode", np.int64),
        ("min_sleep_ns", np.int64),
        ("max_sleep_ns", np.int64),
        ("no_gc_sleep_ns", np.int64),
        ("urgent_sleep_ns", np.int64),
        ("idle_interval_ns", np.int64),
        # state
        ("foreground", np.int64),  # 1: a call of f2fs_gc has turned to foreground cleaning and is not done
        ("freed", np.int64),  # sections freed by that call, not yet made free by a checkpoint
        ("dirty_nodes", np.int64),
        ("dirty_data", np.int64),
        ("gathered", np.int64),  # user writes in the current batch
        ("written_back", np.int64),  # of those, looked at by the write-back under way; -1: none is under way
        ("node_writes", np.int64),  # node blocks that checkpoints wrote (fs_cp_node)
        ("moved_nodes", np.int64),  # node blocks that cleaning moved (fs_gc_node)
        ("background_cleanings", np.int64),
        ("sleep_ns", np.int64),  # of the background thread
        ("wake_ns", np.int64),  # when it wakes
        ("request_ns", np.int64),  # the last user request arrived
        ("checkpoint_ns", np.int64),  # the background thread last saw a checkpoint written
    ],
    align=True,
)

dirty_pages = array_of("dirty_pages", np.uint8)
"""1 for each dirty page in the cache: the P logical blocks, then the node blocks."""

batch = array_of("batch", np.int32)
"""Logical blocks of the user writes of the current batch, in the order of the writes, then in file order."""


def f2fs_record(config: LfsConfig) -> np.ndarray[tuple[int, ...], np.dtype[np.void]]:
    """Lay the settings of F2FS's rules out as an F2FS record, shape (); zero but for wake time where they are off."""
    record = np.zeros((), F2FS)
    settings = config.f2fs
    reserved, overprovision = config.f2fs_reserve
    values = {
        "reserved_sections": reserved,
        "overprovision_sections": overprovision,
        "inode_blocks": settings.inode_blocks,
        "blocks_per_node": settings.blocks_per_node,
        "writeback_batch": settings.writeback_batch,
        "node_log": config.placement.logs,
        "gc_mode": settings.gc_mode,
        "min_sleep_ns": round(settings.min_sleep_s * 1e9),
        "max_sleep_ns": round(settings.max_sleep_s * 1e9),
        "no_gc_sleep_ns": round(settings.no_gc_sleep_s * 1e9),
        "urgent_sleep_ns": round(settings.urgent_sleep_s * 1e9),
        "idle_interval_ns": round(settings.idle_interval_s * 1e9),
        "written_back": -1,
        "sleep_ns": round(settings.min_sleep_s * 1e9),
        "wake_ns": NEVER,
    }
    thread_runs = config.cleaning.trigger is Trigger.F2FS and settings.background_thread
    if thread_runs or config.open_loop.background is Background.F2FS:
        values["wake_ns"] = values["min_sleep_ns"]
    for name, value in values.items():
        record[name] = value
    return record


@compiled
def is_short(f2fs: Record, free_sections: int, blocks_per_section: int, node_space: int, data_space: int) -> bool:
    """Whether free sections do not suffice (has_not_enough_free_secs and __get_secs_required in mode=lfs).

    Args:
        f2fs: The F2FS record: reserve, dirty node and data pages.
        free_sections: Free sections, plus those that the call under way has freed.
        blocks_per_section: Blocks of a section.
        node_space: Slots left in the node log's section.
        data_space: Slots left in the fullest data log's section.

    Returns:
        Whether the writer must clean before it goes on.
    """
    lower = f2fs.reserved_sections + f2fs.dirty_nodes // blocks_per_section + f2fs.dirty_data // blocks_per_section
    nodes, data = f2fs.dirty_nodes % blocks_per_section, f2fs.dirty_data % blocks_per_section
    if free_sections > lower + (nodes > 0) + (data > 0):
        return False
    if free_sections <= lower:
        return True
    return bool(nodes > node_space or data > data_space)


@compiled
def note_page_written_by_user(volume: Record, block: int) -> None:
    """A buffered user write: the page is dirty until the write-back of its batch, or until cleaning moves it."""
    f2fs = volume.f2fs
    batch(volume)[f2fs.gathered] = block
    f2fs.gathered += 1
    if dirty_pages(volume)[block] == 0:
        dirty_pages(volume)[block] = 1
        f2fs.dirty_data += 1


@compiled
def note_block_placed(volume: Record, block: int) -> None:
    """A data block got a new address: its page is clean, and the node that maps it is dirty."""
    f2fs = volume.f2fs
    if dirty_pages(volume)[block]:
        dirty_pages(volume)[block] = 0
        f2fs.dirty_data -= 1
    node = volume.block_count
    if block >= f2fs.inode_blocks:
        node += 1 + (block - f2fs.inode_blocks) // f2fs.blocks_per_node
    if dirty_pages(volume)[node] == 0:
        dirty_pages(volume)[node] = 1
        f2fs.dirty_nodes += 1


@compiled
def note_block_moved(volume: Record, block: int, log: int) -> int:
    """Cleaning moves a block: what that does to its page, and the log it goes to (move_data_page, move_node_page).

    Foreground cleaning writes the newest content of the page, so that a dirty page is clean afterwards.

    Args:
        volume: The VOLUME record.
        block: A logical block, or a node block behind them.
        log: The relocation log that the placement chose for it.

    Returns:
        The log that it goes to: nodes return to the node log.
    """
    f2fs = volume.f2fs
    if block < volume.block_count:
        note_block_placed(volume, block)
        return log
    f2fs.moved_nodes += 1
    if dirty_pages(volume)[block]:
        dirty_pages(volume)[block] = 0
        f2fs.dirty_nodes -= 1
    return int(f2fs.node_log)


@compiled
def sort_batch(volume: Record) -> None:
    """Put the blocks of the batch into file order, the order of the write-back."""
    count = volume.f2fs.gathered
    for position in range(1, count):
        block = batch(volume)[position]
        slot = position
        while slot > 0 and batch(volume)[slot - 1] > block:
            batch(volume)[slot] = batch(volume)[slot - 1]
            slot -= 1
        batch(volume)[slot] = block


@compiled
def has_enough_invalid(user_blocks: int, written_blocks: int, free_blocks: int, overprovision_blocks: int) -> bool:
    """Whether the background thread should hurry (fs/f2fs/gc.h, has_enough_invalid_blocks).

    Args:
        user_blocks: Blocks that the user can fill.
        written_blocks: Blocks that hold live data.
        free_blocks: Blocks of free segments.
        overprovision_blocks: Blocks of overprovisioned segments.

    Returns:
        Whether more than 40 % of the user's blocks are invalid and less than 40 % of that is free.
    """
    invalid = user_blocks - written_blocks
    free = max(free_blocks - overprovision_blocks, 0)
    return invalid > user_blocks * LIMIT_INVALID // 100 and free < invalid * LIMIT_FREE // 100


@compiled
def is_idle(gc_mode: int, busy: bool, quiet_ns: int, idle_interval_ns: int) -> bool:
    """Whether the device counts as idle for cleaning (fs/f2fs/f2fs.h, is_idle with GC_TIME).

    Args:
        gc_mode: A GcMode.
        busy: Whether a request is in flight.
        quiet_ns: Time since the last request.
        idle_interval_ns: Quiet time from which on it is idle.

    Returns:
        Whether it is; always under URGENT_HIGH, and whenever nothing is in flight under URGENT_LOW.
    """
    if gc_mode == GcMode.URGENT_HIGH:
        return True
    if busy:
        return False
    return gc_mode == GcMode.URGENT_LOW or quiet_ns > idle_interval_ns


@compiled
def longer_sleep(f2fs: Record, sleep_ns: int) -> int:
    """One step up of the walk (increase_sleep_time): no further than the maximum; a no-victim sleep stays."""
    if sleep_ns == f2fs.no_gc_sleep_ns:
        return sleep_ns
    return int(min(sleep_ns + f2fs.min_sleep_ns, f2fs.max_sleep_ns))


@compiled
def shorter_sleep(f2fs: Record, sleep_ns: int) -> int:
    """One step down of the walk (decrease_sleep_time): no further than the minimum; a no-victim sleep ends first."""
    if sleep_ns == f2fs.no_gc_sleep_ns:
        sleep_ns = f2fs.max_sleep_ns
    return int(max(sleep_ns - f2fs.min_sleep_ns, f2fs.min_sleep_ns))


@compiled
def background_wakes(f2fs: Record, idle: bool, enough_invalid: bool) -> bool:
    """The background thread wakes and decides (fs/f2fs/gc.c, gc_thread_func); its sleep advances.

    Args:
        f2fs: The F2FS record.
        idle: `is_idle` now.
        enough_invalid: `has_enough_invalid` now.

    Returns:
        Whether it cleans.
    """
    if f2fs.gc_mode == GcMode.URGENT_HIGH or f2fs.gc_mode == GcMode.URGENT_MID:
        f2fs.sleep_ns = f2fs.urgent_sleep_ns
        return True
    if not idle:
        f2fs.sleep_ns = longer_sleep(f2fs, f2fs.sleep_ns)
        return False
    if enough_invalid:
        f2fs.sleep_ns = shorter_sleep(f2fs, f2fs.sleep_ns)
    else:
        f2fs.sleep_ns = longer_sleep(f2fs, f2fs.sleep_ns)
    return True


@compiled
def background_done(f2fs: Record, found_victim: bool) -> None:
    """The sleep after an attempt (gc_thread_func): long without a victim, short again after the first success."""
    if not found_victim:
        f2fs.sleep_ns = f2fs.no_gc_sleep_ns
    elif f2fs.sleep_ns == f2fs.no_gc_sleep_ns:
        f2fs.sleep_ns = f2fs.min_sleep_ns


@compiled
def checkpoint_due(f2fs: Record, now_ns: int, prefree_segments: int, segments: int) -> bool:
    """Whether the background thread writes a checkpoint (fs/f2fs/segment.c, f2fs_balance_fs_bg).

    Args:
        f2fs: The F2FS record.
        now_ns: Now.
        prefree_segments: Segments that the next checkpoint frees.
        segments: Segments of the main area.

    Returns:
        Whether prefree segments are too many, or the last checkpoint is a minute ago.
    """
    if prefree_segments > min(segments * PREFREE_LIMIT // 100, PREFREE_SEGMENTS):
        return True
    return bool(now_ns - f2fs.checkpoint_ns >= CHECKPOINT_INTERVAL_NS)


@compiled
def policy_of(gc_mode: int, background: bool, age_threshold: bool) -> int:
    """The victim policy of a mode (fs/f2fs/gc.c, select_gc_type).

    Args:
        gc_mode: A GcMode.
        background: Background cleaning, else foreground.
        age_threshold: Whether the file system is mounted with atgc.

    Returns:
        A CleaningPolicy.
    """
    if gc_mode == GcMode.IDLE_GREEDY or gc_mode == GcMode.URGENT_HIGH:
        return CleaningPolicy.GREEDY.value
    if gc_mode == GcMode.IDLE_AGE_THRESHOLD:
        return CleaningPolicy.ATGC.value
    if gc_mode != GcMode.NORMAL:
        return CleaningPolicy.COST_BENEFIT_F2FS.value
    if not background:
        return CleaningPolicy.GREEDY.value
    return CleaningPolicy.ATGC.value if age_threshold else CleaningPolicy.COST_BENEFIT_F2FS.value
