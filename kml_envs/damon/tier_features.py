"""What the agent that tunes tiering sees: what happened to the program, and what is hot and cold on each node."""

from __future__ import annotations

import math

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.damon.config import PAGE_BYTES
from kml_envs.damon.features import ACCESSED, histogram_place, root, scaled, size_feature
from kml_envs.damon.memory_state import extents_of
from kml_envs.damon.monitor import most_accesses_of
from kml_envs.damon.state import regions
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
_BINS = len(BIN_NAMES)


@compiled
def write_features(monitor: Record, memory: Record, track: Record, row: Record) -> None:
    """Write the features of one program.

    Args:
        monitor: The MONITOR record.
        memory: The MEMORY record.
        track: The record of `tier.TRACK`.
        row: (F,) float32, zeros before, in the order of FEATURE_NAMES.
    """
    pages = max(memory.size / PAGE_BYTES, 1.0)
    row[0] = size_feature(memory.size)
    row[1] = min(1.0, memory.fast_pages / pages)
    row[2] = root(1.0 - memory.fast_used / memory.fast_pages)
    row[3], row[4], row[5] = root(track.slowdown), root(track.slowdown_mean), root(track.slow_wait)
    row[6], row[7] = root(track.promoted_rate), root(track.promoted_mean)
    row[8], row[9] = root(track.demoted_rate), root(track.demoted_mean)
    most = max(track.promoted_mean, track.demoted_mean)
    row[10] = min(track.promoted_mean, track.demoted_mean) / most if most > 0.0 else 0.0
    row[11], row[12] = max(0.0, track.hot_exceeded), max(0.0, track.cold_exceeded)
    row[13] = root(track.kdamond_share)
    row[14] = scaled(math.log2(monitor.attributes.sample_us / 1000.0) / 14.0)
    _observe_regions(monitor, memory, row)
    for k in range(len(ACTION_NAMES)):
        row[_IN_FORCE + k] = 0.5 + 0.5 * track.in_force[k]


@compiled
def _observe_regions(monitor: Record, memory: Record, row: Record) -> None:
    """Roots of the shares of the program by node and by accesses, and the share of the accesses found on node 1."""
    found, extents = regions(monitor), extents_of(memory)
    most, seconds = most_accesses_of(monitor.attributes), monitor.attributes.aggr_us / 1e6
    bins = np.zeros((2, _BINS))
    accesses, on_slow, first = 0.0, 0.0, 0
    for index in range(monitor.region_count):
        region = found[index]
        while first < memory.extent_count and extents[first].end <= region.start:
            first += 1
        fast, slow, place = 0.0, 0.0, first
        while place < memory.extent_count and extents[place].start < region.end:
            extent = extents[place]
            part = (min(extent.end, region.end) - max(extent.start, region.start)) / (extent.end - extent.start)
            fast += extent.fast * part
            slow += extent.slow * part
            place += 1
        rate = region.last_nr_accesses / most
        kind = histogram_place(rate, region.age * seconds, FIRST_IDLE_S, IDLE_FACTOR, IDLE_BINS)
        bins[0, kind] += fast
        bins[1, kind] += slow
        accesses += rate * (fast + slow)
        on_slow += rate * slow
    pages = max(memory.size / PAGE_BYTES, 1.0)
    row[15] = min(1.0, on_slow / accesses) if accesses > 0.0 else 0.0
    for kind in range(_BINS):
        row[_FAST_BINS + kind] = root(bins[0, kind] / pages)
        row[_SLOW_BINS + kind] = root(bins[1, kind] / pages)
