"""The accounts of mode `auto`: what operations and units have cost beyond the built-in algorithm, and who pays."""

from __future__ import annotations

import math

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.proxy.budget import LossBudget, spent_after
from kml_envs.proxy.specs import BoolArray, FloatArray, IntArray

BLIND_UNIT_ROOM = 0.25
"""Part of what a unit usually costs that must be free before the agent gets one whose operations have no forecast."""


class UnitAccounts:
    """What the agent's units have cost in all, of G volumes compared in time, where operations have no forecast.

    While a unit runs the agent is charged what its operations cost. What they spoil shows later: when the built-in
    algorithm has the rest of a unit that was cut, and in its next unit. So at its end a unit is charged as a whole, and
    the built-in algorithm's next one too, against what its units cost on average where the agent was not near.

    Attributes:
        dearest: (G,) float64, the most that a unit of the agent's, and the one after it, has cost beyond the average.
    """

    def __init__(self, budget: LossBudget) -> None:
        """Begin with nothing; what is charged is spent of this budget."""
        self._budget, volumes = budget, len(budget.spent)
        self.dearest: FloatArray = np.zeros(volumes)
        self._progress: FloatArray = np.zeros(volumes)
        self._cost: FloatArray = np.zeros(volumes)
        self._spent: FloatArray = np.zeros(volumes)
        self._before: FloatArray = np.full(volumes, np.nan)  # excess of the unit before; NaN: it was not the agent's

    def room(self, usual: FloatArray) -> FloatArray:
        """(G,) float64: what must be free for a unit of the agent's, where units usually cost this much (G,)."""
        return np.maximum(BLIND_UNIT_ROOM * usual, self.dearest)

    def begin(self, rows: BoolArray, progress: IntArray, cost: FloatArray, forget: bool) -> None:
        """An episode begins in the rows (G,), from this progress and cost (G,)."""
        self._open(rows.nonzero()[0], progress, cost)
        self._before[rows] = np.nan
        if forget:
            self.dearest[rows] = 0.0

    def close(self, ended: IntArray, agent: BoolArray, usual: FloatArray, progress: IntArray, cost: FloatArray) -> None:
        """Charge the units of the volumes (E,) int64 that are over, and begin the next ones.

        Args:
            ended: The volumes.
            agent: (G,) bool, whether the unit was the agent's.
            usual: (G,) float64, mean cost per progress of the built-in algorithm on its own, NaN while unknown.
            progress: (G,) int64, where the subsystem is.
            cost: (G,) float64, what it has paid.
        """
        excess = (cost - self._cost - usual * (progress - self._progress))[ended]
        own, before = agent[ended], self._before[ended]
        after = ~own & ~np.isnan(before)
        charged = (own | after) & ~np.isnan(excess)
        volumes = ended[charged]
        # The operations of a unit have been charged while it ran; as a whole it may have cost more, or less.
        spent = np.where(own, self._spent[ended], self._budget.spent[ended])
        self._budget.spent[volumes] = spent_after(spent, excess)[charged]
        with_next = excess + np.where(after, before, 0.0)
        self.dearest[volumes] = np.maximum(self.dearest[volumes], with_next[charged])
        self._before[ended] = np.where(own, excess, np.nan)
        self._open(ended, progress, cost)

    def _open(self, volumes: IntArray, progress: IntArray, cost: FloatArray) -> None:
        self._progress[volumes] = progress[volumes]
        self._cost[volumes] = cost[volumes]
        self._spent[volumes] = self._budget.spent[volumes]


@compiled
def account(
    progress: Record,
    cost: Record,
    builtin: Record,
    last_progress: Record,
    last_cost: Record,
    last_builtin: Record,
    exact: bool,
    rate: Record,
    domains: int,
    unheld: int,
    acting: Record,
    lived: Record,
    dearest: Record,
    budget_builtin: Record,
    budget_spent: Record,
) -> None:
    """Bring the loss budgets of G volumes of D domains each up to where the subsystem is.

    With a shadow both what the built-in algorithm would have cost and what the agent has spent are exact. Without one
    the former comes in space from the domains that the agent never holds, in time from the rate; the latter is charged
    where the agent's operations have ended, against the rate.

    Args:
        progress: (N,) int64, where the subsystem is.
        cost: (N,) float64, what it has paid.
        builtin: (N,) float64, what a shadow has paid; without one anything.
        last_progress: (N,) int64, as of the last account; brought up to date, as the next two.
        last_cost: (N,) float64.
        last_builtin: (N,) float64; with a shadow only.
        exact: Whether there is a shadow.
        rate: (G,) float64, cost per progress of the built-in algorithm, NaN while unknown.
        domains: D.
        unheld: How many domains of a volume, its first ones, the agent never holds.
        acting: (N,) bool, where an operation of the agent's has ended that waits to be charged; set to false.
        lived: (G,) float64, progress of all domains; grows.
        dearest: (G,) float64, the most that one operation of the agent's has cost beyond the built-in algorithm; grows.
        budget_builtin: (G,) float64, cost of the built-in algorithm so far; grows.
        budget_spent: (G,) float64, cost of the agent beyond it.
    """
    for volume in range(rate.size):
        known = not math.isnan(rate[volume])
        spent = 0.0
        for domain in range(domains):
            row = volume * domains + domain
            made, paid = progress[row] - last_progress[row], cost[row] - last_cost[row]
            last_progress[row], last_cost[row] = progress[row], cost[row]
            lived[volume] += made
            if exact:
                expected = builtin[row] - last_builtin[row]
                last_builtin[row] = builtin[row]
                budget_builtin[volume] += expected
            else:
                # While the rate is not known the built-in algorithm is alone, and what it pays is what it costs.
                expected = rate[volume] * made if known else paid
                if domains == 1:
                    budget_builtin[volume] += expected
                elif domain < unheld:
                    budget_builtin[volume] += paid * domains / unheld
            if acting[row]:
                dearest[volume] = max(dearest[volume], paid - expected)
            if exact or acting[row]:
                spent += paid - expected
            acting[row] = False
        budget_spent[volume] = spent_after(budget_spent[volume], spent)
