"""The policy of `kml/LfsPacing-v0` in parts: it begins at its rule, and the search finds rules that cost less."""

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO

from agents.algorithms import ALGORITHMS
from agents.pace_search import START, choose, mean_log_cost
from agents.pacing_policy import (
    BUILTIN_SCORE,
    RULE_NUMBERS,
    MaskablePacingActorCriticPolicy,
    PacingActorCriticPolicy,
    rule_parts,
    rule_vector,
    scores_of_choices,
)
from agents.vector_env import make_native_vec_env
from kml_envs.errors import UserError
from kml_envs.lfs.pace import CANDIDATES, CHOICES, CONTEXT, FEATURE_NAMES, FIRST, QUOTAS, TIME, WAIT

PACING = "kml/LfsPacing-v0"
FULL, QUARTER, SIXTEENTH = range(len(QUOTAS))


def observation(**features):
    """One row (1, 75) in which all candidates are there and have nothing valid, but for these features."""
    row = torch.zeros(1, len(FEATURE_NAMES))
    row[0, CONTEXT + TIME :: 8] = 1.0
    for name, value in features.items():
        row[0, FEATURE_NAMES.index(name)] = value
    return row


def above_reserve(sections):
    """The feature `free_sections`."""
    return float(np.log2(1 + sections) / 6)


def chosen(row, **rule):
    """(what, candidate, quota) that a rule chooses: (WAIT, None, None), or (FIRST, candidate, quota)."""
    scores = scores_of_choices(row, torch.full((1,), BUILTIN_SCORE), *rule_parts(row, rule_vector(rule)))
    choice = int(scores.argmax())
    return (choice, None, None) if choice < FIRST else (FIRST, *divmod(choice - FIRST, len(QUOTAS)))


def test_a_rule_cleans_below_its_level_and_waits_above_it():
    rule = {"background_bias": above_reserve(8), "background_free_sections": -1.0}
    assert chosen(observation(free_sections=above_reserve(9)), **rule)[0] == WAIT
    few = {name: 0.5 for name in FEATURE_NAMES if name.endswith("_valid_share") and not name.startswith("recent")}
    row = observation(free_sections=above_reserve(2), **{**few, "cost_benefit_valid_share": 0.1})
    assert chosen(row, **rule, victim_valid_share=-1.0) == (FIRST, 1, FULL)
    row[0, FEATURE_NAMES.index("foreground")] = 1.0
    assert chosen(row, **rule)[0] in (WAIT, FIRST)  # of equal scores
    writer = {"foreground_bias": 0.2, "victim_valid_share": -1.0}
    assert chosen(row, **writer) == (FIRST, 1, SIXTEENTH)
    assert chosen(row, **writer, foreground_quarter=1.0) == (FIRST, 1, QUARTER)


def test_what_is_chosen_does_not_depend_on_how_many_candidates_could_be():
    row = observation(free_sections=above_reserve(1))
    numbers = rule_vector({"background_bias": 0.1, "victim_valid_share": -1.0})
    whole = scores_of_choices(row, torch.zeros(1), *rule_parts(row, numbers)).softmax(dim=1)
    row[0, CONTEXT + TIME + 8 :: 8] = 0.0  # one that has been cleaned in part
    part = scores_of_choices(row, torch.zeros(1), *rule_parts(row, numbers))
    assert (part[0, FIRST + len(QUOTAS) :] < -1e7).all()
    torch.testing.assert_close(part.softmax(dim=1)[0, :FIRST], whole[0, :FIRST])
    row[0, CONTEXT + TIME :: 8] = 0.0  # the end of an episode
    assert torch.isfinite(scores_of_choices(row, torch.zeros(1), *rule_parts(row, numbers))).all()


def test_one_rule_for_each_row_is_the_same_as_each_alone():
    rows = torch.rand(5, len(FEATURE_NAMES), generator=torch.Generator().manual_seed(0))
    rules = torch.randn(5, len(RULE_NUMBERS), generator=torch.Generator().manual_seed(1))
    together = rule_parts(rows, rules)
    for place in range(5):
        for part, alone in zip(together, rule_parts(rows[place : place + 1], rules[place]), strict=True):
            torch.testing.assert_close(part[place], alone[0])


@pytest.mark.parametrize(
    ("kind", "policy"), ((PPO, PacingActorCriticPolicy), (MaskablePPO, MaskablePacingActorCriticPolicy))
)
def test_models_begin_at_the_rule_learn_save_and_load(kind, policy, tmp_path, small, one_thread):
    env = make_native_vec_env(PACING, 2, {**small, "workloads": "uniform"})
    rollout = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
    model = kind(policy, env, seed=0, policy_kwargs={"initial_rule": START}, device="cpu", **rollout)
    held = {id(one) for group in model.policy.optimizer.param_groups for one in group["params"]}
    assert held == {id(one) for one in model.policy.parameters()}
    seen = env.reset()
    rules = np.tile(rule_vector(START).numpy(), (len(seen), 1))
    assert np.array_equal(model.predict(seen, deterministic=True)[0], choose(seen, rules))
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(128)
    assert any(not torch.equal(one, other) for one, other in zip(before, model.policy.parameters(), strict=True))
    model.save(tmp_path / "model.zip")
    loaded = kind.load(tmp_path / "model.zip", device="cpu")
    assert np.array_equal(model.predict(seen, deterministic=True)[0], loaded.predict(seen, deterministic=True)[0])
    env.close()


def test_unknown_numbers_algorithms_and_spaces_are_refused(small):
    with pytest.raises(UserError, match="Did you mean 'victim_valid_share'"):
        rule_vector({"victim_valid_shares": 1.0})
    with pytest.raises(UserError, match="one of ppo, ppo_mask, a2c"):
        ALGORITHMS["dqn"].policy("PacingPolicy")
    env = make_native_vec_env("kml/LfsVictim-v0", 2, small)
    with pytest.raises(UserError, match="MlpPolicy"):
        PPO(PacingActorCriticPolicy, env, n_steps=8, batch_size=16, device="cpu")
    env.close()


def test_the_search_plays_every_rule_on_every_workload(monkeypatch, small):
    monkeypatch.setattr("agents.pace_search.EPISODE_VOLUMES", 0.5)
    # Rules that never clean wait for the built-in algorithm at the reserve, whole sections at a time.
    workloads = ("uniform@bursts-50-2000-20", "zipf-0.9@bursts-50-2000-20")
    cost = mean_log_cost(workloads, 2)
    never = {**START, "background_bias": -1.0, "foreground_bias": -1.0}
    rules = np.stack([rule_vector(START).numpy(), rule_vector(never).numpy()]).astype(np.float64)
    first = cost(rules)
    assert first.shape == (2,) and first[0] < first[1]
    assert np.array_equal(cost(rules), first)
    assert (mean_log_cost(workloads, 2, 0.0)(rules) < first).all(), "moved blocks have a price"
    assert CHOICES == FIRST + CANDIDATES * len(QUOTAS)
