"""How eagerly a pacing rule should clean in the background: stalls against write amplification.

    python -m agents.pace_eagerness

The objective of `kml/LfsPacing-v0` has a price for moved blocks, at which a search takes most of what it gains as fewer
of them. What is wanted is as little waiting as possible at no more moved blocks than the built-in algorithm's. So one
number of the rule is chosen by that: its background bias, from which it follows up to how many free sections it cleans
ahead. The table has the rule of the hyperparameter file with other biases, on the validation workloads, against the
built-in algorithm.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import torch

from agents.baselines import PACING, Contender, builtin_contender, names_of, suite_of
from agents.hyperparameter_files import read_entry
from agents.pace_search import RulePolicy
from agents.pacing_tables import change, geometric_tail
from agents.playing import evaluate_together
from agents.results import Evaluation
from agents.tables import format_table
from kml_envs.command_line import whole_number_from
from kml_envs.errors import OneLineParser, run_command

EAGERNESS = "background_bias"
STEP, STEPS = 0.05, 3
SEEDS = (1, 2, 3, 4, 5)


def main() -> None:
    """Parse the command line and print the table."""
    parser = OneLineParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workload", nargs="+", metavar="NAME", help="workloads or suites (default: validation)")
    parser.add_argument("--seeds", nargs="+", type=whole_number_from(0), default=SEEDS, help="of the episodes")
    parser.add_argument("--steps", type=whole_number_from(0), default=STEPS, help=f"of {STEP}, to either side")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    workloads = names_of(PACING, arguments.workload or suite_of(PACING, "validation"))
    print(eagerness_table(workloads, arguments.seeds, arguments.steps))


def eagerness_table(workloads: Sequence[str], seeds: Sequence[int], steps: int) -> str:
    """One row for each bias: changes against the built-in algorithm.

    Args:
        workloads: Names.
        seeds: Of the episodes, one on every workload.
        steps: How many steps of the bias to either side of the rule's own.
    """
    rule = read_entry("ppo", PACING)["policy_kwargs"]["initial_rule"]
    builtin = evaluate_together(builtin_contender("f2fs", PACING, {}), workloads, seeds)
    body = []
    for step in range(-steps, steps + 1):
        bias = round(rule[EAGERNESS] + step * STEP, 2)
        make_rule = functools.partial(_make_rule, {**rule, EAGERNESS: bias})
        played = evaluate_together(Contender("rule", PACING, {}, make_rule), workloads, seeds)
        body.append([f"{bias:.2f}", *_changes(played, builtin)])
    return format_table([EAGERNESS.replace("_", " "), "stall time", "p99.9", "write amplification"], body)


def _make_rule(numbers: Mapping[str, float], space: gymnasium.Space[Any]) -> RulePolicy:
    return RulePolicy(numbers)


def _changes(played: Evaluation, builtin: Evaluation) -> list[str]:
    """Stall time in all; p99.9 and write amplification in geometric mean."""
    own, other = (
        (
            float(results.metrics["stall_ms"].sum()),
            geometric_tail(results.metrics["latency_p999_ms"]),
            geometric_tail(results.metrics["write_amplification"]),
        )
        for results in (played, builtin)
    )
    return [change(mine / theirs) for mine, theirs in zip(own, other, strict=True)]


if __name__ == "__main__":
    run_command(main)
