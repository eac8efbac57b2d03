"""Print what an environment's action space could reach if the best constant action of each workload were known.

    python -m tools.action_bounds lfs-tune

For each workload of a benchmark suite: the best built-in algorithm, and the best constant action that a search on this
very workload finds, begun at the start of the training and at zero; for `lfs-victim` the best linear rule. The search
plays one other episode than the table. Nothing may be trained on it: it says how much of the way to a goal an agent
could go by telling workloads apart, and how much is not in its action space.
"""

from __future__ import annotations

import numpy as np

from agents import rule_search
from agents.action_search import (
    GENERATIONS,
    NARROW_DEVIATION,
    POPULATION,
    cross_entropy,
    mean_log_cost,
    mean_score_loss,
)
from agents.baselines import VICTIM, ConstantPolicy, Contender, PolicyMaker
from agents.benchmark_results import SuiteResult
from agents.benchmark_suites import SUITES, BenchmarkSuite, find_suite, start_of, start_text
from agents.playing import evaluate
from agents.results import join
from agents.rule_search import RulePolicy
from agents.statistics import FloatArray
from agents.tables import format_table
from kml_envs.command_line import whole_number_from
from kml_envs.errors import OneLineParser, UserError, run_command

SEARCHED = ("initial_action", "initial_weights")
"""Hyperparameters that hold what is searched: a constant action, or a rule of `kml/LfsVictim-v0`."""

LEAST_POPULATION = 3
"""One each for the start, and for what the searches from there and from zero find."""


def best_policy(suite: BenchmarkSuite, workload: str, population: int, generations: int) -> PolicyMaker:
    """What the search finds, as a policy."""
    if suite.env_id == VICTIM:
        rule = RulePolicy(rule_search.search([workload], population, generations, 0, _silent))
        return lambda space: rule
    action = tuple(best_action(suite, workload, population, generations).tolist())
    return lambda space: ConstantPolicy(space, action)


def best_action(suite: BenchmarkSuite, workload: str, population: int, generations: int) -> FloatArray:
    """The best constant action (A,) of a workload that the searches find."""
    found = start_of(suite)
    assert found is not None, "main() has looked"
    start = np.array(found[1], np.float64)
    make_cost = mean_log_cost if suite.measure.ratio else mean_score_loss
    cost = make_cost(suite.env_id, [workload], population)
    actions = np.tile(start, (population, 1))
    for row, begin in enumerate((start, np.zeros_like(start)), start=1):
        actions[row] = cross_entropy(cost, begin, NARROW_DEVIATION, population, generations, 0, _silent)
    return np.asarray(actions[int(np.argmin(cost(actions)))])


def main() -> None:
    """Search, and print the table."""
    parser = OneLineParser(prog="python -m tools.action_bounds", description=__doc__.partition("\n")[0])
    known = [name for name, suite in SUITES.items() if (found := start_of(suite)) and found[0] in SEARCHED]
    parser.add_argument("suite", metavar="SUITE", help=f"one of {', '.join(known)}")
    parser.add_argument("--population", type=whole_number_from(LEAST_POPULATION), default=POPULATION)
    parser.add_argument("--generations", type=whole_number_from(1), default=GENERATIONS)
    arguments = parser.parse_args()
    suite = find_suite(arguments.suite)
    if suite.name not in known:
        raise UserError(f"{suite.name}: training begins with no constant action, accepted are {', '.join(known)}")
    measure, seeds = suite.measure, suite.episode_seeds
    builtins = join([evaluate(builtin, suite.played, seeds) for builtin in suite.builtins])
    names, best = SuiteResult(suite, builtins, {}, {}, {}).best_builtin()
    bounds = np.empty(len(names))
    for place, workload in enumerate(suite.played):
        make_policy = best_policy(suite, workload, arguments.population, arguments.generations)
        played = evaluate(Contender("best", suite.env_id, suite.env_kwargs, make_policy), [workload], seeds)
        bounds[place] = played.metrics[measure.metric].mean()
    values, reached = np.append(best, measure.mean(best)), np.append(bounds, measure.mean(bounds))
    columns = (
        (*suite.played, measure.average),
        (*names, "of each workload"),
        map(measure.value_text, values),
        map(measure.value_text, reached),
        map(measure.change_text, measure.change(reached, values)),
    )
    header = ["workload", "best built-in", "its value", f"best {start_text(suite)}", "against the built-in"]
    print(f"{suite.name}: {measure.title}, {len(seeds)} episodes a workload\n")
    print(format_table(header, list(zip(*columns, strict=True))))


def _silent(generation: int, cost: float) -> None:
    """Print nothing of a search."""


if __name__ == "__main__":
    run_command(main)
