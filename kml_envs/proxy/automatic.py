"""Mode `auto`: the proxy decides by itself how far it trusts the agent, on evidence, within a loss budget."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from kml_envs.errors import UserError
from kml_envs.proxy.accounts import UnitAccounts, account
from kml_envs.proxy.budget import UNIT_ROOM, LossBudget
from kml_envs.proxy.comparison import Comparison
from kml_envs.proxy.evidence import ALL, ChangeDetector, SequentialTest
from kml_envs.proxy.health import Health
from kml_envs.proxy.modes import PROBE_SHARE, SHARES, Mode, ModeArray
from kml_envs.proxy.options import ProxyOptions
from kml_envs.proxy.protocols import BatchedSubsystem, Bounding, Forecasting
from kml_envs.proxy.specs import Array, BoolArray, FloatArray, IntArray
from kml_envs.proxy.units import UnitOutcome, unheld_domains
from kml_envs.proxy.verdict import Judgement

LEAST_DOMAINS = 8
"""A volume is compared in space only if it has so many domains."""

LEAST_COMPARED = 4
"""Domains on each side of a comparison in space."""

DEGRADED_AT = 1000.0
"""Evidence for "worse" at which trust ends; without reason that is at most once in so many units on average."""

HOLD = 1
"""Whole units for which a mode is kept before the next change upwards."""

# Comparing an array with a member of an enumeration takes five times as long as with its number.
_EMERGENCY, _LEARNING = int(Mode.EMERGENCY), int(Mode.LEARNING)
_COLLABORATION, _RECOMMENDATION = int(Mode.COLLABORATION), int(Mode.RECOMMENDATION)

BuiltinCost = Callable[[FloatArray], FloatArray | None]


class Cause(IntEnum):
    """Why a volume is in emergency."""

    NONE = 0
    CRITICAL = 1
    UNHEALTHY = 2
    BUDGET = 3


_BUDGET, _UNHEALTHY = int(Cause.BUDGET), int(Cause.UNHEALTHY)


class AutoMode:
    """Modes by evidence, for N instances in groups of D domains (D = 1: the comparison is in time).

    All instances of a group have the same mode. Evidence is kept over promotions. After a degradation it starts anew,
    with a part of the error rate that was kept for it: the k-th time 1/((k + 1)(k + 2)) of alpha, which sums to alpha.
    Collaboration and recommendation are tested at the same level without splitting it, because a recommendation
    without cause is a collaboration without cause, or else only one of the two claims is false (a fixed sequence of
    tests).

    Attributes:
        in_units: True.
        health: What is known of the agents' health.
        budget: The loss budgets of the groups.
        cause: (G,) int8 `Cause` of each group's emergency now.
        emergencies: (causes, G) int64, how often each has happened.
        alarms: (G,) int64, how often a trusted agent's cost has risen so that it had to be compared anew.
    """

    in_units = True

    def __init__(self, subsystem: BatchedSubsystem, options: ProxyOptions, builtin_cost: BuiltinCost) -> None:
        """Begin in learning.

        Args:
            subsystem: Told nothing, asked for progress, cost, forecasts and whether it is critical.
            options: `alpha`, `tolerance`, `domains`, `share`.
            builtin_cost: From cost paid (N,) to the cost of a shadow at the same progress, or None without one.

        Raises:
            UserError: The instances make no groups of so many domains, or the domains are too few.
        """
        instances, domains = subsystem.instances, options.domains
        if domains > 1 and (domains < LEAST_DOMAINS or instances % domains):
            raise UserError(
                f"domains {domains}: must be at least {LEAST_DOMAINS}, and instances come in whole groups of as many, "
                f"got {instances}"
            )
        volumes = instances // domains
        self.health = Health(instances)
        self.budget = LossBudget(volumes, options.tolerance)
        self.cause: npt.NDArray[np.int8] = np.zeros(volumes, dtype=np.int8)
        self.emergencies: IntArray = np.zeros((len(Cause), volumes), dtype=np.int64)
        self.alarms: IntArray = np.zeros(volumes, dtype=np.int64)
        self._subsystem = subsystem
        self._forecasts = subsystem if isinstance(subsystem, Forecasting) else None
        self._bounds = subsystem if isinstance(subsystem, Bounding) else None
        self._builtin_cost = builtin_cost
        self._options = options
        self._shape = (volumes, domains)
        self._unheld = unheld_domains(domains)
        self._window = options.window or 0
        self._shares = _shares(options)
        self._comparison = Comparison(volumes, domains)
        self._unit_accounts = UnitAccounts(self.budget) if domains == 1 and self._forecasts is None else None
        self._not_worse = SequentialTest(volumes)
        self._better = SequentialTest(volumes)
        self._worse = ChangeDetector(volumes)
        self._mode: ModeArray = np.full(volumes, Mode.LEARNING, dtype=np.int8)
        self._attempt: IntArray = np.zeros(volumes, dtype=np.int64)
        self._units_in_mode: IntArray = np.zeros(volumes, dtype=np.int64)
        self._progress: IntArray = np.zeros(instances, dtype=np.int64)
        self._cost: FloatArray = np.zeros(instances)
        self._builtin: FloatArray | None = None
        self._rate: FloatArray = np.full(volumes, np.nan)  # of the shadow over the unit before
        self._unit_start: FloatArray = np.zeros((2, volumes))  # progress, and cost of the shadow
        self._stopped: BoolArray = np.zeros(volumes, dtype=np.bool_)  # the agent's unit was cut
        self._dearest: FloatArray = np.zeros(volumes)  # excess of the agent's dearest operation so far
        self._acting: BoolArray = np.zeros(instances, dtype=np.bool_)
        self._come = True
        self._lived: FloatArray = np.zeros(volumes)  # progress of all domains, over all episodes
        # Progress of a domain over all episodes, when a mode was first entered.
        self._reached: FloatArray = np.full((len(Mode), volumes), -1.0)

    def reset(self, rows: BoolArray, forget: bool) -> None:
        """A new episode begins in the rows, from the subsystem's present progress and cost."""
        volumes = self._any(rows)
        self._comparison.restart(volumes, forget)
        self._progress[rows] = self._subsystem.progress()[rows]
        self._cost[rows] = self._subsystem.cost()[rows]
        self._acting[rows] = False
        builtin = self._builtin_cost(self._cost)
        if builtin is not None:
            self._builtin = builtin.copy() if self._builtin is None else np.where(rows, builtin, self._builtin)
            self._unit_start[:, volumes] = self._totals()[:, volumes]
            self._unit_accounts = None  # a shadow tells what units cost, and what they spoil
        self._rate[volumes] = np.nan
        if forget:
            self._attempt[volumes] = 0
            self._change(volumes, _LEARNING)
            self._restart_tests(volumes)
            self.budget.restart(volumes)
            self.health.forgive(rows)
            self._dearest[volumes] = 0.0
            self._lived[volumes] = 0.0
            self._reached[:, volumes] = -1.0
            self.emergencies[:, volumes] = 0
            self.alarms[volumes] = 0
        if self._unit_accounts is not None:
            self._unit_accounts.begin(volumes, self._progress, self._cost, forget)
        self._stopped[volumes] = self._mode[volumes] == _EMERGENCY

    def mode(self) -> ModeArray:
        """(N,) int8, the modes now."""
        return self._each(self._mode)

    def share(self) -> FloatArray:
        """(N,) float64: none where the budget has no room yet, or no agent has come."""
        if not self._come:
            return np.zeros(len(self._progress))
        share, rate = self._shares[self._mode], self._known_rate()
        agents_domains = 1.0 if self._shape[1] == 1 else share * self._shape[1]
        usual = rate * self._window * agents_domains
        room = UNIT_ROOM * usual if self._unit_accounts is None else self._unit_accounts.room(usual)
        return self._each(share * self.budget.has_room(room))  # none where the rate is not known

    def suspended(self) -> BoolArray | None:
        """(N,) bool, where the built-in algorithm has the rest of the unit; None: nowhere."""
        return self._each(self._stopped) if np.count_nonzero(self._stopped) else None

    def heartbeat(self, alive: BoolArray | None) -> None:
        """Go into emergency at once where the agent (N,) bool is not there; before one has come, share no units."""
        self._come = alive is not None
        if alive is None:
            return
        self.health.alive = alive.copy()
        self._raise_alarm(self._any(~alive), Cause.UNHEALTHY)

    def permit(self, judgement: Judgement) -> BoolArray | None:
        """Look at the agent's health and the budget before the recommendations run.

        Returns:
            (N,) bool, where the agent may act.
        """
        self._account()
        self.health.note(judgement.verdict)
        wanted = np.logical_not(judgement.verdict)  # ACCEPTED is 0
        price = self._price(judgement.decision)
        permitted = self.budget.holds(price, wanted)
        refused, unhealthy, critical = wanted & ~permitted, self.health.unhealthy(), self._subsystem.critical()
        if np.count_nonzero(refused | unhealthy | critical):
            stopped = self._any(refused)
            self._stopped |= stopped
            self._raise_alarm(stopped & self.budget.exhausted(), Cause.BUDGET)
            self._raise_alarm(self._any(unhealthy), Cause.UNHEALTHY)
            self._raise_alarm(self._any(critical), Cause.CRITICAL)
        if (suspended := self.suspended()) is not None:
            permitted = permitted & ~suspended
        if self._forecasts is None:
            self._acting = wanted & permitted
        elif self._builtin is None:
            self.budget.spend(price, wanted & permitted)
        return permitted

    def operation_ended(self, verdict: npt.NDArray[np.int8]) -> None:
        """Nothing is learned from single operations: judged one by one, nothing beats the cheapest next one."""

    def unit_ended(self, outcome: UnitOutcome) -> None:
        """Weigh the units that are over, and change modes."""
        self._account()
        ended = outcome.rows[:: self._shape[1]].nonzero()[0]
        self._stopped[ended] = False
        if self._builtin is not None:
            totals = self._totals()
            made, exact = (totals - self._unit_start)[:, ended]
            self._rate[ended] = exact / np.maximum(made, 1.0)
            self._unit_start[:, ended] = totals[:, ended]
        elif self._unit_accounts is not None:
            self._unit_accounts.close(ended, outcome.agent, self._comparison.alone, self._progress, self._cost)
            self._raise_alarm(outcome.rows & self.budget.overdrawn(), Cause.BUDGET)
        rows, (not_worse, better, worse) = self._comparison.update(outcome, self._options.tolerance)
        if rows.size:
            self._not_worse.update(rows, not_worse)
            self._better.update(rows, better)
            self._worse.update(rows, worse)
        self._units_in_mode[ended] += 1
        self._leave_emergency(ended[self._mode[ended] == _EMERGENCY])
        self._degrade(ended[self._mode[ended] > _LEARNING])
        self._compare_anew(ended[self._mode[ended] == _RECOMMENDATION])
        self._promote(ended[self._units_in_mode[ended] >= HOLD])

    def report(self) -> dict[str, Array]:
        """(N,) each: what there is to say of the modes, by name.

        Evidence is in logarithms. `collaboration_after` and `recommendation_after` are in progress; negative: never.
        """
        allowance = self.budget.allowance()
        table = {
            "evidence_not_worse": self._not_worse.log_evidence(),
            "evidence_better": self._better.log_evidence(),
            "evidence_needed": self._threshold(),
            "budget_spent": self.budget.spent.copy(),
            "budget_left": allowance - self.budget.spent,
            "emergency_cause": self.cause.copy(),
            "degradations": self._attempt.copy(),
            "shift_alarms": self.alarms.copy(),
            "collaboration_after": self._reached[_COLLABORATION].copy(),
            "recommendation_after": self._reached[_RECOMMENDATION].copy(),
            **{f"emergencies_{cause.name.lower()}": self.emergencies[cause].copy() for cause in Cause if cause},
        }
        each: dict[str, Array] = {name: np.repeat(values, self._shape[1]) for name, values in table.items()}
        each["share"] = self.share()
        return each

    def _account(self) -> None:
        """Bring the budget up to where the subsystem is."""
        progress, cost = self._subsystem.progress(), self._subsystem.cost()
        builtin = self._builtin_cost(cost)
        exact = builtin is not None and self._builtin is not None
        account(
            progress,
            cost,
            builtin if exact else cost,
            self._progress,
            self._cost,
            self._builtin if exact else self._cost,
            exact,
            np.ascontiguousarray(self._known_rate()),  # one type for the compiler
            self._shape[1],
            self._unheld,
            self._acting,
            self._lived,
            self._dearest,
            self.budget.builtin,
            self.budget.spent,
        )

    def _each(self, values: Array) -> Array:
        """(N, ...) of values (G, ...): each volume's, for each of its domains; not always a new array."""
        return values if self._shape[1] == 1 else np.repeat(values, self._shape[1])

    def _sum(self, values: Array) -> FloatArray:
        """(G,) sums over the domains of each volume; the values (N,) themselves, where there is one domain."""
        return np.asarray(values if self._shape[1] == 1 else values.reshape(self._shape).sum(axis=1))

    def _any(self, rows: BoolArray) -> BoolArray:
        """(G,) bool: the volumes of these instances (N,)."""
        return rows if self._shape[1] == 1 else np.asarray(rows.reshape(self._shape).any(axis=1))

    def _totals(self) -> FloatArray:
        """(2, G) float64: progress, and cost of the shadow."""
        assert self._builtin is not None
        return np.stack([self._sum(self._progress), self._sum(self._builtin)])

    def _price(self, decision: Array) -> FloatArray:
        """(N,) float64: what the operations will cost beyond the built-in algorithm for the same benefit."""
        if self._bounds is not None:
            return np.asarray(self._bounds.most_cost(decision), np.float64)
        if self._forecasts is None:
            return self._each(self._dearest)
        cost, benefit = self._forecasts.forecast(decision)
        return np.asarray(cost - self._each(np.fmax(self._known_rate(), 0.0)) * benefit)

    def _known_rate(self) -> FloatArray:
        """(G,) float64: the built-in algorithm's cost per progress; NaN while unknown."""
        return self._rate if self._builtin is not None else self._comparison.rate

    def _raise_alarm(self, volumes: BoolArray, cause: Cause) -> None:
        """Put the volumes (G,) into emergency; an agent that was trusted has to earn it anew, if it is to blame."""
        volumes = volumes & (self._mode != _EMERGENCY)
        if not volumes.any():
            return
        if cause is not Cause.CRITICAL:
            self._lose_trust(volumes & (self._mode > _LEARNING))
        self._change(volumes, _EMERGENCY)
        self._stopped |= volumes
        self.cause[volumes] = cause
        self.emergencies[cause, volumes] += 1

    def _leave_emergency(self, ended: IntArray) -> None:
        """Go back to learning where all has been well for the hold time, as seen at the ends of units.

        Args:
            ended: (E,) int64, volumes in emergency whose unit has ended.
        """
        if not ended.size:
            return
        unwell = self._any(self._subsystem.critical() | ~self.health.alive)[ended]
        there = unwell | ((self.cause[ended] == _BUDGET) & ~self.budget.clear()[ended])
        self._units_in_mode[ended[there]] = 0
        leaving = np.zeros(len(self._mode), dtype=np.bool_)
        leaving[ended] = ~there & (self._units_in_mode[ended] > HOLD)
        if leaving.any():
            self.health.forgive(np.repeat(leaving & (self.cause == _UNHEALTHY), self._shape[1]))
            self._change(leaving, _LEARNING)

    def _degrade(self, ended: IntArray) -> None:
        """End trust where there is evidence that the agent is worse, among trusted volumes (E,) int64."""
        if ended.size and np.count_nonzero(found := self._worse.log_evidence(ended) >= np.log(DEGRADED_AT)):
            worse = self._only(ended[found])
            self._lose_trust(worse)
            self._change(worse, _LEARNING)

    def _compare_anew(self, ended: IntArray) -> None:
        """Where the agent's cost has risen, compare it anew at equal shares, among recommending volumes (E,) int64."""
        if ended.size and np.count_nonzero(found := self._comparison.shifted(ended)):
            shifted = self._only(ended[found])
            self._comparison.forget_costs(shifted)
            self._lose_trust(shifted)
            self._change(shifted, _COLLABORATION)
            self.alarms[shifted] += 1

    def _promote(self, ended: IntArray) -> None:
        """Trust the agent further where the evidence allows it, among the volumes (E,) int64."""
        ways = (
            (_COLLABORATION, self._better, _RECOMMENDATION),
            (_LEARNING, self._not_worse, _COLLABORATION),
        )
        for mode, test, above in ways:
            there = ended[self._mode[ended] == mode]
            if there.size and np.count_nonzero(found := test.log_evidence(there) >= self._threshold(there)):
                self._change(risen := self._only(there[found]), above)
                self._comparison.watch(risen)

    def _only(self, volumes: IntArray) -> BoolArray:
        """(G,) bool: these volumes."""
        only = np.zeros(len(self._mode), dtype=np.bool_)
        only[volumes] = True
        return only

    def _threshold(self, volumes: IntArray | slice = ALL) -> FloatArray:
        """Log evidence that a promotion of the volumes takes, float64."""
        attempt = self._attempt[volumes]
        return np.asarray(np.log((attempt + 1.0) * (attempt + 2.0) / self._options.alpha))

    def _lose_trust(self, volumes: BoolArray) -> None:
        """Drop the evidence of the volumes (G,), and take the error rate kept for the next attempt."""
        self._attempt[volumes] += 1
        self._restart_tests(volumes)

    def _restart_tests(self, volumes: BoolArray) -> None:
        for test in (self._not_worse, self._better, self._worse):
            test.restart(volumes)

    def _change(self, volumes: BoolArray, mode: int) -> None:
        """Put the volumes (G,) into a `Mode`."""
        self._mode[volumes] = mode
        first = volumes & (self._reached[mode] < 0.0)
        self._reached[mode, first] = self._lived[first] / self._shape[1]
        self._units_in_mode[volumes] = 0
        self.cause[volumes] = Cause.NONE


def _shares(options: ProxyOptions) -> FloatArray:
    """(M,) float64: the agent's share in each `Mode`, where the budget has room."""
    shares = {**SHARES, Mode.RECOMMENDATION: 1.0 - PROBE_SHARE}
    if options.share is not None:
        shares[Mode.LEARNING] = options.share
    by_mode = np.array([shares[mode] for mode in Mode])
    return by_mode if options.domains == 1 else domain_shares(by_mode, options.domains)


def domain_shares(share: FloatArray, domains: int) -> FloatArray:
    """Shares of the agent that leave at least four domains on each side, or else a domain to probe.

    Args:
        share: (M,) float64, wanted in each `Mode`.
        domains: D.

    Returns:
        (M,) float64, multiples of 1 / D.
    """
    least, most = LEAST_COMPARED, domains - LEAST_COMPARED
    count = np.clip(np.rint(share * domains), least, most)
    count[Mode.EMERGENCY] = 0
    # One of the domains that may be drawn stays with the built-in algorithm, so that there is a draw to bet on.
    count[Mode.RECOMMENDATION] = min(
        np.rint(share[Mode.RECOMMENDATION] * domains), domains - unheld_domains(domains) - 1
    )
    return np.asarray(count / domains)
