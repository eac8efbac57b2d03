"""How much the agent may cost beyond the built-in algorithm: a budget that is checked before each operation runs.

As in conservative bandits (Wu, Shariff, Lattimore and Szepesvari 2016), total cost must never exceed (1 + tolerance)
times what the built-in algorithm would have cost. The budget starts at zero and grows with the built-in algorithm's
cost; what the agent costs beyond it is spent. What the agent saves pays for what it costs later only as far as it has
overspent
before: savings are not saved up, or an agent that was good for long could do harm for long.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.proxy.specs import BoolArray, FloatArray

KEPT = 0.25
"""Part of the allowance that no operation may use: what past operations have spoiled shows in later costs too."""

UNIT_ROOM = 0.04
"""Part of what a unit usually costs that must be free before the agent gets one: else what it invests would end it."""

CLEAR = 0.9
"""A budget that was spent is clear again once no more than this part of what operations may use is spent."""


class LossBudget:
    """The budgets of G volumes.

    Attributes:
        builtin: (G,) float64, cost of the built-in algorithm so far.
        spent: (G,) float64, cost of the agent beyond it.
    """

    def __init__(self, volumes: int, tolerance: float) -> None:
        """Begin with nothing.

        Args:
            volumes: G.
            tolerance: Allowed excess as a share of the built-in algorithm's cost.
        """
        self.builtin: FloatArray = np.zeros(volumes)
        self.spent: FloatArray = np.zeros(volumes)
        self._allowed = (1.0 - KEPT) * tolerance

    def spend(self, price: FloatArray, acting: BoolArray) -> None:
        """Operations (N,) cost this much more than the built-in algorithm, less where negative, if `acting` (N,)."""
        _spend(self.spent, price, acting)

    def allowance(self) -> FloatArray:
        """(G,) float64: what operations may spend in all."""
        return self._allowed * self.builtin

    def holds(self, price: FloatArray, wanted: BoolArray) -> BoolArray:
        """Whether the budget holds operations before they run.

        Args:
            price: (N,) float64, what each domain's operation may cost beyond the built-in algorithm.
            wanted: (N,) bool, whether there is an operation; where there is none, the price means nothing.

        Returns:
            (N,) bool; of several operations of a volume, the later ones must leave room for those before them.
        """
        fits: BoolArray = np.empty(price.shape, dtype=np.bool_)
        _hold(self.builtin, self.spent, self._allowed, price, wanted, fits)
        return fits

    def exhausted(self) -> BoolArray:
        """(G,) bool: more than half of the allowance is spent. An operation refused then is no beginner's bad luck."""
        return np.asarray(self.spent > 0.5 * self.allowance())

    def overdrawn(self) -> BoolArray:
        """(G,) bool: more is spent than operations may spend."""
        return np.asarray(self.spent > self.allowance())

    def clear(self) -> BoolArray:
        """(G,) bool: there is room again."""
        return np.asarray(_is_clear(self.spent, self.allowance()))

    def has_room(self, room: FloatArray) -> BoolArray:
        """(G,) bool: it is clear, and this much (G,) is free for what the agent's units may cost."""
        roomy: BoolArray = np.empty(len(room), dtype=np.bool_)
        _have_room(self.builtin, self.spent, self._allowed, room, roomy)
        return roomy

    def restart(self, rows: BoolArray) -> None:
        """Begin with nothing in the rows (G,)."""
        self.builtin[rows] = 0.0
        self.spent[rows] = 0.0


@compiled
def spent_after(spent: Record, excess: Record) -> Record:
    """What is spent once the agent has cost this much more: savings are not saved up."""
    return np.maximum(spent + excess, 0.0)


@compiled
def _is_clear(spent: Record, allowance: Record) -> Record:
    """Of numbers, or of arrays."""
    return (spent <= CLEAR * allowance) & (allowance > 0.0)


@compiled
def _have_room(builtin: Record, spent: Record, allowed: float, room: Record, roomy: Record) -> None:
    """`LossBudget.has_room`."""
    for volume in range(spent.size):
        allowance = allowed * builtin[volume]
        enough = allowance - spent[volume] >= room[volume]
        roomy[volume] = _is_clear(spent[volume], allowance) and enough


@compiled
def _hold(builtin: Record, spent: Record, allowed: float, price: Record, wanted: Record, fits: Record) -> None:
    """`LossBudget.holds`."""
    domains = price.size // spent.size
    for volume in range(spent.size):
        total = spent[volume]
        for row in range(volume * domains, (volume + 1) * domains):
            if wanted[row]:
                total += max(price[row], 0.0)
            fits[row] = total <= allowed * builtin[volume]


@compiled
def _spend(spent: Record, price: Record, acting: Record) -> None:
    """`LossBudget.spend`."""
    domains = price.size // spent.size
    for volume in range(spent.size):
        excess = 0.0
        for row in range(volume * domains, (volume + 1) * domains):
            if acting[row]:
                excess += price[row]
        spent[volume] = spent_after(spent[volume], excess)
