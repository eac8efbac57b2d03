"""Fetching what the coming user writes will touch, so that a large volume does not wait for memory at every block.

A copy of the workload's source runs ahead of it. For each block that it draws, the block's record is asked for first
and, when that has come, the segment and the bitmap word of its old copy. Nothing here changes what a volume does.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled, prefetch_to_write
from kml_envs.lfs.state import LOOK_AHEAD, block_shift, blocks, segments, valid_map
from kml_envs.workloads.source import next_block


@compiled
def begin_look_ahead(volume: Record) -> None:
    """Let the copy of the source run ahead from where the source is now."""
    if volume.source.phase_count == 0:  # a volume may be filled before it has a workload
        return
    volume.ahead = volume.source
    for _ in range(LOOK_AHEAD):
        _draw_ahead(volume)


@compiled
def look_ahead(volume: Record) -> None:
    """Ask for the record of one more block, and for the segment of one whose record should have come."""
    _draw_ahead(volume)
    block = volume.upcoming[(volume.drawn_ahead + LOOK_AHEAD // 2) % LOOK_AHEAD]
    location = np.int64(blocks(volume)[block].location)
    if location >= 0:
        prefetch_to_write(segments(volume), location >> block_shift(volume))
        prefetch_to_write(valid_map(volume), location >> 6)


@compiled
def _draw_ahead(volume: Record) -> None:
    block = next_block(volume.ahead)
    prefetch_to_write(blocks(volume), block)
    volume.upcoming[volume.drawn_ahead % LOOK_AHEAD] = block
    volume.drawn_ahead += 1
