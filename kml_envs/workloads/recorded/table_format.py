r"""The compact file of an access pattern: columns of variable-length integers, compressed by LZMA.

A file is one xz stream. Inside: the eight bytes ``KMLMEM1\n``, then pages, phases P and ranges R and the byte lengths
of the five columns as eight little-endian unsigned 32-bit integers, then the columns:

1. P lengths of phases in microseconds,
2. P numbers of ranges,
3. R distances of a range from the end of the range before it in the phase, in pages,
4. R lengths of ranges in pages, minus 1,
5. R rates as steps of a quarter octave, 2**(step / 4) touches per page and second, zigzag-coded.

Integers are those of the bundled block traces (`bundled/file_format.py`). Rates lose at most 9 % by that; neighbours
that get the same rate are one range. Patterns with sweeps cannot be written.
"""

from __future__ import annotations

import lzma
import struct
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kml_envs.workloads.access import PAGE_BYTES, AccessTable, validate
from kml_envs.workloads.bundled.file_format import (
    FILTERS,
    decode_integers,
    encode_integers,
    undo_zigzag,
    zigzag,
)

_MAGIC = b"KMLMEM1\n"
_HEADER = struct.Struct("<8s8I")
_STEPS_PER_OCTAVE = 4


def encode_table(table: AccessTable) -> bytes:
    """Return the content of the file of a pattern without sweeps."""
    phase = np.repeat(np.arange(table.phase_end_us.size), np.diff(table.first_range))
    start, end = table.start // PAGE_BYTES, table.end // PAGE_BYTES
    step = np.rint(np.log2(table.rate) * _STEPS_PER_OCTAVE).astype(np.int64)
    fresh = np.ones(start.size, np.bool_)
    fresh[1:] = (phase[1:] != phase[:-1]) | (start[1:] != end[:-1]) | (step[1:] != step[:-1])
    last = np.append(np.flatnonzero(fresh)[1:] - 1, start.size - 1)[: np.count_nonzero(fresh)]
    start, end, step, phase = start[fresh], end[last], step[fresh], phase[fresh]
    before = np.concatenate([[0], end[:-1]])
    before[np.diff(phase, prepend=-1) != 0] = 0
    columns = [
        encode_integers(np.diff(table.phase_end_us, prepend=0)),
        encode_integers(np.bincount(phase, minlength=table.phase_end_us.size)),
        encode_integers(start - before),
        encode_integers(end - start - 1),
        encode_integers(zigzag(step)),
    ]
    counts = (table.size // PAGE_BYTES, table.phase_end_us.size, start.size)
    header = _HEADER.pack(_MAGIC, *counts, *(len(column) for column in columns))
    return lzma.compress(header + b"".join(columns), filters=FILTERS)


def decode_table(content: bytes) -> AccessTable:
    """Return the pattern of a file.

    Raises:
        ValueError: It is not a file of a pattern, or it is damaged.
    """
    try:
        plain = lzma.decompress(content)
        magic, pages, phases, ranges, *lengths = _HEADER.unpack_from(plain)
    except (lzma.LZMAError, struct.error) as error:
        raise ValueError(f"not a file of an access pattern: {error}") from error
    if magic != _MAGIC or len(plain) != _HEADER.size + sum(lengths):
        raise ValueError("not a file of an access pattern: wrong header")
    borders = np.cumsum([_HEADER.size, *lengths])
    data = np.frombuffer(plain, np.uint8)
    length_us, counts, gap, pages_less_one, step = (decode_integers(data[low:high]) for low, high in pairwise(borders))
    if (length_us.size, counts.size) != (phases, phases) or not ranges == gap.size == pages_less_one.size == step.size:
        raise ValueError("damaged file of an access pattern: columns of different lengths")
    first_range = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    end = _restarting_sum(gap + pages_less_one + 1, first_range)
    return validate(
        AccessTable(
            np.cumsum(length_us),
            first_range,
            (end - pages_less_one - 1) * PAGE_BYTES,
            end * PAGE_BYTES,
            2.0 ** (undo_zigzag(step) / _STEPS_PER_OCTAVE),
            np.zeros(ranges),
            pages * PAGE_BYTES,
        ),
        "the recorded pattern",
    )


def _restarting_sum(values: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cumulative sum (R,) that begins anew at each of `first` (P + 1,)."""
    total = np.concatenate([[0], np.cumsum(values)])
    return np.asarray(total[1:] - np.repeat(total[first[:-1]], np.diff(first)))
