"""damo's records: everything that its versions wrote is read, and what is written is what was read."""

import gzip
import json
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kml_envs.errors import UserError
from kml_envs.memory_suites import make_memory_workload
from kml_envs.workloads.formats.damo import read_damo, write_damo
from kml_envs.workloads.memory_traces import detect_memory_format, read_memory_trace, snapshot_table
from kml_envs.workloads.snapshots import RecordedSnapshot, SnapshotRecord, percentile, working_set_sizes

MIB = 1 << 20


def snapshot(number, regions):
    table = np.array(regions, np.int64).reshape(-1, 4)
    return RecordedSnapshot(number * 100_000_000, (number + 1) * 100_000_000, *table.T)


def record(count=3):
    regions = [(0, 4 * MIB, 20, 3), (4 * MIB, 8 * MIB, 0, 7), (1 << 40, (1 << 40) + MIB, 5, 0)]
    return SnapshotRecord(
        tuple(snapshot(number, regions) for number in range(count)), 5000, 100_000, 1_000_000, target=9
    )


def same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert (one.start_ns, one.end_ns) == (other.start_ns, other.end_ns)
        for name in ("start", "end", "nr_accesses", "age"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name


def json_file(tmp_path, regions, **changes):
    members = {
        "kdamond_idx": 0,
        "context_idx": 0,
        "intervals": {"sample_us": "5 ms", "aggr_us": "100 ms", "ops_update_us": "1 s"},
        "scheme_idx": None,
        "target_id": "18446623435582458880",
        "snapshots": [
            {"start_time": "1 h 2 m", "end_time": "1 h 2 m 100 ms", "regions": regions, "total_bytes": "0 B"}
        ],
    }
    path = tmp_path / "damon.data"
    path.write_text(json.dumps([members | changes]))
    return path


def region(**changes):
    members = {
        "start": "4,096",
        "end": "1,048,576",
        "nr_accesses": {"samples": "7", "percent": None},
        "age": {"usec": None, "aggr_intervals": "1,000"},
        "sz_filter_passed": "0 B",
    }
    return members | changes


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_written_is_read_again(tmp_path, compressed):
    path = tmp_path / "damon.data"
    write_damo(path, [record(), record(1)], compressed=compressed)
    assert (path.read_bytes()[:1] == b"\x78") == compressed
    assert detect_memory_format(path) == "damo"
    first, second = read_damo(path)
    same(first.snapshots, record().snapshots)
    same(second.snapshots, record(1).snapshots)
    assert (first.sample_us, first.aggr_us, first.update_us, first.target, first.scheme) == (
        5000,
        100_000,
        1_000_000,
        9,
        -1,
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["damon.data"]


def test_numbers_of_all_kinds_are_read(tmp_path):
    (found,) = read_damo(json_file(tmp_path, [region()]))
    taken = found.snapshots[0]
    assert (found.sample_us, found.aggr_us, found.update_us) == (5000, 100_000, 1_000_000)
    assert (taken.start_ns, taken.end_ns) == (3720 * 10**9, 3720 * 10**9 + 10**8)
    assert (taken.start[0], taken.end[0], taken.nr_accesses[0], taken.age[0]) == (4096, MIB, 7, 1000)


@pytest.mark.parametrize(
    "changes, accesses, age",
    [
        ({"nr_accesses": {"samples": None, "percent": "25 %"}}, 5, 1000),
        ({"nr_accesses": 3, "age": 4}, 3, 4),
        ({"nr_accesses": "3 samples", "age": None}, 3, -1),
        ({"age": {"usec": "2 s 500 ms", "aggr_intervals": None}}, 7, 25),
        ({"age": {"usec": None, "aggr_intervals": None}}, 7, -1),
    ],
)
def test_counts_and_ages_in_other_units(tmp_path, changes, accesses, age):
    taken = read_damo(json_file(tmp_path, [region(**changes)]))[0].snapshots[0]
    assert (taken.nr_accesses[0], taken.age[0]) == (accesses, age)


def test_sizes_with_units_missing_members_and_the_pretended_region(tmp_path):
    taken = read_damo(json_file(tmp_path, [region(start="4.000 KiB", end="1 MiB")]))[0].snapshots[0]
    assert (taken.start[0], taken.end[0]) == (4096, MIB)
    path = json_file(tmp_path, [])
    found = json.loads(path.read_text())[0]
    for name in ("kdamond_idx", "context_idx", "intervals", "scheme_idx"):
        del found[name]
    fake = {
        "start": "0",
        "end": "0",
        "nr_accesses": {"samples": -1, "percent": -1},
        "age": {"usec": -1, "aggr_intervals": -1},
    }
    found["snapshots"] = [
        {"start_time": None, "end_time": 5_000_000_000, "regions": [region()]},
        {"start_time": "5000000000", "end_time": "5200000000", "regions": [region()]},
        {"start_time": "5200000000", "end_time": "5200000000", "regions": [fake]},
    ]
    path.write_text(json.dumps([found]))
    (read,) = read_damo(path)
    assert len(read.snapshots) == 2 and read.snapshots[0].start_ns == 4_800_000_000
    assert (read.sample_us, read.aggr_us) == (10_000, 200_000)


PERF = """# a heading of perf
kdamond.0  4452 [000] 82877.315633: damon:damon_aggregated: target_id=0 nr_regions=2 4096-8192: 0 864
kdamond.0  4452 [000] 82877.315640: damon:damon_aggregated: target_id=0 nr_regions=2 8192-1048576: 12 3
kdamond.0  4452 [000] 82877.400000: damon:damon_monitor_intervals_tune: sample_us=7000
kdamond.0  4452 [000] 82877.415633: damon:damon_aggregated: target_id=0 nr_regions=1 4096-8192: 20
 other  1 [001] 82877.415700: sched:sched_switch: prev_comm=x
kd 4 [000] 82877.515633: damon:damos_before_apply: ctx_idx=0 scheme_idx=1 target_idx=0 nr_regions=1 4096-8192: 0 9
kdamond.0  4452 [000] 82877.615633: damon:damon_aggregated: target_id=0 nr_regions=2 4096-8192: 0 865
"""


def test_the_text_of_perf_script_is_read(tmp_path):
    path = tmp_path / "perf.txt"
    path.write_text(PERF)
    assert detect_memory_format(path) == "damo"
    monitored, tried = read_damo(path)
    assert [len(taken.start) for taken in monitored.snapshots] == [2, 1], "the last one is not complete"
    assert monitored.snapshots[0].end_ns == 82877_315640000
    assert monitored.snapshots[0].start_ns == 82877_315640000 - 99_993_000
    assert monitored.snapshots[1].age.tolist() == [-1]
    assert [monitored.intervals_of(taken) for taken in monitored.snapshots] == [(4999, 99_993), (7000, 140_000)]
    assert tried.scheme == 1 and tried.snapshots[0].age.tolist() == [9]


def perf_of_scheme(*events, nr_regions=14):
    """Lines of a scheme, each at a time in milliseconds, for the pages of a range."""
    return "".join(
        f"kdamond.0 4 [000] {ms / 1000:.6f}: damon:damos_before_apply: ctx_idx=0 scheme_idx=0 target_idx=0 "
        f"nr_regions={nr_regions} {start * 4096}-{end * 4096}: 0 9\n"
        for ms, start, end in events
    )


def passes_of(tmp_path, text):
    path = tmp_path / "perf.txt"
    path.write_text(text)
    (found,) = read_damo(path)
    return [
        (one.end_ns // 1_000_000, (one.start // 4096).tolist(), (one.end // 4096).tolist()) for one in found.snapshots
    ]


def test_a_pass_of_a_scheme_ends_where_addresses_go_back_or_time_jumps(tmp_path):
    events = [(1000, 0, 4), (1001, 6, 8), (1100, 9, 12), (1101, 2, 5), (1120, 5, 9), (1300, 0, 1)]
    assert passes_of(tmp_path, perf_of_scheme(*events)) == [
        (1001, [0, 6], [4, 8]),
        (1100, [9], [12]),
        (1120, [2, 5], [5, 9]),
        (1300, [0], [1]),
    ]
    assert len(passes_of(tmp_path, perf_of_scheme(*events[:2], nr_regions=1))) == 1


def test_after_a_change_of_the_intervals_time_jumps_later(tmp_path):
    before, after = perf_of_scheme((1000, 0, 1), (1030, 2, 3)), perf_of_scheme((2000, 0, 1), (2200, 2, 3))
    tuned = "kdamond.0 4 [000] 1.050000: damon:damon_monitor_intervals_tune: sample_us=50000\n"
    assert [end for end, _, _ in passes_of(tmp_path, before + tuned + after)] == [1000, 1030, 2200]


@pytest.mark.parametrize(("run", "passes"), [("pageout", 58), ("pageoutwm", 20)])
def test_passes_of_a_recorded_scheme(tmp_path, run, passes):
    """The scheme of a real kernel tried one region in most of its passes, of the 12 to 19 that there were."""
    applied = np.load(Path(__file__).parents[1] / "conformance" / "data" / "damon_runs.npz")[f"{run}_applied"]
    events = [(1000 * float(time), int(start), int(end)) for time, start, end in applied]
    found = passes_of(tmp_path, perf_of_scheme(*events))
    assert len(found) == passes
    assert sum(len(start) for _, start, _ in found) == len(applied)


def test_tuned_intervals_are_kept_with_each_snapshot(tmp_path):
    """By the file's own members, or by the samples of an aggregation of the record where it tells only one interval."""
    path = json_file(tmp_path, [region(nr_accesses={"samples": None, "percent": "50 %"})])
    members = json.loads(path.read_text())[0]
    members["intervals"] = {"sample_us": "5 ms", "aggr_us": "50 ms", "ops_update_us": "1 s"}
    taken = members["snapshots"][0] | {"end_time": "1 h 2 m 200 ms"}
    members["snapshots"] += [
        taken | {"sample_interval_us": "20,000", "aggr_interval_us": "800 ms"},
        taken | {"sample_interval_us": 30_000},
    ]
    path.write_text(json.dumps([members]))
    (found,) = read_damo(path)
    assert [found.intervals_of(one) for one in found.snapshots] == [
        (5000, 50_000),
        (20_000, 800_000),
        (30_000, 300_000),
    ]
    assert [int(one.nr_accesses[0]) for one in found.snapshots] == [5, 20, 5]
    for compressed in (True, False):
        write_damo(path, [found], compressed=compressed)
        (again,) = read_damo(path)
        assert [again.intervals_of(one) for one in again.snapshots] == [
            found.intervals_of(one) for one in found.snapshots
        ]
    members = json.loads(path.read_text())[0]
    assert "sample_interval_us" not in members["snapshots"][0]
    assert members["snapshots"][1]["regions"][0]["age"]["usec"] == str(1000 * 800_000)


def test_compression_is_seen_through(tmp_path):
    path = tmp_path / "perf.txt.gz"
    path.write_bytes(gzip.compress(PERF.encode()))
    assert len(read_damo(path)) == 2


@pytest.mark.parametrize(
    "content, message",
    [
        (b"[1, 2", "not JSON"),
        (b'{"a": 1}', "a list of records is expected"),
        (b"[{}]", "record 0: 'snapshots' is missing"),
        (b'[{"snapshots": [{"regions": []}]}]', "record 0, snapshot 0: 'end_time' is missing"),
        (b'[{"snapshots": [{"end_time": "soon", "regions": []}]}]', "time 'soon' is not a number in ns, us"),
        (b'[{"snapshots": [{"end_time": 1, "regions": 5}]}]', "snapshot 0: 'regions' is a list, found int"),
        (b'[{"snapshots": [{"end_time": 1, "regions": null}]}]', "snapshot 0: 'regions' is a list, found NoneType"),
        (b'[{"intervals": [5], "snapshots": []}]', "record 0: 'intervals' has members, found list"),
        (b'[{"intervals": {"sample_us": -5}, "snapshots": []}]', "record 0: interval '-5' is negative"),
        (b'[{"snapshots": [{"end_time": "1e9999999", "regions": []}]}]', "time '1e9999999' is not a number"),
        (b'[{"snapshots": [{"start_time": 9, "end_time": 8, "regions": []}]}]', "snapshot 0: the time goes back"),
        (
            b'[{"snapshots": [{"end_time": 9, "regions": []}, {"end_time": 8, "regions": []}]}]',
            "record 0, snapshot 1: the time goes back",
        ),
        (b'[{"snapshots": ' + b"[" * 100_000, "lie in each other too deeply"),
        (b"[]", "not a single whole snapshot"),
        (b"nothing of this kind\n", "not a single whole snapshot"),
        (zlib.compress(b"[]" * 100)[:-8], "the compressed data is damaged"),
        (PERF.replace("nr_regions=2 4096", "4096").encode(), "line 2: .*is expected"),
        (PERF.replace("nr_regions=2", "nr_regions=" + "2" * 5000).encode(), "line 2: .*is expected"),
        (PERF.replace("8192-1048576", "8192-" + "1" * 5000).encode(), "line 3: .*is expected"),
        (PERF.replace("82877.4156", "82870.4156").encode(), "line 5: the time goes back"),
        (PERF.replace("8192-1048576", "4096-1048576").encode(), "line 3: region 4096-1048576 .*overlaps"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, message):
    path = tmp_path / "damon.data"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"damon.data.*{message}"):
        read_damo(path)


def test_unusable_regions_are_named(tmp_path):
    for changes, message in (
        ({"end": "4096"}, "region 4096-4096 with 7 accesses is empty"),
        ({"nr_accesses": None}, "a region needs a start, an end and its number of accesses"),
        ({"start": "four"}, "address 'four' is not a number"),
        ({"end": str(1 << 70)}, "beyond 2"),
        ({"nr_accesses": str(1 << 60)}, r"counts below 0 or above 2\*\*32"),
    ):
        with pytest.raises(UserError, match=f"record 0, snapshot 0.*{message}"):
            read_damo(json_file(tmp_path, [region(**changes)]))


def test_working_sets_are_counted_by_the_rule_of_damo():
    sizes = [10, 30, 20, 40] * 5
    snapshots = [snapshot(number, [(0, MIB, 20, 0)]) for number in range(20)]
    snapshots += [
        snapshot(number, [(0, size * 4096, 1, 0), (size * 4096, MIB, 0, 0)]) for number, size in enumerate(sizes)
    ]
    found = working_set_sizes(snapshots)
    assert found.tolist() == [size * 4096 for size in sizes]
    assert [percentile(found, percent) // 4096 for percent in (0, 24.9, 25, 50, 75, 99, 100)] == [
        10,
        10,
        20,
        30,
        40,
        40,
        40,
    ]
    assert working_set_sizes(snapshots, least_accesses=2, skip=0).tolist() == [MIB] * 20 + [0] * 20
    with pytest.raises(ValueError, match="nothing"):
        percentile(working_set_sizes([]), 50)


def test_a_record_replays_as_rates(tmp_path):
    path = tmp_path / "damon.data"
    write_damo(path, [record()])
    table = read_memory_trace(path)
    assert table.size == 9 * MIB, "the gap up to 1 TiB is left out"
    assert table.phase_end_us.tolist() == [100_000, 200_000, 300_000]
    assert table.start[:2].tolist() == [0, 8 * MIB]
    assert 1 - np.exp(-table.rate[:2] * 0.005) == pytest.approx([19.5 / 20, 5 / 20])


def test_tuned_snapshots_replay_at_their_own_intervals():
    regions = [(0, MIB, 10, 0)]
    own = [
        replace(snapshot(number, regions), sample_us=sample, aggr_us=20 * sample)
        for number, sample in enumerate((0, 20_000))
    ]
    table = snapshot_table(SnapshotRecord(tuple(own), 5000, 100_000), "tuned")
    assert 1 - np.exp(-table.rate * [0.005, 0.02]) == pytest.approx([0.5, 0.5])
    # Of more accesses than there were samples, the intervals were a guess.
    own = [replace(one, nr_accesses=one.nr_accesses * 4) for one in own]
    table = snapshot_table(SnapshotRecord(tuple(own), 5000, 100_000), "tuned")
    assert 1 - np.exp(-table.rate * [0.005, 0.02]) == pytest.approx([39.5 / 40, 39.5 / 40])


def test_regions_off_page_boundaries_share_no_page():
    regions = [(100, 5000, 20, 0), (5000, 9000, 10, 0), (9000, 20000, 0, 0)]
    table = snapshot_table(SnapshotRecord((snapshot(0, regions),), 5000, 100_000), "odd")
    assert table.start.tolist() == [0, 8192] or table.start.tolist() == [0, 4096]
    assert (table.start[1:] >= table.end[:-1]).all() and table.size == 20480


def test_times_beyond_all_clocks_are_refused(tmp_path):
    path = json_file(tmp_path, [], snapshots=[{"start_time": 0, "end_time": 1e30, "regions": [region()]}])
    with pytest.raises(UserError, match="its memory or its time is beyond"):
        read_memory_trace(path)


def test_a_device_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        content = pool.submit(pipe.read_bytes)
        write_damo(pipe, [record()])
        assert zlib.decompress(content.result(timeout=30)).startswith(b"[{")
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]
    with pytest.raises(UserError, match="name too long"):
        write_damo(tmp_path / ("x" * 300), [record()])


def test_one_of_several_records_has_to_be_chosen(tmp_path):
    path = tmp_path / "damon.data"
    write_damo(path, [record(), record(1)])
    with pytest.raises(UserError, match="holds 2 records: choose one from 0 to 1"):
        read_memory_trace(path)
    with pytest.raises(UserError, match="no record 2"):
        read_memory_trace(path, target=2)
    assert read_memory_trace(path, target=1).phase_end_us.size == 1
    workload = make_memory_workload(f"accesses:{path}#1")
    assert workload.name == f"accesses:{path}#1"
    np.testing.assert_array_equal(workload.table.phase_end_us, read_memory_trace(path, target=1).phase_end_us)
    with pytest.raises(UserError, match="no record 2"):
        make_memory_workload(f"accesses:{path}#2")
    path.rename(tmp_path / "run#0")
    with pytest.raises(UserError, match="run#0 holds 2 records"):
        make_memory_workload(f"accesses:{tmp_path}/run#0")
