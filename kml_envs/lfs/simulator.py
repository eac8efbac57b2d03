"""The dynamics of a log-structured volume: user writes follow each other, and cleaning comes in between.

`advance` is the loop that everything runs; `writing.py`, `cleaning.py` and `sections.py` hold what happens in it, and
`kernels.py` the rules of real kernels. All functions are compiled. Those without `rows` in their name work on one
instance, a VOLUME record.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.cleaning import clean, is_critical
from kml_envs.lfs.config import CleaningPolicy, Trigger
from kml_envs.lfs.kernels import f2fs_needs_cleaning, kernel_step, open_f2fs_logs
from kml_envs.lfs.look_ahead import begin_look_ahead, next_write
from kml_envs.lfs.policies import select_victim
from kml_envs.lfs.section_index import add_section
from kml_envs.lfs.volume import blocks, deaths, dirty_row, free_row, intervals, logs, owners, population
from kml_envs.lfs.writing import write_block, write_checkpoint
from kml_envs.workloads.source import writes_until_overwrite

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
    if volume.looks_ahead:
        begin_look_ahead(volume)
    # What is due at `until` waits: it belongs to the write that comes after, in every caller alike.
    while volume.exhausted == 0 and volume.user_writes < until:
        if not step(volume, ask):
            return


@compiled
def step(volume: Record, ask: bool) -> bool:
    """Clean a section, or let the user write the next block.

    Returns:
        Whether that was done: with `ask`, the volume may be left with a decision pending instead (see `advance`).
    """
    if cleaning_needed(volume):
        critical = is_critical(volume)
        policy = np.int64(CleaningPolicy.GREEDY) if critical else np.int64(volume.settings.policy)
        victim = select_victim(volume, policy)
        if ask and not critical and population(volume)[dirty_row(volume)] > 0 and victim >= 0:
            volume.pending = 1
            volume.suggestion = victim
            return False
        if clean(volume, victim):
            return True
    _write_next(volume)
    return True


@compiled
def write_without_cleaning(volume: Record, until: int) -> None:
    """Let the user write, although cleaning is due, until the volume is critical or the count of writes is reached.

    The built-in policy then looks for its victim again.
    """
    if volume.looks_ahead:
        begin_look_ahead(volume)
    while volume.exhausted == 0 and volume.user_writes < until and not is_critical(volume):
        _write_next(volume)
    policy = np.int64(CleaningPolicy.GREEDY) if is_critical(volume) else np.int64(volume.settings.policy)
    volume.suggestion = select_victim(volume, policy)


@compiled
def _write_next(volume: Record) -> None:
    if volume.settings.trigger >= Trigger.F2FS:
        kernel_step(volume)
        return
    block, arrival_ns = volume.user_writes, np.int64(-1)
    if block >= volume.block_count:
        block = next_write(volume)
        arrival_ns = volume.source.arrival_ns
        if volume.knows_deaths:
            deaths(volume)[block] = volume.user_writes + writes_until_overwrite(volume.source)
    write_block(volume, block, arrival_ns)


@compiled
def cleaning_needed(volume: Record) -> bool:
    """Whether a section must be cleaned before the user may write the next block."""
    settings = volume.settings
    if settings.trigger != Trigger.FREE_SECTIONS:
        if settings.trigger == Trigger.F2FS:
            return f2fs_needs_cleaning(volume)
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
def _format(volume: Record, seed: Record) -> None:
    volume.random = seed
    volume.victim = NO_VICTIM
    volume.lifetime_threshold = np.inf
    for block in range(volume.block_count + volume.node_count):
        blocks(volume)[block].location = -1
    if volume.keeps_intervals:
        for block in range(volume.block_count):
            intervals(volume)[block] = volume.block_count
    for slot in range(volume.section_count * volume.slots_per_section):
        owners(volume)[slot] = -1
    for log in range(volume.log_count):
        logs(volume)[log].section = -1
    for section in range(volume.section_count):
        add_section(volume, free_row(volume), section)
    volume.free_sections = volume.section_count
    volume.minimum_free = volume.section_count
    if volume.node_count > 0:
        open_f2fs_logs(volume)
