"""Search for the best constant action of a continuous environment on training workloads, by the cross-entropy method.

    python -m agents.action_search --seed 0

Prints each generation, and at the end the action to put into `initial_action` of a hyperparameter file. Rubinstein and
Kroese 2004: draw actions from a Gaussian, keep the best quarter, fit the Gaussian to them, repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from agents.playing import make_environment
from kml_envs.errors import OneLineParser, run_command

FloatArray = npt.NDArray[np.float64]

ENVIRONMENT = "kml/LfsTune-v0"
EPISODE_VOLUMES = 3.0
EPISODE_SEED = 5
WORKLOADS = (
    "hot-cold-0.55-0.45",
    "hot-cold-0.85-0.15",
    "hot-cold-0.97-0.03",
    "zipf-0.4",
    "zipf-0.9",
    "zipf-1.1",
    "circular-log-0.3-0.05",
    "shifting-skew",
    "shifting-hot-spots",
    "sqlite-rollback-journal",
    "mariadb-sysbench",
    "git-commits",
)
SMOOTHING = 0.7  # share of the new fit in the next Gaussian
LEAST_DEVIATION = 0.02


def main() -> None:
    """Parse the command line and search."""
    parser = OneLineParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--generations", type=int, default=12)
    parser.add_argument("--population", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cost = mean_log_cost(ENVIRONMENT, WORKLOADS, arguments.population)
    print(f"zero action (greedy): write amplification {np.exp(cost(np.zeros((arguments.population, 9)))[0]):.3f}")
    action = cross_entropy(cost, 9, arguments.population, arguments.generations, arguments.seed, report)
    print("initial_action: [" + ", ".join(f"{number:.2f}" for number in action) + "]")


def report(generation: int, cost: float) -> None:
    """Print one generation: geometric mean of the write amplification under the Gaussian's mean."""
    print(f"generation {generation:3}: write amplification {np.exp(cost):.4f}", flush=True)


def cross_entropy(
    cost: Callable[[FloatArray], FloatArray],
    numbers: int,
    population: int,
    generations: int,
    seed: int,
    tell: Callable[[int, float], None],
) -> FloatArray:
    """Minimize a function of numbers in [-1, 1].

    Args:
        cost: Costs (population,) of actions (population, numbers); the first of them is the Gaussian's mean.
        numbers: How many numbers an action has.
        population: Actions of a generation.
        generations: How many generations.
        seed: Of the draws.
        tell: Called with the generation and the cost of the Gaussian's mean.

    Returns:
        (numbers,) the mean of the last Gaussian.
    """
    rng = np.random.default_rng(seed)
    mean, deviation = np.zeros(numbers), np.full(numbers, 0.4)
    for generation in range(generations):
        actions = np.clip(rng.normal(mean, deviation, (population, numbers)), -1.0, 1.0)
        actions[0] = mean
        costs = cost(actions)
        tell(generation, float(costs[0]))
        best = actions[np.argsort(costs)[: max(2, population // 4)]]
        mean = (1 - SMOOTHING) * mean + SMOOTHING * best.mean(axis=0)
        deviation = (1 - SMOOTHING) * deviation + SMOOTHING * (best.std(axis=0) + LEAST_DEVIATION)
    return np.asarray(np.clip(mean, -1.0, 1.0))


def mean_log_cost(env_id: str, workloads: Sequence[str], population: int) -> Callable[[FloatArray], FloatArray]:
    """The logarithm of the write amplification under constant actions, mean over workloads, on the same episode each.

    Args:
        env_id: An environment with a Box of actions.
        workloads: Names.
        population: Actions that are played side by side.

    Returns:
        Costs (population,) of actions (population, A).
    """
    arguments = {"episode_volumes": EPISODE_VOLUMES}
    environments = [make_environment(env_id, arguments, workload, population) for workload in workloads]

    def cost(actions: FloatArray) -> FloatArray:
        total = np.zeros(population)
        for environment in environments:
            seeds: list[int] = [EPISODE_SEED] * population
            environment.reset(seed=seeds)  # type: ignore[arg-type]
            finished = np.zeros(population, np.bool_)
            while not finished.all():
                _, _, _, finished, infos = environment.step(actions.astype(np.float32))
            total += np.log(np.asarray(infos["write_amplification"], np.float64))
        return total / len(environments)

    return cost


if __name__ == "__main__":
    run_command(main)
