"""The iolog of fio, versions 2 and 3 (fio's documentation, "Trace file format v2" and "v3", and its iolog.c)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kml_envs.workloads.formats.records import OTHER, READ, WRITE, Records
from kml_envs.workloads.formats.stream import ByteStream
from kml_envs.workloads.formats.text import Lines, read_lines

_WAIT = 3
_ACTIONS = {
    b"read": READ,
    b"write": WRITE,
    **dict.fromkeys((b"trim", b"sync", b"datasync", b"sync_file_range", b"add", b"open", b"close"), OTHER),
}


def read_fio(stream: ByteStream) -> Iterator[Records]:
    """Read an iolog of version 2 or 3.

    Version 2: `file action [offset length]`, in bytes; `file wait microseconds` moves time on, and without any
    wait all requests arrive at time 0. Version 3 (fio 3.31 and later): every line begins with the microseconds
    since the start instead. The files of the log are its devices.
    """
    version = 0
    clock_us = 0
    for lines in read_lines(stream, None):
        if version:
            body = lines
        else:
            version, body = _version(lines), lines.select(slice(1, None))
        if not len(body):
            continue
        stamp = version == 3
        body.require(2 + stamp)
        operation = body.operations(1 + stamp, _ACTIONS if stamp else _ACTIONS | {b"wait": _WAIT}, "action")
        if stamp:
            time_us = body.integers(0, "timestamp")
        else:
            pause_us = np.zeros(len(body), np.int64)
            waits = body.select(operation == _WAIT)
            waits.require(3)
            pause_us[operation == _WAIT] = waits.integers(2, "wait")
            time_us = clock_us + np.cumsum(pause_us)
            clock_us = int(time_us[-1])
        kept = operation <= WRITE
        if kept.any():
            yield _records(body.select(kept), time_us[kept], operation[kept], stamp)


def _version(lines: Lines) -> int:
    header = " ".join(lines.field(0, column) for column in range(int(lines.fields[0])))
    for version in (2, 3):
        if header == f"fio version {version} iolog":
            return version
    raise lines.error(0, f"neither 'fio version 2 iolog' nor 'fio version 3 iolog': {header[:40]!r}")


def _records(lines: Lines, time_us: NDArray[np.int64], operation: NDArray[np.uint8], stamp: bool) -> Records:
    lines.require(4 + stamp, 4 + stamp)
    device, devices = lines.labels(int(stamp))
    return Records(
        number=lines.number,
        time_us=time_us,
        operation=operation,
        offset_bytes=lines.integers(2 + stamp, "offset"),
        size_bytes=lines.integers(3 + stamp, "length"),
        device=device,
        devices=devices,
    )
