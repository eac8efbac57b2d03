"""NILFS2's cleaner daemon: when it runs, what a step may take, and when a step is deferred.

The rules are those of nilfs_cleanerd (nilfs-utils, sbin/cleanerd/cleanerd.c), as functions of a CLEANERD record.
`background.py` scans the segments, `simulator.py` moves the blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.config import Background, LfsConfig, Trigger
from kml_envs.lfs.f2fs import NEVER

MINIMUM_RESERVED = 8  # segments (NILFS_MIN_NRSVSEGS)
LARGEST_STEP = 32  # segments (NILFS_CLEANERD_NSEGMENTS_PER_CLEAN_MAX)
SECOND_NS = 1_000_000_000

CLEANERD = np.dtype(
    [
        ("min_clean", np.int64),  # segments, the reserve included; 0: always cleaning
        ("max_clean", np.int64),  # segments, the reserve included
        ("clean_check_ns", np.int64),
        ("step", np.int64),  # segments
        ("urgent_step", np.int64),
        ("interval_ns", np.int64),
        ("urgent_interval_ns", np.int64),
        ("retry_ns", np.int64),
        ("min_reclaimable", np.int64),  # blocks a segment
        ("urgent_min_reclaimable", np.int64),
        # state
        ("running", np.int64),
        ("seen_change", np.int64),  # last write that was not the cleaner's, when it began to run; -1: none yet
        ("idle_ns", np.int64),  # sleep between two looks while it does not run
        ("wake_ns", np.int64),
        ("cleaned", np.int64),  # segments
        ("deferred", np.int64),  # segments
    ],
    align=True,
)


def cleanerd_record(config: LfsConfig) -> NDArray[np.void]:
    """Lay the settings of the cleaner daemon out as a CLEANERD record, shape (); it never wakes where it is off."""
    settings, sections, slots = config.cleanerd, config.geometry.sections, config.geometry.blocks_per_section
    reserved = max(int(sections * settings.reserved_segments), MINIMUM_RESERVED)
    always = settings.min_clean_segments == 0
    values = {
        "min_clean": 0 if always else int(sections * settings.min_clean_segments) + reserved,
        "max_clean": int(sections * settings.max_clean_segments) + reserved,
        "clean_check_ns": round(settings.clean_check_interval_s * 1e9),
        "step": min(settings.segments_per_clean, LARGEST_STEP),
        "urgent_step": min(settings.urgent_segments_per_clean, LARGEST_STEP),
        "interval_ns": round(settings.cleaning_interval_s * 1e9),
        "urgent_interval_ns": round(settings.urgent_cleaning_interval_s * 1e9),
        "retry_ns": round(settings.retry_interval_s * 1e9),
        "min_reclaimable": int(slots * settings.min_reclaimable),
        "urgent_min_reclaimable": int(slots * settings.urgent_min_reclaimable),
        "wake_ns": round(settings.clean_check_interval_s * 1e9),
        "seen_change": -1,
        "idle_ns": round(settings.clean_check_interval_s * 1e9),
    }
    if config.cleaning.trigger is not Trigger.CLEANERD and config.open_loop.background is not Background.CLEANERD:
        values["wake_ns"] = NEVER
    record = np.zeros((), CLEANERD)
    for name, value in values.items():
        record[name] = value
    return record


@compiled
def look(cleanerd: Record, clean_segments: int, changed: int) -> bool:
    """The daemon wakes and decides whether it runs (nilfs_cleanerd_check_state).

    Args:
        cleanerd: The CLEANERD record; `running` advances.
        clean_segments: Clean segments.
        changed: Last write that was not the cleaner's.

    Returns:
        Whether it does a step: it starts below the minimum and goes on until there are more than the maximum. With a
        minimum of 0 it runs always, but for the time between finding nothing to clean and the user's next write.
    """
    if cleanerd.min_clean == 0:
        if cleanerd.running == 0 and changed != cleanerd.seen_change:
            cleanerd.running = 1
            cleanerd.seen_change = changed
    elif clean_segments < cleanerd.min_clean:
        cleanerd.running = 1
    elif clean_segments > cleanerd.max_clean:
        cleanerd.running = 0
        cleanerd.idle_ns = cleanerd.clean_check_ns
    return bool(cleanerd.running == 1)


@compiled
def sleep_without_victims(cleanerd: Record, oldest: int, now: int, protection: int) -> int:
    """Nanoseconds until the next look where no segment was eligible (nilfs_cleanerd_recalc_interval).

    Args:
        cleanerd: The CLEANERD record; where nothing is left to reclaim, it stops running.
        oldest: When the oldest of the segments was modified that are older than the user's last write, in seconds;
            NEVER: there is none.
        now: Now, in seconds.
        protection: Protection period, in seconds.

    Returns:
        The sleep: until the oldest loses its protection, or for the protection period, and never less than the
        interval of checks.
    """
    unprotected_s = 1
    if oldest == NEVER:
        cleanerd.running = 0
        unprotected_s = protection
    elif min(oldest, now) > now - protection:
        unprotected_s = min(oldest, now) - (now - protection) + 1
    sleep_ns = max(unprotected_s * SECOND_NS, cleanerd.clean_check_ns)
    if cleanerd.running == 0:
        cleanerd.idle_ns = sleep_ns
    return int(sleep_ns)


@compiled
def is_urgent(cleanerd: Record, clean_segments: int) -> bool:
    """Whether the mc_* settings hold: clean segments are below the minimum."""
    return bool(clean_segments < cleanerd.min_clean)


@compiled
def step_size(cleanerd: Record, clean_segments: int) -> int:
    """Segments of the next step; never more than there are clean segments to move their blocks to."""
    size = cleanerd.urgent_step if is_urgent(cleanerd, clean_segments) else cleanerd.step
    return int(min(size, clean_segments))


@compiled
def sleep_after(cleanerd: Record, clean_segments: int, taken: int, failed: bool) -> int:
    """Nanoseconds until the next look (nilfs_cleanerd_recalc_interval).

    Args:
        cleanerd: The CLEANERD record.
        clean_segments: Clean segments when the daemon woke.
        taken: Segments that the step cleaned or deferred; 0 where none was eligible or the daemon is idle.
        failed: The step found no room for the blocks that it had to move.

    Returns:
        The sleep.
    """
    if failed:
        return int(cleanerd.retry_ns)
    if taken == 0:
        return int(cleanerd.clean_check_ns)
    return int(cleanerd.urgent_interval_ns if is_urgent(cleanerd, clean_segments) else cleanerd.interval_ns)


@compiled
def is_deferred(cleanerd: Record, clean_segments: int, taken: int, reclaimable_blocks: int) -> bool:
    """Whether a step is not worth it: its segments are marked as modified now instead of cleaned.

    Args:
        cleanerd: The CLEANERD record.
        clean_segments: Clean segments when the daemon woke.
        taken: Segments of the step.
        reclaimable_blocks: Blocks of these segments that are not live.

    Returns:
        Whether the reclaimable blocks are fewer than the minimum (min_reclaimable_blocks, times the segments).
    """
    urgent = is_urgent(cleanerd, clean_segments)
    wanted = cleanerd.urgent_min_reclaimable if urgent else cleanerd.min_reclaimable
    return bool(reclaimable_blocks < taken * wanted)


@compiled
def is_eligible(modified: int, changed: int, now: int, protection: int) -> bool:
    """Whether a sealed segment may be cleaned (nilfs_cleanerd_select_segments, timestamp policy).

    Args:
        modified: When the segment was last modified, or deferred.
        changed: Last write that was not the cleaner's.
        now: Now.
        protection: Protection period.

    Returns:
        Whether it was modified before the last user write and before the protection period began. A stamp from the
        future, which a clock that was set back leaves behind, is protected by nothing.
    """
    return importance(modified, changed, now) < changed and (modified < now - protection or modified > now)


@compiled
def importance(modified: int, changed: int, now: int) -> int:
    """What segments are ordered by, the lowest first: time of modification, or just before `changed` in the future.

    Args:
        modified: When the segment was last modified, or deferred.
        changed: Last write that was not the cleaner's.
        now: Now.

    Returns:
        The importance (nilfs_cleanerd_select_segments, timestamp policy).
    """
    return modified if modified <= now else changed - 1
