"""What the training seeds of an agent achieved on a benchmark suite, in numbers.

Statistics follow Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS 2021:
interquartile means over training seeds, bootstrap intervals, performance profiles, probability of improvement. Whole
runs are drawn anew, not single results: what one run does on two workloads depends on the same network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.benchmark_suites import BenchmarkSuite
from agents.results import Evaluation
from agents.statistics import FloatArray, Interval, bootstrap_interval, geometric_mean, interquartile_mean
from agents.statistics import normalized_score as score_of_episodes
from kml_envs.files import write_arrays
from kml_envs.lfs.oracle import OracleKind


@dataclass(frozen=True)
class Curve:
    """Scores on the validation workloads during one training: after `steps` (E,), `scores` (E,)."""

    steps: FloatArray
    scores: FloatArray


@dataclass(frozen=True)
class SuiteResult:
    """Everything that was measured on a suite.

    Attributes:
        suite: The suite.
        references: The built-in algorithms, in the suite's order, and the oracles.
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
        oracles = {kind.value for kind in OracleKind}
        return tuple(name for name in self.references.policies if name not in oracles)

    @property
    def agent(self) -> FloatArray:
        """(R, W) costs of the runs, mean over episodes."""
        return np.stack([_costs(run, self.suite.metric)[0] for run in self.runs.values()])

    def reference(self, name: str) -> FloatArray:
        """(W,) costs of a built-in algorithm or an oracle; NaN where it does not play."""
        if name not in self.references.policies:
            return np.full(len(self.references.workloads), np.nan)
        values: FloatArray = _costs(self.references, self.suite.metric)[self.references.policies.index(name)]
        return values

    def best_builtin(self) -> tuple[list[str], FloatArray]:
        """Names (W,) and costs (W,) of the best built-in algorithm of each workload, with hindsight."""
        costs = np.stack([self.reference(name) for name in self.builtins])
        best = costs.argmin(axis=0)
        return [self.builtins[row] for row in best], costs.min(axis=0)

    def best_single(self) -> str:
        """The built-in algorithm with the lowest geometric mean over the workloads."""
        means = [float(geometric_mean(self.reference(name))) for name in self.builtins]
        return self.builtins[int(np.argmin(means))]

    def savings(self) -> FloatArray:
        """(R, W) share of the cost of each workload's best built-in algorithm that the runs save."""
        return np.asarray(1.0 - self.agent / self.best_builtin()[1])

    def saving(self, against: FloatArray) -> Interval:
        """Saving in geometric mean over the workloads, against costs (W,): over the runs."""
        return over_runs(1.0 - geometric_mean(self.agent) / float(geometric_mean(against)))

    def normalized_score(self, oracle: OracleKind) -> Interval:
        """Over the runs, of the interquartile mean over workloads and episodes; 0 = the environment's built-in."""
        if oracle.value not in self.references.policies:
            return Interval(float("nan"), float("nan"), float("nan"))
        of = self.references.of
        builtin, best = of(self.builtins[0]), of(oracle.value)
        users = of(self.builtins[0], "user_blocks")
        scores = [score_of_episodes(builtin, run.of(run.policies[0]), best, users) for run in self.runs.values()]
        return over_runs(np.array([interquartile_mean(score) for score in scores]))

    def deployed_saving(self) -> FloatArray | None:
        """(R, W) share of the built-in algorithm's cost that deployment under mode `auto` saves."""
        if not self.deployments:
            return None
        costs = np.stack([_costs(played, self.suite.metric) for played in self.deployments.values()])
        return np.asarray(1.0 - costs[:, 0] / costs[:, 1])

    def probability_of_improvement(self, name: str) -> Interval:
        """Probability that a run costs less than a built-in algorithm on the same episode; half for equal costs."""
        other = self.references.of(name, self.suite.metric)
        wins = []
        for run in self.runs.values():
            own = run.of(run.policies[0], self.suite.metric)
            wins.append(float(((own < other) + 0.5 * (own == other)).mean()))
        return bootstrap_interval(np.array([wins]), lambda values: float(values.mean()))


def over_runs(values: FloatArray) -> Interval:
    """Interquartile mean over runs (R,), with its 95 % bootstrap interval."""
    return bootstrap_interval(values[None])


def performance_profile(savings: FloatArray, levels: FloatArray) -> FloatArray:
    """(L,) share of runs and workloads (R, W) that save at least as much as each level (L,)."""
    return np.asarray((savings[..., None] >= levels).mean(axis=(0, 1)))


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


def _costs(evaluation: Evaluation, metric: str) -> FloatArray:
    """(P, W) mean over the episodes of a workload."""
    return np.asarray(evaluation.metrics[metric].mean(axis=2))
