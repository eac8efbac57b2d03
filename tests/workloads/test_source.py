"""Streams draw what their workload says, the same for the same seed."""

import numpy as np
import pytest
from scipy import stats

from kml_envs.errors import UserError
from kml_envs.workloads.source import bind_workloads, materialize, overwrite_gaps, start_source
from kml_envs.workloads.synthetic import (
    Bursts,
    Phase,
    PhaseKind,
    Workload,
    checkpoints,
    circular_log,
    copy_on_write,
    hot_cold,
    in_bursts,
    replay,
    sequential,
    shifting,
    slowed,
    uniform,
    with_interval,
    zipf,
)
from kml_envs.workloads.trace import BlockTrace

BLOCKS = 1000
DRAWS = 200_000


def drawn(workload, count=DRAWS, blocks=BLOCKS, seed=11):
    table = bind_workloads([workload], blocks)  # kept until the draws are done: a source holds its arrays' addresses
    return materialize(start_source(table, 0, seed), count)


def counts(workload, blocks=BLOCKS, seed=11):
    return np.bincount(drawn(workload, blocks=blocks, seed=seed), minlength=blocks)


def test_uniform_draws_every_block_equally_often():
    assert stats.chisquare(counts(uniform())).pvalue > 1e-4


@pytest.mark.parametrize("theta", [0.5, 0.99, 1.0, 1.2, 2.0])
def test_zipf_draws_ranks_by_their_power(theta):
    expected = np.arange(1, BLOCKS + 1) ** -theta
    expected *= DRAWS / expected.sum()
    observed = np.sort(counts(zipf(theta)))[::-1]
    frequent = expected > 200  # sorting tells the ranks apart where they are often enough
    head = observed[frequent][:20], expected[frequent][:20]
    assert np.abs(head[0] - head[1]).max() < 5 * np.sqrt(head[1]).max()
    assert observed[20:].sum() == pytest.approx(expected[20:].sum(), abs=6 * np.sqrt(DRAWS / 4))


def test_zipf_frequencies_fit_rank_by_rank():
    table = bind_workloads([zipf(1.0)], 50)
    multiplier = int(table.phases["multiplier"][0])
    observed = np.bincount(materialize(start_source(table, 0, 5), DRAWS), minlength=50)
    by_rank = observed[np.arange(50) * multiplier % 50]
    expected = 1 / np.arange(1, 51)
    assert stats.chisquare(by_rank, expected * DRAWS / expected.sum()).pvalue > 1e-4


@pytest.mark.parametrize(("hot_writes", "hot_blocks"), [(0.9, 0.1), (0.8, 0.2), (0.5, 0.02)])
def test_hot_blocks_get_their_share_of_the_writes(hot_writes, hot_blocks):
    observed = np.sort(counts(hot_cold(hot_writes, hot_blocks)))[::-1]
    hot = round(hot_blocks * BLOCKS)
    assert observed[:hot].sum() / DRAWS == pytest.approx(hot_writes, abs=0.01)
    assert stats.chisquare(observed[:hot]).pvalue > 1e-4
    assert stats.chisquare(observed[hot:]).pvalue > 1e-4


def test_hot_blocks_lie_scattered():
    hot = np.flatnonzero(counts(hot_cold(0.9, 0.1)) > 500)
    assert hot.size == 100
    assert np.histogram(hot, 10, (0, BLOCKS))[0].min() >= 5


def test_sequential_goes_round():
    blocks = drawn(sequential(), 2500)
    assert np.array_equal(blocks, (blocks[0] + np.arange(2500)) % BLOCKS)


def test_a_shift_moves_what_is_hot():
    def phase(shift):
        return Phase(PhaseKind.HOT_COLD, hot_writes=0.9, hot_blocks=0.1, shift=shift)

    workloads = [Workload("at", (phase(0.0),)), Workload("shifted", (phase(0.3),))]
    first, second = (counts(workload) for workload in workloads)
    assert np.array_equal(np.roll(first, 300), second)


def test_phases_follow_each_other_for_their_lengths():
    workload = shifting("two", (Phase(PhaseKind.SEQUENTIAL, 0.5), Phase(PhaseKind.HOT_COLD, 1.5, 0.99, 0.001)))
    blocks = drawn(workload, 8 * BLOCKS)
    is_step = np.diff(blocks) % BLOCKS == 1
    in_sequence = np.convolve(is_step, np.ones(50), "same") > 25
    assert in_sequence.mean() == pytest.approx(0.25, abs=0.03)


def test_a_trace_is_looped_with_its_times():
    addresses, times_us = np.array([3, 1, 3, 2]), np.array([0, 10, 40, 100])
    trace = BlockTrace("t", times_us, np.ones(4, np.bool_), addresses, np.ones(4, np.int32))
    table = bind_workloads([Workload("t", (Phase(PhaseKind.TRACE),), trace=trace)], BLOCKS)
    source = start_source(table, 0, 1)
    written, times = [], []
    for _ in range(9):
        written.append(int(materialize(source, 1)[0]))
        times.append(int(source["arrival_ns"][0]))
    cycle = [int(block) for block in table.trace_blocks]
    start = next(i for i in range(4) if [cycle[(i + k) % 4] for k in range(9)] == written)
    stamps = [0, 10_000, 40_000, 100_000]
    expected = [stamps[(start + k) % 4] + (start + k) // 4 * 100_000 - stamps[start] for k in range(9)]
    assert times == expected


def test_gaps_are_the_distance_to_the_next_write_of_the_same_block():
    assert overwrite_gaps(np.array([5, 7, 5, 5, 9], np.int32)).tolist() == [2, 5, 1, 2, 5]


def test_seeds_decide():
    assert np.array_equal(drawn(uniform(), seed=2), drawn(uniform(), seed=2))
    assert not np.array_equal(drawn(uniform(), seed=2), drawn(uniform(), seed=3))


def test_an_interval_sets_arrival_times():
    table = bind_workloads([with_interval(uniform(), 250), uniform()], BLOCKS)
    source = start_source(table, 0, 1)
    materialize(source, 8)
    assert source["arrival_ns"][0] == 2000
    source = start_source(table, 1, 1)
    materialize(source, 8)
    assert source["arrival_ns"][0] < 0


def test_a_copy_on_write_tree_takes_the_page_that_has_been_free_for_longest():
    trace = copy_on_write(0.25, 0.8, 0.2).trace
    pages = trace.first_block
    assert pages.min() == 0 and pages.max() == 16_383
    order = np.argsort(pages, kind="stable")
    same = pages[order][1:] == pages[order][:-1]
    assert np.diff(order)[same].min() > 4096  # a page waits behind all that were free before it
    assert np.array_equal(pages, copy_on_write(0.25, 0.8, 0.2).trace.first_block)


def test_a_circular_log_goes_round_beside_random_writes():
    addresses = drawn(circular_log(0.4, 0.1))
    in_log = addresses < 100
    assert in_log.mean() == pytest.approx(0.4, abs=0.01)
    assert set(np.diff(addresses[in_log]) % 100) == {1}
    assert stats.chisquare(np.bincount(addresses[~in_log] - 100, minlength=900)).pvalue > 1e-4


def test_bursts_have_the_lengths_rates_and_gaps_that_they_say():
    bursts = Bursts(writes=50, rate=2000, gap_s=10)
    table = bind_workloads([in_bursts(uniform(), bursts)], 1000)
    source = start_source(table, 0, 5)
    arrivals = np.empty(100_000, np.int64)
    for position in range(arrivals.size):
        materialize(source, 1)
        arrivals[position] = source["arrival_ns"][0]
    intervals = np.diff(arrivals) / 1e9
    gaps = intervals[intervals > 1.0]
    assert intervals.min() >= 0
    assert gaps.size == pytest.approx(arrivals.size / 50, rel=0.05)
    assert intervals[intervals <= 1.0].mean() == pytest.approx(1 / 2000, rel=0.02)
    shortest = 10 / 3  # of a Pareto law of exponent 1.5 with mean 10
    assert shortest <= gaps.min() and gaps.max() <= 50 * shortest + 0.1
    assert np.median(gaps) == pytest.approx(shortest * 2 ** (2 / 3), rel=0.05)
    assert np.mean(gaps) == pytest.approx(shortest * (3 - 2 / 50**0.5), rel=0.05)


def test_arrival_times_leave_the_addresses_of_a_trace_alone():
    trace = BlockTrace("t", np.arange(0, 500, 5), np.ones(100, bool), np.arange(100) % 40, np.ones(100, np.int32))
    table = bind_workloads([replay(trace), slowed(replay(trace), 4)], 64)
    plain, slow = (start_source(table, number, 3) for number in (0, 1))
    for _ in range(250):
        assert materialize(plain, 1) == materialize(slow, 1)
        assert slow["arrival_ns"] == 4 * plain["arrival_ns"]


@pytest.mark.parametrize("changes", [{"writes": 0.5}, {"rate": 0}, {"gap_s": -1}])
def test_bursts_out_of_range(changes):
    with pytest.raises(UserError, match="bursts of"):
        Bursts(**{"writes": 10, "rate": 100, "gap_s": 1, **changes})


def test_a_checkpoint_writes_each_updated_page_once_in_the_order_of_addresses():
    trace = checkpoints(0.25, 0.8, 0.2).trace
    log, pages = trace.first_block[::2], trace.first_block[1::2]
    assert np.array_equal(log, np.arange(log.size) % 2048)
    assert pages.min() >= 2048
    ends = np.flatnonzero(np.diff(pages) < 0)  # a checkpoint begins where addresses begin anew
    lengths = np.diff(ends)
    assert (lengths <= 0.25 * 14_336).all() and lengths.std() < 0.03 * lengths.mean()
    assert np.array_equal(trace.first_block, checkpoints(0.25, 0.8, 0.2).trace.first_block)


@pytest.mark.parametrize("given", [{"volumes": float("nan")}, {"volumes": 1e300}, {"shift": float("inf")}])
def test_phases_that_cannot_be_are_refused(given):
    with pytest.raises(UserError, match=r"phase length|shift"):
        Phase(PhaseKind.UNIFORM, **given)


def test_time_does_not_run_backwards():
    # Negative intervals stand for bursts within a source.
    with pytest.raises(UserError, match="interval of -5 ns must not be negative"):
        with_interval(uniform(), -5)
