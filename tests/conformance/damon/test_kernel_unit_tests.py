"""The vectors of the kernel's own unit tests (mm/damon/tests/core-kunit.h and vaddr-kunit.h), on our rules.

The names say which test of the kernel it is. Of these there is nothing to test here, or not all of it:

- damon_test_ops_registration: operations sets are the members of an enumeration, so that none is registered, let alone
  twice. What remains is that one that is not among them cannot be used.
- damos_test_commit_quota_goal, the path of a cgroup: one program is simulated, so that a path is kept as whether it is
  that program's; that is what is tested.
- damon_test_walk_control_obsolete (ECANCELED for who waits on a walk over regions that was given up): a simulated
  monitor is not asked by another thread. Its snapshot is read between two of its steps, and nobody waits.
- damos_test_commit_filter, unlinked lists; damos_test_new_filter, list heads: filters are rows of an array.
- damon_sysfs_test_add_targets (sysfs-kunit.h): there are no processes to look up. Targets without one are added and
  removed by test_add_and_destroy_targets.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from damon_monitors import (
    call_access_sum,
    call_clear,
    call_convert,
    call_is_last,
    call_merge_once,
    call_set_regions,
    call_split,
    call_split_all,
    call_split_at,
    call_split_evenly,
    fill,
    monitor_of,
    ranges_of,
    silent,
    spans_of,
)

from kml_envs.damon.checks import Reason, kernel_refusals
from kml_envs.damon.config import (
    AccessPattern,
    Action,
    Context,
    Destination,
    Filter,
    FilterType,
    GoalMetric,
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
from kml_envs.damon.quota import computed_sum, moving_sum, next_input
from kml_envs.damon.regions import three_ranges
from kml_envs.damon.simulator import attributes_record, commit, turn_on
from kml_envs.damon.state import DESTINATIONS, FILTERS, GOALS, allocate, set_accesses
from kml_envs.damon.versions import KernelVersion
from kml_envs.workloads.source import random_below

VERSIONS = tuple(KernelVersion)


def reasons(**attributes):
    context = Context(monitoring_attrs=MonitoringAttributes(**attributes))
    return [refusal.reason for refusal in kernel_refusals(context)]


def context_of(*schemes, **attributes):
    return Context(
        operations=Operations.FVADDR,
        monitoring_attrs=MonitoringAttributes(**{"min_region_bytes": 1, **attributes}),
        targets=(Target(regions=((0, 1 << 20),)),),
        schemes=schemes,
    )


def started(*schemes, operations=Operations.FVADDR):
    state = allocate(1, 1000, 4)
    set_accesses(state, 0, silent())
    turn_on(state, 0, replace(context_of(*schemes), operations=operations), 0)
    return state


def test_target_and_regions():
    state = monitor_of([(1, 2)])
    assert spans_of(state) == [(1, 2)]
    call_set_regions(state.monitors, 0, ranges_of((5, 6)))
    assert spans_of(state) == [(5, 6)]
    call_set_regions(state.monitors, 0, ranges_of())
    assert spans_of(state) == []


def test_add_and_destroy_targets():
    scheme = Scheme(quotas=Quota(bytes=1, reset_interval_ms=1000))
    both = (Target(regions=((0, 100),)), Target(regions=((10, 20), (30, 40))))
    state = started(scheme)
    for targets, owners in ((both[:1], [0]), (both, [0, 1, 1]), (both[1:], [0, 0]), ((), []), (both, [0, 1, 1])):
        state.schemes["charged_target"][0, 0] = 1
        commit(state, 0, replace(context_of(scheme), targets=targets))
        count = int(state.monitors["region_count"][0])
        assert state.monitors["target_count"][0] == len(targets)
        assert state.regions["target"][0, :count].tolist() == owners
        # Where the quota ran out does not outlive the target that it ran out in.
        assert state.schemes["charged_target"][0, 0] == (1 if len(targets) == 2 else -1)


def test_is_last_region():
    state = monitor_of([(0, 10), (10, 20), (20, 30), (5, 8)])
    state.regions["target"][0, :4] = (0, 0, 0, 1)
    assert [call_is_last(state.monitors, index) for index in range(4)] == [False, False, True, True]


def test_aggregate():
    starts = ((10, 20, 30), (5, 42, 49), (13, 33, 55))
    ends = ((15, 27, 40), (31, 45, 55), (23, 44, 66))
    accesses = ((42, 95, 84), (10, 20, 30), (0, 1, 2))
    rows = [row for target in zip(starts, ends, accesses, strict=True) for row in zip(*target, strict=True)]
    state = monitor_of(rows)
    state.regions["target"][0, :9] = np.repeat([0, 1, 2], 3)
    call_clear(state.monitors)
    assert [row[2:] for row in spans_of(state, "nr_accesses", "last_nr_accesses")] == [(0, row[2]) for row in rows]
    assert state.regions["target"][0, :9].tolist() == [0] * 3 + [1] * 3 + [2] * 3


@pytest.mark.parametrize("version", VERSIONS)
def test_split_at(version):
    state = monitor_of([(0, 100, 42, 15, 10)], version)
    call_split_at(state.monitors, 0, 25)
    inherited = 0 if version is KernelVersion.V6_1 else 42
    assert spans_of(state, "nr_accesses", "last_nr_accesses", "age") == [
        (0, 25, 42, 15, 10),
        (25, 100, inherited, 15, 10),
    ]


def test_merge_two():
    state = monitor_of([(0, 100, 10, 10, 9), (100, 300, 20, 20, 21)])
    state.monitors["size_limit"] = 300
    call_merge_once(state.monitors, 10, False)
    assert spans_of(state, "nr_accesses", "age") == [(0, 300, 16, 17)]


@pytest.mark.parametrize("version", VERSIONS)
def test_merge_regions_of(version):
    starts = (0, 100, 114, 122, 130, 156, 170, 184, 230)
    ends = (100, 112, 122, 130, 156, 170, 184, 230, 10170)
    accesses = (0, 0, 10, 10, 20, 30, 1, 2, 5)
    state = monitor_of(list(zip(starts, ends, accesses, strict=True)), version)
    state.monitors["size_limit"] = 9999
    call_merge_once(state.monitors, 9, True)
    assert spans_of(state) == [(0, 112), (114, 130), (130, 156), (156, 170), (170, 230), (230, 10170)]


@pytest.mark.parametrize(
    ("spans", "parts", "smallest", "most"),
    [
        ([(0, 22)], 2, 1, 2),
        ([(0, 220)], 4, 1, 4),
        ([(0, 220), (300, 400), (500, 700)], 4, 1, 12),
        ([(0, 220), (300, 400), (500, 700)], 4, 5, 12),
    ],
)
def test_split_regions_of(spans, parts, smallest, most):
    counts = set()
    for seed in range(20):
        state = monitor_of(spans, seed=seed)
        state.monitors["attributes"]["min_region_bytes"] = smallest  # 5 would be refused
        call_split_all(state.monitors, parts)
        split = spans_of(state)
        assert len(split) <= most
        assert all(right[0] in (left[1], *(start for start, _ in spans)) for left, right in pairwise(split))
        assert sum(end - start for start, end in split) == sum(end - start for start, end in spans)
        sizes = np.array([end - start for start, end in split])
        assert (sizes >= smallest).all() and (sizes % smallest == 0).all()
        counts.add(len(split))
    assert max(counts) == most


def test_split_above_half_progresses():
    state = monitor_of(
        [(100 * index, 100 * (index + 1), 0 if index % 2 else 100, 0, 5) for index in range(760)],
        min_nr_regions=10,
        max_nr_regions=1500,
    )
    call_split(state.monitors)
    assert 760 < state.monitors["region_count"][0] <= 1500


@pytest.mark.parametrize("version", [KernelVersion.V6_1, KernelVersion.V6_17])
def test_older_kernels_do_not_split_above_half(version):
    state = monitor_of([(100 * index, 100 * (index + 1)) for index in range(760)], version, max_nr_regions=1500)
    call_split(state.monitors)
    assert state.monitors["region_count"][0] == 760


def test_ops_registration():
    assert {item.value for item in Operations} == {"vaddr", "fvaddr", "paddr"}
    with pytest.raises(ValueError):
        Operations("unregistered")


def test_nr_accesses_to_frequency_of_long_aggregations():
    state = monitor_of([(0, 100, 123, 123, 1)], sample_us=10, aggr_us=10 << 32)
    call_convert(state.monitors, attributes_record(MonitoringAttributes()).reshape(1), False)
    assert spans_of(state, "nr_accesses") == [(0, 100, 0)]


def test_update_monitoring_result():
    old = MonitoringAttributes(sample_us=10, aggr_us=1000, min_region_bytes=1)
    state = monitor_of([(3, 7, 15, 0, 20)], sample_us=10, aggr_us=1000)
    for sample_us, aggr_us, accesses, age in ((100, 10000, 15, 2), (1, 1000, 150, 2), (1, 100, 150, 20)):
        state.monitors["attributes"] = attributes_record(old)
        new = replace(old, sample_us=sample_us, aggr_us=aggr_us)
        call_convert(state.monitors, attributes_record(new).reshape(1), False)
        assert spans_of(state, "nr_accesses", "age") == [(3, 7, accesses, age)]


def test_set_attrs():
    valid = {"min_nr_regions": 10, "max_nr_regions": 1000, "sample_us": 5000, "aggr_us": 100_000}
    assert reasons(**valid) == []
    assert reasons(**{**valid, "min_nr_regions": 1}) == [Reason.TOO_FEW_REGIONS]
    assert reasons(**{**valid, "max_nr_regions": 9}) == [Reason.REGION_LIMITS_CROSSED]
    assert reasons(**{**valid, "aggr_us": 4999}) == [Reason.SAMPLING_ABOVE_AGGREGATION]


def test_moving_sum():
    total, expected = 50000, (55000, 50000, 55000, 50000, 45000, 40000, 45000, 40000, 35000, 30000)
    for added, wanted in zip((10000, 0, 10000, 0, 0, 0, 10000, 0, 0, 0), expected, strict=True):
        total = moving_sum(total, 50000, 10, added)
        assert total == wanted


@pytest.mark.parametrize(
    ("accesses", "last", "left_bp", "expected"),
    [(0, 49, 10000, 49), (3, 10, 7000, 10), (3, 10, 5000, 8), (32, 100, 1000, 42), (42, 49, 0, 42)],
)
def test_mvsum(accesses, last, left_bp, expected):
    assert computed_sum(accesses, last, left_bp) == expected


@pytest.mark.parametrize(
    ("passed", "next_aggregation", "accesses", "last", "expected"),
    [(0, 10, 5, 3, 3), (0, 10, 0, 7, 7), (5, 10, 3, 10, 8), (8, 10, 3, 10, 5), (10, 10, 42, 49, 42)],
)
def test_nr_accesses_mvsum(passed, next_aggregation, accesses, last, expected):
    state = monitor_of([(0, 100, accesses, last)], sample_us=1, aggr_us=10)
    state.monitors["samples"], state.monitors["next_aggregation"] = passed, next_aggregation
    assert call_access_sum(state.monitors, 0) == expected


def test_new_filter():
    item = Filter(FilterType.ANON, matching=True, allow=False)
    state = started(Scheme(filters=(item,)), operations=Operations.PADDR)
    record = state.filters[0, 0]
    assert (record["type"], record["matching"], record["allow"]) == (2, 1, 0)


def test_commit_quota_goals():
    given = QuotaGoal(GoalMetric.SOME_MEM_PSI_US, 1000)
    state = started(Scheme(quotas=Quota(goals=(given,))))
    state.goals["last_psi_total_us"][0, 0] = 77
    state.goals["current_value"][0, 0] = 123
    for goals in (
        (QuotaGoal(GoalMetric.USER_INPUT, 5, 6), QuotaGoal(GoalMetric.NODE_MEM_USED_BP, 9990, 3, nid=1)),
        (QuotaGoal(GoalMetric.SOME_MEM_PSI_US, 2000, 9), QuotaGoal(GoalMetric.NODE_MEMCG_FREE_BP, 4, nid=2)),
        (QuotaGoal(GoalMetric.NODE_MEMCG_USED_BP, 5, nid=1, path="/other"),),
        (QuotaGoal(GoalMetric.NODE_MEMCG_USED_BP, 5, nid=1, path="/"),),
        (QuotaGoal(GoalMetric.ACTIVE_MEM_BP, 7),),
        (),
    ):
        before = state.goals[0].copy()
        commit(state, 0, context_of(Scheme(quotas=Quota(goals=goals))))
        assert state.schemes["goal_count"][0, 0] == len(goals)
        for place, goal in enumerate(goals):
            record = state.goals[0, place]
            assert record["metric"] == tuple(GoalMetric).index(goal.target_metric)
            assert (record["target_value"], record["nid"]) == (goal.target_value, goal.nid)
            assert record["own_cgroup"] == (goal.path != "/other")
            copied = goal.target_metric is GoalMetric.USER_INPUT
            assert record["current_value"] == (goal.current_value if copied else before["current_value"][place])
            assert record["last_psi_total_us"] == before["last_psi_total_us"][place]
    assert GOALS >= 2


def test_commit_quota_keeps_what_was_charged():
    state = started(Scheme(quotas=Quota(ms=1, bytes=2, reset_interval_ms=3)))
    for name in ("charged_bytes", "total_charged_bytes", "total_charged_ns", "effective_bp", "qt_exceeds"):
        state.schemes[name][0, 0] = 42
    quota = Quota(ms=10, bytes=20, reset_interval_ms=30, weights=Weights(1, 2, 3))
    commit(state, 0, context_of(Scheme(quotas=quota)))
    record = state.schemes[0, 0]
    assert (record["quota_ms"], record["quota_bytes"], record["reset_interval_us"]) == (10, 20, 30_000)
    assert (record["nr_accesses_permil"], record["age_permil"]) == (2, 3)
    for name in ("charged_bytes", "total_charged_bytes", "total_charged_ns", "effective_bp", "qt_exceeds"):
        assert record[name] == 42


@pytest.mark.parametrize(("before", "after"), [(3, 3), (2, 3), (0, 3), (3, 2), (3, 0)])
def test_commit_dests(before, after):
    state = started(Scheme(dests=tuple(Destination(node, 7) for node in range(before))))
    wanted = tuple(Destination(node + 1, 10 * node + 1) for node in range(after))
    commit(state, 0, context_of(Scheme(dests=wanted)))
    assert state.schemes["destination_count"][0, 0] == after
    written = [(row["id"], row["weight"]) for row in state.destinations[0, :after]]
    assert written == [(item.id, item.weight) for item in wanted]
    assert DESTINATIONS >= 3


@pytest.mark.parametrize(
    ("item", "first", "last"),
    [
        (Filter(FilterType.ANON, matching=False, allow=True), 0, 0),
        (Filter(FilterType.MEMCG, memcg_path="/other"), 0, 0),
        (Filter(FilterType.YOUNG), 0, 0),
        (Filter(FilterType.HUGEPAGE_SIZE, min=123, max=234), 123, 234),
        (Filter(FilterType.UNMAPPED), 0, 0),
        (Filter(FilterType.ADDR, addr_start=500, addr_end=700), 500, 700),
        (Filter(FilterType.TARGET, damon_target_idx=12), 12, 0),
    ],
)
def test_commit_filter(item, first, last):
    state = started(Scheme(filters=(Filter(FilterType.ANON),)), operations=Operations.PADDR)
    commit(state, 0, replace(context_of(Scheme(filters=(item,))), operations=Operations.PADDR))
    row = state.filters[0, 0]
    assert (row["type"], row["first"], row["last"]) == (tuple(FilterType).index(item.type), first, last)
    assert (row["matching"], row["allow"]) == (item.matching, item.allow)
    assert FILTERS >= 1


@pytest.mark.parametrize(
    "scheme",
    [
        Scheme(
            action=Action.PAGEOUT,
            access_pattern=AccessPattern(1, 2, 3, 4, 5, 6),
            apply_interval_us=42_000,
            watermarks=Watermarks(WatermarkMetric.FREE_MEM_RATE, 10, 20, 15, 8),
        ),
        Scheme(action=Action.MIGRATE_HOT, access_pattern=AccessPattern(2, 3, 4, 5, 6, 7), target_nid=5),
    ],
)
def test_commit_scheme(scheme):
    state = started(Scheme())
    commit(state, 0, context_of(scheme))
    record = state.schemes[0, 0]
    assert record["action"] == tuple(Action).index(scheme.action)
    for name in ("min_sz", "max_sz", "min_nr_accesses", "max_nr_accesses", "min_age", "max_age"):
        assert record[name] == getattr(scheme.access_pattern, name)
    assert (record["apply_interval_us"], record["target_nid"]) == (scheme.apply_interval_us, scheme.target_nid)
    assert record["watermark_metric"] == tuple(WatermarkMetric).index(scheme.watermarks.metric)
    marks = scheme.watermarks
    assert [record[name] for name in ("high", "mid", "low")] == [marks.high, marks.mid, marks.low]


def test_commit_target_regions():
    state = monitor_of([(3, 8), (8, 10)])
    given = context_of()
    commit(state, 0, replace(given, targets=(Target(regions=((4, 6),)),)))
    assert spans_of(state) == [(4, 6)]
    commit(state, 0, replace(given, targets=(Target(),)))
    assert spans_of(state) == [(4, 6)]


def test_commit_context():
    assert reasons(min_region_bytes=4096) == []
    assert reasons(min_region_bytes=4095) == [Reason.MIN_REGION_NOT_POWER_OF_TWO]
    state = started()
    for pause in (True, False):
        commit(state, 0, replace(context_of(), pause=pause))
        assert state.monitors["paused"][0] == pause


def test_feed_loop_next_input():
    start = np.uint64(900_000)

    def after(score):
        return next_input(start, np.uint64(score))

    assert after(200) > start > after(250_000_000)
    assert after(200) > after(2_000)


CORE_ALLOW = Filter(FilterType.ADDR, allow=True, addr_end=1)
CORE_REJECT = Filter(FilterType.ADDR, addr_end=1)
OPS_ALLOW = Filter(FilterType.ANON, allow=True)
OPS_REJECT = Filter(FilterType.ANON)


@pytest.mark.parametrize(
    ("filters", "core", "ops"),
    [
        ((), 0, 0),
        ((CORE_REJECT,), 0, 0),
        ((CORE_ALLOW,), 1, 0),
        ((CORE_REJECT, CORE_ALLOW), 1, 0),
        ((CORE_ALLOW, CORE_REJECT), 0, 0),
        ((OPS_REJECT,), 0, 0),
        ((OPS_ALLOW,), 0, 1),
        ((CORE_REJECT, OPS_ALLOW), 0, 1),
        ((CORE_ALLOW, OPS_ALLOW), 0, 1),
        ((CORE_ALLOW, OPS_REJECT), 0, 0),
    ],
)
def test_default_reject(filters, core, ops):
    record = started(Scheme(filters=filters), operations=Operations.PADDR).schemes[0, 0]
    assert (record["core_default_reject"], record["ops_default_reject"]) == (core, ops)


def test_random_numbers_stay_below_their_bound():
    state = monitor_of(None)
    draws = {int(random_below(state.monitors[0], 10)) for _ in range(10_000)}
    assert draws == set(range(10))


def test_three_regions_in_vmas():
    mapped = ranges_of((10, 20), (20, 25), (200, 210), (210, 220), (300, 305), (307, 330))
    ranges = np.zeros((3, 2), np.int64)
    assert three_ranges(mapped, ranges) == 3
    assert ranges.tolist() == [[10, 25], [200, 220], [300, 330]]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (((5, 27), (45, 55), (73, 104)), [(5, 20), (20, 27), (45, 55), (73, 80), (80, 90), (90, 104)]),
        (((5, 27), (56, 57), (65, 104)), [(5, 20), (20, 27), (56, 57), (65, 80), (80, 90), (90, 104)]),
        (((5, 27), (61, 63), (65, 104)), [(5, 20), (20, 27), (61, 63), (65, 80), (80, 90), (90, 104)]),
        (((5, 7), (30, 32), (65, 68)), [(5, 7), (30, 32), (65, 68)]),
    ],
)
def test_apply_three_regions(wanted, expected):
    state = monitor_of([(10, 20), (20, 30), (50, 55), (55, 57), (57, 59), (70, 80), (80, 90), (90, 100)])
    call_set_regions(state.monitors, 0, ranges_of(*wanted))
    assert spans_of(state) == expected


@pytest.mark.parametrize(("start", "end", "pieces"), [(0, 100, 0), (5, 6, 2)])
def test_split_evenly_refuses(start, end, pieces):
    state = monitor_of([(start, end)])
    assert not call_split_evenly(state.monitors, 0, pieces)
    assert spans_of(state) == [(start, end)]
    fill(state, [])
    assert not call_split_evenly(state.monitors, 0, 2)


@pytest.mark.parametrize(("start", "end", "pieces"), [(0, 100, 10), (5, 59, 5), (4, 6, 1), (0, 3, 2)])
def test_split_evenly(start, end, pieces):
    state = monitor_of([(start, end)])
    assert call_split_evenly(state.monitors, 0, pieces)
    width = (end - start) // pieces
    edges = [start + width * piece for piece in range(pieces)] + [end]
    assert spans_of(state) == list(pairwise(edges))
