"""The monitor behind the proxy: what an action stands for, what is refused, and what the built-in algorithms do."""

import numpy as np
import pytest
from damon_programs import begun, make_monitor, play, verdict_of
from hypothesis import given, settings
from hypothesis import strategies as st

from kml_envs.damon.checks import attribute_refusals, harmful_settings
from kml_envs.damon.config import Context, MonitoringAttributes
from kml_envs.damon.monitor_settings import BUILTINS, recommended_attributes
from kml_envs.damon.monitor_tuning import CPU_PRICE
from kml_envs.envs.damon_monitor import DamonMonitorEnv
from kml_envs.proxy import Verdict

NUMBERS = st.floats(-1.0, 1.0, width=32)
OFTEN = np.array([-1.0, 0.0, 0.0, 1.0], np.float32)  # 5 ms, 20 samples
SELDOM = np.array([1.0, 0.0, 0.0, 1.0], np.float32)  # 10.24 s, 20 samples
BALANCED = np.array([-0.2, 0.0, 0.5, 1.0], np.float32)  # 80 ms, 20 samples


def attributes(env):
    return env.proxy.subsystem.state.monitors["attributes"][0]


@pytest.fixture(scope="module")
def subsystem():
    return begun(make_monitor())


@given(action=st.lists(st.one_of(NUMBERS, st.sampled_from([-1.0, 1.0])), min_size=4, max_size=4))
@settings(deadline=None)
def test_what_is_refused_is_what_the_checks_find(subsystem, action):
    recommended = recommended_attributes(np.array(action), 200)
    found = [*attribute_refusals(recommended), *harmful_settings(Context(monitoring_attrs=recommended), nodes=1)]
    assert subsystem.check(np.array([action]))[0] == verdict_of(found)


def test_most_of_the_box_is_accepted():
    env = make_monitor(max_nr_regions=1000)
    env.reset(seed=0)
    subsystem = env.proxy.subsystem
    drawn = np.random.default_rng(0).uniform(-1.0, 1.0, (500, 4))
    verdicts = np.array([subsystem.check(action[None])[0] for action in drawn])
    assert (verdicts == Verdict.ACCEPTED).mean() > 0.75
    assert {Verdict.TOO_FEW_REGIONS, Verdict.REGION_LIMITS_CROSSED, Verdict.TOO_FEW_SAMPLES} <= set(verdicts)


def test_numbers_stand_for_the_documented_attributes():
    expected = MonitoringAttributes(5_000, 100_000, min_nr_regions=20, max_nr_regions=1000)
    assert recommended_attributes(OFTEN, 1000) == expected
    assert recommended_attributes(np.zeros(4), 1000) == MonitoringAttributes(
        320_000, 6_400_000, min_nr_regions=20, max_nr_regions=500
    )
    longest = recommended_attributes(np.ones(4), 1000)
    assert (longest.sample_us, longest.max_nr_accesses, longest.min_nr_regions) == (10_240_000, 160, 160)


def test_refused_attributes_leave_the_builtin_algorithms_in_force():
    env = make_monitor()
    env.reset(seed=1)
    before = attributes(env).copy()
    env.step(np.array([0.0, -1.0, 0.0, 1.0], np.float32))
    assert attributes(env)["aggrs"] == 3
    assert attributes(env)["min_nr_regions"] == before["min_nr_regions"]


def test_a_change_waits_for_the_end_of_the_sampling_interval():
    env = make_monitor()
    env.reset(seed=1)
    env.step(SELDOM)
    assert attributes(env)["sample_us"] == 10_240_000
    env.step(OFTEN)  # the interval begun has five seconds to go
    assert attributes(env)["sample_us"] == 10_240_000
    env.step(OFTEN)
    assert attributes(env)["sample_us"] == 5_000
    assert env.proxy.subsystem.elapsed_us()[0] == 15_000_000


def test_equal_attributes_let_an_aggregation_go_on():
    """Aggregations of 6.4 s outlast a control interval: they end only where they are not begun anew."""
    noise = np.random.default_rng(0).uniform(-0.05, 0.05, (12, 4))
    results = {}
    for name, flip in (("steady", 0.0), ("restless", 0.3)):
        env = make_monitor(episode_s=60.0)
        env.reset(seed=1)
        for step in range(12):
            action = np.array([0.1, 0.0, 0.1, 0.9]) + noise[step] * 0.5 + flip * (step % 2)
            _, _, _, _, info = env.step(action.astype(np.float32))
        results[name] = info
    assert results["steady"]["pictures"] >= 8
    assert results["restless"]["pictures"] <= 3


@given(
    moves=st.lists(st.lists(st.floats(-0.74, 0.74), min_size=4, max_size=4), min_size=1, max_size=5),
    powers=st.tuples(st.integers(1, 10), st.integers(-1, 2), st.integers(-2, 2), st.integers(-2, -1)),
)
@settings(deadline=None, max_examples=25)
def test_what_is_in_force_stays_while_recommendations_are_near_it(subsystem, moves, powers):
    def recommend(power):
        return np.array([power[0] / 5.5 - 1.0, power[1] / 3.0, power[2] / 3.0, power[3] / 1.5 + 1.0])[None]

    every = np.ones(1, np.bool_)
    subsystem.reset(every, np.zeros(1, np.uint64))
    for move in [[0.0] * 4, *moves]:
        action = recommend(np.add(powers, move))
        recommended = subsystem.recommended(action)[0]
        subsystem.execute(action, every, subsystem.progress() + 5000, every)
        wanted = subsystem.tracks["wanted"][0]
        names = ["sample_us", "aggr_us", "min_nr_regions", "max_nr_regions"]
        assert wanted[names] == recommended[names]
        assert wanted["sample_us"] == 5_000 * 2 ** powers[0]
        assert wanted["aggr_us"] == wanted["sample_us"] * 20 * 2.0 ** powers[1]
    further = subsystem.recommended(recommend(np.add(powers, [-0.76, 0.0, 0.0, 0.0])))[0]
    assert further["sample_us"] == wanted["sample_us"] // 2


def test_overhead_and_error_make_the_score():
    often, balanced, seldom = (play(make_monitor(), action) for action in (OFTEN, BALANCED, SELDOM))
    assert often["monitor_cpu_share"] > 10 * balanced["monitor_cpu_share"] > 100 * seldom["monitor_cpu_share"]
    assert balanced["access_error"] < min(often["access_error"], seldom["access_error"])
    assert balanced["score"] == pytest.approx(
        -balanced["access_error"] - CPU_PRICE * balanced["monitor_cpu_share"], rel=1e-12
    )
    # 20 to 200 regions, 0.3 us each, every 80 ms.
    assert 20 * 0.3 / 80_000 <= balanced["monitor_cpu_share"] <= 200 * 0.3 / 80_000 * 1.5


def test_a_price_of_nothing_makes_overhead_free():
    info = play(make_monitor(cpu_price=0.0), OFTEN)
    assert info["score"] == -info["access_error"]


@pytest.mark.parametrize(
    ("builtin", "expected"),
    [("autotune", (5_000, 20, 10, 3)), ("defaults", (5_000, 20, 10, 0)), ("hmsdk", (100_000, 20, 100, 0))],
)
def test_builtin_algorithms_act(builtin, expected):
    env = make_monitor(builtin=builtin, mode="emergency")
    info = play(env, np.zeros(4, np.float32))
    assert info["operations"] == 6
    found = attributes(env)
    assert found["aggr_us"] == found["sample_us"] * expected[1]
    assert (found["min_nr_regions"], found["aggrs"]) == expected[2:]
    assert found["sample_us"] == expected[0] or builtin == "autotune"


def test_tuning_goes_on_from_the_agents_interval():
    env = make_monitor(max_nr_regions=100)
    env.reset(seed=1)
    env.step(np.array([0.0, 0.7, 0.0, 1.0], np.float32))  # 320 ms, 80 samples
    subsystem = env.proxy.subsystem
    every = np.ones(1, np.bool_)
    subsystem.execute(subsystem.builtin_decision(), every, subsystem.progress() + 1000, every)
    found = attributes(env)
    assert (found["sample_us"], found["aggr_us"], found["aggrs"]) == (320_000, 6_400_000, 3)
    assert (found["min_nr_regions"], found["max_nr_regions"]) == (10, 100)


def test_auto_tuning_lengthens_intervals_of_an_idle_program():
    env = make_monitor(workloads=["idle-server"], mode="emergency", warm_s=60.0)
    play(env, np.zeros(4, np.float32), seed=0)
    assert attributes(env)["sample_us"] > 50_000


def test_built_in_names_are_those_documented():
    for name in BUILTINS:
        assert name in DamonMonitorEnv.__doc__
