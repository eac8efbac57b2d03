"""SSDFS's gate for garbage collection: whether the load leaves room for it (fs/ssdfs/gc_thread.c).

The rule is that of is_time_collect_garbage, as functions of the fields of a TIMELINE record.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled

LOW_BOUND = 50  # pending requests (SSDFS_GC_LOW_BOUND_THRESHOLD)
UPPER_BOUND = 1000  # pending requests (SSDFS_GC_UPPER_BOUND_THRESHOLD)
DISTANCE = 5  # measurements until the load is gone (SSDFS_GC_DISTANCE_THRESHOLD)
MEASUREMENTS = 10  # of the load that are remembered (SSDFS_MEASUREMENTS_MAX)
FEWEST_MEASUREMENTS = 3


@compiled
def gate_opens(timeline: Record, pending: int) -> bool:
    """Measure the load and decide whether garbage is collected now.

    Args:
        timeline: The TIMELINE record; `measurements` and `loads` advance, and begin anew after a decision to collect
            or to stop, as they do with each wake of SSDFS's thread.
        pending: Requests that wait to be flushed.

    Returns:
        True at a low load, or at a middling one that falls fast enough to be gone within five measurements.
    """
    if timeline.measurements < MEASUREMENTS:
        timeline.loads[timeline.measurements] = pending
        timeline.measurements += 1
    count = np.int64(timeline.measurements)
    if pending <= LOW_BOUND or pending >= UPPER_BOUND:
        timeline.measurements = 0
        return bool(pending <= LOW_BOUND)
    if count < FEWEST_MEASUREMENTS:
        return False
    fall = timeline.loads[0] - timeline.loads[count - 1]
    if fall > 0 and timeline.loads[count - 1] // fall < DISTANCE:
        timeline.measurements = 0
        return True
    if fall <= 0 and count == MEASUREMENTS:
        timeline.measurements = 0
    return False
