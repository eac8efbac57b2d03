"""The block trace formats: one table, by name, with what recognises and what reads each of them."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kml_envs.errors import UserError, unknown_name
from kml_envs.workloads.formats.comma_separated import TIME_UNITS, read_alibaba, read_msr, read_plain, read_tencent
from kml_envs.workloads.formats.fio import read_fio
from kml_envs.workloads.formats.records import Records, in_range
from kml_envs.workloads.formats.space_separated import read_blkparse, read_disksim, read_ssdsim, read_wiscsee
from kml_envs.workloads.formats.stream import BrokenStreamError, ByteStream
from kml_envs.workloads.formats.vscsi import read_vscsi, vscsi_version

ACTIONS = ("D", "Q")
"""Actions of blkparse that mark a request: issued to the device (the default), or queued by the file system."""

_HEAD_BYTES = 1 << 16
_HEAD_LINES = 50


@dataclass(frozen=True)
class TraceFormat:
    """One trace format.

    Attributes:
        name: The name that `--format` takes.
        description: One line: whose format, and its columns.
        read: Turns the bytes of a file into records.
        matches: Tells from the file's first bytes and first full lines whether it is in this format.
        unit: What errors count: "line" or "record".
        chooses_action: Whether a request stands in the file once per action, so that one action must be chosen.
        whole_seconds: Whether times are whole seconds, to be spread over the second.
    """

    name: str
    description: str
    read: Callable[..., Iterator[Records]]
    matches: Callable[[bytes, list[str]], bool]
    unit: str = "line"
    chooses_action: bool = False
    whole_seconds: bool = False


def read_records(
    path: str | Path, *, format: str | None = None, action: str | None = None
) -> tuple[TraceFormat, Iterator[Records]]:
    """Open a trace file.

    Args:
        path: The file, plain or compressed with gzip, xz or Zstandard.
        format: A name in `FORMATS`; None recognises it from the content.
        action: For blkparse text and its relatives, the action to read: "D" (default) or "Q".

    Returns:
        The format, and an iterator over the records in file order; the file is closed when that ends.

    Raises:
        UserError: For a file that cannot be opened or recognised, an unknown format or action; the iterator
            raises it for a line or record that cannot be read, with its number.
    """
    if format is not None and format not in FORMATS:
        raise unknown_name("trace format", format, FORMATS)
    if action is not None and action not in ACTIONS:
        raise unknown_name("action", action, ACTIONS)
    stream = ByteStream(path)
    try:
        chosen = _recognise(stream) if format is None else FORMATS[format]
        if action is not None and not chosen.chooses_action:
            raise UserError(f"{path}: the format '{chosen.name}' has no actions to choose from")
    except UserError:
        stream.close()
        raise
    return chosen, _records(stream, chosen, action or ACTIONS[0])


def detect_format(path: str | Path) -> str:
    """Name the format of a file by its content.

    Raises:
        UserError: When the file cannot be opened, or fits no format.
    """
    stream = ByteStream(path)
    try:
        return _recognise(stream).name
    finally:
        stream.close()


def _records(stream: ByteStream, chosen: TraceFormat, action: str) -> Iterator[Records]:
    try:
        chunks = chosen.read(stream, action) if chosen.chooses_action else chosen.read(stream)
        for records in chunks:
            yield in_range(stream.path, chosen.unit, records)
    finally:
        stream.close()


def _recognise(stream: ByteStream) -> TraceFormat:
    head = stream.peek(_HEAD_BYTES)
    text = head.removeprefix(BOM_UTF8).decode("latin-1")
    if len(head) == _HEAD_BYTES:
        text = text[: text.rfind("\n") + 1]  # the last line may be cut off by the end of the look
    lines = [line.strip() for line in text.splitlines() if line.strip()][:_HEAD_LINES]
    for candidate in FORMATS.values():
        if candidate.matches(head, lines):
            return candidate
    try:
        stream.require_end(_HEAD_BYTES)
    except BrokenStreamError as error:
        raise UserError(f"{stream.path}, line {text.count(chr(10)) + 1}: {error}") from error
    raise UserError(
        f"{stream.path}, line 1: not recognised as one of {', '.join(FORMATS)}; begins with "
        f"{(lines[0] if lines else text)[:40]!r}"
    )


def _any_line(pattern: str) -> Callable[[bytes, list[str]], bool]:
    """Match when any of the first lines has the form, so that a garbled first line is reported as such."""
    compiled = re.compile(pattern, re.IGNORECASE)
    return lambda head, lines: any(compiled.fullmatch(line) for line in lines)


def _is_plain(head: bytes, lines: list[str]) -> bool:
    names = {name.strip().lower() for name in lines[0].split(",")} if lines else set()
    return {"op", "offset", "size"} <= names and not names.isdisjoint(TIME_UNITS)


FORMATS: dict[str, TraceFormat] = {
    known.name: known
    for known in (
        TraceFormat(
            "vscsi",
            "VMware vscsiStats and CloudPhysics, binary records of version 1 or 2",
            read_vscsi,
            lambda head, lines: vscsi_version(head) is not None,
            unit="record",
        ),
        TraceFormat(
            "fio",
            "fio iolog, version 2 or 3 (write_iolog=)",
            read_fio,
            lambda head, lines: bool(lines) and re.fullmatch("fio version [23] iolog", lines[0]) is not None,
        ),
        TraceFormat(
            "plain",
            "CSV with a header naming time, op, offset, size (seconds, R or W, bytes, bytes)",
            read_plain,
            _is_plain,
        ),
        TraceFormat(
            "msr",
            "MSR Cambridge CSV: Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime",
            read_msr,
            _any_line(r"\d+,[^,]*,\d+,(read|write),\d+,\d+,\d+"),
        ),
        TraceFormat(
            "alibaba",
            "Alibaba 2020 CSV: device_id,opcode,offset,length,timestamp",
            read_alibaba,
            _any_line(r"\d+,[rw],\d+,\d+,\d+"),
        ),
        TraceFormat(
            "tencent",
            "Tencent CBS CSV: Timestamp,Offset,Size,IOType,VolumeID",
            read_tencent,
            _any_line(r"\d+,\d+,\d+,[01],\d+"),
            whole_seconds=True,
        ),
        TraceFormat(
            "blkparse",
            "blkparse's default text, one action of each request",
            read_blkparse,
            _any_line(r"\d+,\d+\s+\d+\s+\d+\s+\d+\.\d+\s+\d+\s+[a-z]+\b.*"),
            chooses_action=True,
        ),
        TraceFormat(
            "wiscsee",
            "WiscSee's event text: pid action operation offset size time pre_wait sync",
            read_wiscsee,
            _any_line(r"\d+ [a-z]+ (read|write|discard) \d+ \d+ \S+ \S+ (true|false)"),
            chooses_action=True,
        ),
        TraceFormat(
            "ssdsim",
            "SSDSim and MQSim ASCII: nanoseconds, device, sector, sectors, type (0 write, 1 read)",
            read_ssdsim,
            _any_line(r"\d+\s+\d+\s+\d+\s+\d+\s+[01]"),
        ),
        TraceFormat(
            "disksim",
            "DiskSim ASCII: milliseconds, device, block, blocks, hexadecimal flags (lowest bit: read)",
            read_disksim,
            _any_line(r"\d+\.\d+\s+\d+\s+\d+\s+\d+\s+(0x)?[0-9a-f]+"),
        ),
    )
}
"""The formats by name, in the order in which they are tried."""
