"""Which log a block goes to: one rule for user writes and one for relocated blocks.

Logs are numbered user logs first, then the logs of relocated blocks. Ages are user blocks written since the
block was last written by the user.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.config import Placement
from kml_envs.lfs.foresight import class_by_rate, class_by_remaining_life
from kml_envs.lfs.volume import blocks, intervals, sections

LIFETIME_SAMPLES = 16


@compiled
def block_age(volume: Record, block: int) -> int:
    """User blocks written since the user last wrote this block (exact up to 2**32)."""
    now = np.uint32(volume.user_writes & 0xFFFFFFFF)
    return np.int64(np.uint32(now - blocks(volume)[block].written_at))


@compiled
def user_log(volume: Record, block: int, location: int) -> int:
    """The log for a user write.

    Args:
        volume: The VOLUME record.
        block: Logical block being written.
        location: Slot of its old copy, -1 if it has none.

    Returns:
        Log number. Sources: TEMPERATURE is F2FS's age_extent_cache rule (fs/f2fs/segment.c,
        __get_age_segment_type) with the three data logs, DAC Chiang, Lee and Chang 1999, SEPBIT Wang et al.
        FAST'22, UPDATE_INTERVAL this project's split by the smoothed ages of F2FS's age extent cache
        (fs/f2fs/extent_cache.c, __calculate_block_age), CLAIRVOYANT the future-knowledge scheme of SepBIT's paper.
    """
    settings = volume.settings
    placement = settings.placement
    if placement <= Placement.AGE_THRESHOLD:
        return 0
    if placement == Placement.TEMPERATURE:
        age = block_age(volume, block)
        if location < 0 or age > settings.age_threshold[1]:
            return 2
        return 0 if age <= settings.age_threshold[0] else 1
    if placement == Placement.DAC:
        if location < 0:
            return 0
        return min(_log_of(volume, location) + 1, settings.logs - 1)
    if placement == Placement.SEPBIT:
        return 0 if location >= 0 and block_age(volume, block) < volume.lifetime_threshold else 1
    if placement == Placement.UPDATE_INTERVAL:
        return _interval_log(volume, settings.user_interval_scale * intervals(volume)[block])
    if placement == Placement.CLAIRVOYANT:
        return class_by_remaining_life(volume, block)
    return class_by_rate(volume, block)


@compiled
def relocation_log(volume: Record, block: int, source_log: int) -> int:
    """The log for a block that cleaning moves.

    Args:
        volume: The VOLUME record.
        block: Logical block being moved.
        source_log: Log that had written the victim.

    Returns:
        Log number; sources as in `user_log`, AGE_THRESHOLD is this project's split by age.
    """
    settings = volume.settings
    placement = settings.placement
    if placement == Placement.ONE_LOG:
        return 0
    if placement == Placement.USER_GC_SPLIT:
        return 1
    if placement == Placement.AGE_THRESHOLD:
        age = block_age(volume, block)
        log = 1
        for threshold in range(settings.thresholds):
            if age >= settings.age_threshold[threshold]:
                log += 1
        return log
    if placement == Placement.TEMPERATURE:
        return 3
    if placement == Placement.DAC:
        return max(source_log - 1, 0)
    if placement == Placement.SEPBIT:
        return _sepbit_relocation_log(volume, block, source_log)
    if placement == Placement.UPDATE_INTERVAL:
        return _interval_log(volume, intervals(volume)[block] + settings.age_weight * block_age(volume, block))
    if placement == Placement.CLAIRVOYANT:
        return class_by_remaining_life(volume, block)
    return class_by_rate(volume, block)


@compiled
def note_collected(volume: Record, log: int, lifetime: int) -> None:
    """Tell SepBIT that a section was collected: the mean lifetime of sixteen of class 0 is its threshold.

    Args:
        volume: The VOLUME record.
        log: Log that had written the section.
        lifetime: User writes between opening and collecting it.
    """
    if log != 0:
        return
    volume.lifetime_sum += lifetime
    volume.lifetime_count += 1
    if volume.lifetime_count == LIFETIME_SAMPLES:
        volume.lifetime_threshold = volume.lifetime_sum / LIFETIME_SAMPLES
        volume.lifetime_sum = 0
        volume.lifetime_count = 0


@compiled
def _interval_log(volume: Record, interval: float) -> int:
    settings = volume.settings
    log = 0
    while log < settings.logs - 1 and interval >= settings.age_threshold[log]:
        log += 1
    return log


@compiled
def _log_of(volume: Record, location: int) -> int:
    segment = location >> volume.block_shift
    return np.int64(sections(volume)[segment // volume.segments_per_section].log)


@compiled
def _sepbit_relocation_log(volume: Record, block: int, source_log: int) -> int:
    if source_log == 0:
        return 2
    age = block_age(volume, block)
    threshold = volume.lifetime_threshold
    if age < 4.0 * threshold:
        return 3
    return 4 if age < 16.0 * threshold else 5
