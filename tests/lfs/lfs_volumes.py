"""Small simulated volumes and everything that must hold of them at any moment."""

import numpy as np

from kml_envs.lfs.simulator import format_rows
from kml_envs.lfs.state import LfsState, allocate, set_source
from kml_envs.lfs.volume import SegmentState
from kml_envs.workloads.source import bind_workloads
from kml_envs.workloads.synthetic import uniform

ROW = np.zeros(1, np.int64)


def formatted(config, workload=None, seed=1, instances=1):
    """Volumes without a block, about to run a workload."""
    state = allocate(config, bind_workloads([workload or uniform()], config.geometry.volume_blocks), instances)
    format_rows(state.volumes, np.arange(instances), np.full(instances, seed, np.uint64))
    for row in range(instances):
        set_source(state, row, 0, seed)
    return state


def index_row(state: LfsState, number: int, row: int = 0):
    """The sections in a row of the section index, by its bitmap, checked against its summary and population."""
    volume = state.volumes[row]
    words = np.ascontiguousarray(state.index[row][:, number])
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    summary = np.unpackbits(state.index_summary[row][number].view(np.uint8), bitorder="little")
    assert np.array_equal(summary[: words.size].astype(bool), words != 0)
    assert not summary[words.size :].any()
    assert state.population[row][number] == bits.sum()
    assert not bits[volume["section_count"] :].any()
    return np.flatnonzero(bits)


def check(state: LfsState, row: int = 0):
    """Assert that maps, counts, states and index of a volume agree with each other."""
    volume = state.volumes[row]
    slots, shift, span = volume["slots_per_section"], volume["block_shift"], volume["segments_per_section"]
    assert volume["exhausted"] == 0
    segments, owners = state.segments[row], state.owners[row]
    section_valid, states = state.section_valid[row], state.section_states[row]

    locations = state.blocks[row]["location"]
    [written] = np.nonzero(locations >= 0)
    live = locations[written]
    assert np.unique(live).size == live.size
    assert np.array_equal(owners[live], written)
    marked = np.unpackbits(state.valid_map[row].view(np.uint8), bitorder="little")
    assert np.array_equal(np.flatnonzero(marked), np.sort(live))

    assert volume["valid_blocks"] == live.size
    assert np.array_equal(segments["valid"], np.bincount(live >> shift, minlength=segments.size))
    assert np.array_equal(section_valid, segments["valid"].reshape(-1, span).sum(1))

    open_logs = state.logs[row][state.logs[row]["section"] >= 0]
    assert np.array_equal(np.flatnonzero(states == SegmentState.CURRENT), np.sort(open_logs["section"]))
    in_part = volume["timeline"]["victim"]
    assert np.flatnonzero(states == SegmentState.CLEANING).tolist() == ([in_part] if in_part >= 0 else [])
    assert (section_valid[states == SegmentState.FULL] == slots).all()
    assert (section_valid[states == SegmentState.DIRTY] < slots).all()
    for empty in (SegmentState.FREE, SegmentState.PREFREE):
        assert (section_valid[states == empty] == 0).all()
    assert volume["free_sections"] == (states == SegmentState.FREE).sum()
    assert 0 <= volume["minimum_free"] <= volume["free_sections"]
    closed = ~np.isin(states, (SegmentState.FREE, SegmentState.CURRENT))
    assert volume["written_slots"] == closed.sum() * slots + open_logs["offset"].sum()

    for valid in range(slots):
        expected = np.flatnonzero((states == SegmentState.DIRTY) & (section_valid == valid))
        assert np.array_equal(index_row(state, valid, row), expected)
    for number, kept in enumerate((SegmentState.PREFREE, SegmentState.DIRTY, SegmentState.FREE)):
        assert np.array_equal(index_row(state, slots + number, row), np.flatnonzero(states == kept))
    assert volume["moved"] >= 0
