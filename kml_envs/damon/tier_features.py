"""What the agent that tunes tiering sees: what happened to the program, and what is hot and cold on each node.

The rules are the same for a simulated kernel and for a real one (`kernel_tier_features`): both fill MEASURED and say
how much of each region is on which node.
"""

from __future__ import annotations

import math

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.damon.features import (
    ACCESSED,
    MEAN_KEEP,
    histogram_place,
    pages_of,
    root,
    scaled,
    size_feature,
    sum_up_time,
)
from kml_envs.damon.monitor import most_accesses_of
from kml_envs.damon.tier_settings import ACTION_NAMES

IDLE_BINS = 5
FIRST_IDLE_S, IDLE_FACTOR = 1.0, 4.0
BIN_NAMES = (
    *ACCESSED,
    *(f"idle_{bin}" for bin in range(IDLE_BINS)),
)
FEATURE_NAMES = (
    "memory_size",
    "fast_share",
    "fast_free",
    "slowdown",
    "slowdown_mean",
    "slow_wait",
    "promoted",
    "promoted_mean",
    "demoted",
    "demoted_mean",
    "moved_back_mean",
    "hot_quota_exceeded",
    "cold_quota_exceeded",
    "kdamond_share",
    "sampling_interval",
    "slow_accesses_found",
    *(f"fast_{name}" for name in BIN_NAMES),
    *(f"slow_{name}" for name in BIN_NAMES),
    *(f"in_force_{name}" for name in ACTION_NAMES),
)
_FAST_BINS, _SLOW_BINS = FEATURE_NAMES.index("fast_accessed_rarely"), FEATURE_NAMES.index("slow_accessed_rarely")
_IN_FORCE = FEATURE_NAMES.index("in_force_hot_accesses")
BINS = len(BIN_NAMES)
"""Parts of the memory of a node."""
ALL, ON_SLOW = 0, 1
"""Places of the accesses found: all of them, and those to the slow node."""


MEASURED = np.dtype(
    [
        (name, np.float64)
        for name in (
            "size",  # bytes of the program
            "fast_pages",  # of node 0
            "fast_used",  # pages of it
            "time_us",  # totals
            "lost_us",
            "waited_us",  # of it, what the nodes cost
            "promoted",  # pages
            "demoted",
            "kdamond_ns",
            "hot_exceeds",  # windows whose quota was used up
            "cold_exceeds",
        )
    ]
)
"""What is known of a program at a moment."""

RATES = np.dtype(
    [("before", MEASURED)]  # at the end of the last interval
    + [
        (name, np.float64)
        for name in (
            "slowdown",  # of the last interval: shares of the time
            "slow_wait",
            "promoted",  # of node 0 per second
            "demoted",
            "kdamond_share",
            "hot_exceeded",
            "cold_exceeded",
            "slowdown_mean",  # running means
            "promoted_mean",
            "demoted_mean",
        )
    ]
    + [("in_force", np.float64, (len(ACTION_NAMES),))]  # the agent's settings, or zeros
)
"""What is remembered of a program between two control intervals."""


@compiled
def sum_up(rates: Record, now: Record) -> None:
    """Close a control interval.

    Args:
        rates: The RATES record.
        now: The MEASURED record at its end.
    """
    before, seconds = rates.before, sum_up_time(rates, now)
    rates.slow_wait = (now.waited_us - before.waited_us) / max(now.time_us - before.time_us, 1.0)
    rates.promoted = (now.promoted - before.promoted) / now.fast_pages / seconds
    rates.demoted = (now.demoted - before.demoted) / now.fast_pages / seconds
    rates.hot_exceeded = min(1.0, (now.hot_exceeds - before.hot_exceeds) / seconds)
    rates.cold_exceeded = min(1.0, (now.cold_exceeds - before.cold_exceeds) / seconds)
    rates.promoted_mean += (1.0 - MEAN_KEEP) * (rates.promoted - rates.promoted_mean)
    rates.demoted_mean += (1.0 - MEAN_KEEP) * (rates.demoted - rates.demoted_mean)
    rates.before = now


@compiled
def write_features(rates: Record, now: Record, sample_us: int, row: Record) -> None:
    """Write the features of one program but for those of `write_regions`.

    Args:
        rates: The RATES record.
        now: The MEASURED record of the moment.
        sample_us: Sampling interval in force.
        row: (F,) float32, zeros before, in the order of FEATURE_NAMES.
    """
    row[0] = size_feature(now.size)
    row[1] = min(1.0, now.fast_pages / pages_of(now))
    row[2] = root(1.0 - now.fast_used / now.fast_pages)
    row[3], row[4], row[5] = root(rates.slowdown), root(rates.slowdown_mean), root(rates.slow_wait)
    row[6], row[7] = root(rates.promoted), root(rates.promoted_mean)
    row[8], row[9] = root(rates.demoted), root(rates.demoted_mean)
    most = max(rates.promoted_mean, rates.demoted_mean)
    row[10] = min(rates.promoted_mean, rates.demoted_mean) / most if most > 0.0 else 0.0
    row[11], row[12] = max(0.0, rates.hot_exceeded), max(0.0, rates.cold_exceeded)
    row[13] = root(rates.kdamond_share)
    row[14] = scaled(math.log2(sample_us / 1000.0) / 14.0)
    for k in range(len(ACTION_NAMES)):
        row[_IN_FORCE + k] = 0.5 + 0.5 * rates.in_force[k]


@compiled
def count_region(region: Record, attributes: Record, fast: float, slow: float, bins: Record, accesses: Record) -> None:
    """Add a region to what is known of both nodes.

    Args:
        region: The REGION record, with the accesses of the last aggregation in `last_nr_accesses`.
        attributes: The ATTRIBUTES record that it was found under.
        fast: Pages of it on node 0.
        slow: Pages of it on node 1.
        bins: (2, BINS) float64, pages of each node by accesses and idle time, which grow.
        accesses: (2,) float64, accesses found by ALL and ON_SLOW, which grow.
    """
    rate = region.last_nr_accesses / most_accesses_of(attributes)
    idle_s = region.age * (attributes.aggr_us / 1e6)
    kind = histogram_place(rate, idle_s, FIRST_IDLE_S, IDLE_FACTOR, IDLE_BINS)
    bins[0, kind] += fast
    bins[1, kind] += slow
    accesses[ALL] += rate * (fast + slow)
    accesses[ON_SLOW] += rate * slow


@compiled
def slow_share(accesses: Record) -> float:
    """Share of the accesses found, (2,) float64 by ALL and ON_SLOW, that is to the slow node."""
    return min(1.0, accesses[ON_SLOW] / accesses[ALL]) if accesses[ALL] > 0.0 else 0.0


@compiled
def write_regions(bins: Record, accesses: Record, pages: float, row: Record) -> None:
    """Write roots of the shares of the program by node and by accesses, and the share of the accesses found on node 1.

    Args:
        bins: (2, BINS) float64, pages of each node, of all regions.
        accesses: (2,) float64, accesses found by ALL and ON_SLOW.
        pages: Pages of the program.
        row: (F,) float32, zeros before, in the order of FEATURE_NAMES.
    """
    row[15] = slow_share(accesses)
    for kind in range(BINS):
        row[_FAST_BINS + kind] = root(bins[0, kind] / pages)
        row[_SLOW_BINS + kind] = root(bins[1, kind] / pages)
