"""How far the picture that a monitor has of the accesses is from the truth.

Both are functions of the address: the share of the pages that are touched within a reference time. The truth follows
from the access pattern, the picture from what the last aggregation counted. They are kept as pieces in order of the
address, so that comparing them costs by regions and ranges, whatever the size of the memory.

The error is the size-weighted absolute difference over the sum of both: 0 for a true picture, 1 for one that has not
a single touched byte where it is. One minus it is the F1 score (Dice's coefficient) of the touched memory, so the
measure has neither the scale of the memory nor that of the rates.
"""

from __future__ import annotations

import math

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.workloads.access import range_end, range_is_swept, range_rate, range_start

PIECE = np.dtype([("end", np.int64), ("share", np.float64)])
"""A part of the memory, from the end of the piece before on, and the share of its pages that are touched."""

_MISSED = 0.5  # samples without a touch that a region touched in all of them is taken to have


@compiled
def paint_truth(access: Record, reference_us: float, pieces: Record) -> int:
    """What the program does to its memory at the moment.

    A sequential sweep counts as touches that are spread evenly over its range.

    Args:
        access: The ACCESS record, moved to the moment.
        reference_us: Time in which pages are touched or not.
        pieces: (P,) PIECE, written.

    Returns:
        Pieces written, at most twice the ranges of the phase and one.
    """
    count, end = 0, 0
    for index in range(access.first, access.last):
        if range_start(access, index) > end:
            pieces[count].end, pieces[count].share = range_start(access, index), 0.0
            count += 1
        end = range_end(access, index)
        touches = range_rate(access, index) * reference_us * 1e-6
        share = min(1.0, touches) if range_is_swept(access, index) else -math.expm1(-touches)
        pieces[count].end, pieces[count].share = end, share
        count += 1
    if end < access.size:
        pieces[count].end, pieces[count].share = access.size, 0.0
        count += 1
    return count


@compiled
def paint_picture(
    found: Record, region_count: int, sample_us: int, most: int, reference_us: float, pieces: Record
) -> int:
    """What the monitor's last aggregation says of the memory.

    A region in which k of n samples found a touch is taken for one of log((n + 1/2) / (n + 1/2 - k)) touches per page
    and sampling interval: the rate at which so many would be found, kept finite.

    Args:
        found: (R,) REGION, which cover the memory, with the accesses of that aggregation in `last_nr_accesses`.
        region_count: How many of them there are.
        sample_us: Sampling interval of that aggregation.
        most: Samples in it.
        reference_us: Time in which pages are touched or not.
        pieces: (P,) PIECE, written.

    Returns:
        Pieces written, at most one a region: neighbours that say the same are one.
    """
    exponent = reference_us / sample_us
    count, accesses = -1, np.int64(-1)
    for index in range(region_count):
        region = found[index]
        if region.last_nr_accesses != accesses:
            accesses = region.last_nr_accesses
            count += 1
            hit = min(accesses, most) / (most + _MISSED)
            pieces[count].share = -math.expm1(exponent * math.log1p(-hit))
        pieces[count].end = region.end
    return count + 1


@compiled
def picture_error(picture: Record, picture_count: int, truth: Record, truth_count: int) -> float:
    """How far two pictures of the same memory are apart: 0 if they are equal, 1 if they have nothing in common.

    Args:
        picture: (P,) PIECE.
        picture_count: Pieces of it.
        truth: (P,) PIECE.
        truth_count: Pieces of it.
    """
    apart, together, start = 0.0, 0.0, 0
    i, j = 0, 0
    while i < picture_count and j < truth_count:
        end = min(picture[i].end, truth[j].end)
        size = float(end - start)
        apart += size * abs(picture[i].share - truth[j].share)
        together += size * (picture[i].share + truth[j].share)
        start = end
        i += picture[i].end <= end
        j += truth[j].end <= end
    return apart / together if together > 0.0 else 0.0
