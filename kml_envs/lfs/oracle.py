"""The two upper bounds: what could be reached with knowledge that no agent has.

The *clairvoyant oracle* has read the coming writes. The *informed oracle* knows a synthetic generator's write
probabilities in the phase that it is in, but neither its draws nor, beyond the phase, what comes next. Both play the
episodes of an environment from the same volumes and with the same writes as the agent, so that the blocks moved can be
compared. Both choose victims and logs as `foresight.py` says; with `victims_only` the logs are the environment's, which
says what knowledge is worth to somebody who chooses nothing but victims.

The comparison is one of knowledge, not of space: an oracle keeps as many sections free as the environment does before
it cleans. It has logs of its own number, whose open sections come out of the same spare space; the logs that the
environment had open are closed when the episode begins. Neither oracle is proven optimal: an agent could, in
principle, do better, and would then score above 1.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.config import CleaningPolicy, LfsConfig, Placement, PlacementConfig
from kml_envs.lfs.foresight import NEVER
from kml_envs.lfs.sections import close_log
from kml_envs.lfs.simulator import advance_rows
from kml_envs.lfs.state import ARRAYS, LfsState, allocate
from kml_envs.lfs.warmup import WarmVolumes
from kml_envs.workloads.source import (
    PHASE,
    WorkloadTable,
    bind_workloads,
    materialize,
    overwrite_gaps,
    start_source,
)
from kml_envs.workloads.synthetic import PhaseKind, Workload

CLAIRVOYANT_LOGS = 7
FIRST_LIFE = 1.0 / 16.0  # volumes: the clairvoyant oracle's first threshold of remaining life
LIFE_RATIO = 2.25  # from one threshold to the next
FUTURE_VOLUMES = 8  # volumes of user writes that the clairvoyant oracle sees beyond the episode's end
INFORMED_LOGS = 6
RATE_POWER = 0.7  # the informed oracle's logs hold equal shares of the sum of rate ** RATE_POWER
CRITICAL_SECTIONS = 2  # nobody has to be asked: the emergency begins only where cleaning itself could run out of space

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class OracleKind(enum.Enum):
    """The oracles, by the names that tables give them."""

    CLAIRVOYANT = "clairvoyant oracle"
    INFORMED = "informed oracle"


def can_play(kind: OracleKind, workload: Workload) -> bool:
    """Whether an oracle knows anything about a workload: traces and logs that go around have no probabilities."""
    drawn = (PhaseKind.UNIFORM, PhaseKind.HOT_COLD, PhaseKind.ZIPF)
    return kind is OracleKind.CLAIRVOYANT or all(phase.kind in drawn for phase in workload.phases)


def oracle_costs(
    warm: WarmVolumes,
    workload: int,
    seeds: Sequence[int] | NDArray[np.uint64],
    episode_writes: int,
    kind: OracleKind,
    victims_only: bool = False,
) -> IntArray:
    """Play episodes.

    Args:
        warm: Where the agent's episodes begin.
        workload: Index of the workload in it.
        seeds: (R,) seeds of the episodes, as `WarmVolumes.restore` takes them.
        episode_writes: Length of an episode in user writes.
        kind: Which oracle.
        victims_only: Whether blocks are placed as the environment places them.

    Returns:
        (R,) int64, blocks moved in each episode.
    """
    if not can_play(kind, warm.workloads[workload]):
        raise ValueError(f"the {kind.value} cannot play the trace '{warm.workloads[workload].name}'")
    fixed, warm.only = warm.only, workload
    try:
        return np.array([_play(warm, int(seed), episode_writes, kind, victims_only) for seed in seeds], np.int64)
    finally:
        warm.only = fixed


def oracle_config(config: LfsConfig, kind: OracleKind, victims_only: bool = False) -> LfsConfig:
    """The file system as an oracle runs it: same geometry and free sections, own victim choice, placement and logs."""
    policy, rule, count = CleaningPolicy.CLAIRVOYANT, Placement.CLAIRVOYANT, CLAIRVOYANT_LOGS
    if kind is OracleKind.INFORMED:
        policy, rule, count = CleaningPolicy.INFORMED, Placement.INFORMED, INFORMED_LOGS
    if victims_only:
        return replace(config, cleaning=replace(config.cleaning, policy=policy))
    # A configuration with more logs insists on a larger reserve; what is kept free is set on the volume afterwards.
    trigger = max(config.trigger_sections, count + 1)
    return replace(
        config,
        placement=PlacementConfig(rule, classes=count),
        cleaning=replace(config.cleaning, policy=policy, trigger_sections=trigger),
    )


def _play(warm: WarmVolumes, seed: int, episode_writes: int, kind: OracleKind, victims_only: bool) -> int:
    found = allocate(warm.config, warm.table, 1)
    warm.restore(found, 0, seed)
    state = _adopt(found, oracle_config(warm.config, kind, victims_only), kind, victims_only)
    volume = state.volumes[0]
    volume["settings"]["trigger_sections"] = warm.config.trigger_sections
    volume["settings"]["reserve_sections"] = min(CRITICAL_SECTIONS, warm.config.reserve_sections)
    moved_before, end = int(volume["moved"]), int(volume["user_writes"]) + episode_writes
    if kind is OracleKind.CLAIRVOYANT:
        _run_clairvoyant(state, end, victims_only)
    else:
        _run_informed(state, end, victims_only)
    if volume["user_writes"] < end:
        raise RuntimeError(f"the {kind.value} ran out of free sections")
    return int(volume["moved"]) - moved_before


def _adopt(found: LfsState, config: LfsConfig, kind: OracleKind, victims_only: bool) -> LfsState:
    """The same volumes with the settings, logs and knowledge of an oracle."""
    if not victims_only:
        _close_logs(found.volumes)
    informed = kind is OracleKind.INFORMED
    state = allocate(config, found.table, len(found.volumes), foresight=not informed, rates=informed)
    knowledge, placing = {"deaths", "rates"}, {"intervals", "logs"}
    own = ["settings", "log_count", "knows_deaths", "keeps_intervals", *ARRAYS]
    kept = state.volumes[own].copy()
    state.volumes[:] = found.volumes
    for name in own:
        state.volumes[name] = kept[name]
    for name in set(ARRAYS) - knowledge - (set() if victims_only else placing):
        getattr(state, name)[:] = getattr(found, name)
    if not victims_only:
        state.logs["section"][:] = -1
    return state


def _run_clairvoyant(state: LfsState, end: int, victims_only: bool) -> None:
    volume = state.volumes[0]
    count, start = int(volume["block_count"]), int(volume["user_writes"])
    coming = materialize(state.volumes["source"].copy(), end - start + FUTURE_VOLUMES * count)
    table = _recorded(coming, count)
    source = start_source(table, 0, 0)
    source["position"], source["remaining"] = 0, coming.size
    volume["source"] = source[0]
    # The first write of each block: assigned backwards, so that the earliest one stays.
    state.deaths[0] = start + 2 * coming.size
    state.deaths[0, coming[::-1]] = start + np.arange(coming.size)[::-1]
    if not victims_only:
        thresholds = FIRST_LIFE * count * LIFE_RATIO ** np.arange(CLAIRVOYANT_LOGS - 1)
        volume["settings"]["age_threshold"][: thresholds.size] = thresholds
    _advance(state, end)
    del table  # the source held the addresses of its arrays until here


def _recorded(blocks: NDArray[np.int32], volume_blocks: int) -> WorkloadTable:
    """One workload that is exactly these writes, in a closed loop, with their addresses as they are."""
    phases = np.zeros(1, PHASE)
    phases["kind"], phases["writes"], phases["trace_length"] = PhaseKind.TRACE, blocks.size, blocks.size
    return bind_workloads((), volume_blocks)._replace(
        phases=phases,
        first_phase=np.zeros(1, np.int32),
        phase_count=np.ones(1, np.int32),
        interval_ns=np.zeros(1, np.int64),
        bursts=(None,),
        trace_blocks=blocks,
        trace_ns=np.full(blocks.size, -1, np.int64),
        trace_gaps=overwrite_gaps(blocks),
    )


def _run_informed(state: LfsState, end: int, victims_only: bool) -> None:
    volume = state.volumes[0]
    count = int(volume["block_count"])
    while volume["user_writes"] < end and not volume["exhausted"]:
        source = volume["source"]
        phase, left = int(source["phase"]), int(source["remaining"])
        if left == 0:
            first = int(source["first_phase"])
            phase = first + (phase + 1 - first) % int(source["phase_count"])
            left = int(state.table.phases[phase]["writes"])
        state.rates[0] = write_probabilities(state.table.phases[phase], count)
        if not victims_only:
            thresholds = lifetime_thresholds(state.rates[0], INFORMED_LOGS)
            volume["settings"]["age_threshold"][: thresholds.size] = np.minimum(thresholds, NEVER)
        _advance(state, min(end, int(volume["user_writes"]) + left))


def write_probabilities(phase: NDArray[np.void], volume_blocks: int) -> FloatArray:
    """(P,) float64: the probability that the next write of a PHASE record of a synthetic kind goes to each block."""
    ranks = np.arange(volume_blocks)
    by_rank = np.full(volume_blocks, 1.0 / volume_blocks)
    if phase["kind"] == PhaseKind.HOT_COLD:
        hot = int(phase["hot_blocks"])
        by_rank[:hot] = phase["hot_writes"] / hot
        by_rank[hot:] = (1.0 - phase["hot_writes"]) / (volume_blocks - hot)
    elif phase["kind"] == PhaseKind.ZIPF:
        by_rank = (ranks + 1.0) ** -phase["theta"]
        by_rank /= by_rank.sum()
    probabilities = np.empty(volume_blocks)
    probabilities[(ranks * phase["multiplier"] + phase["shift"]) % volume_blocks] = by_rank
    return probabilities


def lifetime_thresholds(probabilities: FloatArray, count: int) -> FloatArray:
    """Expected lifetimes that split the blocks into `count` logs, (count - 1,) increasing.

    Equal shares of the blocks would leave the few hot ones of a Zipf law in one log, equal shares of the writes the
    many cold ones; the power between the two was chosen on the training workloads.
    """
    ordered = np.sort(probabilities)[::-1]
    shares = np.cumsum(ordered**RATE_POWER)
    cuts = np.searchsorted(shares / shares[-1], np.arange(1, count) / count)
    thresholds = np.asarray(1.0 / ordered[np.minimum(cuts, ordered.size - 1)])
    if thresholds[-1] <= 1.0 / ordered[0]:
        thresholds[-1] = 1.0 / ordered[-1]  # all cuts fell into the hottest blocks: the coldest get a log nevertheless
    return thresholds


def _advance(state: LfsState, end: int) -> None:
    advance_rows(state.volumes, np.zeros(1, np.int64), np.full(1, end), np.zeros(1, np.bool_))


@compiled
def _close_logs(volumes: Record) -> None:
    for i in range(volumes.size):
        volume = volumes[i]
        for number in range(volume.log_count):
            close_log(volume, number)
