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

from kml_envs.proxy.specs import BoolArray, FloatArray, IntArray

SHIFTS: FloatArray = np.array([0.02, 0.04, 0.08, 0.16, 0.32, 0.64])
"""The alternatives that are bet on, as differences of log cost: the evidence is the mean over them."""

ALL = slice(None)

HELD_BACK = 0.05
"""The part of every stake that follows the draw's own probabilities, so that no surprise loses more than the rest."""


def window_bets(excess: FloatArray, spread: FloatArray, agent: BoolArray, share: FloatArray) -> FloatArray:
    """Bets on who controlled one window each.

    Args:
        excess: (..., R) float64, log cost above what the built-in algorithm was expected to cost; infinite is allowed.
        spread: (R,) float64, standard deviation of that under one side.
        agent: (R,) bool, who did control it.
        share: (R,) float64, the probability with which the agent was drawn, strictly between 0 and 1.

    Returns:
        (..., R, K) float64, the log factors by which the evidence for "the agent costs less" changes, for each shift.
    """
    share, precision = share[:, None], 1.0 / (spread**2)[:, None]
    logit = np.log(share / (1.0 - share)) - (excess[..., None] * SHIFTS + SHIFTS**2 / 2.0) * precision
    bet = 1.0 / (1.0 + np.exp(np.minimum(-logit, 700.0)))
    bet = (1.0 - HELD_BACK) * bet + HELD_BACK * share
    factor = np.where(agent[:, None], bet / share, (1.0 - bet) / (1.0 - share))
    return np.asarray(np.log(factor))


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
        (R, K) float64, log factors as in `window_bets`.
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

    def update(self, rows: IntArray, log_factors: FloatArray) -> None:
        """Take in a unit.

        Args:
            rows: (R,) int64, the volumes whose unit it is.
            log_factors: (R, K) float64.
        """
        units = self._units[rows]
        begun = -np.log((units + 1.0) * (units + 2.0))[:, None]
        self._running[rows] = np.logaddexp(self._running[rows], begun) + log_factors
        self._units[rows] += 1

    def log_evidence(self, rows: IntArray | slice = ALL) -> FloatArray:
        """Logarithm of the e-process of the rows, float64; log(1/alpha) or more shows the claim at error rate alpha."""
        waiting = -np.log(self._units[rows] + 1.0)[:, None]  # the weight of all that has not begun yet
        return _log_mean(np.logaddexp(self._running[rows], waiting))

    def restart(self, rows: BoolArray) -> None:
        """Drop the evidence of the rows (G,)."""
        self._running[rows] = -np.inf
        self._units[rows] = 0


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

    def update(self, rows: IntArray, log_factors: FloatArray) -> None:
        """Take in a unit; arguments as in `SequentialTest.update`."""
        self._running[rows] = np.maximum(self._running[rows], 0.0) + log_factors

    def log_evidence(self, rows: IntArray | slice = ALL) -> FloatArray:
        """Logarithm of the detector of the rows, float64."""
        return _log_mean(self._running[rows])

    def restart(self, rows: BoolArray) -> None:
        """Drop the evidence of the rows (G,)."""
        self._running[rows] = 0.0


def _log_mean(logarithms: FloatArray) -> FloatArray:
    """Logarithm of the mean over the last axis."""
    return np.asarray(np.logaddexp.reduce(logarithms, axis=-1) - math.log(logarithms.shape[-1]))
