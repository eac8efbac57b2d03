"""Skewed choice of keys, with the popular ones spread over the whole key space."""

from __future__ import annotations

import random

_SPREADING_PRIME = 2_654_435_761


def skewed_key(generator: random.Random, keys: int, exponent: float = 3.0) -> int:
    """Draw a key whose popularity falls as a power of its rank.

    A uniform number to the power of `exponent` is the rank's share: with 3, half of all draws fall on an eighth of the
    keys. Ranks are then scattered by a multiplicative hash, since popular rows are seldom neighbours in a table.

    Args:
        generator: Source of randomness.
        keys: Number of keys.
        exponent: 1 is uniform, more is more skewed.
    """
    rank = int(keys * generator.random() ** exponent)
    return rank * _SPREADING_PRIME % keys
