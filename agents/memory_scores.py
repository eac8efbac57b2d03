"""Comparisons on DAMON's environments: a score of which more is better, in arithmetic mean over the workloads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from agents.playing import episode_seeds, make_environment
from agents.results import Comparison, Evaluation
from agents.statistics import FloatArray, bootstrap_interval
from agents.tables import format_table
from kml_envs.damon.oracle import reclaim_bound
from kml_envs.damon.programs import ORIGINS, WarmPrograms

CLAIRVOYANT = "clairvoyant"


def evaluate_bound(env_id: str, env_kwargs: Mapping[str, Any], like: Evaluation) -> Evaluation:
    """Let the clairvoyant oracle of reclaim play the episodes of an environment.

    Args:
        env_id: The environment.
        env_kwargs: Its arguments.
        like: What another policy achieved on the same episodes.
    """
    values = {name: np.full((1, len(like.workloads), len(like.seeds)), np.nan) for name in like.metrics}
    for column, workload in enumerate(like.workloads):
        environment = make_environment(env_id, env_kwargs, workload, 1)
        proxy: Any = getattr(environment.unwrapped, "proxy")  # noqa: B009 (Gymnasium's type has none)
        warm: WarmPrograms = proxy.subsystem.warm
        duration_s = proxy.options.episode_progress / 1000.0
        environment.close()
        table, config = warm.workloads[0].table, warm.machine.config
        bounds = [
            reclaim_bound(table, config, duration_s, origin_us=warm.origin_us(0, place)) for place in range(ORIGINS)
        ]
        for row, seed in enumerate(episode_seeds(like.seeds).tolist()):
            bound = bounds[warm.begins(seed)[1]]
            values["score"][0, column, row] = bound.score
            values["memory_saving"][0, column, row] = bound.saving
            values["slowdown"][0, column, row] = bound.slowdown
    return Evaluation((CLAIRVOYANT,), like.workloads, like.seeds, values)


def describe_scores(comparison: Comparison) -> str:
    """The table of scores, and below it who won."""
    results = comparison.results
    scores = results.metrics["score"].mean(axis=2)
    means = scores.mean(axis=1)
    body = [[workload, *_cells(comparison, scores[:, row])] for row, workload in enumerate(results.workloads)]
    body.append(["mean", *_cells(comparison, means)])
    lines = [
        "Score on each workload (0.5 x memory saving - 0.5 x slowdown, more is better; * best built-in algorithm)",
        "",
        format_table(["workload", *results.policies], body),
        "",
        _verdict(comparison, means),
    ]
    if comparison.judged not in comparison.builtins:
        rows = [results.policies.index(name) for name in comparison.builtins]
        best = float(scores[rows].max(axis=0).mean())
        lines.append(f"The best built-in algorithm of each workload, chosen with hindsight, has {best:.4f}.")
    own = results.policies.index(comparison.judged)
    saving, slowdown = (float(results.metrics[name][own].mean()) for name in ("memory_saving", "slowdown"))
    lines.append(f"It saves {100 * saving:.1f} % of the memory and loses {100 * slowdown:.2f} % of the time.")
    if CLAIRVOYANT in results.policies and means[results.policies.index(CLAIRVOYANT)] > 0:
        share = means[own] / means[results.policies.index(CLAIRVOYANT)]
        lines.append(f"That is {100 * share:.0f} % of the clairvoyant oracle's score.")
    return "\n".join(lines)


def _verdict(comparison: Comparison, means: FloatArray) -> str:
    """Whether the judged policy beats the best other built-in algorithm, with the interval over the episodes."""
    results, judged = comparison.results, comparison.judged
    others = [name for name in comparison.builtins if name != judged]
    best = max(others, key=lambda name: float(means[results.policies.index(name)]))
    own, other = (float(means[results.policies.index(name)]) for name in (judged, best))
    gains = results.of(judged, "score") - results.of(best, "score")
    gain = bootstrap_interval(gains, lambda values: float(values.mean()))
    won = "beats" if gain.low > 0 else "does not beat" if gain.high < 0 else "equals, as far as these episodes tell,"
    return (
        f"The {judged} {won} the best single built-in algorithm ({best}): score {own:.4f} against {other:.4f} in mean "
        f"over {len(results.workloads)} workload{'s' * (len(results.workloads) != 1)}, "
        f"{gain.estimate:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] (95 % bootstrap interval)."
    )


def _cells(comparison: Comparison, values: FloatArray) -> list[str]:
    named = list(zip(comparison.results.policies, values.tolist(), strict=True))
    best = max(value for name, value in named if name in comparison.builtins)
    return [f"{'*' * (name in comparison.builtins and value == best)}{value:.4f}" for name, value in named]
