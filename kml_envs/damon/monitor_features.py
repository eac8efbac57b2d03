"""What the agent that tunes the monitor sees: attributes in force, what they cost, and what the pictures are like."""

from __future__ import annotations

import math

from kml_envs.compiling import Record, compiled
from kml_envs.damon.features import root, scaled, size_feature
from kml_envs.damon.monitor import most_accesses_of
from kml_envs.damon.monitor_settings import SAMPLE_RANGE, SHORTEST_SAMPLE_US
from kml_envs.damon.state import regions

LEVEL_EDGES = (0.02, 0.05, 0.15, 0.4, 0.8, 0.99)
STABLE_BINS = 8
FEATURE_NAMES = (
    "memory_size",
    "sample_interval",
    "samples",
    "min_regions",
    "max_regions",
    "builtin_in_force",
    "regions",
    "found_share",
    "touched_share",
    "change",
    "change_mean",
    "pictures",
    "picture_age",
    "kdamond_share",
    "kdamond_share_mean",
    *(f"level_{name}" for name in ("none", *(f"to_{edge:g}" for edge in LEVEL_EDGES), "above")),
    *(f"stable_{bin}" for bin in range(STABLE_BINS)),
)
_LEVELS = FEATURE_NAMES.index("level_none")
_STABLE = FEATURE_NAMES.index("stable_0")


@compiled
def write_features(monitor: Record, track: Record, picture: Record, max_nr_regions: int, row: Record) -> None:
    """Write the features of one program.

    Args:
        monitor: The MONITOR record.
        track: The record of `monitor_tuning.TRACK`.
        picture: (P,) PIECE, the monitor's last picture.
        max_nr_regions: Regions that there is room for.
        row: (F,) float32, zeros before, in the order of FEATURE_NAMES.
    """
    attributes, size = monitor.attributes, monitor.access.size
    row[0] = size_feature(size)
    row[1] = scaled(math.log2(attributes.sample_us / SHORTEST_SAMPLE_US) / SAMPLE_RANGE)
    row[2] = scaled(math.log2(most_accesses_of(attributes)) / 8.0)
    row[3] = scaled(math.log2(attributes.min_nr_regions) / 10.0)
    row[4] = scaled(math.log2(attributes.max_nr_regions) / 14.0)
    row[5] = float(track.by_builtin)
    row[6] = scaled(monitor.region_count / max_nr_regions)
    row[9], row[10] = scaled(track.change), scaled(track.change_mean)
    row[11] = scaled(math.log2(1.0 + track.pictures_seen) / 6.0)
    row[12] = scaled(math.log2(1.0 + (monitor.memory_time_us - track.painted_us) * 1e-6) / 8.0)
    row[13] = root(track.kdamond_share)
    row[14] = root(track.kdamond_mean)
    _observe_regions(monitor, row)
    _observe_picture(track, picture, size, row)


@compiled
def _observe_regions(monitor: Record, row: Record) -> None:
    """Accesses found in all that could be, and shares of the memory by how long its regions have not changed."""
    attributes, size = monitor.attributes, monitor.access.size
    found = 0.0
    for index in range(monitor.region_count):
        region = regions(monitor)[index]
        share = (region.end - region.start) / size
        found += share * region.last_nr_accesses
        stable_s, place = region.age * attributes.aggr_us * 1e-6, 0
        while place < STABLE_BINS - 1 and stable_s >= 2.0**place:
            place += 1
        row[_STABLE + place] = min(1.0, row[_STABLE + place] + share)
    row[7] = root(found / most_accesses_of(attributes))


@compiled
def _observe_picture(track: Record, picture: Record, size: int, row: Record) -> None:
    """Touched memory as the picture has it, and shares of the memory by that."""
    touched, start = 0.0, 0
    for index in range(track.picture_count):
        piece = picture[index]
        share = (piece.end - start) / size
        touched += share * piece.share
        start, place = piece.end, 0
        if piece.share > 0.0:
            place = 1
            while place <= len(LEVEL_EDGES) and piece.share > LEVEL_EDGES[place - 1]:
                place += 1
        row[_LEVELS + place] = min(1.0, row[_LEVELS + place] + share)
    row[8] = root(touched)
