"""What the agent that tunes reclamation sees: what happened to the program, and how long its memory has been idle."""

from __future__ import annotations

from kml_envs.compiling import Record, compiled
from kml_envs.damon.config import PAGE_BYTES
from kml_envs.damon.features import ACCESSED, histogram_place, root, size_feature
from kml_envs.damon.memory import free_permil, resident_pages, used_pages
from kml_envs.damon.monitor import most_accesses_of
from kml_envs.damon.reclaim_settings import ACTION_NAMES
from kml_envs.damon.state import regions

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


@compiled
def write_features(monitor: Record, memory: Record, track: Record, row: Record) -> None:
    """Write the features of one program.

    Args:
        monitor: The MONITOR record.
        memory: The MEMORY record.
        track: The record of `reclaim.TRACK`.
        row: (F,) float32, zeros before, in the order of FEATURE_NAMES.
    """
    pages = max(memory.size / PAGE_BYTES, 1.0)
    row[0] = size_feature(memory.size)
    row[1] = min(1.0, used_pages(memory) / pages)
    row[2] = min(1.0, resident_pages(memory) / pages)
    row[3] = free_permil(memory) / 1000.0
    row[4] = min(1.0, memory.swapped / pages)
    row[5] = root(memory.psi_share_10s)
    row[6], row[7] = root(track.slowdown), root(track.slowdown_mean)
    row[8], row[9] = root(track.paged_out_rate), root(track.paged_out_mean)
    row[10], row[11] = root(track.fault_rate), root(track.fault_mean)
    moved = track.fault_mean + track.paged_out_mean
    row[12] = track.fault_mean / moved if moved > 0.0 else 0.0
    row[13] = max(0.0, track.exceeded)
    row[14] = root(track.kdamond_share)
    _observe_regions(monitor, row)
    for k in range(len(ACTION_NAMES)):
        row[_IN_FORCE + k] = 0.5 + 0.5 * track.in_force[k]


@compiled
def _observe_regions(monitor: Record, row: Record) -> None:
    """Shares of the bytes by how often they are accessed and, of those that are not, for how long."""
    found = regions(monitor)
    most, seconds = most_accesses_of(monitor.attributes), monitor.attributes.aggr_us / 1e6
    for index in range(monitor.region_count):
        region = found[index]
        share = (region.end - region.start) / monitor.access.size
        rate = region.last_nr_accesses / most
        place = histogram_place(rate, region.age * seconds, FIRST_IDLE_S, 2.0, IDLE_BINS)
        row[_HISTOGRAM + place] = min(1.0, row[_HISTOGRAM + place] + share)
