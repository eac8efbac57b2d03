"""Whether one side costs less than the other: tests that may be looked at after every unit, at no price in errors.

The proxy itself drew at random which side controls a unit, and with which probability. A test bets on that draw: shown
what a unit cost, but not who controlled it, it says how likely the agent was, and wins by the factor

    (what it said of the side that was drawn) / (probability with which that side was drawn).

Let the bet on the agent only ever fall as the cost rises. If the agent does not lower the cost of any unit, the
factor's mean is at most 1 given all that went before, whatever the load does meanwhile: with costs a >= b of the unit
under the agent and the built-in algorithm, bets q(a) <= q(b) and a share p, it is p q(a)/p + (1 - p)(1 - q(b))/(1 - p)
<= 1. Drift, autocorrelation and what one unit leaves behind for the next do not matter, since they are the same under
either draw. So the product of the factors is a nonnegative supermartingale, and by Ville's inequality it ever reaches
1/alpha with probability at most alpha: an e-process (Ramdas, Gruenwald, Vovk and Shafer 2023, "Game-theoretic
statistics and safe anytime-valid inference"), built by betting as in Waudby-Smith and Ramdas 2024, "Estimating means
of bounded random variables by betting". Costs need no bound, because the bet, not the cost, is what enters.

The bets themselves come from a normal model of log costs. The model decides how soon the evidence grows, not how often
the test errs. What is shown is a lower cost unit by unit, the usual meaning in a randomized experiment; an agent that
is cheaper nearly always and ruinous now and then is the loss budget's business (budget.py).
"""

from __future__ import annotations

import math

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.proxy.specs import BoolArray, FloatArray, IntArray

SHIFTS: FloatArray = np.array([0.02, 0.04, 0.08, 0.16, 0.32, 0.64])
"""The alternatives that are bet on, as differences of log cost: the evidence is the mean over them."""

ALL = slice(None)

HELD_BACK = 0.05
"""The part of every stake that follows the draw's own probabilities, so that no surprise loses more than the rest."""


@compiled
def window_bet(excess: float, spread: float, agent: bool, share: float, factors: Record) -> None:
    """Bet on who controlled a window.

    Args:
        excess: Log cost above what the built-in algorithm was expected to cost; may be infinite.
        spread: Standard deviation of that under one side.
        agent: Who did control it.
        share: The probability with which the agent was drawn, strictly between 0 and 1.
        factors: (K,) float64, set to the log factors by which the evidence for "the agent costs less" changes, for
            each of the SHIFTS.
    """
    even, precision = math.log(share / (1.0 - share)), 1.0 / spread**2
    for k in range(factors.size):
        logit = even - (excess * SHIFTS[k] + SHIFTS[k] ** 2 / 2.0) * precision
        bet = (1.0 - HELD_BACK) / (1.0 + math.exp(min(-logit, 700.0))) + HELD_BACK * share
        factors[k] = math.log(bet / share if agent else (1.0 - bet) / (1.0 - share))


def domain_bets(excess: FloatArray, spread: FloatArray, agent: BoolArray) -> FloatArray:
    """Bets on which domains of a volume the agent controlled, all compared over the same time.

    Each side's number of domains is given; every choice of them was equally likely. The bet on a choice is the product
    of exp(-shift * excess / spread^2) over its domains, over the sum of that product over all choices. It too only
    falls as the agent's costs rise, by the same argument as for windows.

    Args:
        excess: (R, D) float64, log cost of the D domains that could be drawn, up to a constant per row.
        spread: (R,) float64, standard deviation between domains of one side.
        agent: (R, D) bool, those that were drawn; neither none nor all.

    Returns:
        (R, K) float64, log factors as in `window_bet`.
    """
    drawn, count = agent.sum(axis=1), agent.shape[1]
    choices = np.log([math.comb(count, number) for number in range(count + 1)])[drawn][:, None]
    weight = -(excess[:, :, None] * SHIFTS) / (spread**2)[:, None, None]  # (R, D, K), logarithms
    sums = np.full((count + 1, *weight[:, 0].shape), -np.inf)  # over all choices of so many domains, logarithms
    sums[0] = 0.0
    for domain in range(count):
        sums[1:] = np.logaddexp(sums[1:], sums[:-1] + weight[:, domain])
    said = np.where(agent[:, :, None], weight, 0.0).sum(axis=1) - sums[drawn, np.arange(len(drawn))]
    return np.asarray(np.logaddexp(math.log(1.0 - HELD_BACK) + said + choices, math.log(HELD_BACK)))


class SequentialTest:
    """Evidence of G volumes for one claim, which can be looked at after every unit.

    An agent that was bad for long and has become good would have to win back all that the bets on it lost. So the test
    is a mixture over the unit at which the betting begins: beginning at the n-th unit has weight 1/((n + 1)(n + 2)).
    Mixtures of e-processes are e-processes.
    """

    def __init__(self, volumes: int) -> None:
        """Begin without evidence.

        Args:
            volumes: G.
        """
        self._running: FloatArray = np.full((volumes, len(SHIFTS)), -np.inf)  # logarithm, bets that have begun
        self._units: IntArray = np.zeros(volumes, dtype=np.int64)
        self._evidence: FloatArray = np.zeros(volumes)

    def update(self, rows: IntArray, log_factors: FloatArray) -> None:
        """Take in a unit.

        Args:
            rows: (R,) int64, the volumes whose unit it is.
            log_factors: (R, K) float64.
        """
        _bet_from_any_unit(self._running, self._units, rows, log_factors, self._evidence)

    def log_evidence(self, rows: IntArray | slice = ALL) -> FloatArray:
        """Logarithm of the e-process of the rows, float64; log(1/alpha) or more shows the claim at error rate alpha."""
        return self._evidence[rows]

    def restart(self, rows: BoolArray) -> None:
        """Drop the evidence of the rows (G,)."""
        self._running[rows] = -np.inf
        self._units[rows] = 0
        self._evidence[rows] = 0.0


class ChangeDetector:
    """Whether a claim has become true at some time, without counting against it what was before.

    The product of the factors, never let below 1: a CUSUM e-detector (Shin, Ramdas and Rinaldo 2023, "E-detectors: a
    nonparametric framework for sequential change detection"). While the claim is false, 1/alpha or more comes up once
    in 1/alpha units on average or more rarely.
    """

    def __init__(self, volumes: int) -> None:
        """Begin without evidence.

        Args:
            volumes: G.
        """
        self._running: FloatArray = np.zeros((volumes, len(SHIFTS)))  # logarithm
        self._evidence: FloatArray = np.zeros(volumes)

    def update(self, rows: IntArray, log_factors: FloatArray) -> None:
        """Take in a unit; arguments as in `SequentialTest.update`."""
        _bet_from_above_one(self._running, rows, log_factors, self._evidence)

    def log_evidence(self, rows: IntArray | slice = ALL) -> FloatArray:
        """Logarithm of the detector of the rows, float64."""
        return self._evidence[rows]

    def restart(self, rows: BoolArray) -> None:
        """Drop the evidence of the rows (G,)."""
        self._running[rows] = 0.0
        self._evidence[rows] = 0.0


@compiled
def _bet_from_any_unit(running: Record, units: Record, rows: Record, log_factors: Record, evidence: Record) -> None:
    """`SequentialTest.update`; evidence (G,) is set in the rows."""
    for i in range(rows.size):
        row, test = rows[i], running[rows[i]]
        begun = -math.log((units[row] + 1.0) * (units[row] + 2.0))
        units[row] += 1
        waiting = -math.log(units[row] + 1.0)  # the weight of all that has not begun yet
        total = -np.inf
        for k in range(test.size):
            test[k] = np.logaddexp(test[k], begun) + log_factors[i, k]
            total = np.logaddexp(total, np.logaddexp(test[k], waiting))
        evidence[row] = total - math.log(test.size)


@compiled
def _bet_from_above_one(running: Record, rows: Record, log_factors: Record, evidence: Record) -> None:
    """`ChangeDetector.update`; evidence (G,) is set in the rows."""
    for i in range(rows.size):
        detector = running[rows[i]]
        total = -np.inf
        for k in range(detector.size):
            detector[k] = max(detector[k], 0.0) + log_factors[i, k]
            total = np.logaddexp(total, detector[k])
        evidence[rows[i]] = total - math.log(detector.size)
