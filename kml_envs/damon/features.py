"""How numbers become features in 0..1, alike in all environments of DAMON."""

from __future__ import annotations

import math

from kml_envs.compiling import Record, compiled
from kml_envs.damon.config import PAGE_BYTES

ACCESS_EDGES = (0.05, 0.2, 0.5)
"""Shares of samples that part memory that is accessed rarely, sometimes, often and always."""
ACCESSED = tuple(f"accessed_{name}" for name in ("rarely", "sometimes", "often", "always"))
"""Names of these parts."""
MEAN_KEEP = 0.85
"""Of the running means of programs whose memory is acted on, per control interval."""

_SECOND_US = 1_000_000


@compiled
def scaled(number: float) -> float:
    """A number, cut to 0..1."""
    return min(1.0, max(0.0, number))


@compiled
def root(share: float) -> float:
    """A share's square root, which tells small ones apart: a feature in 0..1."""
    return math.sqrt(scaled(share))


@compiled
def size_feature(size: int) -> float:
    """Bytes of a program: 0 for 64 MiB, 1 for 1 TiB."""
    return scaled(math.log2(size / 2.0**26) / 14.0)


@compiled
def pages_of(now: Record) -> float:
    """Pages of the program of a MEASURED record, at least one."""
    return float(max(now.size / PAGE_BYTES, 1.0))


@compiled
def sum_up_time(rates: Record, now: Record) -> float:
    """Close a control interval of a program whose memory is acted on: its slowdown, and kdamond's processor time.

    Args:
        rates: The RATES record; its `before` stays.
        now: The MEASURED record at the interval's end.

    Returns:
        Seconds of the interval.
    """
    before = rates.before
    passed = max(now.time_us - before.time_us, 1.0)
    rates.slowdown = (now.lost_us - before.lost_us) / passed
    rates.kdamond_share = (now.kdamond_ns - before.kdamond_ns) / 1000.0 / passed
    rates.slowdown_mean += (1.0 - MEAN_KEEP) * (rates.slowdown - rates.slowdown_mean)
    return float(passed / _SECOND_US)


@compiled
def histogram_place(rate: float, idle_s: float, first_idle_s: float, factor: float, idle_bins: int) -> int:
    """Bin of memory in a histogram: by accesses (the upper ends are ACCESS_EDGES and 1), then by idle time.

    Args:
        rate: Share of an aggregation's samples that found an access.
        idle_s: How long none was found, where the share is 0.
        first_idle_s: Idle time at which the first bin of idle memory ends.
        factor: By which the ends of the next ones grow.
        idle_bins: How many there are; the last one has no end.
    """
    if rate > 0.0:
        place = 0
        while place < len(ACCESS_EDGES) and rate > ACCESS_EDGES[place]:
            place += 1
        return place
    place, edge = len(ACCESS_EDGES) + 1, first_idle_s
    while place < len(ACCESS_EDGES) + idle_bins and idle_s >= edge:
        edge *= factor
        place += 1
    return place
