"""A policy that begins at a given action, and the search that finds one."""

import numpy as np
import pytest

from agents.action_search import cross_entropy, free_numbers, main, mean_log_cost, mean_score_loss, with_zeros
from agents.algorithms import find_algorithm, make_model
from agents.vector_env import make_native_vec_env
from kml_envs.errors import UserError
from kml_envs.lfs.tune import ACTION_NAMES

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


def test_held_numbers_stay_zero_in_a_search_over_the_others():
    free = free_numbers(["quiet", "age_weight"])
    assert [ACTION_NAMES[number] for number in free] == [
        name for name in ACTION_NAMES if name not in ("quiet", "age_weight")
    ]
    target = np.full(len(ACTION_NAMES), 0.5)

    def cost(actions):
        assert actions.shape == (60, len(ACTION_NAMES))
        return ((actions - target) ** 2).sum(axis=1)

    found = cross_entropy(
        lambda numbers: cost(with_zeros(numbers, free)), np.zeros(free.size), 0.4, 60, 30, 0, lambda *_: None
    )
    [action] = with_zeros(found[None], free)
    held = np.array([name in ("quiet", "age_weight") for name in ACTION_NAMES])
    assert (action[held] == 0).all() and np.abs(action[~held] - 0.5).max() < 0.1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--hold", "age_wait"], "Did you mean 'age_weight'"),
        (["--hold", *ACTION_NAMES], "at least one"),
        (["--hold", "quiet", "--each", "x.yml"], "--hold"),
        (["--hold", "quiet", "--env", MONITOR], "--hold"),
    ],
)
def test_mistakes_in_what_is_held_are_told_before_the_search(words, reason, monkeypatch):
    monkeypatch.setattr("sys.argv", ["action_search", *words])
    with pytest.raises(UserError, match=reason):
        main()


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
