"""What the agent that tunes tiering sees of a real kernel is what it sees of a simulated one in the same state."""

import numpy as np
import pytest
from damon_programs import make_tier
from fake_proc import KDAMOND, FakeProc
from kernel_mirror import TierMirror

from kml_envs.damon.config import MonitoringAttributes
from kml_envs.damon.control import SchemeStatistics, Snapshot
from kml_envs.damon.kernel_features import KernelSources
from kml_envs.damon.kernel_files import KernelFiles
from kml_envs.damon.kernel_tier_features import TierFeatures
from kml_envs.damon.memory import slow_wait
from kml_envs.damon.tier_features import BIN_NAMES, FEATURE_NAMES
from kml_envs.damon.tier_settings import COLD, HOT, builtin_context
from kml_envs.envs.damon_tier import TierArguments

MIB, GIB = 1 << 20, 1 << 30
BRISK = np.array([-0.5, -0.5, 0.5, -1.0, 0.0, 0.5, 1.0], np.float32)
EASY = np.array([0.3, -0.8, 0.5, 0.0, -0.5, 0.4, -0.2], np.float32)
LOST = ["slowdown", "slowdown_mean", "slow_wait"]
MACHINE = TierArguments().machine().config
ATTRIBUTES = MonitoringAttributes(20_000, 400_000)
INTERVAL_US = 2e6


def features_of(sources, nodes=(0, 1)):
    return TierFeatures(sources, MACHINE, nodes=nodes, demoting=COLD, promoting=HOT, watching=2)


def waited_us(slow_share, moved_pages):
    """Time that a program at its mean activity waits in an interval, by the memory model."""
    program = MACHINE.program_bytes_per_s * slow_share / MACHINE.slow_bytes_per_s
    moved = moved_pages * 4096 / (INTERVAL_US / 1e6) / MACHINE.slow_bytes_per_s
    wait = slow_wait(MACHINE.memory_bound * slow_share, MACHINE.slow_latency_ratio - 1.0, program, moved)
    return wait * INTERVAL_US + moved_pages * MACHINE.migration_stall_us / MACHINE.threads


class Substituted:
    """Time lost as it is worked out for a real kernel, from what the simulator knows."""

    def __init__(self, programs):
        self.programs, self.mean = programs, 0.0
        self.totals = self._totals()

    def corrected(self, expected):
        """Features with the substitutes."""
        before, self.totals = self.totals, self._totals()
        moved, kdamond_ns = self.totals - before
        waited = waited_us(float(expected[FEATURE_NAMES.index("slow_accesses_found")]), moved)
        slowdown = (waited + MACHINE.interference * kdamond_ns / 1000.0) / INTERVAL_US
        self.mean += 0.15 * (slowdown - self.mean)
        corrected = expected.copy()
        lost = [slowdown, self.mean, waited / INTERVAL_US]
        corrected[[FEATURE_NAMES.index(name) for name in LOST]] = np.sqrt(np.clip(lost, 0.0, 1.0))
        return corrected

    def _totals(self):
        record = self.programs.memories.records[0]
        return np.array([record["promoted"] + record["demoted"], record["kdamond_ns"]])


@pytest.mark.parametrize("workload", ["sqlite-queries", "sort-rows"])
def test_tier(tmp_path, monkeypatch, workload):
    env = make_tier(workloads=[workload], max_nr_regions=100, efficiency="none")
    env.reset(seed=1)
    programs = env.proxy.subsystem
    schemes = builtin_context("fixed_thresholds", programs.attributes).schemes
    mirror = TierMirror(tmp_path, monkeypatch, programs, schemes)
    features, substituted = features_of(mirror.sources), Substituted(programs)
    mirror.show()
    features.begin()
    most, most_lost, seen_most = (np.zeros(len(FEATURE_NAMES)) for _ in range(3))
    for step in range(12):
        action = EASY if step % 5 == 4 else BRISK
        expected = env.step(action)[0]
        mirror.show()
        features.hold(action.astype(np.float64))
        seen = features.look(programs.attributes)
        most_lost = np.maximum(most_lost, np.abs(seen - expected))
        most = np.maximum(most, np.abs(seen - substituted.corrected(expected)))
        seen_most = np.maximum(seen_most, seen)
    assert features.size == pytest.approx(programs.memories.records["size"][0], rel=1e-4)
    most, most_lost, seen_most = (dict(zip(FEATURE_NAMES, row, strict=True)) for row in (most, most_lost, seen_most))
    assert min(seen_most["promoted"], seen_most["demoted"], seen_most["cold_quota_exceeded"]) > 0.02
    for name, value in most.items():
        assert value < 2e-3, name
    # One aggregation stands for an interval, and nobody knows how active the program is beside its mean.
    print({name: round(float(most_lost[name]), 3) for name in LOST})
    assert most_lost["slowdown_mean"] < 0.06


class StillDamon:
    """Shows the same regions at every look; what its schemes did is set by hand."""

    def __init__(self, *rows):
        self.columns = np.array(rows, np.int64).reshape(-1, 4).T
        self.applied, self.exceeds = [0, 0], [0, 0]

    def snapshot(self, scheme):
        assert scheme == 2
        start, end, accesses, age = self.columns
        return Snapshot(start, end, accesses, age, end - start, int((end - start).sum()))

    def statistics(self, scheme):
        return SchemeStatistics(0, 0, 0, self.applied[scheme], 0, self.exceeds[scheme])


class Still:
    """A kernel that shows what it is told: node 0 up to 4 GiB, node 1 from there to 12 GiB."""

    def __init__(self, folder, *rows, numbers=(0, 1)):
        self.damon, self.proc, self.now, self.numbers = StillDamon(*rows), FakeProc(folder), 100.0, numbers
        self.free(0, 0)
        self.features = features_of(
            KernelSources(self.damon, KernelFiles(folder), lambda: KDAMOND, None, lambda: self.now), numbers
        )
        self.features.begin()

    def free(self, fast, slow):
        fast_number, slow_number = self.numbers
        low, high = [(MIB, 4 * GIB - MIB, 4 * GIB)], [(4 * GIB, 8 * GIB, 8 * GIB)]
        self.proc.nodes((fast_number, low, fast), (slow_number, high, slow))

    def look(self, attributes=ATTRIBUTES):
        self.now += 2.0
        return dict(zip(FEATURE_NAMES, self.features.look(attributes), strict=True))


def shares(seen, node):
    return {name: round(float(seen[f"{node}_{name}"]) ** 2, 4) for name in BIN_NAMES if seen[f"{node}_{name}"] > 0.0}


@pytest.mark.parametrize("numbers", [(0, 1), (2, 0)])
def test_the_address_tells_the_node(tmp_path, numbers):
    """Where the ranges of two nodes touch, a region may lie on both."""
    rows = (GIB, 3 * GIB, 20, 3), (3 * GIB, 6 * GIB, 5, 1), (6 * GIB, 12 * GIB, 0, 100)
    still = Still(tmp_path, *rows, numbers=numbers)
    seen = still.look()
    assert seen["slow_accesses_found"] == pytest.approx(2 * 0.25 / (2 + 3 * 0.25))
    assert shares(seen, "fast") == {"accessed_often": round(1 / 12, 4), "accessed_always": round(2 / 12, 4)}
    assert shares(seen, "slow") == {"accessed_often": round(2 / 12, 4), "idle_3": round(6 / 12, 4)}
    assert seen["fast_share"] == pytest.approx(4 / 12)
    assert still.features.size == 12 * GIB


def test_free_memory_is_taken_from_the_idlest(tmp_path):
    still = Still(
        tmp_path,
        (MIB, 2 * GIB + MIB, 5, 3),
        (2 * GIB + MIB, 4 * GIB, 0, 1000),
        (4 * GIB, 11 * GIB, 0, 100),
        (11 * GIB, 12 * GIB, 0, 1),
    )
    still.free(GIB, 7 * GIB + 512 * MIB)
    seen = still.look()
    size = 3 * GIB + 512 * MIB
    assert still.features.size == size
    # Of node 0, 2 GiB are idle and 1 GiB is free; node 1 has 7 GiB that are idle for longer than the other.
    assert shares(seen, "fast") == {"accessed_often": round(2 * GIB / size, 4), "idle_4": round(GIB / size, 4)}
    assert shares(seen, "slow") == {"idle_0": round(512 * MIB / size, 4)}
    assert seen["fast_free"] == pytest.approx(0.5)
    still.free(3 * GIB, 8 * GIB)
    seen = still.look()
    assert shares(seen, "fast") == {"accessed_often": 1.0}
    assert shares(seen, "slow") == {}


def test_what_the_schemes_did(tmp_path):
    still = Still(tmp_path, (GIB, 3 * GIB, 20, 3), (4 * GIB, 5 * GIB, 10, 3))
    still.damon.applied, still.damon.exceeds = [256 * MIB, 128 * MIB], [1, 2]
    still.proc.kdamond(200_000_000)
    still.features.hold(np.full(7, 0.5))
    seen = still.look()
    assert seen["demoted"] == pytest.approx(np.sqrt(256 / 4096 / 2))
    assert seen["promoted"] == pytest.approx(np.sqrt(128 / 4096 / 2))
    assert seen["moved_back_mean"] == pytest.approx(0.5)
    assert (seen["cold_quota_exceeded"], seen["hot_quota_exceeded"]) == (0.5, 1.0)
    assert seen["kdamond_share"] == pytest.approx(np.sqrt(0.1))
    assert seen["slow_accesses_found"] == pytest.approx(0.2)
    waited = waited_us(0.2, 384 * MIB / 4096) / INTERVAL_US
    assert seen["slow_wait"] == pytest.approx(np.sqrt(waited))
    assert seen["slowdown"] == pytest.approx(np.sqrt(waited + 0.6 * 0.1))
    assert seen["slowdown_mean"] == pytest.approx(np.sqrt(0.15 * (waited + 0.6 * 0.1)))
    assert seen["in_force_free_goal"] == 0.75
    still.damon.applied = [0, 8 * MIB]  # counters that have begun anew
    seen = still.look()
    assert (seen["demoted"], seen["promoted"]) == (0.0, pytest.approx(np.sqrt(8 / 4096 / 2)))


def test_a_kernel_that_shows_no_region_yet(tmp_path):
    seen = np.array(list(Still(tmp_path).look().values()))
    assert ((seen >= 0.0) & (seen <= 1.0)).all()
