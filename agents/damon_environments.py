"""The environments of programs under DAMON, and what comparing policies on them takes: one entry each.

All of them say `score` at the end of an episode, of which more is better. Baselines, closing tables, TensorBoard and
deployment read here what the score means, what explains it, and against whom it is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kml_envs.damon.monitor_settings import BUILTINS as MONITOR_BUILTINS
from kml_envs.damon.monitor_tuning import CPU_PRICE
from kml_envs.damon.oracle import placement_bound, reclaim_bound
from kml_envs.damon.reclaim_settings import BUILTINS as RECLAIM_BUILTINS
from kml_envs.damon.tier_settings import BUILTINS as TIER_BUILTINS
from kml_envs.damon.warm_programs import Machine
from kml_envs.workloads.memory_workloads import MemoryWorkload

MONITOR, RECLAIM, TIER = "kml/DamonMonitor-v0", "kml/DamonReclaim-v0", "kml/DamonTier-v0"

CLAIRVOYANT = "clairvoyant"
"""The oracle that knows the future, in tables."""
BEST_STATIC = "best static"
"""The oracle that knows the future and may place memory once, in tables."""

Means = Mapping[str, float]
"""Metrics by name, each in mean over workloads and episodes."""

Bound = Callable[[MemoryWorkload, Machine, float, int], Mapping[str, Means]]
"""What oracles reach in an episode: of a workload, on a machine, for so many seconds, from a place in the pattern on
(microseconds); by the oracle's name `score` and what explains it."""


@dataclass(frozen=True)
class DamonEnvironment:
    """What the score of one environment is, and with what it is compared.

    Attributes:
        score: Its formula, for titles.
        metrics: What explains it: names of metrics that the environment tells beside those of `COMMON_METRICS`.
        explain: The sentence that follows the table, from the metrics of the judged policy, those of the environment's
            own built-in algorithm, and the name of the latter.
        builtins: The built-in algorithms to compare with, each a value of the argument `builtin`.
        bound: The oracles; None: there are none.
    """

    score: str
    metrics: tuple[str, ...]
    explain: Callable[[Means, Means, str], str]
    builtins: tuple[str, ...]
    bound: Bound | None = None


def _explain_monitor(own: Means, builtin: Means, name: str) -> str:
    error, share = own["access_error"], own["monitor_cpu_share"]
    other_error, other_share = builtin["access_error"], builtin["monitor_cpu_share"]
    change = 100 * (error / other_error - 1.0)
    compared = f"{abs(change):.1f} % {'lower' if change < 0 else 'higher'}"
    return (
        f"The error of its access picture is {compared} than under {name} "
        f"({error:.3f} against {other_error:.3f}), at {share / other_share:.2f} times the overhead "
        f"({100 * share:.3f} against {100 * other_share:.3f} % of a processor)."
    )


def _explain_reclaim(own: Means, builtin: Means, name: str) -> str:
    saving, slowdown = 100 * own["memory_saving"], 100 * own["slowdown"]
    return f"It saves {saving:.1f} % of the memory and loses {slowdown:.2f} % of the time."


def _bound_reclaim(
    workload: MemoryWorkload, machine: Machine, duration_s: float, origin_us: int
) -> Mapping[str, Means]:
    bound = reclaim_bound(workload.table, machine.config_for(workload), duration_s, origin_us=origin_us)
    return {CLAIRVOYANT: {"score": bound.score, "memory_saving": bound.saving, "slowdown": bound.slowdown}}


def _explain_tier(own: Means, builtin: Means, name: str) -> str:
    lost, lost_before = (100 * means["slowdown"] for means in (own, builtin))
    slow, slow_before = (100 * means["slow_access_share"] for means in (own, builtin))
    text = (
        f"It loses {lost:.2f} % of the time against all-fast memory. {slow:.1f} % of the accesses go to the slow node, "
        f"and {own['migrated_mib']:.0f} MiB are migrated in an episode."
    )
    if own == builtin:
        return text
    less = 100 * (1.0 - lost / lost_before) if lost_before > 0 else 0.0
    return (
        f"{text} Under {name} that is {lost_before:.2f} %, {slow_before:.1f} % and {builtin['migrated_mib']:.0f} MiB: "
        f"its slowdown is {abs(less):.0f} % {'smaller' if less >= 0 else 'larger'}."
    )


def _bound_tier(workload: MemoryWorkload, machine: Machine, duration_s: float, origin_us: int) -> Mapping[str, Means]:
    bound = placement_bound(workload.table, machine.config_for(workload), duration_s, origin_us=origin_us)
    return {
        BEST_STATIC: {"score": -bound.static, "slowdown": bound.static},
        CLAIRVOYANT: {"score": -bound.dynamic, "slowdown": bound.dynamic},
    }


DAMON_ENVIRONMENTS = {
    MONITOR: DamonEnvironment(
        score=f"minus (access error + {CPU_PRICE:g} x monitor's share of a processor)",
        metrics=("access_error", "pictures", "sample_ms"),
        explain=_explain_monitor,
        builtins=MONITOR_BUILTINS,
    ),
    RECLAIM: DamonEnvironment(
        score="0.5 x memory saving - 0.5 x slowdown",
        metrics=("memory_saving", "slowdown", "paged_out_mib", "major_faults"),
        explain=_explain_reclaim,
        builtins=RECLAIM_BUILTINS,
        bound=_bound_reclaim,
    ),
    TIER: DamonEnvironment(
        score="minus the slowdown against all-fast memory",
        metrics=("slowdown", "slow_access_share", "migrated_mib"),
        explain=_explain_tier,
        builtins=TIER_BUILTINS,
        bound=_bound_tier,
    ),
}
"""All of them by id."""

COMMON_METRICS = ("score", "monitor_cpu_share")
"""What every one of them tells, beside `operations`."""
