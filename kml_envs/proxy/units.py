"""The units of a comparison: windows of progress, each controlled by one side, drawn at random.

In time a unit is a window of one instance. Windows are drawn with the mode's share, so that the two sides meet the same
load on average. In space a volume is a group of D instances, its *domains*, that run over the same windows: in each
window a fixed number of them, drawn at random, is the agent's. The first domains of a group are never drawn: what the
built-in algorithm costs without the agent is seen there.

Only the second half of a window counts in a comparison: cleaning is an investment, and the first half still pays for,
or harvests, what the previous window did.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kml_envs.compiling import Record, compiled
from kml_envs.errors import UserError
from kml_envs.proxy.specs import BoolArray, FloatArray, IntArray


class UnitOutcome(NamedTuple):
    """What the units that have just ended have shown.

    Attributes:
        rows: (N,) bool, where a unit has ended; the other rows of the arrays below mean nothing.
        agent: (N,) bool, whether the agent was drawn to control it.
        progress: (N,) int64, progress made in its second half.
        cost: (N,) float64, cost paid in its second half.
        share: (N,) float64, the agent's share with which it was drawn.
        cut: (N,) bool, the agent was drawn, but not allowed to act throughout.
    """

    rows: BoolArray
    agent: BoolArray
    progress: IntArray
    cost: FloatArray
    share: FloatArray
    cut: BoolArray


class UnitSchedule:
    """Which side controls each instance now, and until when.

    Attributes:
        agent: (N,) bool, whether the current unit is the agent's to control.
        boundary: (N,) int64, the progress at which the current half of the unit ends.
    """

    def __init__(self, instances: int, window: int, domains: int = 1) -> None:
        """Prepare the schedule.

        Args:
            instances: N.
            window: Progress in one unit, at least 2.
            domains: D, instances in a group; 1: the comparison is in time.

        Raises:
            UserError: The window has no two halves, or the instances make no whole groups.
        """
        if window < 2:
            raise UserError(f"a window must hold at least 2 units of progress, got {window}")
        if domains < 1 or instances % domains:
            raise UserError(f"{instances} instances make no whole groups of {domains} domains")
        self.agent: BoolArray = np.zeros(instances, dtype=np.bool_)
        self.boundary: IntArray = np.zeros(instances, dtype=np.int64)
        self._window = window
        self._domains = domains
        self._drawn: BoolArray = np.zeros(instances, dtype=np.bool_)
        self._share: FloatArray = np.zeros(instances)
        self._second_half: BoolArray = np.zeros(instances, dtype=np.bool_)
        self._index: IntArray = np.zeros(instances, dtype=np.int64)
        self._seeds: npt.NDArray[np.uint64] = np.zeros(instances, dtype=np.uint64)
        self._progress: IntArray = np.zeros(instances, dtype=np.int64)
        self._cost: FloatArray = np.zeros(instances)

    def begin(self, rows: BoolArray, seeds: npt.NDArray[np.uint64], progress: IntArray, share: FloatArray) -> None:
        """Draw the first unit of a new episode in the rows; the seeds (N,) decide all draws of the episode."""
        self._seeds[rows] = seeds[rows]
        self._index[rows] = 0
        self._draw(rows, progress, share)

    def advance(self, progress: IntArray, cost: FloatArray, share: FloatArray) -> UnitOutcome | None:
        """Pass the boundaries that have been reached; a group passes them together. Draw the units that follow.

        Args:
            progress: (N,) int64, where the instances are.
            cost: (N,) float64, what they have paid.
            share: (N,) float64, the agent's share of the units drawn now.

        Returns:
            The units that have ended, or None.
        """
        outcome = self.close(progress, cost)
        if outcome is not None:
            self.open(outcome.rows, progress, share)
        return outcome

    def close(self, progress: IntArray, cost: FloatArray) -> UnitOutcome | None:
        """Pass the boundaries that have been reached; `open` must follow for units that have ended."""
        ended: BoolArray = np.zeros(len(progress), dtype=np.bool_)
        count = _pass_boundaries(
            progress,
            cost,
            self._window - self._window // 2,
            self._domains,
            self.boundary,
            self._second_half,
            self._progress,
            self._cost,
            ended,
        )
        if not count:
            return None
        made, paid = progress - self._progress, cost - self._cost
        return UnitOutcome(ended, self._drawn.copy(), made, paid, self._share.copy(), self._drawn & ~self.agent)

    def open(self, rows: BoolArray, progress: IntArray, share: FloatArray) -> None:
        """Draw the next units of the rows, whose units have ended."""
        self._index[rows] += 1
        self._draw(rows, progress, share)

    def cut(self, rows: BoolArray) -> None:
        """Leave the rest of the rows' units to the built-in algorithm."""
        self.agent &= ~rows

    def waiting(self, progress: IntArray) -> BoolArray:
        """(N,) bool: domains that wait at a boundary for the others of their group."""
        return np.asarray(progress >= self.boundary)

    def _draw(self, rows: BoolArray, progress: IntArray, share: FloatArray) -> None:
        """Give the rows' next unit to a side."""
        _draw_units(
            rows,
            self._seeds,
            self._index,
            share,
            self._domains,
            unheld_domains(self._domains),
            self._drawn,
            self._share,
        )
        self.agent[rows] = self._drawn[rows]
        self.boundary[rows] = progress[rows] + self._window // 2
        self._second_half[rows] = False


def unheld_domains(domains: int) -> int:
    """How many domains of a group, its first ones, never belong to the agent: one in sixteen."""
    return -(-domains // 16)


@compiled
def draw_unit(seed: int, index: int) -> float:
    """The random number of an instance's `index`-th unit: a hash (SplitMix64), so that no state has to be kept.

    Args:
        seed: uint64.
        index: int64, not negative.

    Returns:
        float64, uniform in [0, 1).
    """
    mixed = np.uint64(seed) + (np.uint64(index) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return np.float64(mixed >> np.uint64(11)) * 2.0**-53


@compiled
def _pass_boundaries(
    progress: Record,
    cost: Record,
    second_length: int,
    domains: int,
    boundary: Record,
    second_half: Record,
    halfway_progress: Record,
    halfway_cost: Record,
    ended: Record,
) -> int:
    """Where whole groups have reached their boundaries, begin second halves, or mark and count the units that ended."""
    count = 0
    for first in range(0, progress.size, domains):
        group = range(first, first + domains)
        reached = True
        for row in group:
            reached &= progress[row] >= boundary[row]
        if not reached:
            continue
        for row in group:
            if second_half[row]:
                ended[row] = True
                count += 1
            else:
                second_half[row] = True
                halfway_progress[row], halfway_cost[row] = progress[row], cost[row]
                boundary[row] += second_length
    return count


@compiled
def _draw_units(
    rows: Record,
    seeds: Record,
    index: Record,
    share: Record,
    domains: int,
    unheld: int,
    drawn: Record,
    drawn_share: Record,
) -> None:
    """Draw the next units of the rows (N,) bool: by its own number in time; in space the lowest numbers of a group."""
    for row in range(rows.size):
        if not rows[row]:
            continue
        drawn_share[row] = share[row]
        number = draw_unit(seeds[row], index[row])
        if domains == 1:
            drawn[row] = number < share[row]
            continue
        place, first = row % domains, row - row % domains
        rank = 0
        for other in range(first + unheld, first + domains):
            rank += draw_unit(seeds[other], index[other]) < number
        drawn[row] = place >= unheld and rank < round(share[row] * domains)
