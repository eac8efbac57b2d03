"""The proxy's word on a recommendation: accepted, or rejected with one named reason.

User space may send anything. Nothing it sends raises an error here: each row of a batch gets its own verdict, and
where that is a rejection the built-in algorithm acts instead.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, TypeGuard

import numpy as np
import numpy.typing as npt

from kml_envs.proxy.specs import Array, BoolArray, Bounds, Choice, IntArray

VerdictArray = npt.NDArray[np.int8]


class Verdict(IntEnum):
    """What became of a recommendation. The proxy knows those of the first block, a subsystem those of the second."""

    ACCEPTED = 0
    NOT_ASKED = 1
    """No decision of this instance waits for the agent."""
    EMERGENCY = 2
    """The subsystem or the mode is in emergency: the built-in algorithm only."""
    WRONG_TYPE = 3
    WRONG_SHAPE = 4
    NOT_FINITE = 5
    OUT_OF_RANGE = 6
    STALE = 7
    """Made for another generation of the data set than the one that is valid now."""
    NO_SUCH_CANDIDATE = 8
    """The chosen candidate is masked out."""
    DATA_SET_CORRUPTED = 9
    """The data set it was made for was itself not sound."""
    NOT_PERMITTED = 10
    """The mode's controller refused it before it ran."""
    DEADLINE_MISSED = 11
    """None has come in time."""

    SEGMENT_FREE = 12
    SEGMENT_CURRENT = 13
    SEGMENT_UNDER_CLEANING = 14
    SEGMENT_FULLY_VALID = 15
    SEGMENT_PROTECTED = 16

    PAGEOUT_WITHOUT_QUOTA = 17
    WATERMARKS_NEVER_STOP = 18
    WATERMARKS_CROSSED = 19

    TOO_FEW_SAMPLES = 20
    TOO_FEW_REGIONS = 21
    REGION_LIMITS_CROSSED = 22

    MIGRATION_WITHOUT_QUOTA = 23
    MIGRATION_THRESHOLDS_CROSSED = 24


ACCEPTED = int(Verdict.ACCEPTED)


class Judgement(NamedTuple):
    """A batch of recommendations after the checks.

    Attributes:
        decision: (N,) int64 for a choice, (N, A) float64 for bounded numbers; rejected rows hold zeros (a choice) or
            the lower bounds, and are not to be carried out.
        verdict: (N,) int8 `Verdict`.
        all_accepted: Whether every row was accepted.
    """

    decision: Array
    verdict: VerdictArray
    all_accepted: bool


EntryJudge = Callable[[object, int], tuple[Verdict, object]]


def judge(recommendation: object, accepted: Choice | Bounds, mask: BoolArray | None, rows: IntArray) -> Judgement:
    """Check type, shape, finiteness, range and mask of a batch of recommendations.

    Args:
        recommendation: Whatever user space sent; well-formed is an integer array (N,) for a choice, a real array
            (N, A) for bounded numbers. A list or an object array is judged entry by entry; None, for all rows or as
            one entry, stands for a recommendation that has not come.
        accepted: What the subsystem accepts.
        mask: (N, K) bool, the candidates that may be chosen, or None.
        rows: (N,) int64, the numbers 0..N-1.

    Returns:
        The decisions and their verdicts. Never raises for a bad recommendation.
    """
    if isinstance(accepted, Choice):
        return _judge_choice(recommendation, accepted.count, mask, rows)
    return _judge_numbers(recommendation, accepted, rows)


def is_stale(generation: object, current: IntArray) -> BoolArray:
    """Which rows were made for another data set than the current one.

    Args:
        generation: One integer for all rows or (N,) integers; anything else is stale throughout.
        current: (N,) int64, the generation of the data set that each row last published.

    Returns:
        (N,) bool.
    """
    whole = isinstance(generation, (int, np.integer)) and not isinstance(generation, bool)
    fitting = isinstance(generation, np.ndarray) and generation.dtype.kind in "iu" and generation.shape == current.shape
    if not whole and not fitting:
        return np.ones(current.shape, dtype=np.bool_)
    stale: BoolArray = np.asarray(generation != current)
    return stale


def reject(verdict: VerdictArray, rows: BoolArray, reason: Verdict) -> VerdictArray:
    """Give the rows a reason of rejection, unless an earlier check already gave them one.

    Args:
        verdict: (N,) int8 `Verdict` so far.
        rows: (N,) bool, the rows that fail this check.
        reason: Why they fail.

    Returns:
        (N,) int8, a new array.
    """
    return np.where(rows & (verdict == Verdict.ACCEPTED), np.int8(reason), verdict)


def count_verdicts(counts: IntArray, verdict: VerdictArray, rows: BoolArray) -> None:
    """Add the verdicts of the given rows to the counters, in place.

    Args:
        counts: (N, number of verdicts) int64.
        verdict: (N,) int8 `Verdict`.
        rows: (N,) bool, the rows to count.
    """
    numbers = np.flatnonzero(rows)
    counts[numbers, verdict[numbers]] += 1


def _judge_choice(recommendation: object, count: int, mask: BoolArray | None, rows: IntArray) -> Judgement:
    """Check a choice: the vectorised path for integer arrays, entry by entry for all else."""
    if not _is_numeric(recommendation, "iu", rows.shape):
        return _judge_entries(recommendation, rows, np.zeros(len(rows), dtype=np.int64), _choice_judge(count, mask))
    # One comparison settles the common case: seen as unsigned, a negative number is a huge one. Counting is several
    # times cheaper than all() and any() on small arrays.
    if recommendation.dtype == np.int64 and np.count_nonzero(recommendation.view(np.uint64) < count) == len(rows):
        decision = recommendation.copy()
        verdict = np.zeros(len(rows), dtype=np.int8)
    else:
        in_range = (recommendation >= 0) & (recommendation < count)
        decision = np.where(in_range, recommendation, 0).astype(np.int64)
        verdict = np.where(in_range, np.int8(Verdict.ACCEPTED), np.int8(Verdict.OUT_OF_RANGE))
    if mask is not None:
        allowed = mask[rows, decision]
        if np.count_nonzero(allowed) < len(rows):
            verdict = reject(verdict, ~allowed, Verdict.NO_SUCH_CANDIDATE)
    return Judgement(decision, verdict, not np.count_nonzero(verdict))


def _judge_numbers(recommendation: object, bounds: Bounds, rows: IntArray) -> Judgement:
    """Check bounded numbers: the vectorised path for real arrays, entry by entry for all else."""
    if not _is_numeric(recommendation, "iuf", (len(rows), bounds.size)):
        decision = np.tile(bounds.low.astype(np.float64), (len(rows), 1))
        return _judge_entries(recommendation, rows, decision, _numbers_judge(bounds))
    numbers, inside = _inside(recommendation, bounds)
    if np.count_nonzero(inside) == inside.size:
        return Judgement(numbers.astype(np.float64), np.zeros(len(rows), dtype=np.int8), True)
    fitting: BoolArray = np.all(inside, axis=1)
    finite: BoolArray = np.all(np.isfinite(recommendation), axis=1)
    reason = np.where(finite, np.int8(Verdict.OUT_OF_RANGE), np.int8(Verdict.NOT_FINITE))
    verdict = np.where(fitting, np.int8(Verdict.ACCEPTED), reason)
    decision = np.where(fitting[:, None], numbers, bounds.low).astype(np.float64)
    return Judgement(decision, verdict, False)


def _judge_entries(recommendation: object, rows: IntArray, decision: Array, judge_entry: EntryJudge) -> Judgement:
    """Judge a container that is no well-formed array one entry at a time; off the hot path by construction."""
    verdict = np.empty(len(rows), dtype=np.int8)
    if isinstance(recommendation, np.ndarray) and recommendation.ndim == 0:
        recommendation = recommendation.item()
    if recommendation is None:
        verdict[:] = Verdict.DEADLINE_MISSED
    elif not isinstance(recommendation, (list, tuple, np.ndarray)):
        verdict[:] = Verdict.WRONG_SHAPE if _is_real(recommendation) else Verdict.WRONG_TYPE
    elif len(recommendation) != len(rows):
        verdict[:] = Verdict.WRONG_SHAPE
    else:
        for row, entry in enumerate(recommendation):
            verdict[row], value = (Verdict.DEADLINE_MISSED, None) if entry is None else judge_entry(entry, row)
            if verdict[row] == Verdict.ACCEPTED:
                decision[row] = value
    return Judgement(decision, verdict, not verdict.any())


def _choice_judge(count: int, mask: BoolArray | None) -> EntryJudge:
    """The check of one instance's choice."""

    def judge_entry(entry: object, row: int) -> tuple[Verdict, object]:
        if isinstance(entry, np.ndarray) and entry.ndim == 0:
            entry = entry.item()
        if isinstance(entry, (list, tuple, np.ndarray)):
            return Verdict.WRONG_SHAPE, None
        if not _is_real(entry):
            return Verdict.WRONG_TYPE, None
        if not isinstance(entry, (int, np.integer)):
            return (Verdict.WRONG_TYPE if np.isfinite(entry) else Verdict.NOT_FINITE), None
        if not 0 <= entry < count:
            return Verdict.OUT_OF_RANGE, None
        if mask is not None and not mask[row, int(entry)]:
            return Verdict.NO_SUCH_CANDIDATE, None
        return Verdict.ACCEPTED, int(entry)

    return judge_entry


def _numbers_judge(bounds: Bounds) -> EntryJudge:
    """The check of one instance's bounded numbers."""

    def judge_entry(entry: object, row: int) -> tuple[Verdict, object]:
        if _is_real(entry):
            return Verdict.WRONG_SHAPE, None
        if not isinstance(entry, (list, tuple, np.ndarray)) or (isinstance(entry, np.ndarray) and entry.ndim == 0):
            return Verdict.WRONG_TYPE, None
        if any(isinstance(number, (list, tuple, np.ndarray)) for number in entry):
            return Verdict.WRONG_SHAPE, None
        if not all(_is_real(number) for number in entry):
            return Verdict.WRONG_TYPE, None
        if len(entry) != bounds.size:
            return Verdict.WRONG_SHAPE, None
        try:
            given = np.array([float(number) for number in entry])
        except OverflowError:  # an integer beyond the range of floating-point numbers
            return Verdict.OUT_OF_RANGE, None
        if not np.isfinite(given).all():
            return Verdict.NOT_FINITE, None
        numbers, inside = _inside(given, bounds)
        return (Verdict.ACCEPTED, numbers) if inside.all() else (Verdict.OUT_OF_RANGE, None)

    return judge_entry


def _inside(given: Array, bounds: Bounds) -> tuple[npt.NDArray[np.float32], BoolArray]:
    """The numbers as float32, and which of them lie within the bounds; NaN and infinities do not."""
    if given.dtype == np.float32:
        numbers = given
    else:
        with np.errstate(over="ignore"):
            numbers = given.astype(np.float32)
    return numbers, (numbers >= bounds.low) & (numbers <= bounds.high)


def _is_numeric(recommendation: object, kinds: str, shape: tuple[int, ...]) -> TypeGuard[Array]:
    """Whether this is a plain array of numbers of the given kinds and shape."""
    return type(recommendation) is np.ndarray and recommendation.dtype.kind in kinds and recommendation.shape == shape


def _is_real(entry: object) -> TypeGuard[float]:
    """Whether this is one real number; truth values and spans of time are not numbers."""
    # NumPy counts a span of time among its signed integers.
    return isinstance(entry, (int, float, np.integer, np.floating)) and not isinstance(entry, (bool, np.timedelta64))
