"""The oracles: same writes, never worse than a built-in algorithm, and as good as theory says an optimum is."""

import numpy as np
import pytest

from kml_envs.envs.lfs import LfsArguments
from kml_envs.lfs.config import CleaningPolicy
from kml_envs.lfs.oracle import (
    OracleKind,
    can_play,
    lifetime_thresholds,
    oracle_config,
    oracle_costs,
    write_probabilities,
)
from kml_envs.lfs.simulator import advance_rows
from kml_envs.lfs.state import allocate
from kml_envs.lfs.warmup import WarmVolumes
from kml_envs.suites import make_workloads, workload_names
from kml_envs.workloads.source import bind_workloads, materialize, start_source

SEEDS = np.array([11, 12], np.uint64)
BUILTINS = ("greedy", "cost-benefit", "cost-benefit-sqrt", "cost-benefit-f2fs", "atgc", "fifo")


def warm_volumes(workloads, builtin="greedy", placement="age-threshold", segments=256, utilisation=0.85, **arguments):
    sizes = {name: arguments.pop(name) for name in ("blocks_per_segment", "segments_per_section") if name in arguments}
    config = LfsArguments(segments=segments, utilisation=utilisation, builtin=builtin, **sizes).file_system(placement)
    return WarmVolumes(config, make_workloads(workloads), **arguments)


def builtin_costs(warm, workload, seeds, episode_writes):
    state = allocate(warm.config, warm.table, len(seeds))
    warm.only = workload
    for row, seed in enumerate(seeds):
        warm.restore(state, row, int(seed))
    warm.only = None
    moved, end = state.volumes["moved"].copy(), state.volumes["user_writes"] + episode_writes
    advance_rows(state.volumes, np.arange(len(seeds)), end, np.zeros(len(seeds), np.bool_))
    return state.volumes["moved"] - moved


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["age-threshold", "user-gc-split"])
def test_no_builtin_beats_an_oracle_on_any_held_out_workload(placement):
    names = workload_names("held-out")
    warm = {builtin: warm_volumes(names, builtin, placement, seeds=1) for builtin in BUILTINS}
    writes = 3 * warm["greedy"].config.geometry.volume_blocks
    for number, workload in enumerate(warm["greedy"].workloads):
        best = min(builtin_costs(warm[builtin], number, SEEDS, writes).mean() for builtin in BUILTINS)
        costs = [
            oracle_costs(warm["greedy"], number, SEEDS, writes, kind).mean()
            for kind in OracleKind
            if can_play(kind, workload)
        ]
        assert max(costs) <= best, workload.name
        assert costs[0] == min(costs)


def test_oracles_are_deterministic_and_leave_the_warm_volumes_alone():
    warm = warm_volumes(["zipf-0.9", "shifting-mixture"], segments=64, blocks_per_segment=16, utilisation=0.65)
    for kind in OracleKind:
        before = builtin_costs(warm, 1, SEEDS, 1000)
        costs = oracle_costs(warm, 1, SEEDS, 3000, kind)
        assert np.array_equal(costs, oracle_costs(warm, 1, SEEDS, 3000, kind))
        assert np.array_equal(costs[:1], oracle_costs(warm, 1, SEEDS[:1], 3000, kind))
        assert np.array_equal(before, builtin_costs(warm, 1, SEEDS, 1000))
        assert warm.only is None


@pytest.mark.parametrize("placement", ["user-gc-split", "sepbit"])
def test_an_oracle_that_only_chooses_victims_is_between_greedy_and_the_whole_one(placement):
    warm = warm_volumes(
        ["hot-cold-0.9-0.1"], "greedy", placement, segments=64, blocks_per_segment=16, utilisation=0.65, seeds=1
    )
    greedy = builtin_costs(warm, 0, SEEDS, 6000)
    for kind in OracleKind:
        victims, whole = (oracle_costs(warm, 0, SEEDS, 6000, kind, only) for only in (True, False))
        assert np.array_equal(victims, oracle_costs(warm, 0, SEEDS, 6000, kind, True))
        assert victims.sum() < greedy.sum() and whole.sum() < victims.sum()
    assert oracle_config(warm.config, OracleKind.INFORMED, True).placement == warm.config.placement


def test_longer_episodes_begin_like_shorter_ones():
    warm = warm_volumes(["hot-cold-0.8-0.2"], segments=64, blocks_per_segment=16, utilisation=0.65)
    for kind in OracleKind:
        short, long = (oracle_costs(warm, 0, SEEDS, writes, kind) for writes in (1000, 3000))
        assert (short <= long).all()


def test_oracles_clean_sections_of_several_segments():
    warm = warm_volumes(["zipf-0.9"], segments=512, segments_per_section=2, blocks_per_segment=16, utilisation=0.65)
    for kind in OracleKind:
        assert 0 < oracle_costs(warm, 0, SEEDS, 9000, kind).min()


def test_oracle_keeps_as_many_sections_free_as_the_file_system():
    config = warm_volumes(["uniform"]).config
    for kind in OracleKind:
        assert oracle_config(config, kind).trigger_sections == config.trigger_sections
        assert oracle_config(config, kind).cleaning.policy in (CleaningPolicy.CLAIRVOYANT, CleaningPolicy.INFORMED)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workload", "spare", "optimum"), [("hot-cold-0.8-0.2", 0.10, 3.571), ("hot-cold-0.9-0.1", 0.15, 1.759)]
)
def test_oracles_reach_the_optimum_of_separated_pools(workload, spare, optimum):
    # The optimum is that of two pools cleaned in order of age (Desnoyers 2014); by valid count, segments of 64 blocks
    # do up to 7 % better than that. Spare space counts without the free sections and half of each open log.
    segments, kept_free = 800, 7 + 1
    warm = warm_volumes(
        [workload], "cost-benefit", "user-gc-split", segments, (1 - spare) * (segments - kept_free) / segments, seeds=1
    )
    volume = warm.config.geometry.volume_blocks
    for kind in OracleKind:
        settling, all_in_all = (oracle_costs(warm, 0, SEEDS[:1], n * volume, kind)[0] for n in (3, 7))
        amplification = 1 + (all_in_all - settling) / (4 * volume)
        assert 1.0 < amplification < 1.01 * optimum
        if kind is OracleKind.INFORMED:
            assert amplification > 0.9 * optimum


def test_probabilities_are_those_of_the_draws():
    table = bind_workloads(make_workloads(["zipf-0.9", "hot-cold-0.8-0.2", "uniform"]), 50)
    for workload in range(3):
        expected = write_probabilities(table.phases[table.first_phase[workload]], 50)
        assert expected.sum() == pytest.approx(1.0)
        drawn = np.bincount(materialize(start_source(table, workload, 3), 400_000), minlength=50) / 400_000
        assert drawn == pytest.approx(expected, rel=0.05)


def test_thresholds_separate_what_differs():
    for hot_writes, hot_blocks in ((0.8, 0.2), (0.9999, 0.0001), (0.51, 0.5)):
        hot = max(1, round(hot_blocks * 20_000))
        probabilities = np.full(20_000, (1 - hot_writes) / (20_000 - hot))
        probabilities[:hot] = hot_writes / hot
        thresholds = lifetime_thresholds(probabilities, 6)
        logs = (1 / probabilities[:, None] >= thresholds).sum(axis=1)
        assert (np.diff(thresholds) >= 0).all()
        assert logs[0] < logs[-1]
