"""How accesses are found: the two back ends agree, and what hides accesses hides them."""

import numpy as np
import pytest
from damon_monitors import PAGE, monitor_of, run, spans_of, touched
from scipy import stats

from kml_envs.damon.binomial import binomial_table, draw_binomial
from kml_envs.damon.config import Context, MonitoringAttributes
from kml_envs.damon.simulator import Sampling, SimulatedDamon
from kml_envs.damon.versions import KernelVersion
from kml_envs.errors import UserError
from kml_envs.workloads.access import AccessTable

SIZE = 256 * PAGE
SAMPLE_US = MonitoringAttributes().sample_us


def counts_of(table, per_sample, spans, aggregations=400, seed=0, samples=20, **options):
    """Accesses of given regions in many aggregations, (aggregations, regions)."""
    state = monitor_of(
        None, table=table, seed=seed, sampling=Sampling(per_sample=per_sample, **options), min_region_bytes=PAGE
    )
    counts = []
    for _ in range(aggregations):
        state.monitors["region_count"] = len(spans)
        for index, (start, end) in enumerate(spans):
            state.regions["start"][0, index], state.regions["end"][0, index] = start, end
            state.regions["nr_accesses"][0, index] = 0
        state.monitors["next_aggregation"] = state.monitors["samples"] + 10**9
        state.monitors["next_update"] = state.monitors["samples"] + 10**9
        run(state, samples * SAMPLE_US)
        counts.append([row[2] for row in spans_of(state, "nr_accesses")])
    return np.array(counts)


@pytest.mark.parametrize("trials", [1, 7, 20, 150])
@pytest.mark.parametrize("probability", [0.0, 0.0003, 0.1, 0.5, 0.93, 1.0])
def test_binomial_draws(trials, probability):
    state = monitor_of(None, seed=3)
    table = binomial_table()
    draws = np.array([draw_binomial(state.monitors[0], table, trials, probability) for _ in range(4000)])
    expected = stats.binom(trials, probability)
    assert draws.min() >= 0
    assert draws.max() <= trials
    assert draws.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() / np.sqrt(draws.size) + 1e-12)
    if 0 < probability < 1 and trials > 1:
        assert draws.var() == pytest.approx(expected.var(), rel=0.15, abs=0.02)


def test_back_ends_agree_in_distribution():
    # Half hot, partly hot, cold; and a region across a border.
    table = touched([(0, 64 * PAGE, 200), (64 * PAGE, 128 * PAGE, 20), (200 * PAGE, 256 * PAGE, 1)], SIZE)
    spans = [(0, 32 * PAGE), (32 * PAGE, 100 * PAGE), (100 * PAGE, 220 * PAGE), (220 * PAGE, 256 * PAGE)]
    aggregated = counts_of(table, False, spans, aggregations=1500, seed=1)
    sampled = counts_of(table, True, spans, aggregations=1500, seed=2)
    for region in range(len(spans)):
        ours, theirs = aggregated[:, region], sampled[:, region]
        values = np.arange(21)
        both = np.array([(ours[:, None] == values).sum(0), (theirs[:, None] == values).sum(0)])
        both = both[:, both.sum(0) >= 10]
        if both.shape[1] > 1:
            assert stats.chi2_contingency(both).pvalue > 0.001


def test_back_ends_agree_on_sweeps():
    # A cursor passes all pages in 50 samples: in each, a fiftieth of a region that it is in.
    table = touched([(0, SIZE, 0)], SIZE, sweep_us=50 * SAMPLE_US)
    spans = [(0, 128 * PAGE), (128 * PAGE, 256 * PAGE)]
    aggregated, sampled = counts_of(table, False, spans, 800), counts_of(table, True, spans, 800)
    for counts in (aggregated, sampled):
        assert counts.sum(1).mean() == pytest.approx(20 * 6 / 128, rel=0.15)


def test_phases_are_cut_at_their_borders():
    # Touched for 10 samples, then silent for 10.
    table = AccessTable(
        phase_end_us=np.array([10 * SAMPLE_US, 20 * SAMPLE_US]),
        first_range=np.array([0, 1, 1]),
        start=np.array([0]),
        end=np.array([SIZE]),
        rate=np.array([1e6]),
        sweep_us=np.zeros(1),
        size=SIZE,
    )
    for per_sample in (False, True):
        assert (counts_of(table, per_sample, [(0, SIZE)], 20) == 10).all()


def test_huge_pages_are_touched_as_a_whole():
    table = touched([(0, PAGE, 1e6)], SIZE)
    spans = [(0, 128 * PAGE), (128 * PAGE, SIZE)]
    small = counts_of(table, True, spans, 50)
    huge = counts_of(table, True, spans, 50, folio_bytes=128 * PAGE)
    assert small[:, 0].mean() < 1
    assert (huge[:, 0] == 20).all()
    assert (huge[:, 1] == 0).all()
    # Two regions in one huge page give one answer.
    shared = counts_of(table, True, spans, 50, folio_bytes=256 * PAGE)
    assert (shared == 20).all()


@pytest.mark.parametrize("per_sample", [False, True])
def test_tlb_hides_what_fits_into_it(per_sample):
    table = touched([(0, SIZE, 1e6)], SIZE)
    seen = {
        entries: counts_of(table, per_sample, [(0, SIZE)], 200, tlb_entries=entries).mean() for entries in (128, 512)
    }
    assert seen[128] == 20
    assert seen[512] == pytest.approx(10, rel=0.1)


def test_huge_pages_need_samples():
    damon = SimulatedDamon(touched([(0, SIZE, 1)], SIZE), sampling=Sampling(folio_bytes=2 << 20))
    with pytest.raises(UserError, match="per_sample"):
        damon.turn_on(Context())


def test_same_seed_same_regions():
    table = touched([(0, 64 * PAGE, 100)], SIZE)
    pictures = []
    for seed in (1, 1, 2):
        state = monitor_of(None, KernelVersion.V6_17, table=table, seed=seed, min_region_bytes=PAGE)
        run(state, 3_000_000)
        pictures.append(spans_of(state, "nr_accesses", "age"))
    assert pictures[0] == pictures[1] != pictures[2]
