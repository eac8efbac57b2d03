"""Forward progress: whatever an agent does, writes complete, no block is lost, and the built-in algorithm takes over.

Agents that hang, die, are late, talk garbage, flood or answer for old data sets, at random points of many small
volumes, with write pressure at its highest: cleaning is needed all the time.
"""

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

ROWS = 16
CONFIG = LfsConfig(Geometry(segments=48, blocks_per_segment=16, utilisation=0.6))
BLOCKS = CONFIG.geometry.volume_blocks
DEADLINE = 30
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


@pytest.fixture(scope="module")
def warm():
    return WarmVolumes(CONFIG, [hot_cold(0.9, 0.1)], volumes=1.0, seeds=2)


def start(warm, **options):
    proxy = MLModelProxy(LfsVictimSubsystem(warm, ROWS))
    proxy.initialize(ProxyOptions(**{"episode_progress": 1000 * BLOCKS, "efficiency": "none"} | options))
    proxy.start()
    proxy.reset(np.ones(ROWS, bool), np.arange(ROWS, dtype=np.uint64) * 977)
    return proxy


def sensible(proxy, random):
    """A valid candidate in every row."""
    mask = proxy.observe().mask
    return np.array([random.choice(np.flatnonzero(row)) for row in mask])


def late(proxy, random):
    never = (random.random(ROWS) < 0.5) | (proxy.options.deadline is None)
    latency = np.where(never, NEVER, DEADLINE + 1 + random.integers(0, 1000, ROWS))
    return proxy.decide(sensible(proxy, random), None, latency)


def hang(proxy, random):
    proxy.observe()
    return proxy.decide(None, None, np.full(ROWS, NEVER))


def garbage(proxy, random):
    proxy.observe()
    return proxy.decide(GARBAGE[random.integers(len(GARBAGE))])


def impossible(proxy, random):
    """Numbers of candidates that are masked out or do not exist."""
    mask = proxy.observe().mask
    choices = [random.choice([-1, 32, 2**40, *np.flatnonzero(~row)]) for row in mask]
    return proxy.decide(np.array(choices))


def stale(proxy, random):
    before = proxy.generation.copy()
    choice = sensible(proxy, random)
    return proxy.decide(choice, before - random.integers(0, 3))


def flood(proxy, random):
    """Ten answers to one question: nine of them are for a data set that is gone."""
    choice, generation = sensible(proxy, random), proxy.generation.copy()
    proxy.decide(choice, generation)
    for _ in range(8):
        proxy.decide(choice, generation)
    return proxy.decide(choice, generation)


def dead(proxy, random):
    """No answer, and the data set is never even looked at."""
    return proxy.decide(None)


FAULTS = (late, hang, garbage, impossible, stale, flood, dead)


def check_all(proxy, written_before):
    state = proxy.subsystem.state
    for row in range(ROWS):
        check(state, row)
    volumes = state.volumes
    assert (volumes["valid_blocks"] == BLOCKS).all()  # every block was written when the volume was filled
    assert (volumes["free_sections"] >= CONFIG.reserve_sections - 1).all() and not volumes["exhausted"].any()
    assert (volumes["user_writes"] >= written_before).all()


def emergencies(proxy):
    return proxy.table()["emergencies_unhealthy"] + proxy.table()["emergencies_critical"]


@pytest.mark.parametrize("deadline", [None, DEADLINE])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_faults_at_random_points_lose_nothing(warm, fault, deadline):
    random = np.random.default_rng(FAULTS.index(fault))
    proxy = start(warm, deadline=deadline)
    for _ in range(12):
        for _ in range(random.integers(0, 6)):
            assert proxy.decide(sensible(proxy, random)).acted_by_agent.all()
        written, cleanings = proxy.subsystem.progress().copy(), proxy.subsystem.metrics()["operations"]
        feedback = fault(proxy, random)
        assert not feedback.acted_by_agent.any() and (feedback.verdict != Verdict.ACCEPTED).all()
        assert (proxy.subsystem.metrics()["operations"] > cleanings).all()
        check_all(proxy, written)
    assert (proxy.subsystem.progress() > BLOCKS).all()


@pytest.mark.parametrize("fault", [garbage, impossible, stale, dead], ids=lambda fault: fault.__name__)
def test_from_the_fault_on_all_is_as_with_the_builtin_algorithm_alone(warm, fault):
    random = np.random.default_rng(10 + FAULTS.index(fault))
    proxy = start(warm)
    for _ in range(20):
        proxy.decide(sensible(proxy, random))
    twin = LfsVictimSubsystem(warm, ROWS)
    for row in range(ROWS):
        copy_row(proxy.subsystem.state, row, twin.state, row)
    for _ in range(30):
        fault(proxy, random)
    # What is due at a progress is paid beyond it: both go on a little, to the same place.
    everything, until = np.ones(ROWS, bool), proxy.subsystem.progress() + 50
    for side in (proxy.subsystem, twin):
        side.execute(np.zeros(ROWS, np.int64), ~everything, until, everything)
    for name in ("blocks", "owners", "valid_map", "segments", "logs", "index", "population"):
        assert np.array_equal(getattr(proxy.subsystem.state, name), getattr(twin.state, name)), name
    assert np.array_equal(proxy.subsystem.cost(), twin.cost())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_faulty_agent_means_emergency_and_a_healed_one_learns_again(warm, fault):
    random = np.random.default_rng(20 + FAULTS.index(fault))
    proxy = start(warm, mode="auto", share=0.5, window=2 * BLOCKS, deadline=DEADLINE)
    written = proxy.subsystem.progress().copy()
    before = proxy.table()["agent_operations"]
    while (emergencies(proxy) == 0).any():  # nobody cleans while an agent is waited for: that may end at the reserve
        fault(proxy, random)
        assert not proxy.finished.any()
    check_all(proxy, written)
    assert (proxy.controller.mode() <= Mode.LEARNING).all()
    if fault is not flood:  # one answer in ten is for the right question
        assert np.array_equal(proxy.table()["agent_operations"], before)
    for _ in range(40):
        proxy.decide(sensible(proxy, random))
    assert (proxy.table()["agent_operations"] > before).all()
    check_all(proxy, written)


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
