"""What passes through a proxy: data sets, recommendations, system states and feedback, and what they may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kml_envs.errors import UserError

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """A recommendation that picks one of `count` candidates: an integer in [0, count).

    Attributes:
        count: Number of candidates K, those masked out at the moment included.
    """

    count: int

    def __post_init__(self) -> None:
        """Reject a choice among nothing."""
        if self.count < 1:
            raise UserError(f"a choice needs at least one candidate, got count={self.count}")


@dataclass(frozen=True, eq=False)
class Bounds:
    """A vector of named numbers, each between its own two bounds.

    The bounds are held as float32, the type in which agents see and send numbers, so that a value at a bound
    never falls outside by rounding.

    Attributes:
        names: One name per number.
        low: (A,) float32, read-only; given as any sequence of numbers or one number for all.
        high: (A,) float32, read-only; likewise.
    """

    names: tuple[str, ...]
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]

    def __init__(
        self, names: Sequence[str], low: float | Sequence[float] | Array, high: float | Sequence[float] | Array
    ) -> None:
        """Check the bounds and fix them.

        Raises:
            UserError: A bound is missing, not finite, or the lower one is not below the upper one.
        """
        object.__setattr__(self, "names", tuple(names))
        object.__setattr__(self, "low", _bound(low, self.names))
        object.__setattr__(self, "high", _bound(high, self.names))
        for name, lowest, highest in zip(self.names, self.low, self.high, strict=True):
            if not lowest < highest:
                raise UserError(f"the lower bound of '{name}' must be below the upper one, got {lowest} and {highest}")

    @property
    def size(self) -> int:
        """The number of numbers, A (of features, F)."""
        return len(self.names)


class Snapshot(NamedTuple):
    """One data set: what the agent sees of every instance at one moment.

    Attributes:
        features: (N, F) float32, within the bounds of the subsystem's `observation`.
        mask: (N, K) bool, the candidates that may be chosen; None where the recommendation is not a choice or
            every candidate may always be chosen.
    """

    features: npt.NDArray[np.float32]
    mask: BoolArray | None


class SystemState(NamedTuple):
    """Where the subsystem stands; the arrays may be views of live state.

    Attributes:
        pending: (N,) bool, a decision is waiting.
        critical: (N,) bool, emergency: the built-in algorithm only.
        progress: (N,) int64, work done for the user.
        cost: (N,) float64, cost paid.
    """

    pending: BoolArray
    critical: BoolArray
    progress: IntArray
    cost: FloatArray


class Feedback(NamedTuple):
    """What came of one decision cycle; new arrays.

    Attributes:
        reward: (N,) float64, cost saved since the last feedback, in units of the subsystem's `reward_scale`.
        verdict: (N,) int8 `Verdict`.
        acted_by_agent: (N,) bool, whether the agent's recommendation was carried out.
        finished: (N,) bool, whether the episode is over.
        mode: (N,) int8 `Mode`.
        decision: (N,) int64 or (N, A) float64, what was carried out; meaningless in rows that were not asked.
        builtin_decision: Likewise, what the built-in algorithm would have done; None unless the option asks for it.
    """

    reward: FloatArray
    verdict: npt.NDArray[np.int8]
    acted_by_agent: BoolArray
    finished: BoolArray
    mode: npt.NDArray[np.int8]
    decision: Array
    builtin_decision: Array | None


def _bound(given: float | Sequence[float] | Array, names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """One read-only float32 bound per name."""
    bound = np.asarray(given, dtype=np.float32)
    if bound.ndim not in (0, 1) or (bound.ndim == 1 and len(bound) != len(names)):
        raise UserError(f"one bound for each of the {len(names)} names is needed, got shape {bound.shape}")
    if not names:
        raise UserError("at least one named number is needed")
    if not np.isfinite(bound).all():
        raise UserError(f"bounds must be finite, got {bound.tolist()}")
    bound = np.array(np.broadcast_to(bound, (len(names),)))
    bound.flags.writeable = False
    return bound
