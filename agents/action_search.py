"""Search for the best constant actions of a continuous environment on training workloads, by the cross-entropy method.

    python -m agents.action_search                                       # one action for all
    python -m agents.action_search --each agents/teachers/LfsTune-v0.yml # and one for each training workload
    python -m agents.action_search --env kml/DamonMonitor-v0             # by the score, for an environment of DAMON
    python -m agents.action_search --hold interval_ratio                 # with numbers that stay zero

Prints each generation, and at the end the action to put into `initial_action` of a hyperparameter file. Rubinstein and
Kroese 2004: draw actions from a Gaussian, keep the best quarter, fit the Gaussian to them, repeat. The Gaussian is
diagonal: the method stands in for CMA-ES, which would learn correlations between the numbers too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from agents.baselines import names_of, suite_of
from agents.damon_environments import DAMON_ENVIRONMENTS
from agents.hyperparameter_files import read_entry
from agents.playing import make_environment
from kml_envs.command_line import whole_number_from
from kml_envs.errors import OneLineParser, UserError, run_command, unknown_name
from kml_envs.files import check_writable, write_text
from kml_envs.lfs.tune import ACTION_NAMES
from kml_envs.suites import workload_names

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

ENVIRONMENT = "kml/LfsTune-v0"
NUMBERS = len(ACTION_NAMES)
POPULATION, GENERATIONS = 24, 14  # unless asked for others
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
DEVIATION, NARROW_DEVIATION = 0.4, 0.25  # of the first Gaussian, without and with a start
DISTANCE_COST = 0.01  # an action of one workload is worth a distance from that of all: what does not matter stays equal
USER_BLOCKS_TOGETHER = {"age_times_valid_share": -0.3, "user_interval_scale": 0.2}  # a second place to begin


def main() -> None:
    """Parse the command line and search."""
    parser = OneLineParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--generations", type=whole_number_from(1), default=GENERATIONS)
    parser.add_argument("--population", type=whole_number_from(1), default=POPULATION)
    parser.add_argument("--seed", type=whole_number_from(0), default=0)
    parser.add_argument(
        "--each", type=Path, metavar="FILE", help="search an action for each training workload, near `initial_action`"
    )
    parser.add_argument(
        "--hold",
        nargs="+",
        default=[],
        metavar="NAME",
        help="numbers of the action that stay zero, as in fewer numbers",
    )
    parser.add_argument("--env", default=ENVIRONMENT, help="an environment of DAMON, or %(default)s (the default)")
    arguments = parser.parse_args()
    settings = (arguments.population, arguments.generations, arguments.seed)
    if arguments.hold and (arguments.each is not None or arguments.env != ENVIRONMENT):
        raise UserError(f"--hold: goes with the search of one action for {ENVIRONMENT} only, without --each")
    if arguments.env != ENVIRONMENT:
        if arguments.each is not None or arguments.env not in DAMON_ENVIRONMENTS:
            raise UserError(
                f"--env {arguments.env}: one of {', '.join(DAMON_ENVIRONMENTS)} is accepted, without --each"
            )
        action = search_score(arguments.env, names_of(arguments.env, suite_of(arguments.env, "train")), *settings)
    elif arguments.each is not None:
        check_writable(arguments.each, "--each")
        common = read_entry("ppo", ENVIRONMENT)["policy_kwargs"]["initial_action"]
        search_each(arguments.each, common, workload_names("train"), *settings)
        return
    else:
        action = search_action(WORKLOADS, *settings, arguments.hold)
    print(f"initial_action: {_text(action)}")


def search_action(
    workloads: Sequence[str], population: int, generations: int, seed: int, held: Sequence[str] = ()
) -> list[float]:
    """Search an action of `kml/LfsTune-v0` for all of some workloads, with two decimals; `held` numbers stay zero."""
    free = free_numbers(held)
    cost = mean_log_cost(ENVIRONMENT, workloads, population)
    zero = np.exp(cost(np.zeros((population, NUMBERS)))[0])
    print(f"zero action: write amplification {zero:.3f}")
    found = cross_entropy(
        lambda numbers: cost(with_zeros(numbers, free)),
        np.zeros(free.size),
        DEVIATION,
        population,
        generations,
        seed,
        report,
    )
    return _rounded(with_zeros(found[None], free)[0])


def free_numbers(held: Sequence[str]) -> npt.NDArray[np.int64]:
    """Places (F,) of the numbers of an action of `kml/LfsTune-v0` that are searched.

    Args:
        held: Names of the others, which stay zero.

    Raises:
        UserError: There is no such number, or none would be left.
    """
    for name in held:
        if name not in ACTION_NAMES:
            raise unknown_name("number of the action", name, ACTION_NAMES)
    free = [place for place, name in enumerate(ACTION_NAMES) if name not in held]
    if not free:
        raise UserError("--hold: at least one number must be left to search")
    return np.array(free)


def with_zeros(numbers: FloatArray, free: npt.NDArray[np.int64]) -> FloatArray:
    """Whole actions (population, A) from the numbers (population, F) in the places (F,); zero elsewhere."""
    actions = np.zeros((len(numbers), NUMBERS))
    actions[:, free] = numbers
    return actions


def report(generation: int, cost: float) -> None:
    """Print one generation: geometric mean of the write amplification under the Gaussian's mean."""
    print(f"generation {generation:3}: write amplification {np.exp(cost):.4f}", flush=True)


def search_score(env_id: str, workloads: Sequence[str], population: int, generations: int, seed: int) -> list[float]:
    """Search an action for all of some workloads of an environment of DAMON, by the score, with two decimals."""
    space = make_environment(env_id, {}, workloads[0], 1).single_action_space
    assert space.shape is not None
    cost = mean_score_loss(env_id, workloads, population)
    action = cross_entropy(
        cost,
        np.zeros(space.shape),
        DEVIATION,
        population,
        generations,
        seed,
        lambda generation, loss: print(f"generation {generation:3}: score {-loss:.4f}", flush=True),
    )
    return _rounded(action)


def search_each(
    file: Path, start: Sequence[float], workloads: Sequence[str], population: int, generations: int, seed: int
) -> None:
    """Search an action of `kml/LfsTune-v0` for each workload, and write them into a YAML file, a line each.

    The search begins at an action for all of them, and again where user blocks are not split; the better end is kept.
    """
    common = np.array(start, np.float64)
    together = common.copy()
    for name, number in USER_BLOCKS_TOGETHER.items():
        together[ACTION_NAMES.index(name)] = number
    lines = []
    for workload in workloads:
        cost = _near(common, mean_log_cost(ENVIRONMENT, [workload], population))
        found = [
            cross_entropy(cost, start, NARROW_DEVIATION, population, generations, seed, lambda *_: None)
            for start in (common, together)
        ]
        ends = np.tile(common, (population, 1))
        ends[: len(found)] = found
        costs = cost(ends)
        best = found[int(np.argmin(costs[: len(found)]))]
        lines.append(f"{workload}: {_text(_rounded(best))}")
        print(f"{workload}: write amplification {np.exp(costs[-1]):.3f} -> {np.exp(costs[:2].min()):.3f}", flush=True)
    write_text(file, "\n".join([f"# Written by python -m agents.action_search --each {file}", *lines, ""]))


def read_actions(file: Path) -> dict[str, FloatArray]:
    """Actions by workload, as `search_each` writes them.

    Raises:
        UserError: The file holds something else.
    """
    try:
        found = {name: np.array(action, np.float64) for name, action in yaml.safe_load(file.read_text()).items()}
    except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError):
        raise UserError(f"{file}: holds no actions by workload, such as zipf-0.9: [0.1, -0.2]") from None
    return found


def cross_entropy(
    cost: Callable[[FloatArray], FloatArray],
    start: FloatArray,
    spread: float,
    population: int,
    generations: int,
    seed: int,
    tell: Callable[[int, float], None],
) -> FloatArray:
    """Minimize a function of numbers in [-1, 1].

    Args:
        cost: Costs (population,) of actions (population, numbers); the first of them is the Gaussian's mean.
        start: (numbers,) mean of the first Gaussian.
        spread: Its standard deviation.
        population: Actions of a generation.
        generations: How many generations.
        seed: Of the draws.
        tell: Called with the generation and the cost of the Gaussian's mean.

    Returns:
        (numbers,) the mean of the last Gaussian.
    """
    rng = np.random.default_rng(seed)
    mean, deviation = start.copy(), np.full(start.size, spread)
    for generation in range(generations):
        actions = np.clip(rng.normal(mean, deviation, (population, start.size)), -1.0, 1.0)
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
    return mean_loss(env_id, arguments, workloads, population, log_write_amplification)


def mean_score_loss(env_id: str, workloads: Sequence[str], population: int) -> Callable[[FloatArray], FloatArray]:
    """`mean_log_cost` for environments with a score: minus the score, mean over workloads."""
    return mean_loss(
        env_id, {}, workloads, population, lambda infos, ended: -np.asarray(infos["score"], np.float64)[ended]
    )


def log_write_amplification(infos: Mapping[str, Any], ended: BoolArray) -> FloatArray:
    """Losses of the rows whose episodes have ended, from the infos of that step."""
    return np.asarray(np.log(np.asarray(infos["write_amplification"], np.float64)[ended]))


def mean_loss(
    env_id: str,
    arguments: Mapping[str, Any],
    workloads: Sequence[str],
    population: int,
    loss: Callable[[Mapping[str, Any], BoolArray], FloatArray],
    act: Callable[[npt.NDArray[np.float32], FloatArray], npt.NDArray[Any]] = lambda seen, numbers: numbers.astype(
        np.float32
    ),
) -> Callable[[FloatArray], FloatArray]:
    """What numbers cost that stay the same for an episode, mean over workloads, on the same episode each.

    Args:
        env_id: The environment.
        arguments: Its arguments, but for the workload.
        workloads: Names.
        population: Sets of numbers that are played side by side.
        loss: Losses from the infos of a step that ends episodes, of the rows (population,) bool in which it does.
        act: Actions from what is seen (population, F) and the numbers; by default they are the actions.

    Returns:
        Costs (population,) of numbers (population, any).
    """
    environments = [make_environment(env_id, arguments, workload, population) for workload in workloads]

    def cost(numbers: FloatArray) -> FloatArray:
        total = np.zeros(population)
        for environment in environments:
            seeds: Any = [EPISODE_SEED] * population  # Gymnasium's annotation knows only one seed for all rows
            seen, _ = environment.reset(seed=seeds)
            found = np.full(population, np.nan)
            while np.isnan(found).any():
                seen, _, _, finished, infos = environment.step(act(seen, numbers))
                if finished.any():
                    ended = finished & np.isnan(found)
                    found[ended] = loss(infos, ended)
            total += found
        return total / len(environments)

    return cost


def _near(common: FloatArray, cost: Callable[[FloatArray], FloatArray]) -> Callable[[FloatArray], FloatArray]:
    return lambda actions: cost(actions) + DISTANCE_COST * ((actions - common) ** 2).sum(axis=1)


def _rounded(action: FloatArray) -> list[float]:
    return [round(float(number), 2) for number in action]


def _text(action: Sequence[float]) -> str:
    return "[" + ", ".join(f"{number:.2f}" for number in action) + "]"


if __name__ == "__main__":
    run_command(main)
