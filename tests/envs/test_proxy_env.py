"""Gymnasium's and Stable-Baselines3's conventions, and a vector environment that equals its single ones."""

import json
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from kml_envs.envs.proxy_env import ProxyEnv, ProxyVectorEnv
from kml_envs.errors import UserError
from kml_envs.proxy import Bounds, Mode, ProxyOptions, Subsystem, Verdict, batch
from kml_envs.proxy.lifecycle import LifeCycleError

pytestmark = pytest.mark.gymnasium_interface

MODES = [
    {},
    {"mode": "learning", "window": 100},
    {"mode": "collaboration", "window": 100, "efficiency": "units"},
    {"probes": True, "window": 100, "efficiency": "none"},
    {"mode": "emergency"},
]


class Throttle(Subsystem):
    """Asks for two numbers every 10 units of progress; the cost is their distance from a hidden point."""

    observation = Bounds(["last x", "last y"], -1, 1)
    recommendation = Bounds(["x", "y"], -1, 1)
    reward_scale = 1.0

    def reset(self, seed):
        self.target = np.random.default_rng(seed).uniform(-1, 1, 2)
        self.last = np.zeros(2)
        self.done, self.paid, self.waiting = 0, 0.0, True

    def features(self):
        return self.last

    def builtin_decision(self):
        return [0.0, 0.5]

    def pending(self):
        return self.waiting

    def execute(self, decision):
        self.last = decision.copy()
        self.paid += float(np.abs(decision - self.target).sum())
        self.waiting = False

    def run(self, until):
        while not self.waiting and self.done < until:
            self.done += 1
            self.waiting = self.done % 10 == 0

    def progress(self):
        return self.done

    def cost(self):
        return self.paid


@pytest.fixture(params=["choice", "numbers"])
def factory(request, tutorial_module):
    return tutorial_module.Readahead if request.param == "choice" else Throttle


def make_env(factory, episode_progress=300, info_decisions=False, **options):
    options = ProxyOptions(episode_progress=episode_progress, **options)
    return ProxyEnv(lambda instances: batch(factory, instances), options, info_decisions=info_decisions)


def make_vector_env(factory, num_envs=3, episode_progress=300, info_decisions=False, autoreset=None, **options):
    return ProxyVectorEnv(
        lambda instances: batch(factory, instances),
        num_envs,
        ProxyOptions(episode_progress=episode_progress, **options),
        autoreset_mode=autoreset or AutoresetMode.SAME_STEP,
        info_decisions=info_decisions,
    )


def check(env):
    from stable_baselines3.common.env_checker import check_env as check_stable_baselines

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)
        check_stable_baselines(env)


# In emergency mode an episode is one step long, which Gymnasium's checker takes for a mistake.
@pytest.mark.parametrize("options", MODES[:-1])
def test_the_checkers_pass_without_a_warning(factory, options):
    check(make_env(factory, **options))


def test_the_checkers_pass_on_the_example_of_the_tutorial(tutorial_module):
    check(gymnasium.make("tutorial/Readahead-v0").unwrapped)


def test_types_of_a_step(factory):
    env = make_env(factory, info_decisions=True)
    observation, info = env.reset(seed=1)
    assert observation.dtype == np.float32 and info == {"mode": Mode.RECOMMENDATION}
    env.action_space.seed(0)
    following, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
    assert not np.shares_memory(observation, following)
    decisions = {key: np.asarray(info.pop(key)).shape for key in ("executed_decision", "builtin_decision")}
    assert set(decisions.values()) == {env.action_space.shape}
    assert json.loads(json.dumps(info)) == {"mode": 3, "verdict": 0, "acted_by_agent": True}


def test_an_episode_is_truncated_by_progress_and_summed_up(factory):
    env = make_env(factory)
    env.reset(seed=1)
    total, truncated = 0.0, False
    while not truncated:
        env.action_space.seed(0)
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert not terminated
        total += reward
    assert env.proxy.subsystem.progress().tolist() == [300]
    assert total * env.proxy.subsystem.reward_scale == pytest.approx(info["efficiency"])
    assert info["operations"] > 0
    _, reward, _, truncated, info = env.step(env.action_space.sample())
    assert (reward, truncated, info["verdict"]) == (0.0, True, Verdict.NOT_ASKED)


@pytest.mark.parametrize("garbage", [None, "now", 10**30, -1, 2.5, [1, [2]], np.zeros((2, 2, 2)), {}, object()])
def test_garbage_is_rejected_and_costs_nothing_against_the_builtin_algorithm(factory, garbage):
    env = make_env(factory)
    env.reset(seed=1)
    _, reward, _, _, info = env.step(garbage)
    assert info["verdict"] != Verdict.ACCEPTED and not info["acted_by_agent"] and reward == 0.0


def test_a_step_before_the_first_reset_is_an_error(factory):
    with pytest.raises(LifeCycleError, match="decide"):
        make_env(factory).step(0)


def test_masks_follow_the_maskable_convention(tutorial_module):
    env, vector = make_env(tutorial_module.Readahead), make_vector_env(tutorial_module.Readahead)
    env.reset(seed=1)
    vector.reset(seed=1)
    assert env.action_masks().tolist() == [True] * 6
    assert vector.action_masks().shape == (3, 6)
    assert not np.shares_memory(vector.action_masks(), vector.action_masks())
    with pytest.raises(UserError, match="only where the agent is asked to choose"):
        make_env(Throttle).action_masks()


def actions_of(env, step):
    """Actions that differ by row and step, some of them rejected."""
    if isinstance(env.action_space, gymnasium.spaces.Box):
        random = np.random.default_rng(step)
        return random.uniform(-1.1, 1.1, env.action_space.shape).astype(np.float32)
    return (np.arange(env.num_envs) * 5 + step * 3) % 7


def assert_row_equals(infos, info, row):
    for key, value in info.items():
        assert infos[f"_{key}"][row], key
        np.testing.assert_array_equal(infos[key][row], value, err_msg=key)


@pytest.mark.parametrize("autoreset", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@pytest.mark.parametrize("options", MODES)
def test_rows_equal_single_environments_step_for_step(factory, options, autoreset):
    common = {"episode_progress": 200, "info_decisions": True} | options
    vector = make_vector_env(factory, autoreset=autoreset, **common)
    singles = [make_env(factory, **common) for _ in range(3)]
    observations, infos = vector.reset(seed=20)
    for row, env in enumerate(singles):
        observation, info = env.reset(seed=20 + row)
        np.testing.assert_array_equal(observations[row], observation)
        assert_row_equals(infos, info, row)
    ended_at = [[] for _ in singles]
    begins = [False] * 3
    for step in range(250):
        actions = actions_of(vector, step)
        observations, rewards, terminations, truncations, infos = vector.step(actions)
        assert observations.dtype == np.float32 and not terminations.any()
        for row, env in enumerate(singles):
            if begins[row]:
                observation, _ = env.reset()
                begins[row] = False
                assert (rewards[row], truncations[row], infos["_verdict"][row]) == (0.0, False, False)
                np.testing.assert_array_equal(observations[row], observation)
                continue
            observation, reward, _, truncated, info = env.step(actions[row])
            assert rewards[row] == reward and truncations[row] == truncated
            if truncated:
                ended_at[row].append(step)
            if truncated and autoreset is AutoresetMode.SAME_STEP:
                assert infos["_final_obs"][row] and infos["_final_info"][row]
                np.testing.assert_array_equal(infos["final_obs"][row], observation)
                assert_row_equals(infos["final_info"], info, row)
                observation, _ = env.reset()
            else:
                begins[row] = truncated
                assert_row_equals(infos, info, row)
            np.testing.assert_array_equal(observations[row], observation)
    assert all(ended_at) and any(len(steps) >= 2 for steps in ended_at)


def test_rows_of_the_example_end_at_different_times(tutorial_module):
    vector = make_vector_env(tutorial_module.Readahead)
    vector.reset(seed=20)
    ends = np.array([vector.step(actions_of(vector, step))[3] for step in range(150)])
    assert (ends.any(axis=1) & ~ends.all(axis=1)).any()


@pytest.mark.parametrize("options", MODES)
def test_the_same_seed_gives_the_same_run(factory, options):
    def run(vector):
        steps = [vector.reset(seed=[3, 1, 4])[0]]
        for step in range(60):
            observations, rewards, _, truncations, _ = vector.step(actions_of(vector, step))
            steps += [observations, rewards, truncations]
        return steps

    vector = make_vector_env(factory, **options)
    first = run(vector)
    for other in (run(vector), run(make_vector_env(factory, **options))):
        for one, two in zip(first, other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_arrays_are_new_at_every_call(factory):
    vector = make_vector_env(factory, info_decisions=True)
    first, _ = vector.reset(seed=0)
    kept = [(first, first.copy())]
    for step in range(40):
        observations, rewards, terminations, truncations, infos = vector.step(actions_of(vector, step))
        new = [observations, rewards, terminations, truncations]
        new += [value for value in infos.values() if isinstance(value, np.ndarray)]
        for array in new:
            assert not any(np.shares_memory(array, old) for old, _ in kept[-40:])
        kept += [(array, array.copy()) for array in new]
    assert all(str(array) == str(copy) for array, copy in kept)


def test_a_seed_resets_the_proxys_maturity_and_a_plain_reset_keeps_it(factory):
    vector = make_vector_env(factory)
    vector.reset(seed=0)
    vector.step(actions_of(vector, 0))
    operations = vector.proxy.table()["agent_operations"]
    vector.reset()
    assert vector.proxy.table()["agent_operations"].tolist() == operations.tolist()
    vector.reset(seed=[None, 5, None])
    assert vector.proxy.table()["agent_operations"].tolist() == [operations[0], 0, operations[2]]


def test_reset_options(factory):
    env, vector = make_env(factory), make_vector_env(factory, autoreset="disabled")
    assert env.reset(seed=0, options={"mode": "emergency"})[1] == {"mode": Mode.EMERGENCY}
    with pytest.raises(UserError, match="unknown reset options"):
        env.reset(options={"mood": "fine"})
    vector.reset(seed=0)
    vector.step(actions_of(vector, 0))
    before = vector.proxy.subsystem.progress()
    vector.reset(seed=0, options={"reset_mask": np.array([False, True, False])})
    assert (vector.proxy.subsystem.progress() == before).tolist() == [True, False, True]
    with pytest.raises(UserError, match="reset_mask must be"):
        vector.reset(options={"reset_mask": [True]})


def test_rows_that_need_a_reset_stand_still_where_autoreset_is_disabled(factory):
    vector = make_vector_env(factory, autoreset=AutoresetMode.DISABLED)
    vector.reset(seed=0)
    for step in range(400):
        _, _, _, truncations, _ = vector.step(actions_of(vector, step))
    assert truncations.all() and vector.proxy.subsystem.progress().tolist() == [300] * 3


class DrawnEnv(ProxyEnv):
    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}  # noqa: RUF012

    def _render_rgb(self, row):
        return np.full((4, 4, 3), row, dtype=np.uint8)

    def _render_ansi(self, row):
        return f"instance {row}"


class DrawnVectorEnv(ProxyVectorEnv):
    metadata = ProxyVectorEnv.metadata | DrawnEnv.metadata
    _render_rgb, _render_ansi = DrawnEnv._render_rgb, DrawnEnv._render_ansi


def test_rendering_is_left_to_the_concrete_environment():
    options = ProxyOptions(episode_progress=100)
    env = DrawnEnv(lambda instances: batch(Throttle, instances), options, render_mode="ansi")
    assert env.render() == "instance 0"
    vector = DrawnVectorEnv(lambda instances: batch(Throttle, instances), 2, options, render_mode="rgb_array")
    assert [frame.max() for frame in vector.render()] == [0, 1]
    assert vector.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    with pytest.raises(UserError, match="unknown render mode 'human'"):
        DrawnEnv(lambda instances: batch(Throttle, instances), options, render_mode="human")


def test_environments_made_by_id(tutorial_module):
    factory = tutorial_module.Readahead
    name = "proxy-env-test/Readahead-v0"
    gymnasium.register(
        name,
        entry_point=lambda **kwargs: make_env(factory, **kwargs),
        vector_entry_point=lambda num_envs, **kwargs: make_vector_env(factory, num_envs, **kwargs),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env, vector = gymnasium.make(name), gymnasium.make_vec(name, num_envs=2)
        first, _ = env.reset(seed=5)
        rows, _ = vector.reset(seed=5)
        np.testing.assert_array_equal(rows[0], first)
        for action in (0, 3, 5):
            first, *_ = env.step(action)
            rows, *_ = vector.step(np.array([action, action]))
            np.testing.assert_array_equal(rows[0], first)
        env.close()
        vector.close()


def test_mistakes_in_the_arguments_are_told():
    with pytest.raises(UserError, match="unknown autoreset mode 'same'"):
        make_vector_env(Throttle, autoreset="same")
    with pytest.raises(UserError, match="at least one instance"):
        make_vector_env(Throttle, num_envs=0)
    vector = make_vector_env(Throttle)
    with pytest.raises(UserError, match="one seed for each of the 3 rows"):
        vector.reset(seed=[1, 2])
