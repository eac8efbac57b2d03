"""The face of a subsystem towards its proxy: for N instances at once, for one in plain Python, and the adapter.

A subsystem that is fast implements `BatchedSubsystem` over arrays. A subsystem that is small implements `Subsystem`,
one instance in plain Python, and `batch` makes the former of it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from kml_envs.proxy.specs import Array, BoolArray, Bounds, Choice, FloatArray, IntArray, Snapshot
from kml_envs.proxy.verdict import Verdict, VerdictArray


class SubsystemError(RuntimeError):
    """A subsystem broke its protocol: a mistake in the subsystem, not in what the agent recommended."""


class BatchedSubsystem(Protocol):
    """N instances of a subsystem; every array has the instance axis first.

    Except for `snapshot`, an array may be a view of live state: it holds until the next `reset` or `execute`.

    Attributes:
        instances: N.
        observation: Names and bounds of the F features.
        recommendation: What the agent is asked for: one of K candidates, or A bounded numbers.
        reward_scale: Cost units in one unit of reward.
    """

    instances: int
    observation: Bounds
    recommendation: Choice | Bounds
    reward_scale: float

    def reset(self, rows: BoolArray, seeds: npt.NDArray[np.uint64]) -> None:
        """Begin a new episode in the rows (N,) with their seeds (N,) uint64; progress and cost need not start at 0."""

    def snapshot(self) -> Snapshot:
        """The data set of all rows, in new arrays; those of rows without a pending decision must be sound too."""

    def builtin_decision(self) -> Array:
        """The human-made algorithm's choice now: (N,) int64 or (N, A) float64; anything where nothing is pending."""

    def check(self, recommendation: Array) -> VerdictArray:
        """What only the subsystem can know of well-formed recommendations: (N,) int8 `Verdict`."""

    def execute(self, decision: Array, ask: BoolArray, until: IntArray, rows: BoolArray) -> None:
        """Carry out the pending decision of the rows, then let time pass.

        A row stops at its next decision where `ask` is true and the row is not critical; the built-in algorithm
        takes those in between; any row stops when its progress has reached `until`. A row without a pending
        decision only lets time pass.

        Args:
            decision: (N,) int64 or (N, A) float64.
            ask: (N,) bool.
            until: (N,) int64, in units of `progress`.
            rows: (N,) bool, the rows to run; the others stand still.
        """

    def pending(self) -> BoolArray:
        """(N,) bool: a decision is waiting."""

    def critical(self) -> BoolArray:
        """(N,) bool: emergency, the built-in algorithm only."""

    def pressure(self) -> FloatArray:
        """(N,) float64 in 0..1: how close to critical."""

    def progress(self) -> IntArray:
        """(N,) int64, cumulative: work done for the user."""

    def cost(self) -> FloatArray:
        """(N,) float64, cumulative, in the subsystem's own unit."""

    def metrics(self) -> dict[str, Array]:
        """(N,) each, of the running episode: scalars for info and TensorBoard.

        `operations`, the number of decisions carried out by either side, must be among them.
        """

    def shadow(self) -> BatchedSubsystem | Shadow:
        """Another batch on the same workloads and seeds, to be run by the built-in algorithm alone."""


@runtime_checkable
class Shadow(Protocol):
    """What the built-in algorithm alone pays: a shadow that runs as far ahead as suits it."""

    def reset(self, rows: BoolArray, seeds: npt.NDArray[np.uint64]) -> None:
        """Begin an episode in the rows (N,) bool with their seeds (N,) uint64."""

    def cost_at(self, progress: IntArray) -> FloatArray:
        """(N,) float64: cost at a progress (N,) int64, which never goes back within an episode.

        The operations due at that progress are not paid yet: they belong to the progress that comes after.
        """


@runtime_checkable
class Waiting(Protocol):
    """What a `BatchedSubsystem` may add, so that agents take time: it never stands still while they think."""

    def wait(self, until: IntArray, rows: BoolArray) -> None:
        """Let time pass in the rows (N,) with their decisions still pending.

        A row stops when its progress has reached `until` (N,) int64, or as soon as it is critical. Afterwards `check`
        and `builtin_decision` answer for the new state; candidates keep their numbers.
        """


@runtime_checkable
class Forecasting(Protocol):
    """What a `BatchedSubsystem` may add: the price of an operation before it runs, for mode `auto`."""

    def forecast(self, decision: Array) -> tuple[FloatArray, FloatArray]:
        """What the pending operations would cost and bring under these decisions.

        Args:
            decision: (N,) int64 or (N, A) float64, well-formed and checked where it matters.

        Returns:
            (N,) float64 each: cost in the unit of `cost`, and benefit in the unit of `progress`: how much progress the
            operation makes room for, so that the built-in algorithm's cost per progress prices it.
        """


@runtime_checkable
class Bounding(Protocol):
    """What a `BatchedSubsystem` may add where it cannot forecast: the most that an operation costs, for mode `auto`."""

    def most_cost(self, decision: Array) -> FloatArray:
        """(N,) float64, in the unit of `cost`: what the pending operations cost at the most under these decisions.

        Args:
            decision: (N,) int64 or (N, A) float64, well-formed and checked where it matters.
        """


@runtime_checkable
class Clocked(Protocol):
    """What a `BatchedSubsystem` may add, so that it can be served in real time: how its time and its progress go."""

    def time_us(self) -> IntArray | FloatArray:
        """(N,) simulated time in microseconds; it goes on with progress, and where it begins means nothing."""

    def progress_by(self, time_us: FloatArray) -> IntArray:
        """Progress that users will have made by a time if nothing is decided or in their way.

        Args:
            time_us: (N,) float64, on the clock of `time_us`.

        Returns:
            (N,) int64, never less than they have made already.
        """


class Subsystem(Protocol):
    """One instance in plain Python. Subclass it to inherit the answers that simple subsystems share.

    Attributes:
        observation: Names and bounds of the F features.
        recommendation: What the agent is asked for: one of K candidates, or A bounded numbers.
        reward_scale: Cost units in one unit of reward.
        progress_per_second: Progress in a second of simulated time, for `kml_envs serve`.
    """

    observation: Bounds
    recommendation: Choice | Bounds
    reward_scale: float
    progress_per_second: float = 1000.0

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Begin a new episode; everything random follows from the seed."""

    @abstractmethod
    def features(self) -> Sequence[float] | Array:
        """The F features of the observation, at any moment."""

    @abstractmethod
    def builtin_decision(self) -> int | Sequence[float] | Array:
        """The human-made algorithm's choice for the pending decision: a candidate's number, or A numbers."""

    @abstractmethod
    def pending(self) -> bool:
        """Whether a decision is waiting."""

    @abstractmethod
    def execute(self, decision: int | Array) -> None:
        """Carry out the pending decision: one operation. It may leave the next decision pending."""

    @abstractmethod
    def run(self, until: int) -> None:
        """Let time pass until a decision is pending or progress has reached `until`."""

    @abstractmethod
    def progress(self) -> int:
        """Work done for the user, cumulative."""

    @abstractmethod
    def cost(self) -> float:
        """Cost paid, cumulative, in the subsystem's own unit."""

    def mask(self) -> Sequence[bool] | BoolArray | None:
        """The K candidates that may be chosen; None: all of them, always."""
        return None

    def check(self, recommendation: int | Array) -> Verdict:
        """What only the subsystem can know of a well-formed recommendation."""
        return Verdict.ACCEPTED

    def critical(self) -> bool:
        """Whether this is an emergency, for the built-in algorithm only."""
        return False

    def pressure(self) -> float:
        """How close to critical, in 0..1."""
        return 0.0

    def metrics(self) -> Mapping[str, float]:
        """Scalars of the running episode, for info and TensorBoard; the adapter adds `operations` itself."""
        return {}


@runtime_checkable
class WaitingSubsystem(Protocol):
    """What a `Subsystem` may add, so that its agent takes time (see `Waiting`)."""

    def wait(self, until: int) -> None:
        """Let time pass with the decision still pending, until progress has reached `until` or it is critical."""


@runtime_checkable
class ForecastingSubsystem(Protocol):
    """What a `Subsystem` may add: the price of an operation before it runs (see `Forecasting`)."""

    def forecast(self, decision: int | Array) -> tuple[float, float]:
        """Cost and benefit, in progress, of the pending operation under this decision."""


def batch(factory: Callable[[], Subsystem], instances: int) -> BatchedSubsystem:
    """Put instances in plain Python behind the face of a batch.

    Args:
        factory: Makes one instance; called `instances` times, and as often again for a shadow.
        instances: N.

    Returns:
        The batch. This adapter is the only place that loops over instances in Python to run them.
    """
    return _Batch(factory, instances)


class _Batch:
    """N instances of a `Subsystem` as a `BatchedSubsystem`."""

    def __init__(self, factory: Callable[[], Subsystem], instances: int) -> None:
        self.instances = instances
        self._factory = factory
        self._members = [factory() for _ in range(instances)]
        self.observation = self._members[0].observation
        self.recommendation = self._members[0].recommendation
        self.reward_scale = self._members[0].reward_scale
        self._us_per_progress = 1e6 / self._members[0].progress_per_second
        self._seeds: npt.NDArray[np.uint64] = np.zeros(instances, dtype=np.uint64)
        self._reset: BoolArray = np.zeros(instances, dtype=np.bool_)
        self._operations: IntArray = np.zeros(instances, dtype=np.int64)
        # A batch can do what its members can, and is asked for it by what it has.
        if isinstance(self._members[0], WaitingSubsystem):
            self.wait = self._wait
        if isinstance(self._members[0], ForecastingSubsystem):
            self.forecast = self._forecast

    def reset(self, rows: BoolArray, seeds: npt.NDArray[np.uint64]) -> None:
        for row in np.flatnonzero(rows):
            self._members[row].reset(int(seeds[row]))
        self._seeds[rows] = seeds[rows]
        self._reset |= rows
        self._operations[rows] = 0

    def snapshot(self) -> Snapshot:
        features = np.array([member.features() for member in self._members], dtype=np.float32)
        if features.shape != (self.instances, self.observation.size):
            raise SubsystemError(
                f"features() must give {self.observation.size} numbers, got shape {features.shape[1:]}"
            )
        masks = [member.mask() for member in self._members]
        if masks[0] is None:
            return Snapshot(features, None)
        return Snapshot(features, np.array(masks, dtype=np.bool_))

    def builtin_decision(self) -> Array:
        choice = isinstance(self.recommendation, Choice)
        # The built-in algorithm is only asked where a decision is pending: elsewhere it may have nothing to look at.
        nothing = 0 if isinstance(self.recommendation, Choice) else self.recommendation.low
        decisions = [member.builtin_decision() if member.pending() else nothing for member in self._members]
        return np.array(decisions, dtype=np.int64 if choice else np.float64)

    def check(self, recommendation: Array) -> VerdictArray:
        given = _each(recommendation)
        verdicts = [member.check(given[row]) for row, member in enumerate(self._members)]
        return np.array(verdicts, dtype=np.int8)

    def execute(self, decision: Array, ask: BoolArray, until: IntArray, rows: BoolArray) -> None:
        given = _each(decision)
        for row in np.flatnonzero(rows):
            self._run_member(row, given[row], bool(ask[row]), int(until[row]))

    def pending(self) -> BoolArray:
        return np.array([member.pending() for member in self._members], dtype=np.bool_)

    def critical(self) -> BoolArray:
        return np.array([member.critical() for member in self._members], dtype=np.bool_)

    def pressure(self) -> FloatArray:
        return np.array([member.pressure() for member in self._members], dtype=np.float64)

    def progress(self) -> IntArray:
        return np.array([member.progress() for member in self._members], dtype=np.int64)

    def cost(self) -> FloatArray:
        return np.array([member.cost() for member in self._members], dtype=np.float64)

    def time_us(self) -> FloatArray:
        return np.asarray(self.progress() * self._us_per_progress)

    def progress_by(self, time_us: FloatArray) -> IntArray:
        return np.maximum(self.progress(), (time_us / self._us_per_progress).astype(np.int64))

    def metrics(self) -> dict[str, Array]:
        each = [member.metrics() for member in self._members]
        metrics: dict[str, Array] = {name: np.array([one[name] for one in each], dtype=np.float64) for name in each[0]}
        metrics["operations"] = self._operations.copy()
        return metrics

    def shadow(self) -> BatchedSubsystem:
        shadow = _Batch(self._factory, self.instances)
        if self._reset.any():
            shadow.reset(self._reset, self._seeds)
        return shadow

    def _wait(self, until: IntArray, rows: BoolArray) -> None:
        for row in np.flatnonzero(rows):
            cast(WaitingSubsystem, self._members[row]).wait(int(until[row]))

    def _forecast(self, decision: Array) -> tuple[FloatArray, FloatArray]:
        given = _each(decision)
        forecasts = np.zeros((self.instances, 2))
        for row, member in enumerate(self._members):
            if member.pending():
                forecasts[row] = cast(ForecastingSubsystem, member).forecast(given[row])
        return forecasts[:, 0], forecasts[:, 1]

    def _run_member(self, row: np.intp, decision: int | Array, ask: bool, until: int) -> None:
        """Carry out one row's pending decision, then run it to the next decision to ask for, or to `until`."""
        member = self._members[row]
        if member.pending():
            member.execute(decision)
            self._operations[row] += 1
        while member.progress() < until:
            if not member.pending():
                member.run(until)
                if not member.pending() and member.progress() < until:
                    raise SubsystemError(
                        f"run({until}) of {type(member).__name__} stopped at progress {member.progress()} "
                        "with no decision pending"
                    )
            elif ask and not member.critical():
                return
            else:
                # As an agent's decisions come: a choice may be NumPy's integer here, but is a plain one there.
                builtin = np.asarray(member.builtin_decision())
                member.execute(int(builtin) if isinstance(self.recommendation, Choice) else builtin)
                self._operations[row] += 1


def _each(decision: Array) -> list[int] | list[Array]:
    """One entry per instance, as plain integers where they are choices."""
    return decision.tolist() if decision.ndim == 1 else list(decision)
