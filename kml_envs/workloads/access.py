"""Memory access patterns: which pages a program touches and how often, as plain tables for compiled code.

A pattern is a cycle of phases; a phase is a list of address ranges, each touched at random or swept by a sequential
cursor. The cost of every accessor depends on the number of ranges, never on the size of the memory. An `ACCESS` record
is the whole state of a running pattern: copying it forks the pattern (the shadow does).

The random touches of a page are a Poisson process, independent of the other pages', so that the page is touched
within `seconds` with probability 1 - exp(-rate * seconds): what the accessed bit of its page table entry would say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, array_of, compiled
from kml_envs.errors import UserError

PAGE_BYTES = 4096
NO_BOUNDARY_US = np.int64(1) << 62
"""What `next_boundary` says of a pattern whose touches never change again."""

ACCESS = np.dtype(
    [
        ("origin_us", np.int64),  # place in the pattern at time 0
        ("time_us", np.int64),  # set by move_to
        ("phase", np.int64),  # -1: the pattern has ended
        ("phase_start_us", np.int64),  # in the time of the simulation, like time_us
        ("phase_end_us", np.int64),
        ("first", np.int64),  # ranges of the phase: [first, last)
        ("last", np.int64),
        ("phase_count", np.int64),
        ("cycle_us", np.int64),
        ("once", np.int64),
        ("size", np.int64),  # bytes
        ("phase_ends", np.uint64),  # addresses of the table's arrays
        ("first_ranges", np.uint64),
        ("starts", np.uint64),
        ("ends", np.uint64),
        ("rates", np.uint64),
        ("sweeps", np.uint64),
    ],
    align=True,
)

_phase_ends = array_of("phase_ends", np.int64)
_first_ranges = array_of("first_ranges", np.int64)
_starts = array_of("starts", np.int64)
_ends = array_of("ends", np.int64)
_rates = array_of("rates", np.float64)
_sweeps = array_of("sweeps", np.float64)


class AccessTable(NamedTuple):
    """One access pattern. Ranges are sorted and disjoint within a phase; what lies between them is not touched.

    Attributes:
        phase_end_us: (P,) int64, end of each phase in microseconds since the start of the cycle.
        first_range: (P + 1,) int64, index of the first range of each phase; the last entry is R.
        start: (R,) int64, first byte of each range, on a page boundary.
        end: (R,) int64, byte behind each range, on a page boundary.
        rate: (R,) float64, random touches per page and second.
        sweep_us: (R,) float64, 0 for random touches; else the time that one sequential cursor takes from the start of
            the range to its end, again and again from the beginning of the phase, and `rate` is not used.
        size: Bytes of the memory, a multiple of the page size.
        once: Whether the pattern falls silent after its last phase; otherwise it begins anew.
    """

    phase_end_us: NDArray[np.int64]
    first_range: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    rate: NDArray[np.float64]
    sweep_us: NDArray[np.float64]
    size: int
    once: bool = False


def build_table(
    name: str,
    phases: Sequence[tuple[int, Sequence[tuple[int, int, float, float]]]],
    size: int,
    *,
    once: bool = False,
) -> AccessTable:
    """Lay out a pattern.

    Args:
        name: What errors call it.
        phases: Length in microseconds of each phase, and its ranges (start, end, rate, sweep_us) in any order.
        size: Bytes of the memory.
        once: Whether the pattern falls silent after its last phase.

    Raises:
        UserError: As `validate` does, or the memory or the time is too large.
    """
    if size >= NO_BOUNDARY_US or sum(length for length, _ in phases) >= NO_BOUNDARY_US:
        raise UserError(f"{name}: its memory or its time is beyond 2**62 bytes or microseconds")
    ordered = [sorted(ranges) for _, ranges in phases]
    rows = [row for ranges in ordered for row in ranges]
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    table = AccessTable(
        phase_end_us=np.cumsum([length for length, _ in phases], dtype=np.int64),
        first_range=np.cumsum([0, *(len(ranges) for ranges in ordered)], dtype=np.int64),
        start=np.array(columns[0], np.int64),
        end=np.array(columns[1], np.int64),
        rate=np.array(columns[2], np.float64),
        sweep_us=np.array(columns[3], np.float64),
        size=size,
        once=once,
    )
    return validate(table, name)


def validate(table: AccessTable, name: str) -> AccessTable:
    """Check a pattern and return it.

    Args:
        table: The pattern.
        name: What errors call it.

    Raises:
        UserError: A phase or a range is out of order, empty, out of the memory, off the page boundaries, or has a
            rate or sweep time that is negative or not finite.
    """
    for phase, wrong in enumerate(np.diff(table.phase_end_us, prepend=0) <= 0):
        if wrong:
            raise UserError(f"{name}, phase {phase}: its length must be at least 1 us")
    if not table.phase_end_us.size:
        raise UserError(f"{name}: at least one phase is needed")
    ranges = table.start.size
    shapes = {array.size for array in (table.end, table.rate, table.sweep_us)}
    steps = np.diff(table.first_range)
    if shapes != {ranges} or steps.size != table.phase_end_us.size or (steps < 0).any():
        raise UserError(f"{name}: every range needs a start, an end, a rate and a sweep time, and one phase")
    if table.first_range[0] != 0 or table.first_range[-1] != ranges:
        raise UserError(f"{name}: the phases must hold all {ranges} ranges")
    if table.size <= 0 or table.size % PAGE_BYTES:
        raise UserError(f"{name}: size {table.size}: a positive multiple of {PAGE_BYTES} bytes is accepted")
    _check_ranges(table, name)
    return table


def open_accesses(table: AccessTable, origin_us: int = 0) -> NDArray[np.void]:
    """Start a pattern.

    Args:
        table: The pattern; whoever keeps the record keeps the table, whose arrays the record points to.
        origin_us: Where in the pattern the time 0 of the simulation lies.

    Returns:
        An ACCESS record, shape (1,), moved to time 0.
    """
    record = np.zeros(1, ACCESS)
    record["origin_us"] = origin_us
    record["phase_count"] = table.phase_end_us.size
    record["cycle_us"] = table.phase_end_us[-1]
    record["once"] = table.once
    record["size"] = table.size
    columns = (table.phase_end_us, table.first_range, table.start, table.end, table.rate, table.sweep_us)
    for name, column in zip(("phase_ends", "first_ranges", "starts", "ends", "rates", "sweeps"), columns, strict=True):
        record[name] = column.ctypes.data
    _move_records(record, 0)
    return record


@compiled
def move_to(access: Record, time_us: int) -> None:
    """Set the time from which the other accessors count; any time from 0 on, forwards or back."""
    access.time_us = time_us
    if access.phase_start_us <= time_us < access.phase_end_us:
        return
    in_pattern = access.origin_us + time_us
    cycles = in_pattern // access.cycle_us
    cycle_start = cycles * access.cycle_us - access.origin_us
    if access.once and cycles > 0:
        access.phase = -1
        access.first, access.last = 0, 0
        access.phase_start_us, access.phase_end_us = access.cycle_us - access.origin_us, NO_BOUNDARY_US
        return
    ends = _phase_ends(access)
    low, high = 0, access.phase_count - 1
    while low < high:
        middle = (low + high) // 2
        if ends[middle] > time_us - cycle_start:
            high = middle
        else:
            low = middle + 1
    access.phase = low
    access.first, access.last = _first_ranges(access)[low], _first_ranges(access)[low + 1]
    access.phase_start_us = cycle_start + (ends[low - 1] if low > 0 else 0)
    access.phase_end_us = cycle_start + ends[low]


@compiled
def next_boundary(access: Record) -> int:
    """The time in microseconds at which the next phase begins, later than the time moved to."""
    return access.phase_end_us


@compiled
def touch_probability(access: Record, start: int, end: int, duration_us: float) -> float:
    """Probability that a page drawn at random from a part of the memory is touched in an interval.

    Args:
        access: The pattern, moved to the beginning of the interval.
        start: First byte of the part.
        end: Byte behind it, larger than `start`.
        duration_us: Length of the interval. One that reaches beyond `next_boundary` is taken to lie within the phase
            that it begins in; cut it there where that matters.

    Returns:
        The mean over the pages of the part, weighted by bytes; of a swept range, the share that the cursor goes over.
    """
    return touch_probability_from(access, first_overlap(access, start), start, end, duration_us)


@compiled
def touch_probability_from(access: Record, index: int, start: int, end: int, duration_us: float) -> float:
    """`touch_probability` for whoever goes through the memory in order and knows `first_overlap(access, start)`."""
    touched = 0.0
    while index < access.last and _starts(access)[index] < end:
        low, high = max(start, _starts(access)[index]), min(end, _ends(access)[index])
        if _sweeps(access)[index] > 0.0:
            touched += _swept_bytes(access, index, low, high, duration_us)
        else:
            touched -= (high - low) * math.expm1(-_rates(access)[index] * duration_us * 1e-6)
        index += 1
    return touched / (end - start)


@compiled
def page_touched(access: Record, address: int, duration_us: float, uniform: float) -> bool:
    """Whether the page at an address is touched in an interval.

    Args:
        access: The pattern, moved to the beginning of the interval.
        address: Any byte of the page.
        duration_us: Length of the interval (see `touch_probability`).
        uniform: A number drawn from [0, 1), fresh for every page and interval.
    """
    page = address - address % PAGE_BYTES
    return uniform < touch_probability(access, page, page + PAGE_BYTES, duration_us)


@compiled
def touch_rate(access: Record, start: int, end: int) -> float:
    """Mean touches per page and second over a part of the memory at the time moved to; a sweep counts one each."""
    return touch_rate_from(access, first_overlap(access, start), start, end)


@compiled
def touch_rate_from(access: Record, index: int, start: int, end: int) -> float:
    """`touch_rate` for whoever knows `first_overlap(access, start)`."""
    touches = 0.0
    while index < access.last and _starts(access)[index] < end:
        low, high = max(start, _starts(access)[index]), min(end, _ends(access)[index])
        touches += (high - low) * range_rate(access, index)
        index += 1
    return touches / (end - start)


@compiled
def first_overlap(access: Record, address: int) -> int:
    """Index of the current phase's first range that ends behind an address; `access.last` if there is none."""
    low, high = access.first, access.last
    while low < high:
        middle = (low + high) // 2
        if _ends(access)[middle] > address:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def range_start(access: Record, index: int) -> int:
    """First byte of a range."""
    return _starts(access)[index]


@compiled
def range_end(access: Record, index: int) -> int:
    """Byte behind a range."""
    return _ends(access)[index]


@compiled
def range_rate(access: Record, index: int) -> float:
    """Touches per page and second of a range; a sweep counts one each."""
    sweep_us = _sweeps(access)[index]
    return 1e6 / sweep_us if sweep_us > 0.0 else _rates(access)[index]


@compiled
def range_is_swept(access: Record, index: int) -> bool:
    """Whether a sequential cursor goes through a range."""
    return _sweeps(access)[index] > 0.0


@compiled
def _swept_bytes(access: Record, index: int, low: int, high: int, duration_us: float) -> int:
    """Bytes of [low, high), within the range, on pages that the cursor is on in the interval."""
    base, sweep_us = _starts(access)[index], _sweeps(access)[index]
    length = _ends(access)[index] - base
    begin = length * (((access.time_us - access.phase_start_us) % sweep_us) / sweep_us)
    first = np.int64(begin / PAGE_BYTES) * PAGE_BYTES
    cursor_end = begin + length * (duration_us / sweep_us)
    # A cursor that stands still for a moment is on one page.
    behind = max(np.int64(math.ceil(cursor_end / PAGE_BYTES)) * PAGE_BYTES, first + PAGE_BYTES)
    if behind - first >= length:
        return high - low
    low, high = low - base, high - base
    before_wrap = max(min(high, behind) - max(low, first), 0)
    behind_wrap = max(min(high, behind - length) - low, 0)
    return before_wrap + behind_wrap


@compiled
def _move_records(accesses: Record, time_us: int) -> None:
    for index in range(accesses.size):
        move_to(accesses[index], time_us)


def _check_ranges(table: AccessTable, name: str) -> None:
    phase = np.repeat(np.arange(table.phase_end_us.size), np.diff(table.first_range))
    follows = np.zeros(table.start.size, np.bool_)
    follows[1:] = phase[1:] == phase[:-1]
    previous_end = np.where(follows, np.roll(table.end, 1), 0)
    checks = (
        ((table.start % PAGE_BYTES != 0) | (table.end % PAGE_BYTES != 0), f"must lie on {PAGE_BYTES}-byte pages"),
        (table.start >= table.end, "must not be empty"),
        (table.start < previous_end, "must not begin before the end of the range before it"),
        (table.end > table.size, f"must end within the memory of {table.size} bytes"),
        (~((table.rate >= 0) & np.isfinite(table.rate)), "needs a rate of 0 or more touches per page and second"),
        (~((table.sweep_us >= 0) & np.isfinite(table.sweep_us)), "needs a sweep time of 0 or more microseconds"),
    )
    for wrong, reason in checks:
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise UserError(f"{name}, phase {phase[row]}, range {table.start[row]}-{table.end[row]}: {reason}")
