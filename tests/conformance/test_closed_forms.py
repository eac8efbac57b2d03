"""The simulator agrees with theory, and theory with the published numbers."""

import pytest
from scipy.special import lambertw
from steady_volumes import on_demand, steady_amplification

from kml_envs.lfs import analysis
from kml_envs.lfs.config import CleaningPolicy
from kml_envs.workloads.synthetic import hot_cold, uniform, zipf

SPARE_FACTORS = (0.05, 0.07, 0.10, 0.125, 0.15, 0.20, 0.25, 0.28, 0.30)
WITHIN = 0.01

# Monte-Carlo checked values: FIFO, greedy with 64 and with 512 blocks, the best of 2, 5, 10 and 30 sections.
PUBLISHED = {
    0.05: (10.172, 8.821, 9.981, 13.27, 10.03, 9.284, 8.951),
    0.07: (7.318, 6.600, 7.219, 9.635, 7.405, 6.894, 6.673),
    0.10: (5.179, 4.816, 5.130, 6.852, 5.343, 5.000, 4.857),
    0.125: (4.182, 3.946, 4.151, 5.533, 4.352, 4.085, 3.975),
    0.15: (3.519, 3.353, 3.497, 4.648, 3.681, 3.464, 3.375),
    0.20: (2.693, 2.598, 2.681, 3.533, 2.832, 2.675, 2.613),
    0.25: (2.201, 2.140, 2.193, 2.861, 2.319, 2.198, 2.150),
    0.28: (1.992, 1.943, 1.985, 2.573, 2.098, 1.993, 1.952),
    0.30: (1.876, 1.833, 1.871, 2.413, 1.976, 1.880, 1.842),
}


def agree(case, spare, simulated, expected):
    """Print one line of the table, and hold the simulator to the closed form."""
    print(f"{case}, spare {spare}: {simulated:.3f}, theory {expected:.3f} ({simulated / expected - 1:+.2%})")
    assert simulated == pytest.approx(expected, rel=WITHIN)


@pytest.mark.parametrize("spare", SPARE_FACTORS)
def test_closed_forms_give_the_published_table(spare):
    calculated = (
        analysis.fifo_uniform(spare),
        analysis.greedy_uniform(spare, 64),
        analysis.greedy_uniform(spare, 512),
        *(analysis.choices_uniform(spare, 64, choices) for choices in (2, 5, 10, 30)),
    )
    assert calculated == pytest.approx(PUBLISHED[spare], rel=6e-4)


@pytest.mark.parametrize("x", [-0.3678794, -0.36787, -0.3, -0.05, -1e-9, 0.0, 0.5, 1.0, 3.0, 100.0, 1e10])
def test_lambert_w_is_the_principal_branch(x):
    assert analysis.lambert_w(x) == pytest.approx(lambertw(x).real, abs=2e-7)


def test_one_choice_is_random_and_many_are_greedy():
    assert analysis.choices_uniform(0.1, 64, 1) == pytest.approx(analysis.random_uniform(0.1), rel=1e-6)
    assert analysis.choices_uniform(0.1, 64, 400) == pytest.approx(analysis.greedy_uniform(0.1, 64), rel=3e-3)


def test_popularity_forms_agree_with_uniform_and_with_each_other():
    assert analysis.fifo_zipf(0.1, 1e-9, 10_000) == pytest.approx(analysis.fifo_uniform(0.1), rel=1e-3)
    assert analysis.fifo_hot_cold(0.1, 0.2, 0.2) == pytest.approx(analysis.fifo_uniform(0.1), rel=1e-6)
    published = {(0.8, 0.07): 7.68, (0.8, 0.28): 2.32, (0.9, 0.10): 6.16, (0.9, 0.20): 3.53}
    for (hot_writes, spare), amplification in published.items():
        assert analysis.fifo_hot_cold(spare, hot_writes, 1 - hot_writes) == pytest.approx(amplification, rel=2e-3)


@pytest.mark.parametrize(
    ("hot_writes", "spare", "amplification"),
    [(0.8, 0.07, 4.93), (0.8, 0.10, 3.57), (0.8, 0.28, 1.56), (0.9, 0.10, 2.33), (0.9, 0.15, 1.76), (0.9, 0.28, 1.26)],
)
def test_best_separation_gives_the_published_optimum(hot_writes, spare, amplification):
    best, hot_spare, cold_spare = analysis.best_separation(spare, hot_writes, 1 - hot_writes)
    assert best == pytest.approx(amplification, rel=4e-3)
    for other in (0.97, 1.03):
        hot_alpha = 1 + (1 / (1 - hot_spare) - 1) * other
        cold_alpha = (1 / (1 - spare) - (1 - hot_writes) * hot_alpha) / hot_writes
        assert analysis.separated_pools(1 - 1 / hot_alpha, 1 - 1 / cold_alpha, hot_writes) > best
    assert analysis.separated_pools(spare, spare, hot_writes) == pytest.approx(analysis.fifo_uniform(spare))
    assert cold_spare < spare < hot_spare


@pytest.mark.slow
@pytest.mark.parametrize("spare", SPARE_FACTORS)
def test_fifo_on_uniform_writes(spare):
    config = on_demand(spare, CleaningPolicy.FIFO)
    expected = analysis.fifo_uniform(analysis.effective_spare(config))
    agree("FIFO, uniform", spare, steady_amplification(config, uniform(), 5, 5), expected)


@pytest.mark.slow
@pytest.mark.parametrize("blocks_per_segment", [64, 512])
@pytest.mark.parametrize("spare", SPARE_FACTORS)
def test_greedy_on_uniform_writes(spare, blocks_per_segment):
    config = on_demand(spare, CleaningPolicy.GREEDY, live_sections=1000, blocks_per_segment=blocks_per_segment)
    expected = analysis.greedy_uniform(analysis.effective_spare(config), blocks_per_segment)
    agree(
        f"greedy, uniform, {blocks_per_segment} blocks", spare, steady_amplification(config, uniform(), 6, 4), expected
    )


@pytest.mark.slow
@pytest.mark.parametrize("choices", [2, 5, 10, 30])
@pytest.mark.parametrize("spare", SPARE_FACTORS)
def test_the_best_of_several_drawn_on_uniform_writes(spare, choices):
    config = on_demand(spare, CleaningPolicy.D_CHOICES, choices=choices)
    expected = analysis.choices_uniform(analysis.effective_spare(config), 64, choices)
    agree(f"best of {choices} drawn, uniform", spare, steady_amplification(config, uniform(), 6, 5), expected)


@pytest.mark.slow
@pytest.mark.parametrize("spare", SPARE_FACTORS)
def test_random_victims_on_uniform_writes(spare):
    config = on_demand(spare, CleaningPolicy.RANDOM)
    expected = analysis.random_uniform(analysis.effective_spare(config))
    agree("random, uniform", spare, steady_amplification(config, uniform(), 8, 8), expected)


@pytest.mark.slow
@pytest.mark.parametrize("theta", [0.6, 1.0])
@pytest.mark.parametrize("spare", SPARE_FACTORS)
def test_fifo_on_zipf_writes(spare, theta):
    config = on_demand(spare, CleaningPolicy.FIFO)
    expected = analysis.fifo_zipf(analysis.effective_spare(config), theta, config.geometry.volume_blocks)
    agree(f"FIFO, Zipf {theta}", spare, steady_amplification(config, zipf(theta), 6, 5), expected)


@pytest.mark.slow
@pytest.mark.parametrize("hot_writes", [0.8, 0.9])
@pytest.mark.parametrize("spare", SPARE_FACTORS)
def test_fifo_on_hot_and_cold_blocks(spare, hot_writes):
    config = on_demand(spare, CleaningPolicy.FIFO)
    expected = analysis.fifo_hot_cold(analysis.effective_spare(config), hot_writes, 1 - hot_writes)
    agree(
        f"FIFO, hot/cold {hot_writes}",
        spare,
        steady_amplification(config, hot_cold(hot_writes, 1 - hot_writes), 6, 5),
        expected,
    )


@pytest.mark.slow
@pytest.mark.parametrize("hot_writes", [0.8, 0.9])
@pytest.mark.parametrize("spare", SPARE_FACTORS)
def test_separate_pools_for_hot_and_cold_blocks(spare, hot_writes):
    _, *spares = analysis.best_separation(spare, hot_writes, 1 - hot_writes)
    pools = [on_demand(pool_spare, CleaningPolicy.FIFO) for pool_spare in spares]
    hot, cold = (steady_amplification(pool, uniform(), 5, 5) for pool in pools)
    expected = analysis.separated_pools(*(analysis.effective_spare(pool) for pool in pools), hot_writes)
    agree(f"FIFO, two pools, hot/cold {hot_writes}", spare, hot_writes * hot + (1 - hot_writes) * cold, expected)
