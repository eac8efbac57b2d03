"""What the training seeds of an agent achieved on a benchmark suite, in numbers.

Statistics follow Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS 2021:
interquartile means over training seeds, bootstrap intervals, performance profiles, probability of improvement. Whole
runs are drawn anew, not single results: what one run does on two workloads depends on the same network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.benchmark_suites import RIVAL, START, BenchmarkSuite
from agents.damon_environments import BEST_STATIC, CLAIRVOYANT
from agents.results import CHARGED_COST, Evaluation
from agents.statistics import FloatArray, Interval, bootstrap_interval, interquartile_mean
from agents.statistics import normalized_score as score_of_episodes
from kml_envs.files import write_arrays
from kml_envs.lfs.oracle import OracleKind

ORACLES = (*(kind.value for kind in OracleKind), BEST_STATIC, CLAIRVOYANT)
"""Rows of the references that are upper bounds, not built-in algorithms."""


@dataclass(frozen=True)
class Curve:
    """Scores on the validation workloads during one training: after `steps` (E,), `scores` (E,)."""

    steps: FloatArray
    scores: FloatArray


@dataclass(frozen=True)
class Dearest:
    """The deployment whose extra cost is the largest.

    Attributes:
        share: Extra cost as a share of what the built-in algorithm alone costs on the same writes or accesses.
        training_seed: Of the agent.
        workload: Name.
        episode_seed: Of the episode; None: over all episodes of the workload.
    """

    share: float
    training_seed: int
    workload: str
    episode_seed: int | None = None


@dataclass(frozen=True)
class SuiteResult:
    """Everything that was measured on a suite.

    Attributes:
        suite: The suite.
        references: The built-in algorithms, in the suite's order, oracles, rival and start of the training.
        runs: By training seed: the agent that always acts, one row each.
        deployments: By training seed: the agent under mode `auto`, and the built-in algorithm alone.
        curves: By training seed; none for shipped agents.
    """

    suite: BenchmarkSuite
    references: Evaluation
    runs: Mapping[int, Evaluation]
    deployments: Mapping[int, Evaluation]
    curves: Mapping[int, Curve]

    @property
    def builtins(self) -> tuple[str, ...]:
        """Names of the built-in algorithms."""
        return tuple(name for name in self.references.policies if name not in (*ORACLES, RIVAL, START))

    @property
    def listed(self) -> tuple[str, ...]:
        """Names of the built-in algorithms of the suite's narrower list; none where it has no such list."""
        return tuple(name for name in self.suite.listed if name in self.references.policies)

    @property
    def notable(self) -> tuple[str, ...]:
        """Names of the built-in algorithms that pictures show: the own one, those listed, and whichever is best."""
        chosen = {self.builtins[0], self.best_single(), *self.listed, *self.best_builtin()[0]}
        return tuple(name for name in self.builtins if name in chosen or not self.listed)

    @property
    def others(self) -> tuple[str, ...]:
        """What else the agent is compared with: the rival, and the start of the training."""
        return tuple(name for name in self.references.policies if name in (RIVAL, START))

    @property
    def oracles(self) -> tuple[str, ...]:
        """Names of the oracles."""
        return tuple(name for name in self.references.policies if name in ORACLES)

    @property
    def agent(self) -> FloatArray:
        """(R, W) what the runs reached, mean over episodes."""
        return np.stack([self._values(run)[0] for run in self.runs.values()])

    def reference(self, name: str) -> FloatArray:
        """(W,) what a built-in algorithm or an oracle reached; NaN where it does not play."""
        if name not in self.references.policies:
            return np.full(len(self.references.workloads), np.nan)
        values: FloatArray = self._values(self.references)[self.references.policies.index(name)]
        return values

    def best_builtin(self, among: Sequence[str] = ()) -> tuple[list[str], FloatArray]:
        """Names (W,) and values (W,) of the best built-in algorithm of each workload, with hindsight.

        Args:
            among: Names to choose from; none: all built-in algorithms.
        """
        names = tuple(among) or self.builtins
        values = np.stack([self.reference(name) for name in names])
        best = self.suite.measure.best(values)
        return [names[row] for row in best], np.asarray(values[best, np.arange(values.shape[1])])

    def best_single(self) -> str:
        """The built-in algorithm that is best in the average over the workloads."""
        means = np.array([[self.suite.measure.mean(self.reference(name))] for name in self.builtins])
        return self.builtins[int(self.suite.measure.best(means)[0])]

    def gains(self) -> FloatArray:
        """(R, W) by how much the runs are better than the best built-in algorithm of each workload."""
        return self.suite.measure.gain(self.agent, self.best_builtin()[1])

    def gain(self, against: FloatArray) -> Interval:
        """By how much the average over the workloads is better than that of values (W,): over the runs."""
        measure = self.suite.measure
        return over_runs(measure.gain(measure.mean(self.agent), measure.mean(against)))

    def worst_gain(self, best: FloatArray) -> tuple[str, Interval]:
        """The workload on which the agent gains least over values (W,), and how much it gains on its worst workload.

        Of each workload the interquartile mean over the runs counts, as tables show it, and the worst of these.
        """
        places = self.suite.measure.gain(_by_workload(self.agent), best)
        worst = over_whole_runs(self.agent, lambda runs: float(self.suite.measure.gain(_by_workload(runs), best).min()))
        return self.references.workloads[int(places.argmin())], worst

    def normalized_score(self, oracle: str, workloads: Sequence[str] = ()) -> Interval:
        """Over the runs, of the interquartile mean over workloads and episodes; 0 = the environment's built-in.

        Args:
            oracle: The policy that stands for 1.
            workloads: The only ones that count, as far as they are played; none: all.
        """
        rows = [row for row, name in enumerate(self.references.workloads) if name in workloads or not workloads]
        if not rows or oracle not in self.references.policies or "moved_blocks" not in self.references.metrics:
            return Interval(float("nan"), float("nan"), float("nan"))
        of = self.references.of
        builtin, best = of(self.builtins[0]), of(oracle)
        users = of(self.builtins[0], "user_blocks")
        scores = [score_of_episodes(builtin, run.of(run.policies[0]), best, users) for run in self.runs.values()]
        return over_runs(np.array([interquartile_mean(score[rows]) for score in scores]))

    def deployed_gain(self) -> FloatArray | None:
        """(R, W) by how much deployment under mode `auto` is better than the built-in algorithm alone."""
        if not self.deployments:
            return None
        values = np.stack([self._values(played) for played in self.deployments.values()])
        return self.suite.measure.gain(values[:, 0], values[:, 1])

    def extra_cost(self) -> FloatArray | None:
        """(R, W) what the proxy charges under mode auto beyond the built-in algorithm alone, as a share of that."""
        return None if (costs := self._charged()) is None else _extra(costs.sum(axis=3))

    def dearest(self, *, single: bool = False) -> Dearest | None:
        """The deployment with the largest extra cost, of all training seeds and workloads; None: there are none.

        Args:
            single: Whether to look at single episodes, not at all episodes of a workload together.
        """
        if (costs := self._charged()) is None:
            return None
        extra = _extra(costs if single else costs.sum(axis=3, keepdims=True))
        run, workload, episode = np.unravel_index(int(extra.argmax()), extra.shape)
        return Dearest(
            float(extra[run, workload, episode]),
            list(self.deployments)[run],
            self.references.workloads[workload],
            list(self.deployments.values())[run].seeds[episode] if single else None,
        )

    def _charged(self) -> FloatArray | None:
        """(R, 2, W, S) what the proxy charged under mode auto, and what it charged the built-in algorithm alone."""
        if not self.deployments:
            return None
        return np.stack([played.metrics[CHARGED_COST] for played in self.deployments.values()])

    def probability_of_improvement(self, name: str) -> Interval:
        """Probability that a run is better than a built-in algorithm on the same episode; half for equal values."""
        measure = self.suite.measure
        other = self.references.of(name, measure.metric)
        wins = []
        for run in self.runs.values():
            own = run.of(run.policies[0], measure.metric)
            better = own > other if measure.more_is_better else own < other
            wins.append(float((better + 0.5 * (own == other)).mean()))
        return bootstrap_interval(np.array([wins]), lambda values: float(values.mean()))

    def _values(self, evaluation: Evaluation) -> FloatArray:
        """(P, W) mean over the episodes of a workload."""
        return np.asarray(evaluation.metrics[self.suite.measure.metric].mean(axis=2))


def over_runs(values: FloatArray) -> Interval:
    """Interquartile mean over runs (R,), with its 95 % bootstrap interval."""
    return bootstrap_interval(values[None])


def over_whole_runs(runs: FloatArray, statistic: Callable[[FloatArray], float]) -> Interval:
    """A statistic of runs (R, W), with the 95 % bootstrap interval that draws whole runs anew."""
    rows = np.arange(len(runs), dtype=np.float64)[None]
    return bootstrap_interval(rows, lambda drawn: statistic(runs[drawn[0].astype(np.int64)]))


def performance_profile(gains: FloatArray, levels: FloatArray) -> FloatArray:
    """(L,) share of runs and workloads (R, W) that gain at least as much as each level (L,)."""
    return np.asarray((gains[..., None] >= levels).mean(axis=(0, 1)))


def _extra(costs: FloatArray) -> FloatArray:
    """Extra cost of deployment as a share of the built-in algorithm's, from costs (R, 2, …); 0 where neither pays."""
    auto, alone = costs[:, 0], costs[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(auto == alone, 0.0, auto / alone - 1.0)


def _by_workload(runs: FloatArray) -> FloatArray:
    """(W,) interquartile mean over runs (R, W)."""
    return np.array([interquartile_mean(column) for column in runs.T])


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write an evaluation as arrays."""
    names = {"policies": evaluation.policies, "workloads": evaluation.workloads, "seeds": evaluation.seeds}
    arrays: dict[str, Any] = {key: np.array(value) for key, value in names.items()}
    write_arrays(path, {**arrays, **{f"metric_{name}": values for name, values in evaluation.metrics.items()}})


def read_evaluation(path: Path) -> Evaluation:
    """Read what `write_evaluation` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        names = {key: tuple(arrays[key].tolist()) for key in ("policies", "workloads", "seeds")}
        metrics = {key.removeprefix("metric_"): arrays[key] for key in arrays.files if key.startswith("metric_")}
    return Evaluation(names["policies"], names["workloads"], names["seeds"], metrics)
