"""A policy learns to recommend the actions found for each training workload."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy

from agents import teaching
from agents.action_search import read_actions
from agents.algorithms import find_algorithm, make_model
from agents.hyperparameter_files import constructor_arguments, read_entry, run_settings
from agents.playing import make_environment
from agents.teaching import TEACHERS, find_teachers, learn_from_teachers, mean_action
from agents.vector_env import make_native_vec_env
from kml_envs.errors import UserError
from kml_envs.suites import workload_names

TUNE = "kml/LfsTune-v0"
CALM, SKEWED = "hot-cold-0.55-0.45", "zipf-1.1"


def test_teachers_are_those_of_the_training_workloads():
    teachers = read_actions(TEACHERS / "LfsTune-v0.yml")
    assert set(teachers) == set(workload_names("train"))
    assert all(action.shape == (12,) and np.abs(action).max() <= 1 for action in teachers.values())


def test_the_policy_tells_workloads_apart(monkeypatch, one_thread, small):
    low, high = np.full(12, -0.5), np.full(12, 0.5)
    monkeypatch.setattr(teaching, "read_actions", lambda file: {CALM: low, SKEWED: high})
    monkeypatch.setattr(teaching, "UPDATES", 200)
    entry = run_settings(read_entry("ppo", TUNE))
    env = make_native_vec_env(TUNE, 2, small)
    model = make_model(
        find_algorithm("ppo", env.action_space, TUNE), env, constructor_arguments(entry.model), seed=0, device="cpu"
    )
    arguments = {"warm_volumes": 2.0}
    teachers = find_teachers(model.policy, TUNE)
    assert learn_from_teachers(model.policy, teachers, TUNE, arguments, seed=0, threads=1) < 0.02
    for workload, wanted in ((CALM, low), (SKEWED, high)):
        environment = make_environment(TUNE, arguments, workload, 2)
        observations, _ = environment.reset(seed=7)
        assert np.abs(model.predict(observations, deterministic=True)[0] - wanted).mean() < 0.2


def test_each_thread_gets_the_action_of_its_own_observations(one_thread):
    torch.manual_seed(0)
    box = spaces.Box(-1.0, 1.0, (4,), np.float32)
    act = mean_action(ActorCriticPolicy(box, box, lambda progress: 1e-3))
    observations = np.random.default_rng(0).uniform(-1.0, 1.0, (400, 2, 4)).astype(np.float32)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(act, observations))
    np.testing.assert_array_equal(together, [act(seen) for seen in observations])


@pytest.fixture
def policy(one_thread, small):
    """A fresh policy for `kml/LfsTune-v0`."""
    env = make_native_vec_env(TUNE, 2, small)
    return make_model(find_algorithm("ppo", env.action_space, TUNE), env, {}, seed=0, device="cpu").policy


def test_an_environment_without_teachers_is_told(policy):
    with pytest.raises(UserError, match="no teachers for kml/LfsOther-v0"):
        find_teachers(policy, "kml/LfsOther-v0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zipf-0.9: [0.5, high]", "holds no actions by workload"),
        ("[1, 2]", "holds no actions by workload"),
        ("somewhere: [0.5]", "no action for any workload of the suite 'train'"),
        (f"{SKEWED}: [0.5, 0.5]", f"{SKEWED} has 2 numbers, kml/LfsTune-v0 takes 12"),
    ],
)
def test_a_file_that_teaches_something_else_is_refused(text, message, policy, tmp_path):
    (tmp_path / "teachers.yml").write_text(text)
    with pytest.raises(UserError, match=message):
        find_teachers(policy, TUNE, tmp_path / "teachers.yml")
