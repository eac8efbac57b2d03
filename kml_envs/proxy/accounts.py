"""The accounts of mode `auto`, compiled: what operations have cost beyond the built-in algorithm, and who pays."""

from __future__ import annotations

import math

from kml_envs.compiling import Record, compiled
from kml_envs.proxy.budget import spent_after


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
