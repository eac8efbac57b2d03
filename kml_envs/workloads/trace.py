"""Block traces as arrays: read from a file, split into block writes, fitted to a volume.

The formats themselves live in `kml_envs.workloads.formats`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kml_envs.errors import UserError
from kml_envs.workloads.formats import TraceFormat, read_records
from kml_envs.workloads.formats.records import LARGEST_REQUEST_BYTES, WRITE, Records
from kml_envs.workloads.formats.selection import (
    ALL_DEVICES,
    DeviceFilter,
    require_order,
    sort_by_time,
    spread_over_seconds,
)

_COMPRESSED_SUFFIXES = (".gz", ".xz", ".zst")
_DEVICE_SHIFT = 44  # of the device number, with ALL_DEVICES: above every block address up to 4 PiB
_WITHIN_DEVICE = (1 << _DEVICE_SHIFT) - 1


@dataclass(frozen=True)
class BlockTrace:
    """The requests of one device, in memory.

    Attributes:
        name: The file's name without its suffixes.
        time_us: (R,) int64, arrival times in microseconds, non-decreasing, starting at 0.
        is_write: (R,) bool.
        first_block: (R,) int64, address in blocks.
        block_count: (R,) int32, blocks touched: the request rounded out to whole blocks.
    """

    name: str
    time_us: NDArray[np.int64]
    is_write: NDArray[np.bool_]
    first_block: NDArray[np.int64]
    block_count: NDArray[np.int32]


@dataclass(frozen=True)
class RequestChunk:
    """Some consecutive requests; the arrays are those of `BlockTrace`.

    Attributes:
        time_us: (R,) int64, arrival times in microseconds, non-decreasing over all chunks, starting at 0.
        is_write: (R,) bool.
        first_block: (R,) int64, address in blocks.
        block_count: (R,) int32, blocks touched.
        passed_over: Records of the file up to here that move no data, such as discards and flushes.
    """

    time_us: NDArray[np.int64]
    is_write: NDArray[np.bool_]
    first_block: NDArray[np.int64]
    block_count: NDArray[np.int32]
    passed_over: int = 0


@dataclass(frozen=True)
class FittedTrace:
    """The block writes of a trace on a volume of given size.

    Attributes:
        name: The trace's name.
        blocks: (W,) int32, dense addresses in [0, volume_blocks), numbered in order of first write.
        time_us: (W,) int64, arrival times in microseconds, non-decreasing.
        volume_blocks: Size of the volume in blocks.
        footprint: Number of distinct addresses written, at most `volume_blocks`.
    """

    name: str
    blocks: NDArray[np.int32]
    time_us: NDArray[np.int64]
    volume_blocks: int
    footprint: int


def read_trace(
    path: str | Path,
    *,
    format: str | None = None,
    block_bytes: int = 4096,
    limit: int | None = None,
    device: str | None = None,
    action: str | None = None,
    sample: float = 1.0,
    seed: int = 0,
    time_scale: float = 1.0,
    sort: bool = False,
    dense: bool = False,
) -> BlockTrace:
    """Read a trace file into memory.

    Args:
        path: The file, plain or compressed with gzip, xz or Zstandard (recognised by content).
        format: A name in `formats.FORMATS`; None recognises it from the content.
        block_bytes: Size of a block in bytes, a power of two from 512 to 4 GiB.
        limit: Read at most this many requests.
        device: Which device, disk, volume or file of a trace that holds several; "all" takes all of them, each in
            an address range of its own.
        action: For blkparse text, the action that marks a request: "D" (issued, the default) or "Q" (queued).
        sample: Keep this share of the block addresses, chosen by a hash of the address: every access to a kept
            block stays, so that reuse distances shrink by the same factor (SHARDS, FAST 2015).
        seed: Seed of that choice.
        time_scale: Multiplies all times: 2 is half as fast.
        sort: Order the requests by time first, for files that are out of order.
        dense: Number the blocks 0, 1, 2, ... in order of first access.

    Returns:
        The trace. With `sample` or `dense`, a request may appear as several of the same time, one per run of
        adjacent addresses.

    Raises:
        UserError: When the file cannot be opened, recognised or read, is empty, out of order, or holds several
            devices of which none was chosen: one line with file, line or record number and reason.
    """
    chunks = list(
        iterate_requests(
            path,
            format=format,
            block_bytes=block_bytes,
            limit=limit,
            device=device,
            action=action,
            sample=sample,
            seed=seed,
            time_scale=time_scale,
            sort=sort,
        )
    )
    trace = BlockTrace(
        _name(path),
        np.concatenate([chunk.time_us for chunk in chunks]),
        np.concatenate([chunk.is_write for chunk in chunks]),
        np.concatenate([chunk.first_block for chunk in chunks]),
        np.concatenate([chunk.block_count for chunk in chunks]),
    )
    return _densely_numbered(trace) if dense else trace


def iterate_requests(
    path: str | Path,
    *,
    format: str | None = None,
    block_bytes: int = 4096,
    limit: int | None = None,
    device: str | None = None,
    action: str | None = None,
    sample: float = 1.0,
    seed: int = 0,
    time_scale: float = 1.0,
    sort: bool = False,
) -> Iterator[RequestChunk]:
    """Read a trace file piece by piece, in bounded memory (but `sort` holds the whole trace).

    The arguments and errors are those of `read_trace`; arguments are checked at the call, the file's content as
    the iteration gets there.

    Returns:
        Iterator over consecutive chunks of at least one request, except that with `sample` a chunk may be empty.
    """
    if not 512 <= block_bytes <= LARGEST_REQUEST_BYTES or block_bytes & (block_bytes - 1):
        raise UserError(f"block size {block_bytes}: a power of two of at least 512 bytes, at most 4 GiB, is accepted")
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit}: at least 1 request is accepted")
    if not 0.0 < sample <= 1.0:
        raise UserError(f"sampled share {sample}: more than 0 and at most 1 is accepted")
    if not 0.0 < time_scale < float("inf"):
        raise UserError(f"time scale {time_scale}: a positive number is accepted")
    known, records = read_records(path, format=format, action=action)
    chosen = DeviceFilter(str(path), device)
    ordered = _in_order(known, chosen, records, sort)
    chunks = _requests(ordered, chosen, block_bytes, limit, time_scale)
    if sample < 1.0:
        return (_sampled(chunk, sample, seed) for chunk in chunks)
    return chunks


def devices_side_by_side(chunks: Sequence[RequestChunk]) -> list[RequestChunk]:
    """Move the devices of a trace together: each begins behind the last block that is used of the one before it.

    Args:
        chunks: All requests, of `ALL_DEVICES`, whose address ranges are far from each other.

    Returns:
        The same requests at the other addresses.
    """
    devices = 1 + max((int(chunk.first_block.max(initial=0)) >> _DEVICE_SHIFT for chunk in chunks), default=0)
    used = np.zeros(devices, np.int64)
    for chunk in chunks:
        behind = (chunk.first_block & _WITHIN_DEVICE) + chunk.block_count
        np.maximum.at(used, chunk.first_block >> _DEVICE_SHIFT, behind)
    begin = np.cumsum(used) - used
    return [
        replace(
            chunk,
            first_block=(chunk.first_block & _WITHIN_DEVICE) + begin[chunk.first_block >> _DEVICE_SHIFT],
        )
        for chunk in chunks
    ]


def block_writes(trace: BlockTrace | RequestChunk) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the write requests into writes of single blocks, in ascending address within a request.

    Returns:
        (W,) int64 block addresses and (W,) int64 times in microseconds.
    """
    writes = trace.is_write
    request, blocks = _single_blocks(trace.first_block[writes], trace.block_count[writes])
    return blocks, trace.time_us[writes][request]


def fit_to_volume(trace: BlockTrace, volume_blocks: int, *, seed: int = 0, time_scale: float = 1.0) -> FittedTrace:
    """Fit the writes of a trace to a volume.

    Addresses are numbered densely, in order of first write. A footprint larger than the volume is sampled: exactly
    the `volume_blocks` addresses with the smallest hash stay, with all their writes, so that every block is equally
    likely to stay and reuse distances scale with the size (SHARDS with a fixed number of addresses, FAST 2015).

    A footprint smaller than the volume leaves the blocks from `footprint` on never overwritten: static data. It
    gathers in segments that stay fully valid, so that the spare space serves the overwritten part alone, and write
    amplification comes out lower than on a volume of the footprint's size at the same utilisation.

    Args:
        trace: The trace.
        volume_blocks: Size of the volume in blocks.
        seed: Seed of the sampling.
        time_scale: Multiplies all times: 2 is half as fast.

    Raises:
        UserError: When the trace has no writes, the volume no blocks or more than 2**31 - 1, or the time scale is
            not positive.
    """
    if not 1 <= volume_blocks < 1 << 31:
        raise UserError(f"volume of {volume_blocks} blocks: 1 to {(1 << 31) - 1} are accepted")
    blocks, time_us = block_writes(trace)
    if not len(blocks):
        raise UserError(f"trace '{trace.name}' holds no writes")
    addresses, first, code = np.unique(blocks, return_index=True, return_inverse=True)
    kept = np.ones(len(addresses), np.bool_)
    if len(addresses) > volume_blocks:
        kept[:] = False
        kept[np.argpartition(address_hash(addresses, seed), volume_blocks - 1)[:volume_blocks]] = True
    footprint = int(np.count_nonzero(kept))
    number = np.full(len(addresses), -1, np.int32)
    in_order = np.flatnonzero(kept)[np.argsort(first[kept])]
    number[in_order] = np.arange(footprint, dtype=np.int32)
    dense = number[code]
    stays = dense >= 0
    return FittedTrace(trace.name, dense[stays], _scaled(time_us[stays], time_scale), volume_blocks, footprint)


def address_hash(blocks: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """Hash block addresses with splitmix64 (Steele, Lea and Flood, OOPSLA 2014); no two addresses collide.

    Args:
        blocks: (n,) block addresses.
        seed: Seed; another seed gives another order.

    Returns:
        (n,) uint64, evenly spread over all values.
    """
    # A seed is mixed before it is added: two seeds that differ by one would otherwise give shifted copies.
    offset = _splitmix64(np.array([seed % (1 << 64)], np.uint64))
    return _splitmix64(blocks.astype(np.uint64) + offset)


def _splitmix64(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed = value + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _name(path: str | Path) -> str:
    name = Path(path).name
    for suffix in _COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    return Path(name).stem


def _in_order(known: TraceFormat, chosen: DeviceFilter, records: Iterator[Records], sort: bool) -> Iterator[Records]:
    selected = chosen.apply(records)
    ordered = sort_by_time(selected) if sort else require_order(chosen.path, known.unit, selected)
    return spread_over_seconds(ordered) if known.whole_seconds else ordered


def _requests(
    ordered: Iterator[Records], chosen: DeviceFilter, block_bytes: int, limit: int | None, time_scale: float
) -> Iterator[RequestChunk]:
    start_us: np.int64 | None = None
    remaining = limit
    for records in ordered:
        if remaining is not None:
            records = records.take(slice(0, remaining))
            remaining -= len(records)
        start_us = records.time_us[0] if start_us is None else start_us
        first = records.offset_bytes // block_bytes
        behind = (records.offset_bytes + records.size_bytes + block_bytes - 1) // block_bytes
        if chosen.device == ALL_DEVICES:
            first_block = first + (records.device.astype(np.int64) << _DEVICE_SHIFT)
        else:
            first_block = first
        yield RequestChunk(
            _scaled(records.time_us - start_us, time_scale),
            records.operation == WRITE,
            first_block,
            (behind - first).astype(np.int32),
            chosen.passed_over,
        )
        if remaining == 0:
            return


def _scaled(time_us: NDArray[np.int64], time_scale: float) -> NDArray[np.int64]:
    if time_scale == 1.0:
        return time_us
    if not 0.0 < time_scale * max(float(time_us.max(initial=1)), 1.0) < 2.0**62:
        raise UserError(f"time scale {time_scale}: a positive number that keeps times below 2**62 us is accepted")
    scaled: NDArray[np.int64] = np.rint(time_us * time_scale).astype(np.int64)
    return scaled


def _single_blocks(
    first_block: NDArray[np.int64], block_count: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for every block of every request, the index of its request and its address."""
    count = block_count.astype(np.int64)
    request = np.repeat(np.arange(len(count)), count)
    before = np.cumsum(count) - count
    return request, np.arange(len(request)) + (first_block - before)[request]


def _runs(
    request: NDArray[np.int64], blocks: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Join blocks of the same request with adjacent addresses: index of the request, first block, count."""
    begins = np.ones(len(blocks), np.bool_)
    begins[1:] = (request[1:] != request[:-1]) | (blocks[1:] != blocks[:-1] + 1)
    first = np.flatnonzero(begins)
    return request[first], blocks[first], np.diff(np.append(first, len(blocks))).astype(np.int32)


def _sampled(chunk: RequestChunk, sample: float, seed: int) -> RequestChunk:
    request, blocks = _single_blocks(chunk.first_block, chunk.block_count)
    stays = address_hash(blocks, seed) < np.uint64(sample * 2.0**64)
    origin, first_block, block_count = _runs(request[stays], blocks[stays])
    return RequestChunk(chunk.time_us[origin], chunk.is_write[origin], first_block, block_count, chunk.passed_over)


def _densely_numbered(trace: BlockTrace) -> BlockTrace:
    request, blocks = _single_blocks(trace.first_block, trace.block_count)
    _, first, code = np.unique(blocks, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    origin, first_block, block_count = _runs(request, number[code])
    return BlockTrace(trace.name, trace.time_us[origin], trace.is_write[origin], first_block, block_count)
