"""Binomial draws from a table: how many samples of an aggregation find an access.

A number of trials is the sum of powers of two, and the draw the sum of one draw for each; so one table serves all. It
holds an alias table (Walker 1977) for each power and each of LEVELS + 1 probabilities. A probability between two of
them becomes one of the two at random, such that the mean is exact; the variance grows by less than
trials**2 / (4 * LEVELS**2).
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled, highest_bit
from kml_envs.workloads.source import ALIAS, build_alias, next_random, random_unit

LEVELS = 1024
LARGEST_POWER = 6


@functools.cache
def binomial_table() -> NDArray[np.void]:
    """Build the table: for each power k, LEVELS + 1 rows of 2**k + 1 ALIAS entries."""
    probability = np.linspace(0.0, 1.0, LEVELS + 1)[:, None]
    tables = []
    for power in range(LARGEST_POWER + 1):
        trials = 1 << power
        hits = np.arange(trials + 1)
        ways = np.array([math.comb(trials, hit) for hit in hits], np.float64)
        share = ways * probability**hits * (1.0 - probability) ** (trials - hits) * (trials + 1)
        order = np.argsort(-share, axis=1, kind="stable")
        table = np.empty(share.shape, ALIAS)
        _build_rows(np.take_along_axis(share, order, 1), order, table)
        tables.append(table.ravel())
    return np.concatenate(tables)


@compiled
def draw_binomial(monitor: Record, table: Record, trials: int, probability: float) -> int:
    """Draw the number of successes.

    Args:
        monitor: A record with the state of a generator in `random`.
        table: `binomial_table`.
        trials: Number of trials.
        probability: Of a success in each.
    """
    scaled = probability * LEVELS
    level = np.int64(scaled)
    if scaled > level and random_unit(monitor) < scaled - level:
        level += 1
    if level <= 0:
        return 0
    if level >= LEVELS:
        return trials
    hits, left = 0, trials
    while left > 0:
        power = min(highest_bit(np.uint64(left)), LARGEST_POWER)
        count = (1 << power) + 1
        row = (LEVELS + 1) * (count - 2 + power) + level * count
        drawn = next_random(monitor)
        column = np.int64(((drawn >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32))
        entry = table[row + column]
        hits += column if (drawn & np.uint64(0xFFFFFFFF)) < entry.keep else np.int64(entry.other)
        left -= count - 1
    return hits


@compiled
def _build_rows(share: Record, order: Record, table: Record) -> None:
    # `build_alias` wants falling shares: build over ranks, then put every column where its value is.
    ranked = np.empty_like(table[0])
    for level in range(share.shape[0]):
        build_alias(share[level], ranked)
        for rank in range(ranked.size):
            value = order[level, rank]
            table[level, value].keep = ranked[rank].keep
            table[level, value].other = order[level, ranked[rank].other]
