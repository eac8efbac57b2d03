"""The benchmark: what is done stays done, what was interrupted goes on, and mistakes are one line."""

import dataclasses
import os
import shutil
import signal
import threading
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
import yaml

from agents import benchmark as command
from agents.baselines import TUNE
from agents.benchmark import BenchmarkOptions, benchmark
from agents.benchmark_results import read_evaluation
from agents.benchmark_schedule import Outcome, run_units
from agents.benchmark_suites import SUITES, BenchmarkSuite, start_contender
from agents.benchmark_work import (
    QUICK_ROWS,
    SuiteFolder,
    TrainingInterruptedError,
    Unit,
    collect,
    quick_suite,
    units_of,
)
from agents.hyperparameter_files import read_entry
from agents.run_folder import RunFolder, find_saved_run
from agents.training import TrainingResult
from kml_envs.errors import UserError

KWARGS = {"segments": 64, "blocks_per_segment": 16, "utilisation": 0.6, "warm_volumes": 1.0, "episode_volumes": 2.0}


TINY = BenchmarkSuite("tiny", TUNE, "a2c", env_kwargs=KWARGS, workloads=("uniform",), episode_seeds=(1,))


@pytest.fixture
def folder(tmp_path):
    """An empty folder of a suite whose trainings take a second."""
    result = SuiteFolder(tmp_path / "tiny", TINY, quick=True)
    result.open()
    return result


@pytest.fixture(scope="module")
def worked(tmp_path_factory):
    """Another, with all work of one training seed done."""
    result = SuiteFolder(tmp_path_factory.mktemp("benchmark") / "tiny", TINY, quick=True)
    result.open()
    threads = torch.get_num_threads()
    assert collect(result, range(1)) is None
    for unit in units_of(result, range(1)):
        assert not unit.done()
        unit.work()
        assert unit.done()
    torch.set_num_threads(threads)
    return result


@pytest.fixture
def done(worked, tmp_path):
    """A copy of it."""
    shutil.copytree(worked.path, tmp_path / "tiny")
    return dataclasses.replace(worked, path=tmp_path / "tiny")


def test_complete_work_is_never_done_again(done, one_thread, monkeypatch):
    trained = yaml.safe_load((done.seed(0) / "trained.yml").read_text())
    run = done.seed(0) / trained["run"]
    assert find_saved_run(run).arguments["seed"] == 0 and trained["steps"] == QUICK_ROWS * 8
    result = collect(done, range(3))
    assert list(result.runs) == [0] and result.curves[0].steps[0] == 0 and np.isfinite(result.gains()).all()
    units = units_of(done, range(1))
    assert run_units(units, 1, lambda line: None) == Outcome()

    # Without its evaluation, the model plays again, but is not trained again.
    played = read_evaluation(done.seed(0) / "agent.npz")
    (done.seed(0) / "agent.npz").unlink()
    monkeypatch.setattr("agents.benchmark_work.train", None)
    assert not units[1].done()
    units[1].work()
    again = read_evaluation(done.seed(0) / "agent.npz")
    assert units[1].done() and np.array_equal(again.write_amplification, played.write_amplification)


def test_an_interrupted_training_begins_anew(folder, one_thread, monkeypatch):
    def stopped(options):
        run = RunFolder.create(Path(options.log_folder), options.algo, options.env)
        return TrainingResult(run.path, 10, "SIGINT")

    monkeypatch.setattr("agents.benchmark_work.train", stopped)
    for _ in range(2):
        with pytest.raises(TrainingInterruptedError):
            Unit(folder, 0).work()
        assert not Unit(folder, 0).done()
        assert [path.name for path in folder.seed(0).glob("a2c/*")] == ["kml-LfsTune-v0_1"]


def test_work_of_other_settings_is_not_mixed(folder):
    folder.open()  # the same settings
    for changed, what in (
        (dataclasses.replace(TINY, episode_seeds=(1, 2)), "episode_seeds"),
        (dataclasses.replace(TINY, algo="ppo"), "algorithm, hyperparameters, steps"),
        (dataclasses.replace(TINY, env_kwargs={**TINY.env_kwargs, "utilisation": 0.7}), "arguments"),
    ):
        with pytest.raises(UserError, match=f"other {what}: give another folder"):
            dataclasses.replace(folder, suite=changed).open()
    (folder.path / "benchmark.yml").write_text("- nothing")
    with pytest.raises(UserError, match="other suite_version, environment"):
        folder.open()
    (folder.path.parent / "file").write_text("")
    with pytest.raises(UserError, match="--output"):
        dataclasses.replace(folder, path=folder.path.parent / "file").open()


def test_nothing_begins_before_the_start_is_found(tmp_path, one_thread, monkeypatch):
    folder = SuiteFolder(tmp_path / "tiny", dataclasses.replace(TINY, algo="ppo"), quick=True, search=True)
    folder.open()
    search, references, training = units_of(folder, range(1))
    assert search.searches and [unit.ready() for unit in (search, references, training)] == [True, False, False]
    shipped = read_entry("ppo", TUNE)["policy_kwargs"]
    action = [0.25] * len(shipped["initial_action"])
    found = {"policy_kwargs": {**shipped, "initial_action": action}, "imitate": "teachers.yml"}
    monkeypatch.setattr("agents.benchmark_work.search_start", lambda *arguments: found)
    assert not search.done()
    search.work()
    assert search.done() and references.ready() and training.ready()
    folder.open()  # what was found is no other setting
    asked = folder.training(0).hyperparameters
    assert asked["policy_kwargs"]["initial_action"] == action
    assert asked["imitate"] is False  # tried out only
    assert dataclasses.replace(folder, quick=False).training(0).hyperparameters["imitate"] == "teachers.yml"
    start = start_contender(folder.started_suite).make_policy(gymnasium.spaces.Box(-1.0, 1.0, (len(action),)))
    assert np.allclose(start.predict(np.zeros((1, 3)))[0], 0.25)
    with pytest.raises(UserError, match="was made with other search of the start"):
        dataclasses.replace(folder, search=False).open()


def test_a_search_that_fails_keeps_only_its_own_suite_waiting(tmp_path):
    folder = SuiteFolder(tmp_path / "broken", dataclasses.replace(TINY, name="broken"), quick=True, search=True)
    folder.open()  # of an algorithm whose training begins with nothing
    told = []
    outcome = run_units(units_of(folder, range(1)), 2, told.append)
    assert [failure.partition(":")[0] for failure in outcome.failures] == [
        "broken, search of the start",
        "broken, built-in algorithms",
        "broken, training seed 0",
    ]
    assert "waits for the search of the start" in outcome.failures[-1] and len(told) == 1


@pytest.mark.slow
def test_processes_do_the_work_and_failures_are_one_line(done):
    broken = dataclasses.replace(
        done,
        path=done.path.parent / "broken",
        suite=dataclasses.replace(TINY, name="broken", env_kwargs={**KWARGS, "warm_volumes": -1.0}),
    )
    broken.open()
    done.references.unlink()
    told = []
    outcome = run_units([*units_of(done, range(1)), Unit(broken, None)], 2, told.append)
    [failure] = outcome.failures
    assert failure.startswith("broken, built-in algorithms: warm_volumes -1.0: must not be negative")
    assert done.references.is_file() and not broken.references.exists()
    assert told[0] == "1 of 3 units of work are done already"
    assert sorted(line.partition(" ")[0] for line in told[1:]) == ["[2/3]", "[3/3]"]
    assert sum("failed" in line for line in told) == 1


def test_reports_of_what_is_done(done):
    told, output = [], done.path.parent
    options = BenchmarkOptions((TINY,), output, seeds=1, quick=True)
    assert benchmark(options, told.append) == 0
    assert told[0] == "2 of 2 units of work are done already"
    assert any("tiny: write amplification" in line for line in told)
    assert f"python -m agents export {done.seed(0)}/a2c/kml-LfsTune-v0_1 --name tiny" in told
    report = (output / "report.md").read_text()
    for ending in ("txt", "json", "csv"):
        assert (output / f"tiny.{ending}").stat().st_size > 0
    for picture in ("gains", "learning-curves", "performance-profiles", "probability-of-improvement"):
        assert f"tiny-{picture}.png" in report and (output / f"tiny-{picture}.png").is_file()


def test_a_signal_ends_the_work(folder):
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    outcome = run_units(units_of(folder, range(2)), 1, lambda line: None)
    timer.join()
    assert outcome == Outcome([], "SIGTERM") and not any(unit.done() for unit in units_of(folder, range(2)))


def test_the_command_knows_its_suites(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(command, "benchmark", lambda options, tell: asked.append(options) or 0)
    monkeypatch.setattr("sys.argv", ["benchmark", "--only", "lfs-victim", "--quick", "--jobs", "3"])
    assert command.main() == 0
    [options] = asked
    assert [suite.name for suite in options.suites] == ["lfs-victim"]
    assert (options.quick, options.jobs, options.seeds, options.output) == (True, 3, 2, command.QUICK_OUTPUT)
    assert not options.search
    for words, reason in (
        (["--only", "lfs-tuna"], "Did you mean 'lfs-tune'"),
        (["--seeds", "0"], "must lie in 1..1000"),
    ):
        monkeypatch.setattr("sys.argv", ["benchmark", *words])
        with pytest.raises(UserError, match=reason):
            command.main()


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_can_be_tried_out(name, tmp_path):
    suite = quick_suite(SUITES[name])
    assert 1 <= len(suite.played) <= 2 and len(suite.episode_seeds) == 1 and suite.builtins
    quick, full = SuiteFolder(tmp_path, suite, quick=True), SuiteFolder(tmp_path, SUITES[name])
    quick.open()
    with pytest.raises(UserError, match="was made with other"):
        full.open()
