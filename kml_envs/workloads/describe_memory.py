"""What an access pattern holds, in numbers: its size, its phases, and how much of it is hot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.workloads.access import PAGE_BYTES, AccessTable

SAMPLE_S = 0.005
"""DAMON's default sampling interval."""

IDLE_RATES = {"1 s": 1.0, "10 s": 0.1, "1 min": 1 / 60, "10 min": 1 / 600}
"""Touches per second below which a page is idle for longer than so, in mean."""

_FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class AccessDescription:
    """What a pattern holds. Shares are of the memory, in mean over the cycle.

    Attributes:
        name: The file or workload.
        size_bytes: Size of the memory.
        phases: Number of phases.
        cycle_s: Length of all phases together, in seconds.
        ranges: Ranges of all phases together.
        touched_share: Share that is touched in some phase.
        found_share: Share that a sampling interval of 5 ms finds accessed.
        idle_shares: Share whose pages are touched less often than once in a time.
        touches_per_s: Touches of all pages together.
        swept_share: Share of the touches that sequential cursors make.
        changed_share: Share of the touches that go, after a change of phase, where the phase before had none.
    """

    name: str
    size_bytes: int
    phases: int
    cycle_s: float
    ranges: int
    touched_share: float
    found_share: float
    idle_shares: dict[str, float]
    touches_per_s: float
    swept_share: float
    changed_share: float

    def as_dict(self) -> dict[str, Any]:
        """Return the description as plain data, for JSON."""
        return asdict(self)


def describe_accesses(name: str, table: AccessTable) -> AccessDescription:
    """Describe a pattern."""
    seconds = np.diff(table.phase_end_us, prepend=0) * 1e-6
    phase = np.repeat(np.arange(seconds.size), np.diff(table.first_range))
    weight = seconds[phase] / seconds.sum()  # of each range, in the cycle
    bytes_of = (table.end - table.start).astype(np.float64)
    share = bytes_of / table.size
    swept = table.sweep_us > 0
    rate = np.where(swept, 1e6 / np.where(swept, table.sweep_us, 1.0), table.rate)
    found = np.where(swept, np.minimum(1.0, rate * SAMPLE_S), -np.expm1(-rate * SAMPLE_S))
    touches = weight * rate * bytes_of / PAGE_BYTES
    total = float(touches.sum())
    return AccessDescription(
        name=name,
        size_bytes=table.size,
        phases=seconds.size,
        cycle_s=float(seconds.sum()),
        ranges=table.start.size,
        touched_share=_union_bytes(table) / table.size,
        found_share=float((weight * share * found).sum()),
        idle_shares={label: 1.0 - float((weight * share)[rate >= least].sum()) for label, least in IDLE_RATES.items()},
        touches_per_s=total,
        swept_share=float(touches[swept].sum()) / total if total else 0.0,
        changed_share=_changed_share(table, rate),
    )


def format_access_description(found: AccessDescription) -> str:
    """Return a description as a table of text."""
    rows = [
        ("memory", f"{found.size_bytes / 2**20:,.0f} MiB, {found.size_bytes // PAGE_BYTES:,} pages"),
        ("pattern", f"{found.phases:,} phases in {found.cycle_s:,.1f} s, {found.ranges:,} ranges"),
        ("touched at all", f"{found.touched_share:.1%}"),
        ("found in a sample of 5 ms", f"{found.found_share:.2%}"),
        *((f"idle for more than {label}", f"{share:.1%}") for label, share in found.idle_shares.items()),
        ("touches", f"{found.touches_per_s:,.0f} a second, {found.swept_share:.1%} of them sequential"),
        ("new places in a phase", f"{found.changed_share:.1%} of the touches"),
    ]
    width = max(len(label) for label, _ in rows)
    return "\n".join([found.name, *(f"  {label:<{width}}  {value}" for label, value in rows)])


def _union_bytes(table: AccessTable) -> int:
    order = np.argsort(table.start, kind="stable")
    start, end = table.start[order], np.maximum.accumulate(table.end[order]) if order.size else table.end
    before = np.concatenate([[0], end[:-1]]) if order.size else end
    return int(np.maximum(0, end - np.maximum(start, before)).sum())


def _changed_share(table: AccessTable, rate: _FloatArray) -> float:
    phases = table.phase_end_us.size
    fresh, total = 0.0, 0.0
    for phase in range(phases):
        rows = slice(table.first_range[phase], table.first_range[phase + 1])
        start, end = table.start[rows], table.end[rows]
        known = _bytes_below(table, (phase - 1) % phases, end) - _bytes_below(table, (phase - 1) % phases, start)
        fresh += float((rate[rows] * (end - start - known)).sum())
        total += float((rate[rows] * (end - start)).sum())
    return fresh / total if total and phases > 1 else 0.0


def _bytes_below(table: AccessTable, phase: int, addresses: NDArray[np.int64]) -> _FloatArray:
    """Bytes that a phase touches below each of some addresses."""
    rows = slice(table.first_range[phase], table.first_range[phase + 1])
    start, end = table.start[rows], table.end[rows]
    if not start.size:
        return np.zeros(addresses.size)
    behind = np.cumsum(end - start)
    points = np.stack([start, end], axis=1).ravel()
    return np.asarray(np.interp(addresses, points, np.stack([behind - (end - start), behind], axis=1).ravel()))
