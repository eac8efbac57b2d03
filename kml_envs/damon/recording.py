"""Snapshots of a running monitor, gathered into the records that damo's tools read."""

from __future__ import annotations

from kml_envs.damon.config import MonitoringAttributes
from kml_envs.damon.control import Intervals, Snapshot
from kml_envs.workloads.snapshots import RecordedSnapshot, SnapshotRecord


def recorded_snapshot(snapshot: Snapshot, intervals: Intervals, start_ns: int, end_ns: int) -> RecordedSnapshot:
    """A snapshot as damo's records hold it.

    Args:
        snapshot: The regions of one target.
        intervals: Those that its accesses and ages count in.
        start_ns: Beginning of what it is about.
        end_ns: When it was taken.
    """
    columns = (snapshot.start, snapshot.end, snapshot.nr_accesses, snapshot.age)
    return RecordedSnapshot(start_ns, end_ns, *columns, intervals.sample_us, intervals.aggr_us)


class SnapshotRecorder:
    """Gathers snapshots, each with the intervals that were in force."""

    def __init__(self, kdamond: int = 0, update_us: int = MonitoringAttributes().update_us) -> None:
        """Begin without any.

        Args:
            kdamond: Number of the kdamond, as the record tells it.
            update_us: Interval of the operations set's updates.
        """
        self._kdamond, self._update_us = kdamond, update_us
        self._taken: list[RecordedSnapshot] = []

    def take(self, snapshot: Snapshot, intervals: Intervals, time_us: int) -> None:
        """Add a snapshot.

        Args:
            snapshot: The regions.
            intervals: Those that were in force.
            time_us: When it was taken, later than the one before.
        """
        end_ns = time_us * 1000
        start_ns = self._taken[-1].end_ns if self._taken else max(0, end_ns - intervals.aggr_us * 1000)
        self._taken.append(recorded_snapshot(snapshot, intervals, start_ns, end_ns))

    def record(self) -> SnapshotRecord:
        """All snapshots; the intervals of the first are those of the record."""
        sample_us, aggr_us = (self._taken[0].sample_us, self._taken[0].aggr_us) if self._taken else (0, 0)
        return SnapshotRecord(tuple(self._taken), sample_us, aggr_us, self._update_us, kdamond=self._kdamond)
