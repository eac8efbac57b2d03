"""How far the agents of a benchmark suite got towards its goals."""

from __future__ import annotations

import numpy as np

from agents.benchmark_results import SuiteResult, over_runs
from agents.damon_environments import CLAIRVOYANT
from agents.goals import Goal, GoalKind
from agents.statistics import Interval

_PERCENT = (GoalKind.BEST_SINGLE_SHARE, GoalKind.SHARE_OF_ORACLE, GoalKind.OWN_BUILTIN, GoalKind.EXTRA_COST)
_UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))


def goal_rows(result: SuiteResult) -> list[tuple[str, str, str, str]]:
    """Each goal of a suite: in words, what is wanted, what the runs reached, and whether the estimate is enough."""
    rows = []
    for goal in result.suite.goals:
        got = reached(goal, result)
        if np.isnan(got.estimate):
            continue
        gain = goal.kind in (GoalKind.BEST_OF_EACH, GoalKind.WORST_WORKLOAD)
        as_percent = goal.kind in _PERCENT or (gain and result.suite.measure.ratio)
        wanted = f"{100 * goal.mark:.0f} %" if as_percent else f"{goal.mark:.2f}"
        number = _bracketed(got, *((100.0, 1, " %") if as_percent else (1.0, 3, "")))
        if goal.kind is GoalKind.EXTRA_COST and (worst := result.dearest()) is not None:
            number += f" (training seed {worst.training_seed}, {worst.workload})"
        wanted = f"at {'most' if goal.at_most else 'least'} {wanted}"
        rows.append((goal.text, wanted, number, "reached" if goal.is_reached(got.estimate) else "not reached"))
    return rows


def reached(goal: Goal, result: SuiteResult) -> Interval:
    """What the runs reached of a goal, interquartile mean over them with its 95 % bootstrap interval.

    Of `EXTRA_COST` it is the largest, which has no interval: a draw of runs cannot hold a dearer one.
    """
    measure, kind = result.suite.measure, goal.kind
    if kind is GoalKind.EXTRA_COST:
        dearest = result.dearest()
        return _UNKNOWN if dearest is None else Interval(*(dearest.share,) * 3)
    means = measure.mean(result.agent)
    if kind is GoalKind.BEST_OF_EACH:
        return result.gain(result.best_builtin()[1])
    if kind is GoalKind.WORST_WORKLOAD:
        return result.worst_gain(result.best_builtin()[1])[1]
    if kind is GoalKind.NORMALIZED_SCORE:
        return result.normalized_score(goal.of, goal.workloads)
    if kind is GoalKind.OWN_BUILTIN:
        builtin = result.references.of(result.builtins[0], goal.of).sum()
        own = np.array([run.of(run.policies[0], goal.of).sum() for run in result.runs.values()])
        return over_runs(1.0 - own / max(float(builtin), 1e-9))
    over = kind is GoalKind.BEST_SINGLE_SHARE
    mark = float(measure.mean(result.reference(result.best_single() if over else CLAIRVOYANT)))
    if not mark > 0:  # no share can be told of it
        return _UNKNOWN
    return over_runs(means / mark - (1.0 if over else 0.0))


def _bracketed(interval: Interval, scale: float, decimals: int, unit: str) -> str:
    estimate, low, high = (f"{scale * end:.{decimals}f}" for end in (interval.estimate, interval.low, interval.high))
    return f"{estimate}{unit}" if interval.low == interval.high else f"{estimate}{unit} [{low}, {high}]"
