r"""The compact file of a bundled trace: three columns of variable-length integers, compressed by LZMA.

A file is one xz stream. Inside: the eight bytes ``KMLBLK1\n``, then the number of requests R and the byte lengths of
the three columns as four little-endian unsigned 32-bit integers, then the columns, R integers each:

1. time since the request before, in ticks of 100 microseconds (the first request is at 0),
2. first block minus the end of the request before (0 when it goes on where that one ended), zigzag-coded: 0, -1, 1, -2
   become 0, 1, 2, 3,
3. blocks of the request minus 1.

Integers are LEB128: seven bits to a byte, the lowest first, the top bit set in all bytes but the last.
"""

from __future__ import annotations

import lzma
import struct
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

TICK_US = 100

_MAGIC = b"KMLBLK1\n"
_HEADER = struct.Struct("<8s4I")
_BITS_PER_BYTE = 7
# lc/lp/pb suit bytes that have no alignment; the dictionary need not be larger than a file's columns.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 22, "lc": 0, "pb": 0}]


def encode(time_us: NDArray[np.int64], first_block: NDArray[np.int64], block_count: NDArray[np.int64]) -> bytes:
    """Return the content of a trace file.

    Args:
        time_us: Shape (R,), arrival times in microseconds: non-decreasing, from 0, whole ticks.
        first_block: Shape (R,), block addresses.
        block_count: Shape (R,), blocks of each request, at least 1.
    """
    end = np.concatenate(([0], (first_block + block_count)[:-1]))
    columns = [
        encode_integers(np.diff(time_us // TICK_US, prepend=0)),
        encode_integers(zigzag(first_block - end)),
        encode_integers(block_count - 1),
    ]
    header = _HEADER.pack(_MAGIC, len(first_block), *(len(column) for column in columns))
    return lzma.compress(header + b"".join(columns), filters=FILTERS)


def decode(content: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return arrival times in microseconds, first blocks and block counts, shape (R,) each.

    Args:
        content: A whole trace file.

    Raises:
        ValueError: It is not a trace file, or it is damaged.
    """
    try:
        plain = lzma.decompress(content)
        magic, requests, *lengths = _HEADER.unpack_from(plain)
    except (lzma.LZMAError, struct.error) as error:
        raise ValueError(f"not a trace file: {error}") from error
    if magic != _MAGIC or len(plain) != _HEADER.size + sum(lengths):
        raise ValueError("not a trace file: wrong header")
    borders = np.cumsum([_HEADER.size, *lengths])
    data = np.frombuffer(plain, dtype=np.uint8)
    ticks, steps, lengths_less_one = (decode_integers(data[start:stop]) for start, stop in pairwise(borders))
    if not requests == len(ticks) == len(steps) == len(lengths_less_one):
        raise ValueError("damaged trace file: columns of different lengths")
    block_count = lengths_less_one + 1
    # The end of a request is the sum of all steps and lengths up to it.
    first_block = np.cumsum(undo_zigzag(steps) + block_count) - block_count
    return np.cumsum(ticks) * TICK_US, first_block, block_count


def zigzag(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Code integers as non-negative ones: 0, -1, 1, -2 become 0, 1, 2, 3."""
    return (values << 1) ^ (values >> 63)


def undo_zigzag(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the integers that `zigzag` coded."""
    return (values >> 1) ^ -(values & 1)


def encode_integers(values: NDArray[np.int64]) -> bytes:
    """Return non-negative integers, shape (R,), as LEB128."""
    bytes_of_each = np.ones(len(values), dtype=np.int64)
    for place in range(1, 9):
        bytes_of_each += values >= 1 << (_BITS_PER_BYTE * place)
    start = np.cumsum(bytes_of_each) - bytes_of_each
    coded = np.zeros(int(bytes_of_each.sum()), dtype=np.uint8)
    for place in range(int(bytes_of_each.max(initial=0))):
        has = bytes_of_each > place
        more = (bytes_of_each[has] > place + 1).astype(np.int64) << _BITS_PER_BYTE
        coded[start[has] + place] = (values[has] >> (_BITS_PER_BYTE * place)) & 0x7F | more
    return coded.tobytes()


def decode_integers(coded: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the integers, shape (R,), of LEB128 bytes."""
    last = np.flatnonzero(coded < 0x80)
    if len(coded) and (len(last) == 0 or last[-1] != len(coded) - 1):
        raise ValueError("damaged trace file: a column ends within an integer")
    start = np.concatenate(([0], last + 1))[:-1]
    first_byte = coded[start]
    values = (first_byte & 0x7F).astype(np.int64)
    longer = np.flatnonzero(first_byte >= 0x80)
    place = 1
    while len(longer):
        byte = coded[start[longer] + place]
        values[longer] |= (byte & 0x7F).astype(np.int64) << (_BITS_PER_BYTE * place)
        longer = longer[byte >= 0x80]
        place += 1
    return values
