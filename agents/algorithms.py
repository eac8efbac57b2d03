"""The algorithms that `train.py` offers, by name, and the action spaces that each of them fits."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from kml_envs.errors import UserError, unknown_name

Model: TypeAlias = BaseAlgorithm
DEVICES = ("cpu", "cuda", "auto")
_ANY = (spaces.Discrete, spaces.Box)


@dataclass(frozen=True)
class Algorithm:
    """One algorithm of Stable-Baselines3 or sb3-contrib.

    Attributes:
        name: As in `--algo`.
        location: Module and class.
        fits: Kinds of action space.
        masks: Whether it takes action masks.
    """

    name: str
    location: str
    fits: tuple[type[spaces.Space[Any]], ...]
    masks: bool = False

    @property
    def model_class(self) -> type[BaseAlgorithm]:
        """The algorithm's class, imported now."""
        module, _, name = self.location.partition(":")
        found: type[BaseAlgorithm] = getattr(importlib.import_module(module), name)
        return found

    def policy(self, name: str) -> str | type[BasePolicy]:
        """What a policy's name in the hyperparameters stands for.

        Raises:
            UserError: It is one of `POLICIES`, and the algorithm has none.
        """
        if name not in POLICIES:
            return name
        module, classes = POLICIES[name]
        if self.name not in classes:
            having = ", ".join(classes)
            raise UserError(f"'{self.name}' has no {name}: choose 'MlpPolicy', or one of {having}")
        found: type[BasePolicy] = getattr(importlib.import_module(module), classes[self.name])
        return found


POLICIES: dict[str, tuple[str, Mapping[str, str]]] = {
    "ActionStartPolicy": (
        "agents.action_start",
        {"ppo": "ActionStartPolicy", "a2c": "ActionStartPolicy"},
    ),
    "CandidatePolicy": (
        "agents.candidate_policy",
        {
            "ppo": "CandidateActorCriticPolicy",
            "ppo_mask": "MaskableCandidateActorCriticPolicy",
            "a2c": "CandidateActorCriticPolicy",
            "dqn": "CandidateDQNPolicy",
        },
    ),
    "PacingPolicy": (
        "agents.pacing_policy",
        {
            "ppo": "PacingActorCriticPolicy",
            "ppo_mask": "MaskablePacingActorCriticPolicy",
            "a2c": "PacingActorCriticPolicy",
        },
    ),
}
"""The policies of our own: module, and class by algorithm."""

ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("ppo", "stable_baselines3:PPO", _ANY),
        Algorithm("ppo_mask", "sb3_contrib:MaskablePPO", (spaces.Discrete,), masks=True),
        Algorithm("a2c", "stable_baselines3:A2C", _ANY),
        Algorithm("dqn", "stable_baselines3:DQN", (spaces.Discrete,)),
        Algorithm("qrdqn", "sb3_contrib:QRDQN", (spaces.Discrete,)),
        Algorithm("sac", "stable_baselines3:SAC", (spaces.Box,)),
        Algorithm("td3", "stable_baselines3:TD3", (spaces.Box,)),
        Algorithm("ars", "sb3_contrib:ARS", _ANY),
    )
}


def find_algorithm(name: str, action_space: spaces.Space[Any], env_id: str) -> Algorithm:
    """Look an algorithm up and check that it fits.

    Args:
        name: As in `--algo`.
        action_space: Of one instance.
        env_id: For the message.

    Raises:
        UserError: There is no such algorithm, or it does not fit the action space.
    """
    if name not in ALGORITHMS:
        raise unknown_name("algorithm", name, ALGORITHMS)
    algorithm = ALGORITHMS[name]
    if not isinstance(action_space, algorithm.fits):
        fitting = ", ".join(one.name for one in ALGORITHMS.values() if isinstance(action_space, one.fits))
        kinds = " or ".join(kind.__name__ for kind in algorithm.fits)
        raise UserError(
            f"algorithm '{name}' needs a {kinds} action space, {env_id} has {action_space}: choose one of {fitting}"
        )
    return algorithm


def check_device(name: str) -> None:
    """Check that torch can compute on a device.

    Args:
        name: As in `--device`.

    Raises:
        UserError: It is none of `cpu`, `cuda` and `auto`, or there is no such device here.
    """
    if name not in DEVICES:
        raise unknown_name("device", name, DEVICES)
    # Stable-Baselines3 would fall back to the processor without a word.
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no such device here: choose cpu, or auto for what there is")


def make_model(
    algorithm: Algorithm, env: VecEnv, arguments: Mapping[str, Any], *, seed: int | None, device: str
) -> BaseAlgorithm:
    """Make an untrained model.

    Args:
        algorithm: The algorithm.
        env: What it trains on.
        arguments: Its constructor's arguments, `policy` by name among them.
        seed: Of the network, the exploration and the environments.
        device: `cpu`, `cuda` or `auto`.

    Raises:
        UserError: The constructor does not take these arguments.
    """
    given = dict(arguments)
    if isinstance(given.get("ent_coef"), str) and algorithm.name != "sac":
        raise UserError(
            f"ent_coef '{given['ent_coef']}': only sac learns it, {algorithm.name} takes a number from 0 on"
        )
    policy = algorithm.policy(given.pop("policy", "MlpPolicy"))
    try:
        return algorithm.model_class(policy, env, seed=seed, device=device, verbose=0, **given)
    except UserError:
        raise
    except (TypeError, ValueError, KeyError, AssertionError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"'{algorithm.name}' does not take these hyperparameters: {reason}") from error
