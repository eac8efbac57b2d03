"""Expected write amplification: closed forms and mean-field equations that a simulated volume must agree with.

All functions return user and relocated blocks written per user block, and take the *spare factor*: the share of the
space that holds no live block, counted over the space that the model knows. In the models there is one log, a
section is cleaned when its space is needed, and every section holds data. A file system keeps sections free beside
that, so the spare factor of a volume is `effective_spare` of it, not one minus its utilisation.

Symbols: T physical and U live blocks, spare factor Sf = (T - U) / T, alpha = T / U = 1 / (1 - Sf), b blocks a
section, W the principal branch of Lambert's function.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kml_envs.errors import UserError
from kml_envs.lfs.config import LfsConfig

BISECTIONS = 200
TOLERANCE = 1e-13


def effective_spare(config: LfsConfig) -> float:
    """The spare factor that the models of this module mean, for a volume that cleans by its free sections.

    Cleaning starts as soon as `trigger_sections` sections are free, which is when a log has just opened one. So at
    the moment when a victim is chosen that many sections hold nothing, and neither does the newly opened one: the
    rest of the main area is what the models call T. Logs beyond the first hold half a section on average.

    Args:
        config: The volume.

    Returns:
        Sf, in 0..1.
    """
    empty = config.trigger_sections + 1 + 0.5 * (config.placement.logs - 1)
    physical = (config.geometry.sections - empty) * config.geometry.blocks_per_section
    return 1.0 - config.geometry.volume_blocks / physical


def fifo_uniform(spare: float) -> float:
    """Oldest section first (FIFO, LRU) under uniform writes, any section size.

    WA = alpha / (alpha + W(-alpha exp(-alpha))): Desnoyers, "Analytic Modeling of SSD Write Performance", SYSTOR
    2012, eq. 6; Robinson, "Analysis of Steady-State Segment Storage Utilizations in a Log-Structured File System",
    1996; Xiang and Kurkoski, "An Improved Analytical Expression for Write Amplification in NAND Flash", 2012.

    Args:
        spare: Spare factor, in 0..1.

    Returns:
        Write amplification.
    """
    alpha = _alpha(spare)
    return alpha / (alpha + lambert_w(-alpha * math.exp(-alpha)))


def greedy_uniform(spare: float, blocks_per_section: int) -> float:
    """Fewest valid blocks first under uniform writes, with sections of a finite size.

    WA = b / (b - X + 1), X = 1/2 - (b / alpha) W(-k alpha exp(-k alpha)), k = 1 + 1 / (2 b): Desnoyers, "Analytic
    Models of SSD Write Performance", ACM Transactions on Storage 10(2), 2014, the approximation for greedy cleaning.
    It becomes `fifo_uniform` as sections grow.

    Args:
        spare: Spare factor, in 0..1.
        blocks_per_section: b.

    Returns:
        Write amplification.
    """
    alpha, size = _alpha(spare), blocks_per_section
    scaled = (1.0 + 1.0 / (2.0 * size)) * alpha
    fewest_valid = 0.5 - size / alpha * lambert_w(-scaled * math.exp(-scaled))
    return size / (size - fewest_valid + 1.0)


def choices_uniform(spare: float, blocks_per_section: int, choices: int) -> float:
    """Fewest valid blocks among a few sections drawn at random, under uniform writes.

    Mean field of Van Houdt, "A Mean Field Model for a Class of Garbage Collection Algorithms in Flash-based Solid
    State Drives", SIGMETRICS 2013, section 5. With m_i the share of sections that hold i valid blocks, S_i the
    share that holds at least i and p_i = S_i**d - S_{i+1}**d the chance that the victim holds i, the drift of
    every m_i vanishes: b l m_b = 1 - p_b and i l m_i + p_i = (i + 1) l m_{i+1}. The rate l is found by bisection
    so that the mean of i is (1 - Sf) b; then WA = b / sum_i p_i (b - i).

    Args:
        spare: Spare factor, in 0..1.
        blocks_per_section: b.
        choices: d, sections drawn; 1 is `random_uniform`, many are greedy.

    Returns:
        Write amplification.
    """
    _alpha(spare)
    wanted = (1.0 - spare) * blocks_per_section

    def excess(log_rate: float) -> float:
        shares, _ = _choice_shares(math.exp(log_rate), blocks_per_section, choices)
        return float(np.dot(np.arange(blocks_per_section + 1), shares)) - wanted

    # A higher rate of overwrites per cleaning leaves fewer valid blocks.
    rate = math.exp(_root(excess, math.log(1e-9), math.log(1e3)))
    _, chosen = _choice_shares(rate, blocks_per_section, choices)
    return blocks_per_section / float(np.dot(chosen, blocks_per_section - np.arange(blocks_per_section + 1)))


def random_uniform(spare: float) -> float:
    """A section drawn at random, under uniform writes: WA = 1 / Sf (Van Houdt 2013, d = 1).

    Args:
        spare: Spare factor, in 0..1.

    Returns:
        Write amplification.
    """
    _alpha(spare)
    return 1.0 / spare


def fifo_popularity(
    spare: float, probabilities: NDArray[np.float64], counts: NDArray[np.float64] | None = None
) -> float:
    """Oldest section first under independent writes of any popularity, all blocks in one log.

    A block is valid when its section is cleaned if it was not written for one turn of the log, which lasts
    tau = T / WA user writes: WA - 1 = sum_i p_i / (exp(p_i tau) - 1), solved by bisection. Desnoyers, "Analytic
    Models of SSD Write Performance", ACM Transactions on Storage 10(2), 2014, section on non-uniform traffic.

    Args:
        spare: Spare factor, in 0..1.
        probabilities: (K,) chance that the next write goes to one given block of kind k.
        counts: (K,) blocks of each kind; None: one each.

    Returns:
        Write amplification.
    """
    alpha = _alpha(spare)
    weights = np.ones_like(probabilities) if counts is None else counts
    physical = alpha * float(weights.sum())

    def excess(amplification: float) -> float:
        exponents = np.minimum(probabilities * physical / amplification, 700.0)
        return 1.0 + float(np.dot(weights, probabilities / np.expm1(exponents))) - amplification

    return _root(excess, 1.0 + 1e-12, 1.0 / spare + 1.0)


def fifo_zipf(spare: float, theta: float, blocks: int) -> float:
    """`fifo_popularity` where the k-th block is written with probability proportional to k**-theta.

    Args:
        spare: Spare factor, in 0..1.
        theta: Exponent.
        blocks: U.

    Returns:
        Write amplification.
    """
    probabilities = np.arange(1, blocks + 1, dtype=np.float64) ** -theta
    return fifo_popularity(spare, probabilities / probabilities.sum())


def fifo_hot_cold(spare: float, hot_writes: float, hot_blocks: float) -> float:
    """`fifo_popularity` where a share of the blocks gets a share of the writes, in the limit of a large volume.

    Args:
        spare: Spare factor, in 0..1.
        hot_writes: Share of writes that goes to hot blocks.
        hot_blocks: Share of blocks that is hot.

    Returns:
        Write amplification.
    """
    kinds = np.array([hot_writes / hot_blocks, (1.0 - hot_writes) / (1.0 - hot_blocks)])
    volume = 1e9  # only its being large matters: chances and counts are of single blocks
    return fifo_popularity(spare, kinds / volume, volume * np.array([hot_blocks, 1.0 - hot_blocks]))


def separated_pools(hot_spare: float, cold_spare: float, hot_writes: float) -> float:
    """Hot and cold blocks in pools of their own, each cleaned oldest first: the mean of two uniform volumes.

    Desnoyers 2014, section on hot/cold separation: WA = r A(alpha_hot) + (1 - r) A(alpha_cold).

    Args:
        hot_spare: Spare factor of the hot pool, in 0..1.
        cold_spare: Spare factor of the cold pool, in 0..1.
        hot_writes: r, share of writes that goes to hot blocks.

    Returns:
        Write amplification.
    """
    return hot_writes * fifo_uniform(hot_spare) + (1.0 - hot_writes) * fifo_uniform(cold_spare)


def best_separation(spare: float, hot_writes: float, hot_blocks: float) -> tuple[float, float, float]:
    """The split of the spare space between a hot and a cold pool that writes least.

    The optimum of Desnoyers 2014: f alpha_hot + (1 - f) alpha_cold = alpha, and both pools gain equally from one
    more block, r A'(alpha_hot) / f = (1 - r) A'(alpha_cold) / (1 - f), with A'(a) = w / ((1 + w)(a + w)) and
    w = W(-a exp(-a)).

    Args:
        spare: Spare factor of the whole, in 0..1.
        hot_writes: r, share of writes that goes to hot blocks.
        hot_blocks: f, share of blocks that is hot.

    Returns:
        Write amplification, spare factor of the hot pool, spare factor of the cold pool.
    """
    alpha = _alpha(spare)

    def cold_alpha(hot_alpha: float) -> float:
        return (alpha - hot_blocks * hot_alpha) / (1.0 - hot_blocks)

    def excess(hot_alpha: float) -> float:
        hot = hot_writes * _slope(hot_alpha) / hot_blocks
        cold = (1.0 - hot_writes) * _slope(cold_alpha(hot_alpha)) / (1.0 - hot_blocks)
        return cold - hot

    most = (alpha - (1.0 - hot_blocks)) / hot_blocks
    margin = 1e-5 * (most - 1.0)  # the derivative is infinite where a pool has no spare
    hot_alpha = _root(excess, 1.0 + margin, most - margin)
    spares = 1.0 - 1.0 / hot_alpha, 1.0 - 1.0 / cold_alpha(hot_alpha)
    return separated_pools(*spares, hot_writes), *spares


def lambert_w(x: float) -> float:
    """Principal branch of Lambert's function, w exp(w) = x, by Newton's method.

    Args:
        x: At least -1/e.

    Returns:
        w, at least -1.

    Raises:
        UserError: x is below -1/e.
    """
    distance = 1.0 + math.e * x
    if distance < -1e-12:
        raise UserError(f"Lambert's function is not real at {x}")
    # Near the branch point Newton's method needs the series of Corless et al. 1996, eq. 4.22, to begin well.
    root = math.sqrt(2.0 * max(distance, 0.0))
    w = -1.0 + root - root * root / 3.0 if x < 1.0 else math.log(x + 1.0)
    for _ in range(BISECTIONS):
        scaled = math.exp(w)
        slope = scaled * (w + 1.0)
        if abs(slope) < 1e-300:
            break
        step = (w * scaled - x) / slope
        w -= step
        if abs(step) <= TOLERANCE * (1.0 + abs(w)):
            break
    return w


def _alpha(spare: float) -> float:
    if not 0.0 < spare < 1.0:
        raise UserError(f"spare factor {spare}: must lie between 0 and 1")
    return 1.0 / (1.0 - spare)


def _slope(alpha: float) -> float:
    w = lambert_w(-alpha * math.exp(-alpha))
    return w / ((1.0 + w) * (alpha + w))


def _choice_shares(rate: float, size: int, choices: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # From the fullest sections down: each balance has one unknown, the share of its valid count.
    shares, chosen = np.zeros(size + 1), np.zeros(size + 1)
    above, inflow = 0.0, 1.0
    for valid in range(size, -1, -1):
        if valid == 0:
            share = max(0.0, 1.0 - above)
        else:
            share = _balanced_share(valid * rate, above, inflow, choices)
        shares[valid] = share
        chosen[valid] = (above + share) ** choices - above**choices
        inflow = valid * rate * share
        above = min(1.0, above + share)
    return shares, chosen


def _balanced_share(loss: float, above: float, inflow: float, choices: int) -> float:
    # loss * m + (above + m)**d - above**d = inflow has one root m in 0..1 - above, or all the rest is there.
    def excess(share: float) -> float:
        return loss * share + (above + share) ** choices - above**choices - inflow

    return _root(excess, 0.0, max(0.0, 1.0 - above))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    # Bisection of a monotonic function; an end where the sign does not change.
    rising = function(high) > function(low)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        if (function(middle) > 0.0) == rising:
            high = middle
        else:
            low = middle
        if high - low <= TOLERANCE * max(1.0, abs(middle)):
            break
    return 0.5 * (low + high)
