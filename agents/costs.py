"""How good a policy is on a subsystem of one's own: its cost beside the built-in algorithm's on the same episodes.

Such a subsystem has no suites of workloads and no oracle; what an episode holds follows from its seed, and the shadow
says exactly what the built-in algorithm would have paid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from agents.baselines import PolicyMaker, RandomPolicy
from agents.measures import percent_text
from agents.playing import play_out
from agents.statistics import FloatArray, bootstrap_interval
from agents.tables import format_table, in_words
from agents.vector_env import make_native_env

HELD_OUT_SEEDS = range(1_000_001, 1_000_021)
"""Far from the seeds of training and validation; twenty episodes."""


def compare_costs(
    name: str,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    make_policy: PolicyMaker,
    seeds: Sequence[int] = HELD_OUT_SEEDS,
    progress: Callable[[str], None] = lambda name: None,
) -> str:
    """Play a policy and random actions, and say how their costs compare with the built-in algorithm's.

    Args:
        name: What the policy is called.
        env_id: The environment.
        env_kwargs: Its arguments.
        make_policy: Makes the policy.
        seeds: One episode each.
        progress: Told the name of each policy before it plays.
    """
    policies: dict[str, PolicyMaker] = {name: make_policy, "random-action": RandomPolicy}
    rows: list[list[str]] = []
    judged = np.zeros(0)
    for each, maker in policies.items():
        progress(each)
        paid, builtin = episode_costs(env_id, env_kwargs, maker, seeds)
        if not rows:
            judged = 1.0 - paid / builtin
            rows.append(["built-in algorithm", f"{builtin.mean():.1f}", ""])
        rows.append([each, f"{paid.mean():.1f}", percent_text(1.0 - paid.mean() / builtin.mean())])
    interval = bootstrap_interval(judged[None])
    low, high = 100 * interval.low, 100 * interval.high
    won = "beats" if low > 0 else "does not beat" if high < 0 else "equals, as far as these episodes tell,"
    return "\n".join(
        [
            f"Cost of an episode, mean over {len(seeds)} seeds",
            "",
            format_table(["policy", "cost", "saved"], rows),
            "",
            f"{in_words(name)} {won} the built-in algorithm: it saves {100 * interval.estimate:.1f} % "
            f"[{low:.1f}, {high:.1f}] of its cost (interquartile mean, 95 % bootstrap interval).",
        ]
    )


def episode_costs(
    env_id: str, env_kwargs: Mapping[str, Any], make_policy: PolicyMaker, seeds: Sequence[int]
) -> tuple[FloatArray, FloatArray]:
    """What a policy paid in each episode (S,), and what the built-in algorithm would have paid (S,)."""
    arguments = {**env_kwargs, "efficiency": "shadow", "autoreset_mode": "disabled"}
    infos, paid = play_out(make_native_env(env_id, len(seeds), arguments), make_policy, seeds)
    return paid, paid + np.asarray(infos["efficiency"], np.float64)
