"""Traces as comma-separated values: MSR Cambridge, Alibaba, Tencent CBS, and the plain form of this project."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from kml_envs.workloads.formats.records import OTHER, READ, WRITE, Records, sectors_to_bytes
from kml_envs.workloads.formats.stream import ByteStream
from kml_envs.workloads.formats.text import Lines, read_lines

TIME_UNITS = {"time": 6, "time_s": 6, "time_ms": 3, "time_us": 0, "time_ns": -3}
"""Columns of a plain trace that can hold the time, and the power of ten that makes microseconds of them."""

_PLAIN_COLUMNS = ("op", "offset", "size")
_WORDS = {b"r": READ, b"read": READ, b"w": WRITE, b"write": WRITE}
_PLAIN_WORDS = _WORDS | {b"d": OTHER, b"discard": OTHER, b"trim": OTHER, b"flush": OTHER, b"sync": OTHER}


def read_msr(stream: ByteStream) -> Iterator[Records]:
    """Read an MSR Cambridge trace (SNIA IOTTA 388, "Write Off-Loading", FAST 2008; its README gives the columns).

    `Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime`: Windows file time (100 ns since 1601), Read or
    Write, bytes. The device is called `Hostname_DiskNumber`, as the files are.
    """

    def parse(lines: Lines) -> Records:
        lines.require(7, 7)
        device, devices = lines.labels(1, 2)
        return Records(
            number=lines.number,
            time_us=lines.integers(0, "Timestamp") // 10,
            operation=lines.operations(3, {b"read": READ, b"write": WRITE}, "Type"),
            offset_bytes=lines.integers(4, "Offset"),
            size_bytes=lines.integers(5, "Size"),
            device=device,
            devices=devices,
        )

    return _without_header(stream, parse)


def read_alibaba(stream: ByteStream) -> Iterator[Records]:
    """Read an Alibaba block trace of 2020 (github.com/alibaba/block-traces gives the columns).

    `device_id,opcode,offset,length,timestamp`: R or W, bytes, microseconds since 1970.
    """

    def parse(lines: Lines) -> Records:
        lines.require(5, 5)
        device, devices = lines.labels(0)
        return Records(
            number=lines.number,
            time_us=lines.integers(4, "timestamp"),
            operation=lines.operations(1, {b"r": READ, b"w": WRITE}, "opcode"),
            offset_bytes=lines.integers(2, "offset"),
            size_bytes=lines.integers(3, "length"),
            device=device,
            devices=devices,
        )

    return _without_header(stream, parse)


def read_tencent(stream: ByteStream) -> Iterator[Records]:
    """Read a Tencent CBS trace (SNIA IOTTA 27917, OSCA, ATC 2020; its README gives the columns).

    `Timestamp,Offset,Size,IOType,VolumeID`: whole seconds since 1970, 512-byte sectors, 0 read or 1 write.
    """

    def parse(lines: Lines) -> Records:
        lines.require(5, 5)
        device, devices = lines.labels(4)
        return Records(
            number=lines.number,
            time_us=np.minimum(lines.integers(0, "Timestamp"), 10**12) * 1_000_000,
            operation=lines.operations(3, {b"0": READ, b"1": WRITE}, "IOType"),
            offset_bytes=sectors_to_bytes(lines.integers(1, "Offset")),
            size_bytes=sectors_to_bytes(lines.integers(2, "Size")),
            device=device,
            devices=devices,
        )

    return _without_header(stream, parse)


def read_plain(stream: ByteStream) -> Iterator[Records]:
    """Read the plain form: a header line naming the columns, in any order.

    `time` (or `time_s`: seconds, decimals allowed; `time_ms`, `time_us`, `time_ns`), `op` (R, W, read, write;
    discard, trim, flush and sync are passed over), `offset` and `size` in bytes, and optionally `device`. Other
    columns are ignored.

    Raises:
        UserError: When a column is missing or named twice.
    """
    columns: dict[str, int] = {}
    for lines in read_lines(stream, ","):
        body = lines
        if not columns:
            columns, width, power = _plain_columns(lines)
            body = lines.select(slice(1, None))
        if len(body):
            body.require(width, width)
            yield _plain_records(body, columns, power)


def _plain_columns(lines: Lines) -> tuple[dict[str, int], int, int]:
    """Return the place of each column, their number, and the power of ten from the time's unit to microseconds."""
    names = [lines.field(0, column).lower() for column in range(int(lines.fields[0]))]
    times = [name for name in names if name in TIME_UNITS]
    if len(times) != 1:
        raise lines.error(0, f"the header must name one time column ({', '.join(TIME_UNITS)})")
    for name in _PLAIN_COLUMNS:
        if names.count(name) != 1:
            raise lines.error(0, f"the header must name the column '{name}' once")
    columns = {name: column for column, name in enumerate(names)} | {"time": names.index(times[0])}
    return columns, len(names), TIME_UNITS[times[0]]


def _plain_records(lines: Lines, columns: dict[str, int], power: int) -> Records:
    if "device" in columns:
        device, devices = lines.labels(columns["device"])
    else:
        device, devices = np.zeros(len(lines), np.int32), ("",)
    if power > 0:
        time_us = lines.decimals(columns["time"], "time", power)
    else:
        time_us = lines.integers(columns["time"], "time") // 10**-power
    return Records(
        number=lines.number,
        time_us=time_us,
        operation=lines.operations(columns["op"], _PLAIN_WORDS, "op"),
        offset_bytes=lines.integers(columns["offset"], "offset"),
        size_bytes=lines.integers(columns["size"], "size"),
        device=device,
        devices=devices,
    )


def _without_header(stream: ByteStream, parse: Callable[[Lines], Records]) -> Iterator[Records]:
    """Parse all lines but a heading: published traces come with and without one."""
    beginning = True
    for lines in read_lines(stream, ","):
        heading = beginning and lines.field(0, 0)[:1].isalpha()
        beginning = False
        body = lines.select(slice(1, None)) if heading else lines
        if len(body):
            yield parse(body)
