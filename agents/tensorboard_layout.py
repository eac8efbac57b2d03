"""Which charts TensorBoard's CUSTOM SCALARS tab shows: those that a training has something to say on."""

from __future__ import annotations

from typing import Any, TypeAlias

from agents.damon_environments import DAMON_ENVIRONMENTS

Charts: TypeAlias = dict[str, list[Any]]

_PROXY: Charts = {
    "agent's share": ["Multiline", ["proxy/agent_share"]],
    "mode (0 emergency to 3 recommendation)": ["Multiline", ["proxy/mode$"]],
    "verdicts": ["Multiline", ["proxy/verdict/.*"]],
    "efficiency by side": ["Multiline", ["proxy/efficiency/agent", "proxy/efficiency/builtin"]],
}
_EVIDENCE: Charts = {"evidence of mode auto": ["Multiline", ["proxy/evidence_.*"]]}
_TRUST: Charts = {
    "trust in evaluations": ["Multiline", ["eval/auto/mode", "eval/auto/trusted_fraction"]],
    "evidence in evaluations": ["Multiline", ["eval/auto/evidence_.*"]],
}
_FILE_SYSTEM: Charts = {
    "write amplification": ["Multiline", ["lfs/write_amplification", "eval/write_amplification"]],
    "moved blocks": ["Multiline", ["lfs/moved_blocks"]],
    "free sections": ["Multiline", ["lfs/free_sections", "lfs/minimum_free_sections"]],
    "stalls": ["Multiline", ["lfs/stalls", "lfs/stall_ms"]],
    "write latency": ["Multiline", ["lfs/latency_p99.*"]],
}
_AGENT: Charts = {
    "return": ["Multiline", ["rollout/ep_rew_mean", "eval/mean_reward"]],
    "score by workload": ["Multiline", ["eval/score.*"]],
}


def layout_of(env_id: str, *, auto: bool, deployed: bool) -> dict[str, Charts]:
    """Lay out the charts of a training.

    Args:
        env_id: The environment.
        auto: It learns under mode `auto`.
        deployed: Its evaluations see whether the proxy would trust the agent.

    Returns:
        Charts by name, by category, as `SummaryWriter.add_custom_scalars` wants them.
    """
    layout = {"Proxy": {**_PROXY, **(_EVIDENCE if auto else {}), **(_TRUST if deployed else {})}}
    if env_id.startswith("kml/Lfs"):
        layout["Log-structured file system"] = _FILE_SYSTEM
    if env_id in DAMON_ENVIRONMENTS:
        metrics = DAMON_ENVIRONMENTS[env_id].metrics
        layout["DAMON"] = {
            "score, and what explains it": ["Multiline", ["damon/score", *(f"damon/{name}" for name in metrics)]],
            "processor share of the monitor": ["Multiline", ["damon/monitor_cpu_share"]],
            "regions": ["Multiline", ["damon/regions"]],
        }
    return {**layout, "Agent": _AGENT}
