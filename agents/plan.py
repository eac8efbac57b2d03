"""What a training is asked for, and the plan that it comes to: options, the resumed run and the hyperparameter file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from agents.baselines import names_of, suite_of
from agents.deployment import EVALUATION_UNITS, can_deploy
from agents.hyperparameter_files import RunSettings, read_entry, run_settings
from agents.run_folder import TRAINING_ONLY, SavedRun, find_saved_run
from kml_envs.errors import UserError
from kml_envs.long_episodes import UNITS, episode_length, is_own
from kml_envs.proxy.modes import AUTO

DEFAULT_ENV = "kml/LfsTune-v0"
DEFAULT_ALGO = "ppo"
TRAINING_SUITE, VALIDATION_SUITE, HELD_OUT_SUITE = "train", "validation", "held-out"
OWN_EPISODES = 20  # of an evaluation in an environment without workloads

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class TrainingOptions:
    """What a training is asked for; None stands for the value of the hyperparameter file or of the resumed run.

    Attributes:
        env: Environment id.
        algo: Name in `agents.algorithms.ALGORITHMS`.
        seed: Of network, exploration and environments; row i of the environments is seeded `seed` + i.
        n_timesteps: Steps of all environments together; after `trained_agent`, further steps.
        n_envs: Environments stepped together.
        env_kwargs: Arguments of the environment.
        hyperparameters: Replace single values of the hyperparameter file.
        mode: The proxy's mode during training.
        workloads: Suites or workloads to train on.
        eval_freq: Steps between evaluations; None: what the hyperparameter file says, or else an eighth of the
            training; 0: only first and last.
        eval_episodes: Episodes of an evaluation; None: two of each validation workload.
        eval_deployment: Length of an evaluation's deployments under mode `auto`, in what
            `kml_envs.long_episodes.unit_of` says; None: what the hyperparameter file says, or else 60, or what
            `agents.deployment.EVALUATION_UNITS` says; 0: without them.
        save_freq: Steps between checkpoints; None: a quarter of the training; 0: none.
        tensorboard_log: Where event files go; None: the run's folder; "": nowhere.
        log_folder: Where runs go.
        trained_agent: Model or run folder to continue from.
        offline: Recorded decisions, whose built-in algorithm is imitated before the first step.
        record: Folder in which every decision of the training is stored.
        device: `cpu`, `cuda` or `auto`.
        num_threads: Threads of torch.
        progress: Whether to show a progress bar; None: when standard error is a terminal.
        closing: Whether to play the held-out workloads at the end.
        verbose: 0: only errors, 1: what happens, 2: the algorithm's own tables too.
    """

    env: str | None = None
    algo: str | None = None
    seed: int | None = None
    n_timesteps: int | None = None
    n_envs: int | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    mode: str | None = None
    workloads: tuple[str, ...] = ()
    eval_freq: int | None = None
    eval_episodes: int | None = None
    eval_deployment: float | None = None
    save_freq: int | None = None
    tensorboard_log: str | None = None
    log_folder: str = "logs"
    trained_agent: str | None = None
    offline: str | None = None
    record: str | None = None
    device: str = "cpu"
    num_threads: int = 1
    progress: bool | None = None
    closing: bool = True
    verbose: int = 1


@dataclass(frozen=True)
class Plan:
    """A training with every value settled; `args.yml` holds its options, `config.yml` its hyperparameters.

    Attributes:
        env: Environment id.
        algo: Name of the algorithm.
        seed: Of network, exploration and environments.
        env_kwargs: Arguments of the environment.
        entry: Hyperparameters as written.
        settings: What they say of the run.
        further_steps: Steps of all environments together.
        saved: The run that is continued; None: the training is a new one.
        validation: Workloads of the evaluations; none where the environment has none to choose from.
        eval_freq: Steps between evaluations; 0: only first and last.
        eval_episodes: Episodes of an evaluation.
        deployment_units: Length of an evaluation's deployments under mode `auto`; 0: without them.
        save_freq: Steps between checkpoints; 0: none.
    """

    env: str
    algo: str
    seed: int
    env_kwargs: Mapping[str, Any]
    entry: Mapping[str, Any]
    settings: RunSettings
    further_steps: int
    saved: SavedRun | None
    validation: tuple[str, ...]
    eval_freq: int
    eval_episodes: int
    deployment_units: float
    save_freq: int

    @property
    def online(self) -> bool:
        """Whether the agent learns under mode `auto`."""
        return self.env_kwargs.get("mode") == AUTO

    @property
    def played_kwargs(self) -> dict[str, Any]:
        """Arguments of the environment that do not concern training only."""
        return _played(self.env_kwargs)

    @property
    def training_kwargs(self) -> dict[str, Any]:
        """Arguments of the environment that is trained on: under mode `auto` its episodes are long as deployments."""
        length = {}
        if self.online and can_deploy(self.env, self.played_kwargs):
            length = episode_length(self.env, self.played_kwargs, UNITS)
        return {**length, **self.env_kwargs}

    def settled(self) -> dict[str, Any]:
        """The values of `args.yml` that a resumed run needs."""
        return {"env": self.env, "algo": self.algo, "seed": self.seed, "env_kwargs": dict(self.env_kwargs)}

    def suite(self, split: str | tuple[str, ...]) -> str | tuple[str, ...]:
        """The environment's own suite for a split; workloads that stand there instead are taken as they are."""
        return own_suite(split, self.env)


def make_plan(options: TrainingOptions) -> Plan:
    """Settle every value: from the options, then from the resumed run, then from the hyperparameter file.

    Raises:
        UserError: A value is out of range, or the resumed run does not fit.
    """
    saved = find_saved_run(Path(options.trained_agent)) if options.trained_agent else None
    before: Mapping[str, Any] = saved.arguments if saved is not None else {}
    env = options.env or before.get("env") or DEFAULT_ENV
    if saved is not None and before.get("env", env) != env:
        raise UserError(f"--env {env}: {saved.model} was trained on {before['env']}, and goes on there only")
    algo = options.algo or before.get("algo") or DEFAULT_ALGO
    seed = options.seed if options.seed is not None else before.get("seed", 0)
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed {seed}: must lie in 0..{2**32 - 1}")
    entry = dict(saved.hyperparameters) if saved is not None and saved.hyperparameters else read_entry(algo, env)
    entry |= options.hyperparameters
    planned = run_settings(entry).n_timesteps if saved is not None else 0
    for key in ("n_timesteps", "n_envs"):
        if (value := getattr(options, key)) is not None:
            entry[key] = value
    if is_own(env) and options.workloads:
        raise UserError(f"--workload and --trace: {env} has no workloads to choose from")
    suite = {} if is_own(env) else {"workloads": own_suite(TRAINING_SUITE, env)}
    settings = run_settings(entry)
    env_kwargs = {**suite, **settings.env_kwargs, **before.get("env_kwargs", {}), **options.env_kwargs}
    if options.workloads:
        env_kwargs["workloads"] = list(names_of(env, options.workloads))
    if options.mode is not None:
        env_kwargs["mode"] = options.mode
    further = settings.n_timesteps
    if saved is not None and options.n_timesteps is None:
        further = planned - saved.num_timesteps
        if further < 1:
            raise UserError(f"{saved.model} has its {saved.num_timesteps:,} steps already: give -n for further ones")
    if saved is not None:
        # The plan of the whole, so that an interruption of the continued run can be resumed in turn.
        entry["n_timesteps"] = saved.num_timesteps + further
    validation = () if is_own(env) else names_of(env, own_suite(VALIDATION_SUITE, env))
    played = _played(env_kwargs)
    return Plan(
        env,
        algo,
        seed,
        env_kwargs,
        entry,
        settings,
        further,
        saved,
        validation,
        _frequency(_first(options.eval_freq, settings.eval_freq), further, 8, "--eval-freq"),
        _episodes(options.eval_episodes, len(validation)),
        _deployment_units(_first(options.eval_deployment, settings.eval_deployment), env, played),
        _frequency(options.save_freq, further, 4, "--save-freq"),
    )


def own_suite(split: str | tuple[str, ...], env_id: str) -> str | tuple[str, ...]:
    """The environment's own suite for a split; workloads that stand there instead are taken as they are."""
    return suite_of(env_id, split) if isinstance(split, str) else split


def _frequency(given: int | None, steps: int, parts: int, option: str) -> int:
    """Steps between two times of something."""
    if given is None:
        return max(1, steps // parts)
    if given < 0:
        raise UserError(f"{option} {given}: must not be negative")
    return given


def _episodes(given: int | None, workloads: int) -> int:
    """Episodes of one evaluation."""
    if given is None:
        return 2 * workloads or OWN_EPISODES
    if given < 1:
        raise UserError(f"--eval-episodes {given}: must be at least 1")
    return given


def _deployment_units(given: float | None, env: str, played_kwargs: Mapping[str, Any]) -> float:
    """Length of deployments under mode `auto`; 0: the environment cannot, or there are to be none."""
    if given is not None and not 0 <= given < math.inf:
        raise UserError(f"--eval-deployment {given:g}: must be a number from 0 on")
    units = EVALUATION_UNITS.get(env, UNITS) if given is None else given
    return units if can_deploy(env, played_kwargs) else 0.0


def _played(env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in env_kwargs.items() if key not in TRAINING_ONLY}


def _first(option: _Number | None, written: _Number | None) -> _Number | None:
    """What the options say comes before what the hyperparameter file says."""
    return written if option is None else option
