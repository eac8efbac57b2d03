"""Search for the best linear rule of `kml/LfsVictim-v0` on training workloads, by the cross-entropy method.

    python -m agents.rule_search

A rule scores each candidate by a weighted sum of its features, whatever the volume looks like; the highest is cleaned.
Prints each generation, and at the end the `initial_weights` to put into a hyperparameter file, where the candidate
policy's scores begin. `python evaluate.py --policy rule --env kml/LfsVictim-v0` plays the rule in that file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from agents.action_search import (
    DEVIATION,
    EPISODE_VOLUMES,
    WORKLOADS,
    cross_entropy,
    log_write_amplification,
    mean_loss,
    report,
)
from agents.baselines import VICTIM, Array, State
from agents.hyperparameter_files import read_entry
from kml_envs.command_line import whole_number_from
from kml_envs.errors import OneLineParser, run_command
from kml_envs.lfs.observation import CANDIDATE_FEATURES, CANDIDATES, CONTEXT_FEATURES

FloatArray = npt.NDArray[np.float64]

POPULATION, GENERATIONS = 16, 12  # unless asked for others
SHARPNESS = 20.0
"""Weights of one differ so much in the scores, which are logits to an agent that explores."""
_FEATURES = CANDIDATE_FEATURES[1:]  # the first says that there is a candidate


def main() -> None:
    """Parse the command line and search."""
    parser = OneLineParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--generations", type=whole_number_from(1), default=GENERATIONS)
    parser.add_argument("--population", type=whole_number_from(1), default=POPULATION)
    parser.add_argument("--seed", type=whole_number_from(0), default=0)
    parser.add_argument("--workload", nargs="+", metavar="NAME", default=WORKLOADS, help="training workloads")
    arguments = parser.parse_args()
    weights = search(arguments.workload, arguments.population, arguments.generations, arguments.seed)
    print("initial_weights: {" + ", ".join(f"{name}: {weight}" for name, weight in weights.items()) + "}")


def search(
    workloads: Sequence[str],
    population: int,
    generations: int,
    seed: int,
    tell: Callable[[int, float], None] = report,
) -> Mapping[str, float]:
    """Search the rule for all of some workloads: `initial_weights` of a hyperparameter file, with one decimal.

    Other arguments are those of `cross_entropy`.
    """
    greedy = np.zeros(len(_FEATURES))
    greedy[_FEATURES.index("valid_share")] = -1.0
    cost = mean_log_cost(workloads, population)
    found = cross_entropy(cost, greedy, DEVIATION, population, generations, seed, tell)
    return {name: round(SHARPNESS * float(weight), 1) for name, weight in zip(_FEATURES, found, strict=True)}


def mean_log_cost(workloads: Sequence[str], population: int) -> Callable[[FloatArray], FloatArray]:
    """The logarithm of the write amplification under rules, mean over workloads, on the same episode each.

    Args:
        workloads: Names.
        population: Rules that are played side by side.

    Returns:
        Costs (population,) of weights (population, 7), in the order of CANDIDATE_FEATURES but for the first.
    """
    arguments = {"episode_volumes": EPISODE_VOLUMES, "efficiency": "none"}
    return mean_loss(VICTIM, arguments, workloads, population, log_write_amplification, choose)


def choose(observations: npt.NDArray[np.float32], weights: FloatArray) -> npt.NDArray[np.int64]:
    """(N,) candidates with the highest score of each observation (N, F) under the weights (N, 7) of its row."""
    candidates = observations[:, len(CONTEXT_FEATURES) :].reshape(len(observations), CANDIDATES, -1)
    scores = np.einsum("nkf,nf->nk", candidates[..., 1:], weights)
    return np.asarray(np.where(candidates[..., 0] > 0.5, scores, -np.inf).argmax(axis=1))


class RulePolicy:
    """A linear rule at work; by default the one that training begins with, as `evaluate.py --policy rule`."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        """Recommend by a rule.

        Args:
            weights: Weight by name of a candidate's feature, others 0; None: those in the hyperparameters.
        """
        given = read_entry("ppo_mask", VICTIM)["policy_kwargs"]["initial_weights"] if weights is None else weights
        self._weights = np.array([float(given.get(name, 0.0)) for name in _FEATURES])

    def predict(
        self,
        observation: Array,
        state: State = None,
        episode_start: Array | None = None,
        deterministic: bool = True,
    ) -> tuple[Array, State]:
        """Candidates (N,) from observations (N, 285)."""
        return choose(observation, np.tile(self._weights, (len(observation), 1))), state


if __name__ == "__main__":
    run_command(main)
