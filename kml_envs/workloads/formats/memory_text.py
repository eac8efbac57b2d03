"""Traces of single memory accesses as text: valgrind's lackey tool, and comma-separated values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kml_envs.workloads.formats.comma_separated import TIME_UNITS
from kml_envs.workloads.formats.stream import ByteStream
from kml_envs.workloads.formats.text import Lines, read_lines

_PAGE_SHIFT = 12
_MOST_HEX_DIGITS = 15
_INSTRUCTION, _EQUALS = b"I="
_OPERATIONS = np.frombuffer(b"ILSM", np.uint8)
_ADDRESS_NAMES = ("address", "addr")


@dataclass(frozen=True)
class PageVisits:
    """Some consecutive accesses; of those that follow each other on one page, only the first is kept.

    Attributes:
        time: (V,) int64, instructions executed before, or microseconds, depending on the format.
        page: (V,) int64, page number.
    """

    time: NDArray[np.int64]
    page: NDArray[np.int64]


def read_lackey(stream: ByteStream) -> Iterator[PageVisits]:
    """Read what `valgrind --tool=lackey --trace-mem=yes` prints (its manual, chapter "Lackey").

    Lines are `I  ADDRESS,SIZE` for instructions and ` L`, ` S`, ` M` for loads, stores and both, with hexadecimal
    addresses. The clock counts instructions. Valgrind's own lines (`==`) are passed over.

    Raises:
        UserError: For the first other line.
    """
    executed = 0
    for lines in read_lines(stream, ","):
        letter = lines.data[lines.start[lines.first]]
        traced = lines.select(letter != _EQUALS)
        if not len(traced):
            continue
        letter = traced.data[traced.start[traced.first]]
        traced.require(2, 2)
        address, wrong = _trailing_hex(traced, 0)
        wrong |= ~np.isin(letter, _OPERATIONS)
        if wrong.any():
            row = np.flatnonzero(wrong)[0]
            raise traced.error(
                row, f"'I|L|S|M ADDRESS,SIZE' as lackey prints it is expected, found {traced.field(row, 0)[:40]!r}"
            )
        is_instruction = letter == _INSTRUCTION
        time = executed + np.cumsum(is_instruction)
        executed = int(time[-1])
        yield _without_repeats(time, address >> _PAGE_SHIFT)


def read_access_csv(stream: ByteStream) -> Iterator[PageVisits]:
    """Read comma-separated values with a header: a time column, `address`, and others, which are ignored.

    The time is `time` or `time_s` (seconds), `time_ms`, `time_us` or `time_ns`; addresses are decimal, or hexadecimal
    with `0x`. The rows are in order of time.

    Raises:
        UserError: A column is missing, a field is not a number, or the time goes back.
    """
    columns: dict[str, int] = {}
    last = -1
    for lines in read_lines(stream, ","):
        body = lines
        if not columns:
            names = [lines.field(0, column).lower() for column in range(int(lines.fields[0]))]
            columns = _csv_columns(lines, names)
            body = lines.select(slice(1, None))
        if not len(body):
            continue
        body.require(len(names), len(names))
        power = TIME_UNITS[names[columns["time"]]]
        if power > 0:
            time = body.decimals(columns["time"], "time", power)
        else:
            time = body.integers(columns["time"], "time") // 10**-power
        back = np.diff(time, prepend=last) < 0
        if back.any():
            raise body.error(np.flatnonzero(back)[0], "the time goes back")
        last = int(time[-1])
        yield _without_repeats(time, _addresses(body, columns["address"]) >> _PAGE_SHIFT)


def _csv_columns(lines: Lines, names: list[str]) -> dict[str, int]:
    times = [name for name in names if name in TIME_UNITS]
    addresses = [name for name in names if name in _ADDRESS_NAMES]
    if len(times) != 1 or len(addresses) != 1:
        raise lines.error(0, f"the header must name one time column ({', '.join(TIME_UNITS)}) and one of address, addr")
    return {"time": names.index(times[0]), "address": names.index(addresses[0])}


def _addresses(lines: Lines, column: int) -> NDArray[np.int64]:
    index = lines.first + column
    second = lines.data[np.minimum(lines.start[index] + 1, lines.end[index] - 1)]
    if not np.isin(second, (ord("x"), ord("X"))).any():
        return lines.integers(column, "address")
    address, wrong = _trailing_hex(lines, column)
    if wrong.any():
        row = np.flatnonzero(wrong)[0]
        raise lines.error(row, f"address is not a hexadecimal number: {lines.field(row, column)[:40]!r}")
    return address


def _trailing_hex(lines: Lines, column: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read the hexadecimal digits at the end of a field, behind a blank, an `x` or the field's start."""
    index = lines.first + column
    start, end = lines.start[index], lines.end[index]
    value = np.zeros(len(lines), np.int64)
    reading = np.ones(len(lines), np.bool_)
    wrong = np.zeros(len(lines), np.bool_)
    for place in range(_MOST_HEX_DIGITS + 1):
        reading &= end - 1 - place >= start
        byte = lines.data[np.maximum(end - 1 - place, 0)]
        digit = _HEX_VALUE[byte]
        stops = reading & ((byte == ord(" ")) | (byte | 0x20 == ord("x")))
        wrong |= reading & ~stops & (digit < 0)
        wrong |= stops & (place == 0)
        reading &= ~stops & (digit >= 0)
        if place == _MOST_HEX_DIGITS:
            wrong |= reading
        else:
            value |= np.where(reading, digit, 0) << 4 * place
        if not reading.any():
            break
    return value, wrong


_HEX_VALUE = np.full(256, -1, np.int64)
for _digit, _byte in enumerate(b"0123456789abcdef"):
    _HEX_VALUE[_byte] = _HEX_VALUE[bytes([_byte]).upper()[0]] = _digit


def _without_repeats(time: NDArray[np.int64], page: NDArray[np.int64]) -> PageVisits:
    fresh = np.diff(page, prepend=-1) != 0
    return PageVisits(time[fresh], page[fresh])
