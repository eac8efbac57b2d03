"""The controls of a DAMON context, the same for a simulated and for a real kernel."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from kml_envs.damon.config import AccessPattern, Action, Context, Scheme

IntArray = NDArray[np.int64]


class Snapshot(NamedTuple):
    """The regions that a scheme tried last; under `WHOLE_PICTURE`, all that are monitored.

    Attributes:
        start: (R,) int64, first byte.
        end: (R,) int64, byte behind the last.
        nr_accesses: (R,) int64, samples of the last aggregation interval that found an access.
        age: (R,) int64, aggregations since the accesses changed.
        sz_filter_passed: (R,) int64, bytes that passed the filters of the operations set.
        total_bytes: Bytes of the regions.
    """

    start: IntArray
    end: IntArray
    nr_accesses: IntArray
    age: IntArray
    sz_filter_passed: IntArray
    total_bytes: int


class SchemeStatistics(NamedTuple):
    """What a scheme did since it was turned on; the fields have the names of the files in stats/.

    Attributes:
        nr_tried: Regions that it was tried on.
        sz_tried: Their bytes.
        nr_applied: Regions that it was applied to.
        sz_applied: Bytes that it was applied to.
        sz_ops_filter_passed: Bytes that passed the filters of the operations set.
        qt_exceeds: Windows whose quota was used up.
        nr_snapshots: Times that it was applied.
    """

    nr_tried: int
    sz_tried: int
    nr_applied: int
    sz_applied: int
    sz_ops_filter_passed: int = 0
    qt_exceeds: int = 0
    nr_snapshots: int = 0


class Intervals(NamedTuple):
    """The intervals in force, which auto-tuning may have moved."""

    sample_us: int
    aggr_us: int


class Damon(Protocol):
    """A DAMON context that can be turned on and off, changed while it runs, and read."""

    def turn_on(self, context: Context) -> None:
        """Start monitoring.

        Raises:
            UserError: The kernel refuses the context.
        """
        ...

    def turn_off(self) -> None:
        """Stop monitoring."""
        ...

    def is_on(self) -> bool:
        """Whether a context is monitored."""
        ...

    def commit(self, context: Context) -> None:
        """Replace all settings of the running context; its regions, quotas and statistics live on.

        Raises:
            UserError: The kernel refuses the context.
        """
        ...

    def commit_quota_goals(self, context: Context) -> None:
        """Replace the quota goals only."""
        ...

    def snapshot(self, scheme: int) -> Snapshot:
        """The regions that a scheme tried last."""
        ...

    def statistics(self, scheme: int) -> SchemeStatistics:
        """What a scheme did."""
        ...

    def effective_bytes(self, scheme: int) -> int:
        """The quota in force of a scheme, 0: none."""
        ...

    def intervals(self) -> Intervals:
        """The intervals in force."""
        ...


WHOLE_PICTURE = Scheme(action=Action.STAT, access_pattern=AccessPattern())
"""A scheme that does nothing to every region: how all of them are read."""
