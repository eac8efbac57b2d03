"""What policies achieved, as arrays, and how a judged policy compares with built-in algorithms and oracles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.damon_environments import COMMON_METRICS, DAMON_ENVIRONMENTS
from agents.statistics import FloatArray, Interval, bootstrap_interval, geometric_mean, normalized_score
from kml_envs.lfs.oracle import OracleKind

METRICS = (
    "write_amplification",
    "moved_blocks",
    "user_blocks",
    "operations",
    "stalls",
    "stall_ms",
    "minimum_free_sections",
)
PACING_METRICS = (
    "latency_p50_ms",
    "latency_p99_ms",
    "latency_p999_ms",
    "latency_p9999_ms",
    "latency_max_ms",
    "excess_ms",
    "cost_ms",
    "foreground_operations",
    "background_operations",
)
"""What environments with latencies tell beside METRICS."""
SCORE_METRICS = tuple(
    dict.fromkeys((*COMMON_METRICS, *(name for known in DAMON_ENVIRONMENTS.values() for name in known.metrics)))
)
"""What environments of DAMON tell, and `operations`."""
EVERYTHING = (*METRICS, *PACING_METRICS, *SCORE_METRICS)
CHARGED_COST = "charged_cost"
"""What the proxy charges for an episode, in the subsystem's own unit; told by the proxy, and no metric of its own."""


@dataclass(frozen=True)
class Evaluation:
    """What P policies achieved on W workloads with S seeds each.

    Attributes:
        policies: (P,) names.
        workloads: (W,) names.
        seeds: (S,) seeds of the episodes.
        metrics: By name of `EVERYTHING`, as far as the environment tells it, and `CHARGED_COST`: (P, W, S) float64
            of a whole episode; NaN where a policy does not play.
    """

    policies: tuple[str, ...]
    workloads: tuple[str, ...]
    seeds: tuple[int, ...]
    metrics: Mapping[str, FloatArray]

    def of(self, policy: str, metric: str = "moved_blocks") -> FloatArray:
        """(W, S) values of one policy."""
        values: FloatArray = self.metrics[metric][self.policies.index(policy)]
        return values

    @property
    def write_amplification(self) -> FloatArray:
        """(P, W): over all seeds of a workload, (user blocks + moved blocks) / user blocks."""
        moved, user = self.metrics["moved_blocks"].sum(axis=2), self.metrics["user_blocks"].sum(axis=2)
        return np.asarray(1.0 + moved / user)

    def geometric_means(self, policies: Sequence[str]) -> FloatArray:
        """Write amplification of the named policies in geometric mean over the workloads, (len(policies),)."""
        rows = [self.policies.index(policy) for policy in policies]
        return geometric_mean(self.write_amplification[rows])

    def best_single(self, policies: Sequence[str]) -> str:
        """Which of the named policies has the lowest geometric mean: the best that one fixed choice can do."""
        return policies[int(np.argmin(self.geometric_means(policies)))]

    def best_per_workload(self, policies: Sequence[str]) -> FloatArray:
        """(W,) lowest write amplification of the named policies on each workload: what nobody can choose beforehand."""
        rows = [self.policies.index(policy) for policy in policies]
        return np.asarray(self.write_amplification[rows].min(axis=0))


@dataclass(frozen=True)
class Comparison:
    """A policy beside the built-in algorithms and the oracles.

    Attributes:
        results: All of them.
        judged: Name of the policy that is judged.
        reference: Name of the environment's own built-in algorithm: the 0 of the normalized score.
        builtins: Names of all built-in algorithms.
        env_id: The environment of the judged policy.
    """

    results: Evaluation
    judged: str
    reference: str
    builtins: tuple[str, ...]
    env_id: str

    def scores(self, oracle: OracleKind = OracleKind.CLAIRVOYANT) -> FloatArray:
        """(W, S) normalized scores of the judged policy, 1 being the named oracle."""
        of = self.results.of
        return normalized_score(
            of(self.reference), of(self.judged), of(oracle.value), of(self.reference, "user_blocks")
        )

    def score(self, oracle: OracleKind = OracleKind.CLAIRVOYANT) -> Interval:
        """Interquartile mean of the normalized scores, with its 95 % bootstrap interval."""
        return bootstrap_interval(self.scores(oracle))


def join(parts: Sequence[Evaluation]) -> Evaluation:
    """Put policies that played the same episodes side by side; what one of them does not tell, as oracles, is NaN."""
    first = parts[0]
    shape = (len(first.workloads), len(first.seeds))
    if any((part.workloads, part.seeds) != (first.workloads, first.seeds) for part in parts):
        raise ValueError("only evaluations on the same workloads and seeds can be joined")
    return Evaluation(
        tuple(name for part in parts for name in part.policies),
        first.workloads,
        first.seeds,
        {
            name: np.concatenate(
                [part.metrics.get(name, np.full((len(part.policies), *shape), np.nan)) for part in parts]
            )
            for name in first.metrics
        },
    )
