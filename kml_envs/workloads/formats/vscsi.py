"""The binary vscsi traces of VMware's vscsiStats, as CloudPhysics released them (FAST 2015; read by libCacheSim).

Little-endian records without a file header. Version 1, 32 bytes: u32 sequence number, u32 bytes, u32 scatter-gather
entries, u16 SCSI command, u16 version, u64 logical block (512 bytes), u64 microseconds. Version 2, 40 bytes: u16
command, u16 version, u32 sequence number, u32 bytes, u32 entries, u64 block, u64 microseconds, u64 response time.
The record's version stands in the high byte of its version field.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kml_envs.errors import UserError
from kml_envs.workloads.formats.records import OTHER, READ, WRITE, Records, sectors_to_bytes
from kml_envs.workloads.formats.stream import BrokenStreamError, ByteStream

_ADDRESS_AND_TIME = [("block", "<u8"), ("time_us", "<u8")]
RECORD = {
    1: np.dtype(
        [
            *(("sn", "<u4"), ("bytes", "<u4"), ("entries", "<u4"), ("command", "<u2"), ("version", "<u2")),
            *_ADDRESS_AND_TIME,
        ]
    ),
    2: np.dtype(
        [
            *(("command", "<u2"), ("version", "<u2"), ("sn", "<u4"), ("bytes", "<u4"), ("entries", "<u4")),
            *_ADDRESS_AND_TIME,
            ("response_us", "<u8"),
        ]
    ),
}
"""Layout of a record by version."""

_CHUNK_RECORDS = 1 << 16
_READ_COMMANDS = (0x08, 0x28, 0x88, 0xA8)  # READ(6), (10), (16), (12): SCSI Block Commands
_WRITE_COMMANDS = (0x0A, 0x2A, 0x8A, 0xAA)
_LARGEST = 1 << 62  # above every accepted value and still inside int64


def vscsi_version(head: bytes) -> int | None:
    """Recognise the version by the first two records, as far as the file holds them.

    Returns:
        1 or 2, or None when the bytes are no vscsi records.
    """
    for version in (2, 1):
        layout = RECORD[version]
        records = np.frombuffer(head, layout, count=min(len(head) // layout.itemsize, 2))
        if len(records) and (records["version"] >> 8 == version).all():
            return version
    return None


def read_vscsi(stream: ByteStream) -> Iterator[Records]:
    """Read a vscsi trace of either version; commands other than reads and writes become `OTHER`.

    Raises:
        UserError: When the file is no vscsi trace, changes its record version or ends inside a record.
    """
    version = vscsi_version(stream.peek(2 * RECORD[2].itemsize))
    if version is None:
        raise UserError(f"{stream.path}, record 1: neither a vscsi record of version 1 nor one of version 2")
    layout = RECORD[version]
    done = 0
    while True:
        try:
            block = stream.read(_CHUNK_RECORDS * layout.itemsize)
        except BrokenStreamError as error:
            done += len(stream.rest()) // layout.itemsize
            raise UserError(f"{stream.path}, record {done + 1}: {error}") from error
        count, surplus = divmod(len(block), layout.itemsize)
        raw = np.frombuffer(block, layout, count=count)
        strange = np.flatnonzero(raw["version"] >> 8 != version)
        if strange.size:
            number = done + strange[0] + 1
            raise UserError(f"{stream.path}, record {number}: not a vscsi record of version {version}")
        if count:
            command = raw["command"] & 0xFF
            operation = np.where(
                np.isin(command, _READ_COMMANDS), READ, np.where(np.isin(command, _WRITE_COMMANDS), WRITE, OTHER)
            )
            yield Records(
                number=done + 1 + np.arange(count),
                time_us=np.minimum(raw["time_us"], _LARGEST).astype(np.int64),
                operation=operation.astype(np.uint8),
                offset_bytes=sectors_to_bytes(np.minimum(raw["block"], _LARGEST).astype(np.int64)),
                size_bytes=raw["bytes"].astype(np.int64),
                device=np.zeros(count, np.int32),
                devices=("",),
            )
        done += count
        if surplus:
            raise UserError(
                f"{stream.path}, record {done + 1}: the file ends after {surplus} of the record's "
                f"{layout.itemsize} bytes: it is truncated"
            )
        if not block:
            return
