"""Synthetic block workloads: what they are, as data. `source.py` draws from them.

A workload is a cycle of phases; each phase says how the next block address is drawn and for how long.
Addresses of skewed phases are scattered over the volume by a fixed permutation, so that a hot block's
neighbours on a freshly filled volume are as cold as anybody's.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kml_envs.errors import UserError
from kml_envs.workloads.trace import BlockTrace

# A copy-on-write tree or a database is simulated once, and what it writes replayed.
_RECORDED_PAGES = 16_384
_RECORDED_WRITES = 20 * _RECORDED_PAGES
_REDO_LOG_PAGES = _RECORDED_PAGES // 8
_PAGE_WRITE_US = 100
_LONGEST_PHASE = 1e6  # volumes: its writes are counted in 63 bits
_LONGEST_GAP_S = 1e6
_LONGEST_INTERVAL_S = 1e3  # in mean between two writes: arrival times in nanoseconds fit into 63 bits for 9 million
_LONGEST_TRACE_S = 2**57 / 1e9  # 4.5 years: the same, for 64 passes
_LONGEST_CHECKPOINT = 100.0  # updates between two checkpoints, per page: beyond that every page is written each time


class PhaseKind(enum.IntEnum):
    """How the addresses of a phase are drawn."""

    UNIFORM = 0
    HOT_COLD = 1
    ZIPF = 2
    SEQUENTIAL = 3
    TRACE = 4
    CIRCULAR_LOG = 5


@dataclass(frozen=True)
class Phase:
    """One stretch of a workload.

    Attributes:
        kind: How addresses are drawn.
        volumes: Length in volumes of user writes.
        hot_writes: HOT_COLD: share of the writes that goes to the hot blocks, in 0..1; CIRCULAR_LOG: to the log.
        hot_blocks: HOT_COLD: share of the blocks that is hot, in 0..1; CIRCULAR_LOG: that the log takes.
        theta: ZIPF: exponent, P(rank k) proportional to k**-theta.
        shift: Rotation of the address space, as a share of the volume: what is hot moves with it.
    """

    kind: PhaseKind
    volumes: float = 1.0
    hot_writes: float = 0.0
    hot_blocks: float = 0.0
    theta: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: A parameter is out of range.
        """
        if not 0 < self.volumes <= _LONGEST_PHASE:
            raise UserError(f"phase length {self.volumes} volumes: must be positive, at most {_LONGEST_PHASE:g}")
        if not math.isfinite(self.shift):
            raise UserError(f"shift {self.shift} volumes: must be finite")
        shared = self.kind in (PhaseKind.HOT_COLD, PhaseKind.CIRCULAR_LOG)
        if shared and not (0 < self.hot_writes < 1 and 0 < self.hot_blocks < 1):
            raise UserError(f"hot/cold {self.hot_writes}/{self.hot_blocks}: both shares must lie between 0 and 1")
        if self.kind is PhaseKind.ZIPF and not 0 < self.theta <= 5:
            raise UserError(f"Zipf exponent {self.theta}: must lie in 0..5")


@dataclass(frozen=True)
class Bursts:
    """When writes arrive: bursts of random length, and idle gaps between them.

    The length of a burst is geometric, the time between two writes of a burst exponential, and a gap a truncated
    Pareto law of exponent 1.5: most gaps are short and a few are long, so that the longer a device has been idle, the
    longer it will probably stay so, as measured on disks (Golding et al., USENIX 1995).

    Attributes:
        writes: Mean length of a burst, in writes.
        rate: Writes a second within a burst.
        gap_s: Mean idle gap, in seconds, but for the truncation at fifty times the shortest gap.
    """

    writes: float
    rate: float
    gap_s: float

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: A number is out of range.
        """
        finite = all(map(math.isfinite, (self.writes, self.rate, self.gap_s)))
        if not finite or self.writes < 1 or self.rate <= 0 or self.gap_s <= 0:
            raise UserError(
                f"bursts of {self.writes:g} writes, {self.rate:g} a second, every {self.gap_s:g} s: at least one "
                "write, and positive numbers"
            )
        if self.gap_s > _LONGEST_GAP_S or 1.0 / self.rate + self.gap_s / self.writes > _LONGEST_INTERVAL_S:
            raise UserError(
                f"bursts of {self.writes:g} writes, {self.rate:g} a second, every {self.gap_s:g} s: gaps of at most "
                f"{_LONGEST_GAP_S:g} s are accepted, and at most {_LONGEST_INTERVAL_S:g} s a write in mean"
            )


@dataclass(frozen=True)
class Workload:
    """A named stream of block writes.

    Attributes:
        name: How suites, tables and TensorBoard call it.
        phases: The cycle of phases; a trace is one phase of kind TRACE.
        trace: The recorded requests of a TRACE phase.
        interval_ns: Time between two user writes of synthetic phases, in nanoseconds; 0 means that each
            write arrives when the one before it is done (closed loop).
        bursts: Arrival process of synthetic phases, instead of `interval_ns`.
        time_scale: Multiplies the recorded times of a trace: 2 is half as fast.
    """

    name: str
    phases: tuple[Phase, ...]
    trace: BlockTrace | None = None
    interval_ns: int = 0
    bursts: Bursts | None = None
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check that the phases make sense together.

        Raises:
            UserError: There is no phase, a trace phase without a trace, or a trace lasts too long.
        """
        if not self.phases:
            raise UserError(f"workload '{self.name}' has no phase")
        if any(phase.kind is PhaseKind.TRACE for phase in self.phases) != (self.trace is not None):
            raise UserError(f"workload '{self.name}': a trace phase needs a trace, and a trace a trace phase")
        if self.interval_ns < 0:
            raise UserError(f"workload '{self.name}': interval of {self.interval_ns} ns must not be negative")
        if self.time_scale <= 0:
            raise UserError(f"workload '{self.name}': time_scale {self.time_scale} must be positive")
        if self.trace is not None and self.trace.time_us.size:
            duration_s = float(self.trace.time_us[-1]) * self.time_scale / 1e6
            if not duration_s < _LONGEST_TRACE_S:
                raise UserError(
                    f"workload '{self.name}': lasts {duration_s:g} s, less than {_LONGEST_TRACE_S:.0f} s (4.5 years) "
                    "are accepted"
                )

    @property
    def has_arrival_times(self) -> bool:
        """Whether its writes arrive at times of their own (open loop)."""
        return self.trace is not None or self.bursts is not None or self.interval_ns > 0


def uniform() -> Workload:
    """Every block is equally likely."""
    return Workload("uniform", (Phase(PhaseKind.UNIFORM),))


def hot_cold(hot_writes: float, hot_blocks: float) -> Workload:
    """A share `hot_writes` of the writes goes to a share `hot_blocks` of the blocks."""
    phase = Phase(PhaseKind.HOT_COLD, hot_writes=hot_writes, hot_blocks=hot_blocks)
    return Workload(f"hot-cold-{hot_writes:.15g}-{hot_blocks:.15g}", (phase,))


def zipf(theta: float) -> Workload:
    """The k-th most popular block is written with probability proportional to k**-theta."""
    return Workload(f"zipf-{theta:.15g}", (Phase(PhaseKind.ZIPF, theta=theta),))


def sequential() -> Workload:
    """The whole volume is overwritten from its first block to its last, again and again."""
    return Workload("sequential", (Phase(PhaseKind.SEQUENTIAL),))


def circular_log(log_writes: float, log_blocks: float) -> Workload:
    """A share of the writes goes around a log, as a database's, and the others anywhere in the rest of the blocks."""
    phase = Phase(PhaseKind.CIRCULAR_LOG, hot_writes=log_writes, hot_blocks=log_blocks)
    return Workload(f"circular-log-{log_writes:.15g}-{log_blocks:.15g}", (phase,))


def shifting(name: str, phases: tuple[Phase, ...]) -> Workload:
    """A cycle of phases: the load changes its kind, and what is hot moves."""
    return Workload(name, phases)


def copy_on_write(free: float, hot_writes: float, hot_blocks: float) -> Workload:
    """Pages that are never written in place, as of a copy-on-write tree: what is updated moves to a free page.

    Every update takes the page that has been free for longest and frees the one that held the old copy. How long a
    page lives therefore says nothing of how long its next content will.

    Args:
        free: Share of the pages that are free, in 0..1.
        hot_writes: Share of the updates that go to hot contents.
        hot_blocks: Share of the contents that are hot.

    Raises:
        UserError: A share does not lie between 0 and 1.
    """
    name = f"copy-on-write-{free:.15g}-{hot_writes:.15g}-{hot_blocks:.15g}"
    if not all(0 < share < 1 for share in (free, hot_writes, hot_blocks)):
        raise UserError(f"workload '{name}': all three shares must lie between 0 and 1")
    generator = np.random.default_rng(0)
    live = min(max(2, round((1.0 - free) * _RECORDED_PAGES)), _RECORDED_PAGES - 1)
    hot = min(max(1, round(hot_blocks * live)), live - 1)
    pages = generator.permutation(_RECORDED_PAGES)
    holds, unused = list(pages[:live]), deque(pages[live:])
    is_hot = generator.random(_RECORDED_WRITES) < hot_writes
    updated = np.where(is_hot, generator.integers(hot, size=is_hot.size), generator.integers(hot, live, is_hot.size))
    written = np.empty(_RECORDED_WRITES, np.int64)
    for position, content in enumerate(updated):
        page = unused.popleft()
        unused.append(holds[content])
        holds[content] = page
        written[position] = page
    return _replay_pages(name, written)


def checkpoints(length: float, hot_writes: float, hot_blocks: float) -> Workload:
    """A database that writes each updated page once a checkpoint, in the order of addresses, and a circular redo log.

    A page is written at most once a checkpoint however often it is updated, so that what has just been written is
    what will live longest. One page of the log is written for each page of the database; the log takes an eighth of
    the space.

    Args:
        length: Updates between two checkpoints, as a share of the database's pages.
        hot_writes: Share of the updates that go to hot pages, in 0..1.
        hot_blocks: Share of the pages that are hot.

    Raises:
        UserError: A number is out of range.
    """
    name = f"checkpoints-{length:.15g}-{hot_writes:.15g}-{hot_blocks:.15g}"
    if not (0 < length <= _LONGEST_CHECKPOINT and 0 < hot_writes < 1 and 0 < hot_blocks < 1):
        raise UserError(
            f"workload '{name}': the length must lie in 0..{_LONGEST_CHECKPOINT:g}, both shares between 0 and 1"
        )
    generator = np.random.default_rng(0)
    pages = _RECORDED_PAGES - _REDO_LOG_PAGES
    hot, updates = min(max(1, round(hot_blocks * pages)), pages - 1), max(1, round(length * pages))
    address = _REDO_LOG_PAGES + generator.permutation(pages)
    checkpointed: list[NDArray[np.int64]] = []
    count = 0
    while 2 * count < _RECORDED_WRITES:
        is_hot = generator.random(updates) < hot_writes
        updated = np.where(is_hot, generator.integers(hot, size=updates), generator.integers(hot, pages, updates))
        checkpointed.append(np.unique(address[updated]))
        count += checkpointed[-1].size
    written = np.empty(2 * count, np.int64)
    written[::2] = np.arange(count) % _REDO_LOG_PAGES
    written[1::2] = np.concatenate(checkpointed)
    return _replay_pages(name, written)


def _replay_pages(name: str, pages: NDArray[np.int64]) -> Workload:
    ones = np.ones(pages.size, np.int32)
    return replay(BlockTrace(name, _PAGE_WRITE_US * np.arange(pages.size), ones.astype(np.bool_), pages, ones))


def replay(trace: BlockTrace) -> Workload:
    """The writes of a trace at their recorded times, from the start again when it ends."""
    return Workload(trace.name, (Phase(PhaseKind.TRACE),), trace=trace)


def with_interval(workload: Workload, interval_ns: int) -> Workload:
    """The same workload with its synthetic writes arriving every `interval_ns` nanoseconds."""
    return dataclasses.replace(workload, interval_ns=interval_ns)


def in_bursts(workload: Workload, bursts: Bursts) -> Workload:
    """The same workload with its synthetic writes arriving in bursts, named `NAME@bursts-WRITES-RATE-GAP`.

    Raises:
        UserError: The workload has arrival times of its own.
    """
    if workload.has_arrival_times:
        raise UserError(f"workload '{workload.name}' has arrival times of its own: bursts are for synthetic ones")
    name = f"{workload.name}@bursts-{bursts.writes:.15g}-{bursts.rate:.15g}-{bursts.gap_s:.15g}"
    return dataclasses.replace(workload, name=name, bursts=bursts)


def slowed(workload: Workload, factor: float) -> Workload:
    """The same trace with all its times multiplied, named `NAME@slowed-FACTOR`.

    Raises:
        UserError: The workload is no trace.
    """
    if workload.trace is None:
        raise UserError(f"workload '{workload.name}' has no recorded times that could be slowed")
    scale = workload.time_scale * factor
    return dataclasses.replace(workload, name=f"{workload.name}@slowed-{factor:.15g}", time_scale=scale)
