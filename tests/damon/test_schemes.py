"""Schemes: matching, quotas, priorities, filters, watermarks, intervals, statistics."""

from itertools import pairwise

import numpy as np
import pytest
from damon_monitors import PAGE, call_apply, monitor_of, run, spans_of, touched
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kml_envs.damon.config import (
    AccessPattern,
    Action,
    Context,
    Filter,
    FilterType,
    GoalMetric,
    GoalTuner,
    Quota,
    QuotaGoal,
    Scheme,
    WatermarkMetric,
    Watermarks,
    Weights,
)
from kml_envs.damon.schemes import copy_settings
from kml_envs.damon.simulator import Sampling, commit_quota_goals
from kml_envs.damon.state import SCHEME
from kml_envs.damon.versions import KernelVersion

OLD = KernelVersion.V6_17
NEW = KernelVersion.LATEST
COLD_FIRST = Weights(0, 1, 1)


def pageout(**values):
    return Scheme(Action.PAGEOUT, **values)


def apply(state, seconds=1):
    """Apply the schemes once, a time after the last."""
    state.monitors["time_us"] += int(seconds * 1e6)
    state.monitors["samples"] = state.schemes["next_apply"][0].max()
    state.monitors["next_aggregation"] = state.monitors["samples"]
    call_apply(state.monitors)


def tried(state, scheme=0):
    capacity = int(state.monitors["region_capacity"][0])
    rows = state.tried[0, scheme * capacity : scheme * capacity + state.schemes["tried_count"][0, scheme]]
    return [(int(row["start"]), int(row["end"])) for row in rows]


def stats(state, *names, scheme=0):
    return tuple(int(state.schemes[name][0, scheme]) for name in names)


def pages(*spans):
    return [(start * PAGE, end * PAGE, *rest) for start, end, *rest in spans]


def test_pattern_ends_are_inclusive():
    pattern = AccessPattern(2 * PAGE, 4 * PAGE, 3, 5, 7, 9)
    spans = pages((0, 2, 3, 3, 7), (2, 6, 5, 5, 9), (6, 7, 4, 4, 8), (7, 12, 4, 4, 8), (12, 14, 2, 2, 8))
    spans += pages((14, 16, 6, 6, 8), (16, 18, 4, 4, 6), (18, 20, 4, 4, 10))
    state = monitor_of(spans, OLD, (Scheme(Action.STAT, pattern),))
    apply(state)
    assert tried(state) == [(0, 2 * PAGE), (2 * PAGE, 6 * PAGE)]
    assert stats(state, "nr_tried", "sz_tried", "nr_applied", "nr_snapshots") == (2, 6 * PAGE, 0, 1)


def test_actions_reset_the_age_but_stat():
    for action, age in ((Action.STAT, 8), (Action.PAGEOUT, 0), (Action.LRU_PRIO, 0)):
        state = monitor_of(pages((0, 2, 0, 0, 8)), NEW, (Scheme(action),))
        apply(state)
        assert spans_of(state, "age")[0][2] == age
        applied = 2 * PAGE if action is Action.PAGEOUT else 0  # a process's memory has no lists to sort
        assert stats(state, "sz_tried", "sz_applied") == (2 * PAGE, applied)


@pytest.mark.parametrize("version", [OLD, NEW])
def test_quota_goes_round(version):
    """Ten pages in three windows of four: each window begins where the last one ended, and cuts what does not fit."""
    quota = Quota(bytes=4 * PAGE, reset_interval_ms=1000)
    spans = pages((0, 3), (3, 6), (6, 10), (10, 12, 20, 20, 1))
    state = monitor_of(spans, version, (Scheme(Action.STAT, quotas=quota),), min_region_bytes=PAGE)
    windows = []
    for _ in range(2):
        apply(state)
        windows.append(tried(state))
    assert windows[0] == [(0, 3 * PAGE), (3 * PAGE, 4 * PAGE)]
    # The kernel remembers the byte behind the end, and so leaves a page out where no region was joined across it.
    assert windows[1][0][0] in (4 * PAGE, 5 * PAGE)
    assert sum(end - start for start, end in windows[1]) == 4 * PAGE
    assert stats(state, "qt_exceeds") == (1,)


def test_quota_lasts_a_window():
    quota = Quota(bytes=4 * PAGE, reset_interval_ms=1000)
    spans = pages((0, 10), (10, 12, 20, 20, 1))
    state = monitor_of(spans, NEW, (Scheme(Action.STAT, quotas=quota),), min_region_bytes=PAGE)
    apply(state, 1.0)
    apply(state, 0.5)
    assert stats(state, "sz_tried") == (4 * PAGE,)
    apply(state, 0.5)
    assert stats(state, "sz_tried", "qt_exceeds") == (8 * PAGE, 1)


def test_coldest_regions_come_first_under_a_quota():
    quota = Quota(bytes=6 * PAGE, reset_interval_ms=1000, weights=COLD_FIRST)
    spans = pages((0, 4, 10, 10, 3), (4, 8, 0, 0, 20), (8, 12, 0, 0, 600), (12, 16, 1, 1, 0))
    state = monitor_of(spans, NEW, (pageout(quotas=quota),), min_region_bytes=PAGE)
    apply(state)
    # The coldest four pages fit whole; of the next score, two pages are left.
    assert sorted(tried(state)) == [(4 * PAGE, 8 * PAGE), (8 * PAGE, 10 * PAGE)]


def test_time_quota_follows_the_measured_speed():
    quota = Quota(ms=10, reset_interval_ms=1000)
    state = monitor_of(pages((0, 256)), NEW, (pageout(quotas=quota),), min_region_bytes=PAGE)
    apply(state)
    assert stats(state, "effective_bytes") == (10 * 1024 * PAGE,)  # nothing measured yet: 4 MiB/ms
    state.schemes["total_charged_ns"][0, 0] = 256 * 1_000_000  # a page a millisecond
    apply(state)
    assert stats(state, "effective_bytes") == (10 * PAGE,)


@pytest.mark.parametrize(("version", "tried_bytes"), [(OLD, 10 * PAGE), (NEW, 0)])
def test_effective_quota_of_nothing(version, tried_bytes):
    """Below a byte a tuned quota means no limit to older kernels, and nothing to new ones."""
    goal = QuotaGoal(GoalMetric.USER_INPUT, 100, 10**6)
    state = monitor_of(
        pages((0, 10)), version, (Scheme(Action.STAT, quotas=Quota(reset_interval_ms=1, goals=(goal,))),)
    )
    state.schemes["effective_bp"] = 10_000
    apply(state)
    assert stats(state, "effective_bytes") == (1,)
    temporal = Quota(reset_interval_ms=1, goals=(goal,), goal_tuner=GoalTuner.TEMPORAL)
    if version is NEW:
        state = monitor_of(pages((0, 10)), version, (Scheme(Action.STAT, quotas=temporal),))
        apply(state)
        assert stats(state, "effective_bytes") == (0,)
    else:
        state.schemes["effective_bytes"], state.schemes["reset_interval_us"] = 0, 10**12
        state.schemes["window_start_us"] = state.monitors["time_us"][0]
        state.schemes["charged_target"] = -1
        state.schemes["nr_tried"] = state.schemes["sz_tried"] = 0
        apply(state)
    assert stats(state, "sz_tried") == (tried_bytes,)


def test_goals_double_and_shrink_the_quota():
    def quota_of(current):
        goals = (QuotaGoal(GoalMetric.USER_INPUT, 100, current), QuotaGoal(GoalMetric.NODE_MEM_USED_BP, 10_000))
        return Quota(reset_interval_ms=1, goals=goals)

    state = monitor_of(pages((0, 10)), NEW, (pageout(quotas=quota_of(0)),))
    for expected in (2, 4, 8, 16):
        apply(state)
        assert stats(state, "effective_bytes") == (expected,)
    commit_quota_goals(state, 0, Context(schemes=(pageout(quotas=quota_of(150)),)))
    apply(state)
    assert stats(state, "effective_bytes") == (8,)
    state.monitors["machine"]["node_used_bp"][0, 0] = 17_500  # the worse of the goals counts
    apply(state)
    assert stats(state, "effective_bytes") == (2,)


def test_temporal_tuner_switches_a_quota_on_and_off():
    def quota_of(current, size=5 * PAGE):
        goal = QuotaGoal(GoalMetric.USER_INPUT, 100, current)
        return Quota(bytes=size, reset_interval_ms=1, goals=(goal,), goal_tuner=GoalTuner.TEMPORAL)

    for current, size, expected in ((99, 5 * PAGE, 5 * PAGE), (100, 5 * PAGE, 0), (99, 0, 2**63 - 1)):
        state = monitor_of(pages((0, 10)), NEW, (pageout(quotas=quota_of(current, size)),))
        apply(state)
        assert stats(state, "effective_bytes") == (expected,)


def test_stall_time_is_measured_as_its_growth():
    goal = QuotaGoal(GoalMetric.SOME_MEM_PSI_US, 1000)
    state = monitor_of(pages((0, 10)), NEW, (pageout(quotas=Quota(reset_interval_ms=1, goals=(goal,))),))
    for total, current in ((0, 0), (700, 700), (900, 200)):
        state.monitors["machine"]["psi_total_us"] = total
        apply(state)
        assert state.goals["current_value"][0, 0] == current


@pytest.mark.parametrize(
    ("metric", "path", "current"),
    [
        (GoalMetric.NODE_MEMCG_USED_BP, "/", 3000),
        (GoalMetric.NODE_MEMCG_FREE_BP, "", 6000),
        (GoalMetric.NODE_MEMCG_USED_BP, "/other", 0),
        (GoalMetric.NODE_MEMCG_FREE_BP, "/other", 10_000),
    ],
)
def test_goals_of_cgroups(metric, path, current):
    """The simulated program is in the root cgroup; in another one there is nothing."""
    goal = QuotaGoal(metric, 5000, nid=1, path=path)
    state = monitor_of(pages((0, 10)), NEW, (pageout(quotas=Quota(reset_interval_ms=1, goals=(goal,))),))
    state.monitors["machine"]["node_memcg_used_bp"][0, 1] = 3000
    state.monitors["machine"]["node_memcg_free_bp"][0, 1] = 6000
    apply(state)
    assert state.goals["current_value"][0, 0] == current


def test_failed_bytes_are_charged_in_part():
    quota = Quota(bytes=100 * PAGE, reset_interval_ms=1000, fail_charge_num=1, fail_charge_denom=4)
    state = monitor_of(pages((0, 8)), NEW, (Scheme(Action.STAT, quotas=quota),))
    apply(state)
    assert stats(state, "charged_bytes") == (2 * PAGE,)


def test_watermarks():
    marks = Watermarks(WatermarkMetric.FREE_MEM_RATE, 1_000_000, 500, 400, 200)
    state = monitor_of(pages((0, 10)), NEW, (pageout(watermarks=marks),))

    def active_at(free):
        state.monitors["machine"]["free_permil"] = free
        run(state, 1)
        return bool(state.schemes["active"][0, 0])

    seen = [(free, active_at(free)) for free in (450, 501, 450, 399, 450, 500, 199, 300, 600, 400)]
    assert seen == [
        (450, True),
        (501, False),
        (450, False),
        (399, True),
        (450, True),
        (500, True),
        (199, False),
        (300, True),
        (600, False),
        (400, False),
    ]


def test_monitoring_sleeps_while_no_scheme_is_active():
    marks = Watermarks(WatermarkMetric.FREE_MEM_RATE, 700_000, 500, 400, 200)
    state = monitor_of(pages((0, 10)), NEW, (pageout(watermarks=marks),))
    state.monitors["machine"]["free_permil"] = 900
    run(state, 2_000_000)
    assert (state.monitors["samples"][0], state.monitors["slept_us"][0]) == (0, 2_100_000)
    state = monitor_of(pages((0, 10)), NEW, (pageout(watermarks=marks), Scheme()))
    state.monitors["machine"]["free_permil"] = 900
    run(state, 2_000_000)
    assert state.monitors["samples"][0] == 400
    assert stats(state, "nr_tried") == (0,)


def test_address_filters_cut_at_their_borders():
    for allow, taken in ((True, [(3, 7)]), (False, [(0, 3), (7, 10)])):
        item = Filter(FilterType.ADDR, allow=allow, addr_start=3 * PAGE, addr_end=7 * PAGE)
        state = monitor_of(pages((0, 10)), NEW, (Scheme(filters=(item,)),), min_region_bytes=PAGE)
        apply(state)
        assert tried(state) == pages(*taken)


def test_target_filters():
    state = monitor_of(pages((0, 5), (5, 10)), NEW, (Scheme(filters=(Filter(FilterType.TARGET, damon_target_idx=1),)),))
    state.regions["target"][0, 1] = 1
    apply(state)
    assert tried(state) == [(0, 5 * PAGE)]


def test_young_pages_are_left():
    # Half of the pages of the second region are touched in an aggregation.
    table = touched([(5 * PAGE, 10 * PAGE, np.log(2) / 0.1)], 20 * PAGE)
    for filters, passed in (
        ((Filter(FilterType.YOUNG),), 7.5),
        ((Filter(FilterType.YOUNG, allow=True),), 2.5),
        ((Filter(FilterType.YOUNG, matching=False),), 2.5),
        ((Filter(FilterType.MEMCG, memcg_path="/other", allow=True),), 0),
        ((Filter(FilterType.ANON, allow=True),), 10),
        ((Filter(FilterType.ADDR, allow=True, addr_end=5 * PAGE), Filter(FilterType.ANON)), 5),
    ):
        state = monitor_of(pages((0, 5), (5, 10)), NEW, (Scheme(filters=filters),), table=table, min_region_bytes=PAGE)
        apply(state)
        assert stats(state, "sz_ops_filter_passed")[0] == pytest.approx(passed * PAGE, abs=2)


def test_apply_intervals_and_snapshots():
    schemes = (
        Scheme(),
        Scheme(apply_interval_us=50_000),
        Scheme(apply_interval_us=250_000),
        Scheme(max_nr_snapshots=3),
    )
    state = monitor_of(pages((0, 10)), NEW, schemes)
    run(state, 1_000_000)
    assert [stats(state, "nr_snapshots", scheme=number)[0] for number in range(4)] == [10, 20, 4, 3]


def test_moving_sums_between_aggregations():
    """A region touched in every sample is seen as hot in the middle of an aggregation by all but the oldest kernel."""
    table = touched([(0, 16 * PAGE, 1e6)], 16 * PAGE)
    pattern = AccessPattern(min_nr_accesses=20)
    for version, count in ((OLD, 1.0), (NEW, 1.0)):
        scheme = Scheme(access_pattern=pattern, apply_interval_us=25_000)
        state = monitor_of(None, version, (scheme,), table=table, min_region_bytes=PAGE)
        run(state, 500_000)
        before = stats(state, "sz_tried")[0]
        run(state, 1_000_000)
        assert (stats(state, "sz_tried")[0] - before) / (40 * 16 * PAGE) == count


@settings(max_examples=10, deadline=None, phases=(Phase.explicit, Phase.generate), derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    version=st.sampled_from(list(KernelVersion)),
    quota_pages=st.integers(1, 200),
    min_age=st.integers(0, 5),
    per_sample=st.booleans(),
)
def test_invariants(seed, version, quota_pages, min_age, per_sample):
    """Regions tile the memory in order, never more than allowed for long, and no window exceeds its quota."""
    table = touched([(0, 300 * PAGE, 50), (700 * PAGE, 720 * PAGE, 1000)], 1000 * PAGE)
    quota = Quota(bytes=quota_pages * PAGE, reset_interval_ms=500, weights=COLD_FIRST)
    scheme = pageout(access_pattern=AccessPattern(max_nr_accesses=2, min_age=min_age), quotas=quota)
    state = monitor_of(
        None,
        version,
        (Scheme(), scheme),
        table=table,
        seed=seed,
        sampling=Sampling(per_sample),
        max_nr_regions=60,
        min_region_bytes=PAGE,
    )
    for _ in range(12):
        run(state, 300_000)
        spans = spans_of(state, "nr_accesses", "age")
        assert spans[0][0] == 0
        assert spans[-1][1] == 1000 * PAGE
        assert all(left[1] == right[0] for left, right in pairwise(spans))
        assert all(start < end and start % PAGE == 0 for start, end, *_ in spans)
        assert all(0 <= accesses <= 20 and age >= 0 for *_, accesses, age in spans)
        assert stats(state, "charged_bytes", scheme=1)[0] <= quota.bytes
        if version is NEW:
            assert len(spans) <= 60 + 4
    # The scheme that comes first sees every region before another one cuts it.
    assert stats(state, "sz_tried") == (3_600 // 100 * 1000 * PAGE,)
    assert state.monitors["refused_cuts"][0] == 0


def test_copied_settings_are_all_settings_and_nothing_else():
    names = SCHEME.names
    behind = names.index("active")  # settings stand before it
    both = np.zeros(2, SCHEME)
    for number, name in enumerate(names):
        both[name] = (number + 1, -1) if name != "effective_bp" else (number + 1, 7)
    kept = both[1].copy()
    copy_settings(both[1], both[0])
    assert [both[name][1] for name in names[:behind]] == [both[name][0] for name in names[:behind]]
    assert [both[name][1] for name in names[behind:]] == [kept[name] for name in names[behind:]]
