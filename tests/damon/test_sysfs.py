"""The controls of a real kernel, against a tree in a folder that answers as the kernel does."""

from dataclasses import replace

import pytest
from damon_monitors import silent
from fake_kernel import FEATURES, FakeKernel

from kml_envs.damon.config import (
    AccessPattern,
    Action,
    Context,
    Destination,
    Filter,
    FilterType,
    GoalMetric,
    GoalTuner,
    IntervalsGoal,
    MonitoringAttributes,
    Operations,
    Quota,
    QuotaGoal,
    Scheme,
    Target,
    WatermarkMetric,
    Watermarks,
    Weights,
)
from kml_envs.damon.control import WHOLE_PICTURE, Damon
from kml_envs.damon.simulator import SimulatedDamon
from kml_envs.damon.sysfs import SysfsDamon
from kml_envs.errors import UserError

CONTEXT = "kdamonds/0/contexts/0"
EVERYTHING = Context(
    operations=Operations.PADDR,
    addr_unit=4,
    pause=True,
    monitoring_attrs=MonitoringAttributes(
        sample_us=10_000,
        aggr_us=200_000,
        update_us=1_000_000,
        intervals_goal=IntervalsGoal(400, 3, 5_000, 10_000_000),
        min_nr_regions=2_000,
        max_nr_regions=5_000,
    ),
    targets=(Target(regions=((4096, 8192), (16384, 32768))),),
    schemes=(
        WHOLE_PICTURE,
        Scheme(
            Action.MIGRATE_COLD,
            AccessPattern(4096, 8192, 0, 1, 2, 3),
            apply_interval_us=1_000_000,
            quotas=Quota(
                10,
                1 << 20,
                1000,
                (
                    QuotaGoal(GoalMetric.NODE_MEM_FREE_BP, 50, nid=1),
                    QuotaGoal(GoalMetric.NODE_MEMCG_USED_BP, 10, 3, path="/a"),
                ),
                GoalTuner.TEMPORAL,
                Weights(1, 2, 3),
                1,
                4,
            ),
            watermarks=Watermarks(WatermarkMetric.FREE_MEM_RATE, 5, 500, 400, 200),
            filters=(
                Filter(FilterType.YOUNG, allow=True),
                Filter(FilterType.ADDR, addr_start=1, addr_end=2),
                Filter(FilterType.HUGEPAGE_SIZE, matching=False, min=3, max=4),
            ),
            dests=(Destination(1, 30), Destination(2, 70)),
            target_nid=1,
            max_nr_snapshots=9,
        ),
    ),
)
PLAIN = Context(targets=(Target(pid=1),), schemes=(WHOLE_PICTURE,))


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    kernel = FakeKernel(tmp_path)
    kernel.install(monkeypatch)
    return kernel


@pytest.fixture
def old_kernel(tmp_path, monkeypatch):
    kernel = FakeKernel(tmp_path, features=())
    kernel.install(monkeypatch)
    return kernel


def driven(kernel, **options):
    return SysfsDamon(kernel.root, sleep=lambda seconds: None, **options)


def test_every_setting_is_written(kernel):
    driven(kernel).turn_on(EVERYTHING)
    scheme = f"{CONTEXT}/schemes/1"
    expected = {
        "operations": "paddr",
        "addr_unit": "4",
        "pause": "Y",
        "monitoring_attrs/intervals/sample_us": "10000",
        "monitoring_attrs/intervals/intervals_goal/max_sample_us": "10000000",
        "monitoring_attrs/nr_regions/min": "2000",
        "monitoring_attrs/nr_regions/max": "5000",
        "targets/0/regions/1/end": "32768",
        "schemes/0/access_pattern/sz/max": str(2**64 - 1),
        "schemes/1/action": "migrate_cold",
        "schemes/1/target_nid": "1",
        "schemes/1/apply_interval_us": "1000000",
        "schemes/1/access_pattern/age/max": "3",
        "schemes/1/quotas/ms": "10",
        "schemes/1/quotas/bytes": "1048576",
        "schemes/1/quotas/goal_tuner": "temporal",
        "schemes/1/quotas/fail_charge_denom": "4",
        "schemes/1/quotas/weights/age_permil": "3",
        "schemes/1/quotas/goals/0/target_metric": "node_mem_free_bp",
        "schemes/1/quotas/goals/0/nid": "1",
        "schemes/1/quotas/goals/1/path": "/a",
        "schemes/1/watermarks/metric": "free_mem_rate",
        "schemes/1/watermarks/low": "200",
        "schemes/1/filters/nr_filters": "0",
        "schemes/1/core_filters/0/addr_end": "2",
        "schemes/1/ops_filters/0/allow": "Y",
        "schemes/1/ops_filters/1/matching": "N",
        "schemes/1/ops_filters/1/max": "4",
        "schemes/1/dests/1/weight": "70",
        "schemes/1/stats/max_nr_snapshots": "9",
    }
    assert {path: kernel.read(f"{CONTEXT}/{path}") for path in expected} == expected
    assert kernel.read(f"{scheme}/quotas/goals/nr_goals") == "2"
    assert kernel.commands == ["on"]


def test_life_of_a_context(kernel):
    damon = driven(kernel)
    assert not damon.is_on()
    assert damon.pid() == -1
    damon.turn_on(PLAIN)
    assert damon.is_on()
    assert damon.pid() == 42
    kernel.regions = [(0, 8192, 3, 4), (8192, 12288, 0, 9)]
    picture = damon.snapshot(0)
    assert picture.start.tolist() == [0, 8192]
    assert picture.nr_accesses.tolist() == [3, 0]
    assert picture.age.tolist() == [4, 9]
    assert picture.sz_filter_passed.tolist() == [5, 5]
    assert picture.total_bytes == damon.tried_bytes(0) == 12288
    damon.clear_snapshot()
    assert damon.statistics(0)[:4] == (1, 2, 3, 4)
    assert damon.effective_bytes(0) == 4096
    assert damon.intervals() == (20_000, 400_000)
    damon.refresh_every(1000)
    assert kernel.read("kdamonds/0/refresh_ms") == "1000"
    damon.turn_off()
    assert not damon.is_on()


def test_commit_keeps_folders_that_stay(kernel):
    damon = driven(kernel)
    damon.turn_on(PLAIN)
    marker = kernel.root / CONTEXT / "schemes" / "0" / "marker"
    marker.touch()
    tuned = replace(PLAIN, schemes=(replace(WHOLE_PICTURE, access_pattern=AccessPattern(min_age=7)),))
    damon.commit(tuned)
    assert kernel.read(f"{CONTEXT}/schemes/0/access_pattern/age/min") == "7"
    assert marker.exists()
    goal = QuotaGoal(GoalMetric.USER_INPUT, 100, 50)
    damon.commit_quota_goals(replace(PLAIN, schemes=(replace(WHOLE_PICTURE, quotas=Quota(goals=(goal,))),)))
    assert kernel.read(f"{CONTEXT}/schemes/0/quotas/goals/0/current_value") == "50"
    assert kernel.commands == ["on", "commit", "commit_schemes_quota_goals"]


def test_add_targets(kernel):
    """The kernel's damon_sysfs_test_add_targets: a live process is a target, and a second one is another."""
    damon = driven(kernel)
    kernel.live_processes = {1, 2}
    damon.turn_on(PLAIN)
    assert kernel.targets == 1
    damon.commit(replace(PLAIN, targets=(Target(pid=1), Target(pid=2))))
    assert kernel.targets == 2
    with pytest.raises(UserError, match="refuses 'commit': Invalid argument"):
        damon.commit(replace(PLAIN, targets=(Target(pid=99),)))


def test_busy_kernel_is_asked_again(kernel):
    waits = []
    damon = SysfsDamon(kernel.root, sleep=waits.append)
    kernel.busy = 3
    damon.turn_on(PLAIN)
    assert waits == [0.01, 0.02, 0.04]
    kernel.busy = 100
    with pytest.raises(UserError, match="busy at 8 attempts"):
        damon.turn_off()
    assert len(waits) == 11


def test_other_kdamonds_are_left_alone(kernel):
    """Writing their number makes all folders anew: settings of another program that is off would be gone."""
    SysfsDamon(kernel.root, kdamond=1)
    assert kernel.read("kdamonds/nr_kdamonds") == "2"
    marker = kernel.root / "kdamonds" / "0" / "marker"
    marker.touch()
    SysfsDamon(kernel.root, kdamond=1)
    SysfsDamon(kernel.root, kdamond=0)
    with pytest.raises(UserError, match=r"kdamond 2: there are 2, .* take one of 0\.\.1") as error:
        SysfsDamon(kernel.root, kdamond=2)
    assert "\n" not in str(error.value)
    assert marker.exists()


def test_refusals_are_one_line(kernel, tmp_path):
    damon = driven(kernel)
    with pytest.raises(UserError, match="min_nr_regions 2"):
        damon.turn_on(replace(PLAIN, monitoring_attrs=MonitoringAttributes(min_nr_regions=2)))
    damon.turn_on(PLAIN)
    for call, message in (
        (lambda: damon.turn_on(PLAIN), "is on"),
        (lambda: damon.snapshot(5), "scheme 5: the context has 1"),
        (lambda: driven(kernel, kdamond=1), "kdamond 1: there are 1"),
        (lambda: driven(kernel, kdamond=-1), "kdamond -1: must not be negative"),
        (lambda: driven(kernel, kdamond=100_000), "kdamond 100000: must not be negative, nor above 255"),
        (lambda: SysfsDamon(tmp_path / "elsewhere"), "no DAMON here"),
    ):
        with pytest.raises(UserError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_old_kernel_takes_what_it_knows(old_kernel):
    damon = driven(old_kernel)
    damon.turn_on(PLAIN)
    assert old_kernel.commands == ["on"]
    assert damon.intervals() == (5_000, 100_000)
    assert damon.statistics(0) == (1, 2, 3, 4, 0, 5, 0)
    for feature in ("apply_interval_us", "target_nid", "max_nr_snapshots"):
        with pytest.raises(UserError, match="does not have it"):
            damon.commit(replace(PLAIN, schemes=(replace(WHOLE_PICTURE, **{feature: 3}),)))
    with pytest.raises(UserError, match=r"tried_regions: this kernel does not have it, Linux 6\.2"):
        damon.snapshot(0)
    for part in ({"filters": (Filter(FilterType.ANON),)}, {"quotas": Quota(goals=(QuotaGoal(),))}):
        with pytest.raises(UserError, match="does not have it"):
            damon.commit(replace(PLAIN, schemes=(replace(WHOLE_PICTURE, **part),)))


def test_filters_before_they_were_split(tmp_path, monkeypatch):
    kernel = FakeKernel(tmp_path, features=FEATURES - {"core_filters", "allow"})
    kernel.install(monkeypatch)
    scheme = replace(WHOLE_PICTURE, filters=(Filter(FilterType.ANON), Filter(FilterType.ADDR, addr_end=4096)))
    driven(kernel).turn_on(replace(PLAIN, schemes=(scheme,)))
    assert kernel.read(f"{CONTEXT}/schemes/0/filters/1/type") == "addr"


def test_both_back_ends_have_the_same_controls(kernel):
    def controls(damon: Damon):
        return {name for name in dir(Damon) if not name.startswith("_")} - set(dir(damon))

    assert controls(driven(kernel)) == set()
    assert controls(SimulatedDamon(silent())) == set()
