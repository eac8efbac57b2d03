"""Hyperparameters in RL Zoo's style: one YAML file per algorithm, one entry per environment, and `default`.

An entry holds the arguments of the algorithm's constructor and, beside them, what `RunSettings` names. A number
written `lin_X` falls linearly from X to zero over the training. Files are read without running anything in them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import yaml
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

from agents.standardize import Standardize
from kml_envs.command_line import plain_value
from kml_envs.errors import UserError, unknown_name

FOLDER = Path(__file__).parent / "hyperparameters"
_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}
_SCHEDULED = ("learning_rate", "clip_range", "clip_range_vf", "delta_std")
_WHOLE_FROM = {
    "batch_size": 1,
    "buffer_size": 1,
    "gradient_steps": -1,
    "learning_starts": 0,
    "n_delta": 1,
    "n_epochs": 1,
    "n_eval_episodes": 1,
    "n_steps": 1,
    "n_top": 1,
    "policy_delay": 1,
    "stats_window_size": 1,
    "target_update_interval": 1,
}
"""Whole numbers, and the smallest that makes sense; Stable-Baselines3 meets a wrong one in the midst of a training."""
_SHARES = ("gamma", "gae_lambda", "tau", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps")
_NOT_NEGATIVE = ("ent_coef", "vf_coef", "max_grad_norm", "target_kl", "target_policy_noise", *_SCHEDULED)
_MAY_BE_NONE = ("target_kl", "clip_range_vf", "n_top")
_FREQUENCY_UNITS = ("step", "episode")


@dataclass(frozen=True)
class RunSettings:
    """What an entry says of the run rather than of the algorithm.

    Attributes:
        n_timesteps: Steps of all environments together.
        n_envs: Environments stepped together.
        env_threads: Threads that step them.
        normalize: Whether rewards are divided by the running standard deviation of the return.
        clip_reward: Bound of the rewards after that.
        env_kwargs: Arguments of the environment in training, which those of the command line replace.
        average_reward: Whether rewards are measured against their average for the same progress (see
            `agents.average_reward`).
        imitate: Whether the policy first imitates the teachers of its environment (see `agents.teaching`), or the file
            with other ones.
        eval_freq: Steps between evaluations, as in `TrainingOptions`, which comes first.
        eval_deployment: Length of an evaluation's deployments, likewise.
        model: Arguments of the algorithm's constructor, as written.
    """

    n_timesteps: int
    n_envs: int = 16
    env_threads: int = 1
    normalize: bool = False
    clip_reward: float = 10.0
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    average_reward: bool = False
    imitate: bool | str = False
    eval_freq: int | None = None
    eval_deployment: float | None = None
    model: Mapping[str, Any] = field(default_factory=dict)


def read_entry(algo: str, env_id: str) -> dict[str, Any]:
    """The entry of an environment, or `default` where it has none of its own.

    Raises:
        UserError: There is no file for this algorithm.
    """
    path = FOLDER / f"{algo}.yml"
    if not path.is_file():
        raise unknown_name("algorithm", algo, (file.stem for file in FOLDER.glob("*.yml")))
    entries: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())
    return dict(entries.get(env_id, entries["default"]))


def run_settings(entry: Mapping[str, Any]) -> RunSettings:
    """Split an entry into what concerns the run and what the algorithm takes.

    Raises:
        UserError: A value of the run is missing, of the wrong kind or out of range.
    """
    model = {key: plain_value(value) for key, value in entry.items()}
    run = {
        "n_timesteps": _positive(model, "n_timesteps"),
        "n_envs": _positive(model, "n_envs", 16),
        "env_threads": _positive(model, "env_threads", 1),
    }
    env_kwargs = model.pop("env_kwargs", None) or {}
    if not isinstance(env_kwargs, Mapping):
        raise UserError(f"env_kwargs {env_kwargs!r}: must be arguments of the environment by name")
    average_reward = _switch(model, "average_reward")
    imitate = model.pop("imitate", False)
    if not isinstance(imitate, bool) and not (isinstance(imitate, str) and Path(imitate).is_file()):
        raise UserError(f"imitate {imitate!r}: must be true, false, or a file of teachers")
    evaluations = {name: _not_negative(model, name) for name in ("eval_freq", "eval_deployment")}
    normalize, clip_reward = _normalization(model.pop("normalize", False))
    return RunSettings(
        normalize=normalize,
        clip_reward=clip_reward,
        env_kwargs=dict(env_kwargs),
        average_reward=average_reward,
        imitate=imitate,
        eval_freq=None if (steps := evaluations["eval_freq"]) is None else int(steps),
        eval_deployment=evaluations["eval_deployment"],
        model=model,
        **run,
    )


def constructor_arguments(written: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the arguments as written into what the constructor takes: schedules, activation functions, standardizing.

    Raises:
        UserError: A number is of the wrong kind or out of range, or a schedule or an activation function cannot be
            understood.
    """
    result = {key: _argument(key, value) for key, value in written.items()}
    policy_kwargs = result.get("policy_kwargs") or {}
    if not isinstance(policy_kwargs, Mapping):
        raise UserError(
            f"policy_kwargs {policy_kwargs!r}: must be arguments of the policy by name, such as {{net_arch: [64]}}"
        )
    policy_kwargs = dict(policy_kwargs)
    activation = policy_kwargs.get("activation_fn")
    if isinstance(activation, str):
        if activation not in _ACTIVATIONS:
            raise unknown_name("activation function", activation, _ACTIVATIONS)
        policy_kwargs["activation_fn"] = _ACTIVATIONS[activation]
    if policy_kwargs.pop("standardize", False):
        policy_kwargs["features_extractor_class"] = Standardize
    if policy_kwargs:
        result["policy_kwargs"] = policy_kwargs
    return result


def _argument(key: str, value: object) -> object:
    """One argument of a constructor, with numbers in range and schedules as such."""
    if value is None and key in _MAY_BE_NONE:
        return value
    if key in _WHOLE_FROM:
        number = _whole(value)
        if number is None or number < _WHOLE_FROM[key]:
            raise UserError(f"{key} {value!r}: must be a whole number from {_WHOLE_FROM[key]} on")
        return number
    if key == "train_freq":
        return _train_frequency(value)
    if key in _SHARES and not (_is_number(value) and 0 <= value <= 1):
        raise UserError(f"{key} {value!r}: must be a number in 0..1")
    if key in _SCHEDULED and isinstance(value, str):
        start = plain_value(value[4:]) if value.startswith("lin_") else None
        if not isinstance(start, float) or start < 0:
            raise UserError(f"{key} '{value}': must be a number, or lin_X for X falling linearly to zero")
        return LinearSchedule(start, 0.0, 1.0)
    if key == "ent_coef" and isinstance(value, str) and re.fullmatch(r"auto(_\d+(\.\d*)?)?", value):
        return value  # learned by SAC; `agents.algorithms.make_model` refuses it for others
    if key in _NOT_NEGATIVE and not (_is_number(value) and value >= 0):
        raise UserError(f"{key} {value!r}: must be a number from 0 on")
    return value


def _train_frequency(value: object) -> object:
    """Steps between updates, or so many steps or episodes."""
    count, unit = value if isinstance(value, (list, tuple)) and len(value) == 2 else (value, "step")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1 or unit not in _FREQUENCY_UNITS:
        raise UserError(f"train_freq {value!r}: must be a whole number from 1 on, or [NUMBER, episode]")
    return count, unit


def _normalization(value: object) -> tuple[bool, float]:
    """Whether rewards are normalized, and the bound after that, from `normalize` as written."""
    clip_reward: object = 10.0
    if isinstance(value, Mapping):
        clip_reward = value.get("clip_reward", clip_reward)
        if value.get("norm_obs", True):
            raise UserError("normalize: observations are scaled already, so that only {norm_obs: false} is accepted")
        value = value.get("norm_reward", True)
    if not isinstance(value, bool):
        raise UserError(f"normalize {value!r}: must be true or false, or {{norm_obs: false, norm_reward: true}}")
    if not _is_number(clip_reward) or not clip_reward > 0:
        raise UserError(f"normalize: clip_reward {clip_reward!r} must be a positive number")
    return value, float(clip_reward)


def _switch(entry: dict[str, Any], key: str) -> bool:
    """Take true or false out of an entry; false where it says nothing."""
    value = entry.pop(key, False)
    if not isinstance(value, bool):
        raise UserError(f"{key} {value!r}: must be true or false")
    return value


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: object) -> int | None:
    """The whole number that a value is, such as 1e3 too; None: it is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _not_negative(entry: dict[str, Any], key: str) -> float | None:
    """Take a number that is not negative out of an entry, if it is there."""
    value = entry.pop(key, None)
    if value is not None and not (_is_number(value) and value >= 0):
        raise UserError(f"{key} {value!r}: must be a number that is not negative")
    return value


def _positive(entry: dict[str, Any], key: str, default: int | None = None) -> int:
    """Take a positive whole number out of an entry."""
    value = entry.pop(key, default)
    number = _whole(value)
    if number is None or number < 1:
        raise UserError(f"{key} {value!r}: must be a positive whole number")
    return number
