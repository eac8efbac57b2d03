"""Comparisons on DAMON's environments: a score of which more is better, in arithmetic mean over the workloads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from agents.damon_environments import CLAIRVOYANT, COMMON_METRICS, DAMON_ENVIRONMENTS, Bound, DamonEnvironment
from agents.playing import episode_seeds, make_environment
from agents.results import Comparison, Evaluation
from agents.statistics import FloatArray, bootstrap_interval
from agents.tables import format_table, in_words
from kml_envs.damon.warm_programs import ORIGINS, WarmPrograms


def evaluate_bound(bound: Bound, env_id: str, env_kwargs: Mapping[str, Any], like: Evaluation) -> Evaluation:
    """Let oracles play the episodes of an environment.

    Args:
        bound: The oracles.
        env_id: The environment.
        env_kwargs: Its arguments.
        like: What another policy achieved on the same episodes.
    """
    oracles: tuple[str, ...] = ()
    values: dict[str, FloatArray] = {}
    for column, workload in enumerate(like.workloads):
        environment = make_environment(env_id, env_kwargs, workload, 1)
        proxy: Any = getattr(environment.unwrapped, "proxy")  # noqa: B009 (Gymnasium's type has none)
        warm: WarmPrograms = proxy.subsystem.warm
        duration_s = proxy.options.episode_progress / 1000.0
        environment.close()
        reached = [
            bound(warm.workloads[0], warm.machine, duration_s, warm.origin_us(0, place)) for place in range(ORIGINS)
        ]
        if not oracles:
            oracles = tuple(reached[0])
            shape = (len(oracles), len(like.workloads), len(like.seeds))
            values = {name: np.full(shape, np.nan) for name in like.metrics}
        for row, seed in enumerate(episode_seeds(like.seeds).tolist()):
            for number, means in enumerate(reached[warm.begins(seed)[1]].values()):
                for name, value in means.items():
                    values[name][number, column, row] = value
    return Evaluation(oracles, like.workloads, like.seeds, values)


def describe_scores(comparison: Comparison) -> str:
    """The table of scores, and below it who won and why."""
    environment = DAMON_ENVIRONMENTS[comparison.env_id]
    results = comparison.results
    scores = results.metrics["score"].mean(axis=2)
    means = scores.mean(axis=1)
    body = [[workload, *_cells(comparison, scores[:, row])] for row, workload in enumerate(results.workloads)]
    body.append(["mean", *_cells(comparison, means)])
    lines = [
        f"Score on each workload ({environment.score}, more is better; * best built-in algorithm)",
        "",
        format_table(["workload", *results.policies], body),
        "",
        _verdict(comparison, means),
    ]
    if comparison.judged not in comparison.builtins:
        rows = [results.policies.index(name) for name in comparison.builtins]
        best = float(scores[rows].max(axis=0).mean())
        lines.append(f"The best built-in algorithm of each workload, chosen with hindsight, has {best:.4f}.")
    own, builtin = (_explaining(comparison, environment, name) for name in (comparison.judged, comparison.reference))
    lines.append(environment.explain(own, builtin, comparison.reference))
    if CLAIRVOYANT in results.policies and means[results.policies.index(CLAIRVOYANT)] > 0:
        share = means[results.policies.index(comparison.judged)] / means[results.policies.index(CLAIRVOYANT)]
        lines.append(f"That is {100 * share:.0f} % of the clairvoyant oracle's score.")
    return "\n".join(lines)


def _explaining(comparison: Comparison, environment: DamonEnvironment, policy: str) -> dict[str, float]:
    """The metrics that explain a policy's score, in mean over workloads and episodes."""
    names = (*COMMON_METRICS, *environment.metrics)
    return {name: float(comparison.results.of(policy, name).mean()) for name in names}


def _verdict(comparison: Comparison, means: FloatArray) -> str:
    """Whether the judged policy beats the best other built-in algorithm, with the interval over the episodes."""
    results, judged = comparison.results, comparison.judged
    others = [name for name in comparison.builtins if name != judged]
    best = max(others, key=lambda name: float(means[results.policies.index(name)]))
    own, other = (float(means[results.policies.index(name)]) for name in (judged, best))
    gains = results.of(judged, "score") - results.of(best, "score")
    gain = bootstrap_interval(gains, lambda values: float(values.mean()))
    won = "beats" if gain.low > 0 else "does not beat" if gain.high < 0 else "equals, as far as these episodes tell,"
    kind = "other" if judged in comparison.builtins else "single"
    return (
        f"{in_words(judged, comparison.builtins)} {won} the best {kind} built-in algorithm ({best}): "
        f"score {own:.4f} against {other:.4f} in mean "
        f"over {len(results.workloads)} workload{'s' * (len(results.workloads) != 1)}, "
        f"{gain.estimate:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] (95 % bootstrap interval)."
    )


def _cells(comparison: Comparison, values: FloatArray) -> list[str]:
    named = list(zip(comparison.results.policies, values.tolist(), strict=True))
    best = max(value for name, value in named if name in comparison.builtins)
    return [f"{'*' * (name in comparison.builtins and value == best)}{value:.4f}" for name, value in named]
