"""The comparison in time, compiled: what a window has cost against what earlier ones lead one to expect of it.

What a window costs depends on what the one before has left behind. So it is compared with windows of the built-in
algorithm that followed the like, and not bet on until there has been one.
"""

from __future__ import annotations

import math

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.proxy.evidence import window_bet

MEMORY = 5  # units that an average reaches back to
PRIOR_SPREAD = 0.05  # of log cost, before any unit has been seen
LEAST_SPREAD = 0.005
CEILING = 50.0  # excess of a unit that the agent could not finish: as bad as can be
TRACE = 0.01  # of the usual cost, added to every cost, since units may cost nothing
RISE = 1.25  # times what the agent usually costs: from there on its load, or the agent, counts as another one
RISEN_WINDOWS = 2  # in a row
ALONE, AGENT, CUT = range(3)  # who had the window before: the built-in algorithm, the agent, the agent for a part

HISTORY = np.dtype(
    [
        ("rate", np.float64),  # cost per progress of the built-in algorithm without the agent, NaN while unknown
        ("variance", np.float64),  # of log cost between units of one side
        ("variance_units", np.int64),
        ("usual", np.float64, 3),  # cost per progress of the built-in algorithm, by who had the window before
        ("seen", np.int64, 3),
        ("before", np.int64),
        ("own", np.float64),  # cost per progress of the agent's windows that followed one of its own
        ("own_seen", np.int64),
        ("risen", np.int64),  # of the agent's windows, how many in a row cost more than they did
    ],
    align=True,
)
"""What is known of the units of one volume; `comparison.Comparison.restart` says what that is at first."""


@compiled
def compare_windows(
    history: Record,
    rows: Record,
    agent: Record,
    cut: Record,
    share: Record,
    progress: Record,
    cost: Record,
    margin: float,
    factors: Record,
) -> Record:
    """Bet on windows that have ended, and learn from them.

    Args:
        history: (G,) HISTORY.
        rows: (G,) bool, where a window has ended.
        agent: (G,) bool, as the other arrays up to `cost` in `units.UnitOutcome`.
        cut: (G,) bool.
        share: (G,) float64.
        progress: (G,) int64.
        cost: (G,) float64.
        margin: By how much, as a share of the cost, the agent may be worse and still be called no worse.
        factors: (3, G, K) float64; the first R of the second axis are set to the log factors of the claims "no worse",
            "better" and "worse".

    Returns:
        (R,) int64, the volumes that could be bet on.
    """
    known = np.empty(rows.size, np.int64)
    count = 0
    for row in range(rows.size):
        if not rows[row]:
            continue
        volume = history[row]
        before = volume.before
        rate, usual = cost[row] / max(progress[row], 1), volume.usual[before]
        spread = max(math.sqrt(volume.variance), LEAST_SPREAD)
        excess = log_ratio(rate, usual)
        lost = agent[row] and cut[row]
        if not math.isnan(usual) and 0.0 < share[row] < 1.0:
            allowed = log_ratio(rate / (1.0 + margin), usual) if agent[row] else excess
            window_bet(CEILING if lost else allowed, spread, agent[row], share[row], factors[0, count])
            window_bet(CEILING if lost else excess, spread, agent[row], share[row], factors[1, count])
            if lost:  # that the agent was stopped does not say that it costs more
                factors[2, count, :] = 0.0
            else:
                window_bet(-excess, spread, agent[row], share[row], factors[2, count])
            known[count] = row
            count += 1
        if not agent[row]:
            _learn_window(volume, before, rate, excess)
            volume.before = ALONE
        else:
            if before == AGENT and not lost:
                _learn_own(volume, rate, spread)
            volume.before = CUT if lost else AGENT
    return known[:count]


@compiled
def learn_spreads(history: Record, rows: Record, squares: Record) -> None:
    """Squared deviations (R,) float64 of the built-in algorithm's units in the volumes (R,) int64."""
    for i in range(rows.size):
        _learn_spread(history[rows[i]], squares[i])


@compiled
def log_ratio(rate: Record, usual: Record) -> Record:
    """Logarithm of a cost over the usual one: numbers, or arrays that go together."""
    trace = TRACE * usual + 1e-12
    return np.log((np.maximum(rate, 0.0) + trace) / (usual + trace))


@compiled
def _learn_window(volume: Record, before: int, rate: float, excess: float) -> None:
    """The built-in algorithm's windows tell what to expect of the next."""
    usual, seen = volume.usual, volume.seen
    if not math.isnan(usual[before]):
        _learn_spread(volume, excess**2)
    weight = 1.0 / min(seen[before] + 1, MEMORY)
    known = usual[before] if seen[before] > 0 else 0.0
    usual[before] = known + weight * (rate - known)
    seen[before] += 1
    units = max(min(seen[ALONE], MEMORY), 1)
    volume.rate = usual[ALONE] * math.exp(-2.0 * math.sqrt(volume.variance / units))  # a lower confidence bound


@compiled
def _learn_own(volume: Record, rate: float, spread: float) -> None:
    """The agent's windows tell what it costs where it is left alone, and whether that has risen."""
    seen = volume.own_seen
    if seen >= RISEN_WINDOWS and log_ratio(rate, volume.own) > max(math.log(RISE), 3.0 * spread):
        volume.risen += 1
        return
    volume.risen = 0
    volume.own = volume.own + (rate - volume.own) / (seen + 1.0) if seen > 0 else rate
    volume.own_seen += 1


@compiled
def _learn_spread(volume: Record, square: float) -> None:
    weight = 1.0 / min(volume.variance_units + 1.0, 2.0 * MEMORY)
    volume.variance += weight * (min(square, 1.0) - volume.variance)
    volume.variance_units += 1
