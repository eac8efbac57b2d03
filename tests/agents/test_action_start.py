"""A policy that begins at a given action, and the search that finds one."""

import numpy as np
import pytest

from agents.action_search import cross_entropy, mean_log_cost, mean_score_loss
from agents.algorithms import find_algorithm, make_model
from agents.vector_env import make_native_vec_env
from kml_envs.errors import UserError

MONITOR, TUNE = "kml/DamonMonitor-v0", "kml/LfsTune-v0"
START = [-0.4, 0.3, 0.1, 0.2, -0.2, 0.2, -0.3, 0.1, 0.2, 0.0, 0.1, -0.1]


def make(small, policy_kwargs, algo="ppo"):
    env = make_native_vec_env(TUNE, 2, small)
    arguments = {"policy": "ActionStartPolicy", "n_steps": 8, "policy_kwargs": policy_kwargs}
    return make_model(find_algorithm(algo, env.action_space, TUNE), env, arguments, seed=0, device="cpu")


def test_begins_at_the_action_and_is_learned(small, one_thread, tmp_path):
    model = make(small, {"initial_action": START})
    observations = model.get_env().reset()
    actions, _ = model.predict(observations, deterministic=True)
    assert np.abs(actions - np.array(START)).max() < 0.02
    model.learn(32)
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", device="cpu")
    again, _ = loaded.predict(observations, deterministic=True)
    assert np.array_equal(again, model.predict(observations, deterministic=True)[0])


def test_a_wrong_number_of_numbers_is_told(small):
    with pytest.raises(UserError, match="3 numbers do not fit"):
        make(small, {"initial_action": [0.0, 0.0, 0.0]})


def test_algorithms_without_a_mean_action_refuse():
    with pytest.raises(UserError, match="has no ActionStartPolicy"):
        find_algorithm("sac", make_native_vec_env(TUNE, 1).action_space, TUNE).policy("ActionStartPolicy")


def test_search_finds_the_bottom_of_a_bowl():
    target = np.array([0.5, -0.25])
    told = []
    found = cross_entropy(
        lambda actions: ((actions - target) ** 2).sum(axis=1),
        np.zeros(2),
        0.4,
        40,
        25,
        0,
        lambda _, cost: told.append(cost),
    )
    assert np.abs(found - target).max() < 0.05
    assert told[-1] < told[0]


def test_costs_are_those_of_constant_actions():
    """Equal actions cost the same, each time that they are asked about."""
    cost = mean_log_cost(TUNE, ["zipf-1.1"], 2)
    costs = cost(np.zeros((2, 12)))
    assert costs[0] == costs[1] > 0
    assert np.array_equal(costs, cost(np.zeros((2, 12))))


def test_scores_are_those_of_constant_actions():
    cost = mean_score_loss(MONITOR, ["stairs"], 2)
    often, balanced = cost(np.array([[-1.0, 0.0, 0.0, 1.0], [-0.2, 0.0, 0.5, 1.0]]))
    assert 0.0 < often < balanced  # what moves every few seconds wants short aggregations
