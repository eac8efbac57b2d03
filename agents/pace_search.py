"""Search for the best linear rule of `kml/LfsPacing-v0` on training workloads, by the cross-entropy method.

    python -m agents.pace_search

Prints each generation, and at the end the `initial_rule` to put into a hyperparameter file, where the pacing policy
begins. A rule is what `agents.pacing_policy.rule_parts` makes of its numbers, whatever the workload;
`python evaluate.py --policy rule --env kml/LfsPacing-v0` plays the one in that file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from agents.action_search import DEVIATION, EPISODE_SEED, cross_entropy
from agents.baselines import PACING, Array, State, suite_of
from agents.hyperparameter_files import read_entry
from agents.pacing_policy import BUILTIN_SCORE, RULE_NUMBERS, rule_parts, rule_vector, scores_of_choices
from agents.vector_env import make_native_env
from kml_envs.command_line import whole_number_from
from kml_envs.errors import OneLineParser, run_command
from kml_envs.suites import workload_names

FloatArray = npt.NDArray[np.float64]

POPULATION, GENERATIONS = 24, 16  # unless asked for others
EPISODE_VOLUMES = 1.0
START = {
    # Greedy; in the background up to eight sections above the reserve, while a write waits from two down.
    "victim_valid_share": -1.0,
    "background_bias": 0.5,
    "background_free_sections": -1.0,
    "foreground_bias": 0.3,
    "foreground_free_sections": -1.0,
}


def main() -> None:
    """Parse the command line and search."""
    parser = OneLineParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--generations", type=whole_number_from(1), default=GENERATIONS)
    parser.add_argument("--population", type=whole_number_from(1), default=POPULATION)
    parser.add_argument("--seed", type=whole_number_from(0), default=0)
    parser.add_argument("--workload", nargs="+", metavar="NAME", help="training workloads (default: all)")
    parser.add_argument("--move-price-us", type=float, help="price of a moved block (default: the environment's)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    workloads = arguments.workload or workload_names(suite_of(PACING, "train"))
    settings = (arguments.population, arguments.generations, arguments.seed)
    numbers = search(workloads, *settings, move_price_us=arguments.move_price_us)
    print("initial_rule: {" + ", ".join(f"{name}: {number}" for name, number in numbers.items()) + "}")


def search(
    workloads: Sequence[str], population: int, generations: int, seed: int, *, move_price_us: float | None = None
) -> Mapping[str, float]:
    """Search the rule for all of some workloads: `initial_rule` of a hyperparameter file, with two decimals."""
    cost = mean_log_cost(workloads, population, move_price_us)
    start = rule_vector(START).numpy().astype(np.float64)
    found = cross_entropy(cost, start, DEVIATION / 2, population, generations, seed, report)
    numbers = {name: round(float(number), 2) for name, number in zip(RULE_NUMBERS, found, strict=True)}
    return {name: number for name, number in numbers.items() if number}


def report(generation: int, cost: float) -> None:
    """Print one generation: geometric mean of the cost under the Gaussian's mean."""
    print(f"generation {generation:3}: cost of an episode {np.exp(cost) / 1000:.3f} s", flush=True)


def mean_log_cost(
    workloads: Sequence[str], population: int, move_price_us: float | None = None
) -> Callable[[FloatArray], FloatArray]:
    """The logarithm of cost and device time of the user's writes under rules, mean over workloads.

    Args:
        workloads: Names.
        population: Rules that are played side by side, on the same episode of each workload.
        move_price_us: Price of a moved block, in microseconds; None: the environment's.

    Returns:
        Costs (population,) of rules (population, P), in the order of RULE_NUMBERS.
    """
    # All workloads are played side by side too: there are ten thousand decisions in an episode, and few rules.
    arguments: dict[str, Any] = {"workloads": list(workloads), "episode_volumes": EPISODE_VOLUMES}
    arguments |= {"efficiency": "none", "move_price_us": move_price_us}
    rows = len(workloads) * population
    environment = make_native_env(PACING, rows, {**arguments, "autoreset_mode": "disabled"})
    seeds: Any = [EPISODE_SEED] * rows  # Gymnasium's annotation knows only one seed for all rows

    def cost(rules: FloatArray) -> FloatArray:
        for place, workload in enumerate(workloads):
            mask = np.arange(rows) // population == place
            seen, _ = environment.reset(seed=seeds, options={"workload": workload, "reset_mask": mask})
        acting = np.tile(rules, (len(workloads), 1))
        finished = np.zeros(rows, np.bool_)
        infos: dict[str, Any] = {}
        while not finished.all():
            seen, _, _, finished, infos = environment.step(choose(seen, acting))
        paid: FloatArray = np.log(np.asarray(infos["cost_ms"] + infos["user_ms"], np.float64))
        return np.asarray(paid.reshape(len(workloads), population).mean(axis=0))

    return cost


def choose(observations: npt.NDArray[np.float32], rules: FloatArray) -> npt.NDArray[np.int64]:
    """(N,) choices of the rules (N, P) from observations (N, 75)."""
    seen = torch.from_numpy(observations)
    parts = rule_parts(seen, torch.from_numpy(rules.astype(np.float32)))
    scores = scores_of_choices(seen, torch.full((len(seen),), BUILTIN_SCORE), *parts)
    chosen: npt.NDArray[np.int64] = scores.argmax(dim=1).numpy()
    return chosen


class RulePolicy:
    """The linear rule that training begins with: `evaluate.py --policy rule`."""

    def __init__(self, numbers: Mapping[str, float] | None = None) -> None:
        """Recommend by a rule; None: the one in the hyperparameters."""
        given = read_entry("ppo", PACING)["policy_kwargs"]["initial_rule"] if numbers is None else numbers
        self._rule = rule_vector(given).numpy().astype(np.float64)

    def predict(
        self,
        observation: Array,
        state: State = None,
        episode_start: Array | None = None,
        deterministic: bool = True,
    ) -> tuple[Array, State]:
        """Choices (N,) from observations (N, 75)."""
        return choose(observation, np.tile(self._rule, (len(observation), 1))), state


if __name__ == "__main__":
    run_command(main)
