"""The model that turns file operations into block writes: a page cache above an allocator of extents.

It stands for an overwriting file system such as ext4 on a disk of 4-KiB blocks, as far as file data goes. The addresses
it yields are therefore the logical block addresses that such a file system would send to a device, and what a
log-structured store below it would have to map.

- A write makes pages of the page cache dirty. Dirty pages are written when the file is flushed, when a file is written
  through, or when the writeback timer finds that the file has been dirty for long enough (Linux's defaults: it looks
  every 5 seconds for files that have been dirty for 30). Pages leave in the order of the file, those with neighbouring
  addresses as one request.
- A page gets its block when it is first written (delayed allocation) and keeps it: later writes overwrite in place.
- Removing a file or cutting it short frees its blocks at once, and drops its dirty pages. Nothing is written then.
- A file that replaces another by rename is flushed first, as ext4 does (auto_da_alloc).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from tools.record_traces.extents import Extent, FreeExtents
from tools.record_traces.file_operations import Action, FileOperation

BLOCK_BYTES = 4096
WRITEBACK_INTERVAL_US = 5_000_000
WRITEBACK_AGE_US = 30_000_000
LARGEST_RESERVATION_BLOCKS = 512
# Linux splits requests at 1280 KiB (max_sectors_kb).
LARGEST_REQUEST_BLOCKS = 320


class BlockWrite(NamedTuple):
    """One write request to the device.

    Attributes:
        time_us: Arrival, in microseconds.
        first_block: Address in 4-KiB blocks.
        block_count: Length in blocks.
    """

    time_us: int
    first_block: int
    block_count: int


class FileSystem:
    """Files, their dirty pages and their blocks."""

    def __init__(self, directory: str) -> None:
        """Start with an empty volume.

        Args:
            directory: Files outside of it are on another volume and are ignored.
        """
        self._inside = directory.rstrip("/") + "/"
        self._files: dict[str, _File] = {}
        self._dirty: dict[int, _File] = {}
        self._free = FreeExtents()
        self._next_writeback_us: int | None = None

    def apply(self, operation: FileOperation) -> Iterator[BlockWrite]:
        """Carry out one operation and yield what the device sees because of it, or has seen before it.

        Args:
            operation: Its time must not be before that of the one before.
        """
        yield from self._write_back_old(operation.time_us)
        if operation.action is Action.FLUSH_ALL:
            for file in list(self._dirty.values()):
                yield from self._flush(file, operation.time_us)
        elif operation.path.startswith(self._inside):
            yield from self._apply_inside(operation)

    def sizes(self) -> dict[str, int]:
        """Return the size of every file that the model has seen, in bytes."""
        return {path: file.size for path, file in self._files.items()}

    def blocks_of(self, path: str) -> dict[int, int]:
        """Return the block of every page of a file that has one.

        Args:
            path: Absolute path.
        """
        return dict(self._files[path].blocks)

    def _apply_inside(self, operation: FileOperation) -> Iterator[BlockWrite]:
        action, path, time_us = operation.action, operation.path, operation.time_us
        if action is Action.RENAME:
            yield from self._rename(path, operation.target, time_us)
        elif action is Action.LINK:
            if file := self._files.get(path):
                file.links += 1
                self._files[operation.target] = file
        elif action is Action.UNLINK:
            self._unlink(path)
        elif not path.endswith(" (deleted)"):
            yield from self._change(self._files.setdefault(path, _File()), operation)

    def _change(self, file: _File, operation: FileOperation) -> Iterator[BlockWrite]:
        """Carry out an operation on one file's content."""
        action, time_us = operation.action, operation.time_us
        first = file.size if operation.offset is None else operation.offset
        end = max(file.size, first) if operation.length is None else first + operation.length
        pages = range(first // BLOCK_BYTES, -(-end // BLOCK_BYTES))
        if action in (Action.WRITE, Action.WRITE_THROUGH):
            file.size = max(file.size, end)
            file.dirty.update(pages)
            if self._dirty.setdefault(id(file), file).dirty_since_us is None:
                file.dirty_since_us = time_us
            if action is Action.WRITE_THROUGH:
                yield from self._flush(file, time_us, pages)
        elif action is Action.FLUSH:
            yield from self._flush(file, time_us, None if operation.length is None and first == 0 else pages)
        elif action is Action.TRUNCATE:
            self._release(file, range(-(-first // BLOCK_BYTES), file.pages()))
            file.size = first
        elif action in (Action.ALLOCATE, Action.ALLOCATE_KEEPING_SIZE):
            self._allocate(file, [page for page in pages if page not in file.blocks])
            file.size = max(file.size, end) if action is Action.ALLOCATE else file.size
        elif action is Action.PUNCH:
            # Pages that the range covers only in part are overwritten with zeros: no block is freed for them.
            self._release(file, range(-(-first // BLOCK_BYTES), end // BLOCK_BYTES))

    def _rename(self, path: str, target: str, time_us: int) -> Iterator[BlockWrite]:
        if path in self._files:
            if self._files.get(target) is self._files[path]:
                # Two names of one file: both stay.
                return
            if target in self._files:
                yield from self._flush(self._files[path], time_us)
                self._unlink(target)
            self._files[target] = self._files.pop(path)
            return
        below = path + "/"
        for name in [name for name in self._files if name.startswith(below)]:
            self._files[target + name.removeprefix(path)] = self._files.pop(name)

    def _unlink(self, path: str) -> None:
        file = self._files.pop(path, None)
        if file is None:
            return
        file.links -= 1
        if file.links == 0:
            self._release(file, range(file.pages()))

    def _release(self, file: _File, pages: range) -> None:
        """Free the blocks of some pages and forget what was not written of them."""
        file.dirty.difference_update(pages)
        if not file.dirty:
            self._clean(file)
        blocks = [file.blocks.pop(page) for page in pages if page in file.blocks]
        for extent in extents(sorted(blocks)):
            self._free.release(extent)
        if file.reservation is not None:
            self._free.release(file.reservation)
            file.reservation = None

    def _write_back_old(self, now_us: int) -> Iterator[BlockWrite]:
        """Yield what the writeback timer has written up to now."""
        if self._next_writeback_us is None:
            self._next_writeback_us = now_us + WRITEBACK_INTERVAL_US
        while self._next_writeback_us <= now_us:
            tick_us = self._next_writeback_us
            for file in list(self._dirty.values()):
                if file.dirty_since_us is not None and file.dirty_since_us <= tick_us - WRITEBACK_AGE_US:
                    yield from self._flush(file, tick_us)
            self._next_writeback_us += WRITEBACK_INTERVAL_US

    def _flush(self, file: _File, time_us: int, within: range | None = None) -> Iterator[BlockWrite]:
        pages = sorted(file.dirty if within is None else file.dirty.intersection(within))
        file.dirty.difference_update(pages)
        if not file.dirty:
            self._clean(file)
        self._allocate(file, [page for page in pages if page not in file.blocks])
        for first, length in extents([file.blocks[page] for page in pages]):
            for start in range(0, length, LARGEST_REQUEST_BLOCKS):
                yield BlockWrite(time_us, first + start, min(LARGEST_REQUEST_BLOCKS, length - start))

    def _clean(self, file: _File) -> None:
        file.dirty_since_us = None
        self._dirty.pop(id(file), None)

    def _allocate(self, file: _File, pages: list[int]) -> None:
        """Give blocks to pages that have none, neighbouring pages neighbouring blocks wherever possible."""
        for first_page, count in extents(pages):
            placed = 0
            while placed < count:
                extent = self._next_extent(file, first_page + placed, count - placed)
                for step in range(extent.length):
                    file.blocks[first_page + placed + step] = extent.first + step
                placed += extent.length

    def _next_extent(self, file: _File, page: int, count: int) -> Extent:
        """Take up to `count` blocks for a run of pages that starts at `page`."""
        goal = file.blocks.get(page - 1, -2) + 1
        reserved = file.reservation
        if reserved is not None and reserved.first == goal:
            taken = min(count, reserved.length)
            rest = Extent(goal + taken, reserved.length - taken)
            file.reservation = rest if rest.length else None
            return Extent(goal, taken)
        if goal >= 0 and (behind := self._free.take_at(goal, count)) is not None:
            return behind
        # A file that grows in steps reserves room as it grows, so that two of them do not interleave block by block.
        wanted = max(count, min(len(file.blocks), LARGEST_RESERVATION_BLOCKS))
        first = self._free.take_first_fit(wanted)
        if wanted > count:
            if reserved is not None:
                self._free.release(reserved)
            file.reservation = Extent(first + count, wanted - count)
        return Extent(first, count)


@dataclass(slots=True, eq=False)
class _File:
    """An inode: size in bytes, names, block of each page, pages not yet written."""

    size: int = 0
    links: int = 1
    blocks: dict[int, int] = field(default_factory=dict)
    dirty: set[int] = field(default_factory=set)
    dirty_since_us: int | None = None
    reservation: Extent | None = None

    def pages(self) -> int:
        """Return one more than the last page that is in use."""
        return max(-(-self.size // BLOCK_BYTES), max(self.blocks, default=-1) + 1, max(self.dirty, default=-1) + 1)


def extents(numbers: list[int]) -> Iterator[Extent]:
    """Group numbers into runs of consecutive ones, in the order given.

    Args:
        numbers: Page or block numbers.
    """
    for _, run in groupby(enumerate(numbers), key=lambda item: item[1] - item[0]):
        members = [number for _, number in run]
        yield Extent(members[0], len(members))
