"""The tabular Q-learning cleaner of Kang, Shin and Yoo (TECS 2017) for `kml/LfsPacing-v0`: an agent to beat.

    python -m agents.q_learning_cleaner --n-timesteps 200000

Of 68 states it learns how many blocks of the greedy victim to move now: the previous time between writes (2 bins at
100 us), the current one (17 bins up to 100 ms), and whether the previous operation moved more than half of the usual
most (2 bins). The reward falls with the slowest latency since the last operation, from 1 up to the running 70th
percentile to -0.5 above the 99th; values follow the action that is really taken next (step 0.3, discount 0.8);
exploration is 80 % for the first 1,000 cleaning operations, 1 % after. It cleans by one of three modes:

- normal, at 10 free sections or less: one of the two smaller quotas, as the original moves 1 or 2 pages;
- intensive, from 1 free section until there are 3: one of the two larger quotas (5 or 7 pages);
- aggressive, at 100 free sections or less: as normal, but it begins only victims more than 60 % of which are invalid.

Free sections are counted above the reserve, which belongs to the built-in algorithm here. Intervals of 0 trigger
neither the normal nor the aggressive mode. Decisions that trigger none are no actions: the cleaner waits, and neither
learns from them nor remembers them.

Left out: the aggressive mode is asked after writes and in idle gaps only, since there are no reads here; an empty
victim needs no erasing instead of copies, for it costs nothing; quotas are parts of a section, not pages. The current
time between writes is the time since the last one: a decision of this environment may come before the next write.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np
import numpy.typing as npt

from agents.baselines import PACING, Array, Contender, State, suite_of
from agents.evaluation import compare, report
from agents.vector_env import make_native_env
from kml_envs.command_line import whole_number_from
from kml_envs.errors import OneLineParser, UserError, run_command
from kml_envs.lfs.pace import FEATURE_NAMES, FIRST, QUOTAS, WAIT
from kml_envs.suites import workload_names

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

TIMESTEPS = 200_000
ROWS = 16  # environments that learn into one table
STEP, DISCOUNT = 0.3, 0.8
EXPLORATION, FIRST_OPERATIONS, LATER_EXPLORATION = 0.8, 1000, 0.01
INTERVALS = 17  # bins of the current interval, logarithmic from 100 us to 100 ms
ACTIONS = tuple(FIRST + QUOTAS.index(quota) for quota in (16, 4, 1))
"""A sixteenth, a quarter and the whole of the greedy victim."""
LARGE = np.array([0, 1, 1])  # moves more than half of the most that the normal mode moves
AT_EASE, INTENSIVE = np.array([True, True, False]), np.array([False, True, True])
NORMAL_FREE, AGGRESSIVE_FREE, LEAST_FREE, ENOUGH_FREE = 10, 100, 1, 3  # sections
MOST_VALID = 0.4  # of a victim that the aggressive mode begins
LATENCIES = 1000  # last ones, of which the percentiles are
_REFRESH = 50  # latencies after which the percentiles are taken anew
_PERCENTILES, _REWARDS = (70.0, 90.0, 99.0), (1.0, 0.5, 0.0, -0.5)
_QUIET, _LAST, _SLOWEST, _FREE, _PART, _PRESENT, _VALID = (
    FEATURE_NAMES.index(name)
    for name in (
        "quiet",
        "last_interval",
        "slowest_latency",
        "free_sections",
        "cleaned_in_part",
        "greedy_present",
        "greedy_valid_share",
    )
)


@dataclass(frozen=True)
class Situation:
    """What N instances are in.

    Attributes:
        state: (N,) each: bins of the previous and the current interval, and of the previous operation.
        triggered: (N,) whether some mode asks for an action.
        allowed: (N, 3) which of `ACTIONS` the mode has.
        intensive: (N,) whether the intensive mode lasts.
    """

    state: tuple[IntArray, IntArray, IntArray]
    triggered: BoolArray
    allowed: BoolArray
    intensive: BoolArray


def situation(observation: Array, before: IntArray, intensive: BoolArray, aggressive: bool = True) -> Situation:
    """Modes and states of observations (N, 75).

    Args:
        observation: What is seen.
        before: (N,) bin of the previous operation.
        intensive: (N,) whether the intensive mode was on.
        aggressive: Whether there is an aggressive mode.
    """
    free = np.rint(np.exp2(6.0 * observation[:, _FREE]) - 1.0)
    intensive = (free <= LEAST_FREE) | (intensive & (free < ENOUGH_FREE))
    worth_it = (observation[:, _PART] > 0.0) | (observation[:, _VALID] < MOST_VALID)
    eager = (free <= AGGRESSIVE_FREE) & worth_it if aggressive else np.zeros(len(free), np.bool_)
    at_ease = (observation[:, _QUIET] > 0.0) & ((free <= NORMAL_FREE) | eager)
    triggered = (observation[:, _PRESENT] > 0.5) & (intensive | at_ease)
    current = np.log10(np.maximum(_microseconds(observation[:, _QUIET]), 1.0) / 100.0) / 3.0 * (INTERVALS - 1)
    state = (
        (_microseconds(observation[:, _LAST]) >= 100.0).astype(np.int64),
        np.clip(current, 0, INTERVALS - 1).astype(np.int64),
        before,
    )
    return Situation(state, triggered, np.where(intensive[:, None], INTENSIVE, AT_EASE), intensive)


class QLearningCleaner:
    """The table and its rules, over a batch of instances.

    Attributes:
        values: (2, 17, 2, 3) float64, value of each action in each state.
        operations: Cleaning operations of the training so far.
    """

    def __init__(self, seed: int = 0, *, aggressive: bool = True) -> None:
        """Begin knowing nothing.

        Args:
            seed: Of exploration.
            aggressive: Whether there is an aggressive mode.
        """
        self.values = np.zeros((2, INTERVALS, 2, len(ACTIONS)))
        self.operations = 0
        self._aggressive = aggressive
        self._generator = np.random.default_rng(seed)
        self._latencies = np.zeros(LATENCIES)
        self._seen = 0
        self._limits = np.zeros(len(_PERCENTILES))

    def predict(
        self,
        observation: Array,
        state: State = None,
        episode_start: Array | None = None,
        deterministic: bool = True,
    ) -> tuple[Array, State]:
        """The best action of the table in every row that a mode triggers, else to wait.

        The policy's state is the bin of the previous operation and whether the intensive mode is on, (N,) each.
        """
        count = len(observation)
        before, intensive = (np.zeros(count, np.int64), np.zeros(count, np.bool_)) if state is None else state
        now = situation(observation, before, intensive, self._aggressive)
        chosen = self._best(now)
        return _recommended(now, chosen), (np.where(now.triggered, LARGE[chosen], before), now.intensive)

    def learn(self, environment: gymnasium.vector.VectorEnv[Array, Array, Array], steps: int) -> None:
        """Learn for so many steps of all instances together, by the action that is taken next (on-policy).

        An action is credited when the next one is taken, if it was carried out: not where the built-in algorithm had to
        act instead, nor across the end of an episode.
        """
        observation, _ = environment.reset(seed=0)
        count = len(observation)
        before, intensive = np.zeros(count, np.int64), np.zeros(count, np.bool_)
        cells = np.zeros((count, self.values.ndim), np.int64)
        credited, slowest = np.zeros(count, np.bool_), np.zeros(count)
        for _ in range(steps // count):
            now = situation(observation, before, intensive, self._aggressive)
            chosen = self._explore(now)
            following = np.stack([*now.state, chosen], axis=1)
            for row in np.flatnonzero(now.triggered & credited):
                self._update(tuple(cells[row]), self._reward(float(slowest[row])), tuple(following[row]))
            cells[now.triggered] = following[now.triggered]
            slowest[now.triggered] = 0.0
            observation, _, terminated, truncated, infos = environment.step(_recommended(now, chosen))
            acted = now.triggered & infos["acted_by_agent"]
            self.operations += int(np.count_nonzero(acted))
            over = terminated | truncated
            credited = np.where(now.triggered, acted, credited) & ~over
            before = np.where(over, 0, np.where(now.triggered, LARGE[chosen], before))
            intensive = now.intensive & ~over
            slowest = np.where(over, 0.0, np.maximum(slowest, observation[:, _SLOWEST]))

    def _best(self, now: Situation) -> IntArray:
        return np.asarray(np.where(now.allowed, self.values[now.state], -np.inf).argmax(axis=1))

    def _explore(self, now: Situation) -> IntArray:
        """The best action, or any that the mode has."""
        share = EXPLORATION if self.operations < FIRST_OPERATIONS else LATER_EXPLORATION
        drawn = np.where(now.allowed, self._generator.random(now.allowed.shape), -1.0).argmax(axis=1)
        explores = self._generator.random(len(drawn)) < share
        return np.where(explores, drawn, self._best(now))

    def _update(self, cell: tuple[int, ...], reward: float, following: tuple[int, ...]) -> None:
        self.values[cell] += STEP * (reward + DISCOUNT * self.values[following] - self.values[cell])

    def _reward(self, slowest: float) -> float:
        """By how slow the slowest write was, among the last ones; the best where none came."""
        if slowest > 0.0:
            self._latencies[self._seen % LATENCIES] = slowest
            self._seen += 1
            if self._seen % _REFRESH == 1:
                self._limits = np.percentile(self._latencies[: min(self._seen, LATENCIES)], _PERCENTILES)
        return _REWARDS[int(np.searchsorted(self._limits, slowest))]


def trained_cleaner(steps: int = TIMESTEPS, seed: int = 0, *, aggressive: bool = True) -> QLearningCleaner:
    """Train a cleaner on the training workloads; 200,000 steps take a minute of one core."""
    cleaner = QLearningCleaner(seed, aggressive=aggressive)
    environment = make_native_env(PACING, ROWS, {"workloads": suite_of(PACING, "train"), "efficiency": "none"})
    cleaner.learn(environment, steps)
    environment.close()
    return cleaner


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and compare on held-out workloads."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--n-timesteps", type=whole_number_from(1), default=TIMESTEPS, help="steps (default: %(default)s)"
    )
    parser.add_argument("--n-seeds", type=int, default=5, help="episodes on each workload (default: %(default)s)")
    parser.add_argument("--seed", type=whole_number_from(0), default=0, help="of exploration (default: %(default)s)")
    parser.add_argument("--not-aggressive", action="store_true", help="without the aggressive mode")
    parsed = parser.parse_args(arguments)
    if not 1 <= parsed.n_seeds <= 1000:
        raise UserError(f"--n-seeds {parsed.n_seeds}: must lie in 1..1000")
    cleaner = trained_cleaner(parsed.n_timesteps, parsed.seed, aggressive=not parsed.not_aggressive)
    judged = Contender("q-learning", PACING, {}, lambda space: cleaner)
    seeds = range(1001, 1001 + parsed.n_seeds)
    print(report(compare(judged, workload_names(suite_of(PACING, "held-out")), seeds)))
    return 0


def _recommended(now: Situation, chosen: IntArray) -> IntArray:
    return np.where(now.triggered, np.array(ACTIONS)[chosen], WAIT)


def _microseconds(feature: Array) -> Array:
    """Undo the scale of the time features, `log2(1 + t / 20 us) / 26`."""
    times: Array = 20.0 * (2.0 ** (26.0 * feature) - 1.0)
    return times


if __name__ == "__main__":
    run_command(main)
