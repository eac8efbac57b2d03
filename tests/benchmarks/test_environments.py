"""What the benchmark of the environments does beside measuring."""

import sys
from types import SimpleNamespace

import environments
import gymnasium
import numpy as np
import pytest
import training


def test_actions_fit_the_space():
    box = gymnasium.spaces.Box(-1.0, 1.0, (12,), np.float32)
    for batch in environments.some_actions(SimpleNamespace(single_action_space=box), 5):
        assert batch.shape == (5, 12) and all(action in box for action in batch)
    choice = gymnasium.spaces.Discrete(32)
    for batch in environments.some_actions(SimpleNamespace(single_action_space=choice), 5):
        assert batch.shape == (5,) and all(action in choice for action in batch)


@pytest.mark.parametrize("benchmark", [environments, training])
def test_help_measures_nothing(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--help"])
    with pytest.raises(SystemExit) as exited:
        benchmark.main()
    assert exited.value.code == 0
    assert "Prints a table" in capsys.readouterr().out
