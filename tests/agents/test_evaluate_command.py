"""The command line: what it prints and writes, and what it says of mistakes."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from agents.baselines import TUNE, VICTIM, compared_builtins
from agents.damon_environments import DAMON_ENVIRONMENTS
from agents.judging import JudgingOptions, judge
from agents.results import METRICS
from kml_envs.errors import UserError
from kml_envs.long_episodes import UNITS
from kml_envs.registration import environment_ids

COMMAND = Path(__file__).parents[2] / "evaluate.py"
PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def run(*words):
    result = subprocess.run([sys.executable, str(COMMAND), *words], capture_output=True, text=True, check=False)
    return result.returncode, result.stdout, result.stderr


@pytest.mark.slow
def test_mistakes_are_one_line_and_exit_status_two():
    for words, reason in (
        ((), "either a model or --policy"),
        (("--n-seeds", "x"), "invalid int value"),
        (("--policy", "greedy", "--deployment", "-3"), "must be a number from 0 on"),
    ):
        status, output, errors = run(*words)
        assert (status, output) == (2, "")
        assert reason in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "either a model or --policy"),
        ({"policy": "greedy", "model": Path("x")}, "either a model or --policy"),
        ({"policy": "greddy"}, "Did you mean 'greedy'"),
        ({"policy": "greedy", "env": "kml/Nothing-v0"}, "unknown environment"),
        ({"policy": "greedy", "env_kwargs": {"nonsense": 1}}, "does not take these arguments"),
        ({"policy": "greedy", "env_kwargs": {"workloads": "uniform"}}, "choose them by"),
        ({"policy": "greedy", "env_kwargs": {"utilisation": 2.0}}, "utilisation"),
        ({"policy": "random-action", "mode": "fast"}, "unknown mode 'fast'"),
        ({"policy": "greedy", "mode": "fast"}, "unknown mode 'fast'"),
        ({"policy": "f2fs", "env": "kml/LfsPacing-v0", "mode": "fast"}, "unknown mode 'fast'"),
        ({"policy": "greedy", "env_kwargs": {"segments": "abc"}}, "segments 'abc': must be a whole number"),
        ({"policy": "constant:1,2"}, "12 numbers"),
        ({"policy": "constant:2"}, "within the action space"),
        ({"policy": "greedy", "workloads": ("zipf",)}, "unknown workload 'zipf'"),
        ({"policy": "greedy", "workloads": ("trace:none.csv",)}, "none.csv: no such file"),
        ({"policy": "clairvoyant", "env": "kml/LfsPacing-v0"}, "has no such oracle"),
        ({"policy": "informed", "workloads": ("maildir",)}, "knows nothing about 'maildir'"),
        ({"policy": "greedy", "n_seeds": 0}, "--n-seeds 0"),
        ({"policy": "greedy", "seeds": [1, 1]}, "must be different"),
        ({"policy": "greedy", "seeds": [1, 2], "n_seeds": 3}, "2 seeds are given"),
        ({"policy": "greedy", "json": Path("nowhere/out.json")}, "--json nowhere/out.json: No such file or directory"),
        ({"policy": "greedy", "json": Path(__file__) / "out.json"}, "Not a directory"),
        ({"policy": "greedy", "damo": Path("x" * 300)}, "--damo x+: File name too long"),
        ({"policy": "greedy", "damo": Path("x" * 250)}, "--damo x+: File name too long"),
        ({"policy": "greedy", "csv": Path()}, "--csv .: is a folder"),
        ({"policy": "greedy", "json": Path("out.json"), "csv": Path("./out.json")}, "is the file of --json"),
        ({"policy": "greedy", "csv": Path("a.csv"), "workloads": ("trace:./a.csv",)}, "a file that is to be played"),
        ({"model": Path("model.zip"), "json": Path("model.zip")}, "a file that is to be played"),
        ({"policy": "greedy", "plot": Path("out.foo")}, "picture format"),
        ({"model": Path("none.zip")}, "no such file"),
        ({"policy": "constant:nan"}, "constant policy nan: numbers must lie within the action space, -1 to 1"),
        ({"policy": "constant:1e39"}, "within the action space"),
        ({"policy": "constant:"}, "policy 'constant:': numbers separated by commas"),
        ({"policy": "random-action:inf"}, "policy 'random-action:inf': a whole number from 0 on"),
        ({"policy": "random-action:-1"}, "a whole number from 0 on"),
        ({"policy": "random-action:1.5"}, "a whole number from 0 on"),
        ({"policy": "random-action:1,2"}, "a whole number from 0 on"),
        ({"policy": "random-action:"}, "a whole number from 0 on"),
        ({"policy": "greedy/"}, "unknown placement ''"),
        (
            {"policy": "greedy", "env_kwargs": {"segments": 94}},
            "sepbit, which is compared too: utilisation",
        ),
        ({"workloads": ("lfs-tune",), "env_kwargs": {"segments": 94}}, "which is compared too: utilisation"),
        ({"policy": "greedy", "algo": "ppo"}, "--algo and --trust do not go with --policy"),
        ({"policy": "greedy", "trust": True}, "--algo and --trust do not go with --policy"),
        ({"policy": "greedy", "mode": "auto", "env_kwargs": {"mode": "learning"}}, "is said by --mode already"),
        ({"policy": "greedy", "env": ""}, "unknown environment ''"),
        ({"policy": "greedy", "deployment": 5.0}, "--deployment 5: greedy is not deployed"),
        ({"agent": "lfs-tune", "explain": True, "deployment": 5.0}, "--deployment does not go with it"),
        ({"agent": "lfs-tune", "explain": True, "env_kwargs": {"mode": "auto"}}, "--mode do not go with it"),
        ({"workloads": ("lfs-tune", "uniform")}, "neither other suites beside it nor --workload"),
        ({"workloads": ("lfs-tune", "trace:x.csv"), "agent": "lfs-tune"}, "nor --workload or --trace"),
        ({"workloads": ("lfs-tune",), "deployment": 0.0}, "leave --deployment out"),
        ({"workloads": ("lfs-tune",), "env": "kml/LfsVictim-v0"}, "go with a model only"),
        ({"workloads": ("lfs-tune",), "algo": "ppo"}, "go with a model only"),
        ({"workloads": ("lfs-tune",), "trust": True}, "go with a model only"),
        ({"workloads": ("lfs-tune",), "agent": "lfs-tune", "algo": "ppo"}, "do not go with --agent"),
        ({"workloads": ("lfs-tune",), "env_kwargs": {"workloads": "uniform"}}, "choose them by"),
        ({"workloads": ("lfs-tune",), "env_kwargs": {"mode": "learning"}}, "do not go with it"),
    ],
)
def test_mistakes_are_found_before_anything_is_played(tmp_path, monkeypatch, arguments, reason):
    monkeypatch.chdir(tmp_path)
    for play in ("compare", "play_suite", "explain"):
        monkeypatch.setattr(f"agents.judging.{play}", lambda *_, **__: pytest.fail("something was played"))
    with pytest.raises(ValueError, match=reason) as error:
        judge(JudgingOptions(**arguments), sys.stderr)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_pipe_gets_the_results_once(tmp_path, small):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    options = JudgingOptions(
        policy="constant:0",
        env_kwargs={key: value for key, value in small.items() if key != "workloads"} | {"segments": 128},
        workloads=("zipf-0.9",),
        n_seeds=1,
        deployment=4.0,
        csv=pipe,
    )
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_text)
        judge(options, io.StringIO())
        lines = read.result(timeout=60).splitlines()
    assert sum("(mode auto)" in line for line in lines) == 1
    assert len(lines) == len(set(lines)) > 10


@pytest.mark.parametrize("env_id", environment_ids())
def test_mistakes_in_arguments_that_are_replaced_are_mistakes(monkeypatch, env_id):
    monkeypatch.setattr("agents.judging.compare", lambda *_, **__: pytest.fail("something was played"))
    workload = "bursts-2-1" if env_id in DAMON_ENVIRONMENTS else "uniform"
    builtin = compared_builtins(env_id, {})[0].name
    for policy in (builtin, "random-action", *(["clairvoyant", "greedy/dac"] if env_id in (TUNE, VICTIM) else [])):
        for name, value, reason in (
            ("builtin", "xyz", "unknown built-in algorithm 'xyz'"),
            ("efficiency", "xyz", "unknown efficiency 'xyz'"),
            ("autoreset_mode", "xyz", "unknown autoreset mode 'xyz'"),
            ("mode", "xyz", "unknown mode 'xyz'"),
            ("mode", [1], "mode"),
            ("share", 7.0, "share"),
        ):
            options = JudgingOptions(policy=policy, env=env_id, env_kwargs={name: value}, workloads=(workload,))
            with pytest.raises(UserError, match=reason) as error:
                judge(options, sys.stderr)
            assert "\n" not in str(error.value)


def test_the_same_holds_for_agents_and_benchmark_suites(monkeypatch):
    for play in ("compare", "play_suite", "explain"):
        monkeypatch.setattr(f"agents.judging.{play}", lambda *_, **__: pytest.fail("something was played"))
    for arguments in ({"agent": "lfs-tune"}, {"agent": "lfs-tune", "explain": True}, {"workloads": ("lfs-tune",)}):
        for name in ("builtin", "efficiency", "autoreset_mode"):
            with pytest.raises(UserError, match=r"unknown .* 'xyz'"):
                judge(JudgingOptions(env_kwargs={name: "xyz"}, **arguments), sys.stderr)


@pytest.mark.usefixtures("tutorial_module")
def test_a_policy_that_a_subsystem_of_ones_own_lacks_is_told_before_anything_is_played():
    told = io.StringIO()
    for arguments, reason in (
        ({"policy": "greedy"}, "does not take these arguments"),
        ({"policy": "constant:0"}, "actions are numbers"),
        ({"policy": "random-action", "env_kwargs": {"autoreset_mode": "xyz"}}, "unknown autoreset mode 'xyz'"),
        ({"policy": "random-action", "env_kwargs": {"window": None}, "deployment": 4.0}, "has no window"),
    ):
        with pytest.raises(UserError, match=reason):
            judge(JudgingOptions(env="readahead:tutorial/Readahead-v0", **arguments), told)
    assert told.getvalue() == ""


def test_the_setting_that_the_page_shows_fits(tmp_path, small):
    small.pop("workloads")
    [policy] = re.findall(r"--policy (constant:[-0-9.,]+)`", PAGE.read_text())
    options = JudgingOptions(
        policy=policy, env_kwargs=small, workloads=("uniform",), n_seeds=1, quiet=True, deployment=0.0
    )
    assert f"Policy {policy}" in judge(options, sys.stderr)


def test_files_hold_every_episode(tmp_path, small, capsys):
    small.pop("workloads")
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv")}
    text = judge(
        JudgingOptions(
            policy="cost-benefit",
            env="kml/LfsVictim-v0",
            env_kwargs=small,
            workloads=("uniform", "zipf-0.9"),
            n_seeds=2,
            plot=tmp_path / "out.png",
            **files,
        ),
        sys.stdout,
    )
    assert "playing cost-benefit" in capsys.readouterr().out
    assert "Built-in algorithm cost-benefit" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.json", "out.png"]
    content = json.loads(files["json"].read_text())
    assert (content["judged"], content["reference"], content["seeds"]) == ("cost-benefit", "greedy", [1001, 1002])
    shape = (len(content["policies"]), 2, 2)
    assert all(np.array(content["metrics"][name], dtype=float).shape == shape for name in METRICS)
    moved, user = (np.array(content["metrics"][name], float) for name in ("moved_blocks", "user_blocks"))
    assert np.array(content["write_amplification"]) == pytest.approx(1 + moved.sum(axis=2) / user.sum(axis=2))
    score = content["normalized_score"]["clairvoyant oracle"]
    assert score["low"] <= score["estimate"] <= score["high"]
    with files["csv"].open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == np.prod(shape)
    of_json = moved[content["policies"].index("atgc"), 1, 0]
    [row] = [one for one in rows if (one["policy"], one["workload"], one["seed"]) == ("atgc", "zipf-0.9", "1001")]
    assert float(row["moved_blocks"]) == of_json
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_deployments_are_as_long_as_usual_unless_it_is_said(monkeypatch, small):
    asked = []
    monkeypatch.setattr("agents.judging.Deployments.on_every", lambda *arguments: asked.append(arguments[-1]))
    monkeypatch.setattr("agents.judging.compare", lambda *_, **__: None)
    monkeypatch.setattr("agents.judging.report", lambda comparison: "told")
    small.pop("workloads")
    for deployment in (None, 8.0, 0.0):
        options = JudgingOptions(
            policy="random-action",
            env_kwargs=small,
            workloads=("uniform",),
            n_seeds=1,
            quiet=True,
            deployment=deployment,
        )
        assert judge(options, sys.stderr) == "told"
    assert asked == [UNITS, 8.0]


def test_files_hold_the_deployments_too(tmp_path, small):
    small.pop("workloads")
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv")}
    options = JudgingOptions(
        policy="random-action",
        env_kwargs=small,
        workloads=("uniform", "zipf-0.9"),
        n_seeds=2,
        quiet=True,
        deployment=8.0,
        **files,
    )
    text = judge(options, sys.stderr)
    content = json.loads(files["json"].read_text())
    deployment = content["deployment"]
    assert (deployment["units"], deployment["unit"]) == (8.0, "volumes")
    assert deployment["comparison"] in text and "in time" in deployment["comparison"]
    assert deployment["workloads"] == ["uniform", "uniform", "zipf-0.9", "zipf-0.9"]
    assert deployment["seeds"] == [1001, 1002, 1001, 1002]
    assert set(deployment["mode"]) <= {"emergency", "learning", "collaboration", "recommendation"}
    assert deployment["recommendation_after"] == [None] * 4 and len(deployment["evidence"]) == 4
    with files["csv"].open() as lines:
        rows = list(csv.DictReader(lines))
    deployed = [row for row in rows if row["policy"] == "random-action (mode auto)"]
    assert [(row["workload"], row["seed"]) for row in deployed] == list(
        zip(deployment["workloads"], map(str, deployment["seeds"]), strict=True)
    )
    assert [float(row["moved_blocks"]) for row in deployed] == deployment["metrics"]["moved_blocks"]
    assert [row["mode"] for row in deployed] == deployment["mode"] and {row["degradations"] for row in deployed}
    assert {row["mode"] for row in rows if row not in deployed} == {""}


def test_own_trace_is_played(tmp_path, small):
    small.pop("workloads")
    trace = tmp_path / "mine.csv"
    trace.write_text("time,op,offset,size\n" + "".join(f"{i},W,{4096 * (i * 37 % 500)},4096\n" for i in range(2000)))
    options = JudgingOptions(
        policy="random-action", env_kwargs=small, workloads=(f"trace:{trace}",), n_seeds=1, deployment=0.0
    )
    assert f"trace:{trace}" in judge(options, sys.stderr)


def test_an_oracle_is_judged_as_policies_are(small):
    small.pop("workloads")
    text = judge(
        JudgingOptions(policy="clairvoyant", env_kwargs=small, workloads=("zipf-0.9",), n_seeds=1, quiet=True),
        sys.stderr,
    )
    assert "Policy clairvoyant oracle beats the best single built-in algorithm" in text
    assert "Normalized score 1.000" in text
