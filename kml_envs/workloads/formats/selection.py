"""From all records of a file to the reads and writes of one device, in order of time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kml_envs.errors import UserError, unknown_name
from kml_envs.workloads.formats.records import OTHER, Records, concatenate

ALL_DEVICES = "all"
_SECOND_US = 1_000_000
_MOST_NAMED = 12
CONVERT = "`python -m kml_envs.workloads convert`"
"""What chooses a device and sorts: the command lines of training and evaluation take files as they are."""


@dataclass
class DeviceFilter:
    """Keeps the reads and writes of the chosen device; counts what it leaves out.

    Attributes:
        path: Name of the file, for errors.
        device: Name of the device; None when the file may hold only one; `ALL_DEVICES` for all, each in an address
            range of its own.
        found: Records with data by device name, in order of first appearance.
        passed_over: Records of the chosen device that move no data (discards, flushes, requests of no length).
    """

    path: str
    device: str | None
    found: dict[str, int] = field(default_factory=dict)
    passed_over: int = 0
    _number: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def apply(self, chunks: Iterable[Records]) -> Iterator[Records]:
        """Filter the records; `device` of the result numbers the devices in order of first appearance.

        Raises:
            UserError: When several devices are present and none was chosen, or when nothing is left at the end.
        """
        kept_any = False
        for records in chunks:
            kept = self._keep(records)
            if len(kept):
                kept_any = True
                yield kept
        if not kept_any:
            raise self._nothing_left()

    def _keep(self, records: Records) -> Records:
        moves_data = (records.operation != OTHER) & (records.size_bytes > 0)
        number_of = np.zeros(max(len(records.devices), 1), np.int32)
        for code, count in enumerate(np.bincount(records.device[moves_data], minlength=len(records.devices))):
            if count:
                name = records.devices[code]
                number_of[code] = self._number.setdefault(name, len(self._number))
                self.found[name] = self.found.get(name, 0) + int(count)
        if self.device is None and len(self.found) > 1:
            raise UserError(
                f"{self.path}: holds several devices (so far, by line {records.number[-1]}: {self._named()}): "
                f"choose one, or '{ALL_DEVICES}', by {CONVERT} --device NAME"
            )
        rows: NDArray[np.bool_] = np.ones(len(records), np.bool_)
        if self.device not in (None, ALL_DEVICES):
            chosen = [code for code, name in enumerate(records.devices) if name == self.device]
            rows = np.isin(records.device, chosen)
        self.passed_over += int(np.count_nonzero(rows & ~moves_data))
        kept = records.take(rows & moves_data)
        return Records(
            kept.number, kept.time_us, kept.operation, kept.offset_bytes, kept.size_bytes, number_of[kept.device], ()
        )

    def _nothing_left(self) -> UserError:
        if self.found and self.device is not None:
            problem = unknown_name("device", self.device, list(self.found)[:_MOST_NAMED])
            return UserError(f"{self.path}: {problem}")
        return UserError(f"{self.path}, line 1: holds no read or write requests")

    def _named(self) -> str:
        names = [f"{name} ({count} requests)" for name, count in list(self.found.items())[:_MOST_NAMED]]
        return ", ".join(names) + (", ..." if len(self.found) > _MOST_NAMED else "")


def sort_by_time(chunks: Iterable[Records]) -> Iterator[Records]:
    """Order records by time, those of equal time as they stand in the file. Holds the whole trace in memory."""
    records = concatenate(list(chunks))
    yield records.take(np.argsort(records.time_us, kind="stable"))


def require_order(path: str, unit: str, chunks: Iterable[Records]) -> Iterator[Records]:
    """Pass records on that are in order of time.

    Raises:
        UserError: For the first record that is earlier than the one before it.
    """
    last_us = None
    for records in chunks:
        before = np.concatenate([[records.time_us[0] if last_us is None else last_us], records.time_us[:-1]])
        back = np.flatnonzero(records.time_us < before)
        if back.size:
            row = back[0]
            raise UserError(
                f"{path}, {unit} {records.number[row]}: not in order of time: {before[row] - records.time_us[row]} us "
                f"earlier than the request before it; {CONVERT} --sort orders it in memory"
            )
        last_us = records.time_us[-1]
        yield records


def spread_over_seconds(chunks: Iterable[Records]) -> Iterator[Records]:
    """Give the n requests of a whole second the times 0, 1/n, 2/n, ... of that second, as SepBIT's converter does.

    The last second of a chunk waits for the next chunk, which may go on with it.
    """
    held: Records | None = None
    for records in chunks:
        joined = records if held is None else concatenate([held, records])
        complete = int(np.searchsorted(joined.time_us, joined.time_us[-1]))
        if complete:
            yield _spread(joined.take(slice(0, complete)))
        held = joined.take(slice(complete, None))
    if held is not None:
        yield _spread(held)


def _spread(records: Records) -> Records:
    _, first, second, count = np.unique(records.time_us, return_index=True, return_inverse=True, return_counts=True)
    place = np.arange(len(records)) - first[second]
    return records.at(records.time_us + place * _SECOND_US // count[second])
