"""Faults in every registered environment: the built-in algorithm takes over at once, exactly as if it were alone."""

import numpy as np
import pytest
from lfs_volumes import check
from small_environments import IDS, make_vector

from kml_envs.proxy import Verdict
from kml_envs.proxy.proxy import NEVER

ROWS = 4
STEPS = 100
GARBAGE = (None, "garbage", [], {"action": 1}, b"\x00" * 64, np.nan, [[1, 2]], object(), np.zeros((ROWS + 1, 3)))


def sensible(proxy, env, random):
    """What is in range, and not masked out."""
    mask = proxy.observe().mask
    if mask is not None:
        return (random.random(mask.shape) * mask).argmax(axis=1)
    return random.uniform(env.single_action_space.low, env.single_action_space.high, env.action_space.shape)


def late(proxy, env, random):
    return sensible(proxy, env, random), None, np.ones(ROWS, np.int64)


def hang(proxy, env, random):
    return sensible(proxy, env, random), None, np.full(ROWS, NEVER)


def garbage(proxy, env, random):
    proxy.observe()
    return GARBAGE[random.integers(len(GARBAGE))], None, None


def out_of_range(proxy, env, random):
    wrong = sensible(proxy, env, random)
    if wrong.ndim == 1:
        return random.choice([-1, 1000, 2**40], ROWS), None, None
    wrong[np.arange(ROWS), random.integers(wrong.shape[1], size=ROWS)] = random.choice(
        [np.nan, np.inf, -1.5, 1e30], ROWS
    )
    return wrong, None, None


def stale(proxy, env, random):
    before = proxy.generation.copy()
    return sensible(proxy, env, random), before - random.integers(0, 3), None


def dead(proxy, env, random):
    """No answer, and the data set is never even looked at."""
    return None, None, None


FAULTS = (late, hang, garbage, out_of_range, stale, dead)


def check_volumes(proxy):
    """The maps of a file system agree with each other."""
    if hasattr(proxy.subsystem, "state") and hasattr(proxy.subsystem.state, "owners"):
        for row in range(ROWS):
            check(proxy.subsystem.state, row)


@pytest.mark.slow
@pytest.mark.parametrize("env_id", IDS)
def test_an_agent_that_is_never_right_costs_nothing_and_changes_nothing(env_id):
    """It saves exactly 0 against a shadow under the built-in algorithm alone, at every progress that is come to.

    (Of several operations at the same progress the shadow's are paid once it goes beyond.)
    """
    random = np.random.default_rng(IDS.index(env_id))
    env = make_vector(env_id, ROWS, deadline_us=0.0, episode_volumes=4.0)
    env.reset(seed=1)
    proxy = env.unwrapped.proxy
    begun, saved = proxy.subsystem.progress().copy(), np.zeros(ROWS)
    for _ in range(STEPS):
        progress = proxy.subsystem.progress().copy()
        feedback = proxy.decide(*FAULTS[random.integers(len(FAULTS))](proxy, env, random))
        assert not feedback.acted_by_agent.any() and (feedback.verdict != Verdict.ACCEPTED).all()
        saved += feedback.reward
        assert (proxy.subsystem.progress() >= progress).all()
        np.testing.assert_allclose(saved[proxy.subsystem.progress() > progress], 0.0, atol=1e-9)
        check_volumes(proxy)
        if feedback.finished.any():
            break
    assert proxy.table()["agent_operations"].tolist() == [0] * ROWS
    assert (proxy.subsystem.progress() > begun).all()
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("env_id", IDS)
def test_faults_between_good_answers_end_no_episode(env_id):
    random = np.random.default_rng(100 + IDS.index(env_id))
    env = make_vector(env_id, ROWS, deadline_us=0.0, episode_volumes=4.0)
    env.reset(seed=2)
    proxy = env.unwrapped.proxy
    begun = proxy.subsystem.progress().copy()
    acted = np.zeros(ROWS, np.int64)
    for _ in range(STEPS):
        faulty = random.random() < 0.5
        progress, cost = proxy.subsystem.progress().copy(), proxy.subsystem.cost().copy()
        answer = FAULTS[random.integers(len(FAULTS))] if faulty else lambda *given: (sensible(*given), None, None)
        feedback = proxy.decide(*answer(proxy, env, random))
        assert not (feedback.acted_by_agent & (feedback.verdict != Verdict.ACCEPTED)).any()
        assert not (faulty and feedback.acted_by_agent.any())
        acted += feedback.acted_by_agent
        assert (proxy.subsystem.progress() >= progress).all() and (proxy.subsystem.cost() >= cost).all()
        check_volumes(proxy)
        if feedback.finished.any():
            break
    assert (proxy.subsystem.progress() > begun).all()
    assert acted.sum() > 0 and np.array_equal(proxy.table()["agent_operations"], acted)
    env.close()
