"""Forward progress: whatever an agent does, writes complete, no block is lost, and the built-in algorithm takes over.

Agents that hang, die, are late, talk garbage, flood or answer for old data sets, at random points of many small
volumes: from the moment of the question on, at which cleaning is due, down to the reserve, where write pressure is at
its highest and all writers wait for the cleaner.
"""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from lfs_volumes import check

from kml_envs.envs.lfs_victim import LfsVictimSubsystem
from kml_envs.lfs.config import Geometry, LfsConfig
from kml_envs.lfs.state import copy_row
from kml_envs.lfs.warmup import WarmVolumes
from kml_envs.proxy import MLModelProxy, Mode, ProxyOptions, Verdict
from kml_envs.proxy.proxy import NEVER
from kml_envs.workloads.synthetic import hot_cold

ROWS = 64
ROUNDS = 32  # in which every row is struck once
EVERYTHING = np.ones(ROWS, bool)
CONFIG = LfsConfig(Geometry(segments=48, blocks_per_segment=16, utilisation=0.6))
BLOCKS = CONFIG.geometry.volume_blocks
LONG = 1000  # writes: users come down to the reserve long before
DEADLINES = (None, 0, 10, 30, 60, LONG)
GARBAGE = (
    None,
    "garbage",
    [],
    {"victim": 1},
    b"\x00" * 64,
    np.nan,
    [[1, 2]],
    object(),
    np.zeros((3, 3)),
    [2**70] * ROWS,
)


class StruckProxy(MLModelProxy):
    """Keeps what the volumes looked like whenever an answer came in, or was given up."""

    def __init__(self, warm):
        super().__init__(LfsVictimSubsystem(warm, ROWS))
        self.struck = LfsVictimSubsystem(warm, ROWS)
        self.at_reserve = []

    def preprocess_recommendation(self, recommendation, generation=None):
        subsystem = self.subsystem
        written, critical = subsystem.progress().copy(), subsystem.critical()
        subsystem.wait(written + 1, critical)
        assert np.array_equal(subsystem.progress(), written), "at the reserve every writer is blocked"
        copy_rows(subsystem, self.struck)
        self.at_reserve.append(critical)
        return super().preprocess_recommendation(recommendation, generation)


def copy_rows(source, target):
    for row in range(ROWS):
        copy_row(source.state, row, target.state, row)


@pytest.fixture(scope="module")
def warm():
    return WarmVolumes(CONFIG, [hot_cold(0.9, 0.1)], volumes=1.0, seeds=2)


def start(warm, **options):
    proxy = StruckProxy(warm)
    proxy.initialize(ProxyOptions(**{"episode_progress": 5000 * BLOCKS, "efficiency": "none"} | options))
    proxy.start()
    proxy.reset(EVERYTHING, np.arange(ROWS, dtype=np.uint64) * 977)
    return proxy


def sensible(proxy, random):
    """A valid candidate in every row."""
    mask = proxy.observe().mask
    return (random.random(mask.shape) * mask).argmax(axis=1)


# What an agent may do wrong. `latency` (ROWS,) is how long it takes where it answers at all.


def late(proxy, random, latency):
    choice, deadline = sensible(proxy, random), proxy.options.deadline
    return proxy.decide(choice, None, np.full(ROWS, NEVER) if deadline is None else latency + deadline + 1)


def hang(proxy, random, latency):
    proxy.observe()
    return proxy.decide(None, None, np.full(ROWS, NEVER))


def garbage(proxy, random, latency):
    proxy.observe()
    return proxy.decide(GARBAGE[random.integers(len(GARBAGE))], None, latency)


def impossible(proxy, random, latency):
    """Numbers of candidates that are masked out or do not exist."""
    mask = proxy.observe().mask
    choices = [random.choice([-1, 32, 2**40, *np.flatnonzero(~row)]) for row in mask]
    return proxy.decide(np.array(choices), None, latency)


def stale(proxy, random, latency):
    before = proxy.generation.copy()
    choice = sensible(proxy, random)
    return proxy.decide(choice, before - random.integers(0, 3), latency)


def flood(proxy, random, latency):
    """Ten answers to one question: nine of them are for a data set that is gone."""
    choice, generation = sensible(proxy, random), proxy.generation.copy()
    return [proxy.decide(choice, generation, latency) for _ in range(10)][-1]


def dead(proxy, random, latency):
    """No answer, and the data set is never even looked at."""
    return proxy.decide(None)


FAULTS = (late, hang, garbage, impossible, stale, flood, dead)
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)


def check_all(proxy, written_before):
    state = proxy.subsystem.state
    for row in range(ROWS):
        check(state, row)
    volumes = state.volumes
    assert (volumes["valid_blocks"] == BLOCKS).all()  # every block was written when the volume was filled
    assert (volumes["free_sections"] >= CONFIG.reserve_sections - 1).all() and not volumes["exhausted"].any()
    assert (volumes["user_writes"] >= written_before).all()


def check_against_the_builtin_algorithm(proxy):
    """From the last strike on, the volumes have fared as they do under the built-in algorithm alone."""
    alone, now = proxy.struck, LfsVictimSubsystem(proxy.subsystem.warm, ROWS)
    copy_rows(proxy.subsystem, now)
    # What is due at a progress is paid beyond it: both go on a little, to the same place.
    until = proxy.subsystem.progress() + 50
    for side in (alone, now):
        side.execute(side.builtin_decision(), ~EVERYTHING, until, EVERYTHING)
    for name in ("blocks", "owners", "valid_map", "segments", "logs", "index", "population"):
        assert np.array_equal(getattr(now.state, name), getattr(alone.state, name)), name
    assert np.array_equal(now.cost(), alone.cost()) and np.array_equal(now.progress(), alone.progress())


def emergencies(proxy):
    return proxy.table()["emergencies_unhealthy"] + proxy.table()["emergencies_critical"]


@pytest.mark.slow
@each_fault
def test_from_a_fault_on_all_is_as_with_the_builtin_algorithm_alone(warm, fault):
    random = np.random.default_rng(FAULTS.index(fault))
    proxy = start(warm)
    reserve = 0
    for _ in range(ROUNDS):
        for _ in range(random.integers(0, 4)):
            assert proxy.decide(sensible(proxy, random)).acted_by_agent.all()
        proxy.re_init(replace(proxy.options, deadline=random.choice(DEADLINES)))
        written, cleanings = proxy.subsystem.progress().copy(), proxy.subsystem.metrics()["operations"]
        feedback = fault(proxy, random, random.integers(0, 80, ROWS))
        assert not feedback.acted_by_agent.any() and (feedback.verdict != Verdict.ACCEPTED).all()
        assert (proxy.subsystem.metrics()["operations"] > cleanings).all()
        check_all(proxy, written)
        check_against_the_builtin_algorithm(proxy)
        reserve += np.count_nonzero(proxy.at_reserve[-1])
    assert ROWS < reserve < ROUNDS * ROWS
    assert (proxy.subsystem.progress() > BLOCKS).all()


@pytest.mark.slow
@each_fault
def test_a_fault_at_the_reserve_means_emergency_and_a_healed_agent_learns_again(warm, fault):
    random = np.random.default_rng(10 + FAULTS.index(fault))
    proxy = start(warm, mode="auto", share=0.5, window=2 * BLOCKS, deadline=LONG)
    asked = np.full(ROWS, LONG)
    for strike in range(1, 9):
        proxy.at_reserve.clear()
        written, acted = proxy.subsystem.progress().copy(), proxy.table()["agent_operations"]
        feedback = fault(proxy, random, asked)
        assert np.all(proxy.at_reserve) and (feedback.verdict != Verdict.ACCEPTED).all()
        # The proxy runs through the emergency, to the next moment at which the agent is asked.
        assert (emergencies(proxy) >= strike).all()
        assert (proxy.controller.mode() == Mode.LEARNING).all() and not proxy.finished.any()
        assert np.array_equal(proxy.table()["agent_operations"], acted)
        assert (proxy.subsystem.progress() > written + 2 * BLOCKS).all()
        check_all(proxy, written)
        check_against_the_builtin_algorithm(proxy)
    faults, acted = emergencies(proxy), proxy.table()["agent_operations"]
    while (proxy.table()["agent_operations"] < acted + 40).any():
        proxy.decide(sensible(proxy, random))
    assert np.array_equal(emergencies(proxy), faults)
    check_all(proxy, written)


@each_fault
def test_a_faulty_agent_is_unhealthy_away_from_the_reserve_too(warm, fault):
    random = np.random.default_rng(20 + FAULTS.index(fault))
    proxy = start(warm, mode="auto", share=0.5, window=2 * BLOCKS, deadline=0)
    written, before = proxy.subsystem.progress().copy(), proxy.table()["agent_operations"]
    while (proxy.table()["emergencies_unhealthy"] == 0).any():
        fault(proxy, random, np.zeros(ROWS, np.int64))
        assert not proxy.finished.any()
    check_all(proxy, written)
    assert (proxy.controller.mode() <= Mode.LEARNING).all()
    if fault is not flood:  # one answer in ten is for the right question
        assert np.array_equal(proxy.table()["agent_operations"], before)


def test_an_agent_that_takes_its_time_is_waited_for_until_the_reserve(warm):
    random = np.random.default_rng(30)
    proxy = start(warm, latency=20)
    for _ in range(60):
        written = proxy.subsystem.progress().copy()
        feedback = proxy.decide(sensible(proxy, random))
        check_all(proxy, written)
        known = (Verdict.ACCEPTED, Verdict.EMERGENCY, Verdict.SEGMENT_FREE, Verdict.SEGMENT_CURRENT)
        assert np.isin(feedback.verdict, known).all()
    counts = proxy.table()
    assert counts["verdict/accepted"].sum() > 0
    slow = start(warm, latency=10**6)
    slow.decide(sensible(slow, random))
    assert slow.table()["verdict/emergency"].tolist() == [1] * ROWS
    check_all(slow, 0)


def test_latency_and_deadline_are_arguments_of_the_environments():
    arguments = {"segments": 64, "blocks_per_segment": 16, "utilisation": 0.75, "workloads": ["uniform"]}
    for env_id in ("kml_envs:kml/LfsVictim-v0", "kml_envs:kml/LfsTune-v0"):
        env = gymnasium.make(env_id, latency_us=400, deadline_us=200, **arguments)
        env.reset(seed=1)
        *_, info = env.step(0 if "Victim" in env_id else env.action_space.sample())
        assert info["verdict"] == Verdict.DEADLINE_MISSED and not info["acted_by_agent"]
        env.close()
