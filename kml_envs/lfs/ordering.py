"""A stable sort for compiled code: numba compiles NumPy's for several seconds, this one for a fraction of one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import compiled


@compiled
def stable_order(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions of an array's items from the smallest to the largest, equal ones as they come.

    Args:
        keys: (K,) int64.

    Returns:
        (K,) int64, as `numpy.argsort(keys, kind="stable")`.
    """
    count = keys.size
    order, merged = np.empty(count, np.int64), np.empty(count, np.int64)
    for position in range(count):
        order[position] = position
    width = 1
    while width < count:
        for begin in range(0, count, 2 * width):
            middle, end = min(begin + width, count), min(begin + 2 * width, count)
            left, right = begin, middle
            for position in range(begin, end):
                if left < middle and (right >= end or keys[order[left]] <= keys[order[right]]):
                    merged[position] = order[left]
                    left += 1
                else:
                    merged[position] = order[right]
                    right += 1
        order, merged = merged, order
        width *= 2
    return order
