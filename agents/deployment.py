"""What deployment would have done with a policy: the proxy in mode `auto`, and when it would have trusted it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from agents.baselines import Array, Contender
from agents.damon_environments import DAMON_ENVIRONMENTS
from agents.playing import play
from agents.tables import format_table
from kml_envs.proxy.modes import Mode

VOLUMES = 60.0
"""Volumes of user writes of a deployment, where nothing else is asked for."""

DAMON_UNIT_S = 30.0
"""Seconds of a program under DAMON that stand for a volume of user writes."""

_METRICS = ("mode", "collaboration_after", "recommendation_after", "degradations")


def deploy(judged: Contender, workloads: Sequence[str], seeds: Sequence[int], volumes: float) -> str:
    """Let a policy run behind a proxy that decides by itself how far it trusts it, and say what became of that.

    Args:
        judged: The policy; its environment's mode and length of an episode are replaced.
        workloads: Names.
        seeds: One deployment each, on every workload.
        volumes: Volumes of user writes of a deployment, or so many times 30 s of a program.

    Returns:
        A table with one row per workload, and a sentence.

    Raises:
        UserError: The environment's arguments do not go with mode `auto`.
    """
    arguments = {key: value for key, value in judged.env_kwargs.items() if key not in ("share", "probes")}
    in_time = judged.env_id in DAMON_ENVIRONMENTS
    length = {"episode_s": DAMON_UNIT_S * volumes} if in_time else {"episode_volumes": volumes}
    unit, measure = (f"{DAMON_UNIT_S:g} s", "score") if in_time else ("volumes", "write_amplification")
    deployed = replace(judged, env_kwargs={**arguments, "mode": "auto", **length})
    header = ["workload", "trusted", f"after {unit}", "collaborating", "emergency", "degraded"]
    header.append(measure.replace("_", " "))
    body, trusted = [], 0
    for workload in workloads:
        result = play(deployed, workload, seeds, (*_METRICS, measure, "user_blocks"))
        reached = result["recommendation_after"] >= 0.0
        trusted += int(reached.sum())
        per_unit = np.full(len(seeds), 1000.0 * DAMON_UNIT_S) if in_time else result["user_blocks"] / volumes
        body.append(
            [
                workload,
                f"{int(reached.sum())}/{len(seeds)}",
                _volumes(result["recommendation_after"][reached] / per_unit[reached]),
                f"{int((result['mode'] == Mode.COLLABORATION).sum())}/{len(seeds)}",
                f"{int((result['mode'] == Mode.EMERGENCY).sum())}/{len(seeds)}",
                f"{int((result['degradations'] > 0).sum())}/{len(seeds)}",
                f"{result[measure].mean():.3f}",
            ]
        )
    runs = len(workloads) * len(seeds)
    return "\n".join(
        [
            f"Deployment: the same policy under mode auto for {volumes:g} "
            f"{'times 30 s' if in_time else 'volumes of user writes'}, compared in time",
            "(trusted: runs in which the proxy let it decide; the median of when; the other counts are of the end)",
            "",
            format_table(header, body),
            "",
            f"The proxy would have trusted it in {trusted} of {runs} runs.",
        ]
    )


def _volumes(after: Array) -> str:
    """The median of some lengths, in volumes."""
    return f"{np.median(after):.0f}" if after.size else "-"
