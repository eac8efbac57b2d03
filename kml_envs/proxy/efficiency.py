"""What acting on the agent saved: the proxy's estimate of the built-in algorithm's cost for the same progress.

Three estimators, all in the subsystem's own cost unit:

`shadow` runs a second simulator under the built-in algorithm to the same progress: exact, and only possible in
simulation. Over an episode the savings sum to cost(shadow) - cost(agent), exactly.
`units` knows what a kernel can know: the cost per progress of the units that the built-in algorithm controlled.
`none` has no estimate: the built-in algorithm's cost is taken as 0, so that the sum over an episode is minus the cost
paid. As all episodes have the same progress it still ranks policies, but it cannot say which of them beat the
built-in algorithm. It is the cheapest, and never the default.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from kml_envs.errors import unknown_name
from kml_envs.proxy.protocols import BatchedSubsystem, Shadow
from kml_envs.proxy.specs import Array, BoolArray, Choice, FloatArray, IntArray
from kml_envs.proxy.units import UnitOutcome


class Efficiency(Protocol):
    """An estimator of cost saved.

    Attributes:
        needs_units: Whether it learns from units that the built-in algorithm controls.
    """

    needs_units: bool

    def reset(
        self, rows: BoolArray, seeds: npt.NDArray[np.uint64], progress: IntArray, cost: FloatArray, forget: bool
    ) -> None:
        """A new episode begins in the rows, with these seeds (N,), progress (N,) and cost (N,)."""

    def saved(self, progress: IntArray, cost: FloatArray) -> FloatArray:
        """Cost saved since the last call, or the reset; a row that has not moved has saved 0.

        Args:
            progress: (N,) int64, where the instances are.
            cost: (N,) float64, what they have paid.

        Returns:
            (N,) float64, a new array.
        """

    def builtin_cost(self, cost: FloatArray) -> FloatArray | None:
        """(N,) float64: what the built-in algorithm has paid on its own at the progress last seen by `saved`.

        Args:
            cost: (N,) float64, what the instances had paid there.

        Returns:
            A new array; None where that cannot be known exactly.
        """

    def unit_ended(self, outcome: UnitOutcome) -> None:
        """Units are over."""

    def wants_builtin_unit(self) -> BoolArray | None:
        """(N,) bool: rows whose next unit must be the built-in algorithm's, for want of any estimate; None: none."""


class ShadowEfficiency:
    """Exact savings, against a second simulator under the built-in algorithm."""

    needs_units = False

    def __init__(self, subsystem: BatchedSubsystem) -> None:
        """Build the shadow of a subsystem."""
        shadow = subsystem.shadow()
        self._shadow = shadow if isinstance(shadow, Shadow) else LockstepShadow(shadow)
        self._lead: FloatArray = np.zeros(subsystem.instances)  # cost of the shadow above the agent's, last seen

    def reset(
        self, rows: BoolArray, seeds: npt.NDArray[np.uint64], progress: IntArray, cost: FloatArray, forget: bool
    ) -> None:
        """Begin the same episode in the shadow."""
        self._shadow.reset(rows, seeds)
        self._lead[rows] = (self._shadow.cost_at(progress) - cost)[rows]

    def saved(self, progress: IntArray, cost: FloatArray) -> FloatArray:
        """Compare with what the shadow has paid at the same progress."""
        lead = self._shadow.cost_at(progress) - cost
        saved: FloatArray = lead - self._lead
        self._lead = lead
        return saved

    def builtin_cost(self, cost: FloatArray) -> FloatArray | None:
        """What the shadow has paid."""
        return cost + self._lead

    def unit_ended(self, outcome: UnitOutcome) -> None:
        """A shadow needs no units."""

    def wants_builtin_unit(self) -> BoolArray | None:
        """A shadow needs no units."""
        return None


class LockstepShadow:
    """Any subsystem as a `Shadow`: it is run to the progress asked for, and no further."""

    def __init__(self, subsystem: BatchedSubsystem) -> None:
        """Run a subsystem that is nobody else's by its built-in algorithm."""
        self._subsystem = subsystem
        self._never: BoolArray = np.zeros(subsystem.instances, dtype=np.bool_)
        self._no_decision = no_decision(subsystem)

    def reset(self, rows: BoolArray, seeds: npt.NDArray[np.uint64]) -> None:
        """Begin an episode in the rows."""
        self._subsystem.reset(rows, seeds)

    def cost_at(self, progress: IntArray) -> FloatArray:
        """Run to a progress, and say what that cost.

        A row that is there already stands still, whatever decision waits in it.
        """
        subsystem = self._subsystem
        behind = np.asarray(subsystem.progress() < progress)
        if np.count_nonzero(behind):
            waiting = np.count_nonzero(subsystem.pending())
            decision = subsystem.builtin_decision() if waiting else self._no_decision
            subsystem.execute(decision, self._never, progress, behind)
        return subsystem.cost()


class UnitsEfficiency:
    """Savings against the cost per progress of the units that the built-in algorithm controlled.

    Until a row has seen its first such unit it has no estimate and its savings are 0.
    """

    needs_units = True

    def __init__(self, subsystem: BatchedSubsystem) -> None:
        """Begin without evidence."""
        self._progress: IntArray = np.zeros(subsystem.instances, dtype=np.int64)
        self._cost: FloatArray = np.zeros(subsystem.instances)
        self._builtin_progress: IntArray = np.zeros(subsystem.instances, dtype=np.int64)
        self._builtin_cost: FloatArray = np.zeros(subsystem.instances)

    def reset(
        self, rows: BoolArray, seeds: npt.NDArray[np.uint64], progress: IntArray, cost: FloatArray, forget: bool
    ) -> None:
        """Begin an episode; the evidence stays unless `forget`."""
        self._progress[rows] = progress[rows]
        self._cost[rows] = cost[rows]
        if forget:
            self._builtin_progress[rows] = 0
            self._builtin_cost[rows] = 0.0

    def saved(self, progress: IntArray, cost: FloatArray) -> FloatArray:
        """The built-in algorithm's rate times the progress made, less the cost paid."""
        saved = estimate_saved(self.rate(), progress - self._progress, cost - self._cost)
        self._progress, self._cost = progress.copy(), cost.copy()
        return saved

    def builtin_cost(self, cost: FloatArray) -> FloatArray | None:
        """Not known exactly."""
        return None

    def unit_ended(self, outcome: UnitOutcome) -> None:
        """Learn from the built-in algorithm's units."""
        learned = outcome.rows & ~outcome.agent
        self._builtin_progress[learned] += outcome.progress[learned]
        self._builtin_cost[learned] += outcome.cost[learned]

    def wants_builtin_unit(self) -> BoolArray | None:
        """Rows that have not seen a unit of the built-in algorithm yet."""
        return np.asarray(self._builtin_progress == 0)

    def rate(self) -> FloatArray:
        """(N,) float64: the built-in algorithm's cost per progress; NaN where nothing is known."""
        unknown = np.full(self._builtin_cost.shape, np.nan)
        np.divide(self._builtin_cost, self._builtin_progress, out=unknown, where=self._builtin_progress > 0)
        return unknown


class NoEfficiency:
    """No estimate of the built-in algorithm's cost: what is "saved" is minus the cost paid."""

    needs_units = False

    def __init__(self, subsystem: BatchedSubsystem) -> None:
        """Begin at no cost."""
        self._cost: FloatArray = np.zeros(subsystem.instances)

    def reset(
        self, rows: BoolArray, seeds: npt.NDArray[np.uint64], progress: IntArray, cost: FloatArray, forget: bool
    ) -> None:
        """Begin an episode at the cost paid so far."""
        self._cost[rows] = cost[rows]

    def saved(self, progress: IntArray, cost: FloatArray) -> FloatArray:
        """Minus the cost paid."""
        saved: FloatArray = self._cost - cost
        self._cost = cost.copy()
        return saved

    def builtin_cost(self, cost: FloatArray) -> FloatArray | None:
        """Not known exactly."""
        return None

    def unit_ended(self, outcome: UnitOutcome) -> None:
        """Nothing is estimated."""

    def wants_builtin_unit(self) -> BoolArray | None:
        """Nothing is estimated."""
        return None


def make_efficiency(name: str, subsystem: BatchedSubsystem) -> Efficiency:
    """Build the estimator of that name: `shadow`, `units` or `none`.

    Raises:
        UserError: There is no such estimator.
    """
    if name == "shadow":
        return ShadowEfficiency(subsystem)
    if name == "units":
        return UnitsEfficiency(subsystem)
    if name == "none":
        return NoEfficiency(subsystem)
    raise unknown_name("efficiency", name, ("shadow", "units", "none"))


def estimate_saved(rate: FloatArray, progress: IntArray, cost: FloatArray) -> FloatArray:
    """Cost saved against a rate of cost per progress; 0 where the rate is unknown (NaN).

    Args:
        rate: (N,) float64, cost per progress of the built-in algorithm.
        progress: (N,) int64, progress made.
        cost: (N,) float64, cost paid for it.

    Returns:
        (N,) float64.
    """
    return np.where(np.isnan(rate), 0.0, rate * progress - cost)


def no_decision(subsystem: BatchedSubsystem) -> Array:
    """A placeholder of the right shape for rows in which no decision is pending."""
    if isinstance(subsystem.recommendation, Choice):
        return np.zeros(subsystem.instances, dtype=np.int64)
    return np.tile(subsystem.recommendation.low.astype(np.float64), (subsystem.instances, 1))
