"""Who acts: the four modes, their shares of the units, and the schedule that hands each unit to one side.

A unit is a window: a run of operations over a fixed amount of progress, controlled by one side. Windows are drawn at
random with the mode's share, so that the two sides meet the same load on average. Only the second half of a window
counts in a comparison: cleaning is an investment, and the first half still pays for, or harvests, what the previous
window did.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from kml_envs.errors import UserError, unknown_name
from kml_envs.proxy.specs import BoolArray, FloatArray, IntArray
from kml_envs.proxy.verdict import Judgement, VerdictArray


class Mode(IntEnum):
    """How far the agent is trusted."""

    EMERGENCY = 0
    """The built-in algorithm only; the agent is not asked."""
    LEARNING = 1
    """The agent acts in a small share of the units."""
    COLLABORATION = 2
    """The agent acts in half of the units."""
    RECOMMENDATION = 3
    """The agent acts, except in probe units where there are any."""


ModeArray = npt.NDArray[np.int8]

SHARES = {Mode.EMERGENCY: 0.0, Mode.LEARNING: 1 / 8, Mode.COLLABORATION: 1 / 2, Mode.RECOMMENDATION: 1.0}
"""The agent's default share of the units in each mode."""

PROBE_SHARE = 1 / 16
"""The share of units left to the built-in algorithm in recommendation mode, where probes are wanted."""


class UnitOutcome(NamedTuple):
    """What the units that have just ended have shown.

    Attributes:
        rows: (N,) bool, where a unit has ended; the other rows of the arrays below mean nothing.
        agent: (N,) bool, whether the agent controlled it.
        progress: (N,) int64, progress made in its second half.
        cost: (N,) float64, cost paid in its second half.
    """

    rows: BoolArray
    agent: BoolArray
    progress: IntArray
    cost: FloatArray


class ModeController(Protocol):
    """Decides the mode of every instance. Fixed modes never change it; automatic ones learn from the hooks below.

    Attributes:
        in_units: Whether progress is to be cut into units. Without units an instance belongs to one side throughout.
    """

    in_units: bool

    def reset(self, rows: BoolArray, forget: bool) -> None:
        """A new episode begins in the rows; with `forget` all evidence on them is dropped."""

    def mode(self) -> ModeArray:
        """(N,) int8 `Mode`, the mode of each instance now."""

    def share(self) -> FloatArray:
        """(N,) float64, the agent's share of the units that are drawn from now on."""

    def permit(self, judgement: Judgement) -> BoolArray | None:
        """Look at what passed the checks before it runs.

        Args:
            judgement: The recommendations and their verdicts; the agent is about to act where they are accepted.

        Returns:
            (N,) bool, where it may; None: everywhere.
        """

    def operation_ended(self, verdict: VerdictArray) -> None:
        """One decision cycle is over, with these verdicts (N,)."""

    def unit_ended(self, outcome: UnitOutcome) -> None:
        """Units are over."""


class FixedMode:
    """The same mode for every instance, for ever.

    Attributes:
        in_units: Whether the agent's share lies strictly between none and all.
    """

    def __init__(self, mode: Mode, instances: int, share: float | None = None, probes: bool = False) -> None:
        """Fix the mode.

        Args:
            mode: The mode.
            instances: N.
            share: The agent's share of the units; None: the mode's default.
            probes: In recommendation mode, leave `PROBE_SHARE` of the units to the built-in algorithm.

        Raises:
            UserError: The share is not within 0..1 or does not fit the mode.
        """
        agent_share = _agent_share(mode, share, probes)
        self.in_units = 0.0 < agent_share < 1.0
        self._mode = np.full(instances, mode, dtype=np.int8)
        self._share = np.full(instances, agent_share)

    def reset(self, rows: BoolArray, forget: bool) -> None:
        """Nothing is learned, nothing is forgotten."""

    def mode(self) -> ModeArray:
        """(N,) int8, the fixed mode."""
        return self._mode

    def share(self) -> FloatArray:
        """(N,) float64, the fixed share."""
        return self._share

    def permit(self, judgement: Judgement) -> BoolArray | None:
        """Everything that passed the checks."""
        return None

    def operation_ended(self, verdict: VerdictArray) -> None:
        """A fixed mode does not look."""

    def unit_ended(self, outcome: UnitOutcome) -> None:
        """A fixed mode does not look."""


class UnitSchedule:
    """Which side controls each instance now, and until when.

    Attributes:
        agent: (N,) bool, whether the current unit is the agent's.
        boundary: (N,) int64, the progress at which the current half of the unit ends.
    """

    def __init__(self, instances: int, window: int) -> None:
        """Prepare the schedule.

        Args:
            instances: N.
            window: Progress in one unit, at least 2.

        Raises:
            UserError: The window has no two halves.
        """
        if window < 2:
            raise UserError(f"a window must hold at least 2 units of progress, got {window}")
        self.agent: BoolArray = np.zeros(instances, dtype=np.bool_)
        self.boundary: IntArray = np.zeros(instances, dtype=np.int64)
        self._window = window
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
        """Pass the boundaries that have been reached.

        Args:
            progress: (N,) int64, where the instances are.
            cost: (N,) float64, what they have paid.
            share: (N,) float64, the agent's share of the units drawn now.

        Returns:
            The units that have ended, or None.
        """
        reached: BoolArray = np.asarray(progress >= self.boundary)
        ended = reached & self._second_half
        halved = reached & ~self._second_half
        outcome = None
        if ended.any():
            outcome = UnitOutcome(ended, self.agent.copy(), progress - self._progress, cost - self._cost)
            self._index[ended] += 1
            self._draw(ended, progress, share)
        self._second_half[halved] = True
        self._progress[halved] = progress[halved]
        self._cost[halved] = cost[halved]
        self.boundary[halved] += self._window - self._window // 2
        return outcome

    def _draw(self, rows: BoolArray, progress: IntArray, share: FloatArray) -> None:
        """Give the rows' next unit to a side."""
        self.agent[rows] = (draw_unit(self._seeds, self._index) < share)[rows]
        self.boundary[rows] = progress[rows] + self._window // 2
        self._second_half[rows] = False


def parse_mode(name: str) -> Mode:
    """The mode of that name.

    Raises:
        UserError: There is no such mode.
    """
    modes = {mode.name.lower(): mode for mode in Mode}
    if name not in modes:
        raise unknown_name("mode", name, modes)
    return modes[name]


def draw_unit(seeds: npt.NDArray[np.uint64], index: IntArray) -> FloatArray:
    """One random number per instance for its `index`-th unit: a hash (SplitMix64), so that no state has to be kept.

    Args:
        seeds: (N,) uint64.
        index: (N,) int64, not negative.

    Returns:
        (N,) float64, uniform in [0, 1).
    """
    mixed = seeds + (index.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return np.asarray((mixed >> np.uint64(11)) * 2.0**-53)


def _agent_share(mode: Mode, share: float | None, probes: bool) -> float:
    """The agent's share that the settings ask for."""
    if probes and mode is not Mode.RECOMMENDATION:
        raise UserError(f"probe units belong to mode 'recommendation', not to '{mode.name.lower()}'")
    if share is None:
        return SHARES[mode] - (PROBE_SHARE if probes else 0.0)
    if probes or mode is Mode.EMERGENCY:
        raise UserError("a share of the agent goes neither with probe units nor with mode 'emergency'")
    if not 0.0 <= share <= 1.0:
        raise UserError(f"the agent's share of the units must lie in 0..1, got {share}")
    return share
