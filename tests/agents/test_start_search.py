"""The searches of what trainings begin with, as units of a benchmark: they find what hyperparameter files hold."""

import pytest

from agents import action_search, pace_search, rule_search
from agents.action_search import read_actions
from agents.baselines import PACING, TUNE, VICTIM
from agents.damon_environments import TIER
from agents.hyperparameter_files import constructor_arguments, read_entry, run_settings
from agents.pacing_policy import RULE_NUMBERS
from agents.start_search import QUICK_BUDGET, budget_of, read_start, search_start, write_start
from kml_envs.errors import UserError
from kml_envs.lfs.observation import CANDIDATE_FEATURES


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Short episodes."""
    monkeypatch.setattr("agents.action_search.EPISODE_VOLUMES", 0.2)
    monkeypatch.setattr("agents.rule_search.EPISODE_VOLUMES", 0.05)
    monkeypatch.setattr("agents.pace_search.EPISODE_VOLUMES", 0.02)


@pytest.mark.parametrize(
    ("env_id", "algo", "name"),
    [
        (TUNE, "ppo", "initial_action"),
        (VICTIM, "ppo_mask", "initial_weights"),
        (PACING, "ppo", "initial_rule"),
        (TIER, "ppo", "initial_action"),
    ],
)
def test_a_search_finds_what_a_hyperparameter_file_holds(env_id, algo, name, tmp_path):
    entry = read_entry(algo, env_id)
    found = search_start(env_id, algo, tmp_path, QUICK_BUDGET)
    write_start(tmp_path / "start.yml", found)
    assert read_start(tmp_path / "start.yml") == found
    shipped, start = entry["policy_kwargs"], found["policy_kwargs"]
    assert start.keys() == shipped.keys() and {**start, name: None} == {**shipped, name: None}
    if name == "initial_action":
        assert len(start[name]) == len(shipped[name]) and all(-1.0 <= number <= 1.0 for number in start[name])
    else:
        assert set(start[name]) <= set(CANDIDATE_FEATURES if env_id == VICTIM else RULE_NUMBERS)
    constructor_arguments(run_settings({**entry, **found}).model)
    assert ("imitate" in found) == bool(entry.get("imitate"))
    if env_id == TUNE:
        [(workload, action)] = read_actions(tmp_path / "teachers.yml").items()
        assert workload in ("hot-cold-0.55-0.45",) and len(action) == len(start[name])
        assert run_settings({**entry, **found}).imitate == str(tmp_path / "teachers.yml")


def test_budgets_are_those_of_the_commands():
    assert (budget_of(TUNE).population, budget_of(TUNE).generations) == (24, 14)
    assert budget_of(TIER).workloads is None and budget_of(TIER, quick=True) == QUICK_BUDGET


@pytest.mark.parametrize("search", [action_search, pace_search, rule_search])
def test_numbers_that_make_no_search_are_told_in_one_line(search, monkeypatch):
    for words, reason in (
        (["--seed", "-1"], "--seed: '-1' must be a whole number from 0 on"),
        (["--generations", "0"], "must be a whole number from 1 on"),
        (["--population", "x"], "must be a whole number from 1 on"),
    ):
        monkeypatch.setattr("sys.argv", ["search", *words])
        with pytest.raises(UserError, match=reason):
            search.main()


def test_actions_that_cannot_be_written_are_not_searched(monkeypatch, tmp_path):
    monkeypatch.setattr(action_search, "search_each", lambda *_: pytest.fail("something was searched"))
    monkeypatch.setattr("sys.argv", ["search", "--each", str(tmp_path)])
    with pytest.raises(UserError, match=r"--each .* is a folder"):
        action_search.main()
