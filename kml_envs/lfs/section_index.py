"""An index of sections by valid count: one bitmap a count, so that the emptiest section is found at once.

Greedy cleaning wants the section with the fewest valid blocks and, as F2FS scans upwards from where the last
scan ended, the first such section at or after a given number. A bitmap per valid count answers both. Rows are:

* 0..B-1: the dirty sections with that many valid blocks, B blocks a section;
* `prefree_row`, `dirty_row`, `free_row`: the sections in that state.

The words of all rows for the same 64 sections lie side by side, because an overwrite moves a section from one
row to the next: that touches one cache line. A second level marks the words that are not empty.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kml_envs.compiling import compiled
from kml_envs.lfs.state import dirty_row, index_summary, index_words, population


@intrinsic  # type: ignore[untyped-decorator]
def trailing_zeros(typing_context: Any, word: Any) -> Any:
    """Number of zero bits below the lowest set bit of a 64-bit word; 64 for zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], cgutils.false_bit)

    return types.uint64(types.uint64), generate


@compiled
def add_section(volume: Any, row: int, section: int) -> None:
    """Put a section into a row."""
    word, bit = section >> 6, np.uint64(1) << np.uint64(section & 63)
    if index_words(volume)[word, row] == 0:
        index_summary(volume)[row, word >> 6] |= np.uint64(1) << np.uint64(word & 63)
    index_words(volume)[word, row] |= bit
    population(volume)[row] += 1


@compiled
def remove_section(volume: Any, row: int, section: int) -> None:
    """Take a section out of a row."""
    word, bit = section >> 6, np.uint64(1) << np.uint64(section & 63)
    index_words(volume)[word, row] &= ~bit
    if index_words(volume)[word, row] == 0:
        index_summary(volume)[row, word >> 6] &= ~(np.uint64(1) << np.uint64(word & 63))
    population(volume)[row] -= 1


@compiled
def first_section(volume: Any, row: int, start: int) -> int:
    """The first section of a row at or after `start`, or -1."""
    word = start >> 6
    if word >= volume.word_count:
        return -1
    bits = index_words(volume)[word, row] & (~np.uint64(0) << np.uint64(start & 63))
    if bits != 0:
        return np.int64(word << 6) + np.int64(trailing_zeros(bits))
    word += 1
    group = word >> 6
    if group >= volume.group_count:
        return -1
    bits = index_summary(volume)[row, group] & (~np.uint64(0) << np.uint64(word & 63))
    while bits == 0:
        group += 1
        if group == volume.group_count:
            return -1
        bits = index_summary(volume)[row, group]
    word = np.int64(group << 6) + np.int64(trailing_zeros(bits))
    return (word << 6) + np.int64(trailing_zeros(index_words(volume)[word, row]))


@compiled
def first_section_around(volume: Any, row: int, start: int) -> int:
    """The first section of a row at or after `start`, from section 0 on if there is none; -1 if the row is empty."""
    found = first_section(volume, row, start)
    return found if found >= 0 else first_section(volume, row, 0)


@compiled
def fewest_valid(volume: Any) -> int:
    """The smallest valid count that a dirty section has, or -1 if no section is dirty."""
    if population(volume)[dirty_row(volume)] == 0:
        return -1
    row = 0
    while population(volume)[row] == 0:
        row += 1
    return row
