"""What a block trace holds, in numbers, and the volume that it suggests.

One pass over the file; memory grows with the number of distinct blocks, not with the length of the trace.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.errors import UserError
from kml_envs.workloads.trace import BlockTrace, RequestChunk, block_writes

SEGMENT_BLOCKS = (64, 512)
"""Segment sizes for which a volume is suggested: the default of the training environments, and F2FS's."""

HOT_SHARES = (0.01, 0.10, 0.20)
EPISODE_VOLUMES = 5
"""Volumes of user writes in a default episode: how often the suggested volume should be overwritten."""


@dataclass(frozen=True)
class RequestSizes:
    """Distribution of the request sizes, in whole blocks.

    Attributes:
        mean_blocks: Mean.
        median_blocks: Median.
        percentile_90_blocks: 90th percentile.
        percentile_99_blocks: 99th percentile.
        largest_blocks: Largest.
        histogram: Share of requests by upper bound in blocks; the bounds are powers of two.
    """

    mean_blocks: float
    median_blocks: int
    percentile_90_blocks: int
    percentile_99_blocks: int
    largest_blocks: int
    histogram: dict[int, float]


@dataclass(frozen=True)
class TraceDescription:
    """What a trace holds. Counts of blocks refer to blocks of `block_bytes`.

    Attributes:
        name: The file or trace.
        block_bytes: Block size in bytes.
        requests: Read and write requests.
        reads: Read requests.
        writes: Write requests.
        passed_over: Records that move no data (discards, flushes, ...).
        duration_s: Seconds from the first request to the last.
        blocks_read: Blocks read.
        blocks_written: Blocks written.
        footprint_blocks: Distinct blocks read or written.
        written_footprint_blocks: Distinct blocks written.
        overwrite_ratio: Share of the block writes that hit a block written before in the trace.
        writes_per_block: Mean number of writes of a block that is written at all.
        hottest: Share of the block writes that go to the given share of the written blocks, the hottest ones.
        read_sizes: Sizes of the reads, None without reads.
        write_sizes: Sizes of the writes, None without writes.
        suggested_segments: Suggested volume in segments, by blocks per segment: the written footprint, rounded up,
            so that no part of the volume is static. Empty without writes.
        passes: How often the trace has to be run through to overwrite that volume 5 times.
    """

    name: str
    block_bytes: int
    requests: int
    reads: int
    writes: int
    passed_over: int
    duration_s: float
    blocks_read: int
    blocks_written: int
    footprint_blocks: int
    written_footprint_blocks: int
    overwrite_ratio: float
    writes_per_block: float
    hottest: dict[str, float]
    read_sizes: RequestSizes | None
    write_sizes: RequestSizes | None
    suggested_segments: dict[int, int]
    passes: int

    def as_dict(self) -> dict[str, Any]:
        """Return the description as plain data, for JSON."""
        return asdict(self)


def describe_requests(
    name: str, requests: BlockTrace | Iterable[RequestChunk], block_bytes: int = 4096
) -> TraceDescription:
    """Describe a trace.

    Args:
        name: What to call it.
        requests: A trace in memory, or the chunks that `iterate_requests` yields.
        block_bytes: Block size with which it was read, in bytes.

    Raises:
        UserError: When there are no requests.
    """
    chunks = [_as_chunk(requests)] if isinstance(requests, BlockTrace) else requests
    written, touched = _BlockCounts(), _BlockCounts()
    sizes = {True: _SizeCounts(), False: _SizeCounts()}
    last_us = passed_over = 0
    for chunk in chunks:
        passed_over = chunk.passed_over
        if not len(chunk.time_us):
            continue
        last_us = int(chunk.time_us[-1])
        for is_write, counts in sizes.items():
            counts.add(chunk.block_count[chunk.is_write == is_write])
        blocks, _ = block_writes(chunk)
        written.add(blocks)
        everything = RequestChunk(chunk.time_us, np.ones_like(chunk.is_write), chunk.first_block, chunk.block_count)
        touched.add(block_writes(everything)[0])
    reads, writes = sizes[False], sizes[True]
    if not reads.requests + writes.requests:
        raise UserError(f"{name}: holds no requests")
    write_counts = np.sort(written.counts())[::-1]
    footprint = len(write_counts)
    return TraceDescription(
        name=name,
        block_bytes=block_bytes,
        requests=reads.requests + writes.requests,
        reads=reads.requests,
        writes=writes.requests,
        passed_over=passed_over,
        duration_s=last_us / 1e6,
        blocks_read=reads.blocks,
        blocks_written=writes.blocks,
        footprint_blocks=len(touched.counts()),
        written_footprint_blocks=footprint,
        overwrite_ratio=1 - footprint / writes.blocks if footprint else 0.0,
        writes_per_block=writes.blocks / footprint if footprint else 0.0,
        hottest={f"{share:.0%}": _share_of_hottest(write_counts, share) for share in HOT_SHARES} if footprint else {},
        read_sizes=reads.summary(),
        write_sizes=writes.summary(),
        suggested_segments={size: -(-footprint // size) for size in SEGMENT_BLOCKS} if footprint else {},
        passes=math.ceil(EPISODE_VOLUMES * footprint / writes.blocks) if footprint else 0,
    )


def format_description(description: TraceDescription) -> str:
    """Lay a description out as aligned text, one fact a line."""
    rows = [("trace", description.name), *_request_rows(description)]
    for label, sizes in (("read sizes", description.read_sizes), ("write sizes", description.write_sizes)):
        if sizes is not None:
            rows += _size_rows(label, sizes, description.block_bytes)
    rows += _write_rows(description)
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {text}" for label, text in rows)


@dataclass
class _SizeCounts:
    """Number of requests by size in blocks."""

    by_size: dict[int, int] = field(default_factory=dict)

    def add(self, block_count: NDArray[np.int32]) -> None:
        for size, count in zip(*np.unique(block_count, return_counts=True), strict=True):
            self.by_size[int(size)] = self.by_size.get(int(size), 0) + int(count)

    @property
    def requests(self) -> int:
        return sum(self.by_size.values())

    @property
    def blocks(self) -> int:
        return sum(size * count for size, count in self.by_size.items())

    def summary(self) -> RequestSizes | None:
        if not self.by_size:
            return None
        size = np.array(sorted(self.by_size), np.int64)
        count = np.array([self.by_size[int(each)] for each in size], np.int64)
        reached = np.cumsum(count)
        median, ninety, ninety_nine = (
            int(size[np.searchsorted(reached, share * reached[-1])]) for share in (0.5, 0.9, 0.99)
        )
        bound = 1 << np.ceil(np.log2(size)).astype(np.int64)
        histogram = {int(each): float(count[bound == each].sum() / reached[-1]) for each in np.unique(bound)}
        return RequestSizes(self.blocks / self.requests, median, ninety, ninety_nine, int(size[-1]), histogram)


class _BlockCounts:
    """Number of accesses by block address, as sorted runs.

    New runs are merged into the large one only when together they are as large, so that the work per block stays
    logarithmic in the number of blocks.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self._pending = 0

    def add(self, blocks: NDArray[np.int64]) -> None:
        address, count = np.unique(blocks, return_counts=True)
        self._runs.append((address, count.astype(np.int64)))
        if len(self._runs) > 1:
            self._pending += len(address)
            if self._pending >= max(len(self._runs[0][0]), 1 << 20):
                self._merge()

    def counts(self) -> NDArray[np.int64]:
        """Return (footprint,) int64 accesses of each block, in order of address."""
        if not self._runs:
            return np.zeros(0, np.int64)
        self._merge()
        return self._runs[0][1]

    def _merge(self) -> None:
        address = np.concatenate([run[0] for run in self._runs])
        count = np.concatenate([run[1] for run in self._runs])
        order = np.argsort(address, kind="stable")
        address, count = address[order], count[order]
        begins = np.flatnonzero(np.concatenate([[True], address[1:] != address[:-1]])) if len(address) else order
        self._runs = [(address[begins], np.add.reduceat(count, begins) if len(begins) else count)]
        self._pending = 0


def _as_chunk(trace: BlockTrace) -> RequestChunk:
    return RequestChunk(trace.time_us, trace.is_write, trace.first_block, trace.block_count)


def _share_of_hottest(descending: NDArray[np.int64], share: float) -> float:
    hottest = max(1, round(share * len(descending)))
    return float(descending[:hottest].sum() / descending.sum())


def _request_rows(description: TraceDescription) -> list[tuple[str, str]]:
    total = description.requests
    rate = f", {total / description.duration_s:,.1f} requests/s" if description.duration_s else ""
    read, written = (_amount(count, description.block_bytes) for count in _volumes(description))
    return [
        (
            "requests",
            f"{total:,} ({description.reads / total:.1%} reads, {description.writes / total:.1%} writes), "
            f"{description.passed_over:,} other records passed over",
        ),
        ("duration", f"{_duration(description.duration_s)}{rate}"),
        ("read", read),
        ("written", written),
        ("footprint", f"{_amount(description.footprint_blocks, description.block_bytes)}, read or written"),
    ]


def _volumes(description: TraceDescription) -> tuple[int, int]:
    return description.blocks_read, description.blocks_written


def _size_rows(label: str, sizes: RequestSizes, block_bytes: int) -> list[tuple[str, str]]:
    percentiles = (sizes.median_blocks, sizes.percentile_90_blocks, sizes.percentile_99_blocks, sizes.largest_blocks)
    median, ninety, ninety_nine, largest = (_bytes(blocks * block_bytes) for blocks in percentiles)
    mean = _bytes(sizes.mean_blocks * block_bytes)
    bars = ", ".join(f"≤ {_bytes(bound * block_bytes)} {share:.1%}" for bound, share in sizes.histogram.items())
    return [
        (label, f"mean {mean}, median {median}, 90 % {ninety}, 99 % {ninety_nine}, largest {largest}"),
        ("", bars),
    ]


def _write_rows(description: TraceDescription) -> list[tuple[str, str]]:
    if not description.written_footprint_blocks:
        return [("suggested volume", "none: the trace holds no writes, and there is nothing to clean")]
    hottest = ", ".join(f"{share} of the blocks take {part:.1%}" for share, part in description.hottest.items())
    segments = " or ".join(f"{count:,} segments of {size}" for size, count in description.suggested_segments.items())
    passes = description.passes
    return [
        ("blocks written", _amount(description.written_footprint_blocks, description.block_bytes)),
        (
            "overwrites",
            f"{description.overwrite_ratio:.1%} of block writes; a written block is written "
            f"{description.writes_per_block:.2f} times on average",
        ),
        ("skew of writes", hottest),
        ("suggested volume", f"{description.written_footprint_blocks:,} blocks = {segments} blocks"),
        (
            "",
            f"overwritten {EPISODE_VOLUMES} times or more by {passes} pass{'es' if passes > 1 else ''} "
            "through the trace; a smaller volume samples addresses, a larger one holds static data",
        ),
    ]


def _amount(blocks: int, block_bytes: int) -> str:
    return f"{blocks:,} blocks = {_bytes(blocks * block_bytes)}"


def _bytes(count: float) -> str:
    for unit, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        # Footprints stay in MiB up to 100 GiB, so that figures of neighbouring lines compare.
        if count >= factor * (100 if unit in ("TiB", "GiB") else 1):
            return f"{count / factor:,.1f} {unit}".replace(".0 ", " ")
    return f"{count:,.0f} B"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.3f} seconds"
