"""Snapshots of a monitor as damo's records: converted, gathered, written and read again."""

import sys

import numpy as np
import pytest

from agents.baselines import ConstantPolicy, Contender
from agents.damo_records import record_episode
from agents.damon_environments import MONITOR, RECLAIM
from agents.judging import JudgingOptions, judge
from kml_envs.damon.config import Context, Operations
from kml_envs.damon.control import WHOLE_PICTURE, Intervals, Snapshot
from kml_envs.damon.recording import SnapshotRecorder
from kml_envs.damon.simulator import SimulatedDamon, whole_picture
from kml_envs.errors import UserError
from kml_envs.memory_suites import make_memory_workload
from kml_envs.workloads.formats.damo import read_damo, write_damo

SMALL = {"episode_s": 20.0, "warm_s": 2.0, "max_nr_regions": 100}
OFTEN, SELDOM = (-1.0, 0.0, 0.0, 1.0), (-0.2, 0.0, 0.0, 1.0)


def picture(*rows):
    columns = np.array(rows, np.int64).T
    return Snapshot(*columns, columns[1] - columns[0], int((columns[1] - columns[0]).sum()))


def test_snapshots_keep_the_intervals_that_were_in_force(tmp_path):
    recorder = SnapshotRecorder(kdamond=3)
    short, long = Intervals(5_000, 100_000), Intervals(10_000, 200_000)
    for time_us, intervals, accesses in ((400_000, short, 7), (600_000, short, 8), (1_000_000, long, 9)):
        recorder.take(picture((0, 8192, accesses, 4), (8192, 12288, 0, 9)), intervals, time_us)
    path = tmp_path / "damon.data"
    write_damo(path, [recorder.record()])
    [record] = read_damo(path)
    assert (record.sample_us, record.aggr_us, record.kdamond, record.scheme) == (5_000, 100_000, 3, -1)
    assert [record.intervals_of(one) for one in record.snapshots] == [short, short, long]
    times = [(one.start_ns, one.end_ns) for one in record.snapshots]
    assert times == [(300_000_000, 400_000_000), (400_000_000, 600_000_000), (600_000_000, 1_000_000_000)]
    assert record.snapshots[1].nr_accesses.tolist() == [8, 0]
    assert record.snapshots[1].age.tolist() == [4, 9]
    assert record.snapshots[1].end.tolist() == [8192, 12288]


def test_the_whole_picture_is_what_a_scheme_that_sees_everything_is_shown():
    damon = SimulatedDamon(make_memory_workload("zigzag").table)
    damon.turn_on(Context(Operations.PADDR, schemes=(WHOLE_PICTURE,)))
    damon.run(3_000_000)
    shown, taken = damon.snapshot(0), whole_picture(damon.state, 0)
    assert taken.total_bytes == shown.total_bytes == damon.state.monitors["access"]["size"][0]

    def by_page(one, column):
        return np.repeat(getattr(one, column), (one.end - one.start) >> 12)

    for column in ("nr_accesses", "age"):  # regions have been split since, and their parts say the same
        np.testing.assert_array_equal(by_page(taken, column), by_page(shown, column))


def test_an_episode_is_recorded_and_read_again(tmp_path, capsys):
    path = tmp_path / "damon.data"
    options = JudgingOptions(
        policy="prcl", env=RECLAIM, env_kwargs=SMALL, workloads=("zigzag", "sort-rows"), n_seeds=1, damo=path
    )
    judge(options, sys.stdout)
    assert "playing prcl for" in capsys.readouterr().out
    records = read_damo(path)
    assert [record.kdamond for record in records] == [0, 1]
    for record, workload in zip(records, options.workloads, strict=True):
        assert (record.sample_us, record.aggr_us) == (200_000, 2_000_000)
        assert len(record.snapshots) == 10
        assert set(np.diff([one.end_ns for one in record.snapshots]).tolist()) == {2_000_000_000}
        sizes = {int((one.end - one.start).sum()) for one in record.snapshots}
        assert sizes == {make_memory_workload(workload).table.size}
        assert 0 < max(one.nr_accesses.max() for one in record.snapshots) <= 10


def test_a_policy_may_change_the_intervals():
    actions = iter([OFTEN] * 2 + [SELDOM] * 9)

    class Changing(ConstantPolicy):
        def predict(self, observation, *arguments, **options):
            return np.array([next(actions)], np.float32), None

    judged = Contender("changing", MONITOR, SMALL, lambda space: Changing(space, OFTEN))
    record = record_episode(judged, "bursts-2-1", 1)
    assert [one.sample_us for one in record.snapshots][1:] == [5_000, 5_000, 80_000]
    assert all(one.aggr_us == 20 * one.sample_us for one in record.snapshots)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"policy": "greedy"}, "kml/LfsTune-v0 has no monitor"),
        ({"policy": "prcl", "env": RECLAIM, "explain": True}, "--policy"),
        ({"workloads": ("damon-reclaim",)}, "plays several agents"),
        ({"agent": "damon-reclaim", "explain": True}, "--damo"),
    ],
)
def test_where_nothing_can_be_recorded(tmp_path, arguments, said):
    with pytest.raises(UserError, match=said):
        judge(JudgingOptions(damo=tmp_path / "damon.data", **arguments), sys.stderr)
    assert not list(tmp_path.iterdir())
