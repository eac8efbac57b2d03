"""The free map of a volume that is as large as it needs to be."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

_ENDLESS = 1 << 62


class Extent(NamedTuple):
    """A run of consecutive pages or blocks: the first one and how many."""

    first: int
    length: int


class FreeExtents:
    """Free blocks as maximal extents in the order of their addresses; the last one has no end."""

    def __init__(self) -> None:
        """Start with an empty volume."""
        self._first = [0]
        self._count = [_ENDLESS]

    def take_first_fit(self, count: int) -> int:
        """Take blocks from the start of the lowest extent that has room for all, and return the first one's address.

        Args:
            count: Blocks.
        """
        place = next(place for place, free in enumerate(self._count) if free >= count)
        first = self._first[place]
        self._cut(place, first, count)
        return first

    def take_at(self, address: int, count: int) -> Extent | None:
        """Take as many of the blocks from an address on as are free, or None if the first one is not.

        Args:
            address: The block wanted first.
            count: Blocks wanted.
        """
        place = bisect_right(self._first, address) - 1
        if place < 0:
            return None
        room = self._first[place] + self._count[place] - address
        if room <= 0:
            return None
        taken = min(count, room)
        self._cut(place, address, taken)
        return Extent(address, taken)

    def release(self, extent: Extent) -> None:
        """Give blocks back; they grow together with free neighbours.

        Args:
            extent: Blocks that are in use.

        Raises:
            ValueError: One of them is free already.
        """
        first, count = extent
        place = bisect_right(self._first, first)
        end_before = self._first[place - 1] + self._count[place - 1] if place > 0 else -1
        if end_before > first or self._first[place] < first + count:
            raise ValueError(f"blocks {first} to {first + count - 1} are not all in use")
        if self._first[place] == first + count:
            count += self._count[place]
            del self._first[place], self._count[place]
        if end_before == first:
            self._count[place - 1] += count
        else:
            self._first.insert(place, first)
            self._count.insert(place, count)

    def _cut(self, place: int, address: int, count: int) -> None:
        """Take blocks out of the extent at `place`, leaving what is before and behind them."""
        first, free = self._first[place], self._count[place]
        before, behind = address - first, first + free - (address + count)
        rest = [(first, before)] if before else []
        if behind:
            rest.append((address + count, behind))
        self._first[place : place + 1] = [extent[0] for extent in rest]
        self._count[place : place + 1] = [extent[1] for extent in rest]
