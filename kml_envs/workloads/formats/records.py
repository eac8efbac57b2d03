"""What every trace format is reduced to before anything is made of it: records, in bytes and microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kml_envs.errors import UserError

READ, WRITE, OTHER = 0, 1, 2
"""Operations of a record. `OTHER` is everything that moves no data: discard, flush, file opened, ..."""

SECTOR_BYTES = 512
LARGEST_OFFSET_BYTES = 1 << 52
LARGEST_REQUEST_BYTES = 1 << 32


@dataclass(frozen=True)
class Records:
    """Some consecutive records of a trace file.

    Attributes:
        number: (R,) int64, line number in a text file, record number in a binary one, from 1.
        time_us: (R,) int64, arrival time in microseconds since the format's own origin.
        operation: (R,) uint8, `READ`, `WRITE` or `OTHER`.
        offset_bytes: (R,) int64, first byte on the device.
        size_bytes: (R,) int64, length.
        device: (R,) int32, index into `devices`.
        devices: Names of the devices, disks, volumes or files in these records.
    """

    number: NDArray[np.int64]
    time_us: NDArray[np.int64]
    operation: NDArray[np.uint8]
    offset_bytes: NDArray[np.int64]
    size_bytes: NDArray[np.int64]
    device: NDArray[np.int32]
    devices: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.number)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Records:
        """Return the chosen rows, in the order given."""
        return Records(
            self.number[rows],
            self.time_us[rows],
            self.operation[rows],
            self.offset_bytes[rows],
            self.size_bytes[rows],
            self.device[rows],
            self.devices,
        )

    def at(self, time_us: NDArray[np.int64]) -> Records:
        """Return the same records at other times."""
        return Records(
            self.number, time_us, self.operation, self.offset_bytes, self.size_bytes, self.device, self.devices
        )


def concatenate(parts: Sequence[Records]) -> Records:
    """Join records whose `device` indices mean the same; the last part's `devices` are kept."""
    return Records(
        np.concatenate([part.number for part in parts]),
        np.concatenate([part.time_us for part in parts]),
        np.concatenate([part.operation for part in parts]),
        np.concatenate([part.offset_bytes for part in parts]),
        np.concatenate([part.size_bytes for part in parts]),
        np.concatenate([part.device for part in parts]),
        parts[-1].devices,
    )


def in_range(path: str, unit: str, records: Records) -> Records:
    """Refuse addresses and sizes that no device has: signs of a garbled record, and safe from overflow later.

    Raises:
        UserError: With the number of the first such record.
    """
    moves_data = records.operation != OTHER
    beyond = moves_data & (records.offset_bytes > LARGEST_OFFSET_BYTES)
    too_large = moves_data & (records.size_bytes > LARGEST_REQUEST_BYTES)
    wrong = np.flatnonzero(beyond | too_large)
    if wrong.size:
        row = wrong[0]
        reason = "the offset is beyond 4 PiB" if beyond[row] else "the request is larger than 4 GiB"
        raise UserError(f"{path}, {unit} {records.number[row]}: {reason}")
    return records


def sectors_to_bytes(sectors: NDArray[np.int64]) -> NDArray[np.int64]:
    """Convert 512-byte sectors to bytes; absurd values saturate, for `in_range` to refuse."""
    return np.minimum(sectors, 2 * LARGEST_OFFSET_BYTES // SECTOR_BYTES) * SECTOR_BYTES
