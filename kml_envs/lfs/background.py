"""What background cleaning sees of a volume: the segments that NILFS2's daemon selects, and F2FS's wake conditions."""

from __future__ import annotations

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.f2fs import background_wakes, has_enough_invalid, is_idle
from kml_envs.lfs.nilfs2 import is_eligible
from kml_envs.lfs.state import SegmentState, segments, segments_per_section

NANOSECONDS = 1_000_000_000


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
        for section in range(volume.sections):
            head = segments(volume)[section * segments_per_section(volume)]
            if head.state != SegmentState.DIRTY and head.state != SegmentState.FULL:
                continue
            modified = int(head.sealed_at)
            if not is_eligible(modified, volume.clock, now, volume.settings.protection):
                continue
            later = modified > lowest or (modified == lowest and section > last)
            if later and (best < 0 or modified < oldest):
                best, oldest = section, modified
        if best < 0:
            break
        selection[count] = best
        count += 1
        last, lowest = best, oldest
    return count


@compiled
def f2fs_thread_cleans(volume: Record) -> bool:
    """F2FS's background thread wakes at its wake time and decides whether it cleans; its sleep advances."""
    f2fs = volume.f2fs
    now = f2fs.wake_ns
    slots = volume.slots_per_section
    idle = is_idle(f2fs.gc_mode, now < volume.busy_until_ns, now - f2fs.request_ns, f2fs.idle_interval_ns)
    enough = has_enough_invalid(
        (volume.sections - f2fs.overprovision_sections) * slots,
        volume.valid_blocks,
        volume.free_sections * slots,
        f2fs.overprovision_sections * slots,
    )
    return background_wakes(f2fs, idle, enough)
