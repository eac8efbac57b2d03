"""Whether an agent is alive and talks sense: its rejected and missing recommendations, and its heartbeat."""

from __future__ import annotations

import numpy as np

from kml_envs.proxy.specs import BoolArray, IntArray
from kml_envs.proxy.verdict import Verdict, VerdictArray

FAILURES = 8
"""Rejected or missing recommendations in a row that make an agent unhealthy."""

_BLAMELESS = (
    Verdict.ACCEPTED,
    Verdict.NOT_ASKED,
    Verdict.EMERGENCY,
    Verdict.DATA_SET_CORRUPTED,
    Verdict.NOT_PERMITTED,
)
_BLAMED = np.array([verdict not in _BLAMELESS for verdict in Verdict])
_PRAISED = np.array([verdict in (Verdict.ACCEPTED, Verdict.NOT_PERMITTED) for verdict in Verdict])


class Health:
    """The health of the agents of N instances.

    Attributes:
        alive: (N,) bool, whether the agent's heart beats, as far as the channel to it knows.
    """

    def __init__(self, instances: int) -> None:
        """Begin healthy."""
        self.alive: BoolArray = np.ones(instances, dtype=np.bool_)
        self._failures: IntArray = np.zeros(instances, dtype=np.int64)
        self._failing = False  # whether there is any

    def note(self, verdict: VerdictArray) -> None:
        """Take in what became of the latest recommendations (N,)."""
        if self._failing or np.count_nonzero(verdict):
            self._failures = np.where(_PRAISED[verdict], 0, self._failures + _BLAMED[verdict])
            self._failing = bool(np.count_nonzero(self._failures))

    def unhealthy(self) -> BoolArray:
        """(N,) bool."""
        return np.asarray((self._failures >= FAILURES) | ~self.alive) if self._failing else ~self.alive

    def forgive(self, rows: BoolArray) -> None:
        """Give the agents of the rows (N,) another chance."""
        self._failures[rows] = 0
