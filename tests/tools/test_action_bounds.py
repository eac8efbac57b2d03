"""The bound of an action space is a search on the very workload, beside the best built-in algorithm."""

import dataclasses

import numpy as np
import pytest

from agents.action_search import mean_log_cost
from agents.benchmark_suites import SUITES
from agents.hyperparameter_files import read_entry
from agents.results import Evaluation
from kml_envs.errors import UserError
from tools import action_bounds


def test_the_best_action_is_none_worse_than_the_start():
    suite = SUITES["lfs-tune"]
    action = action_bounds.best_action(suite, "zipf-0.4", 4, 2)
    start = np.array(read_entry(suite.algo, suite.env_id)["policy_kwargs"]["initial_action"])
    cost = mean_log_cost(suite.env_id, ["zipf-0.4"], 2)(np.array([action, start]))
    assert cost[0] <= cost[1] and (np.abs(action) <= 1.0).all()


def test_the_table_compares_it_with_the_best_builtin(monkeypatch, capsys):
    suite = dataclasses.replace(SUITES["lfs-tune"], workloads=("uniform",), episode_seeds=(1001,))
    monkeypatch.setitem(SUITES, "lfs-tune", suite)
    monkeypatch.setattr(action_bounds, "best_action", lambda *_: np.zeros(12))
    values = {"greedy": 5.0, "fifo": 4.0, "best": 3.0}

    def evaluate(contender, workloads, seeds):
        reached = np.full((1, len(workloads), len(seeds)), values.get(contender.name, 9.0))
        return Evaluation((contender.name,), tuple(workloads), tuple(seeds), {"write_amplification": reached})

    monkeypatch.setattr(action_bounds, "evaluate", evaluate)
    monkeypatch.setattr("sys.argv", ["action_bounds", "lfs-tune"])
    action_bounds.main()
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.split()[-4:] == ["4.000", "3.000", "-25.0", "%"]


def test_a_suite_without_a_constant_action_is_refused(monkeypatch):
    monkeypatch.setattr("sys.argv", ["action_bounds", "lfs-pacing"])
    with pytest.raises(UserError, match="lfs-pacing: training begins with no constant action"):
        action_bounds.main()
