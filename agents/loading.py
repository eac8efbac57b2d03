"""Saved models, loaded without running code that their files contain.

A zip file of Stable-Baselines3 holds pickles, and unpickling runs whatever a file says. So a model is rebuilt from
the settings that its run folder holds as plain YAML, and only numbers are taken out of the zip file: torch's
`weights_only` refuses everything else. A zip file without its run folder needs the user's explicit trust.
"""

from __future__ import annotations

import copy
import pickle
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from agents.algorithms import ALGORITHMS, find_algorithm, make_model
from agents.hyperparameter_files import constructor_arguments, run_settings
from agents.run_folder import TRAINING_ONLY, SavedRun, find_saved_run
from agents.saving import restore_parameters
from agents.vector_env import NativeVecEnv, make_native_vec_env
from kml_envs.errors import UserError, in_one_line, unknown_name

_UNLOADABLE = (RuntimeError, ValueError, KeyError, TypeError, AttributeError, ImportError, pickle.UnpicklingError)


@dataclass(frozen=True)
class LoadedModel:
    """A model, ready to recommend.

    Attributes:
        model: The algorithm with its trained networks.
        algo: Its name.
        env_id: The environment that it was trained on.
        env_kwargs: That environment's arguments, but for those of training only.
        num_timesteps: Steps that it was trained for.
    """

    model: BaseAlgorithm
    algo: str
    env_id: str
    env_kwargs: Mapping[str, Any]
    num_timesteps: int


def load_model(
    path: Path,
    *,
    env_id: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    algo: str | None = None,
    trust: bool = False,
) -> LoadedModel:
    """Load a model.

    Args:
        path: A zip file in a run folder of `train.py`, or the folder, whose best model is meant.
        env_id: The environment; None: that of the run.
        env_kwargs: Replace single arguments of the run's environment.
        algo: The algorithm; None: that of the run, from which it must not differ.
        trust: Whether a zip file without a run folder may be unpickled, which runs code that it contains.

    Raises:
        UserError: There is no model, it does not fit, or it needs trust and has none.
    """
    saved = _find(path)
    arguments = saved.arguments
    env_id = env_id or arguments.get("env")
    algo = algo or arguments.get("algo")
    if env_id is None or algo is None:
        raise UserError(
            f"{saved.model}: stands alone, without the run folder that says what it is: give --env and --algo"
        )
    if algo not in ALGORITHMS:
        raise unknown_name("algorithm", algo, ALGORITHMS)
    if algo != arguments.get("algo", algo):
        raise UserError(f"--algo {algo}: {saved.model} was trained with {arguments['algo']}, as its run folder says")
    own = {key: value for key, value in arguments.get("env_kwargs", {}).items() if key not in TRAINING_ONLY}
    kwargs = {**own, **(env_kwargs or {})}
    environment = make_native_vec_env(env_id, 1, {**kwargs, "efficiency": "none"})
    try:
        if saved.hyperparameters:
            model = _rebuild(saved, algo, env_id, environment)
        elif trust:
            model = _unpickle(saved, algo, environment)
        else:
            raise UserError(
                f"{saved.model}: has no run folder beside it, so that loading it would run code that it contains: "
                "only with --trust, and only for files of your own"
            )
    finally:
        environment.close()
    return LoadedModel(model, algo, env_id, kwargs, saved.num_timesteps)


def untrained_model(
    algo: str, env_id: str, hyperparameters: Mapping[str, Any], environment: NativeVecEnv
) -> BaseAlgorithm:
    """A model of these settings that has not learned anything.

    Args:
        algo: Its algorithm.
        env_id: For messages.
        hyperparameters: As the hyperparameter file or `config.yml` has them.
        environment: What it would be trained on.

    Raises:
        UserError: The settings do not go together.
    """
    settings = run_settings(hyperparameters)
    algorithm = find_algorithm(algo, environment.action_space, env_id)
    arguments = constructor_arguments(copy.deepcopy(dict(settings.model)))
    with warnings.catch_warnings():
        # The batch size fits the training's number of environments, and nothing is trained here.
        warnings.filterwarnings("ignore", message="You have specified a mini-batch size")
        return make_model(algorithm, environment, arguments, seed=0, device="cpu")


def _find(path: Path) -> SavedRun:
    best = path / "best_model.zip"
    saved = find_saved_run(best if path.is_dir() and best.is_file() else path)
    if not isinstance(saved.arguments.get("env_kwargs", {}), Mapping):
        raise UserError(f"{path}: env_kwargs in the args.yml of its run is not a mapping of names to values")
    return saved


def _rebuild(saved: SavedRun, algo: str, env_id: str, environment: NativeVecEnv) -> BaseAlgorithm:
    """An untrained model of the same settings, with the saved networks."""
    model = untrained_model(algo, env_id, saved.hyperparameters, environment)
    restore_parameters(model, saved.model, f"{algo} on {env_id}")
    return model


def _unpickle(saved: SavedRun, algo: str, environment: NativeVecEnv) -> BaseAlgorithm:
    print(f"warning: --trust: loading {saved.model} runs code that it contains", file=sys.stderr)
    find_algorithm(algo, environment.action_space, "this environment")
    try:
        return ALGORITHMS[algo].model_class.load(saved.model, env=environment, device="cpu")
    except _UNLOADABLE as error:
        raise UserError(f"{saved.model}: cannot be loaded as {algo}: {in_one_line(error)}") from None
