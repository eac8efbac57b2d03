"""An index of sections by valid count: one bitmap a count, so that the emptiest section is found at once.

Greedy cleaning wants the section with the fewest valid blocks and, as F2FS scans upwards from where the last
scan ended, the first such section at or after a given number. A bitmap per valid count answers both. Rows are:

* 0..B-1: the dirty sections with that many valid blocks, B blocks a section;
* `prefree_row`, `dirty_row`, `free_row`: the sections in that state.

The words of all rows for the same 64 sections lie side by side, because an overwrite moves a section from one
row to the next: that touches one cache line. A second level marks the words that are not empty.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled, highest_bit, lowest_bit
from kml_envs.lfs.volume import dirty_row, group_count, index_rows, index_summary, index_words, population


@compiled
def add_section(volume: Record, row: int, section: int) -> None:
    """Put a section into a row."""
    word = section >> 6
    index_words(volume)[word * index_rows(volume) + row] |= np.uint64(1) << np.uint64(section & 63)
    index_summary(volume)[row * group_count(volume) + (word >> 6)] |= np.uint64(1) << np.uint64(word & 63)
    population(volume)[row] += 1


@compiled
def remove_section(volume: Record, row: int, section: int) -> None:
    """Take a section out of a row."""
    word = section >> 6
    cell = word * index_rows(volume) + row
    left = index_words(volume)[cell] & ~(np.uint64(1) << np.uint64(section & 63))
    index_words(volume)[cell] = left
    # Whether the word becomes empty is a coin toss: shifted, not branched.
    index_summary(volume)[row * group_count(volume) + (word >> 6)] &= ~(np.uint64(left == 0) << np.uint64(word & 63))
    population(volume)[row] -= 1


@compiled
def first_section(volume: Record, row: int, start: int) -> int:
    """The first section of a row at or after `start`, or -1."""
    word = start >> 6
    if word >= volume.word_count:
        return -1
    bits = index_words(volume)[word * index_rows(volume) + row] & (~np.uint64(0) << np.uint64(start & 63))
    if bits != 0:
        return (word << 6) + lowest_bit(bits)
    word += 1
    group = word >> 6
    groups = group_count(volume)
    if group >= groups:
        return -1
    bits = index_summary(volume)[row * groups + group] & (~np.uint64(0) << np.uint64(word & 63))
    while bits == 0:
        group += 1
        if group == groups:
            return -1
        bits = index_summary(volume)[row * groups + group]
    word = (group << 6) + lowest_bit(bits)
    return (word << 6) + lowest_bit(index_words(volume)[word * index_rows(volume) + row])


@compiled
def last_section(volume: Record, row: int) -> int:
    """The last section of a row, or -1."""
    groups = group_count(volume)
    for group in range(groups - 1, -1, -1):
        bits = index_summary(volume)[row * groups + group]
        if bits != 0:
            word = (group << 6) + highest_bit(bits)
            return (word << 6) + highest_bit(index_words(volume)[word * index_rows(volume) + row])
    return -1


@compiled
def first_section_around(volume: Record, row: int, start: int) -> int:
    """The first section of a row at or after `start`, from section 0 on if there is none; -1 if the row is empty."""
    found = first_section(volume, row, start)
    return found if found >= 0 else first_section(volume, row, 0)


@compiled
def fewest_valid(volume: Record) -> int:
    """The smallest valid count that a dirty section has, or -1 if no section is dirty."""
    if population(volume)[dirty_row(volume)] == 0:
        return -1
    row = 0
    while population(volume)[row] == 0:
        row += 1
    return row
