"""What the two sides' units have cost, relative to each other, and what the built-in algorithm costs on its own.

In time a window is compared with what earlier windows of the built-in algorithm lead one to expect; in space the
domains of a volume are compared with each other over the same window. Both give the *excess*, a log cost, that
`evidence.py` bets on. Costs must not be negative: sides are compared by their ratio.
"""

from __future__ import annotations

import numpy as np

from kml_envs.proxy.evidence import domain_bets, window_bets
from kml_envs.proxy.specs import BoolArray, FloatArray, IntArray
from kml_envs.proxy.units import UnitOutcome, unheld_domains

MEMORY = 5  # units that an average reaches back to
PRIOR_SPREAD = 0.05  # of log cost, before any unit has been seen
LEAST_SPREAD = 0.005
CEILING = 50.0  # excess of a unit that the agent could not finish: as bad as can be
TRACE = 0.01  # of the usual cost, added to every cost, since units may cost nothing
RISE = 1.25  # times what the agent usually costs: from there on its load, or the agent, counts as another one
RISEN_WINDOWS = 2  # in a row
ALONE, AGENT, CUT = range(3)  # who had the window before: the built-in algorithm, the agent, the agent for a part


class Comparison:
    """Excess costs and the bets on them, for G volumes of D domains each.

    Attributes:
        rate: (G,) float64, cost per progress of the built-in algorithm without the agent, NaN while nothing is known.
            In time a lower confidence bound from windows that begin at least a whole window after the agent's last; in
            space what the domains that the agent never holds have cost in the same window.
    """

    def __init__(self, volumes: int, domains: int) -> None:
        """Begin without knowledge."""
        self.rate: FloatArray = np.full(volumes, np.nan)
        self._domains = domains
        self._usual: FloatArray = np.full((3, volumes), np.nan)  # by who had the window before
        self._seen: IntArray = np.zeros((3, volumes), dtype=np.int64)
        self._variance: FloatArray = np.full(volumes, PRIOR_SPREAD**2)
        self._variance_units: IntArray = np.ones(volumes, dtype=np.int64)
        self._before: IntArray = np.full(volumes, ALONE)
        self._own: FloatArray = np.full(volumes, np.nan)  # of the agent's windows that followed one of its own
        self._own_seen: IntArray = np.zeros(volumes, dtype=np.int64)
        self._risen: IntArray = np.zeros(volumes, dtype=np.int64)  # windows in a row

    def restart(self, rows: BoolArray, forget: bool) -> None:
        """A new episode begins in the rows (G,), maybe with another load: only the spread is kept, unless forgotten."""
        if forget:
            self._variance[rows] = PRIOR_SPREAD**2
            self._variance_units[rows] = 1
        self.forget_costs(rows)
        self._before[rows] = ALONE

    def forget_costs(self, rows: BoolArray) -> None:
        """What units of the volumes (G,) have cost so far says nothing about those to come."""
        self.rate[rows] = np.nan
        self._usual[:, rows] = np.nan
        self._seen[:, rows] = 0
        self.watch(rows)

    def watch(self, rows: BoolArray) -> None:
        """The agent is trusted in the volumes (G,): what its windows cost from now on is what they usually cost."""
        self._own[rows] = np.nan
        self._own_seen[rows] = 0
        self._risen[rows] = 0

    def shifted(self, rows: IntArray) -> BoolArray:
        """Whether the agent's windows in volumes (R,) int64 have come to cost more than they did; never in space.

        A rise says that what was compared is no longer there, though not whose doing it is. It is looked for because
        it shows in every window of the agent's, while the built-in algorithm's are few once the agent is trusted. A
        fall is no alarm: the agent may have learned.
        """
        return np.asarray(self._risen[rows] >= RISEN_WINDOWS)

    def update(self, outcome: UnitOutcome, margin: float) -> tuple[IntArray, list[FloatArray]]:
        """Take in the units that have ended.

        Args:
            outcome: The units.
            margin: By how much, as a share of the cost, the agent may be worse and still be called no worse.

        Returns:
            Volumes (R,) that could be bet on, and the log factors (R, K) for "no worse", "better" and "worse".
        """
        if self._domains > 1:
            return self._compare_domains(outcome, margin)
        return self._compare_windows(outcome, margin)

    def _compare_windows(self, outcome: UnitOutcome, margin: float) -> tuple[IntArray, list[FloatArray]]:
        """A window against what is expected of it.

        What a window costs depends on what the one before has left behind. So it is compared with windows of the
        built-in algorithm that followed the like, and not bet on until there has been one.
        """
        rows = np.flatnonzero(outcome.rows)
        agent, cut, share = outcome.agent[rows], outcome.cut[rows], outcome.share[rows]
        rate = outcome.cost[rows] / np.maximum(outcome.progress[rows], 1)
        before = self._before[rows]
        usual = self._usual[before, rows]
        spread = np.maximum(np.sqrt(self._variance[rows]), LEAST_SPREAD)
        known = ~np.isnan(usual) & (share > 0.0) & (share < 1.0)
        excess = _log_ratio(rate, usual)
        allowed = np.where(agent, _log_ratio(rate / (1.0 + margin), usual), excess)
        lost = agent & cut
        claims = np.array([np.where(lost, CEILING, allowed), np.where(lost, CEILING, excess), -excess])
        factors = list(window_bets(claims[:, known], spread[known], agent[known], share[known]))
        factors[2][lost[known]] = 0.0
        if np.count_nonzero(alone := ~agent):
            self._learn_windows(rows[alone], before[alone], rate[alone], excess[alone])
        if np.count_nonzero(settled := agent & ~cut & (before == AGENT)):
            self._learn_own(rows[settled], rate[settled], spread[settled])
        self._before[rows] = np.where(lost, CUT, np.where(agent, AGENT, ALONE))
        return rows[known], factors

    def _learn_windows(self, rows: IntArray, before: IntArray, rate: FloatArray, excess: FloatArray) -> None:
        """The built-in algorithm's windows tell what to expect of the next."""
        expected = ~np.isnan(self._usual[before, rows])
        self._learn_spread(rows[expected], excess[expected] ** 2)
        seen = self._seen[before, rows]
        weight = 1.0 / np.minimum(seen + 1.0, MEMORY)
        usual = np.where(seen > 0, self._usual[before, rows], 0.0)
        self._usual[before, rows] = usual + weight * (rate - usual)
        self._seen[before, rows] += 1
        units = np.minimum(self._seen[ALONE, rows], MEMORY)
        margin = 2.0 * np.sqrt(self._variance[rows] / np.maximum(units, 1))
        self.rate[rows] = self._usual[ALONE, rows] * np.exp(-margin)

    def _learn_own(self, rows: IntArray, rate: FloatArray, spread: FloatArray) -> None:
        """The agent's windows tell what it costs where it is left alone, and whether that has risen."""
        own, seen = self._own[rows], self._own_seen[rows]
        high = (seen >= RISEN_WINDOWS) & (_log_ratio(rate, own) > np.maximum(np.log(RISE), 3.0 * spread))
        self._risen[rows] = np.where(high, self._risen[rows] + 1, 0)
        learned = np.where(seen > 0, own + (rate - own) / (seen + 1.0), rate)
        self._own[rows] = np.where(high, own, learned)
        self._own_seen[rows] += ~high

    def _compare_domains(self, outcome: UnitOutcome, margin: float) -> tuple[IntArray, list[FloatArray]]:
        """The domains of a volume against each other."""
        shape, unheld = (-1, self._domains), unheld_domains(self._domains)
        rows = np.flatnonzero(outcome.rows.reshape(shape)[:, 0])
        agent, cut = outcome.agent.reshape(shape)[rows], outcome.cut.reshape(shape)[rows]
        rate = (outcome.cost / np.maximum(outcome.progress, 1)).reshape(shape)[rows]
        usual = rate[:, :unheld].mean(axis=1, keepdims=True)
        spread = np.maximum(np.sqrt(self._variance[rows]), LEAST_SPREAD)
        excess = _log_ratio(rate, usual)
        allowed = np.where(agent, _log_ratio(rate / (1.0 + margin), usual), excess)
        lost = agent & cut
        drawn = agent.sum(axis=1)
        known = (drawn > 0) & (drawn < self._domains - unheld)
        claims = (np.where(lost, CEILING, allowed), np.where(lost, CEILING, excess), np.where(lost, 0.0, -excess))
        factors = [domain_bets(claim[known, unheld:], spread[known], agent[known, unheld:]) for claim in claims]
        builtin = np.where(agent, np.nan, excess)
        centred = builtin - np.nanmean(builtin, axis=1, keepdims=True)
        free = np.maximum(self._domains - drawn - 1, 1)
        self._learn_spread(rows, np.nansum(centred**2, axis=1) / free)
        self.rate[rows] = usual[:, 0]
        return rows[known], factors

    def _learn_spread(self, rows: IntArray, square: FloatArray) -> None:
        """A squared deviation of the built-in algorithm's units (R,)."""
        weight = 1.0 / np.minimum(self._variance_units[rows] + 1.0, 2 * MEMORY)
        self._variance[rows] += weight * (np.minimum(square, 1.0) - self._variance[rows])
        self._variance_units[rows] += 1


def _log_ratio(rate: FloatArray, usual: FloatArray) -> FloatArray:
    """Logarithm of a cost over the usual one."""
    trace = TRACE * usual + 1e-12
    return np.asarray(np.log((np.maximum(rate, 0.0) + trace) / (usual + trace)))
