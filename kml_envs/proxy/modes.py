"""Who acts: the four modes, their shares of the units, and what decides the mode of every instance."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kml_envs.errors import UserError, unknown_name
from kml_envs.proxy.specs import Array, BoolArray, FloatArray
from kml_envs.proxy.units import UnitOutcome
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

AUTO = "auto"
"""The name under which the proxy decides by itself (automatic.py)."""

PROBE_SHARE = 1 / 16
"""The share of units left to the built-in algorithm in recommendation mode, where probes are wanted."""


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

    def heartbeat(self, alive: BoolArray | None) -> None:
        """Which agents (N,) bool are there at all, None: none has come yet; `suspended` holds after this too."""

    def permit(self, judgement: Judgement) -> BoolArray | None:
        """Look at what passed the checks before it runs.

        Args:
            judgement: The recommendations and their verdicts; the agent is about to act where they are accepted.

        Returns:
            (N,) bool, where it may; None: everywhere.
        """

    def suspended(self) -> BoolArray | None:
        """(N,) bool, where the built-in algorithm has the rest of the unit, after `permit`; None: nowhere."""

    def operation_ended(self, verdict: VerdictArray) -> None:
        """One decision cycle is over, with these verdicts (N,)."""

    def unit_ended(self, outcome: UnitOutcome) -> None:
        """Units are over; the next ones are drawn after this."""

    def report(self) -> dict[str, Array]:
        """(N,) each, new arrays: what there is to say of the modes beside `mode`, by name."""


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

    def heartbeat(self, alive: BoolArray | None) -> None:
        """A fixed mode does not look."""

    def permit(self, judgement: Judgement) -> BoolArray | None:
        """Everything that passed the checks."""
        return None

    def suspended(self) -> BoolArray | None:
        """Nothing is ever suspended."""
        return None

    def operation_ended(self, verdict: VerdictArray) -> None:
        """A fixed mode does not look."""

    def unit_ended(self, outcome: UnitOutcome) -> None:
        """A fixed mode does not look."""

    def report(self) -> dict[str, Array]:
        """The share."""
        return {"share": self._share.copy()}


def parse_mode(name: str) -> Mode:
    """The mode of that name.

    Raises:
        UserError: There is no such mode.
    """
    modes = {mode.name.lower(): mode for mode in Mode}
    if name not in modes:
        raise unknown_name("mode", name, [*modes, AUTO])
    return modes[name]


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
