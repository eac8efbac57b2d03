"""The numbers of a comparison: normalized scores, interquartile means with their uncertainty, geometric means.

Interquartile mean and stratified bootstrap follow Agarwal et al., "Deep reinforcement learning at the edge of the
statistical precipice", NeurIPS 2021: a mean over few runs is ruled by its outliers, a median ignores most of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]

REPETITIONS = 2000
CONFIDENCE = 0.95
NO_HEADROOM = 0.01  # of the user blocks: below, built-in and oracle are as good as equal


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval."""

    estimate: float
    low: float
    high: float


def normalized_score(
    builtin: FloatArray, policy: FloatArray, oracle: FloatArray, user_blocks: FloatArray
) -> FloatArray:
    """How much of the way from the built-in algorithm to the oracle a policy goes: 0 = built-in, 1 = oracle.

    Args:
        builtin: (W, S) blocks moved by the built-in algorithm, by workload and seed.
        policy: (W, S) blocks moved by the policy on the same episodes.
        oracle: (W, S) blocks moved by the oracle on the same episodes.
        user_blocks: (W, S) blocks written by the user.

    Returns:
        (W, S); NaN where the oracle saves less than `NO_HEADROOM` of the user blocks: there is nothing to win.
    """
    headroom = builtin - oracle
    score = np.full(headroom.shape, np.nan)
    np.divide(builtin - policy, headroom, out=score, where=headroom > NO_HEADROOM * user_blocks)
    return score


def interquartile_mean(values: FloatArray) -> float:
    """Mean of the middle half of all values; NaN entries are left out, and of no values it is NaN."""
    known = np.sort(values[~np.isnan(values)])
    cut = known.size // 4
    return float(known[cut : known.size - cut].mean()) if known.size else float("nan")


def bootstrap_interval(
    values: FloatArray,
    statistic: Callable[[FloatArray], float] = interquartile_mean,
    *,
    repetitions: int = REPETITIONS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of a statistic, stratified: seeds are drawn anew within each workload.

    Args:
        values: (W, S), by workload and seed.
        statistic: Of an array of the same shape.
        repetitions: Bootstrap samples.
        confidence: Of the interval.
        seed: Of the draws.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.integers(values.shape[1], size=(repetitions, *values.shape))
    samples = np.take_along_axis(np.broadcast_to(values, drawn.shape), drawn, axis=2)
    estimates = np.array([statistic(sample) for sample in samples])
    estimates = estimates[~np.isnan(estimates)]
    if not estimates.size:
        return Interval(statistic(values), float("nan"), float("nan"))
    low, high = np.quantile(estimates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(statistic(values), float(low), float(high))


def geometric_mean(values: FloatArray) -> FloatArray:
    """Geometric mean over the last axis, of positive values; NaN where one is unknown."""
    return np.asarray(np.exp(np.log(values).mean(axis=-1)))
