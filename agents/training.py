"""One training from its options to its closing table; `train.py` is the command line of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import HumanOutputFormat, KVWriter, Logger, TensorBoardOutputFormat
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from agents.algorithms import Algorithm, check_device, find_algorithm, make_model
from agents.allocator import keep_freed_memory
from agents.average_reward import AverageReward
from agents.baselines import Contender, names_of, suite_of
from agents.callbacks import (
    Evaluate,
    LogEpisodes,
    RefillReplayBuffer,
    SaveCheckpoints,
    ShowProgress,
    Stop,
    Stopped,
    StopRequest,
    stoppable,
)
from agents.costs import HELD_OUT_SEEDS, compare_costs
from agents.deployment import EVALUATION_UNITS, Deployments, can_deploy, deploy
from agents.hyperparameter_files import RunSettings, constructor_arguments, read_entry, run_settings
from agents.imitation import can_imitate, check_imitable, imitate, observe_builtin
from agents.run_folder import (
    TRAINING_ONLY,
    RunFolder,
    SavedRun,
    check_event_folder,
    find_saved_run,
    make_event_folder,
)
from agents.saving import restore_parameters, restore_reward_statistics, save_model
from agents.standardize import standardization
from agents.teaching import Teachers, find_teachers, learn_from_teachers
from agents.tensorboard import RecordSystem
from agents.tensorboard_layout import layout_of
from agents.vector_env import NativeVecEnv, make_native_vec_env
from kml_envs.errors import UserError
from kml_envs.long_episodes import UNITS, episode_length, is_own
from kml_envs.proxy.modes import AUTO
from kml_envs.serve.recording import Recorder, Recording, read_recording

DEFAULT_ENV = "kml/LfsTune-v0"
DEFAULT_ALGO = "ppo"
TRAINING_SUITE, VALIDATION_SUITE, HELD_OUT_SUITE = "train", "validation", "held-out"
OWN_EPISODES = 20  # of an evaluation in an environment without workloads
CLOSING_SEEDS = (1001, 1002, 1003)
_VALIDATION_SEED = 500_000  # far from the seeds of training rows
_DEPLOYMENT_SEED = 600_000
_IMITATION_SEED = 700_000
_LEAST_DEPLOYMENTS = 8


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
class TrainingResult:
    """What a training left behind.

    Attributes:
        folder: The run's folder.
        num_timesteps: Steps that the model has been trained for, those before a resume included.
        interrupted_by: Name of the signal that ended it early; empty if none did.
    """

    folder: Path
    num_timesteps: int
    interrupted_by: str


@dataclass(frozen=True)
class Plan:
    """A training with every value settled; `args.yml` holds its options, `config.yml` its hyperparameters."""

    env: str
    algo: str
    seed: int
    env_kwargs: Mapping[str, Any]
    entry: Mapping[str, Any]  # hyperparameters as written
    settings: RunSettings
    further_steps: int
    saved: SavedRun | None

    @property
    def online(self) -> bool:
        """Whether the agent learns under mode `auto`."""
        return self.env_kwargs.get("mode") == AUTO

    @property
    def played_kwargs(self) -> dict[str, Any]:
        """Arguments of the environment that do not concern training only."""
        return {key: value for key, value in self.env_kwargs.items() if key not in TRAINING_ONLY}

    @property
    def training_kwargs(self) -> dict[str, Any]:
        """Arguments of the environment that is trained on: under mode `auto` its episodes are long as deployments."""
        length = {}
        if self.online and can_deploy(self.env, self.played_kwargs):
            length = episode_length(self.env, self.played_kwargs, UNITS)
        return {**length, **self.env_kwargs}


def train(options: TrainingOptions) -> TrainingResult:
    """Train an agent, and compare it with the built-in algorithms and the oracle at the end.

    Everything that the user may have got wrong is found before the first file is written.

    Args:
        options: What is asked for.

    Returns:
        Where the results are.

    Raises:
        UserError: The options contradict each other, or name what does not exist.
    """
    if options.num_threads < 1:
        raise UserError(f"--num-threads {options.num_threads}: must be at least 1")
    check_device(options.device)
    torch.set_num_threads(options.num_threads)
    keep_freed_memory()
    plan = make_plan(options)
    options = _with_evaluations(options, plan.settings)
    recording = None if options.offline is None else read_recording(Path(options.offline))
    env = _make_env(plan, options)
    algorithm = find_algorithm(plan.algo, env.action_space, plan.env)
    model = _make_model(algorithm, env, plan, options.device)
    if recording is not None:
        check_imitable(model, recording)
    teachers = _teachers(model, plan)
    validation = () if is_own(plan.env) else names_of(plan.env, _suite(VALIDATION_SUITE, plan.env))
    deployment_units = _deployment_units(options.eval_deployment, plan)
    evaluate_arguments: dict[str, Any] = {
        "every": _frequency(options.eval_freq, plan.further_steps, 8, "--eval-freq"),
        "episodes": _episodes(options.eval_episodes, len(validation)),
        "seed": _VALIDATION_SEED,
        "threads": plan.settings.env_threads,
        "deployments": _deployments(plan, validation, deployment_units),
    }
    save_freq = _frequency(options.save_freq, plan.further_steps, 4, "--save-freq")
    if options.tensorboard_log:
        check_event_folder(Path(options.tensorboard_log))
    if env.recorder is not None:
        env.recorder.begin()
    say: Callable[..., None] = print if options.verbose else _silent
    with stoppable() as request:
        folder = RunFolder.create(Path(options.log_folder), plan.algo, plan.env)
        folder.describe({**asdict(options), **_settled(plan)}, plan.entry, plan.seed)
        board = _set_logger(model, folder, plan, options)
        layout = layout_of(plan.env, auto=plan.online, deployed=deployment_units > 0)
        steps = f"{plan.further_steps:,} steps in {env.num_envs} environments"
        say(f"{plan.algo} on {plan.env}: {steps}, into {folder.path}")
        say("compiling the simulator (a minute or two the first time) and warming up the volumes ...", flush=True)
        evaluate = Evaluate(folder, plan.env, plan.played_kwargs, validation, **evaluate_arguments, request=request)
        log = LogEpisodes(folder, plan.env)
        env.listeners.append(log.add)
        callbacks: list[BaseCallback] = [
            RecordSystem(env, plan.env, plan.further_steps, plan.entry, layout),
            evaluate,
            SaveCheckpoints(folder, save_freq),
            Stop(request),
        ]
        with suppress(Stopped):
            _imitate(model, plan, recording, options, request, say)
            if teachers is not None:
                _learn_from(teachers, model, plan, request)
            _learn(model, plan, callbacks, options, evaluate)
        if env.recorder is not None:
            env.recorder.flush()
        final = folder.checkpoint(model.num_timesteps) if request.signal_name else folder.final_model
        save_model(model, final)
        if request.signal_name:
            say(f"stopped by {request.signal_name} after {model.num_timesteps:,} steps; continue with")
            say(f"  python train.py -i {final}")
        elif options.closing:
            try:
                _close(model, folder, plan, deployment_units, say, request)
            except Stopped:
                say(f"stopped by {request.signal_name} in the closing table; the training itself is complete")
    say(f"models, evaluations and settings: {folder.path}")
    if board is not None:
        say(f"tensorboard --logdir {board}")
    model.logger.close()
    log.close()
    env.close()
    evaluate.close()
    return TrainingResult(folder.path, model.num_timesteps, request.signal_name)


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
    suite = {} if is_own(env) else {"workloads": _suite(TRAINING_SUITE, env)}
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
    return Plan(env, algo, seed, env_kwargs, entry, settings, further, saved)


def _make_env(plan: Plan, options: TrainingOptions) -> NativeVecEnv:
    """What is trained on, with a recorder where one is wanted."""
    recorded = {} if options.record is None else {"info_decisions": True}
    env = make_native_vec_env(
        plan.env, plan.settings.n_envs, {**plan.training_kwargs, **recorded}, plan.settings.env_threads
    )
    if options.record is not None:
        env.recorder = Recorder(Path(options.record), plan.env, plan.env_kwargs, env.proxies[0].subsystem)
    return env


def _make_model(algorithm: Algorithm, env: NativeVecEnv, plan: Plan, device: str) -> BaseAlgorithm:
    """The model to be trained; one that is continued gets parameters only, so that no saved code ever runs."""
    arguments = constructor_arguments(plan.settings.model)
    wrapped: VecEnv = AverageReward(env) if plan.settings.average_reward else env
    if plan.settings.normalize:
        gamma = float(arguments.get("gamma", 0.99))
        clip = plan.settings.clip_reward
        wrapped = VecNormalize(wrapped, norm_obs=False, norm_reward=True, clip_reward=clip, gamma=gamma)
    model = make_model(algorithm, wrapped, arguments, seed=plan.seed, device=device)
    if plan.saved is not None:
        restore_parameters(model, plan.saved.model, f"{plan.algo} on {plan.env}")
        model.num_timesteps = plan.saved.num_timesteps
        if isinstance(wrapped, VecNormalize):
            restore_reward_statistics(wrapped, plan.saved.model)
        # Row seeds of the continued run differ, so that it does not play its first episodes again.
        env.seed((plan.seed + plan.saved.num_timesteps) % 2**32)
    return model


def _imitate(
    model: BaseAlgorithm,
    plan: Plan,
    recording: Recording | None,
    options: TrainingOptions,
    request: StopRequest,
    say: Callable[..., None],
) -> None:
    """Begin as the built-in algorithm: of a recording, or, to learn under mode `auto`, of decisions made now."""
    if recording is not None:
        agreement = imitate(model, recording, seed=plan.seed)
        say(f"imitated the built-in algorithm of {options.offline}: agreement {agreement:.3f}")
    elif plan.online and plan.saved is None and not plan.settings.imitate:
        fresh = observe_builtin(plan.env, plan.env_kwargs, seed=_IMITATION_SEED + plan.seed)
        request.check()
        if can_imitate(model, fresh):
            say(f"imitated the built-in algorithm: agreement {imitate(model, fresh, seed=plan.seed):.3f}")
        else:
            say(f"began without imitation: no {plan.algo} policy can express the built-in algorithm of {plan.env}")
    request.check()


def _teachers(model: BaseAlgorithm, plan: Plan) -> Teachers | None:
    """What the policy learns before the first step, if anything."""
    if not plan.settings.imitate or plan.saved is not None:
        return None
    file = Path(plan.settings.imitate) if isinstance(plan.settings.imitate, str) else None
    return find_teachers(model.policy, plan.env, file)


def _learn_from(teachers: Teachers, model: BaseAlgorithm, plan: Plan, request: StopRequest) -> None:
    learn_from_teachers(
        cast(ActorCriticPolicy, model.policy),
        teachers,
        plan.env,
        plan.played_kwargs,
        seed=plan.seed,
        threads=plan.settings.env_threads,
        check=request.check,
    )


def _learn(
    model: BaseAlgorithm,
    plan: Plan,
    callbacks: list[BaseCallback],
    options: TrainingOptions,
    evaluate: Evaluate,
) -> None:
    """Train for the planned steps, with a progress bar where one is wanted."""
    shown = options.progress if options.progress is not None else sys.stderr.isatty()
    total = model.num_timesteps + plan.further_steps
    progress = ShowProgress(total, evaluate) if shown else None
    if isinstance(model, OffPolicyAlgorithm) and plan.saved is not None:
        callbacks = [*callbacks, RefillReplayBuffer(model)]
    try:
        with standardization(model.policy, learning=True):
            model.learn(
                plan.further_steps,
                callback=CallbackList(callbacks + ([progress] if progress is not None else [])),
                # Off-policy algorithms count episodes, the others rollouts.
                log_interval=model.n_envs if isinstance(model, OffPolicyAlgorithm) else 1,
                reset_num_timesteps=plan.saved is None,
            )
    finally:
        if progress is not None:
            progress.close()


def _set_logger(model: BaseAlgorithm, folder: RunFolder, plan: Plan, options: TrainingOptions) -> str | None:
    """Send what the algorithm records to TensorBoard and, if wanted, to the terminal.

    Returns:
        What `tensorboard --logdir` should look at; None without TensorBoard.
    """
    outputs: list[KVWriter] = []
    board = None
    if options.tensorboard_log is None:
        board = options.log_folder
        outputs.append(TensorBoardOutputFormat(str(folder.path / "tensorboard")))
    elif options.tensorboard_log:
        board = options.tensorboard_log
        outputs.append(TensorBoardOutputFormat(str(make_event_folder(Path(board), plan.algo, folder.env_name))))
    if options.verbose >= 2:
        outputs.append(HumanOutputFormat(sys.stdout))
    model.set_logger(Logger(str(folder.path), outputs))
    return board


def _close(
    model: BaseAlgorithm,
    folder: RunFolder,
    plan: Plan,
    deployment_units: float,
    say: Callable[..., None],
    request: StopRequest,
) -> None:
    """Play the held-out workloads with the best model, and print what came of it, under mode `auto` too."""
    from agents.evaluation import closing_report

    def check(name: str) -> None:
        request.check()

    model.set_parameters(str(folder.best_model), device=model.device)
    judged = Contender(f"agent ({plan.algo})", plan.env, plan.played_kwargs, lambda space: model)
    workloads: Sequence[str] = ()
    seeds: Sequence[int] = HELD_OUT_SEEDS
    if is_own(plan.env):
        say(compare_costs(judged.name, plan.env, judged.env_kwargs, judged.make_policy, progress=check))
    else:
        say("playing the held-out workloads ...", flush=True)
        workloads, seeds = names_of(plan.env, _suite(HELD_OUT_SUITE, plan.env)), CLOSING_SEEDS
        report = closing_report(
            plan.env,
            plan.played_kwargs,
            model,
            workloads=workloads,
            seeds=seeds,
            algo=plan.algo,
            progress=check,
        )
        say(report)
    request.check()
    if deployment_units > 0:
        deployments = Deployments.on_every(judged, workloads, seeds, deployment_units)
        say(f"\n{deploy(judged, deployments).text}")
        deployments.close()


def _suite(split: str | tuple[str, ...], env_id: str) -> str | tuple[str, ...]:
    """The environment's own suite for a split; workloads that stand there instead are taken as they are."""
    return suite_of(env_id, split) if isinstance(split, str) else split


def _settled(plan: Plan) -> dict[str, Any]:
    """The values of `args.yml` that a resumed run needs."""
    return {"env": plan.env, "algo": plan.algo, "seed": plan.seed, "env_kwargs": dict(plan.env_kwargs)}


def _with_evaluations(options: TrainingOptions, written: RunSettings) -> TrainingOptions:
    """The options, with what the hyperparameter file says of evaluations where they say nothing."""
    return replace(
        options,
        eval_freq=written.eval_freq if options.eval_freq is None else options.eval_freq,
        eval_deployment=written.eval_deployment if options.eval_deployment is None else options.eval_deployment,
    )


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


def _deployment_units(given: float | None, plan: Plan) -> float:
    """Length of deployments under mode `auto`; 0: the environment cannot, or there are to be none."""
    if given is not None and given < 0:
        raise UserError(f"--eval-deployment {given:g}: must not be negative")
    units = EVALUATION_UNITS.get(plan.env, UNITS) if given is None else given
    return units if can_deploy(plan.env, plan.played_kwargs) else 0.0


def _deployments(plan: Plan, workloads: Sequence[str], units: float) -> Deployments | None:
    """The deployments of an evaluation: some on each validation workload, or as many of a subsystem without any."""
    if units == 0:
        return None
    each = max(1, _LEAST_DEPLOYMENTS // max(len(workloads), 1))
    rows = [workload for workload in workloads for _ in range(each)]
    # Each has a seed of its own: equal seeds would give the same units to the agent on every workload.
    seeds = range(_DEPLOYMENT_SEED, _DEPLOYMENT_SEED + (len(rows) or each))
    return Deployments(plan.env, plan.played_kwargs, rows, seeds, units)


def _silent(*values: object, **arguments: object) -> None:
    """Say nothing."""
