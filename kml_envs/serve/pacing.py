"""Which wall time simulated time corresponds to: the pace at which a subsystem is served."""

from __future__ import annotations

from typing import cast

import numpy as np

from kml_envs.proxy.protocols import BatchedSubsystem, Clocked
from kml_envs.proxy.specs import BoolArray, FloatArray, IntArray

LARGEST_LAG_S = 0.1
"""Lateness of the server itself that it makes up for; timers are late by up to a millisecond, every time."""

UNCLOCKED_PROGRESS_PER_SECOND = 1000.0
"""Progress in a second of simulated time of a `BatchedSubsystem` that has no clock."""


class Pace:
    """Where N instances stand, in simulated and in wall time.

    Attributes:
        wall: (N,) float64, when each instance is to be where it stands, in seconds of the driver's clock.
    """

    def __init__(self, subsystem: BatchedSubsystem) -> None:
        """Look for the subsystem's clock; `begin` must follow."""
        self._subsystem = subsystem
        self._clock = cast(Clocked, subsystem) if isinstance(subsystem, Clocked) else _Unclocked(subsystem)
        self.wall: FloatArray = np.zeros(subsystem.instances)
        self._time_us: FloatArray = np.zeros(subsystem.instances)
        self._late: FloatArray = np.zeros(subsystem.instances)
        self._seamless: BoolArray = np.zeros(subsystem.instances, np.bool_)  # whose users go on since they waited last

    def begin(self, now: float | None = None) -> None:
        """Look at clocks that have been set: the instances are to be there now; None: when they were to be before."""
        self._time_us = self._clock.time_us().astype(np.float64)
        if now is not None:
            self.wall[:] = now

    def follow(self, now: float, speed: float) -> None:
        """Take in how far the instances have been run.

        Args:
            now: Wall time.
            speed: Seconds of simulated time in a second; 0: they are to be there now, and the clocks are not looked at,
                so that `begin` must come before another speed.
        """
        if speed == 0.0:
            self.wall[:] = now
            return
        time_us = self._clock.time_us().astype(np.float64)
        self.wall = np.maximum(self.wall + (time_us - self._time_us) / (1e6 * speed), now - LARGEST_LAG_S)
        self._time_us = time_us
        self._seamless &= self.wall + self._late <= now

    def wait(self, rows: BoolArray, now: float) -> None:
        """Instances (N,) wait for an answer from now on; that the server comes late to them is not held against it."""
        late = now - self.wall
        late = np.where(self._seamless, np.minimum(late, self._late), late)
        self._late = np.where(rows, late, self._late)
        self._seamless &= ~rows

    def acted_for(self, rows: BoolArray) -> None:
        """The built-in algorithm has acted for instances (N,) when their users came to need it, before anybody looked.

        So the users of what they wait for next have gone on since: it is not the server that came late to it.
        """
        self._seamless |= rows

    @property
    def waits_since(self) -> FloatArray:
        """(N,) float64: wall time from which users go on while they wait for an answer, since `wait`."""
        return self.wall + self._late

    def users_by(self, now: float, speed: float) -> IntArray:
        """(N,) int64: progress that users will have made by a wall time if nothing stops them, since `wait`."""
        return self._clock.progress_by(self._time_us + 1e6 * speed * (now - self._late - self.wall))

    def stall(self, rows: BoolArray, now: float) -> None:
        """Users of the instances (N,) could not go on since where they stand; that is not made up for."""
        self.wall = np.where(rows, now - self._late, self.wall)

    def stride(self, seconds: float) -> IntArray:
        """(N,) int64: progress that users make in the next simulated seconds, if nothing stops them; at least 1."""
        clock = self._clock
        later = clock.time_us().astype(np.float64) + 1e6 * seconds
        return np.asarray(np.maximum(clock.progress_by(later) - self._subsystem.progress(), 1))


class _Unclocked:
    """The clock of a subsystem that has none."""

    def __init__(self, subsystem: BatchedSubsystem) -> None:
        self._subsystem = subsystem
        self._us_per_progress = 1e6 / UNCLOCKED_PROGRESS_PER_SECOND

    def time_us(self) -> FloatArray:
        return np.asarray(self._subsystem.progress() * self._us_per_progress)

    def progress_by(self, time_us: FloatArray) -> IntArray:
        return np.maximum(self._subsystem.progress(), (time_us / self._us_per_progress).astype(np.int64))
