"""Recorded memory accesses as access patterns: damo's records, and traces of single accesses.

A page's touches in a phase of the pattern are as frequent as the recording says that it was found touched, by the rule
of `access.py`: found in a share p of the samples of length T, its rate is -log(1 - p) / T. Of a page found in every
sample a record does not say more: it is taken to have been missed by half a one. A trace does: it counts the visits.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kml_envs.errors import UserError, unknown_name
from kml_envs.workloads.access import NO_BOUNDARY_US, PAGE_BYTES, AccessTable, build_table, validate
from kml_envs.workloads.formats.damo import looks_like_damo, read_damo
from kml_envs.workloads.formats.memory_text import PageVisits, read_access_csv, read_lackey
from kml_envs.workloads.formats.stream import ByteStream
from kml_envs.workloads.masim import masim_table, read_masim
from kml_envs.workloads.snapshots import SnapshotRecord

MEMORY_FORMATS = {
    "damo": "record of damo: json, json_compressed or the text of perf script",
    "lackey": "output of valgrind --tool=lackey --trace-mem=yes",
    "accesses": "CSV with a header naming a time column and address",
    "masim": "configuration file of masim",
}
"""The formats of memory accesses by name."""

INSTRUCTIONS_PER_S = 1e9
"""Default clock of a trace that counts instructions."""

_HEAD_BYTES = 1 << 16
_MOST_PAGES = 1 << 20
_MOST_PHASES = 100_000
_IntArray = NDArray[np.int64]
_FloatArray = NDArray[np.float64]


def detect_memory_format(path: str | Path) -> str | None:
    """Name the format of a file by its first bytes; None if it is none of `MEMORY_FORMATS`.

    Raises:
        UserError: The file cannot be opened, or is empty.
    """
    stream = ByteStream(path)
    head = stream.peek(_HEAD_BYTES)
    stream.close()
    if looks_like_damo(head):
        return "damo"
    lines = [line.strip() for line in head.decode("latin-1").splitlines()]
    lines = [line for line in lines if line and not line.startswith(("#", "=="))]
    if not lines:
        return None
    if any(re.fullmatch(r"[ILSM]\s+[0-9a-fA-F]+,\d+", line) for line in lines[:50]):
        return "lackey"
    names = {name.strip().lower() for name in lines[0].split(",")}
    if not names.isdisjoint(("address", "addr")) and "offset" not in names:
        return "accesses"
    if any(re.fullmatch(r"[^,]+,\s*[01]\s*,\s*\d+\s*,\s*\d+(\s*,\s*(ro|wo|rw))?", line) for line in lines):
        return "masim"
    return None


def read_memory_trace(
    path: str | Path,
    *,
    format: str | None = None,
    target: int | None = None,
    clock_per_s: float = INSTRUCTIONS_PER_S,
    sample_us: int = 10_000,
    phase_us: int = 100_000,
    time_factor: float = 1.0,
    address_factor: int = 1,
) -> AccessTable:
    """Read recorded accesses as a pattern.

    Args:
        path: The file, plain or compressed with gzip, xz or Zstandard.
        format: A name in `MEMORY_FORMATS`; None recognises it from the content.
        target: Which record of a damo file, counted from 0; it must be given where there are several.
        clock_per_s: Instructions per second of a lackey trace.
        sample_us: Traces of accesses: interval in which a page is either touched or not.
        phase_us: Traces of accesses: length of a phase, a whole number of samples.
        time_factor: Stretches the time, see `scaled`.
        address_factor: Stretches the memory, see `scaled`.

    Raises:
        UserError: The file cannot be read or recognised, or the arguments do not fit.
    """
    name = Path(path).name
    chosen = format or detect_memory_format(path)
    if chosen is None:
        raise UserError(f"{path}: not recognised as one of {', '.join(MEMORY_FORMATS)}")
    if chosen not in MEMORY_FORMATS:
        raise unknown_name("format of memory accesses", chosen, MEMORY_FORMATS)
    if target is not None and chosen != "damo":
        raise UserError(f"{path}: a record can be chosen in a file of damo only, this is one of {chosen}")
    if not 0 < clock_per_s < math.inf:
        raise UserError(f"clock of {clock_per_s} instructions a second: a positive number is accepted")
    if chosen == "damo":
        table = snapshot_table(_chosen_record(str(path), read_damo(path), target), name)
    elif chosen == "masim":
        table = masim_table(read_masim(path), name=name)
    else:
        stream = ByteStream(path)
        try:
            visits = read_lackey(stream) if chosen == "lackey" else read_access_csv(stream)
            scale = 1e6 / clock_per_s if chosen == "lackey" else 1.0
            timed = (PageVisits((chunk.time * scale).astype(np.int64), chunk.page) for chunk in visits)
            table = visit_table(timed, name, sample_us=sample_us, phase_us=phase_us)
        finally:
            stream.close()
    return scaled(table, time_factor, address_factor)


def snapshot_table(record: SnapshotRecord, name: str) -> AccessTable:
    """Replay a record: each snapshot is a phase, whose regions are touched as often as they were found accessed.

    Addresses that no snapshot covers are left out; what remains moves together. Regions end on whole pages.

    Raises:
        UserError: The record covers no memory or no time.
    """
    pieces = [np.empty((0, 2), np.int64)]
    for snapshot in record.snapshots:
        pieces.append(np.stack([snapshot.start // PAGE_BYTES, -(-snapshot.end // PAGE_BYTES)], axis=1))
    first, behind, place = _covered(np.concatenate(pieces))
    if not first.size:
        raise UserError(f"{name}: the record covers no memory")
    intervals = [record.intervals_of(snapshot) for snapshot in record.snapshots]
    samples = [max(1, aggr_us // max(sample_us, 1)) for sample_us, aggr_us in intervals]
    # A record may hold more accesses than its intervals allow, which are a guess where it does not tell them.
    counted = [int(snapshot.nr_accesses.max(initial=0)) for snapshot in record.snapshots]
    excess = max([1.0, *(count / most for count, most in zip(counted, samples, strict=True))])
    phases = []
    for snapshot, (sample_us, _), allowed in zip(record.snapshots, intervals, samples, strict=True):
        most, sample_s = round(allowed * excess), max(sample_us, 1) * 1e-6
        start = _moved(snapshot.start // PAGE_BYTES, first, place)
        # A page that two regions share belongs to the first.
        start[1:] = np.maximum(start[1:], start[:-1] + 1) if start.size else start[1:]
        end = start + (-(-snapshot.end // PAGE_BYTES) - snapshot.start // PAGE_BYTES)
        end[:-1] = np.minimum(end[:-1], start[1:]) if end.size else end[:-1]
        rate = rate_of_share(snapshot.nr_accesses / most, most, sample_s)
        phases.append((max(1, (snapshot.end_ns - snapshot.start_ns) // 1000), _joined(start, end, rate)))
    return build_table(name, phases, int(place[-1] + behind[-1] - first[-1]) * PAGE_BYTES)


def visit_table(
    visits: Iterable[PageVisits], name: str, *, sample_us: int, phase_us: int, extent_pages: int = 16
) -> AccessTable:
    """Count, in each phase, in how many samples the pages were touched.

    Pages that are never touched are left out; what remains moves together, and is taken in extents of some pages.

    Args:
        visits: Accesses in order of time, in microseconds.
        name: What errors call it.
        sample_us: Interval in which a page is either touched or not.
        phase_us: Length of a phase.
        extent_pages: Neighbouring pages that share a rate.

    Raises:
        UserError: There is no access, the phase is not a whole number of samples, or more than 4 GiB are touched.
    """
    if sample_us < 1 or phase_us < sample_us or phase_us % sample_us:
        raise UserError(f"samples of {sample_us} us in phases of {phase_us} us: a whole number of them is accepted")
    counts = list(itertools.islice(_phase_counts(visits, sample_us, phase_us), _MOST_PHASES + 1))
    if not counts:
        raise UserError(f"{name}: there is no access in it")
    pages = np.unique(np.concatenate([page for page, _, _ in counts]))
    if len(counts) > _MOST_PHASES:
        raise UserError(f"{name}: more than {_MOST_PHASES} phases of {phase_us} us: choose longer ones")
    if pages.size > _MOST_PAGES:
        raise UserError(f"{name}: {pages.size} pages are touched, at most {_MOST_PAGES} (4 GiB) are accepted")
    samples = phase_us // sample_us
    edges = np.append(np.arange(0, pages.size, extent_pages), pages.size)
    phases = []
    for page, touched, visited in counts:
        extent = np.searchsorted(pages, page) // extent_pages
        share = np.bincount(extent, touched, edges.size - 1) / (np.diff(edges) * samples)
        rate = rate_of_share(share, samples, sample_us * 1e-6)
        visit_rate = np.bincount(extent, visited, edges.size - 1) / np.diff(edges) / (phase_us * 1e-6)
        rate = np.where(share > 1.0 - 0.5 / samples, np.maximum(rate, visit_rate), rate)
        phases.append((phase_us, _joined(edges[:-1], edges[1:], rate)))
    return build_table(name, phases, pages.size * PAGE_BYTES)


def scaled(table: AccessTable, time_factor: float, address_factor: int) -> AccessTable:
    """Stretch a pattern to the size and pace of a larger program.

    Args:
        table: The pattern.
        time_factor: Phases and sweeps take so many times as long, and pages are touched so many times less often, so
            that a page is touched as often as before between two events of the program.
        address_factor: Each page becomes so many neighbouring pages, touched as often each.

    Raises:
        UserError: A factor is out of range, or times or addresses become too large.
    """
    if not 1e-9 <= time_factor < 1e9 or address_factor < 1:
        raise UserError(
            f"factors {time_factor} and {address_factor}: positive ones, for times 1e-9 to 1e9 and for addresses "
            "whole, are accepted"
        )
    if table.phase_end_us[-1] * time_factor >= NO_BOUNDARY_US or table.size * address_factor >= NO_BOUNDARY_US:
        raise UserError(f"factors {time_factor} and {address_factor}: times or addresses would be beyond 2**62")
    return validate(
        AccessTable(
            np.maximum(1, np.rint(table.phase_end_us * time_factor)).astype(np.int64),
            table.first_range,
            table.start * address_factor,
            table.end * address_factor,
            table.rate / time_factor,
            table.sweep_us * time_factor,
            table.size * address_factor,
            table.once,
        ),
        "the stretched pattern",
    )


def rate_of_share(share: _FloatArray, samples: int, sample_s: float) -> _FloatArray:
    """Touches per second of pages that were found touched in these shares of so many samples of a length."""
    return np.asarray(-np.log1p(-np.minimum(share, (samples - 0.5) / samples)) / sample_s)


def _chosen_record(path: str, records: Sequence[SnapshotRecord], target: int | None) -> SnapshotRecord:
    if target is None and len(records) > 1:
        raise UserError(
            f"{path} holds {len(records)} records: choose one from 0 to {len(records) - 1}, as a workload by "
            f"{path}#0, and by --target of `python -m kml_envs.workloads describe`"
        )
    if not 0 <= (target or 0) < len(records):
        raise UserError(f"{path}: no record {target}; there are {len(records)}, counted from 0")
    return records[target or 0]


def _covered(pieces: _IntArray) -> tuple[_IntArray, _IntArray, _IntArray]:
    """Join ranges of pages (N, 2): first page, page behind, and the place to which each joined range moves."""
    ordered = pieces[np.argsort(pieces[:, 0], kind="stable")]
    reach = np.maximum.accumulate(ordered[:, 1]) if len(ordered) else ordered[:, 1]
    begins = np.ones(len(ordered), np.bool_)
    begins[1:] = ordered[1:, 0] > reach[:-1]
    first = ordered[begins, 0]
    last = np.append(np.flatnonzero(begins)[1:] - 1, len(ordered) - 1)
    behind = reach[last] if len(ordered) else reach
    length = behind - first
    return first, behind, np.cumsum(length) - length


def _moved(page: _IntArray, first: _IntArray, place: _IntArray) -> _IntArray:
    piece = np.searchsorted(first, page, side="right") - 1
    return page - first[piece] + place[piece]


def _joined(start: _IntArray, end: _IntArray, rate: _FloatArray) -> list[tuple[int, int, float, float]]:
    """Ranges in bytes of ranges of pages, without the untouched ones; neighbours of one rate are joined."""
    used = (rate > 0) & (end > start)
    start, end, rate = start[used], end[used], rate[used]
    begins = np.ones(start.size, np.bool_)
    begins[1:] = (start[1:] != end[:-1]) | (rate[1:] != rate[:-1])
    last = np.append(np.flatnonzero(begins)[1:] - 1, start.size - 1)[: np.count_nonzero(begins)]
    columns = (start[begins] * PAGE_BYTES, end[last] * PAGE_BYTES, rate[begins])
    return [(low, high, value, 0.0) for low, high, value in zip(*(column.tolist() for column in columns), strict=True)]


def _phase_counts(
    visits: Iterable[PageVisits], sample_us: int, phase_us: int
) -> Iterator[tuple[_IntArray, _IntArray, _IntArray]]:
    """For each phase in turn, the pages touched in it, in how many of its samples, and how often they were visited."""
    start_us: int | None = None
    phase, kept = 0, [np.empty((3, 0), np.int64)]
    for chunk in visits:
        if start_us is None:
            start_us = int(chunk.time[0])
        sample = (chunk.time - start_us) // sample_us
        of_phase = sample // (phase_us // sample_us)
        counted = _summed(np.stack([chunk.page, sample, np.ones_like(sample)]))
        counted_phase = counted[1] // (phase_us // sample_us)
        while of_phase[-1] > phase:
            yield _by_page([*kept, counted[:, counted_phase == phase]])
            phase, kept = phase + 1, []
        kept.append(counted[:, counted_phase == phase])
    if start_us is not None:
        yield _by_page(kept)


def _by_page(triples: Sequence[_IntArray]) -> tuple[_IntArray, _IntArray, _IntArray]:
    page, _, visited = _summed(np.concatenate([*triples, np.empty((3, 0), np.int64)], axis=1))
    found, first, samples = np.unique(page, return_index=True, return_counts=True)
    return found, samples, np.add.reduceat(visited, first) if found.size else visited


def _summed(triples: _IntArray) -> _IntArray:
    """Of rows page, sample, visits (3, N): one column for each page and sample, in their order."""
    order = np.lexsort((triples[1], triples[0]))
    page, sample, visited = triples[:, order]
    fresh = (np.diff(page, prepend=-1) != 0) | (np.diff(sample, prepend=-1) != 0)
    first = np.flatnonzero(fresh)
    total = np.add.reduceat(visited, first) if first.size else visited
    return np.stack([page[fresh], sample[fresh], total])
