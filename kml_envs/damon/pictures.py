"""What DAMON's environments draw: accesses, what the monitor found of them, and where memory is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.damon.memory_state import extents_of
from kml_envs.damon.monitor import most_accesses_of
from kml_envs.damon.state import regions
from kml_envs.workloads.access import touch_probability

HISTORY = 120
"""Control intervals that a picture shows."""
BINS = 48
"""Parts of the address space that a picture shows."""
TOUCHED, FOUND, RESIDENT = range(3)
"""Rows of `Pictures.maps`: share of the pages touched in a sample, the same as monitored, in memory (or on node 0)."""
USED, SLOWDOWN = range(2)
"""Rows of `Pictures.curves`: what an environment shows beside it, and time lost as a share of the time."""


class Pictures(NamedTuple):
    """What happened in the last control intervals of N programs, as rings.

    Attributes:
        columns: (N,) int64, intervals drawn so far.
        maps: (N, 3, HISTORY, BINS) float32, by TOUCHED, FOUND and RESIDENT.
        curves: (N, 2, HISTORY) float32, by USED and SLOWDOWN.
    """

    columns: NDArray[np.int64]
    maps: NDArray[np.float32]
    curves: NDArray[np.float32]


PICTURE = np.dtype(
    [("columns", np.int64), ("maps", np.float32, (3, HISTORY, BINS)), ("curves", np.float32, (2, HISTORY))], align=True
)
"""The pictures of one program."""


def pictures_of(records: NDArray[np.void]) -> Pictures:
    """The pictures that lie in N records of PICTURE, which they share their memory with."""
    return Pictures(records["columns"], records["maps"], records["curves"])


@compiled
def draw_column(
    monitor: Record,
    memory: Record,
    picture: Record,
    used: float,
    slowdown: float,
    fast_only: bool,
) -> None:
    """Add a control interval to the pictures of one program.

    Args:
        monitor: The MONITOR record.
        memory: Its MEMORY record.
        picture: Its PICTURE record.
        used: The first curve's value, a share.
        slowdown: Time lost as a share of the time.
        fast_only: Show what is on node 0 rather than all that is in memory.
    """
    column, maps, curves = picture.columns % HISTORY, picture.maps, picture.curves
    curves[USED, column], curves[SLOWDOWN, column] = used, slowdown
    size, most = monitor.access.size, most_accesses_of(monitor.attributes)
    for k in range(BINS):
        maps[FOUND, column, k] = 0.0
        maps[RESIDENT, column, k] = 0.0
        start, end = size * k // BINS, size * (k + 1) // BINS
        maps[TOUCHED, column, k] = touch_probability(monitor.access, start, end, float(monitor.attributes.sample_us))
    found = regions(monitor)
    for index in range(monitor.region_count):
        spread(maps[FOUND], column, size, found[index].start, found[index].end, found[index].last_nr_accesses / most)
    extents = extents_of(memory)
    for index in range(memory.extent_count):
        extent = extents[index]
        share = (extent.fast + (0.0 if fast_only else extent.slow)) / max(extent.pages, 1.0)
        spread(maps[RESIDENT], column, size, extent.start, extent.end, share)


@compiled
def spread(picture: Record, column: int, size: int, start: int, end: int, value: float) -> None:
    """Add a range's value to the parts of the address space that it lies in, by its share of each.

    Args:
        picture: (HISTORY, BINS) float32.
        column: Which interval of it.
        size: Bytes of the memory.
        start: First byte of the range.
        end: Byte behind it.
        value: Of the range.
    """
    k = start * BINS // size
    while k < BINS and size * k // BINS < end:
        low, high = size * k // BINS, size * (k + 1) // BINS
        overlap = min(end, high) - max(start, low)
        if overlap > 0:
            picture[column, k] += value * overlap / (high - low)
        k += 1
