"""Traces as blank-separated text: blkparse, DiskSim, SSDSim and MQSim, WiscSee's events."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kml_envs.workloads.formats.records import OTHER, READ, WRITE, Records, sectors_to_bytes
from kml_envs.workloads.formats.stream import ByteStream
from kml_envs.workloads.formats.text import Lines, read_lines


def read_disksim(stream: ByteStream) -> Iterator[Records]:
    """Read DiskSim's ASCII trace (DiskSim 4.0 reference manual, CMU-PDL-08-101, "input trace formats").

    `arrival device block size flags`: milliseconds with decimals, 512-byte blocks, hexadecimal flags whose
    lowest bit says read.
    """
    for lines in read_lines(stream, None):
        lines.require(5, 5)
        device, devices = lines.labels(1)
        yield Records(
            number=lines.number,
            time_us=lines.decimals(0, "arrival time", 3),
            operation=_disksim_operations(lines),
            offset_bytes=sectors_to_bytes(lines.integers(2, "block")),
            size_bytes=sectors_to_bytes(lines.integers(3, "size")),
            device=device,
            devices=devices,
        )


def read_ssdsim(stream: ByteStream) -> Iterator[Records]:
    """Read the ASCII trace of SSDSim and MQSim (MQSim's README gives the columns; nanoseconds are its default unit).

    `arrival device sector size type`: nanoseconds, 512-byte sectors, 0 write or 1 read.
    """
    for lines in read_lines(stream, None):
        lines.require(5, 5)
        device, devices = lines.labels(1)
        yield Records(
            number=lines.number,
            time_us=lines.integers(0, "arrival time") // 1000,
            operation=lines.operations(4, {b"0": WRITE, b"1": READ}, "type"),
            offset_bytes=sectors_to_bytes(lines.integers(2, "sector")),
            size_bytes=sectors_to_bytes(lines.integers(3, "size")),
            device=device,
            devices=devices,
        )


def read_wiscsee(stream: ByteStream, action: str) -> Iterator[Records]:
    """Read the event text of WiscSee (github.com/junhe/wiscsee, made from blkparse's output).

    `pid action operation offset size time pre_wait sync`: bytes and seconds; one action only, as with blkparse.
    """
    for lines in read_lines(stream, None):
        lines.require(8, 8)
        kept = lines.select(lines.text(1) == action.encode())
        yield Records(
            number=kept.number,
            time_us=kept.decimals(5, "time", 6),
            operation=kept.operations(2, {b"read": READ, b"write": WRITE, b"discard": OTHER}),
            offset_bytes=kept.integers(3, "offset"),
            size_bytes=kept.integers(4, "size"),
            device=np.zeros(len(kept), np.int32),
            devices=("",),
        )


def read_blkparse(stream: ByteStream, action: str) -> Iterator[Records]:
    """Read the default text output of blkparse (manual page blkparse(1), "DEFAULT OUTPUT").

    `major,minor cpu sequence seconds pid action RWBS sector + sectors [process]`. A request appears once per
    action that it goes through, so only the lines of one action count. The summary at the end is passed over.
    """
    for lines in read_lines(stream, None):
        head = lines.text(0, width=3)
        summary = np.flatnonzero((head == b"CPU") | (head == b"Tot"))
        events = lines.select(slice(0, summary[0])) if summary.size else lines
        if len(events):
            _require_blkparse_event(events)
            kept = events.select(events.text(5) == action.encode())
            if len(kept):
                yield _blkparse_records(kept)
        if summary.size:
            return


def _disksim_operations(lines: Lines) -> NDArray[np.uint8]:
    flags = lines.text(4)
    characters = flags.view(np.uint8).reshape(len(lines), -1)
    hexadecimal = np.isin(characters, np.frombuffer(b"0123456789abcdefABCDEFx\0", np.uint8)).all(axis=1)
    if not hexadecimal.all():
        row = np.flatnonzero(~hexadecimal)[0]
        raise lines.error(row, f"flags are not a hexadecimal number: {lines.field(row, 4)[:40]!r}")
    last = lines.data[lines.end[lines.first + 4] - 1]
    digit = np.where(last >= ord("A"), last + 1, last)  # 'A' and 'a' are odd codes for an even digit
    return np.where(digit & 1, READ, WRITE).astype(np.uint8)


def _require_blkparse_event(lines: Lines) -> None:
    lines.require(6)
    device = lines.text(0)
    major_minor = np.char.isdigit(np.char.replace(device, b",", b"")) & (np.char.count(device, b",") == 1)
    if not major_minor.all():
        row = np.flatnonzero(~major_minor)[0]
        raise lines.error(row, f"neither an event nor blkparse's summary: begins with {lines.field(row, 0)[:40]!r}")


def _blkparse_records(lines: Lines) -> Records:
    lines.require(7)
    flags = lines.text(6, width=2)
    first, second = (flags.view(np.uint8).reshape(len(lines), 2)[:, place] for place in (0, 1))
    kind = np.where(first == ord("F"), second, first)  # a leading F asks for a flush before the operation
    operation = np.where(kind == ord("W"), WRITE, np.where(kind == ord("R"), READ, OTHER)).astype(np.uint8)
    # Empty flushes end in `[process]` and SCSI commands of user space in `bytes (command)`: neither moves blocks.
    for column, mark in ((7, b"["), (8, b"(")):
        moving = operation != OTHER
        candidates = lines.select(moving)
        candidates.require(column + 1)
        operation[np.flatnonzero(moving)[candidates.text(column, width=1) == mark]] = OTHER
    moving = operation != OTHER
    data = lines.select(moving)
    data.require(10)
    if (missing := data.text(8) != b"+").any():
        raise data.error(np.flatnonzero(missing)[0], "'sector + sectors' expected behind the flags")
    offset_bytes, size_bytes = np.zeros((2, len(lines)), np.int64)
    offset_bytes[moving] = sectors_to_bytes(data.integers(7, "sector"))
    size_bytes[moving] = sectors_to_bytes(data.integers(9, "number of sectors"))
    device, devices = lines.labels(0)
    return Records(
        number=lines.number,
        time_us=lines.decimals(3, "time", 6),
        operation=operation,
        offset_bytes=offset_bytes,
        size_bytes=size_bytes,
        device=device,
        devices=devices,
    )
