"""The loop that all environments of DAMON run, for N programs at once: from one interval's decision to the next.

What an environment adds are five rules, each registered for the type of its settings, a record of what is the same for
all programs: how a program's episode begins, what a decision puts in force, how program and monitor run, how an
interval is summed up, and what of it is a feature. A program's time is its monitor's `memory_time_us`, with a memory or
without one; the monitor may be in a sampling interval that began before and ends later.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import ChosenByRecord, Record, array_of, compiled
from kml_envs.damon.pictures import PICTURE
from kml_envs.damon.state import MONITOR

PROGRAM = np.dtype(
    [
        ("monitor", np.uint64),  # addresses of its records: MONITOR
        ("memory", np.uint64),  # MEMORY, also of programs whose monitor has none
        ("track", np.uint64),  # what the environment remembers of it between two intervals
        ("picture", np.uint64),  # PICTURE
        ("interval_us", np.int64),  # length of a control interval
        ("interval_end", np.int64),  # when the running one ends
        ("operations", np.int64),  # intervals begun in the running episode
    ]
)
"""A program, as the loop sees it."""

monitor_of = array_of("monitor", MONITOR, 1)
picture_of = array_of("picture", PICTURE, 1)


@ChosenByRecord
def begin_episode(settings: Record, program: Record) -> None:
    """Begin to keep track of a program; its track is all zeros, but for what Python has set."""


@ChosenByRecord
def begin_interval(settings: Record, program: Record, decision: Record, by_agent: bool) -> None:
    """Put the agent's decision (A,) float64 in force, or the built-in algorithm's settings."""


@ChosenByRecord
def run_until(settings: Record, program: Record, until_us: int) -> None:
    """Let a program run until exactly a time."""


@ChosenByRecord
def close_interval(settings: Record, program: Record) -> None:
    """Sum the interval up that is over, and draw it as the column that the picture says."""


@ChosenByRecord
def observe(settings: Record, program: Record, features: Record) -> None:
    """Write the features (F,) float32 of a program, zeros before."""


@compiled
def begin_rows(settings: Record, programs: Record, rows: Record) -> None:
    """Begin episodes in the rows (N,) bool of programs (N,) PROGRAM under settings (1,)."""
    for row in range(rows.size):
        if rows[row]:
            begin_episode(settings[0], programs[row])


@compiled
def execute_rows(
    settings: Record, programs: Record, decision: Record, ask: Record, until: Record, rows: Record
) -> None:
    """Run programs on under decisions, and under the built-in algorithm where nobody is asked.

    Args:
        settings: (1,) the environment's record.
        programs: (N,) PROGRAM.
        decision: (N, A) float64, NaN for the built-in algorithm.
        ask: (N,) bool, whether to stop at the end of the interval.
        until: (N,) int64, when to stop in any case, in milliseconds.
        rows: (N,) bool, which programs.
    """
    for row in range(rows.size):
        if not rows[row]:
            continue
        program, until_us = programs[row], until[row] * 1000
        monitor = monitor_of(program)[0]
        decided = True
        while True:
            if monitor.memory_time_us >= program.interval_end:
                if not decided and ask[row]:
                    break
                begin_interval(settings[0], program, decision[row], decided and not np.isnan(decision[row, 0]))
                program.interval_end = monitor.memory_time_us + program.interval_us
                program.operations += 1
            decided = False
            run_until(settings[0], program, min(until_us, program.interval_end))
            if monitor.memory_time_us >= program.interval_end:
                close_interval(settings[0], program)
                picture_of(program)[0].columns += 1
            if monitor.memory_time_us >= until_us:
                break


@compiled
def wait_rows(settings: Record, programs: Record, until: Record, rows: Record) -> None:
    """Let programs run on under the last settings until a time (N,) int64 in milliseconds."""
    for row in range(rows.size):
        if rows[row]:
            run_until(settings[0], programs[row], until[row] * 1000)


@compiled
def observe_rows(settings: Record, programs: Record, features: Record) -> None:
    """Write the features (N, F) float32 of all programs that have begun; zeros before."""
    for row in range(features.shape[0]):
        if monitor_of(programs[row])[0].access.size > 0:
            observe(settings[0], programs[row], features[row])
