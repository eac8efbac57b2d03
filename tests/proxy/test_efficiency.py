"""What the proxy says that the agent saved."""

import numpy as np
import pytest

from kml_envs.proxy import MLModelProxy, ProxyOptions, Subsystem, batch
from kml_envs.proxy.efficiency import estimate_saved


def run_alone(factory, seed, until):
    """Cost of the built-in algorithm alone, run by hand."""
    member: Subsystem = factory()
    member.reset(seed)
    while member.progress() < until:
        if member.pending():
            member.execute(member.builtin_decision())
        member.run(until)
    return member.cost()


@pytest.mark.parametrize("options", [{}, {"mode": "learning"}, {"mode": "collaboration"}, {"probes": True}])
def test_rewards_sum_to_the_cost_saved_exactly(tutorial_module, options):
    factory, instances = tutorial_module.Readahead, 6
    proxy = MLModelProxy(batch(factory, instances))
    proxy.initialize(ProxyOptions(episode_progress=1500, window=150, **options))
    proxy.start()
    seeds = np.arange(100, 100 + instances, dtype=np.uint64)
    proxy.reset(np.ones(instances, dtype=bool), seeds)
    random = np.random.default_rng(0)
    total = np.zeros(instances)
    while True:
        proxy.observe()
        feedback = proxy.decide(random.integers(0, 7, instances))  # 6 is out of range
        total += feedback.reward * factory.reward_scale
        if feedback.finished.all():
            break
    builtin = np.array([run_alone(factory, int(seed), 1500) for seed in seeds])
    np.testing.assert_allclose(total, builtin - proxy.subsystem.cost(), rtol=0, atol=1e-9)
    table = proxy.table()
    np.testing.assert_allclose(total, table["saved_by_agent"] + table["saved_by_builtin"], rtol=0, atol=1e-9)
    assert (total != 0).any()


def test_acting_like_the_builtin_algorithm_saves_nothing_at_any_step(tutorial_module):
    proxy = MLModelProxy(batch(tutorial_module.Readahead, 4))
    proxy.initialize(ProxyOptions(episode_progress=1500))
    proxy.start()
    proxy.reset(np.ones(4, dtype=bool), np.arange(4, dtype=np.uint64))
    while not proxy.finished.all():
        proxy.observe()
        assert not proxy.decide(proxy.subsystem.builtin_decision()).reward.any()


def test_without_an_estimate_the_reward_is_minus_the_cost(start_proxy):
    proxy, (member,) = start_proxy(efficiency="none")
    total = 0.0
    while not proxy.finished.all():
        proxy.observe()
        total += proxy.decide(np.array([3])).reward[0]
    assert total == -member.cost() / member.reward_scale


def test_units_compare_with_the_builtin_algorithms_own_units(start_proxy):
    proxy, _ = start_proxy(mode="collaboration", window=100, episode_progress=2000, efficiency="units")
    assert np.allclose(proxy.efficiency.rate(), 0.2)  # candidate 2 every 10 units of progress
    proxy.observe()
    assert proxy.decide(np.array([1])).reward[0] != 0  # includes the unit before, of unknown rate at its time
    rewards = []
    for _ in range(4):
        proxy.observe()
        rewards.append(proxy.decide(np.array([1])).reward[0])
    assert np.allclose(rewards, 0.25)


def test_the_first_unit_is_the_builtin_algorithms_until_its_rate_is_known(start_proxy):
    proxy, members = start_proxy(20, mode="collaboration", window=100, episode_progress=2000, efficiency="units")
    assert all(decision == 2 for member in members for _, decision in member.decisions)
    assert all(len(member.decisions) >= 9 for member in members)
    assert not np.isnan(proxy.efficiency.rate()).any()
    proxy.reset(np.ones(20, dtype=bool), np.arange(20, dtype=np.uint64))
    assert not np.isnan(proxy.efficiency.rate()).any()
    assert any(not member.decisions for member in members)


def test_an_unknown_rate_saves_nothing():
    saved = estimate_saved(np.array([np.nan, 0.5]), np.array([10, 10]), np.array([3.0, 3.0]))
    assert saved.tolist() == [0.0, 2.0]
