"""The search of what an agent's training begins with, for `python -m agents.benchmark --search`.

Each environment has its own command for it: `agents.action_search` for constant actions and for teachers,
`agents.rule_search` and `agents.pace_search` for linear rules, and `agents.pace_eagerness` for one number of the
latter. This is all of them, with their usual budgets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agents import action_search, pace_eagerness, pace_search, rule_search
from agents.baselines import PACING, TUNE, VICTIM, names_of, suite_of
from agents.hyperparameter_files import read_entry
from kml_envs.errors import UserError
from kml_envs.files import write_text

TEACHERS = "teachers.yml"
_NAMES = {VICTIM: "initial_weights", PACING: "initial_rule"}


@dataclass(frozen=True)
class SearchBudget:
    """How long to search.

    Attributes:
        population: Candidates of a generation.
        generations: How many.
        workloads: How many of the training workloads are played; None: those of the command.
    """

    population: int
    generations: int
    workloads: int | None = None


BUDGETS = {
    env_id: SearchBudget(command.POPULATION, command.GENERATIONS)
    for env_id, command in ((TUNE, action_search), (VICTIM, rule_search), (PACING, pace_search))
}
"""By environment, those of its command; the environments of DAMON have `SCORE_BUDGET`."""

SCORE_BUDGET = SearchBudget(action_search.POPULATION, 12)
QUICK_BUDGET = SearchBudget(4, 1, 1)


def budget_of(env_id: str, *, quick: bool = False) -> SearchBudget:
    """How long the start of an environment is searched."""
    return QUICK_BUDGET if quick else BUDGETS.get(env_id, SCORE_BUDGET)


def search_start(env_id: str, algo: str, folder: Path, budget: SearchBudget, seed: int = 0) -> Mapping[str, Any]:
    """Search what a training begins with.

    Args:
        env_id: The environment.
        algo: What is trained with it: whether its hyperparameters imitate teachers.
        folder: Where the teachers go, if it has any.
        budget: How long to search.
        seed: Of the search.

    Returns:
        Hyperparameters that replace those of the file: `policy_kwargs`, whole, and of a training that imitates
        teachers `imitate`, the file with them.

    Raises:
        UserError: The training begins with nothing that could be searched.
    """
    entry, name = read_entry(algo, env_id), _NAMES.get(env_id, "initial_action")
    policy_kwargs = entry.get("policy_kwargs", {})
    if name not in policy_kwargs:
        raise UserError(f"{algo} on {env_id}: its training begins with nothing that could be searched")
    settings = (budget.population, budget.generations, seed)
    training = _some(names_of(env_id, suite_of(env_id, "train")), budget)
    found: Any
    if env_id == VICTIM:
        found = dict(rule_search.search(_some(action_search.WORKLOADS, budget), *settings))
    elif env_id == PACING:
        validation = _some(names_of(env_id, suite_of(env_id, "validation")), budget)
        rule, seeds = pace_search.search(training, *settings), pace_eagerness.SEEDS[: budget.workloads]
        found = dict(pace_eagerness.choose_eagerness(rule, validation, seeds))
    elif env_id == TUNE:
        found = action_search.search_action(_some(action_search.WORKLOADS, budget), *settings)
    else:
        found = action_search.search_score(env_id, training, *settings)
    result: dict[str, Any] = {"policy_kwargs": {**policy_kwargs, name: found}}
    if entry.get("imitate"):
        action_search.search_each(folder / TEACHERS, found, training, *settings)
        result["imitate"] = str((folder / TEACHERS).resolve())
    return result


def write_start(file: Path, start: Mapping[str, Any]) -> None:
    """Write what `search_start` has found as YAML."""
    write_text(file, yaml.safe_dump(dict(start), sort_keys=False))


def read_start(file: Path) -> dict[str, Any]:
    """Read what `write_start` wrote."""
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found


def _some(workloads: Sequence[str], budget: SearchBudget) -> tuple[str, ...]:
    return tuple(workloads)[: budget.workloads]
