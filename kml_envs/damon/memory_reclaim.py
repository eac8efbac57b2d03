"""Reclaim under a limit: kswapd between its watermarks, and programs that reclaim for themselves.

Pages are taken by the time since their last touch, the longest first, in classes that double: the generations of a
least-recently-used list, as the kernel's multi-generational one keeps them.
"""

from __future__ import annotations

import math

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.damon.memory_config import RECLAIM_US
from kml_envs.damon.memory_state import extents_of

_CLASSES = 32
_YOUNGEST_S = 2.0**-10  # upper end of the youngest class
_NOTHING = 1e-6  # pages: what rounding leaves


@compiled
def keep_watermarks(memory: Record, seconds: float) -> float:
    """Reclaim what the watermarks ask for after a step.

    kswapd wakes below the low watermark and works at its own speed until the high one is reached. What is still
    missing to the lowest watermark, programs reclaim themselves, and wait for it.

    Args:
        memory: The MEMORY record.
        seconds: Length of the step.

    Returns:
        Microseconds that threads have waited, summed over them.
    """
    free = memory.fast_pages + memory.slow_pages - memory.fast_used - memory.slow_used
    if free < memory.low_pages:
        memory.kswapd_awake = 1
    if memory.kswapd_awake == 0:
        return 0.0
    taken = reclaim(memory, min(memory.high_pages - free, memory.kswapd_pages_per_s * seconds))
    memory.reclaimed += taken
    free = memory.fast_pages + memory.slow_pages - memory.fast_used - memory.slow_used
    if free >= memory.high_pages * (1.0 - 1e-9):
        memory.kswapd_awake = 0
    if free >= memory.min_pages:
        return 0.0
    taken = reclaim(memory, memory.min_pages - free)
    memory.reclaimed_directly += taken
    return taken * (memory.write_us + RECLAIM_US)


@compiled
def reclaim(memory: Record, wanted: float) -> float:
    """Swap pages out, the longest idle ones first, until so many pages of memory are free more.

    Returns:
        Pages swapped out or dropped; fewer than needed where the swap device is full.
    """
    extents = extents_of(memory)
    by_class = np.zeros(_CLASSES)
    for index in range(memory.extent_count):
        extent = extents[index]
        by_class[_class_of(extent.idle_s)] += extent.fast + extent.slow + extent.bloat
    # A page swapped out frees a page less what it takes on the device.
    remaining = max(0.0, wanted) / (1.0 - memory.swap_share)
    taken = 0.0
    for age in range(_CLASSES - 1, -1, -1):
        room = max(0.0, memory.swap_pages - memory.swapped)
        if by_class[age] <= 0.0:
            continue
        if remaining <= _NOTHING or room <= _NOTHING:
            break
        part = min(1.0, min(remaining, room) / by_class[age])
        for index in range(memory.extent_count):
            if _class_of(extents[index].idle_s) == age:
                gone = swap_out(memory, extents[index], part)
                taken += gone
                remaining -= gone
    return taken


@compiled
def swap_out(memory: Record, extent: Record, part: float) -> float:
    """Take a share of an extent's pages out of memory, from both nodes alike; returns the pages.

    Pages that the program never touched hold zeroes: they are dropped, not written.
    """
    fast, slow, bloat = extent.fast * part, extent.slow * part, extent.bloat * part
    extent.fast -= fast
    extent.slow -= slow
    extent.bloat -= bloat
    extent.huge -= extent.huge * part
    extent.swapped += fast + slow
    extent.untouched += bloat
    memory.swapped += fast + slow
    memory.fast_used += (fast + slow) * memory.swap_share - fast - bloat
    memory.slow_used -= slow
    return fast + slow + bloat


@compiled
def _class_of(idle_s: float) -> int:
    if idle_s <= _YOUNGEST_S:
        return 0
    return min(_CLASSES - 1, np.int64(math.log2(idle_s / _YOUNGEST_S)) + 1)
