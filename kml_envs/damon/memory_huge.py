"""Transparent huge pages: faults of whole huge pages, khugepaged, and collapses on request.

A huge page covers 512 pages. Extents of at least that size hold whole ones; smaller neighbours that lie in the same
one are taken together. Pages in memory are taken to be spread evenly over an extent.
"""

from __future__ import annotations

import math

from kml_envs.compiling import Record, compiled
from kml_envs.damon.memory_state import extents_of, room_on_fast

HUGE_PAGE_BYTES = 2 << 20
# kdamond's time for each page that it collapses, a copy at about 4 GB/s. Assumed; half a millisecond a huge page.
_COLLAPSE_NS = 1000.0
_NEARLY_SURE = 1.0 - 1e-12


@compiled
def take_huge_faults(memory: Record) -> None:
    """Where huge pages are allowed, a first touch brings in all of the huge page that it falls in.

    Reads `probability` and `entered` of the step, after the touched pages themselves were brought in.
    """
    extents, index = extents_of(memory), 0
    while index < memory.extent_count:
        behind = group_end(memory, index)
        exponent, advised = 0.0, 0.0
        for member in range(index, behind):
            extent = extents[member]
            advised = max(advised, extent.advised)
            if extent.entered > 0.0:
                before = extent.untouched + extent.entered
                exponent += before * math.log1p(-min(extent.probability, _NEARLY_SURE))
        if advised > 0.0 and exponent < 0.0:
            faulted = -math.expm1(exponent / _blocks(memory, index, behind))
            for member in range(index, behind):
                extent = extents[member]
                share = extent.advised * faulted
                touched = extent.entered * share
                _map_hugely(extent, touched + _bring_in(memory, extent, share))
        index = behind


@compiled
def collapse_slowly(memory: Record, seconds: float) -> None:
    """Let khugepaged collapse what is allowed, at its own speed, everywhere alike."""
    extents = extents_of(memory)
    wanted, index = 0.0, 0
    while index < memory.extent_count:
        behind = group_end(memory, index)
        occupied = _occupied_share(memory, index, behind)
        for member in range(index, behind):
            wanted += _collapsible(extents[member], occupied * extents[member].advised)
        index = behind
    if wanted <= 0.0:
        return
    part = min(1.0, memory.khugepaged_pages_per_s * seconds / wanted)
    index = 0
    while index < memory.extent_count:
        behind = group_end(memory, index)
        occupied = _occupied_share(memory, index, behind)
        for member in range(index, behind):
            _collapse(memory, extents[member], occupied * extents[member].advised, part)
        index = behind


@compiled
def collapse_now(memory: Record, index: int, part: float) -> float:
    """Collapse a share of an extent's huge pages that have a page in memory; returns the pages mapped hugely anew."""
    extents = extents_of(memory)
    first = index
    while first > 0 and group_end(memory, first - 1) > index:
        first -= 1
    before = extents[index].huge
    _collapse(memory, extents[index], _occupied_share(memory, first, group_end(memory, first)), part)
    gained = extents[index].huge - before
    memory.kdamond_ns += gained * _COLLAPSE_NS
    return gained


@compiled
def group_end(memory: Record, index: int) -> int:
    """Index behind the last extent that shares a huge page with a small extent; a large one stands alone."""
    extents = extents_of(memory)
    if extents[index].end - extents[index].start >= HUGE_PAGE_BYTES:
        return index + 1
    block = extents[index].start // HUGE_PAGE_BYTES
    behind = index + 1
    while (
        behind < memory.extent_count
        and extents[behind].start // HUGE_PAGE_BYTES == block
        and extents[behind].end - extents[behind].start < HUGE_PAGE_BYTES
    ):
        behind += 1
    return behind


@compiled
def _blocks(memory: Record, index: int, behind: int) -> float:
    extents = extents_of(memory)
    return max(1.0, (extents[behind - 1].end - extents[index].start) / HUGE_PAGE_BYTES)


@compiled
def _occupied_share(memory: Record, index: int, behind: int) -> float:
    """Share of the huge pages of some extents that hold a page in memory."""
    extents, exponent = extents_of(memory), 0.0
    for member in range(index, behind):
        extent = extents[member]
        missing = (extent.untouched + extent.swapped) / extent.pages
        if missing <= 0.0:
            return 1.0
        exponent += extent.pages * math.log(missing)
    return -math.expm1(exponent / _blocks(memory, index, behind))


@compiled
def _collapsible(extent: Record, share: float) -> float:
    """Pages that would be mapped hugely anew if this share of an extent's huge pages were collapsed."""
    present = extent.fast + extent.slow + extent.bloat
    return max(0.0, share * (present + extent.untouched) - extent.huge)


@compiled
def _collapse(memory: Record, extent: Record, share: float, part: float) -> None:
    """Collapse a part of the share of an extent that can be; swapped pages stay where they are."""
    wanted = _collapsible(extent, share) * part
    _bring_in(memory, extent, share * part)
    _map_hugely(extent, wanted)


@compiled
def _bring_in(memory: Record, extent: Record, share: float) -> float:
    """Give memory to a share of an extent's pages that have none, while there is room; returns the pages."""
    brought = min(extent.untouched * share, room_on_fast(memory))
    extent.untouched -= brought
    extent.bloat += brought
    memory.fast_used += brought
    return brought


@compiled
def _map_hugely(extent: Record, pages: float) -> None:
    extent.huge = min(extent.huge + pages, extent.fast + extent.slow + extent.bloat)
