"""What agents see of a real kernel is what they see of a simulated one in the same state."""

import numpy as np
import pytest
from damon_programs import make_monitor, make_reclaim
from fake_proc import KDAMOND, FakeProc
from kernel_mirror import PID, KernelMirror

from kml_envs.damon import monitor_features, reclaim_features
from kml_envs.damon.config import MonitoringAttributes
from kml_envs.damon.control import SchemeStatistics, Snapshot
from kml_envs.damon.kernel_features import KernelSources, MonitorFeatures, ReclaimFeatures, packed_regions
from kml_envs.damon.kernel_files import KernelFiles
from kml_envs.damon.memory_config import MemoryConfig
from kml_envs.damon.reclaim_settings import builtin_context

MIB, GIB = 1 << 20, 1 << 30
EAGER = np.array([-0.5, 1.0, 0.0, 0.5, 1.0, 0.0], np.float32)
EASY = np.array([0.3, 0.2, 0.2, 0.5, 0.9, 0.0], np.float32)
SLOWDOWN, SLOWDOWN_MEAN = (reclaim_features.FEATURE_NAMES.index(name) for name in ("slowdown", "slowdown_mean"))


class FeltLater:
    """The simulated program feels what kdamond does at the end of an interval in the next one; a real one at once."""

    def __init__(self, programs):
        self.programs, self.mean = programs, 0.0
        self.ahead_ns = self._ahead_ns()

    def corrected(self, expected):
        """Features with the slowdown that there would be if it was felt at once."""
        before, self.ahead_ns = self.ahead_ns, self._ahead_ns()
        felt = MemoryConfig().interference * (self.ahead_ns - before) / 1000.0 / self.programs.interval_us
        slowdown = self.programs.tracks["rates"]["slowdown"][0] + felt
        self.mean += 0.15 * (slowdown - self.mean)
        corrected = expected.copy()
        corrected[[SLOWDOWN, SLOWDOWN_MEAN]] = np.sqrt(np.clip([slowdown, self.mean], 0.0, 1.0))
        return corrected

    def _ahead_ns(self):
        record = self.programs.memories.records[0]
        return record["kdamond_ns"] - record["charged_ns"]


@pytest.mark.parametrize("pid", [None, PID], ids=["physical memory", "a process"])
@pytest.mark.parametrize("workload", ["sort-rows", "idle-server"])
def test_reclaim(tmp_path, monkeypatch, workload, pid):
    env = make_reclaim(
        workloads=[workload], max_nr_regions=60, min_nr_regions=20, efficiency="none", warm_s=10.0, episode_s=40.0
    )
    env.reset(seed=1)
    programs = env.proxy.subsystem
    schemes = builtin_context("damon_reclaim", programs.attributes).schemes
    mirror = KernelMirror(tmp_path, monkeypatch, programs, schemes, pid)
    features = ReclaimFeatures(mirror.sources, MemoryConfig(), acting=0, watching=1)
    mirror.show()
    features.begin()
    felt = FeltLater(programs)
    most = np.zeros(len(reclaim_features.FEATURE_NAMES))
    seen_most = np.zeros_like(most)
    for step in range(12):
        action = EASY if step % 5 == 4 else EAGER
        expected = felt.corrected(env.step(action)[0])
        mirror.show()
        features.hold(action.astype(np.float64))
        seen = features.look(programs.attributes)
        most, seen_most = np.maximum(most, np.abs(seen - expected)), np.maximum(seen_most, seen)
    assert features.size == pytest.approx(programs.memories.records["size"][0], rel=1e-5)
    most, seen_most = (dict(zip(reclaim_features.FEATURE_NAMES, row, strict=True)) for row in (most, seen_most))
    assert seen_most["paged_out"] > 0.1
    assert seen_most["faulted_back"] > 0.02
    print({name: round(float(value), 4) for name, value in most.items() if value > 1e-4})
    for name, value in most.items():
        assert value < (0.01 if name == "pressure" else 2e-3), name  # the kernel shows pressure with two digits


class StillDamon:
    """Shows the same regions at every look; what its scheme did is set by hand."""

    def __init__(self, *rows):
        self.columns = np.array(rows, np.int64).reshape(-1, 4).T
        self.applied, self.exceeds = 0, 0

    def snapshot(self, scheme):
        start, end, accesses, age = self.columns
        return Snapshot(start, end, accesses, age, end - start, int((end - start).sum()))

    def statistics(self, scheme):
        return SchemeStatistics(0, 0, 0, self.applied, 0, self.exceeds)


def still(tmp_path, *rows, pid=None):
    """A kernel that shows what it is told, and its clock."""
    damon, proc, clock = StillDamon(*rows), FakeProc(tmp_path), [100.0]
    sources = KernelSources(damon, KernelFiles(tmp_path), lambda: KDAMOND, pid, lambda: clock[0])
    return damon, proc, clock, sources


def test_what_a_scheme_did_to_a_process_is_told_by_its_swap(tmp_path):
    """madvise() counts a whole range, again and again, whatever of it was in memory."""
    damon, proc, clock, sources = still(tmp_path, (0, GIB, 0, 9), pid=PID)
    features = ReclaimFeatures(sources, MemoryConfig(), acting=0, watching=1)
    names = reclaim_features.FEATURE_NAMES

    def look(resident, swapped, faults, applied):
        clock[0] += 2.0
        damon.applied = applied
        proc.process(PID, resident, swapped, faults)
        seen = features.look(MonitoringAttributes())
        return [round(2 * float(seen[names.index(name)]) ** 2 * 1024) for name in ("paged_out", "faulted_back")]

    proc.process(PID, GIB, 0, 50)
    damon.applied = 7 * GIB
    features.begin()
    assert look(GIB - 16 * MIB, 16 * MIB, 50, 8 * GIB) == [16, 0]
    # 4 MiB came back, and 12 MiB more went: 16 MiB lie on the device, and 12 of them are new.
    assert look(GIB - 24 * MIB, 24 * MIB, 50 + 1024, 9 * GIB) == [12, 4]
    # What others page out was not the scheme's doing.
    assert look(GIB - 512 * MIB, 512 * MIB, 50 + 1024, 9 * GIB + 8 * MIB) == [8, 0]
    # A commit of an old kernel makes its counters begin anew.
    assert look(GIB - 515 * MIB, 515 * MIB, 50 + 1024, 2 * MIB) == [2, 0]


def test_all_of_memory_is_told_by_the_machine(tmp_path):
    damon, proc, clock, sources = still(tmp_path, (0, 8 * GIB, 0, 9))
    features = ReclaimFeatures(sources, MemoryConfig(), acting=0, watching=1)
    proc.machine(8 * GIB, 4 * GIB)
    features.begin()
    clock[0] += 4.0
    proc.machine(8 * GIB, 5 * GIB, swapped=GIB, pressure=0.25, returned=MIB // 4096)
    damon.applied, damon.exceeds = 2 * GIB, 2
    features.hold(np.full(6, 0.5))
    seen = dict(zip(reclaim_features.FEATURE_NAMES, features.look(MonitoringAttributes()), strict=True))
    share = MemoryConfig().swap.memory_share
    assert features.size == pytest.approx(4 * GIB - GIB * share)  # zram keeps what it holds in memory
    assert seen["used_share"] == pytest.approx(3 * GIB / features.size)
    assert seen["free_share"] == pytest.approx(5 / 8)
    assert seen["pressure"] == pytest.approx(0.5)
    assert seen["paged_out"] == pytest.approx(np.sqrt(2 * GIB / features.size / 4))
    assert seen["quota_exceeded"] == pytest.approx(0.5)
    assert seen["in_force_quota"] == 0.75


def test_monitor(tmp_path, monkeypatch):
    """One aggregation in an interval: it is the picture, and the change is that since the one before."""
    env = make_monitor(interval_s=6.4, episode_s=120.0, efficiency="none")
    action = np.array([1.0 / 11.0, 0.0, 0.5, 1.0], np.float32)  # 320 ms, 20 samples
    env.reset(seed=1)
    programs = env.proxy.subsystem
    mirror = KernelMirror(tmp_path, monkeypatch, programs, schemes=())
    features = MonitorFeatures(mirror.sources, watching=0, reference_us=programs.reference_us, max_nr_regions=200)

    def show():
        mirror.show()
        mirror.proc.kdamond(round(programs.state.monitors["checks"][0] * programs.settings["check_us"][0] * 1000))

    def step_and_wait():
        """Features a little after an interval: no sampling interval that ends an aggregation is under way then."""
        env.step(action)
        programs.wait(programs.progress() + 400, np.ones(1, np.bool_))
        return programs.observe()[0]

    for _ in range(3):
        step_and_wait()
    show()
    features.begin()
    features.hold(by_builtin=False)
    names, means = monitor_features.FEATURE_NAMES, np.zeros(2)
    written = programs.state.monitors["attributes"][0]
    attributes = MonitoringAttributes(
        *(int(written[name]) for name in ("sample_us", "aggr_us", "update_us")),
        min_nr_regions=int(written["min_nr_regions"]),
        max_nr_regions=int(written["max_nr_regions"]),
    )
    assert (attributes.sample_us, attributes.aggr_us) == (320_000, 6_400_000)
    changes = []
    for step in range(10):
        expected = step_and_wait()
        show()
        seen = features.look(attributes)
        assert programs.tracks["pictures_seen"][0] == 1
        track = programs.tracks[0]
        if step == 0:  # nothing to compare the first picture with
            expected[names.index("change")] = 0.0
        change = 0.0 if step == 0 else track["change"]
        means += 0.2 * (np.array([track["kdamond_share"], change]) - means)
        expected[names.index("kdamond_share_mean")] = np.sqrt(means[0])
        expected[names.index("change_mean")] = means[1]
        expected[names.index("picture_age")] = 0.0  # the kernel lets whoever looks wait for the next picture
        np.testing.assert_allclose(seen, expected, atol=1e-3, err_msg=f"{step}: {names}")
        changes.append(seen[names.index("change")])
    assert max(changes) > 0.05


def test_short_aggregations_are_looked_at_twice(tmp_path):
    damon, _, clock, sources = still(tmp_path, (0, GIB, 5, 9), (GIB, 2 * GIB, 0, 9))
    other = damon.columns.copy()
    other[2] = other[2, ::-1]
    pictures = [damon.columns, other]
    features = MonitorFeatures(sources, watching=0, reference_us=1e5, max_nr_regions=100)
    features.begin()
    snapshot = damon.snapshot

    def next_snapshot(scheme):
        damon.columns = pictures[0]
        pictures.reverse()
        return snapshot(scheme)

    damon.snapshot = next_snapshot
    change = monitor_features.FEATURE_NAMES.index("change")
    clock[0] += 1.0
    assert features.look(MonitoringAttributes())[change] == 1.0
    clock[0] += 0.15
    assert features.look(MonitoringAttributes())[change] == 1.0
    pictures.reverse()
    clock[0] += 0.15
    assert features.look(MonitoringAttributes())[change] == 0.0


def test_holes_between_regions_are_left_out():
    columns = np.array([(4096, 8192, 3, 1), (1 << 40, (1 << 40) + 4096, 0, 7)], np.int64).T
    found = packed_regions(Snapshot(*columns, columns[1] - columns[0], 8192))
    assert found["start"].tolist() == [0, 4096]
    assert found["end"].tolist() == [4096, 8192]
    assert found["last_nr_accesses"].tolist() == [3, 0]
    assert found["age"].tolist() == [1, 7]


def test_a_kernel_that_shows_no_region_yet(tmp_path):
    _, _, clock, sources = still(tmp_path)
    for features in (
        ReclaimFeatures(sources, MemoryConfig(), acting=0, watching=1),
        MonitorFeatures(sources, watching=0, reference_us=1e5, max_nr_regions=100),
    ):
        features.begin()
        clock[0] += 2.0
        seen = features.look(MonitoringAttributes())
        assert ((seen >= 0.0) & (seen <= 1.0)).all()
