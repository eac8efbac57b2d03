"""Policies that score candidates: independent of order, saved and loaded, and starting where they say."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO

from agents.candidate_policy import (
    CONTEXT,
    PER_CANDIDATE,
    CandidateActorCriticPolicy,
    CandidateDQNPolicy,
    CandidateScorer,
    CandidateValue,
    MaskableCandidateActorCriticPolicy,
    check_layout,
)
from agents.vector_env import make_native_vec_env
from kml_envs.errors import UserError
from kml_envs.lfs.observation import CANDIDATE_FEATURES, CANDIDATES

PRESENT, VALID = CANDIDATE_FEATURES.index("present"), CANDIDATE_FEATURES.index("valid_share")


def observations(rows=5, empty=4):
    """Random observations; the last candidates are empty slots."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.rand(rows, CONTEXT + CANDIDATES * PER_CANDIDATE, generator=generator)
    candidates = flat[:, CONTEXT:].view(rows, CANDIDATES, PER_CANDIDATE)
    candidates[..., PRESENT] = 1.0
    candidates[:, CANDIDATES - empty :] = 0.0
    return flat


def reordered(flat, order):
    """The same observations with their candidates in another order."""
    candidates = flat[:, CONTEXT:].view(len(flat), CANDIDATES, PER_CANDIDATE)[:, order]
    return torch.cat([flat[:, :CONTEXT], candidates.reshape(len(flat), -1)], dim=1)


def test_reordering_the_candidates_reorders_the_scores():
    scorer, value = CandidateScorer(initial_weights={"valid_share": -3.0}), CandidateValue()
    torch.nn.init.normal_(scorer.score.weight)
    flat, order = observations(), torch.randperm(CANDIDATES, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(scorer(reordered(flat, order)), scorer(flat)[:, order])
    torch.testing.assert_close(value(reordered(flat, order)), value(flat))


def test_empty_slots_are_never_chosen_unless_all_are_empty():
    scorer = CandidateScorer()
    assert (scorer(observations())[:, -4:] < -1e7).all()
    assert (scorer(observations(empty=CANDIDATES)) > -1e7).all()


def test_scores_begin_at_the_rule():
    scores = CandidateScorer(initial_weights={"valid_share": -20.0})(observations(empty=0))
    shares = observations(empty=0)[:, CONTEXT:].view(-1, CANDIDATES, PER_CANDIDATE)[..., VALID]
    assert (scores.argmax(dim=1) == shares.argmin(dim=1)).all()


def test_unknown_features_and_other_spaces_are_refused():
    with pytest.raises(UserError, match="valid_share"):
        CandidateScorer(initial_weights={"valid_shares": 1.0})
    with pytest.raises(UserError, match="MlpPolicy"):
        check_layout(spaces.Box(0, 1, (29,)), spaces.Box(-1, 1, (12,)))


@pytest.mark.parametrize(
    ("kind", "policy", "arguments"),
    (
        (PPO, CandidateActorCriticPolicy, {"n_steps": 8, "batch_size": 16, "n_epochs": 1}),
        (MaskablePPO, MaskableCandidateActorCriticPolicy, {"n_steps": 8, "batch_size": 16, "n_epochs": 1}),
        (DQN, CandidateDQNPolicy, {"learning_starts": 8, "batch_size": 8, "buffer_size": 100}),
    ),
)
def test_models_learn_save_and_load(kind, policy, arguments, small, tmp_path, one_thread):
    env = make_native_vec_env("kml/LfsVictim-v0", 2, small)
    policy_kwargs = {"initial_weights": {"valid_share": -20.0}, "hidden": 16}
    model = kind(policy, env, seed=0, policy_kwargs=policy_kwargs, device="cpu", **arguments)
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(64)
    assert any(not torch.equal(one, other) for one, other in zip(before, model.policy.parameters(), strict=True))
    model.save(tmp_path / "model.zip")
    loaded = kind.load(tmp_path / "model.zip", device="cpu")
    seen = env.reset()
    np.testing.assert_array_equal(
        model.predict(seen, deterministic=True)[0], loaded.predict(seen, deterministic=True)[0]
    )
    model.policy.save(tmp_path / "policy.pth")
    env.close()


def test_the_optimizer_holds_every_parameter_and_no_other(small):
    env = make_native_vec_env("kml/LfsVictim-v0", 2, small)
    model = PPO(CandidateActorCriticPolicy, env, n_steps=8, batch_size=16, device="cpu")
    held = {id(one) for group in model.policy.optimizer.param_groups for one in group["params"]}
    assert held == {id(one) for one in model.policy.parameters()}
    env.close()
