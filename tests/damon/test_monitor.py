"""Rules of the monitor that differ between versions, ranges that are followed, attributes that change on the way."""

import pytest
from damon_monitors import (
    PAGE,
    call_apply,
    call_change_attributes,
    call_merge,
    call_size_limit,
    monitor_of,
    run,
    spans_of,
    touched,
)

from kml_envs.damon.config import (
    Action,
    Filter,
    FilterType,
    IntervalsGoal,
    MonitoringAttributes,
    Operations,
    Quota,
    Scheme,
)
from kml_envs.damon.simulator import attributes_record
from kml_envs.damon.state import set_mappings
from kml_envs.damon.versions import KernelVersion

OLDEST, OLD, NEW = KernelVersion.V6_1, KernelVersion.V6_17, KernelVersion.LATEST
VERSIONS = (OLDEST, OLD, NEW)


def by_version(*values):
    """Parameters: a version and what it gives, from the oldest on."""
    return list(zip(VERSIONS, values, strict=True))


def apply_once(state):
    state.monitors["samples"] = state.schemes["next_apply"][0, 0]
    state.monitors["next_aggregation"] = state.monitors["samples"]
    call_apply(state.monitors)


def regions_of(*columns, size=10):
    """Regions side by side, with accesses, last accesses and ages."""
    return [(size * index, size * (index + 1), *row) for index, row in enumerate(zip(*columns, strict=True))]


def changed(state, **attributes):
    given = MonitoringAttributes(**{"min_region_bytes": 1, **attributes})
    call_change_attributes(state.monitors, attributes_record(given).reshape(1))


@pytest.mark.parametrize(("version", "samples"), by_version(3, 2, 2))
def test_timers_end_late_by_the_clock_and_early_by_the_count(version, samples):
    """Of samples of 5 ms, 13 ms need three by the clock; where samples are counted, two are enough."""
    scheme = Scheme(apply_interval_us=13_000 if version is not OLDEST else 0)
    state = monitor_of([(0, 100)], version, (scheme,), aggr_us=13_000, update_us=13_000)
    for timer in ("window_samples", "next_aggregation", "next_update"):
        assert state.monitors[timer][0] == samples
    assert state.schemes["next_apply"][0, 0] == samples
    run(state, 6 * 5_000)
    assert state.monitors["aggregations"][0] == 6 // samples


@pytest.mark.parametrize(
    ("version", "accesses"), by_version([0, 2, 8, 10, 18, 20], [1, 9, 19], [1, 9, 19]), ids=lambda value: str(value)
)
def test_merging_goes_on_while_there_are_too_many(version, accesses):
    given = [0, 2, 8, 10, 18, 20]
    state = monitor_of(regions_of(given, given), version, min_nr_regions=3, max_nr_regions=3)
    state.monitors["size_limit"] = 1000
    call_merge(state.monitors, 1)
    assert [row[2] for row in spans_of(state, "nr_accesses")] == accesses


@pytest.mark.parametrize(
    ("version", "ages"),
    by_version([8, 0, 0], [8 + 5, 2, 5], [8, 0, 0]),
)
def test_regions_age_with_every_pass_of_merging_or_only_with_the_first(version, ages):
    """Nothing can be joined, so that five more passes follow, with thresholds of 2, 4, 8, 16 and 32.

    Regions whose accesses differ from the last ones by 0, by 10 and by 2; in 6.1 there is one pass.
    """
    state = monitor_of(regions_of([5, 10, 2] * 2, [5, 0, 4] * 2, [7] * 6), version, min_nr_regions=3, max_nr_regions=3)
    state.monitors["size_limit"] = 10
    call_merge(state.monitors, 1)
    assert [row[2] for row in spans_of(state, "age")] == 2 * ages


@pytest.mark.parametrize(("version", "ages"), by_version([6, 6, 6, 6, 0], [6, 6, 6, 6, 0], [0, 0, 6, 6, 0]))
def test_the_age_begins_anew_at_the_first_and_the_last_access(version, ages):
    state = monitor_of(regions_of([1, 0, 0, 3, 10], [0, 1, 0, 2, 2], [5] * 5), version)
    state.monitors["size_limit"] = 10
    call_merge(state.monitors, 2)
    assert [row[2] for row in spans_of(state, "age")] == ages


@pytest.mark.parametrize(("version", "limit"), by_version(142, 142, 144))
def test_the_size_limit_keeps_the_least_number_of_regions(version, limit):
    state = monitor_of([(0, 600), (600, 1000)], version, min_nr_regions=7, min_region_bytes=16)
    assert call_size_limit(state.monitors) == limit
    state = monitor_of([(0, 1000)], version, min_nr_regions=100, min_region_bytes=16)
    assert call_size_limit(state.monitors) == 16


@pytest.mark.parametrize(("version", "enforced"), by_version(False, False, True))
def test_regions_above_the_size_limit_are_cut(version, enforced):
    """So that the least number of regions holds from the beginning, and after each aggregation."""
    state = monitor_of(None, version, min_nr_regions=16, min_region_bytes=PAGE)
    assert state.monitors["region_count"][0] == (16 if enforced else 1)
    state = monitor_of([(0, 1 << 20)], version, min_nr_regions=16, max_nr_regions=31, min_region_bytes=PAGE)
    run(state, 100_000)
    # What was cut is above half of the maximum already, so that only new kernels split on, and by halves at most.
    count = int(state.monitors["region_count"][0])
    assert (16 < count <= 31) if enforced else (count == 2)
    largest = max(end - start for start, end in spans_of(state))
    assert (largest <= state.monitors["size_limit"][0]) == enforced


@pytest.mark.parametrize(("version", "follows"), by_version(False, True, True))
def test_the_size_limit_follows_aggregations_or_the_ranges(version, follows):
    size = 1 << 20
    state = monitor_of(None, version, min_nr_regions=16, min_region_bytes=PAGE, update_us=1_000_000)
    changed(state, min_nr_regions=32, min_region_bytes=PAGE, update_us=1_000_000)
    assert state.monitors["size_limit"][0] == size // 16
    run(state, 100_000)
    assert state.monitors["size_limit"][0] == size // (32 if follows else 16)
    run(state, 900_000)
    assert state.monitors["size_limit"][0] == size // 32


@pytest.mark.parametrize(
    ("version", "spans"), [(OLD, [(0, 3), (3, 7), (7, 10)]), (NEW, [(0, 10)])], ids=["6.17", "latest"]
)
def test_slices_that_a_scheme_left_alike_are_joined(version, spans):
    cut = Filter(FilterType.ADDR, addr_start=3 * PAGE, addr_end=7 * PAGE)
    state = monitor_of([(0, 10 * PAGE, 0, 0, 8)], version, (Scheme(filters=(cut,)),), min_region_bytes=PAGE)
    apply_once(state)
    assert spans_of(state, "age") == [(start * PAGE, end * PAGE, 8) for start, end in spans]
    state = monitor_of([(0, 10 * PAGE, 0, 0, 8)], version, (Scheme(filters=(cut,)),), min_region_bytes=PAGE)
    state.monitors["size_limit"] = 7 * PAGE
    apply_once(state)
    assert len(spans_of(state)) == (3 if version is OLD else 2)


def test_slices_that_a_scheme_left_different_stay():
    scheme = Scheme(Action.PAGEOUT, quotas=Quota(bytes=4 * PAGE, reset_interval_ms=1000))
    state = monitor_of([(0, 10 * PAGE, 0, 0, 8)], NEW, (scheme,), min_region_bytes=PAGE)
    apply_once(state)
    assert spans_of(state, "age") == [(0, 4 * PAGE, 0), (4 * PAGE, 10 * PAGE, 8)]


@pytest.mark.parametrize(("version", "accesses"), by_version(10, 0, 0))
def test_a_change_in_the_middle_of_an_aggregation_begins_it_anew(version, accesses):
    """From 20 samples of 5 ms to 40 of 10 ms, after 7 of them: what the last aggregation found is converted."""
    state = monitor_of([(0, 100, 5, 10, 20)], version, (Scheme(),))
    state.monitors["samples"] = 7
    changed(state, sample_us=10_000, aggr_us=400_000, update_us=1_000_000)
    assert spans_of(state, "nr_accesses", "last_nr_accesses", "age") == [(0, 100, accesses, 20, 5)]
    monitor = state.monitors[0]
    assert (monitor["next_aggregation"], monitor["window_samples"], monitor["next_update"]) == (7 + 40, 40, 7 + 100)
    assert state.schemes["next_apply"][0, 0] == 7 + 40
    assert state.regions["nr_accesses_bp"][0, 0] == (10 if version is OLDEST else 20) * 10_000


@pytest.mark.parametrize("version", VERSIONS)
def test_a_change_between_aggregations_converts_what_was_counted(version):
    """That is when the kernel tunes the intervals, before the counts become those of the aggregation before."""
    state = monitor_of([(0, 100, 5, 10, 20)], version)
    state.monitors["samples"] = state.monitors["next_aggregation"]
    changed(state, sample_us=10_000, aggr_us=100_000)
    assert spans_of(state, "nr_accesses", "last_nr_accesses", "age") == [(0, 100, 2, 5, 20)]
    assert state.regions["nr_accesses_bp"][0, 0] == 20_000


def test_a_new_goal_of_the_intervals_begins_its_own_count():
    goal = IntervalsGoal(400, 3, 5_000, 10_000_000)
    state = monitor_of([(0, 100)], NEW, intervals_goal=goal)
    assert state.monitors["next_tuning"][0] == 60
    state.monitors["samples"] = 7
    changed(state, sample_us=10_000, aggr_us=100_000, intervals_goal=goal)
    assert state.monitors["next_tuning"][0] == 60  # goes on where only the intervals change, as when they are tuned
    changed(state, sample_us=10_000, aggr_us=100_000, intervals_goal=IntervalsGoal(400, 5, 5_000, 10_000_000))
    assert state.monitors["next_tuning"][0] == 7 + 5 * 10


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_running_monitor_counts_right_after_a_change(version):
    """Memory touched in every sample is found in all of them, in the old ones' number and then in the new one's."""
    table = touched([(0, 64 * PAGE, 1e6)], 64 * PAGE)
    state = monitor_of(None, version, (Scheme(),), table, min_region_bytes=PAGE)
    run(state, 250_000)
    changed(state, sample_us=10_000, aggr_us=400_000, min_region_bytes=PAGE)
    run(state, 400_000)
    assert {row[2] for row in spans_of(state, "last_nr_accesses")} == {40}


def pages(*spans):
    return tuple((start * PAGE, end * PAGE) for start, end in spans)


def covered(state):
    """The ranges that regions cover without a gap, in pages."""
    found = []
    for start, end in spans_of(state):
        if found and found[-1][1] == start // PAGE:
            found[-1] = (found[-1][0], end // PAGE)
        else:
            found.append((start // PAGE, end // PAGE))
    return found


def test_monitoring_begins_with_even_pieces_of_the_mapped_ranges():
    mapped = pages((0, 60), (60, 100), (400, 500), (502, 503), (900, 1000))
    table = touched([(0, PAGE, 0.0)], 1000 * PAGE)
    state = monitor_of(None, OLD, (), table, operations=Operations.VADDR, mapped=mapped, min_region_bytes=PAGE)
    # Three ranges of 100, 103 and 100 pages; a tenth of all is 30 pages, so that each becomes three pieces.
    widths = [(end - start) // PAGE for start, end in spans_of(state)]
    assert covered(state) == [(0, 100), (400, 503), (900, 1000)]
    assert widths == [33, 33, 34, 34, 34, 35, 33, 33, 34]


@pytest.mark.parametrize("version", VERSIONS)
def test_regions_follow_the_mapped_ranges(version):
    """What is unmapped is left, what is mapped is found, both at the next look; what stays keeps its history."""
    table = touched([(600 * PAGE, 700 * PAGE, 1e6)], 1000 * PAGE)
    before, after = pages((0, 100), (400, 500), (900, 1000)), pages((0, 150), (600, 700), (900, 1000))
    state = monitor_of(
        None, version, (), table, operations=Operations.VADDR, mapped=before, min_region_bytes=PAGE, update_us=1_000_000
    )
    run(state, 900_000)
    set_mappings(state, 0, 0, after)
    run(state, 90_000)
    assert covered(state) == [(0, 100), (400, 500), (900, 1000)]
    run(state, 10_000)
    assert covered(state) == [(0, 150), (600, 700), (900, 1000)]
    ages = {start // PAGE: age for start, _, age in spans_of(state, "age")}
    assert ages[0] > 5 and ages[600] == 0
    run(state, 500_000)
    found = {start // PAGE: last for start, _, last in spans_of(state, "last_nr_accesses")}
    assert found[600] == 20 and found[0] == 0
    limit = 350 * PAGE // 10
    assert state.monitors["size_limit"][0] == (limit if version is not NEW else 35 * PAGE)


def test_regions_stay_where_nothing_is_mapped_any_more():
    state = monitor_of(None, OLD, (), operations=Operations.VADDR, min_region_bytes=PAGE, update_us=100_000)
    before = covered(state)
    set_mappings(state, 0, 0, ())
    run(state, 300_000)
    assert covered(state) == before


def test_given_ranges_stay_whatever_is_mapped():
    state = monitor_of(None, NEW, mapped=pages((0, 10)), min_region_bytes=PAGE, update_us=100_000)
    run(state, 300_000)
    assert covered(state) == [(0, 256)]
