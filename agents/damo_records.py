"""What the monitor finds while a policy plays, as records for damo, the user-space tool of DAMON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.baselines import Array, BuiltinPolicy, Contender
from agents.damon_environments import DAMON_ENVIRONMENTS
from agents.watching import watch
from kml_envs.damon.control import Intervals
from kml_envs.damon.recording import SnapshotRecorder
from kml_envs.damon.simulator import whole_picture
from kml_envs.errors import UserError
from kml_envs.workloads.formats.damo import write_damo
from kml_envs.workloads.snapshots import SnapshotRecord


def check_recordable(path: Path | None, env_id: str) -> None:
    """Refuse to record where there is no monitor.

    Raises:
        UserError: A file is wanted, and the environment is not one of DAMON.
    """
    if path is not None and env_id not in DAMON_ENVIRONMENTS:
        raise UserError(f"--damo: {env_id} has no monitor, accepted are {', '.join(DAMON_ENVIRONMENTS)}")


def write_episodes(path: Path, judged: Contender, workloads: Sequence[str], seed: int) -> None:
    """Let a policy play an episode on each workload, and write the snapshots.

    Args:
        path: The file, in damo's json_compressed.
        judged: The policy.
        workloads: Names; the record of each tells its place among them as the number of its kdamond.
        seed: Of the episodes.
    """
    write_damo(
        path,
        [record_episode(judged, workload, seed, kdamond=number) for number, workload in enumerate(workloads)],
    )


def record_episode(judged: Contender, workload: str, seed: int, *, kdamond: int = 0) -> SnapshotRecord:
    """Let a policy play, and take a snapshot of all regions at the beginning of each control interval.

    Args:
        judged: The policy.
        workload: Name.
        seed: Of the episode.
        kdamond: Number that the record tells.
    """
    recorder = SnapshotRecorder(kdamond)

    def look(subsystem: Any, observation: Array, action: Array) -> None:  # noqa: ANN401 (a subsystem of any kind)
        attributes = subsystem.state.monitors["attributes"][0]
        intervals = Intervals(int(attributes["sample_us"]), int(attributes["aggr_us"]))
        recorder.take(whole_picture(subsystem.state, 0), intervals, int(subsystem.time_us()[0]))

    if judged.builtin:  # runs through without being asked: let it be asked
        judged = replace(judged, env_kwargs={**judged.env_kwargs, "mode": "recommendation"}, make_policy=BuiltinPolicy)
    watch(judged, workload, [seed], look)
    return recorder.record()
