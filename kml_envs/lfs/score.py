"""The linear victim score that `kml/LfsTune-v0` tunes, and a logarithm cheap enough to take for every candidate."""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, bits_of_float, compiled, float_of_bits, lowest_bit
from kml_envs.lfs.volume import (
    dirty_row,
    index_rows,
    index_words,
    mtimes,
    section_valid,
    sections,
    segments_per_section,
    slots_per_section,
)

_MANTISSA = np.uint64((1 << 52) - 1)
_ONE = np.uint64(1023 << 52)
_EXPONENT_BIAS = 1023


@compiled
def linear_score(weights: Record, u: float, age: float, quiet: float, coldness: float) -> float:
    """Score of a section; the highest is cleaned.

    −u + 2 (a0 u² + a1 m + a2 m u + a3 i + a4 i u + c (a5 + a6 u + a7 m)), see `LfsTuneEnv` for the letters.

    Args:
        weights: (8,) float64, a0 to a7.
        u: Valid share, 0..1.
        age: Time since mtime, in volumes of user writes.
        quiet: User writes since the last invalidation, in sections.
        coldness: The log that wrote the section, 0 the first to 1 the last.

    Returns:
        The score.
    """
    m = 0.25 * log2(1.0 + 16.0 * age)
    i = 0.25 * log2(1.0 + quiet)
    extra = u * (weights[0] * u + weights[2] * m + weights[4] * i) + weights[1] * m + weights[3] * i
    extra += coldness * (weights[5] + weights[6] * u + weights[7] * m)
    return -u + 2.0 * extra


@compiled
def log2(x: float) -> float:
    """log2 of a number of at least 1, to within 1.6e-5: exponent plus a polynomial that is exact at powers of two."""
    bits = bits_of_float(x)
    exponent = np.int64(bits >> np.uint64(52)) - _EXPONENT_BIAS
    z = float_of_bits((bits & _MANTISSA) | _ONE) - 1.0
    curve = 0.4419166741131819 + z * (-0.26717645459870043 + z * (0.14842011636315822 - z * 0.04514482349195835))
    return exponent + z + z * (1.0 - z) * curve


@compiled
def dirty_word(volume: Record, step: int, start: int) -> tuple[int, int]:
    """A word of the bitmap of dirty sections, in scan order from `start` upwards and around.

    Args:
        volume: The VOLUME record.
        step: 0 to the number of words, both included: the word of `start` comes first, for the sections from
            `start` on, and last, for those before it.
        start: Section where the scan begins.

    Returns:
        First section of the word, and its bits as uint64.
    """
    words = volume.word_count
    word = (start >> 6) + step
    if word >= words:
        word -= words
    bits = index_words(volume)[word * index_rows(volume) + dirty_row(volume)]
    from_start = ~np.uint64(0) << np.uint64(start & 63)
    if step == 0:
        bits &= from_start
    elif step == words:
        bits &= ~from_start
    return word << 6, bits


@compiled
def best_score(volume: Record, start: int) -> int:
    """The dirty section with the highest score, the first in scan order from `start` among equals; -1 if none."""
    weights = volume.settings.score
    of_section, of_volume = 1.0 / slots_per_section(volume), 1.0 / volume.block_count
    of_log = 1.0 / max(volume.settings.logs - 1, np.int64(1))
    clock, now = volume.clock, volume.user_writes
    best, highest = np.int64(-1), -np.inf
    for step in range(volume.word_count + 1):
        first, bits = dirty_word(volume, step, start)
        while bits != 0:
            section = first + lowest_bit(bits)
            bits &= bits - np.uint64(1)
            record = sections(volume)[section]
            age = (clock - section_mtime(volume, section)) * of_volume
            quiet = (now - record.last_invalidation) * of_section
            score = linear_score(weights, section_valid(volume)[section] * of_section, age, quiet, record.log * of_log)
            if score > highest:
                best, highest = section, score
    return best


@compiled
def section_mtime(volume: Record, section: int) -> int:
    """Mean mtime of a section's segments, floored, in units of the age clock."""
    count = segments_per_section(volume)
    if count == 1:
        return mtimes(volume)[section]
    total = np.int64(0)
    for segment in range(section * count, (section + 1) * count):
        total += mtimes(volume)[segment]
    return total // count
