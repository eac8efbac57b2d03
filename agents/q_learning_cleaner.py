"""The tabular Q-learning cleaner of Kang, Shin and Yoo (TECS 2017) for `kml/LfsPacing-v0`: an agent to beat.

    python -m agents.q_learning_cleaner --n-timesteps 200000

The state is the previous time between writes (two bins at 100 us), the current one (17 bins up to 100 ms) and the
previous action; the action is how many blocks of the greedy victim to move now: none, or one of the environment's
quotas. The reward falls with the slowest latency since the last decision, from 1 below the running 70th percentile to
-0.5 above the 99th; values follow the action that is really taken next (step 0.3, discount 0.8); exploration is 80 %
for the first 1,000 operations, 1 % after. It cleans only when free sections are few, as the original does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import gymnasium
import numpy as np

from agents.baselines import PACING, Array, Contender, State, suite_of
from agents.evaluation import compare, report
from agents.vector_env import make_native_env
from kml_envs.errors import OneLineParser, run_command
from kml_envs.lfs.pace import FEATURE_NAMES, FIRST, QUOTAS, WAIT
from kml_envs.suites import workload_names

STEP, DISCOUNT = 0.3, 0.8
EXPLORATION, FIRST_OPERATIONS, LATER_EXPLORATION = 0.8, 1000, 0.01
INTERVALS = 17  # bins of the current interval, logarithmic from 100 us to 100 ms
ACTIONS = (WAIT, *range(FIRST, FIRST + len(QUOTAS)))
FEW_FREE = 0.6  # free_above_trigger (in sixteenths) below which it cleans
_PERCENTILES, _REWARDS = (70.0, 90.0, 99.0), (1.0, 0.5, 0.0, -0.5)
_QUIET, _LAST, _SLOWEST, _FREE, _FOREGROUND = (
    FEATURE_NAMES.index(name)
    for name in ("quiet", "last_interval", "slowest_latency", "free_above_trigger", "foreground")
)


class QLearningCleaner:
    """The table and its rules, over a batch of instances.

    Attributes:
        values: (2, 17, actions, actions) float64, value of each action in each state.
    """

    def __init__(self, seed: int = 0) -> None:
        """Begin knowing nothing."""
        self.values = np.zeros((2, INTERVALS, len(ACTIONS), len(ACTIONS)))
        self._generator = np.random.default_rng(seed)
        self._latencies = np.zeros(1000)
        self._seen = 0

    def predict(
        self,
        observation: Array,
        state: State = None,
        episode_start: Array | None = None,
        deterministic: bool = True,
        action_masks: Array | None = None,
    ) -> tuple[Array, State]:
        """The best action of the table in every row; the policy's state is the previous actions (N,)."""
        before = np.zeros(len(observation), np.int64) if state is None else state[0]
        chosen = np.argmax(self.values[self._states(observation, before)], axis=1)
        return self._recommend(observation, chosen), (chosen,)

    def learn(self, environment: gymnasium.vector.VectorEnv[Array, Array, Array], steps: int) -> None:
        """Learn for so many steps of all instances together, by the action that is taken next (on-policy)."""
        observation, _ = environment.reset(seed=0)
        count = len(observation)
        before = np.zeros(count, np.int64)
        states, chosen = self._states(observation, before), self._explore(observation, before)
        for step in range(steps // count):
            after, _, _, _, _ = environment.step(self._recommend(observation, chosen))
            rewards = self._rewards(after[:, _SLOWEST])
            next_states = self._states(after, chosen)
            next_chosen = self._explore(after, chosen, EXPLORATION if step * count < FIRST_OPERATIONS else None)
            target = rewards + DISCOUNT * self.values[(*next_states, next_chosen)]
            cells = (*states, chosen)
            np.add.at(self.values, cells, STEP / count * (target - self.values[cells]))
            observation, states, chosen = after, next_states, next_chosen

    def _states(self, observation: Array, before: Array) -> tuple[Array, Array, Array]:
        current = _microseconds(observation[:, _QUIET])
        interval = np.clip(np.log10(np.maximum(current, 1.0) / 100.0) / 3.0 * (INTERVALS - 1), 0, INTERVALS - 1)
        return (_microseconds(observation[:, _LAST]) >= 100.0).astype(np.int64), interval.astype(np.int64), before

    def _explore(self, observation: Array, before: Array, share: float | None = None) -> Array:
        best = np.argmax(self.values[self._states(observation, before)], axis=1)
        drawn = self._generator.integers(len(ACTIONS), size=len(best))
        explores = self._generator.random(len(best)) < (LATER_EXPLORATION if share is None else share)
        return np.where(explores, drawn, best)

    def _recommend(self, observation: Array, chosen: Array) -> Array:
        few = (observation[:, _FREE] < FEW_FREE) | (observation[:, _FOREGROUND] > 0.5)
        return np.where(few, np.array(ACTIONS)[chosen], WAIT)

    def _rewards(self, slowest: Array) -> Array:
        places = (self._seen + np.arange(len(slowest))) % len(self._latencies)
        self._latencies[places] = slowest
        self._seen += len(slowest)
        limits = np.percentile(self._latencies[: min(self._seen, len(self._latencies))], _PERCENTILES)
        return np.array(_REWARDS)[np.searchsorted(limits, slowest)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and compare on held-out workloads."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-timesteps", type=int, default=200_000, help="steps (default: %(default)s)")
    parser.add_argument("--n-seeds", type=int, default=3, help="episodes on each workload (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of exploration (default: %(default)s)")
    parsed = parser.parse_args(arguments)
    cleaner = QLearningCleaner(parsed.seed)
    environment = make_native_env(PACING, 16, {"workloads": suite_of(PACING, "train"), "efficiency": "none"})
    cleaner.learn(environment, parsed.n_timesteps)
    environment.close()
    judged = Contender("q-learning", PACING, {}, lambda space: cleaner)
    seeds = range(1001, 1001 + parsed.n_seeds)
    print(report(compare(judged, workload_names(suite_of(PACING, "held-out")), seeds)))
    return 0


def _microseconds(feature: Array) -> Array:
    """Undo the scale of the time features, `log2(1 + t / 20 us) / 26`."""
    times: Array = 20.0 * (2.0 ** (26.0 * feature) - 1.0)
    return times


if __name__ == "__main__":
    run_command(main)
