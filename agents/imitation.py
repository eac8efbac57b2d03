"""Behaviour cloning: begin as an imitation of the built-in algorithm, from its decisions.

`train.py --offline DATASET` does this before the first step with recorded decisions, `--mode auto` with fresh ones, so
that learning starts where the human-made algorithm stands and not at random.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch.nn.functional import mse_loss

from agents.standardize import standardization
from agents.vector_env import make_native_env
from kml_envs.errors import UserError
from kml_envs.proxy.specs import Array
from kml_envs.serve.recording import Recording

EPOCHS = 20
BATCH = 64
LEARNING_RATE = 1e-3
INSTANCES, DECISIONS = 16, 512
"""Rows that fresh decisions come from, and decisions of each."""


def observe_builtin(env_id: str, env_kwargs: Mapping[str, Any], *, seed: int) -> Recording:
    """Let the built-in algorithm play, and note what it sees and decides.

    Args:
        env_id: The environment.
        env_kwargs: Its arguments; mode and efficiency are replaced.
        seed: Of its episodes.

    Returns:
        Columns `features`, `builtin_decision` and, for choices, `mask`, as of a recording on disk.
    """
    arguments = {**env_kwargs, "mode": "recommendation", "efficiency": "none", "info_decisions": True}
    environment: Any = make_native_env(env_id, INSTANCES, arguments).unwrapped
    space = environment.single_action_space
    choice = isinstance(space, spaces.Discrete)
    # Nothing that could be carried out: the proxy rejects it, and the built-in algorithm acts.
    nothing = np.full(INSTANCES, -1) if choice else np.full((INSTANCES, *space.shape), np.nan, np.float32)
    seen: dict[str, list[Array]] = {"features": [], "builtin_decision": [], **({"mask": []} if choice else {})}
    observations, _ = environment.reset(seed=seed)
    for _ in range(DECISIONS):
        seen["features"].append(observations)
        if choice:
            seen["mask"].append(environment.action_masks())
        observations, _, _, _, infos = environment.step(nothing)
        seen["builtin_decision"].append(infos["builtin_decision"].copy())
    environment.close()
    return Recording({"environment": env_id}, {name: np.concatenate(parts) for name, parts in seen.items()})


def can_imitate(model: BaseAlgorithm, recording: Recording) -> bool:
    """Whether the algorithm has a policy to fit, and the built-in algorithm's decisions are recommendations at all."""
    fits = isinstance(model.policy, (ActorCriticPolicy, MaskableActorCriticPolicy, SACPolicy, TD3Policy))
    return fits and bool(np.isfinite(recording.columns["builtin_decision"].astype(np.float64)).any())


def check_imitable(model: BaseAlgorithm, recording: Recording) -> None:
    """See, before anything is begun, that a recording can be imitated.

    Raises:
        UserError: The recording does not fit, or the algorithm has no policy that can be fitted.
    """
    _objective(model)
    _examples(model, recording)


def imitate(model: BaseAlgorithm, recording: Recording, *, seed: int, epochs: int = EPOCHS) -> float:
    """Fit a model's policy to what the built-in algorithm wanted.

    Args:
        model: PPO, A2C, MaskablePPO, SAC or TD3.
        recording: Decisions of the same environment.
        seed: Of the order of the decisions.
        epochs: Times that every decision is seen.

    Returns:
        Agreement afterwards: for choices the share of decisions that the policy makes alike, for numbers
        1 − (mean squared error / variance).

    Raises:
        UserError: The recording does not fit, or the algorithm has no policy that can be fitted.
    """
    features, decisions, masks = _examples(model, recording)
    parameters, loss_of = _objective(model)
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE)
    generator = np.random.default_rng(seed)
    model.policy.set_training_mode(True)
    with standardization(model.policy, learning=True):
        for _ in range(epochs):
            for rows in _batches(generator.permutation(len(features))):
                loss = loss_of(features[rows], decisions[rows], None if masks is None else masks[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    model.policy.set_training_mode(False)
    return _agreement(model, features, decisions, masks)


def _examples(model: BaseAlgorithm, recording: Recording) -> tuple[Array, Array, Array | None]:
    """Features, built-in decisions and masks of a recording, as far as they can be imitated."""
    columns: Mapping[str, Array] = recording.columns
    environment = recording.about["environment"]
    if "builtin_decision" not in columns:
        raise UserError("--offline: the recording does not hold what the built-in algorithm wanted")
    features, decisions = columns["features"], columns["builtin_decision"]
    space = model.action_space
    known = np.isfinite(decisions.astype(np.float64)).reshape(len(decisions), -1).all(axis=1)
    if not known.any():
        raise UserError(
            f"--offline: on {environment} the built-in algorithm has no recommendation that could be imitated"
        )
    fits = isinstance(space, spaces.Discrete) == (decisions.ndim == 1)
    if features.shape[1:] != model.observation_space.shape or not fits:
        raise UserError(f"--offline: the recording is of {environment}, which has other spaces than this training")
    masks = columns["mask"][known] if "mask" in columns else None
    return features[known], decisions[known], masks


def _objective(model: BaseAlgorithm) -> tuple[list[torch.nn.Parameter], Any]:
    """The parameters to fit, and the loss of a batch."""
    policy: Any = model.policy

    def likelihood(features: Array, decisions: Array, masks: Array | None) -> torch.Tensor:
        kind = torch.int64 if decisions.ndim == 1 else torch.float32
        given = {"action_masks": masks} if masks is not None and isinstance(policy, MaskableActorCriticPolicy) else {}
        distribution = policy.get_distribution(torch.as_tensor(features, device=model.device), **given)
        log_probability: torch.Tensor = distribution.log_prob(
            torch.as_tensor(decisions, dtype=kind, device=model.device)
        )
        return -log_probability.mean()

    def distance(features: Array, decisions: Array, masks: Array | None) -> torch.Tensor:
        wanted = torch.as_tensor(policy.scale_action(decisions), dtype=torch.float32, device=model.device)
        seen = torch.as_tensor(features, device=model.device)
        mean = policy.actor(seen, deterministic=True) if isinstance(policy, SACPolicy) else policy.actor(seen)
        return mse_loss(mean, wanted)

    if isinstance(policy, (ActorCriticPolicy, MaskableActorCriticPolicy)):
        return list(policy.parameters()), likelihood
    if isinstance(policy, (SACPolicy, TD3Policy)):
        return list(policy.actor.parameters()), distance
    raise UserError("--offline: imitation needs a policy that gives actions: ppo, ppo_mask, a2c, sac or td3")


def _agreement(model: BaseAlgorithm, features: Array, decisions: Array, masks: Array | None) -> float:
    """How much the policy decides alike."""
    given = {"action_masks": masks} if masks is not None and isinstance(model.policy, MaskableActorCriticPolicy) else {}
    predict: Any = model.predict
    chosen, _ = predict(features, deterministic=True, **given)
    if decisions.ndim == 1:
        return float(np.mean(chosen == decisions))
    return float(1.0 - np.mean((chosen - decisions) ** 2) / max(np.var(decisions), 1e-12))


def _batches(order: Array) -> Iterator[Array]:
    for first in range(0, len(order), BATCH):
        yield order[first : first + BATCH]
