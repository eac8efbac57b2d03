"""Simulated volumes in their steady state, for comparison with what theory and other simulators say."""

from __future__ import annotations

import numpy as np

from kml_envs.lfs.config import (
    CleaningConfig,
    CleaningPolicy,
    Geometry,
    LfsConfig,
    MtimeRule,
    Placement,
    PlacementConfig,
)
from kml_envs.lfs.simulator import advance_rows, fill_rows, format_rows
from kml_envs.lfs.state import LfsState, allocate, set_source
from kml_envs.workloads.source import bind_workloads
from kml_envs.workloads.synthetic import Workload

ROW = np.zeros(1, np.int64)


def on_demand(
    spare: float,
    policy: CleaningPolicy,
    *,
    live_sections: int = 1500,
    blocks_per_segment: int = 64,
    placement: Placement = Placement.ONE_LOG,
    choices: int = 10,
    mtime_rule: MtimeRule = MtimeRule.LAST_WRITE,
) -> LfsConfig:
    """A volume that cleans as late as it can without an emergency, with about the given spare factor."""
    logs = PlacementConfig(placement)
    kept_free = logs.logs + 2
    sections = round(live_sections / (1 - spare)) + kept_free + 1
    return LfsConfig(
        Geometry(
            segments=sections,
            blocks_per_segment=blocks_per_segment,
            utilisation=(live_sections * blocks_per_segment + 0.5) / (sections * blocks_per_segment),
        ),
        logs,
        CleaningConfig(policy=policy, choices=choices, trigger_sections=kept_free, mtime_rule=mtime_rule),
    )


def filled(config: LfsConfig, workload: Workload, seed: int = 1) -> LfsState:
    """A volume with every block written once, in address order."""
    state = allocate(config, bind_workloads([workload], config.geometry.volume_blocks), 1)
    format_rows(state.volumes, ROW, np.array([seed], np.uint64))
    set_source(state, 0, 0, seed)
    fill_rows(state.volumes, ROW)
    return state


def write_amplification(state: LfsState, writes: int) -> float:
    """Write amplification of the next user writes."""
    before = state.volumes[0].copy()
    advance_rows(state.volumes, ROW, state.volumes["user_writes"] + writes, np.zeros(1, np.bool_))
    after = state.volumes[0]
    assert after["exhausted"] == 0
    assert after["user_writes"] - before["user_writes"] == writes
    return float(1 + (after["moved"] - before["moved"]) / writes)


def steady_amplification(config: LfsConfig, workload: Workload, warm_up: float = 8, measured: float = 8) -> float:
    """Write amplification after `warm_up` volumes of user writes, over `measured` volumes."""
    state = filled(config, workload)
    blocks = config.geometry.volume_blocks
    write_amplification(state, round(warm_up * blocks))
    return write_amplification(state, round(measured * blocks))
