"""The simulator under F2FS's rules against nine recorded runs: from the same writes, the same blocks moved."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from kml_envs.lfs.config import (
    AgeClock,
    CleaningConfig,
    CleaningPolicy,
    Geometry,
    LfsConfig,
    MtimeRule,
    Trigger,
)
from kml_envs.lfs.simulator import advance_rows, format_rows
from kml_envs.lfs.state import allocate, set_source
from kml_envs.workloads.source import bind_workloads
from kml_envs.workloads.synthetic import PhaseKind, sequential

RUNS = json.loads(gzip.open(Path(__file__).parent / "data" / "f2fs_runs.json.gz").read())
POLICIES = {"idle0": CleaningPolicy.GREEDY, "idle1": CleaningPolicy.COST_BENEFIT_F2FS}
PATTERNS = {"uniform": "uniform", "hot80": "hot80:20", "hot90": "hot90:10", "zipf0": "zipf0.99"}
FILL_BEGIN_S = 7.0
FILL_SECONDS = 1.5
GOLDEN = 0x9E3779B97F4A7C15  # SplitMix64, as the recording program drew its blocks
MASK = 2**64 - 1


@pytest.mark.parametrize("name", RUNS)
def test_blocks_moved_in_a_recorded_run(name):
    run = RUNS[name]
    rows = simulate(name, run)
    table = run["table"]
    mine, theirs = rows["moved"][-1], table["moved_fg"][-1]
    error = mine / theirs - 1
    nodes = rows["node_writes"][-1] / table["fs_cp_node"][-1] - 1
    print(
        f"{name:24s} moved {mine:7d} recorded {theirs:9.0f} {error:+7.2%}   node blocks {nodes:+7.2%}   "
        f"sections cleaned {rows['cleanings'][-1]:5d} recorded {table['gc_fg_calls'][-1]:5.0f}   "
        f"free {rows['free_sections'][-1]} recorded {table['free_segs'][-1]:.0f}"
    )
    assert abs(error) <= (0.02 if "idle0" in name and "zipf" not in name else 0.05)


@pytest.mark.parametrize("pattern", ["uniform", "hot80:20", "zipf0.99"])
def test_the_write_sequence_is_that_of_the_recording_program(pattern):
    assert np.array_equal(write_sequence(pattern, 5000, 3, 2000), list(reference_sequence(pattern, 5000, 3, 2000)))


def simulate(name, run, fill_begin_s=FILL_BEGIN_S, fill_seconds=FILL_SECONDS):
    """Replay a run; returns the counters of the simulator at each row of its table, fill not counted."""
    geometry, table = run["geometry"], run["table"]
    pattern, seed = PATTERNS[name.split("_")[0]], int(name.rsplit("_s", 1)[1])
    count = geometry["file_blocks"]
    slots = geometry["main_segs"] * 512
    config = LfsConfig(
        geometry=Geometry(geometry["main_segs"], 512, utilisation=(count + 0.5) / slots),
        cleaning=CleaningConfig(
            policy=POLICIES[name.split("_")[-2]],
            trigger=Trigger.F2FS,
            age_clock=AgeClock.SECONDS,
            mtime_rule=MtimeRule.WEIGHTED_MEAN,
        ),
    )
    assert config.geometry.volume_blocks == count
    assert config.f2fs_reserve[1] == geometry["ovp"]
    writes = write_sequence(pattern, count, seed, geometry["writes"])
    seconds = fill_begin_s + fill_seconds + np.interp(np.arange(writes.size), table["user_blocks"], table["t"])
    bound = bind_workloads([sequential()], count)
    bound.phases["kind"] = PhaseKind.TRACE
    bound.phases["trace_length"] = bound.phases["writes"] = writes.size
    bound = bound._replace(trace_blocks=writes.astype(np.int32), trace_ns=(seconds * 1e9).astype(np.int64))
    state = allocate(config, bound, 1)
    row = np.zeros(1, np.int64)
    format_rows(state.volumes, row, np.zeros(1, np.uint64))
    set_source(state, 0, 0, 0)
    source = state.volumes["source"]
    source["position"], source["loop_offset_ns"], source["remaining"] = 0, 0, writes.size + 1
    for part in range(10):
        source["arrival_ns"] = int(1e9 * (fill_begin_s + fill_seconds * part / 10))
        _advance(state, row, count * (part + 1) // 10)
    nodes = state.volumes["f2fs"]["node_writes"][0]
    rows = {"moved": [], "cleanings": [], "free_sections": [], "node_writes": []}
    for user_blocks in table["user_blocks"]:
        _advance(state, row, count + int(user_blocks))
        assert not state.volumes["exhausted"][0]
        for column in rows:
            counter = state.volumes["f2fs"] if column == "node_writes" else state.volumes
            rows[column].append(int(counter[column][0]) - (int(nodes) if column == "node_writes" else 0))
    return rows


def _advance(state, row, until):
    advance_rows(state.volumes, row, np.array([until]), np.zeros(1, np.bool_))


def write_sequence(pattern, count, seed, writes):
    """The block numbers that the recording program wrote, vectorised: (writes,) int64."""
    if pattern.startswith("hot"):
        share, blocks = (int(number) for number in pattern[3:].split(":"))
        hot = count * blocks // 100
        drawn = split_mix(seed, 2 * writes)
        is_hot = drawn[0::2] % np.uint64(100) < share
        cold = hot + drawn[1::2] % np.uint64(count - hot)
        return np.where(is_hot, drawn[1::2] % np.uint64(hot), cold).astype(np.int64)
    drawn = split_mix(seed, writes)
    if pattern == "uniform":
        return (drawn % np.uint64(count)).astype(np.int64)
    theta = float(pattern[4:])
    zeta = np.cumsum(1.0 / np.arange(1, count + 1) ** theta)[-1]
    eta = (1 - (2.0 / count) ** (1 - theta)) / (1 - (1 + 0.5**theta) / zeta)
    unit = (drawn >> np.uint64(11)).astype(np.float64) / 2.0**53
    rank = (count * (eta * unit - eta + 1) ** (1 / (1 - theta))).astype(np.int64)
    rank = np.where(unit * zeta < 1, 0, np.where(unit * zeta < 1 + 0.5**theta, 1, np.minimum(rank, count - 1)))
    return (rank.astype(np.uint64) * np.uint64(2654435761) % np.uint64(count)).astype(np.int64)


def split_mix(seed, count):
    """The first outputs of SplitMix64 from a seed, (count,) uint64: its state is a counter."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def reference_sequence(pattern, count, seed, writes):
    """The recording program, one write after the other, as it was."""
    state = seed

    def draw():
        nonlocal state
        state = (state + GOLDEN) & MASK
        z = state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        return z ^ z >> 31

    theta = float(pattern[4:]) if pattern.startswith("zipf") else 0.5
    zeta = 0.0
    for rank in range(1, count + 1):
        zeta += 1.0 / rank**theta
    eta = (1 - (2.0 / count) ** (1 - theta)) / (1 - (1 + 0.5**theta) / zeta)
    for _ in range(writes):
        if pattern == "uniform":
            yield draw() % count
        elif pattern.startswith("hot"):
            share, blocks = (int(number) for number in pattern[3:].split(":"))
            hot = count * blocks // 100
            yield draw() % hot if draw() % 100 < share else hot + draw() % (count - hot)
        else:
            unit = (draw() >> 11) / 9007199254740992.0
            scaled = unit * zeta
            rank = (
                0
                if scaled < 1
                else 1
                if scaled < 1 + 0.5**theta
                else int(count * (eta * unit - eta + 1) ** (1 / (1 - theta)))
            )
            yield (min(rank, count - 1) * 2654435761 & MASK) % count
