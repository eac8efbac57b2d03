"""How eagerly a pacing rule should clean in the background: stalls against write amplification.

    python -m agents.pace_eagerness

The objective of `kml/LfsPacing-v0` has a price for moved blocks, at which a search takes most of what it gains as fewer
of them. What is wanted is as little waiting as possible at no more moved blocks than the built-in algorithm's. So one
number of the rule is chosen by that: its background bias, from which it follows up to how many free sections it cleans
ahead. Chosen is the largest with which write amplification stays `MARGIN` below the built-in algorithm's on the
validation workloads; the margin is for workloads that are not like them. The command prints what other biases do.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import torch

from agents.baselines import PACING, Contender, builtin_contender, names_of, suite_of
from agents.hyperparameter_files import read_entry
from agents.pace_search import RulePolicy
from agents.pacing_tables import change, geometric_tail
from agents.playing import evaluate_together
from agents.statistics import geometric_mean
from agents.tables import format_table
from kml_envs.command_line import whole_number_from
from kml_envs.errors import OneLineParser, run_command

EAGERNESS = "background_bias"
MARGIN = 0.1
STEP, STEPS, MOST_STEPS = 0.05, 3, 12
SEEDS = (1, 2, 3, 4, 5)

Rule = Mapping[str, float]


class Effect(NamedTuple):
    """What a rule does, as ratios to the built-in algorithm.

    Attributes:
        stall: Time that writes were blocked, in all.
        tail: p99.9 of the write latencies, in geometric mean.
        write_amplification: In geometric mean.
    """

    stall: float
    tail: float
    write_amplification: float


def main() -> None:
    """Parse the command line and print the table."""
    parser = OneLineParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workload", nargs="+", metavar="NAME", help="workloads or suites (default: validation)")
    parser.add_argument("--seeds", nargs="+", type=whole_number_from(0), default=SEEDS, help="of the episodes")
    parser.add_argument("--steps", type=whole_number_from(0), default=STEPS, help=f"of {STEP}, to either side")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rule = read_entry("ppo", PACING)["policy_kwargs"]["initial_rule"]
    effects = Effects(names_of(PACING, arguments.workload or suite_of(PACING, "validation")), arguments.seeds)
    body = []
    for step in range(-arguments.steps, arguments.steps + 1):
        eager = with_bias(rule, step)
        body.append([f"{eager[EAGERNESS]:.2f}", *(change(ratio) for ratio in effects.of(eager))])
    print(format_table([EAGERNESS.replace("_", " "), "stall time", "p99.9", "write amplification"], body))


class Effects:
    """Plays rules and the built-in algorithm on the same episodes."""

    def __init__(
        self, workloads: Sequence[str], seeds: Sequence[int], env_kwargs: Mapping[str, Any] | None = None
    ) -> None:
        """Play the built-in algorithm: one episode from every seed on every workload."""
        self._workloads, self._seeds, self._env_kwargs = workloads, seeds, env_kwargs or {}
        self._builtin = self._play(builtin_contender("f2fs", PACING, self._env_kwargs))

    def of(self, rule: Rule) -> Effect:
        """Play a rule."""
        own = self._play(Contender("rule", PACING, self._env_kwargs, functools.partial(_make_rule, rule)))
        return Effect(*(mine / theirs for mine, theirs in zip(own, self._builtin, strict=True)))

    def _play(self, contender: Contender) -> tuple[float, float, float]:
        """What an `Effect` is a ratio of."""
        told = evaluate_together(contender, self._workloads, self._seeds).metrics
        amplification = geometric_mean(told["write_amplification"].ravel())
        return float(told["stall_ms"].sum()), geometric_tail(told["latency_p999_ms"]), float(amplification)


def choose_eagerness(rule: Rule, workloads: Sequence[str], seeds: Sequence[int] = SEEDS) -> Rule:
    """The rule with the largest background bias, from its own on, that keeps the margin; else the rule itself.

    Args:
        rule: What `agents.pace_search` has found.
        workloads: Names, of validation workloads.
        seeds: Of the episodes, one on every workload.
    """
    effects, chosen = Effects(workloads, seeds), rule
    for step in range(1, MOST_STEPS + 1):
        eager = with_bias(rule, step)
        if effects.of(eager).write_amplification > 1.0 - MARGIN:
            break
        chosen = eager
    return chosen


def with_bias(rule: Rule, step: int) -> dict[str, float]:
    """The rule, so many steps more eager."""
    return {**rule, EAGERNESS: round(rule.get(EAGERNESS, 0.0) + step * STEP, 2)}


def _make_rule(numbers: Rule, space: gymnasium.Space[Any]) -> RulePolicy:
    return RulePolicy(numbers)


if __name__ == "__main__":
    run_command(main)
