"""Upper bounds of what any policy could reach in the memory model, with knowledge that no agent has.

The clairvoyant oracle of reclaim knows when each page is touched next. It pages out at once every page whose next touch
is further away than the break-even time, at which what the empty page saves has paid for its way out and back (the
ski-rental problem with its answer known); a page that is not touched again within the episode pays for its way out.
The clairvoyant oracle of placement knows how often each extent will be touched. It is allowed the best placement that
never changes, and the best of some that follow the pattern.

Neither is proven optimal. The reclaim oracle sees touches of sampled pages on a grid of an eighth of the break-even
time; the placement oracle looks ahead by a few fixed horizons, and pays for what it moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kml_envs.damon.memory_config import MemoryConfig
from kml_envs.damon.memory_state import extent_edges, mean_touches_per_s
from kml_envs.workloads.access import PAGE_BYTES, AccessTable

SAVING_WEIGHT = 0.5
SLOWDOWN_WEIGHT = 0.5
STEPS_PER_BREAK_EVEN = 8
SAMPLED_PAGES = 4
"""Pages drawn from each range between two borders of the pattern."""

HORIZONS_S = (2.0, 10.0, 60.0, 300.0)
_MOST_CELLS = 1 << 24
_MOST_STEPS = 100_000

_FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ReclaimBound:
    """What the oracle of reclaim reaches.

    Attributes:
        saving: Memory saved, as a share of the program's.
        slowdown: Time waited for faults, as a share of the time.
        score: SAVING_WEIGHT * saving - SLOWDOWN_WEIGHT * slowdown.
        break_even_s: Idle time from which paging out pays.
    """

    saving: float
    slowdown: float
    score: float
    break_even_s: float


@dataclass(frozen=True)
class PlacementBound:
    """What the oracle of placement reaches: slowdowns against all-fast memory, as shares of the time.

    Attributes:
        static: Of the best placement that never changes.
        dynamic: Of the best placement found that follows the pattern, what it moves included; at most `static`.
        free: Of the placement that would be best at every moment if moving cost nothing: no policy is below it.
    """

    static: float
    dynamic: float
    free: float


def break_even_s(config: MemoryConfig, size: int) -> float:
    """Idle time at which paging out one page gains as much in the score as its fault costs.

    A page out of memory for T seconds saves T * (1 - swap share) / pages, in shares of the memory times seconds; its
    fault keeps a thread waiting, and paging it out takes kdamond's time.

    Args:
        config: The machine.
        size: Bytes of the program.
    """
    wait_s = (_fault_stall_us(config) + _write_stall_us(config)) * 1e-6
    saved_per_s = (1.0 - config.swap.memory_share) / (size / PAGE_BYTES)
    return SLOWDOWN_WEIGHT * wait_s / (SAVING_WEIGHT * saved_per_s)


def reclaim_bound(
    table: AccessTable, config: MemoryConfig, duration_s: float, *, origin_us: int = 0, seed: int = 0
) -> ReclaimBound:
    """The clairvoyant bound of reclaim on a pattern whose memory is all resident in the beginning.

    Args:
        table: The pattern.
        config: The machine.
        duration_s: Length of the episode.
        origin_us: Where in the pattern it begins.
        seed: Of the sampled pages' touches.
    """
    limit_s = break_even_s(config, table.size)
    steps = int(np.clip(np.ceil(duration_s / limit_s * STEPS_PER_BREAK_EVEN), 1, _MOST_STEPS))
    one_way_s = limit_s * _write_stall_us(config) / (_fault_stall_us(config) + _write_stall_us(config))
    [found] = _paged_out(table, duration_s, steps, [_Rule(limit_s, one_way_s, 0.0)], origin_us, seed)
    saving, slowdown = _gained(table, config, duration_s, found)
    return ReclaimBound(saving, slowdown, SAVING_WEIGHT * saving - SLOWDOWN_WEIGHT * slowdown, limit_s)


def idle_threshold_scores(
    table: AccessTable,
    config: MemoryConfig,
    duration_s: float,
    thresholds_s: Sequence[float],
    *,
    origin_us: int = 0,
    seed: int = 0,
) -> _FloatArray:
    """Scores of paging out every page that has been idle for a time, were the idleness of each page known for nothing.

    It tells what thresholds on idle time are worth from what the monitor does not see.

    Args:
        table: The pattern.
        config: The machine.
        duration_s: Length of the episode.
        thresholds_s: (K,) idle times.
        origin_us: Where in the pattern it begins.
        seed: Of the sampled pages' touches.

    Returns:
        (K,) float64.
    """
    steps = int(np.clip(np.ceil(duration_s / min(thresholds_s) * STEPS_PER_BREAK_EVEN), 1, _MOST_STEPS))
    rules = [_Rule(each, each, each) for each in thresholds_s]
    gained = [
        _gained(table, config, duration_s, found)
        for found in _paged_out(table, duration_s, steps, rules, origin_us, seed)
    ]
    return np.array([SAVING_WEIGHT * saving - SLOWDOWN_WEIGHT * slowdown for saving, slowdown in gained])


class _Rule(NamedTuple):
    """Which times without a touch are spent out of memory: those that are longer than so many seconds.

    Attributes:
        until_touch_s: Where a touch ends them.
        until_end_s: Where the episode does.
        lag_s: What of each is spent in memory still.
    """

    until_touch_s: float
    until_end_s: float
    lag_s: float


class _PagedOut(NamedTuple):
    """What a page's mean is, in an episode: seconds out of memory, ways out, ways back."""

    out_s: float
    writes: float
    faults: float


def _fault_stall_us(config: MemoryConfig) -> float:
    return config.swap.fault_us / config.threads


def _write_stall_us(config: MemoryConfig) -> float:
    return config.swap.write_us * config.interference


def _gained(table: AccessTable, config: MemoryConfig, duration_s: float, found: _PagedOut) -> tuple[float, float]:
    """Saving and slowdown."""
    stall_us = found.faults * _fault_stall_us(config) + found.writes * _write_stall_us(config)
    saving = found.out_s / duration_s * (1.0 - config.swap.memory_share)
    return saving, table.size / PAGE_BYTES * stall_us * 1e-6 / duration_s


def _paged_out(
    table: AccessTable,
    duration_s: float,
    steps: int,
    rules: Sequence[_Rule],
    origin_us: int,
    seed: int,
) -> list[_PagedOut]:
    """What becomes of a page in mean, under each rule."""
    step_s = duration_s / steps
    edges = extent_edges(table, wanted=1)
    weights = np.repeat(np.diff(edges) / edges[-1] / SAMPLED_PAGES, SAMPLED_PAGES)
    random = np.random.default_rng(seed)
    times = np.asarray(origin_us + np.arange(steps + 1) * step_s * 1e6, np.float64)
    found = np.zeros((len(rules), 3))
    rows = max(1, _MOST_CELLS // (steps * SAMPLED_PAGES))
    for first in range(0, edges.size - 1, rows):
        behind = min(first + rows, edges.size - 1)
        touched = _drawn_touches(table, edges[first : behind + 1], times, random)
        weight = weights[first * SAMPLED_PAGES : behind * SAMPLED_PAGES]
        for number, rule in enumerate(rules):
            out, writes, faults = _long_gaps(touched, *(seconds / step_s for seconds in rule))
            found[number] += (out * weight).sum() * step_s, (writes * weight).sum(), (faults * weight).sum()
    return [_PagedOut(*map(float, each)) for each in found]


def placement_bound(
    table: AccessTable, config: MemoryConfig, duration_s: float, *, origin_us: int = 0
) -> PlacementBound:
    """The clairvoyant bound of placement on two nodes.

    Args:
        table: The pattern.
        config: The machine; its node 0 holds the program but for the low watermark.
        duration_s: Length of the episode.
        origin_us: Where in the pattern it begins.
    """
    fast = config.fast_bytes or table.size * 5 // 4
    room = fast / PAGE_BYTES * (1.0 - config.low_permil / 1000)
    edges = extent_edges(table)
    pages = np.diff(edges) / PAGE_BYTES
    times = _phase_times(table, origin_us, duration_s)
    touches = _touches_between(table, edges, times)
    seconds = np.diff(times) * 1e-6
    mean_rate = max(mean_touches_per_s(table), 1e-300)
    per_touch = config.memory_bound * (config.slow_latency_ratio - 1.0) / mean_rate
    # A program cannot wait longer than the time there is: where it touches the most, a single touch costs less.
    activity = (touches * pages[:, None]).sum(axis=0) / seconds / mean_rate
    touches = touches / np.maximum(1.0, config.memory_bound * activity)
    moving_s = (config.migration_stall_us / config.threads + config.migration_us * config.interference) * 1e-6

    def cost(placement: _FloatArray) -> float:
        """Seconds waited: touches of what is not on node 0, (E, S) shares, and what is moved into it and out of it."""
        missed = ((1.0 - placement) * touches * pages[:, None]).sum() * per_touch
        moved = (np.abs(np.diff(placement, axis=1)) * pages[:, None]).sum()
        return float(missed + moved * moving_s)

    static = np.repeat(_fullest(touches.sum(axis=1), pages, room)[:, None], seconds.size, axis=1)
    ideal = np.stack([_fullest(touches[:, now], pages, room) for now in range(seconds.size)], axis=1)
    free = float(((1.0 - ideal) * touches * pages[:, None]).sum() * per_touch)
    candidates = [cost(static)]
    for horizon in HORIZONS_S:
        placed = _following(touches, seconds, pages, room, horizon, moving_s / per_touch, static[:, 0])
        candidates.append(cost(placed))
    return PlacementBound(candidates[0] / duration_s, min(candidates) / duration_s, free / duration_s)


def _fullest(value: _FloatArray, pages: _FloatArray, room: float) -> _FloatArray:
    """Fill node 0 with the extents of the highest value per page; the share of each (E,) that is on it."""
    order = np.argsort(-value, kind="stable")
    before = np.cumsum(pages[order]) - pages[order]
    share = np.empty(value.size)
    share[order] = np.clip((room - before) / pages[order], 0.0, 1.0)
    return share


def _following(
    touches: _FloatArray,
    seconds: _FloatArray,
    pages: _FloatArray,
    room: float,
    horizon_s: float,
    moving_touches: float,
    first: _FloatArray,
) -> _FloatArray:
    """A placement that is refilled at every phase by the touches within the horizon.

    What is on node 0 already counts more by the touches that moving it out and another in costs, so that it stays
    unless the exchange pays within the horizon.
    """
    starts = np.concatenate([[0.0], np.cumsum(seconds)])
    placed = np.empty_like(touches)
    current = first
    for now in range(seconds.size):
        behind = max(now + 1, int(np.searchsorted(starts, starts[now] + horizon_s, side="right")) - 1)
        value = touches[:, now:behind].sum(axis=1) + 2.0 * moving_touches * current
        current = _fullest(value, pages, room)
        placed[:, now] = current
    return placed


def _phase_times(table: AccessTable, origin_us: int, duration_s: float) -> _FloatArray:
    """Times in the pattern at which phases change during an episode, its beginning and end included."""
    end_us = origin_us + duration_s * 1e6
    cycle = int(table.phase_end_us[-1])
    turns = np.arange(origin_us // cycle, 1 if table.once else int(end_us // cycle) + 1)
    borders = (turns[:, None] * cycle + table.phase_end_us).ravel()
    inside = borders[(borders > origin_us) & (borders < end_us)]
    return np.concatenate([[origin_us], inside, [end_us]]).astype(np.float64)


def _touches_between(table: AccessTable, edges: NDArray[np.int64], times: _FloatArray) -> _FloatArray:
    """Expected touches of a page of each extent (E, T) between consecutive times in the pattern."""
    cycle = int(table.phase_end_us[-1])
    phases = table.phase_end_us.size
    rates = np.zeros((edges.size - 1, phases))
    for phase in range(phases):
        low, high = table.first_range[phase], table.first_range[phase + 1]
        swept = table.sweep_us[low:high] > 0
        rate = np.where(swept, 1e6 / np.where(swept, table.sweep_us[low:high], 1.0), table.rate[low:high])
        covered = np.concatenate([[0.0], np.cumsum(rate * (table.end[low:high] - table.start[low:high]))])
        points = np.stack([table.start[low:high], table.end[low:high]], axis=1).ravel()
        sums = np.stack([covered[:-1], covered[1:]], axis=1).ravel()
        at_edge = np.interp(edges, points, sums) if points.size else np.zeros(edges.size)
        rates[:, phase] = np.diff(at_edge) / np.diff(edges)
    lengths = np.diff(table.phase_end_us, prepend=0) * 1e-6
    total = np.concatenate([np.zeros((edges.size - 1, 1)), np.cumsum(rates * lengths, axis=1)], axis=1)
    ends = np.concatenate([[0], table.phase_end_us])
    turn = np.zeros_like(times) if table.once else np.floor(times / cycle)
    inside = np.minimum(times - turn * cycle, cycle)
    result = np.empty((edges.size - 1, times.size))
    for row in range(edges.size - 1):
        result[row] = np.interp(inside, ends, total[row]) + turn * total[row, -1]
    return np.asarray(np.diff(result, axis=1))


def _drawn_touches(
    table: AccessTable, edges: NDArray[np.int64], times: _FloatArray, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Whether each of SAMPLED_PAGES pages of each extent is touched in each step: (extents * pages, steps).

    The touches of swept pages come at even distances, from a place that is drawn for each page.
    """
    expected = np.repeat(_touches_between(table, edges, times), SAMPLED_PAGES, axis=0)
    swept = np.repeat(_is_swept(table, edges), SAMPLED_PAGES)
    touched = random.random(expected.shape) < -np.expm1(-expected)
    if swept.any():
        passed = np.cumsum(expected[swept], axis=1) + random.random((np.count_nonzero(swept), 1))
        touched[swept] = np.floor(passed) > np.floor(passed - expected[swept])
    return touched


def _is_swept(table: AccessTable, edges: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each extent (E,) is only touched by sweeps."""
    at = np.zeros((2, edges.size - 1))
    for kind, chosen in enumerate((table.sweep_us > 0, (table.sweep_us <= 0) & (table.rate > 0))):
        change = np.zeros(edges.size)
        np.add.at(change, np.searchsorted(edges, np.clip(table.start[chosen], edges[0], edges[-1])), 1.0)
        np.add.at(change, np.searchsorted(edges, np.clip(table.end[chosen], edges[0], edges[-1])), -1.0)
        at[kind] = np.cumsum(change)[:-1]
    return np.asarray((at[0] > 0) & (at[1] == 0))


def _long_gaps(
    touched: NDArray[np.bool_], limit: float, limit_at_end: float, lag: float
) -> tuple[_FloatArray, _FloatArray, _FloatArray]:
    """Of each row (N, T): steps out of memory, ways out and ways back, under a rule in steps."""
    count, steps = touched.shape
    row, step = np.nonzero(touched)
    begins = np.diff(row, prepend=-1) != 0
    before = np.where(begins, 0, np.roll(step, 1))
    gap = (step - before).astype(np.float64)
    long = gap > limit
    out = np.asarray(np.bincount(row[long], gap[long] - lag, count), np.float64)
    faults = np.bincount(row[long], minlength=count).astype(np.float64)
    last = np.full(count, -1)
    last[row] = step  # of repeated rows the last assignment stays
    tail = (steps - 1 - last).astype(np.float64)
    stays_out = tail > limit_at_end
    return out + np.where(stays_out, tail - lag, 0.0), faults + stays_out, faults
