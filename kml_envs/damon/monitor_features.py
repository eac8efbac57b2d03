"""What the agent that tunes the monitor sees: attributes in force, what they cost, and what the pictures are like.

The rules are the same for a simulated kernel and for a real one (`kernel_monitor`).
"""

from __future__ import annotations

import math

from kml_envs.compiling import Record, compiled
from kml_envs.damon.features import root, scaled, size_feature
from kml_envs.damon.monitor import most_accesses_of
from kml_envs.damon.monitor_settings import SAMPLE_RANGE, SHORTEST_SAMPLE_US

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


_MEAN_KEEP = 0.8  # of a running mean, per control interval


@compiled
def sum_up(track: Record, kdamond_share: float, pictures: float) -> None:
    """Close a control interval.

    Args:
        track: The record of `monitor_tuning.TRACK`.
        kdamond_share: Of a processor, in the interval.
        pictures: Taken in it.
    """
    track.kdamond_share = kdamond_share
    track.pictures_seen = pictures
    track.kdamond_mean += (1.0 - _MEAN_KEEP) * (track.kdamond_share - track.kdamond_mean)
    track.change_mean += (1.0 - _MEAN_KEEP) * (track.change - track.change_mean)


@compiled
def write_features(
    track: Record, attributes: Record, size: int, region_count: int, max_nr_regions: int, time_us: int, row: Record
) -> None:
    """Write the features of one program but for those of `write_regions` and `write_picture`.

    Args:
        track: The record of `monitor_tuning.TRACK`.
        attributes: The ATTRIBUTES record in force.
        size: Bytes that are monitored.
        region_count: Regions that they are divided into.
        max_nr_regions: Regions that there is room for.
        time_us: Time, in that of `painted_us`.
        row: (F,) float32, zeros before, in the order of FEATURE_NAMES.
    """
    row[0] = size_feature(size)
    row[1] = scaled(math.log2(attributes.sample_us / SHORTEST_SAMPLE_US) / SAMPLE_RANGE)
    row[2] = scaled(math.log2(most_accesses_of(attributes)) / 8.0)
    row[3] = scaled(math.log2(attributes.min_nr_regions) / 10.0)
    row[4] = scaled(math.log2(attributes.max_nr_regions) / 14.0)
    row[5] = float(track.by_builtin)
    row[6] = scaled(region_count / max_nr_regions)
    row[9], row[10] = scaled(track.change), scaled(track.change_mean)
    row[11] = scaled(math.log2(1.0 + track.pictures_seen) / 6.0)
    row[12] = scaled(math.log2(1.0 + (time_us - track.painted_us) * 1e-6) / 8.0)
    row[13] = root(track.kdamond_share)
    row[14] = root(track.kdamond_mean)


@compiled
def write_regions(found: Record, count: int, size: int, attributes: Record, row: Record) -> None:
    """Write accesses found in all that could be, and shares of the memory by how long its regions have not changed.

    Args:
        found: (R,) REGION, with the accesses of the last aggregation in `last_nr_accesses`.
        count: How many of them there are.
        size: Their bytes.
        attributes: The ATTRIBUTES record in force.
        row: (F,) float32, zeros before, in the order of FEATURE_NAMES.
    """
    accesses = 0.0
    for index in range(count):
        region = found[index]
        share = (region.end - region.start) / size
        accesses += share * region.last_nr_accesses
        stable_s, place = region.age * attributes.aggr_us * 1e-6, 0
        while place < STABLE_BINS - 1 and stable_s >= 2.0**place:
            place += 1
        row[_STABLE + place] = min(1.0, row[_STABLE + place] + share)
    row[7] = root(accesses / most_accesses_of(attributes))


@compiled
def write_picture(picture: Record, count: int, size: int, row: Record) -> None:
    """Write touched memory as the picture has it, and shares of the memory by that.

    Args:
        picture: (P,) PIECE, the monitor's last picture.
        count: Pieces of it.
        size: Their bytes.
        row: (F,) float32, zeros before, in the order of FEATURE_NAMES.
    """
    touched, start = 0.0, 0
    for index in range(count):
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
