"""The monitor against runs of a real kernel (6.12): the same shapes, in time counted by aggregations.

Recorded under emulation, where an aggregation takes longer than asked for; see the README beside the data.
"""

from pathlib import Path

import numpy as np
import pytest

from kml_envs.damon.config import (
    AccessPattern,
    Action,
    Context,
    Operations,
    Quota,
    Scheme,
    WatermarkMetric,
    Watermarks,
)
from kml_envs.damon.control import WHOLE_PICTURE
from kml_envs.damon.memory_config import NVME, MemoryConfig
from kml_envs.damon.memory_state import allocate_memories
from kml_envs.damon.simulator import Sampling, SimulatedDamon
from kml_envs.damon.state import set_memory
from kml_envs.damon.versions import KernelVersion
from kml_envs.workloads.access import PAGE_BYTES, AccessTable

RECORDED = np.load(Path(__file__).parents[1] / "data" / "damon_runs.npz")
PAGES = 51_200
HOT_PAGES = 5_120
AGGREGATION_US = 100_000
SAMPLE_S = 0.005
SETTLED = 20
"""Aggregations that the first regions take to form."""
QUOTA_BYTES = 8 << 20
BACK_ENDS = pytest.mark.parametrize("per_sample", [False, True], ids=["aggregated", "per sample"])


class Run:
    """Snapshots as (time in aggregations since the start, end pages, accesses)."""

    def __init__(self, times, snapshots):
        self.times, self.snapshots = np.asarray(times), snapshots

    def region_counts(self):
        return np.array([len(ends) for ends, _ in self.snapshots[SETTLED:]])

    def histogram(self):
        accesses = np.concatenate([accesses for _, accesses in self.snapshots[SETTLED:]])
        return np.bincount(accesses, minlength=21) / accesses.size

    def by_page(self, snapshot):
        ends, accesses = self.snapshots[snapshot]
        return np.repeat(accesses, np.diff(ends, prepend=0))


def recorded(run):
    counts = RECORDED[f"{run}_regions"].astype(int)
    ends, accesses = RECORDED[f"{run}_end_page"].astype(int), RECORDED[f"{run}_nr_accesses"].astype(int)
    last = np.cumsum(counts)
    snapshots = [
        (ends[end - count : end], accesses[end - count : end]) for count, end in zip(counts, last, strict=True)
    ]
    return Run(RECORDED[f"{run}_time_s"], snapshots)


def simulated(table, aggregations, *schemes, per_sample=False, seed=1):
    damon = SimulatedDamon(table, seed, KernelVersion.V6_17, Sampling(per_sample))
    damon.turn_on(Context(operations=Operations.FVADDR, schemes=(WHOLE_PICTURE, *schemes)))
    snapshots = []
    for _ in range(aggregations):
        damon.run(AGGREGATION_US)
        picture = damon.snapshot(0)
        snapshots.append((picture.end // PAGE_BYTES, picture.nr_accesses))
    return Run(np.arange(aggregations) + 1.0, snapshots), damon


def phases(spans, length_us, probability, sweep_us=0.0):
    """Phases of one hot range of pages each, in which a page is touched in a sample with a probability."""
    count = len(spans)
    first, last = (np.array(column) * PAGE_BYTES for column in zip(*spans, strict=True))
    return AccessTable(
        phase_end_us=(np.arange(count) + 1) * length_us,
        first_range=np.arange(count + 1),
        start=first,
        end=last,
        rate=np.full(count, -np.log1p(-probability) / SAMPLE_S),
        sweep_us=np.full(count, sweep_us),
        size=PAGES * PAGE_BYTES,
    )


def hot_set_scores(run, first_page, snapshot):
    """Precision and recall of the pages found accessed."""
    found = run.by_page(snapshot) > 0
    hits = found[first_page : first_page + HOT_PAGES].sum()
    return hits / max(found.sum(), 1), hits / HOT_PAGES


def stair_scores(run, moves):
    """Lag of every move in snapshots, and mean precision and recall once the last move was 8 snapshots ago."""
    lags, settled = [], []
    for start, end, first_page in moves:
        inside = np.flatnonzero((run.times >= start) & (run.times <= end))
        scores = [hot_set_scores(run, first_page, snapshot) for snapshot in inside]
        found = [lag for lag, (precision, recall) in enumerate(scores) if min(precision, recall) > 0.9]
        lags.append(found[0] if found else len(scores))
        settled += scores[8:]
    return np.array(lags), np.mean(settled, axis=0)


def stairs(length_us, probability, running_share):
    """A hot range that moves on after a time, of a program that has the processor only in turns of 5 to 100 ms.

    Without the turns the regions of the hot range would differ by chance, and be many; they are all touched in each
    sample or none is.
    """
    turns, spans, ends = np.random.default_rng(5), [], []
    for step in range(11):
        end = step * length_us
        while end < (step + 1) * length_us:
            turn = turns.uniform(5_000, 100_000)
            for part, pages in ((running_share, HOT_PAGES), (1 - running_share, 0)):
                end += round(turn * part)
                spans.append((step % 10 * HOT_PAGES, step % 10 * HOT_PAGES + pages))
                ends.append(end)
        ends[-1] = (step + 1) * length_us
        if len(ends) > 1 and ends[-1] <= ends[-2]:
            ends[-2] = ends[-1] - 1
    first, last = (np.array(column) * PAGE_BYTES for column in zip(*spans, strict=True))
    kept = last > first
    return AccessTable(
        phase_end_us=np.array(ends),
        first_range=np.concatenate([[0], np.cumsum(kept)]),
        start=first[kept],
        end=last[kept],
        rate=np.full(kept.sum(), -np.log1p(-probability) / SAMPLE_S),
        sweep_us=np.zeros(kept.sum()),
        size=PAGES * PAGE_BYTES,
    )


@BACK_ENDS
def test_moving_hot_set(per_sample):
    real = recorded("stair_tick")
    truth = RECORDED["stair_tick_truth"]
    real_moves = [(start, end, int(page)) for start, end, page, *_ in truth[1:]]
    length = float(np.diff(truth[:, 0]).mean() / np.diff(real.times).mean())
    touches_per_sample = float(np.median(truth[:, 4])) / (20 * length)
    table = stairs(round(length * AGGREGATION_US), -np.expm1(-touches_per_sample), RECORDED["stair_tick_cpu_share"])
    ours, _ = simulated(table, int(11 * length), per_sample=per_sample)
    our_moves = [(step * length, (step + 1) * length, step % 10 * HOT_PAGES) for step in range(1, 11)]
    (real_lags, real_settled), (our_lags, our_settled) = stair_scores(real, real_moves), stair_scores(ours, our_moves)
    print(f"regions: {real.region_counts().mean():.1f} recorded, {ours.region_counts().mean():.1f} simulated")
    print(f"precision, recall: {real_settled.round(3)} recorded, {our_settled.round(3)} simulated")
    print(f"lag in aggregations: {real_lags.mean():.1f} recorded, {our_lags.mean():.1f} simulated")
    assert ours.region_counts().mean() == pytest.approx(real.region_counts().mean(), rel=0.15)
    assert our_settled == pytest.approx(real_settled, abs=0.03)
    assert our_lags.mean() == pytest.approx(real_lags.mean(), abs=1.0)
    assert our_lags.max() <= real_lags.max() + 1


@BACK_ENDS
def test_skewed_accesses(per_sample):
    """Zipf over 51,200 pages: many regions, for few accesses are seen and only equal neighbours are joined.

    How often a page is seen touched depends on the emulator's TLB; it is taken from the recording, by blocks of 25.
    """
    real = recorded("zipf")
    seen = np.mean([real.by_page(snapshot) for snapshot in range(10, len(real.snapshots))], axis=0)
    probability = np.minimum(seen.reshape(-1, 25).mean(axis=1) / 20, 0.999)
    edges = np.arange(0, PAGES + 1, 25) * PAGE_BYTES
    table = AccessTable(
        phase_end_us=np.array([10**12]),
        first_range=np.array([0, probability.size]),
        start=edges[:-1],
        end=edges[1:],
        rate=-np.log1p(-probability) / SAMPLE_S,
        sweep_us=np.zeros(probability.size),
        size=PAGES * PAGE_BYTES,
    )
    ours, _ = simulated(table, len(real.snapshots), per_sample=per_sample)
    distance = np.abs(real.histogram() - ours.histogram()).sum() / 2
    print(f"regions: {real.region_counts().mean():.0f} recorded, {ours.region_counts().mean():.0f} simulated")
    print(f"total variation distance of the accesses of regions: {distance:.3f}")
    assert ours.region_counts().mean() == pytest.approx(real.region_counts().mean(), rel=0.15)
    assert distance < 0.08


@BACK_ENDS
def test_sequential_sweep(per_sample):
    real = recorded("seq")
    turns = float(np.diff(RECORDED["seq_truth"][:, 0]).mean() / np.diff(real.times).mean())
    table = phases([(0, PAGES)], 10**12, 0.5, sweep_us=turns * AGGREGATION_US)
    ours, _ = simulated(table, len(real.snapshots), per_sample=per_sample)
    print(f"regions: {real.region_counts().mean():.1f} recorded, {ours.region_counts().mean():.1f} simulated")
    print(f"regions without access: {real.histogram()[0]:.3f} recorded, {ours.histogram()[0]:.3f} simulated")
    assert ours.region_counts().mean() == pytest.approx(real.region_counts().mean(), rel=0.15)
    assert ours.histogram()[0] == pytest.approx(real.histogram()[0], abs=0.03)


def bytes_of_windows(applied, window_s):
    """Bytes of each window; one begins with the first application a whole window after the last one began.

    Only the first is not known: it began before anything was old enough.
    """
    windows, start = [], -np.inf
    for time, size in applied:
        if time - start >= window_s:
            windows.append(0)
            start = time
        windows[-1] += size
    return np.array(windows)


class Usage:
    """What was noted about a recorded run every other second, and the machine that it ran on."""

    def __init__(self, run):
        self.time_s, self.ticks, self.resident_kib, self.free_kib, self.applied = RECORDED[f"{run}_usage"].T

    def stop(self):
        """Index of the first note after the scheme was applied for the last time."""
        return int(np.flatnonzero(self.applied < self.applied[-1])[-1]) + 1

    def memory_bytes(self, high_permil):
        """Memory that a program without others beside it needs to pass a high watermark where the recorded one did.

        The size of the machine was not recorded; it follows from the free memory around the stop. There the program has
        its memory less what has become free since the beginning, and all the rest is free.
        """
        gained = self.free_kib[self.stop() - 1 : self.stop() + 1].mean() - self.free_kib[0]
        return int((PAGES * PAGE_BYTES - gained * 1024) / (1000 - high_permil - 1) * 1000)


def pageout(**values):
    quota = Quota(bytes=QUOTA_BYTES, reset_interval_ms=1000)
    pattern = AccessPattern(min_sz=PAGE_BYTES, max_nr_accesses=0, min_age=20)
    return Scheme(Action.PAGEOUT, pattern, quotas=quota, **values)


def paging_out(scheme, memory_bytes=0):
    """A hot tenth of the memory, and a scheme that pages out what is idle, alone."""
    table = phases([(0, HOT_PAGES)], 10**12, 0.9)
    memories = allocate_memories(MemoryConfig(swap=NVME), [table], [True], [memory_bytes])
    damon = SimulatedDamon(table, 1, KernelVersion.V6_17)
    damon.turn_on(Context(operations=Operations.FVADDR, schemes=(scheme,)))
    set_memory(damon.state, 0, memories, 0)
    return damon, memories.records[0]


def windows_of(damon, aggregations):
    """Bytes charged in each quota window of the next aggregations, those without any left out."""
    windows = {}
    for _ in range(aggregations):
        damon.run(AGGREGATION_US)
        scheme = damon.state.schemes[0, 0]
        windows[int(scheme["window_start_us"])] = int(scheme["charged_bytes"])
    return np.array([charged for charged in windows.values() if charged > 0])


def test_bytes_of_quota_windows():
    """Cold memory is paged out at exactly the quota's bytes in each window, and again when all of it is gone already.

    Advice for addresses that are swapped out succeeds too, and so it counts.
    """
    events, usage = RECORDED["pageout_applied"], Usage("pageout")
    real = bytes_of_windows([(time, (end - start) * PAGE_BYTES) for time, start, end in events], 1.0)[1:]
    damon, memory = paging_out(pageout())
    ours = windows_of(damon, 20 + 10 * real.size)
    full = {"recorded": (real == QUOTA_BYTES).mean(), "simulated": (ours == QUOTA_BYTES).mean()}
    cold = (PAGES - HOT_PAGES) * PAGE_BYTES
    total = {"recorded": usage.applied[-1] / cold, "simulated": damon.statistics(0).sz_applied / cold}
    print(f"share of windows with exactly {QUOTA_BYTES} bytes: {full}; applied, of the cold memory: {total}")
    assert ours.max() == np.median(real) == QUOTA_BYTES
    assert full["simulated"] == pytest.approx(full["recorded"], abs=0.15)
    assert total["simulated"] == pytest.approx(total["recorded"], rel=0.1)
    assert memory["paged_out"] * PAGE_BYTES <= 1.1 * cold


def test_watermarks_stop_the_scheme_and_the_sampling():
    """Above the high watermark a scheme stops, and kdamond with it, since there is no other one."""
    marks = Watermarks(WatermarkMetric.FREE_MEM_RATE, interval_us=1_000_000, high=900, mid=800, low=50)
    usage, aggregated = Usage("pageoutwm"), RECORDED["pageoutwm_time_s"]
    stop = usage.stop()
    assert usage.time_s[-1] - aggregated[-1] > 20.0
    assert np.ptp(usage.ticks[stop:-2]) == 0
    events = RECORDED["pageoutwm_applied"]
    real = bytes_of_windows([(time, (end - start) * PAGE_BYTES) for time, start, end in events], 1.0)

    damon, _ = paging_out(pageout(watermarks=marks), usage.memory_bytes(marks.high))
    ours = windows_of(damon, 300)
    applied, samples = damon.statistics(0).sz_applied, int(damon.state.monitors["samples"][0])
    print(f"applied until the stop: {usage.applied[-1] / 2**20:.0f} MiB recorded, {applied / 2**20:.0f} MiB simulated")
    assert damon.state.schemes["active"][0, 0] == 0
    # What is being written out takes memory for a while yet, so that the real scheme went on for two windows more.
    assert real.sum() == usage.applied[-1]
    assert applied == pytest.approx(usage.applied[-1], rel=0.2)
    assert abs(ours.size - real.size) <= 3
    assert (ours[:-1] == QUOTA_BYTES).all()

    damon.run(20_000_000)
    assert damon.state.monitors["samples"][0] == samples < 300 * 20
    assert damon.state.monitors["slept_us"][0] >= 20_000_000
    assert damon.statistics(0).sz_applied == applied
