"""The bundled traces: complete, undamaged, small, and split by application."""

import hashlib
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kml_envs.errors import UserError
from kml_envs.workloads import bundled
from kml_envs.workloads.bundled import bundled_index, bundled_names, load_bundled
from kml_envs.workloads.bundled.file_format import TICK_US, decode, encode

MOST_BYTES = 3_000_000


def blocks_written(trace):
    """Return every block that the trace writes, shape (block writes,), repetitions included."""
    count = trace.block_count.astype(np.int64)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(trace.first_block, count) + within


@pytest.mark.parametrize("name", bundled_names())
def test_trace_is_what_the_index_says(name):
    row = bundled_index()[name]
    content = (bundled.DIRECTORY / row.file).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (row.bytes, row.sha256)
    trace = load_bundled(name)
    written = blocks_written(trace)
    assert trace.name == name
    assert len(trace.time_us) == row.requests
    assert len(written) == row.block_writes
    assert len(np.unique(written)) == row.footprint_blocks
    assert row.licence == "MIT"
    assert trace.time_us[-1] / 1e6 == pytest.approx(row.duration_s, abs=0.06)


@pytest.mark.parametrize("name", bundled_names())
def test_trace_is_well_formed(name):
    trace = load_bundled(name)
    dtypes = (trace.time_us.dtype, trace.is_write.dtype, trace.first_block.dtype, trace.block_count.dtype)
    assert dtypes == (np.int64, np.bool_, np.int64, np.int32)
    assert len({len(trace.time_us), len(trace.is_write), len(trace.first_block), len(trace.block_count)}) == 1
    assert trace.is_write.all()
    assert trace.time_us[0] == 0
    assert (np.diff(trace.time_us) >= 0).all()
    assert trace.first_block.min() >= 0
    assert trace.block_count.min() >= 1


@pytest.mark.parametrize("name", bundled_names())
def test_footprint_is_overwritten_several_times(name):
    row = bundled_index()[name]
    assert 20_000 <= row.footprint_blocks <= 100_000
    assert row.block_writes >= 4 * row.footprint_blocks


def test_all_traces_together_are_small_and_every_file_is_in_the_index():
    files = {path.name for path in bundled.DIRECTORY.iterdir() if path.suffix not in (".py", ".json")} - {"__pycache__"}
    assert files == {row.file for row in bundled_index().values()}
    assert sum((bundled.DIRECTORY / file).stat().st_size for file in files) <= MOST_BYTES


def test_splits_are_disjoint_by_application():
    splits = defaultdict(set)
    for row in bundled_index().values():
        splits[row.split].add(row.application)
    assert splits.keys() == set(bundled.SPLITS)
    assert len(splits["held-out"]) >= 2
    assert sum(len(applications) for applications in splits.values()) == len(set().union(*splits.values()))
    assert len(bundled_names()) >= 6


def test_names_by_split():
    assert sum((bundled_names(split) for split in bundled.SPLITS), ()) == bundled_names()
    with pytest.raises(UserError, match="unknown split 'test'"):
        bundled_names("test")


def test_unknown_name_is_the_users_mistake():
    with pytest.raises(UserError, match=r"unknown bundled trace 'maildirs'.*Did you mean 'maildir'"):
        load_bundled("maildirs")


def test_damaged_file_is_not_loaded(tmp_path, monkeypatch):
    row = bundled_index()["maildir"]
    content = bytearray((bundled.DIRECTORY / row.file).read_bytes())
    content[100] ^= 1
    (tmp_path / row.file).write_bytes(content)
    monkeypatch.setattr(bundled, "DIRECTORY", tmp_path)
    with pytest.raises(ValueError, match=r"maildir\.trace is damaged"):
        load_bundled("maildir")


COLUMNS = st.integers(0, 50).flatmap(
    lambda requests: st.tuples(
        hnp.arrays(np.int64, requests, elements=st.integers(0, 1 << 40)),
        hnp.arrays(np.int64, requests, elements=st.integers(0, 1 << 50)),
        hnp.arrays(np.int64, requests, elements=st.integers(1, 1 << 31)),
    )
)


@given(COLUMNS)
def test_file_format_keeps_every_column(columns):
    steps, first_block, block_count = columns
    time_us = np.cumsum(steps) * TICK_US - (steps[0] * TICK_US if len(steps) else 0)
    for kept, given_column in zip(
        decode(encode(time_us, first_block, block_count)), (time_us, first_block, block_count), strict=True
    ):
        np.testing.assert_array_equal(kept, given_column)


@pytest.mark.parametrize("content", [b"", b"not a trace", encode(*(np.arange(1, 9),) * 3)[:-20]])
def test_file_that_is_no_trace_is_refused(content):
    with pytest.raises(ValueError, match="not a trace file"):
        decode(content)
