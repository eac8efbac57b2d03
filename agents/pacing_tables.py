"""A comparison of policies of `kml/LfsPacing-v0` in words: tail latencies, stalls, write amplification."""

from __future__ import annotations

import numpy as np

from agents.measures import percent_text
from agents.results import Comparison
from agents.statistics import FloatArray, geometric_mean
from agents.tables import format_table

TAILS = {"p99": "latency_p99_ms", "p99.9": "latency_p999_ms", "p99.99": "latency_p9999_ms"}
_SUMS = ("stalls", "stall_ms", "cost_ms")


def describe_pacing(comparison: Comparison) -> str:
    """One row per policy over all workloads, then p99.9 by workload, and below it what the judged policy changes."""
    return "\n".join(
        [
            "Over all workloads: latencies of user writes in ms (geometric mean), writes that waited for cleaning and",
            "for how long, write amplification (geometric mean), and the cost that the environment counts:",
            "",
            overview(comparison),
            "",
            "p99.9 of user write latencies in ms (write amplification in brackets):",
            "",
            by_workload(comparison),
            "",
            verdict(comparison),
        ]
    )


def overview(comparison: Comparison) -> str:
    """One row per policy, one column per measure."""
    results = comparison.results
    body = []
    for policy in results.policies:
        tails = [f"{tail(comparison, policy, metric):.2f}" for metric in TAILS.values()]
        stalls, stall_ms, cost_ms = (float(results.of(policy, name).sum()) for name in _SUMS)
        amplification = float(results.geometric_means([policy])[0])
        cost = f"{cost_ms / 1000:.1f}"
        body.append([policy, *tails, f"{stalls:,.0f}", f"{stall_ms / 1000:,.1f}", f"{amplification:.3f}", cost])
    return format_table(["policy", *TAILS, "stalls", "stall s", "write-amplification", "cost s"], body)


def by_workload(comparison: Comparison) -> str:
    """One row per workload, one column per policy."""
    results = comparison.results
    amplification = results.write_amplification
    body = []
    for row, workload in enumerate(results.workloads):
        slow = [float(geometric_mean(results.of(policy, TAILS["p99.9"])[row])) for policy in results.policies]
        cells = [f"{value:.2f} ({wa:.2f})" for value, wa in zip(slow, amplification[:, row], strict=True)]
        body.append([workload, *cells])
    return format_table(["workload", *results.policies], body)


def verdict(comparison: Comparison) -> str:
    """What the judged policy changes against the built-in algorithm of its environment."""
    results, judged, reference = comparison.results, comparison.judged, comparison.reference
    if judged == reference:
        return f"{judged} is the built-in algorithm of the environment."
    slow = tail(comparison, judged, TAILS["p99.9"]) / tail(comparison, reference, TAILS["p99.9"])
    stall = results.of(judged, "stall_ms").sum() / max(float(results.of(reference, "stall_ms").sum()), 1e-9)
    own, other = results.geometric_means([judged, reference])
    cost = results.of(judged, "cost_ms").sum() / max(float(results.of(reference, "cost_ms").sum()), 1e-9)
    better = slow < 1.0 and stall < 1.0 and own <= other
    return (
        f"{judged} {'beats' if better else 'does not beat'} {reference} in tail, stalls and write amplification alike: "
        f"p99.9 {change(slow)}, stall time {change(float(stall))}, "
        f"write amplification {change(float(own / other))}, cost {change(float(cost))}."
    )


def tail(comparison: Comparison, policy: str, metric: str) -> float:
    """Geometric mean of a latency percentile over workloads and seeds, in ms."""
    return geometric_tail(comparison.results.of(policy, metric))


def geometric_tail(latencies_ms: FloatArray) -> float:
    """Geometric mean of latencies of any shape, in ms; those below a microsecond count as one."""
    return float(np.exp(np.log(np.maximum(latencies_ms, 1e-3)).mean()))


def change(ratio: float) -> str:
    """A ratio as a change in percent."""
    return percent_text(ratio - 1.0)
