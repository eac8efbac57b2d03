"""Records of damo, DAMON's user-space tool: JSON, JSON compressed by zlib, and the text of `perf script`.

Readers take what damo's versions have written over the years: numbers as text, with thousands separators or units,
percents for samples, microseconds for aggregations, missing and null members, and the pretended region 0-0 of records
of a single snapshot. The writer gives plain digits. Format: damo's `_damo_records.py` and `_damo_fmt_str.py`.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal, InvalidOperation, Overflow
from pathlib import Path
from typing import Any, TypeAlias

from kml_envs.errors import UserError
from kml_envs.files import write_atomically
from kml_envs.workloads.formats.perf_script import is_damon_event, read_perf_script
from kml_envs.workloads.formats.stream import BrokenStreamError, ByteStream
from kml_envs.workloads.snapshots import DEFAULT_SAMPLES, RecordedSnapshot, SnapshotRecord, snapshot_of

Member: TypeAlias = Any
"""Whatever stands at some place of a JSON file."""

_ALL_BYTES = 1 << 62
_TIME_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_SIZE = {unit + suffix: 1 << 10 * power for power, unit in enumerate("KMGTPE", 1) for suffix in ("", "B", "iB")} | {
    "B": 1,
    "": 1,
}


def looks_like_damo(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a record in any of the three forms."""
    if _is_zlib(head):
        return True
    if re.match(rb"\s*\[\s*\{\s*\"", head):
        return b'"snapshots"' in head or b'"kdamond_idx"' in head
    return any(is_damon_event(line) for line in head.decode("latin-1").splitlines()[:50])


def read_damo(path: str | Path) -> tuple[SnapshotRecord, ...]:
    """Read a record file, plain or compressed with gzip, xz or Zstandard.

    Returns:
        One record per target and scheme, none of them empty.

    Raises:
        UserError: The file cannot be read, is none of the three forms, or holds something unusable: which and where.
    """
    stream = ByteStream(path)
    try:
        content = stream.read(_ALL_BYTES)
    except BrokenStreamError as error:
        raise UserError(f"{path}: {error}") from error
    finally:
        stream.close()
    if _is_zlib(content[:2]):
        try:
            content = zlib.decompress(content)
        except zlib.error as error:
            raise UserError(f"{path}: the compressed data is damaged ({error})") from error
    is_json = content.lstrip()[:1] in (b"[", b"{")
    records = _from_json(str(path), content) if is_json else read_perf_script(str(path), content)
    records = [record for record in records if record.snapshots]
    if not records:
        raise UserError(
            f"{path}: not a single whole snapshot in it; accepted are damo's json, json_compressed, perf script"
        )
    return tuple(_with_start_times(record) for record in records)


def write_damo(path: str | Path, records: Iterable[SnapshotRecord], *, compressed: bool = True) -> None:
    """Write records for `damo report`, as json_compressed or json.

    The file is written under a temporary name first.

    Raises:
        UserError: The file cannot be written.
    """
    text = json.dumps([_record_members(record) for record in records], indent=None if compressed else 2)
    content = zlib.compress(text.encode()) if compressed else text.encode()
    try:
        write_atomically(Path(path), lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}") from error


def _record_members(record: SnapshotRecord) -> dict[str, Any]:
    intervals = None
    if record.sample_us and record.aggr_us:
        goal = {"access_bp": "0 %", "aggrs": "0", "min_sample_us": "0", "max_sample_us": "0"}
        intervals = {
            "sample_us": str(record.sample_us),
            "aggr_us": str(record.aggr_us),
            "ops_update_us": str(record.update_us or record.aggr_us),
            "intervals_goal": goal,
        }
    return {
        "kdamond_idx": record.kdamond,
        "context_idx": record.context,
        "intervals": intervals,
        "scheme_idx": None if record.scheme < 0 else record.scheme,
        "target_id": record.target,
        "scheme_filters": [],
        "snapshots": [_snapshot_members(snapshot, *record.intervals_of(snapshot)) for snapshot in record.snapshots],
    }


def _snapshot_members(snapshot: RecordedSnapshot, sample_us: int, aggr_us: int) -> dict[str, Any]:
    samples = aggr_us // sample_us if sample_us else DEFAULT_SAMPLES
    own = {"sample_interval_us": snapshot.sample_us, "aggr_interval_us": snapshot.aggr_us}
    columns = (snapshot.start, snapshot.end, snapshot.nr_accesses, snapshot.age)
    return {
        "start_time": str(snapshot.start_ns),
        "end_time": str(snapshot.end_ns),
        "regions": [
            {
                "start": str(start),
                "end": str(end),
                "nr_accesses": {"samples": str(accesses), "percent": f"{100 * accesses // max(samples, 1)} %"},
                "age": {
                    "usec": str(age * aggr_us) if age >= 0 else None,
                    "aggr_intervals": str(age) if age >= 0 else None,
                },
                "sz_filter_passed": "0",
            }
            for start, end, accesses, age in zip(*(column.tolist() for column in columns), strict=True)
        ],
        "total_bytes": str(int((snapshot.end - snapshot.start).sum())),
        **{name: str(interval) for name, interval in own.items() if interval},
    }


def _is_zlib(head: bytes) -> bool:
    return len(head) >= 2 and head[0] == 0x78 and (head[0] * 256 + head[1]) % 31 == 0


def _from_json(path: str, content: bytes) -> list[SnapshotRecord]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    except RecursionError as error:
        raise UserError(f"{path}: lists or members lie in each other too deeply for a record") from error
    if not isinstance(found, list):
        raise UserError(f"{path}: a list of records is expected")
    return [_json_record(f"{path}, record {number}", members) for number, members in enumerate(found)]


def _json_record(where: str, members: Member) -> SnapshotRecord:
    snapshots = _member(where, members, "snapshots")
    if not isinstance(snapshots, list):
        raise UserError(f"{where}: 'snapshots' is a list, found {type(snapshots).__name__}")
    intervals = members.get("intervals") or {}
    if not isinstance(intervals, dict):
        raise UserError(f"{where}: 'intervals' has members, found {type(intervals).__name__}")
    sample_us, aggr_us, update_us = (
        _microseconds(where, intervals.get(name)) for name in ("sample_us", "aggr_us", "ops_update_us")
    )
    if not sample_us and snapshots and isinstance(snapshots[0], dict):  # newer files tell it with each snapshot
        sample_us = _microseconds(where, snapshots[0].get("sample_interval_us"))
        aggr_us = _microseconds(where, snapshots[0].get("aggr_interval_us"))
    samples = aggr_us // sample_us if sample_us and aggr_us else DEFAULT_SAMPLES
    parsed = [
        _json_snapshot(f"{where}, snapshot {number}", snapshot, (sample_us, aggr_us), samples)
        for number, snapshot in enumerate(snapshots)
    ]
    last_ns = 0
    for number, found in enumerate(parsed):
        if found is not None and not max(last_ns, found.start_ns) <= found.end_ns:
            raise UserError(f"{where}, snapshot {number}: the time goes back")
        last_ns = last_ns if found is None else found.end_ns
    return SnapshotRecord(
        tuple(snapshot for snapshot in parsed if snapshot is not None),
        sample_us,
        aggr_us,
        update_us,
        target=_index(where, members.get("target_id"), 0),
        kdamond=_index(where, members.get("kdamond_idx"), 0),
        context=_index(where, members.get("context_idx"), 0),
        scheme=_index(where, members.get("scheme_idx"), -1),
    )


def _json_snapshot(where: str, members: Member, intervals: tuple[int, int], samples: int) -> RecordedSnapshot | None:
    """Parse a snapshot of a record with some intervals and samples in an aggregation; None for the pretended one."""
    regions = _member(where, members, "regions")
    if not isinstance(regions, list):
        raise UserError(f"{where}: 'regions' is a list, found {type(regions).__name__}")
    start_ns = _number(where, members.get("start_time"), _TIME_NS, "time")
    end_ns = _number(where, _member(where, members, "end_time"), _TIME_NS, "time")
    sample_us = _microseconds(where, members.get("sample_interval_us"))
    aggr_us = _microseconds(where, members.get("aggr_interval_us")) or sample_us * samples
    in_force = (sample_us or intervals[0], aggr_us or intervals[1])
    rows = [_json_region(f"{where}, region {number}", region, *in_force) for number, region in enumerate(regions)]
    if len(rows) == 1 and rows[0][:3] == (0, 0, -1):
        return None
    return snapshot_of(where, -1 if start_ns is None else int(start_ns), int(end_ns or 0), rows, sample_us, aggr_us)


def _json_region(where: str, members: Member, sample_us: int, aggr_us: int) -> tuple[int, int, int, int]:
    start, end = (_number(where, _member(where, members, name), _SIZE, "address") for name in ("start", "end"))
    accesses = members.get("nr_accesses")
    samples: Decimal | None
    if isinstance(accesses, dict):
        samples = _number(where, accesses.get("samples"), {"": 1, "samples": 1}, "number of accesses")
        if samples is None:
            percent = _number(where, accesses.get("percent"), {"": 1, "%": 1}, "share of accesses")
            most = aggr_us // sample_us if sample_us else DEFAULT_SAMPLES
            samples = None if percent is None else percent * most / 100
    else:
        samples = _number(where, accesses, {"": 1, "samples": 1}, "number of accesses")
    if samples is None or start is None or end is None:
        raise UserError(f"{where}: a region needs a start, an end and its number of accesses")
    return int(start), int(end), int(samples), _json_age(where, members.get("age"), aggr_us)


def _json_age(where: str, age: Member, aggr_us: int) -> int:
    if isinstance(age, dict):
        intervals = _number(where, age.get("aggr_intervals"), {"": 1, "aggr_intervals": 1}, "age")
        if intervals is None and aggr_us:
            elapsed = _number(where, age.get("usec"), _TIME_NS, "age", plain=1000)
            intervals = None if elapsed is None else elapsed / 1000 // aggr_us
    else:
        intervals = _number(where, age, {"": 1, "aggr_intervals": 1}, "age")
    return -1 if intervals is None else int(intervals)


def _member(where: str, members: Member, name: str) -> Member:
    if not isinstance(members, dict) or name not in members:
        raise UserError(f"{where}: '{name}' is missing")
    return members[name]


def _index(where: str, value: Member, missing: int) -> int:
    found = _number(where, value, {"": 1}, "index")
    return missing if found is None else int(found)


def _microseconds(where: str, value: Member) -> int:
    found = _number(where, value, _TIME_NS, "interval", plain=1000)
    if found is not None and found < 0:
        raise UserError(f"{where}: interval {str(value)[:40]!r} is negative")
    return 0 if found is None else int(found / 1000)


def _number(where: str, value: Member, units: dict[str, int], what: str, plain: int = 1) -> Decimal | None:
    """Read a number, or the sum of several with units such as `1 h 2 m 3.5 s`; one without a unit counts `plain`."""
    if value is None:
        return None
    text = str(value).replace(",", "").strip()
    if text.isascii() and text.isdecimal():
        return Decimal(text) * plain
    negative, text = text.startswith("-"), text.removeprefix("-").strip()
    parts = re.findall(r"([\d.]+(?:e[+-]?\d+)?)\s*([A-Za-z_%]*)", text)
    try:
        if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
            raise InvalidOperation
        factors = [plain if not unit else units[unit] for _, unit in parts]
        total = sum((Decimal(number) * factor for (number, _), factor in zip(parts, factors, strict=True)), Decimal(0))
    except (InvalidOperation, Overflow, KeyError) as error:
        accepted = ", ".join(unit for unit in units if unit)
        raise UserError(
            f"{where}: {what} {str(value)[:40]!r} is not a number" + f" in {accepted}" * bool(accepted)
        ) from error
    return -total if negative else total


def _with_start_times(record: SnapshotRecord) -> SnapshotRecord:
    """Fill a missing start in by the mean distance of the ends, and unknown intervals by that and the default.

    Of snapshots that tell their own intervals only the first counts for that: the distance to it is of the time before.
    """
    snapshots = list(record.snapshots)
    told = next((number for number, one in enumerate(snapshots) if one.aggr_us), len(snapshots))
    last = max(told - 1, min(1, len(snapshots) - 1))
    aggr_ns = record.aggr_us * 1000 or 100_000_000
    if last > 0:
        aggr_ns = max(1, (snapshots[last].end_ns - snapshots[0].end_ns) // last)
    for number, snapshot in enumerate(snapshots):
        if snapshot.start_ns < 0:
            start_ns = snapshots[number - 1].end_ns if number else max(0, snapshot.end_ns - aggr_ns)
            snapshots[number] = replace(snapshot, start_ns=start_ns)
    aggr_us = record.aggr_us or aggr_ns // 1000
    sample_us = record.sample_us or max(1, aggr_us // DEFAULT_SAMPLES)
    return replace(record, snapshots=tuple(snapshots), sample_us=sample_us, aggr_us=aggr_us)
