"""Device time, waiting and latencies, replayed beside the simulator in a few lines of Python."""

import numpy as np
import pytest
from lfs_volumes import ROW, formatted

from kml_envs.lfs.config import Geometry, LatencyProfile, LfsConfig
from kml_envs.lfs.simulator import advance_rows, fill_rows
from kml_envs.lfs.state import set_source
from kml_envs.lfs.writing import latency_bucket
from kml_envs.workloads.synthetic import uniform, with_interval

LATENCY = LatencyProfile(write_ns=1000, read_ns=3000, erase_ns=50_000)


def test_latency_buckets_are_eighths_of_an_octave():
    for bucket in range(8):
        assert latency_bucket(bucket) == bucket
    for exponent in range(3, 40):
        for eighth in range(8):
            first = 2**exponent + eighth * 2 ** (exponent - 3)
            assert latency_bucket(first) == exponent * 8 + eighth
            assert latency_bucket(first + 2 ** (exponent - 3) - 1) == exponent * 8 + eighth
    assert latency_bucket(-5) == 0
    assert latency_bucket(2**63 - 1) < 512


def test_the_fill_takes_no_time():
    config = LfsConfig(Geometry(96, 32, utilisation=0.75), latency=LATENCY)
    state = formatted(config)
    fill_rows(state.volumes, ROW)
    assert state.volumes["busy_until_ns"] == state.volumes["user_ns"] == 0
    assert state.latencies.sum() == 0


@pytest.mark.parametrize("interval_ns", [0, 2_000, 15_000, 60_000])
def test_writes_wait_for_the_device_and_for_cleaning(interval_ns):
    config = LfsConfig(Geometry(96, 32, utilisation=0.75), latency=LATENCY)
    state = formatted(config, with_interval(uniform(), interval_ns))
    fill_rows(state.volumes, ROW)
    busy = done = cleaning_until = stall = 0
    stalls = 0
    latencies = np.zeros(512, np.int64)
    writes = 6000
    for write in range(writes):
        moved, cleanings = (int(state.volumes[name][0]) for name in ("moved", "cleanings"))
        advance_rows(state.volumes, ROW, state.volumes["user_writes"] + 1, np.zeros(1, np.bool_))
        cleaned = int(state.volumes["cleanings"][0]) - cleanings
        spent = (int(state.volumes["moved"][0]) - moved) * 4000 + cleaned * 50_000
        if cleaned:  # it was due since the write before
            busy = max(busy, write * interval_ns) + spent
            cleaning_until = busy
        arrival = (write + 1) * interval_ns if interval_ns else done
        begin = max(arrival, busy)
        if begin > arrival and cleaning_until > arrival:
            stalls += 1
            stall += min(begin, cleaning_until) - arrival
        busy = done = begin + 1000
        latencies[latency_bucket(done - arrival)] += 1
    volume = state.volumes[0]
    assert volume["stalls"] == stalls
    assert volume["stall_ns"] == stall
    assert volume["busy_until_ns"] == busy
    assert volume["user_ns"] == writes * 1000
    assert volume["cleaning_ns"] == volume["moved"] * 4000 + volume["cleanings"] * 50_000
    assert np.array_equal(state.latencies[0], latencies)
    assert stalls > 0


def test_the_time_of_a_new_workload_begins_when_the_device_is_free():
    config = LfsConfig(Geometry(96, 32, utilisation=0.75), latency=LATENCY)
    state = formatted(config, with_interval(uniform(), 60_000))
    fill_rows(state.volumes, ROW)
    advance_rows(state.volumes, ROW, state.volumes["user_writes"] + 500, np.zeros(1, np.bool_))
    before = state.volumes.copy()
    state.latencies[:] = 0
    set_source(state, 0, 0, 9)
    advance_rows(state.volumes, ROW, state.volumes["user_writes"] + 1, np.zeros(1, np.bool_))
    volume = state.volumes[0]
    assert before["busy_until_ns"][0] > 500 * 60_000 / 2
    assert volume["source"]["arrival_ns"] == before["busy_until_ns"][0] + 60_000
    assert state.latencies[0, latency_bucket(1000)] == 1 or volume["stalls"] > before["stalls"][0]
