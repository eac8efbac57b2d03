"""Ctrl-C at every stage of a training: it ends soon, leaves a model, and says no more than a line."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from agents import teaching
from agents.callbacks import Evaluate
from agents.plan import TrainingOptions
from agents.run_folder import saved_steps
from agents.stopping import Stop, Stopped, StopRequest
from agents.teaching import learn_from_teachers
from agents.training import train
from kml_envs.errors import run_command

TUNE = "kml/LfsTune-v0"


@pytest.fixture
def options(small, tmp_path, monkeypatch, one_thread):
    """A training of 64 steps, evaluated on one workload."""
    monkeypatch.setattr("agents.plan.VALIDATION_SUITE", ("zipf-0.8",))
    monkeypatch.setattr("agents.training.HELD_OUT_SUITE", ("zipf-0.8",))
    return TrainingOptions(
        env=TUNE,
        n_timesteps=64,
        n_envs=4,
        env_kwargs=small,
        hyperparameters={"n_steps": 8, "batch_size": 16, "n_epochs": 1, "imitate": False},
        workloads=("zipf-0.9",),
        eval_freq=0,
        eval_episodes=1,
        eval_deployment=0,
        log_folder=str(tmp_path),
        progress=False,
        tensorboard_log="",
    )


@pytest.fixture(autouse=True)
def as_in_a_terminal():
    """Signals mean what they do there: shells start what runs in the background with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_while_environments_are_made_ends_before_the_first_evaluation(options, monkeypatch, capsys):
    class Interrupted(Evaluate):
        def __init__(self, *arguments, **keywords):
            interrupt()
            super().__init__(*arguments, **keywords)

    monkeypatch.setattr("agents.training.Evaluate", Interrupted)
    result = train(options)
    assert (result.interrupted_by, result.num_timesteps) == ("SIGINT", 0)
    checkpoint = result.folder / "rl_model_0_steps.zip"
    assert saved_steps(checkpoint) == 0
    assert not (result.folder / "evaluations.npz").exists()
    assert f"-i {checkpoint}" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_during_the_closing_table_ends_it(options, monkeypatch, capsys):
    from agents import evaluation

    played = []

    def evaluate(contender, workloads, seeds):
        played.append(contender.name)
        interrupt()

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    result = train(options)
    assert (result.interrupted_by, result.num_timesteps) == ("SIGINT", 64)
    assert len(played) == 1
    assert saved_steps(result.folder / "kml-LfsTune-v0.zip") == 64
    assert "stopped by SIGINT in the closing table" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("algo", "hyperparameters"),
    [
        ("ppo", {"n_steps": 8, "batch_size": 16, "n_epochs": 1, "imitate": False}),
        ("sac", {"learning_starts": 16, "batch_size": 16, "buffer_size": 500}),
        ("ars", {"n_delta": 2, "n_top": 1, "env_threads": 1}),
    ],
)
def test_a_signal_in_the_midst_of_a_training_ends_it(algo, hyperparameters, options, monkeypatch):
    class Interrupting(Stop):
        def _on_step(self):
            if self.num_timesteps >= 24 and not self.request.signal_name:
                interrupt()
            return super()._on_step()

    monkeypatch.setattr("agents.training.Stop", Interrupting)
    result = train(replace(options, algo=algo, n_timesteps=50_000, hyperparameters=hyperparameters))
    assert result.interrupted_by == "SIGINT"
    assert 24 <= result.num_timesteps <= 32
    assert saved_steps(result.folder / f"rl_model_{result.num_timesteps}_steps.zip") == result.num_timesteps


def test_teaching_looks_for_a_request_at_every_step(small, monkeypatch):
    steps = []

    class Request(StopRequest):
        def check(self):
            steps.append(0)
            if len(steps) == 3:
                self.signal_name = "SIGINT"
            super().check()

    monkeypatch.setattr(teaching, "workload_names", lambda suite: ("zipf-0.4",))
    arguments = {key: value for key, value in small.items() if key != "workloads"}
    with pytest.raises(Stopped):
        learn_from_teachers(None, {"zipf-0.4": np.zeros(12)}, TUNE, arguments, seed=0, threads=1, check=Request().check)
    assert len(steps) == 3


def test_a_command_that_does_not_handle_a_signal_says_one_line(capsys):
    with pytest.raises(SystemExit) as exited:
        run_command(interrupt)
    assert exited.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
