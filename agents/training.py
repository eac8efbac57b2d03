"""One training from its options to its closing table; `train.py` is the command line of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

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
from agents.baselines import Contender, compared_builtins, names_of
from agents.callbacks import Evaluate, LogEpisodes, RefillReplayBuffer, SaveCheckpoints, ShowProgress
from agents.costs import HELD_OUT_SEEDS, compare_costs
from agents.deployment import Deployments, deploy
from agents.hyperparameter_files import constructor_arguments
from agents.imitation import can_imitate, check_imitable, imitate, observe_builtin
from agents.plan import HELD_OUT_SUITE, Plan, TrainingOptions, make_plan
from agents.playing import check_rivals
from agents.run_folder import RunFolder, check_event_folder, make_event_folder
from agents.saving import restore_parameters, restore_reward_statistics, save_model
from agents.standardize import standardization
from agents.stopping import Stop, Stopped, StopRequest, stoppable
from agents.teaching import Teachers, find_teachers, learn_from_teachers
from agents.tensorboard import RecordSystem
from agents.tensorboard_layout import layout_of
from agents.vector_env import NativeVecEnv, make_native_vec_env
from kml_envs.errors import UserError
from kml_envs.long_episodes import is_own
from kml_envs.serve.recording import Recorder, Recording, read_recording

CLOSING_SEEDS = (1001, 1002, 1003)
_VALIDATION_SEED = 500_000  # far from the seeds of training rows
_DEPLOYMENT_SEED = 600_000
_IMITATION_SEED = 700_000
_LEAST_DEPLOYMENTS = 8


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
    recording = None if options.offline is None else read_recording(Path(options.offline))
    env = _make_env(plan, options)
    algorithm = find_algorithm(plan.algo, env.action_space, plan.env)
    model = _make_model(algorithm, env, plan, options.device)
    if recording is not None:
        check_imitable(model, recording)
    teachers = _teachers(model, plan)
    if options.closing:
        _check_closing(plan)
    deployments = _deployments(plan)
    if options.tensorboard_log:
        check_event_folder(Path(options.tensorboard_log))
    if env.recorder is not None:
        env.recorder.begin()
    say: Callable[..., None] = print if options.verbose else _silent
    with stoppable() as request:
        folder = RunFolder.create(Path(options.log_folder), plan.algo, plan.env)
        folder.describe({**asdict(options), **plan.settled()}, plan.entry, plan.seed)
        board = _set_logger(model, folder, plan, options)
        layout = layout_of(plan.env, auto=plan.online, deployed=plan.deployment_units > 0)
        steps = f"{plan.further_steps:,} steps in {env.num_envs} environments"
        say(f"{plan.algo} on {plan.env}: {steps}, into {folder.path}")
        say("compiling the simulator (a minute or two the first time) and preparing the episodes ...", flush=True)
        evaluate = Evaluate(
            folder,
            plan.env,
            plan.played_kwargs,
            plan.validation,
            every=plan.eval_freq,
            episodes=plan.eval_episodes,
            seed=_VALIDATION_SEED,
            threads=plan.settings.env_threads,
            deployments=deployments,
            request=request,
        )
        log = LogEpisodes(folder, plan.env)
        env.listeners.append(log.add)
        callbacks: list[BaseCallback] = [
            RecordSystem(env, plan.env, plan.further_steps, plan.entry, layout),
            evaluate,
            SaveCheckpoints(folder, plan.save_freq),
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
                _close(model, folder, plan, say, request)
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


def _check_closing(plan: Plan) -> None:
    """See that everybody in the closing table can play."""
    if is_own(plan.env):
        return
    rivals = compared_builtins(plan.env, plan.played_kwargs)
    try:
        check_rivals(rivals, names_of(plan.env, plan.suite(HELD_OUT_SUITE))[0])
    except UserError as error:
        raise UserError(f"{error} (--no-closing trains without the closing table)") from None


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
        workloads, seeds = names_of(plan.env, plan.suite(HELD_OUT_SUITE)), CLOSING_SEEDS
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
    if plan.deployment_units > 0:
        deployments = Deployments.on_every(judged, workloads, seeds, plan.deployment_units)
        say(f"\n{deploy(judged, deployments).text}")
        deployments.close()


def _deployments(plan: Plan) -> Deployments | None:
    """The deployments of an evaluation: some on each validation workload, or as many of a subsystem without any."""
    if plan.deployment_units == 0:
        return None
    each = max(1, _LEAST_DEPLOYMENTS // max(len(plan.validation), 1))
    rows = [workload for workload in plan.validation for _ in range(each)]
    # Each has a seed of its own: equal seeds would give the same units to the agent on every workload.
    seeds = range(_DEPLOYMENT_SEED, _DEPLOYMENT_SEED + (len(rows) or each))
    return Deployments(plan.env, plan.played_kwargs, rows, seeds, plan.deployment_units)


def _silent(*values: object, **arguments: object) -> None:
    """Say nothing."""
