"""The adapter of the native vector environments to Stable-Baselines3: its contract, and equality with the original."""

import gymnasium
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from agents.vector_env import NativeVecEnv, make_native_env, make_native_vec_env
from kml_envs.errors import UserError

pytestmark = pytest.mark.gymnasium_interface

IDS = ("kml/LfsTune-v0", "kml/LfsVictim-v0")
ROWS = 3


def random_actions(env, generator):
    space = env.action_space
    if isinstance(space, gymnasium.spaces.Discrete):
        return np.array([generator.choice(np.flatnonzero(mask)) for mask in env.env_method("action_masks")])
    return generator.uniform(-0.2, 0.2, (env.num_envs, *space.shape)).astype(np.float32)


@pytest.fixture(params=IDS)
def env_id(request):
    return request.param


@pytest.fixture
def env(env_id, small):
    made = make_native_vec_env(env_id, ROWS, small)
    yield made
    made.close()


def play(env, steps=None, seed=0):
    """Play until an episode of every row has ended; yields what each step gave."""
    generator = np.random.default_rng(seed)
    env.seed(seed)
    observations = env.reset()
    ended = np.zeros(env.num_envs, bool)
    trail = [(observations, None, None, None)]
    while not ended.all() if steps is None else len(trail) <= steps:
        step = env.step(random_actions(env, generator))
        ended |= step[2]
        trail.append(step)
    return trail


def test_steps_equal_the_native_environment(env_id, env, small):
    trail = play(env)
    native = make_native_env(env_id, ROWS, small)
    generator = np.random.default_rng(0)
    observations, _ = native.reset(seed=0)
    np.testing.assert_array_equal(observations, trail[0][0])
    for observations, rewards, dones, infos in trail[1:]:
        masked = hasattr(native.single_action_space, "n")
        actions = (
            np.array([generator.choice(np.flatnonzero(mask)) for mask in native.unwrapped.action_masks()])
            if masked
            else generator.uniform(-0.2, 0.2, (ROWS, 12)).astype(np.float32)
        )
        expected, expected_rewards, terminated, truncated, native_infos = native.step(actions)
        np.testing.assert_array_equal(observations, expected)
        np.testing.assert_array_equal(rewards, expected_rewards.astype(np.float32))
        np.testing.assert_array_equal(dones, terminated | truncated)
        for row in np.flatnonzero(dones):
            np.testing.assert_array_equal(infos[row]["terminal_observation"], native_infos["final_obs"][row])
    native.close()


def test_types_and_shapes(env):
    observations, rewards, dones, infos = play(env, steps=1)[-1]
    assert observations.shape == (ROWS, *env.observation_space.shape) and observations.dtype == np.float32
    assert rewards.shape == (ROWS,) and rewards.dtype == np.float32 and rewards.flags.writeable
    assert dones.shape == (ROWS,) and dones.dtype == np.bool_
    assert infos == [{}] * ROWS
    assert all(row in env.observation_space for row in observations)


def test_no_step_shares_memory_with_another(env):
    trail = play(env, steps=4)
    for kind in range(3):
        arrays = [step[kind] for step in trail if step[kind] is not None]
        arrays += [info["terminal_observation"] for step in trail for info in step[3] or () if info and not kind]
        for index, array in enumerate(arrays):
            assert not any(np.shares_memory(array, other) for other in arrays[:index])
    if hasattr(env.action_space, "n"):
        assert not np.shares_memory(env.action_masks(), env.action_masks())


def test_end_of_episode_is_reported(env):
    trail = play(env)
    seen = [(index, row) for index, step in enumerate(trail[1:], 1) for row in np.flatnonzero(step[2])]
    index, row = seen[0]
    info = trail[index][3][row]
    assert info["TimeLimit.truncated"] is True
    assert info["terminal_observation"].shape == env.observation_space.shape
    assert not np.array_equal(info["terminal_observation"], trail[index][0][row])
    episode = info["episode"]
    assert episode["l"] == index
    assert episode["r"] == pytest.approx(sum(float(step[1][row]) for step in trail[1 : index + 1]), rel=1e-4, abs=1e-3)
    assert episode["t"] >= 0
    assert {"efficiency", "write_amplification", "workload", "moved_blocks"} <= set(episode)
    assert all(type(value) in (int, float, bool) for value in episode.values())


@pytest.mark.parametrize("threads", (1, 2))
def test_shards_and_threads_change_nothing(env_id, env, small, threads):
    sharded = NativeVecEnv([make_native_env(env_id, 2, small), make_native_env(env_id, 1, small)], threads)
    for one, other in zip(play(env, 5), play(sharded, 5), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        if one[1] is not None:
            np.testing.assert_array_equal(one[1], other[1])
    sharded.close()


def test_masks_exist_for_choices_only(env):
    env.reset()
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        assert env.has_attr("action_masks")
        masks = np.stack(env.env_method("action_masks"))
        assert masks.shape == (ROWS, env.action_space.n) and masks.any(axis=1).all()
        assert len(env.env_method("action_masks", indices=[1])) == 1
    else:
        assert not env.has_attr("action_masks")


def test_attributes(env):
    assert env.get_attr("action_space", 0) == [env.action_space]
    assert env.get_attr("num_envs", [0, 2]) == [ROWS, ROWS]
    env.set_attr("note", 5)
    assert env.get_attr("note") == [5] * ROWS
    with pytest.raises(NotImplementedError):
        env.set_attr("note", 5, indices=0)
    assert env.env_is_wrapped(Monitor) == [True] * ROWS
    assert env.env_is_wrapped(gymnasium.wrappers.TimeLimit, indices=0) == [False]
    assert not env.has_attr("no_such_attribute")


def workloads_of(env):
    return [int(workload) for proxy in env.proxies for workload in proxy.subsystem.metrics()["workload"]]


@pytest.mark.parametrize("threads", (1, 2))
def test_rows_may_have_workloads_of_their_own(env_id, small, threads):
    arguments = {**small, "workloads": ["uniform", "zipf-0.9"]}
    env = make_native_vec_env(env_id, 4, arguments, threads)
    env.seed(7)
    env.set_options([{"workload": name} for name in ("uniform", "zipf-0.9", "zipf-0.9", "uniform")])
    observations = env.reset()
    assert workloads_of(env) == [0, 1, 1, 0]
    single = gymnasium.make(env_id, **arguments)
    np.testing.assert_array_equal(observations[2], single.reset(seed=9, options={"workload": "zipf-0.9"})[0])
    env.set_options({"workload": "zipf-0.9"})
    env.reset()
    assert workloads_of(env) == [1] * 4
    env.set_options([{"mode": "emergency"}, {}, {}, {}])
    with pytest.raises(UserError, match="share their reset options"):
        env.reset()
    env.close()


def test_pictures(small):
    env = make_native_vec_env("kml/LfsTune-v0", 2, {**small, "render_mode": "rgb_array"}, threads=2)
    env.reset()
    images = env.get_images()
    assert len(images) == 2 and images[0].dtype == np.uint8
    assert env.render(mode="rgb_array").ndim == 3
    env.close()


def test_wrappers_of_stable_baselines3_fit(env):
    wrapped = VecMonitor(VecNormalize(env, norm_obs=False))
    assert wrapped.reset().shape == (ROWS, *env.observation_space.shape)
    trail = play(wrapped)
    assert any("episode" in info for step in trail[1:] for info in step[3])


@pytest.mark.parametrize(
    ("env_id", "arguments", "message"),
    (
        ("kml/LfsTuna-v0", {}, "Did you mean 'kml/LfsTune-v0'"),
        ("kml/LfsTune-v0", {"segmants": 64}, "segmants"),
        ("kml/LfsTune-v0", {"mode": "automatic"}, "automatic"),
        ("kml/LfsTune-v0", {"workloads": "no-such-workload"}, "no-such-workload"),
    ),
)
def test_mistakes_are_told(env_id, arguments, message):
    with pytest.raises(UserError, match=message):
        make_native_vec_env(env_id, 2, arguments)


def test_other_autoreset_modes_are_refused(small):
    native = make_native_env("kml/LfsTune-v0", 2, {**small, "autoreset_mode": "next_step"})
    with pytest.raises(UserError, match="same_step"):
        NativeVecEnv([native])
    native.close()
