"""What a monitor found: snapshots of regions, shared by the simulator, the sysfs back end and damo's records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kml_envs.errors import UserError

SKIPPED_SNAPSHOTS = 20
"""Snapshots left out at the start of a working set estimate: the regions have to find their places first."""

DEFAULT_SAMPLES = 20
"""Samples of an aggregation where a record does not tell its intervals: DAMON's default, and the guides' advice."""

_MOST_ACCESSES = 1 << 32  # the kernel's counter is an unsigned int

_IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class RecordedSnapshot:
    """The regions of one target at the end of one aggregation, in order of their addresses.

    Attributes:
        start_ns: Beginning of what the snapshot is about.
        end_ns: When it was taken.
        start: (R,) int64, first byte of each region.
        end: (R,) int64, byte behind each region.
        nr_accesses: (R,) int64, samples in which the region was found accessed.
        age: (R,) int64, aggregations for which that has not changed much; -1 where it is not known.
        sample_us: Sampling interval in force, where intervals were tuned; 0: the record's.
        aggr_us: Aggregation interval in force; 0: the record's.
    """

    start_ns: int
    end_ns: int
    start: _IntArray
    end: _IntArray
    nr_accesses: _IntArray
    age: _IntArray
    sample_us: int = 0
    aggr_us: int = 0


@dataclass(frozen=True)
class SnapshotRecord:
    """The snapshots of one target, in order of time.

    Attributes:
        snapshots: The snapshots.
        sample_us: Sampling interval of the snapshots that do not tell their own, 0 where it is not known.
        aggr_us: Aggregation interval of these, 0 where it is not known.
        update_us: Interval of the operations set's updates, 0 where it is not known.
        target: Number of the target, as the recorder calls it.
        kdamond: Index of the kdamond.
        context: Index of its context.
        scheme: Index of the scheme whose tried regions these are, -1: of none.
    """

    snapshots: tuple[RecordedSnapshot, ...]
    sample_us: int = 0
    aggr_us: int = 0
    update_us: int = 0
    target: int = 0
    kdamond: int = 0
    context: int = 0
    scheme: int = -1

    def intervals_of(self, snapshot: RecordedSnapshot) -> tuple[int, int]:
        """Sampling and aggregation interval that were in force for one of the snapshots, in microseconds."""
        return snapshot.sample_us or self.sample_us, snapshot.aggr_us or self.aggr_us


def snapshot_of(
    where: str,
    start_ns: int,
    end_ns: int,
    rows: Sequence[tuple[int, int, int, int]],
    sample_us: int = 0,
    aggr_us: int = 0,
) -> RecordedSnapshot:
    """Make a snapshot of regions in any order.

    Args:
        where: What errors call it.
        start_ns: Beginning of what it is about.
        end_ns: When it was taken.
        rows: Start, end, accesses and age of each region.
        sample_us: Sampling interval, 0: the record's.
        aggr_us: Aggregation interval, 0: the record's.

    Raises:
        UserError: A region is empty, overlaps another, or its numbers are out of range.
    """
    try:
        table = np.array(sorted(rows), np.int64).reshape(-1, 4)
    except OverflowError as error:
        raise UserError(f"{where}: an address or a count is beyond 2**63") from error
    wrong = (table[:, 0] >= table[:, 1]) | (table[:, 2] < 0) | (table[:, 2] > _MOST_ACCESSES)
    wrong[1:] |= table[1:, 0] < table[:-1, 1]
    if wrong.any():
        start, end, accesses, _ = table[np.flatnonzero(wrong)[0]]
        raise UserError(
            f"{where}: region {start}-{end} with {accesses} accesses is empty, overlaps another or counts below 0 or "
            "above 2**32"
        )
    return RecordedSnapshot(start_ns, end_ns, table[:, 0], table[:, 1], table[:, 2], table[:, 3], sample_us, aggr_us)


def working_set_sizes(
    snapshots: Sequence[RecordedSnapshot], *, least_accesses: int = 1, skip: int = SKIPPED_SNAPSHOTS
) -> _IntArray:
    """Bytes of the regions found accessed, as `damo report wss` counts them.

    Args:
        snapshots: The snapshots of a target.
        least_accesses: Samples from which a region counts.
        skip: Snapshots to leave out at the start.

    Returns:
        (S,) int64, one size for each of the other snapshots, in their order.
    """
    sizes = [
        int((snapshot.end - snapshot.start)[snapshot.nr_accesses >= least_accesses].sum())
        for snapshot in snapshots[skip:]
    ]
    return np.array(sizes, np.int64)


def percentile(values: _IntArray, percent: float) -> int:
    """The value of (n,) values at a percentile, by damo's rule: of the sorted ones number int(percent / 100 * n)."""
    if not values.size:
        raise ValueError("the percentile of nothing")
    return int(np.sort(values)[min(int(percent / 100 * values.size), values.size - 1)])
