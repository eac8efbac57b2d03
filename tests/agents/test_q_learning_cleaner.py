"""The tabular Q-learning cleaner does what its recipe says: when it acts, how it learns, and from what."""

import numpy as np
import pytest

from agents.baselines import PACING, Contender
from agents.benchmark_suites import EPISODE_SEEDS
from agents.evaluation import compare
from agents.q_learning_cleaner import (
    ACTIONS,
    EXPLORATION,
    FIRST_OPERATIONS,
    LARGE,
    QLearningCleaner,
    main,
    situation,
)
from agents.vector_env import make_native_env
from kml_envs.errors import UserError
from kml_envs.lfs.pace import FEATURE_NAMES, FIRST, QUOTAS, WAIT

SMALL = {"segments": 64, "blocks_per_segment": 16, "utilisation": 0.75, "warm_volumes": 1.0, "episode_volumes": 1.0}
WORKLOAD = "zipf-0.99@bursts-100-2000-20"
SIXTEENTH, QUARTER, WHOLE = (FIRST + QUOTAS.index(quota) for quota in (16, 4, 1))


def seen(free=5, quiet_us=1000.0, last_us=1000.0, slowest=0.0, valid_share=0.9, part=0.0, present=1.0):
    """One observation; time and free sections scaled as the environment does."""
    values = np.zeros(len(FEATURE_NAMES), np.float32)
    for name, value in {
        "free_sections": np.log2(1.0 + free) / 6.0,
        "quiet": np.log2(1.0 + quiet_us / 20.0) / 26.0,
        "last_interval": np.log2(1.0 + last_us / 20.0) / 26.0,
        "slowest_latency": slowest,
        "cleaned_in_part": part,
        "greedy_present": present,
        "greedy_valid_share": valid_share,
    }.items():
        values[FEATURE_NAMES.index(name)] = value
    return values


def look(*observations, before=0, intensive=False, aggressive=True):
    count = len(observations)
    return situation(np.stack(observations), np.full(count, before), np.full(count, intensive), aggressive)


def test_there_are_68_states():
    cleaner = QLearningCleaner()
    assert np.prod(cleaner.values.shape[:-1]) == 68 and cleaner.values.shape[-1] == len(ACTIONS) == 3
    assert ACTIONS == (SIXTEENTH, QUARTER, WHOLE)
    found = look(seen(last_us=99.0, quiet_us=99.0), seen(last_us=101.0, quiet_us=2e5), seen(quiet_us=3200.0), before=1)
    assert [each.tolist() for each in found.state] == [[0, 1, 1], [0, 16, 8], [1, 1, 1]]


def test_modes_follow_the_free_sections():
    now = look(*(seen(free=free) for free in (0, 1, 2, 10, 11)), aggressive=False)
    assert now.intensive.tolist() == [True, True, False, False, False]
    assert now.triggered.tolist() == [True, True, True, True, False]
    assert now.allowed[0].tolist() == [False, True, True]  # 5 or 7 pages
    assert now.allowed[2].tolist() == [True, True, False]  # 1 or 2
    lasting = look(*(seen(free=free) for free in (1, 2, 3)), intensive=True)
    assert lasting.intensive.tolist() == [True, True, False]


def test_the_aggressive_mode_begins_only_with_much_garbage():
    cases = (
        seen(free=50, valid_share=0.39),
        seen(free=50, valid_share=0.41),
        seen(free=50, valid_share=0.41, part=0.2),
    )
    assert look(*cases).triggered.tolist() == [True, False, True]
    assert look(seen(free=101, valid_share=0.1)).triggered.tolist() == [False]
    assert look(cases[0], aggressive=False).triggered.tolist() == [False]
    assert look(cases[0]).allowed[0].tolist() == [True, True, False]


def test_no_interval_triggers_nothing_but_the_intensive_mode():
    now = look(seen(free=5, quiet_us=0.0), seen(free=50, valid_share=0.1, quiet_us=0.0), seen(free=1, quiet_us=0.0))
    assert now.triggered.tolist() == [False, False, True]
    assert look(seen(free=1, present=0.0)).triggered.tolist() == [False]  # nothing to clean


class Scripted:
    """A vector environment of one row that shows what is written down, and does or does not carry out."""

    def __init__(self, observations, acted=None, truncated=()):
        self.observations, self.truncated = observations, truncated
        self.acted = [True] * len(observations) if acted is None else acted
        self.moment, self.actions = 0, []

    def reset(self, seed):
        self.moment = 0
        return np.array(self.observations[0])[None], {}

    def step(self, actions):
        self.actions.append(int(actions[0]))
        acted = np.array([self.acted[self.moment]])
        over = np.array([self.moment in self.truncated])
        self.moment += 1
        shown = np.array(self.observations[self.moment])[None]
        return shown, np.zeros(1), np.zeros(1, bool), over, {"acted_by_agent": acted}


def learned(environment, steps):
    """A cleaner that does not explore, and prefers a quarter in the normal mode at first."""
    cleaner = QLearningCleaner()
    cleaner.operations = FIRST_OPERATIONS
    cleaner._generator = type("Never", (), {"random": staticmethod(lambda shape: np.ones(shape))})()
    cleaner.values[..., 1] = 0.1
    cleaner.learn(environment, steps)
    return cleaner


def test_values_follow_the_action_that_is_taken_next():
    environment = Scripted([seen(), seen(quiet_us=2e5), seen()])
    cleaner = learned(environment, 2)
    assert environment.actions == [QUARTER, QUARTER]
    # No write came, the best reward: 0.1 + 0.3 * (1 + 0.8 * 0.1 - 0.1), in the state of the first decision.
    assert cleaner.values[1, 5, 0, 1] == pytest.approx(0.394)
    assert np.count_nonzero(cleaner.values != np.array([0.0, 0.1, 0.0])) == 1
    assert cleaner.operations == FIRST_OPERATIONS + 2


def test_what_is_not_carried_out_is_not_credited():
    before = learned(Scripted([seen()]), 0).values
    for environment in (
        Scripted([seen(), seen(), seen()], acted=[False, True]),  # the built-in algorithm had to act instead
        Scripted([seen(), seen(), seen()], truncated=(0,)),  # the next decision is of another episode
    ):
        assert np.array_equal(learned(environment, 2).values, before)
    idle = Scripted([seen(), seen(free=50), seen(free=50, slowest=0.9), seen(quiet_us=2e5), seen()])
    cleaner = learned(idle, 4)
    assert idle.actions == [QUARTER, WAIT, WAIT, QUARTER]  # with plenty of room it is no action at all
    assert np.count_nonzero(cleaner.values != before) == 1 and cleaner.values[1, 5, 0, 1] != 0.1


def test_rewards_fall_with_the_latency_among_the_last_ones():
    cleaner = QLearningCleaner()
    for latency in np.linspace(0.1, 0.2, 1000):
        cleaner._reward(float(latency))
    rewards = [cleaner._reward(latency) for latency in (0.0, 0.15, 0.18, 0.195, 0.3)]
    assert rewards == [1.0, 1.0, 0.5, 0.0, -0.5]


def test_exploration_is_counted_in_cleaning_operations():
    cleaner = QLearningCleaner(seed=1)
    many = look(*(seen() for _ in range(20_000)))
    cleaner.values[..., 0] = 1.0

    def share_of_quarters():
        return float((cleaner._explore(many) == 1).mean())

    assert share_of_quarters() == pytest.approx(EXPLORATION / 2, abs=0.02)
    cleaner.operations = FIRST_OPERATIONS
    assert share_of_quarters() == pytest.approx(0.01 / 2, abs=0.005)
    waits = Scripted([seen(free=50)] * 4)
    cleaner.operations = 0
    cleaner.learn(waits, 3)
    assert cleaner.operations == 0  # nothing was cleaned


def test_it_learns_and_plays():
    cleaner = QLearningCleaner()
    environment = make_native_env(PACING, 4, {**SMALL, "workloads": [WORKLOAD], "efficiency": "none"})
    cleaner.learn(environment, 4000)
    environment.close()
    assert cleaner.operations > 0 and cleaner.values.any()
    assert np.abs(cleaner.values).max() <= 1.0 / (1.0 - 0.8)  # the largest reward for ever
    actions, (before, intensive) = cleaner.predict(np.stack([seen(free=1), seen(free=90)]))
    assert actions[0] in (QUARTER, WHOLE) and actions[1] == WAIT
    assert before.tolist() == [LARGE[1], 0] and intensive.tolist() == [True, False]
    result = compare(Contender("q-learning", PACING, SMALL, lambda space: cleaner), (WORKLOAD,), (1,))
    assert result.results.of("q-learning", "latency_p99_ms").min() > 0


def test_the_command_plays_the_seeds_of_the_suites(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("agents.q_learning_cleaner.trained_cleaner", lambda *_, **__: QLearningCleaner())
    monkeypatch.setattr(
        "agents.q_learning_cleaner.compare", lambda judged, workloads, seeds: asked.append(tuple(seeds))
    )
    monkeypatch.setattr("agents.q_learning_cleaner.report", str)
    assert main([]) == 0 and asked == [EPISODE_SEEDS]
    with pytest.raises(UserError, match="--n-seeds 0"):
        main(["--n-seeds", "0"])
