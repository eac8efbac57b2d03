"""Data sets as bytes: what goes in comes out, and the schema describes every byte."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kml_envs.proxy import Bounds
from kml_envs.serve.dataset import HEADER, DataSet, describe, pack, unpack


@given(
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32, allow_nan=False)),
    st.none() | arrays(np.bool_, st.integers(1, 40)),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_records_hold_what_was_packed(generation, progress, features, mask, deadline, corrupted):
    read = unpack(pack(DataSet(generation, progress, features, mask, deadline, corrupted)))
    assert (read.generation, read.progress, read.deadline_us, read.corrupted) == (
        generation,
        progress,
        deadline,
        corrupted,
    )
    np.testing.assert_array_equal(read.features, features)
    assert (read.mask is None) == (mask is None)
    if mask is not None:
        np.testing.assert_array_equal(read.mask, mask)


def test_the_header_stands_byte_by_byte_where_the_documentation_says():
    record = pack(DataSet(258, 3, np.array([1.0, -2.0], np.float32), np.array([True, False, True]), 50_000, False))
    assert record[:8] == b"KMLD\x01\x00\x28\x00"
    assert record[8:16] == b"\x02\x01" + bytes(6)
    assert struct.unpack_from("<q4I", record, 16) == (3, 2, 3, 50_000, 0)
    assert record[40:] == struct.pack("<ff", 1.0, -2.0) + b"\x01\x00\x01"


@pytest.mark.parametrize("damaged", [b"", b"KMLD", bytes(40), HEADER.pack(b"KMLD", 1, 40, 1, 1, 5, 0, 0, 0)])
def test_what_is_no_record_is_refused(damaged):
    with pytest.raises(ValueError):
        unpack(damaged)


def test_the_schema_gives_size_offsets_and_what_may_be_recommended(tutorial_module):
    class Subsystem:
        observation = tutorial_module.Readahead.observation
        recommendation = tutorial_module.Readahead.recommendation

    lines = describe("tutorial/Readahead-v0", Subsystem).splitlines()
    assert lines[:3] == ["format kml-dataset 1 little-endian", "environment tutorial/Readahead-v0", "size 58"]
    assert "field 8 int64 generation" in lines and "field 40 float32[3] features" in lines
    assert "field 52 uint8[6] mask" in lines and "feature 0 0 1 blocks since the last jump" in lines
    assert lines[-1] == "recommendation choice 6"
    Subsystem.recommendation = Bounds(["how much", "how long"], [-1, 0], [1, 2.5])
    lines = describe("x", Subsystem).splitlines()
    assert lines[-3:] == ["recommendation numbers 2", "number 0 -1 1 how much", "number 1 0 2.5 how long"]
    assert "size 52" in lines
