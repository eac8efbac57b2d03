"""What an open-loop volume knows of time: the write that has yet to arrive, wake-ups, bursts and gaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.config import Background, LfsConfig
from kml_envs.lfs.f2fs import NEVER
from kml_envs.lfs.load_gate import MEASUREMENTS

WAKE_FACTOR = 4  # between the quiet times of two wake-ups
SMOOTHING = 0.1  # weight of the newest burst and gap in their means
NONE = -1

TIMELINE = np.dtype(
    [
        ("background", np.int64),  # Background
        ("first_wake_ns", np.int64),
        ("gate_interval_ns", np.int64),
        ("latency_limit_ns", np.int64),
        # state
        ("coming", np.int64),  # block of the next user write, drawn but not yet arrived; -1: none
        ("let_through", np.int64),  # so many coming writes need not wait for (more) foreground cleaning
        ("now_ns", np.int64),  # of the decision that is pending
        ("foreground", np.int64),  # 1: that decision is about foreground cleaning
        ("idle_since_ns", np.int64),  # the last user write was done
        ("request_ns", np.int64),  # the last user write arrived
        ("wake_ns", np.int64),  # the agent is asked next, if no write comes before
        ("gate_wake_ns", np.int64),  # SSDFS's thread looks next
        ("victim", np.int64),  # section cleaned in part; -1: none
        ("cursor", np.int64),  # its blocks before this slot have been moved
        ("step_left", np.int64),  # NILFS2: sections that the step under way may still clean
        ("gate_writes", np.int64),  # user writes at SSDFS's last look
        ("measurements", np.int64),
        ("loads", np.int64, (MEASUREMENTS,)),
        ("excess_ns", np.int64),  # latencies of user writes in so far as they are above the limit
        ("slowest_ns", np.int64),  # latency of the slowest user write since the last decision
        ("last_interval_ns", np.int64),  # between the last two user writes
        ("last_gap_ns", np.int64),  # interval of at least the first wake's quiet time
        ("mean_gap_ns", np.float64),
        ("burst_writes", np.int64),  # user writes since the last gap
        ("mean_burst", np.float64),
        ("foreground_operations", np.int64),
        ("background_operations", np.int64),
        ("waits", np.int64),  # decisions of the agent's not to clean
    ],
    align=True,
)


def timeline_record(config: LfsConfig) -> NDArray[np.void]:
    """Lay the settings of open-loop cleaning out as a TIMELINE record, shape ()."""
    settings = config.open_loop
    gated = settings.background is Background.LOAD_GATE
    values = {
        "background": settings.background,
        "first_wake_ns": round(settings.first_wake_s * 1e9),
        "gate_interval_ns": round(settings.gate_interval_s * 1e9),
        "latency_limit_ns": round(settings.latency_limit_s * 1e9),
        "coming": NONE,
        "victim": NONE,
        "wake_ns": NEVER,
        "gate_wake_ns": round(settings.gate_interval_s * 1e9) if gated else NEVER,
    }
    record = np.zeros((), TIMELINE)
    for name, value in values.items():
        record[name] = value
    return record


@compiled
def next_wake(timeline: Record) -> int:
    """When the agent is asked after it has waited: at the next of its quiet times.

    Args:
        timeline: The TIMELINE record.

    Returns:
        The time in nanoseconds.
    """
    quiet = timeline.first_wake_ns
    while timeline.idle_since_ns + quiet <= timeline.now_ns:
        quiet *= WAKE_FACTOR
    return int(timeline.idle_since_ns + quiet)


@compiled
def note_arrival(timeline: Record, arrival_ns: int) -> None:
    """A user write arrives: the statistics of bursts and gaps follow.

    Args:
        timeline: The TIMELINE record.
        arrival_ns: When.
    """
    interval = arrival_ns - timeline.request_ns
    timeline.request_ns = arrival_ns
    timeline.last_interval_ns = interval
    if interval >= timeline.first_wake_ns:
        timeline.last_gap_ns = interval
        timeline.mean_gap_ns += SMOOTHING * (interval - timeline.mean_gap_ns)
        timeline.mean_burst += SMOOTHING * (timeline.burst_writes - timeline.mean_burst)
        timeline.burst_writes = 0
    timeline.burst_writes += 1


@compiled
def note_completion(timeline: Record, arrival_ns: int, completed_ns: int) -> None:
    """A user write is done: its latency counts, and the quiet time begins.

    Args:
        timeline: The TIMELINE record.
        arrival_ns: When it arrived.
        completed_ns: When it was done.
    """
    latency = completed_ns - arrival_ns
    timeline.excess_ns += max(latency - timeline.latency_limit_ns, 0)
    timeline.slowest_ns = max(timeline.slowest_ns, latency)
    timeline.idle_since_ns = completed_ns
    timeline.wake_ns = completed_ns + timeline.first_wake_ns
    timeline.coming = NONE
    timeline.let_through = max(timeline.let_through - 1, 0)
