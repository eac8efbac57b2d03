"""What the agent that tunes reclamation sees: what happened to the program, and how long its memory has been idle.

The rules are the same for a simulated kernel and for a real one (`kernel_reclaim`): both fill MEASURED.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.damon.features import (
    ACCESSED,
    MEAN_KEEP,
    histogram_place,
    pages_of,
    root,
    size_feature,
    sum_up_time,
)
from kml_envs.damon.monitor import most_accesses_of
from kml_envs.damon.reclaim_settings import ACTION_NAMES

IDLE_BINS = 13
FIRST_IDLE_S = 0.2
FEATURE_NAMES = (
    "memory_size",
    "used_share",
    "resident_share",
    "free_share",
    "swapped_share",
    "pressure",
    "slowdown",
    "slowdown_mean",
    "paged_out",
    "paged_out_mean",
    "faulted_back",
    "faulted_back_mean",
    "faulted_back_ratio_mean",
    "quota_exceeded",
    "kdamond_share",
    *ACCESSED,
    *(f"idle_{bin}" for bin in range(IDLE_BINS)),
    *(f"in_force_{name}" for name in ACTION_NAMES),
)
_HISTOGRAM = FEATURE_NAMES.index("accessed_rarely")
_IN_FORCE = FEATURE_NAMES.index("in_force_min_age")


MEASURED = np.dtype(
    [
        (name, np.float64)
        for name in (
            "size",  # bytes of the program
            "used",  # memory in use, in sizes of the program
            "resident",
            "swapped",
            "free",  # share of the machine's memory
            "pressure",  # PSI some, average of 10 s
            "time_us",  # totals
            "lost_us",
            "paged_out",  # pages, by the scheme
            "faults",  # pages that came back
            "kdamond_ns",
            "exceeds",  # windows whose quota was used up
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
            "paged_out",  # of the program per second
            "faults",
            "kdamond_share",
            "exceeded",
            "slowdown_mean",  # running means
            "paged_out_mean",
            "faults_mean",
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
    before, pages, seconds = rates.before, pages_of(now), sum_up_time(rates, now)
    rates.paged_out = (now.paged_out - before.paged_out) / pages / seconds
    rates.faults = (now.faults - before.faults) / pages / seconds
    rates.exceeded = min(1.0, (now.exceeds - before.exceeds) / seconds)
    rates.paged_out_mean += (1.0 - MEAN_KEEP) * (rates.paged_out - rates.paged_out_mean)
    rates.faults_mean += (1.0 - MEAN_KEEP) * (rates.faults - rates.faults_mean)
    rates.before = now


@compiled
def write_features(rates: Record, now: Record, row: Record) -> None:
    """Write the features of one program but for those of `write_histogram`.

    Args:
        rates: The RATES record.
        now: The MEASURED record of the moment.
        row: (F,) float32, zeros before, in the order of FEATURE_NAMES.
    """
    row[0] = size_feature(now.size)
    row[1] = min(1.0, now.used)
    row[2] = min(1.0, max(0.0, now.resident))
    row[3] = now.free
    row[4] = min(1.0, now.swapped)
    row[5] = root(now.pressure)
    row[6], row[7] = root(rates.slowdown), root(rates.slowdown_mean)
    row[8], row[9] = root(rates.paged_out), root(rates.paged_out_mean)
    row[10], row[11] = root(rates.faults), root(rates.faults_mean)
    moved = rates.faults_mean + rates.paged_out_mean
    row[12] = rates.faults_mean / moved if moved > 0.0 else 0.0
    row[13] = max(0.0, rates.exceeded)
    row[14] = root(rates.kdamond_share)
    for k in range(len(ACTION_NAMES)):
        row[_IN_FORCE + k] = 0.5 + 0.5 * rates.in_force[k]


@compiled
def write_histogram(found: Record, count: int, size: int, attributes: Record, row: Record) -> None:
    """Write shares of the bytes by how often they are accessed and, of those that are not, for how long.

    Args:
        found: (R,) REGION, with the accesses of the last aggregation in `last_nr_accesses`.
        count: How many of them there are.
        size: Their bytes.
        attributes: The ATTRIBUTES record that they were found under.
        row: (F,) float32, zeros before, in the order of FEATURE_NAMES.
    """
    most, seconds = most_accesses_of(attributes), attributes.aggr_us / 1e6
    for index in range(count):
        region = found[index]
        share = (region.end - region.start) / size
        rate = region.last_nr_accesses / most
        place = histogram_place(rate, region.age * seconds, FIRST_IDLE_S, 2.0, IDLE_BINS)
        row[_HISTOGRAM + place] = min(1.0, row[_HISTOGRAM + place] + share)
