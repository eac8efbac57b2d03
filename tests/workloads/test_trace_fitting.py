"""Splitting requests into blocks and fitting them to a volume: properties over random traces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kml_envs.errors import UserError
from kml_envs.workloads import BlockTrace, address_hash, block_writes, fit_to_volume

REQUESTS = st.lists(
    st.tuples(st.integers(0, 1000), st.booleans(), st.integers(0, 300), st.integers(1, 20)), min_size=1, max_size=60
)


def make_trace(requests):
    pauses, is_write, first, count = zip(*requests, strict=True)
    times = np.cumsum(pauses) - pauses[0]
    return BlockTrace(
        "random",
        times.astype(np.int64),
        np.array(is_write),
        np.array(first, np.int64),
        np.array(count, np.int32),
    )


@given(REQUESTS)
def test_block_writes_are_the_blocks_of_every_write_in_order(requests):
    trace = make_trace(requests)
    expected = [
        (block, time)
        for time, write, first, count in zip(
            trace.time_us, trace.is_write, trace.first_block, trace.block_count, strict=True
        )
        if write
        for block in range(first, first + count)
    ]
    blocks, time_us = block_writes(trace)
    assert list(zip(blocks, time_us, strict=True)) == expected
    assert blocks.dtype == time_us.dtype == np.int64


@given(REQUESTS, st.integers(1, 400), st.integers(0, 2**64 - 1))
def test_fitting_keeps_the_writes_of_the_right_number_of_addresses(requests, volume_blocks, seed):
    trace = make_trace([(0, True, 0, 1), *requests])
    blocks, time_us = block_writes(trace)
    fitted = fit_to_volume(trace, volume_blocks, seed=seed)
    assert fitted.footprint == min(volume_blocks, len(np.unique(blocks)))
    assert fitted.blocks.dtype == np.int32
    _, first = np.unique(fitted.blocks, return_index=True)
    assert len(first) == fitted.footprint
    assert fitted.blocks.max() == fitted.footprint - 1
    assert (np.diff(first) > 0).all()  # numbered in order of first write
    # The kept addresses are those of smallest hash, and each keeps all its writes.
    unique = np.unique(blocks)
    kept = unique[np.argsort(address_hash(unique, seed))[: fitted.footprint]]
    stays = np.isin(blocks, kept)
    assert np.array_equal(time_us[stays], fitted.time_us)
    pairs = set(zip(blocks[stays].tolist(), fitted.blocks.tolist(), strict=True))
    assert len(pairs) == fitted.footprint


@given(REQUESTS, st.integers(0, 100))
def test_a_smaller_volume_keeps_a_part_of_what_a_larger_one_keeps(requests, seed):
    trace = make_trace([(0, True, 0, 1), *requests])
    small, large = (fit_to_volume(trace, volume_blocks, seed=seed) for volume_blocks in (20, 40))
    assert len(small.blocks) <= len(large.blocks)
    assert set(small.time_us) <= set(large.time_us)


def test_sampled_reuse_distances_scale_with_the_volume():
    generator = np.random.default_rng(3)
    count = 20_000
    hot = generator.integers(0, 400, count)
    cold = generator.integers(400, 4_000, count)
    trace = make_trace([(1, True, int(block), 1) for block in np.where(generator.random(count) < 0.8, hot, cold)])
    whole, half = fit_to_volume(trace, 4_000), fit_to_volume(trace, 2_000, seed=1)
    assert len(half.blocks) / half.footprint == pytest.approx(len(whole.blocks) / whole.footprint, rel=0.1)


def test_the_choice_of_addresses_is_fixed_across_versions():
    # Golden values: a change would silently change every fitted trace.
    assert [hex(value) for value in address_hash(np.arange(3), 0)] == [
        "0xa706dd2f4d197e6f",
        "0x2a98f501af37e97f",
        "0x82876e1c4f0b438c",
    ]


def test_splitmix64_agrees_with_its_published_first_output():
    from kml_envs.workloads.trace import _splitmix64

    assert _splitmix64(np.zeros(1, np.uint64))[0] == 0xE220A8397B1DCDAF


def test_times_are_scaled_and_wrong_volumes_refused():
    trace = make_trace([(0, True, 0, 2), (100, True, 5, 1)])
    assert fit_to_volume(trace, 8, time_scale=0.5).time_us.tolist() == [0, 0, 50]
    with pytest.raises(UserError, match="volume of 0 blocks"):
        fit_to_volume(trace, 0)
    for time_scale in (0.0, -1.0, float("nan"), 1e30):
        with pytest.raises(UserError, match="time scale"):
            fit_to_volume(trace, 8, time_scale=time_scale)
    with pytest.raises(UserError, match="'random' holds no writes"):
        fit_to_volume(make_trace([(0, False, 0, 2)]), 8)
