"""Print what an environment's action space could reach if the best constant action of each workload were known.

    python -m tools.action_bounds lfs-tune

For each workload of a benchmark suite: the best built-in algorithm, and the best constant action that a search on this
very workload finds, begun at the start of the training and at zero; for `lfs-victim` the best linear rule. The search
plays one other episode than the table. Nothing may be trained on it: it says how much of the way to a goal an agent
could go by telling workloads apart, and how much is not in its action space.
"""

from __future__ import annotations

from typing import Any

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
from agents.benchmark_suites import SUITES, BenchmarkSuite, find_suite, start_text
from agents.hyperparameter_files import read_entry
from agents.playing import evaluate
from agents.rule_search import RulePolicy
from agents.statistics import FloatArray
from agents.tables import format_table
from kml_envs.errors import OneLineParser, UserError, run_command


def best_policy(suite: BenchmarkSuite, workload: str, population: int, generations: int) -> PolicyMaker:
    """What the search finds, as a policy."""
    if suite.env_id == VICTIM:
        rule = RulePolicy(rule_search.search([workload], population, generations, 0, _silent))
        return lambda space: rule
    action = tuple(best_action(suite, workload, population, generations).tolist())
    return lambda space: ConstantPolicy(space, action)


def best_action(suite: BenchmarkSuite, workload: str, population: int, generations: int) -> FloatArray:
    """The best constant action (A,) of a workload that the searches find."""
    start = np.array(_start(suite), np.float64)
    make_cost = mean_log_cost if suite.measure.ratio else mean_score_loss
    cost = make_cost(suite.env_id, [workload], population)
    found = [
        cross_entropy(cost, begin, NARROW_DEVIATION, population, generations, 0, _silent)
        for begin in (start, np.zeros_like(start))
    ]
    ends = np.tile(start, (population, 1))
    ends[1 : 1 + len(found)] = found
    return np.asarray(ends[int(np.argmin(cost(ends)))])


def value(suite: BenchmarkSuite, contender: Contender, workload: str) -> float:
    """The suite's measure of a policy on a workload."""
    played = evaluate(contender, [workload], suite.episode_seeds)
    if suite.measure.metric == "write_amplification":
        return float(played.write_amplification[0, 0])
    return float(played.metrics[suite.measure.metric].mean())


def main() -> None:
    """Search, and print the table line by line."""
    parser = OneLineParser(prog="python -m tools.action_bounds", description=__doc__.partition("\n")[0])
    known = [name for name, suite in SUITES.items() if suite.env_id == VICTIM or _start(suite) is not None]
    parser.add_argument("suite", metavar="SUITE", help=f"one of {', '.join(known)}")
    parser.add_argument("--population", type=int, default=POPULATION)
    parser.add_argument("--generations", type=int, default=GENERATIONS)
    arguments = parser.parse_args()
    suite = find_suite(arguments.suite)
    if suite.name not in known:
        raise UserError(f"{suite.name}: training begins with no constant action, accepted are {', '.join(known)}")
    measure, values = suite.measure, []
    rows = []
    for workload in suite.played:
        builtins = {each.name: value(suite, each, workload) for each in suite.builtins}
        best = list(builtins)[int(measure.best(np.array(list(builtins.values()))[:, None])[0])]
        found = Contender(
            "best",
            suite.env_id,
            suite.env_kwargs,
            best_policy(suite, workload, arguments.population, arguments.generations),
        )
        values.append((builtins[best], value(suite, found, workload)))
        rows.append([workload, best, *_cells(suite, *values[-1])])
    means = measure.mean(np.array(values).T)
    rows.append([measure.average, "of each workload", *_cells(suite, float(means[0]), float(means[1]))])
    header = ["workload", "best built-in", "its value", f"best {start_text(suite)}", "against the built-in"]
    print(f"{suite.name}: {measure.title}, {len(suite.episode_seeds)} episodes a workload\n")
    print(format_table(header, rows))


def _cells(suite: BenchmarkSuite, builtin: float, constant: float) -> list[str]:
    measure = suite.measure
    change = float(measure.change(np.array(constant), np.array(builtin)))
    return [measure.value_text(builtin), measure.value_text(constant), measure.change_text(change)]


def _silent(generation: int, cost: float) -> None:
    """Print nothing of a search."""


def _start(suite: BenchmarkSuite) -> list[float] | None:
    """The constant action that training begins with."""
    arguments: dict[str, Any] = read_entry(suite.algo, suite.env_id).get("policy_kwargs", {})
    return arguments.get("initial_action")


if __name__ == "__main__":
    run_command(main)
