"""Workload streams for compiled code: each instance of a batch draws its own next block address.

`bind_workloads` turns workloads into plain tables for one volume size; a `Source` record per instance is
the whole state of a stream, so that copying the record forks the stream (the shadow does).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, array_of, compiled
from kml_envs.workloads.synthetic import Bursts, Phase, PhaseKind, Workload
from kml_envs.workloads.trace import fit_to_volume

PHASE = np.dtype(
    [
        ("kind", np.int32),
        ("writes", np.int64),  # length, user writes
        ("hot_writes", np.float64),  # share of writes to hot blocks
        ("hot_blocks", np.int64),  # number of hot blocks
        ("theta", np.float64),
        ("alias_start", np.int64),  # ZIPF: into the alias table
        ("multiplier", np.int64),  # coprime to the volume: scatters ranks over addresses
        ("shift", np.int64),  # blocks
        ("trace_start", np.int64),  # into the trace arrays
        ("trace_length", np.int64),
    ],
    align=True,
)
SOURCE = np.dtype(
    [
        ("random", np.uint64),  # SplitMix64 state
        ("first_phase", np.int64),
        ("phase_count", np.int64),
        ("phase", np.int64),  # current, absolute index
        ("workload", np.int64),
        ("remaining", np.int64),  # writes left in this phase
        ("position", np.int64),  # sequential and trace phases: writes done
        ("interval_ns", np.int64),  # between writes of synthetic phases; 0: closed loop, negative: bursts
        ("burst_end", np.float64),  # probability that a write is the last of its burst
        ("burst_interval_ns", np.float64),  # mean time between two writes of a burst
        ("shortest_gap_ns", np.float64),  # between two bursts
        ("arrival_ns", np.int64),  # of the write drawn last; negative: closed loop
        ("loop_offset_ns", np.int64),  # added to trace times after each loop
        ("volume_blocks", np.int64),
        ("phases", np.uint64),  # addresses of the table's arrays
        ("trace_blocks", np.uint64),
        ("trace_ns", np.uint64),
        ("trace_gaps", np.uint64),
        ("alias", np.uint64),
    ],
    align=True,
)


GAP_EXPONENT = 1.5  # of the Pareto law of idle gaps
LONGEST_GAP = 50.0  # times the shortest

ALIAS = np.dtype([("keep", np.uint32), ("other", np.int32)], align=True)
"""A column of an alias table: its own rank is kept with probability keep / 2**32, else the other one is drawn."""

_phases = array_of("phases", PHASE)
_trace_blocks = array_of("trace_blocks", np.int32)
_trace_ns = array_of("trace_ns", np.int64)
_trace_gaps = array_of("trace_gaps", np.int64)
_alias = array_of("alias", ALIAS)


class WorkloadTable(NamedTuple):
    """Workloads bound to one volume size, as arrays that compiled code can read.

    Sources hold the addresses of these arrays: whoever keeps a source keeps its table.
    """

    volume_blocks: int
    phases: NDArray[np.void]  # (total phases,) PHASE
    first_phase: NDArray[np.int32]  # (workloads,)
    phase_count: NDArray[np.int32]  # (workloads,)
    interval_ns: NDArray[np.int64]  # (workloads,)
    bursts: tuple[Bursts | None, ...]  # (workloads,)
    trace_blocks: NDArray[np.int32]  # (all trace writes,) block addresses
    trace_ns: NDArray[np.int64]  # (all trace writes,) arrival times
    trace_gaps: NDArray[np.int64]  # (all trace writes,) writes until the block is written again
    alias: NDArray[np.void]  # (volume blocks of every Zipf law,) ALIAS


def bind_workloads(workloads: Sequence[Workload], volume_blocks: int) -> WorkloadTable:
    """Fit workloads to a volume and lay them out as tables.

    Args:
        workloads: What the instances of a batch may draw from.
        volume_blocks: Number of blocks of the volume; every address drawn is below it.

    Returns:
        The tables; traces are remapped densely and sampled by address where they are larger than the volume.
    """
    rows: list[tuple[Any, ...]] = []
    first_phase: list[int] = []
    blocks: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
    times: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    gaps: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    laws: dict[float, int] = {}
    position = 0
    for workload in workloads:
        first_phase.append(len(rows))
        length = 0
        if workload.trace is not None:
            fitted = fit_to_volume(workload.trace, volume_blocks)
            blocks.append(fitted.blocks)
            times.append(np.rint(fitted.time_us * (1000.0 * workload.time_scale)).astype(np.int64))
            gaps.append(overwrite_gaps(fitted.blocks))
            length = fitted.blocks.size
        for phase in workload.phases:
            if phase.kind is PhaseKind.ZIPF:
                laws.setdefault(phase.theta, len(laws) * volume_blocks)
            rows.append(_phase_row(phase, volume_blocks, laws.get(phase.theta, 0), position, length))
        position += length
    return WorkloadTable(
        volume_blocks=volume_blocks,
        phases=np.array(rows, PHASE),
        first_phase=np.array(first_phase, np.int32),
        phase_count=np.array([len(workload.phases) for workload in workloads], np.int32),
        interval_ns=np.array([workload.interval_ns for workload in workloads], np.int64),
        bursts=tuple(workload.bursts for workload in workloads),
        trace_blocks=np.concatenate(blocks),
        trace_ns=np.concatenate(times),
        trace_gaps=np.concatenate(gaps),
        alias=np.concatenate([np.zeros(0, ALIAS), *(zipf_table(theta, volume_blocks) for theta in laws)]),
    )


def start_source(table: WorkloadTable, workload: int, seed: int) -> NDArray[np.void]:
    """Open a stream.

    Args:
        table: The bound workloads.
        workload: Index of the workload.
        seed: Record 64-bit number; it also picks the phase and the place in a trace where the stream begins.

    Returns:
        A SOURCE record, shape (1,).
    """
    source = np.zeros(1, SOURCE)
    source["workload"] = workload
    source["first_phase"] = table.first_phase[workload]
    source["phase_count"] = table.phase_count[workload]
    source["interval_ns"] = table.interval_ns[workload]
    if (bursts := table.bursts[workload]) is not None:
        source["interval_ns"] = -1
        source["burst_end"] = 1.0 / bursts.writes
        source["burst_interval_ns"] = 1e9 / bursts.rate
        source["shortest_gap_ns"] = 1e9 * bursts.gap_s * (GAP_EXPONENT - 1.0) / GAP_EXPONENT
    source["volume_blocks"] = table.volume_blocks
    for name in ("phases", "trace_blocks", "trace_ns", "trace_gaps", "alias"):
        source[name] = getattr(table, name).ctypes.data
    _open_source(source, np.uint64(seed))
    return source


def materialize(source: NDArray[np.void], count: int) -> NDArray[np.int32]:
    """Draw the next `count` addresses into an array, shape (count,), advancing the source (1,)."""
    out = np.empty(count, np.int32)
    _draw_into(source, out)
    return out


def overwrite_gaps(blocks: NDArray[np.int32]) -> NDArray[np.int64]:
    """Writes from each write of a looped trace to the next one of the same block.

    Args:
        blocks: (W,) block addresses in the order of the writes.

    Returns:
        (W,) gaps, at least 1; a block written once has a gap of W.
    """
    order = np.argsort(blocks, kind="stable")
    ordered = blocks[order]
    following = np.roll(order, -1)
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    ends = np.append(starts[1:], ordered.size) - 1
    following[ends] = order[starts] + blocks.size
    gaps = np.empty(blocks.size, np.int64)
    gaps[order] = following - order
    return gaps


@compiled
def next_random(source: Record) -> Record:
    """Advance a SplitMix64 generator (Steele, Lea and Flood 2014) and return 64 random bits."""
    source.random += np.uint64(0x9E3779B97F4A7C15)
    z = source.random
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled
def random_below(source: Record, bound: int) -> int:
    """Draw a whole number in [0, bound), bound below 2**31."""
    return np.int64(((next_random(source) >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32))


@compiled
def random_unit(source: Record) -> float:
    """Draw a float in [0, 1) with 53 random bits."""
    return np.float64(next_random(source) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled
def next_block(source: Record) -> int:
    """Draw the address of the next user write and set the source's arrival time.

    Args:
        source: The instance's SOURCE record, advanced in place.

    Returns:
        The block address, in [0, volume_blocks).
    """
    if source.remaining == 0:
        source.phase += 1
        if source.phase == source.first_phase + source.phase_count:
            source.phase = source.first_phase
        source.remaining = current_phase(source).writes
    source.remaining -= 1
    phase = current_phase(source)
    volume_blocks = source.volume_blocks
    if phase.kind == PhaseKind.TRACE:
        return _next_of_trace(source, phase)
    if source.interval_ns != 0:
        source.arrival_ns += source.interval_ns if source.interval_ns > 0 else _next_interval(source)
    if phase.kind == PhaseKind.UNIFORM:
        return random_below(source, volume_blocks)
    if phase.kind == PhaseKind.SEQUENTIAL:
        block = (source.position + phase.shift) % volume_blocks
        source.position += 1
        return block
    if phase.kind == PhaseKind.CIRCULAR_LOG:
        return _next_of_log_or_rest(source, phase)
    return (_draw_rank(source, phase, volume_blocks) * phase.multiplier + phase.shift) % volume_blocks


@compiled
def _next_interval(source: Record) -> int:
    # Both laws by inversion; 1 - random_unit lies in (0, 1].
    interval = -source.burst_interval_ns * np.log(1.0 - random_unit(source))
    if random_unit(source) < source.burst_end:
        stretch = (1.0 - random_unit(source)) ** (-1.0 / GAP_EXPONENT)
        interval += source.shortest_gap_ns * min(stretch, LONGEST_GAP)
    return np.int64(interval)


@compiled
def _draw_rank(source: Record, phase: Record, volume_blocks: int) -> int:
    if phase.kind == PhaseKind.HOT_COLD:
        if random_unit(source) < phase.hot_writes:
            return random_below(source, phase.hot_blocks)
        return phase.hot_blocks + random_below(source, volume_blocks - phase.hot_blocks)
    # Walker's alias method (1977): a column, then one of its two ranks, from one random word.
    drawn = next_random(source)
    column = np.int64(((drawn >> np.uint64(32)) * np.uint64(volume_blocks)) >> np.uint64(32))
    entry = _alias(source)[phase.alias_start + column]
    return column if (drawn & np.uint64(0xFFFFFFFF)) < entry.keep else np.int64(entry.other)


@compiled
def _next_of_log_or_rest(source: Record, phase: Record) -> int:
    if random_unit(source) < phase.hot_writes:
        source.position += 1
        return source.position % phase.hot_blocks
    return phase.hot_blocks + random_below(source, source.volume_blocks - phase.hot_blocks)


@compiled
def _next_of_trace(source: Record, phase: Record) -> int:
    if source.position == phase.trace_length:
        source.position = 0
        source.loop_offset_ns += _trace_ns(source)[phase.trace_start + phase.trace_length - 1]
    index = phase.trace_start + source.position
    source.position += 1
    source.arrival_ns = source.loop_offset_ns + _trace_ns(source)[index]
    return np.int64(_trace_blocks(source)[index])


@compiled
def _open_source(sources: Record, seed: Record) -> None:
    source = sources[0]
    source.random = seed
    source.phase = source.first_phase + random_below(source, source.phase_count)
    phase = current_phase(source)
    source.remaining = 1 + random_below(source, phase.writes)
    source.arrival_ns = -1 if source.interval_ns == 0 else 0
    if phase.kind == PhaseKind.TRACE:
        source.position = random_below(source, phase.trace_length)
        source.loop_offset_ns = -_trace_ns(source)[phase.trace_start + source.position]


@compiled
def _draw_into(sources: Record, out: Record) -> None:
    for index in range(out.size):
        out[index] = next_block(sources[0])


@compiled
def current_phase(source: Record) -> Record:
    """The PHASE record that a source is in."""
    return _phases(source)[source.phase]


@compiled
def writes_until_overwrite(source: Record) -> int:
    """User writes from the trace write drawn last to the next one of the same block; the oracle's knowledge."""
    index = current_phase(source).trace_start + source.position - 1
    return _trace_gaps(source)[index]


def _phase_row(
    phase: Phase, volume_blocks: int, alias_start: int, trace_start: int, trace_length: int
) -> tuple[Any, ...]:
    return (
        phase.kind,
        max(1, round(phase.volumes * volume_blocks)),
        phase.hot_writes,
        min(max(1, round(phase.hot_blocks * volume_blocks)), volume_blocks - 1),
        phase.theta,
        alias_start,
        scatter_multiplier(volume_blocks),
        round(phase.shift * volume_blocks),
        trace_start,
        trace_length,
    )


def scatter_multiplier(volume_blocks: int) -> int:
    """A multiplier coprime to the volume near its golden section: neighbouring ranks land far apart."""
    multiplier = max(1, round(volume_blocks * 0.6180339887498949))
    while np.gcd(multiplier, volume_blocks) != 1:
        multiplier += 1
    return multiplier


def zipf_table(theta: float, count: int) -> NDArray[np.void]:
    """Build the alias table of a Zipf law, P(rank k) proportional to (k + 1)**-theta.

    Args:
        theta: Exponent.
        count: Number of ranks.

    Returns:
        (count,) ALIAS; probabilities are exact to 2**-32 of a column.
    """
    share = np.arange(1.0, count + 1.0) ** -theta
    share *= count / share.sum()
    table = np.empty(count, ALIAS)
    build_alias(share, table)
    return table


@compiled
def build_alias(share: Record, table: Record) -> None:
    """Build an alias table (Vose 1991).

    Args:
        share: (count,) float64, falling: `count` times the probability of each rank; overwritten.
        table: (count,) ALIAS, written.
    """
    # The columns that need filling are at the end: two cursors suffice.
    rich, poor = 0, share.size - 1
    while rich < poor:
        if share[poor] >= 1.0:
            break
        table[poor].keep = np.uint32(min(share[poor] * 4294967296.0, 4294967295.0))
        table[poor].other = rich
        share[rich] -= 1.0 - share[poor]
        poor -= 1
        # A rich column that has become poor is filled by the next one, as if it stood at the end.
        while rich < poor and share[rich] < 1.0:
            table[rich].keep = np.uint32(min(max(share[rich], 0.0) * 4294967296.0, 4294967295.0))
            table[rich].other = rich + 1
            share[rich + 1] -= 1.0 - share[rich]
            rich += 1
    for column in range(rich, poor + 1):
        table[column].keep = np.uint32(4294967295)
        table[column].other = column
