"""What the two sides' units have cost, relative to each other, and what the built-in algorithm costs on its own.

In time a window is compared with what earlier windows of the built-in algorithm lead one to expect; in space the
domains of a volume are compared with each other over the same window. Both give the *excess*, a log cost, that
`evidence.py` bets on. Costs must not be negative: sides are compared by their ratio.
"""

from __future__ import annotations

import numpy as np

from kml_envs.proxy.evidence import SHIFTS, domain_bets
from kml_envs.proxy.specs import BoolArray, FloatArray, IntArray
from kml_envs.proxy.units import UnitOutcome, unheld_domains
from kml_envs.proxy.windows import (
    ALONE,
    CEILING,
    HISTORY,
    LEAST_SPREAD,
    PRIOR_SPREAD,
    RISEN_WINDOWS,
    compare_windows,
    learn_spreads,
    log_ratio,
)


class Comparison:
    """Excess costs and the bets on them, for G volumes of D domains each.

    Attributes:
        rate: (G,) float64, cost per progress of the built-in algorithm without the agent, NaN while nothing is known.
            In time a lower confidence bound from windows that begin at least a whole window after the agent's last; in
            space what the domains that the agent never holds have cost in the same window.
        alone: (G,) float64, in time, the mean over the same windows that the bound is of.
    """

    def __init__(self, volumes: int, domains: int) -> None:
        """Begin without knowledge."""
        self._domains = domains
        self._history = np.zeros(volumes, HISTORY)
        self.rate: FloatArray = self._history["rate"]  # a view, as the next
        self.alone: FloatArray = self._history["usual"][:, ALONE]
        self._factors: FloatArray = np.empty((3, volumes, len(SHIFTS)))
        self.restart(np.ones(volumes, dtype=np.bool_), forget=True)

    def restart(self, rows: BoolArray, forget: bool) -> None:
        """A new episode begins in the rows (G,), maybe with another load: only the spread is kept, unless forgotten."""
        if forget:
            self._history["variance"][rows] = PRIOR_SPREAD**2
            self._history["variance_units"][rows] = 1
        self.forget_costs(rows)
        self._history["before"][rows] = ALONE

    def forget_costs(self, rows: BoolArray) -> None:
        """What units of the volumes (G,) have cost so far says nothing about those to come."""
        self.rate[rows] = np.nan
        self._history["usual"][rows] = np.nan
        self._history["seen"][rows] = 0
        self.watch(rows)

    def watch(self, rows: BoolArray) -> None:
        """The agent is trusted in the volumes (G,): what its windows cost from now on is what they usually cost."""
        self._history["own"][rows] = np.nan
        self._history["own_seen"][rows] = 0
        self._history["risen"][rows] = 0

    def shifted(self, rows: IntArray) -> BoolArray:
        """Whether the agent's windows in volumes (R,) int64 have come to cost more than they did; never in space.

        A rise says that what was compared is no longer there, though not whose doing it is. It is looked for because
        it shows in every window of the agent's, while the built-in algorithm's are few once the agent is trusted. A
        fall is no alarm: the agent may have learned.
        """
        return np.asarray(self._history["risen"][rows] >= RISEN_WINDOWS)

    def update(self, outcome: UnitOutcome, margin: float) -> tuple[IntArray, FloatArray]:
        """Take in the units that have ended.

        Args:
            outcome: The units.
            margin: By how much, as a share of the cost, the agent may be worse and still be called no worse.

        Returns:
            Volumes (R,) that could be bet on, and the log factors (3, R, K) for "no worse", "better" and "worse",
            which the next call overwrites.
        """
        if self._domains > 1:
            return self._compare_domains(outcome, margin)
        rows, agent, progress, cost, share, cut = outcome
        known = compare_windows(self._history, rows, agent, cut, share, progress, cost, margin, self._factors)
        return known, self._factors[:, : known.size]

    def _compare_domains(self, outcome: UnitOutcome, margin: float) -> tuple[IntArray, FloatArray]:
        """The domains of a volume against each other."""
        shape, unheld = (-1, self._domains), unheld_domains(self._domains)
        rows = np.flatnonzero(outcome.rows.reshape(shape)[:, 0])
        agent, cut = outcome.agent.reshape(shape)[rows], outcome.cut.reshape(shape)[rows]
        rate = (outcome.cost / np.maximum(outcome.progress, 1)).reshape(shape)[rows]
        usual = rate[:, :unheld].mean(axis=1, keepdims=True)
        spread = np.maximum(np.sqrt(self._history["variance"][rows]), LEAST_SPREAD)
        excess = log_ratio(rate, usual)
        allowed = np.where(agent, log_ratio(rate / (1.0 + margin), usual), excess)
        lost = agent & cut
        drawn = agent.sum(axis=1)
        known = (drawn > 0) & (drawn < self._domains - unheld)
        claims = (np.where(lost, CEILING, allowed), np.where(lost, CEILING, excess), np.where(lost, 0.0, -excess))
        factors = [domain_bets(claim[known, unheld:], spread[known], agent[known, unheld:]) for claim in claims]
        builtin = np.where(agent, np.nan, excess)
        centred = builtin - np.nanmean(builtin, axis=1, keepdims=True)
        free = np.maximum(self._domains - drawn - 1, 1)
        learn_spreads(self._history, rows, np.nansum(centred**2, axis=1) / free)
        self.rate[rows] = usual[:, 0]
        return rows[known], np.array(factors)
