"""Rewards against their average for the same progress, so that it does not matter how many decisions there are."""

import numpy as np
import pytest

from agents.average_reward import MEMORY, AverageReward
from agents.vector_env import make_native_vec_env
from kml_envs.lfs.pace import FEATURE_NAMES, FIRST, WAIT

SMALL = {"segments": 64, "blocks_per_segment": 16, "utilisation": 0.6, "warm_volumes": 1.0, "efficiency": "none"}
PACING = "kml/LfsPacing-v0"


def play(steps, quota):
    """Rewards as they are and against their average (T, 2), and the progress of each step (T, 2)."""
    native = make_native_vec_env(PACING, 2, {**SMALL, "workloads": "uniform@bursts-50-2000-20"})
    wrapped = AverageReward(native)
    native.seed(3)
    seen = wrapped.reset()
    raw, changed, progress = [], [], [native.proxies[0].subsystem.progress().copy()]
    step = native.step_wait

    def noted():
        result = step()
        raw.append(result[1].copy())
        return result

    native.step_wait = noted
    for _ in range(steps):
        wrapped.step_async(np.where(seen[:, FEATURE_NAMES.index("foreground")] > 0.5, FIRST + quota, WAIT))
        seen, rewards, dones, _ = wrapped.step_wait()
        assert not dones.any()
        changed.append(rewards)
        progress.append(native.proxies[0].subsystem.progress().copy())
    wrapped.close()
    return np.array(raw), np.array(changed), np.diff(np.array(progress), axis=0)


@pytest.mark.parametrize("quota", (0, 2))
def test_rewards_are_measured_against_what_progress_cost_lately(quota):
    raw, changed, passed = play(300, quota)
    assert (changed[passed == 0] == raw[passed == 0].astype(np.float32)).all()
    rewards, progress = np.zeros(2), np.zeros(2)
    memory = MEMORY * 5 * int(64 * 16 * 0.6)
    for before, after, step in zip(raw, changed, passed, strict=True):
        kept = np.exp(-step / memory)
        rewards, progress = kept * rewards + before, kept * progress + step
        others = rewards.sum() / progress.sum() if progress.any() else 0.0
        average = (rewards + memory / 16 * others) / (progress + memory / 16)
        assert after == pytest.approx(before - average * step, rel=1e-4, abs=1e-4)
    late = slice(100, None)
    assert abs(changed[late].sum()) < 0.5 * abs(raw[late].sum())


def test_a_new_episode_begins_with_the_average_of_all():
    native = make_native_vec_env(PACING, 2, {**SMALL, "workloads": "uniform", "episode_volumes": 0.2})
    wrapped = AverageReward(native)
    wrapped.reset()
    ended = 0
    for _ in range(400):
        wrapped.step_async(np.full(2, WAIT))
        _, rewards, dones, infos = wrapped.step_wait()
        assert np.isfinite(rewards).all()
        ended += dones.sum()
        assert all(("episode" in info) == done for info, done in zip(infos, dones, strict=True))
    assert ended > 2
    wrapped.close()
