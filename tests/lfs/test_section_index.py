"""The section index against sets of whole numbers."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lfs_volumes import index_row

from kml_envs.compiling import highest_bit, lowest_bit
from kml_envs.lfs.config import Geometry, LfsConfig
from kml_envs.lfs.ordering import stable_order
from kml_envs.lfs.section_index import (
    add_section,
    fewest_valid,
    first_section,
    first_section_around,
    last_section,
    remove_section,
)
from kml_envs.lfs.state import allocate
from kml_envs.workloads.source import bind_workloads
from kml_envs.workloads.synthetic import uniform

DIRTY_ROW = 5  # of sections with four blocks


def empty_volume(sections):
    config = LfsConfig(Geometry(sections, 4, utilisation=0.5))
    return allocate(config, bind_workloads([uniform()], config.geometry.volume_blocks), 1)


@pytest.mark.parametrize("sections", [40, 64, 65, 4096, 9000])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_rows_behave_as_sets(sections, data):
    state = empty_volume(sections)
    volume = state.volumes[0]
    numbers = st.integers(0, sections - 1)
    model = {row: set() for row in range(7)}
    for row, section in data.draw(st.lists(st.tuples(st.integers(0, 6), numbers), max_size=60)):
        if section in model[row]:
            remove_section(volume, row, section)
            model[row].remove(section)
        else:
            add_section(volume, row, section)
            model[row].add(section)
    start = data.draw(numbers)
    for row, members in model.items():
        assert set(index_row(state, row)) == members
        following = [section for section in members if section >= start]
        assert first_section(volume, row, start) == min(following, default=-1)
        assert first_section_around(volume, row, start) == min(following or members, default=-1)
        assert last_section(volume, row) == max(members, default=-1)
    assert first_section(volume, 0, sections + 64) == -1


def test_fewest_valid_is_the_lowest_row_with_a_section():
    state = empty_volume(100)
    volume = state.volumes[0]
    assert fewest_valid(volume) == -1
    for row in (DIRTY_ROW, 3):
        add_section(volume, row, 7)
    for row in (DIRTY_ROW, 2):
        add_section(volume, row, 90)
    assert fewest_valid(volume) == 2
    for row in (DIRTY_ROW, 2):
        remove_section(volume, row, 90)
    assert fewest_valid(volume) == 3


@given(st.lists(st.integers(-5, 5), max_size=70))
def test_stable_order_is_that_of_numpy(keys):
    keys = np.array(keys, np.int64)
    assert np.array_equal(stable_order(keys), np.argsort(keys, kind="stable"))


@numba.njit
def ends(word):
    return lowest_bit(word), highest_bit(word)


@pytest.mark.parametrize("word", [0, 1, 2, 3, 2**63, 2**63 + 8, 2**64 - 1, 12345678901234567])
def test_bits_are_counted_from_the_lowest(word):
    lowest = (word & -word).bit_length() - 1 if word else 64
    assert ends(np.uint64(word)) == (lowest, word.bit_length() - 1)
