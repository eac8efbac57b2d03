"""Looking ahead fetches memory and does nothing else."""

import numpy as np
import pytest
from lfs_volumes import ROW, formatted

from kml_envs.compiling import compiled
from kml_envs.lfs.config import Geometry, LfsConfig
from kml_envs.lfs.look_ahead import begin_look_ahead
from kml_envs.lfs.simulator import advance_rows, fill_rows, format_rows
from kml_envs.lfs.state import allocate, copy_row, set_source
from kml_envs.lfs.volume import CACHED_BLOCKS, LOOK_AHEAD
from kml_envs.workloads.source import bind_workloads, materialize
from kml_envs.workloads.synthetic import hot_cold, sequential, uniform, zipf

GEOMETRY = Geometry(segments=64, blocks_per_segment=16, utilisation=0.7)


@compiled
def begin_rows(volumes):
    for row in range(volumes.size):
        begin_look_ahead(volumes[row])


@pytest.mark.parametrize("workload", [uniform(), zipf(1.0), hot_cold(0.9, 0.1), sequential()])
def test_volumes_that_look_ahead_do_the_same(workload):
    states = [formatted(LfsConfig(GEOMETRY), workload) for _ in range(2)]
    states[1].volumes["looks_ahead"] = 1
    for state in states:
        fill_rows(state.volumes, ROW)
        for writes in (1, 7, 900, 3000):
            advance_rows(state.volumes, ROW, state.volumes["user_writes"] + writes, np.zeros(1, np.bool_))
    plain, ahead = states
    assert plain.volumes["moved"][0] > 0 or workload == sequential()
    assert ahead.volumes["drawn_ahead"][0] > plain.volumes["drawn_ahead"][0] == 0
    for name in ("user_writes", "moved", "cleanings", "scan_start"):
        assert plain.volumes[name] == ahead.volumes[name]
    for name in ("blocks", "owners", "valid_map", "segments"):
        assert np.array_equal(getattr(plain, name), getattr(ahead, name))
    assert plain.volumes["source"]["random"] == ahead.volumes["source"]["random"]


def upcoming(state):
    """The blocks that the copy of the source has drawn and the source has not, in their order."""
    return np.roll(state.volumes["upcoming"][0], -int(state.volumes["drawn_ahead"][0]) % LOOK_AHEAD)


def coming(state):
    """The blocks that the source will draw."""
    return materialize(state.volumes["source"][:1].copy(), LOOK_AHEAD)


def test_what_was_begun_goes_on_and_stays_in_step():
    """A batch begins in its first turn; a volume that went on without its copy would fetch what it does not need."""
    state = formatted(LfsConfig(GEOMETRY), zipf(1.0))
    fill_rows(state.volumes, ROW)
    begin_rows(state.volumes)
    for writes in (1, 7, 900):
        advance_rows(state.volumes, ROW, state.volumes["user_writes"] + writes, np.zeros(1, np.bool_))
        assert np.array_equal(upcoming(state), coming(state))
        begin_rows(state.volumes)
        assert np.array_equal(upcoming(state), coming(state))


def test_a_new_source_is_looked_ahead_of_anew():
    state, other = (formatted(LfsConfig(GEOMETRY), uniform()) for _ in range(2))
    for volumes in (state, other):
        fill_rows(volumes.volumes, ROW)
        begin_rows(volumes.volumes)
    set_source(state, 0, 0, 5)
    copy_row(other, 0, other, 0)
    for volumes in (state, other):
        assert volumes.volumes["drawn_ahead"][0] == 0
        begin_rows(volumes.volumes)
        assert np.array_equal(upcoming(volumes), coming(volumes))


def test_only_volumes_beyond_the_cache_look_ahead():
    for segments, looks in ((64, 0), (CACHED_BLOCKS // 512 * 2, 1)):
        config = LfsConfig(Geometry(segments=segments, blocks_per_segment=512, utilisation=0.7))
        assert formatted(config, uniform()).volumes["looks_ahead"][0] == looks


def test_a_large_volume_may_be_filled_before_it_has_a_workload():
    config = LfsConfig(Geometry(segments=256, blocks_per_segment=512, utilisation=0.7))
    state = allocate(config, bind_workloads([uniform()], config.geometry.volume_blocks), 1)
    format_rows(state.volumes, ROW, np.ones(1, np.uint64))
    fill_rows(state.volumes, ROW)
    assert state.volumes["user_writes"][0] == config.geometry.volume_blocks
