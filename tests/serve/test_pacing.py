"""Real time: every subsystem has a clock, and the server keeps to it."""

import gymnasium
import numpy as np
import pytest

import kml_envs  # noqa: F401 - registers the environments
from kml_envs.proxy.protocols import Clocked, batch
from kml_envs.serve.kernel import SimulatedKernel
from kml_envs.serve.options import ServeOptions

SMALL = {"segments": 96, "blocks_per_segment": 16, "utilisation": 0.8, "warm_volumes": 1}
PROGRAM = {"workloads": ["sort-rows"], "warm_s": 5.0, "max_nr_regions": 200}
KINDS = {
    "kml/LfsVictim-v0": {**SMALL, "workloads": ["hot-cold-0.8-0.2"]},
    "kml/LfsTune-v0": {**SMALL, "workloads": ["hot-cold-0.8-0.2"]},
    "kml/LfsPacing-v0": SMALL,
    "kml/DamonReclaim-v0": PROGRAM,
}


@pytest.fixture(params=KINDS)
def env(request):
    """A short episode of every kind, at its first question."""
    env = gymnasium.make(request.param, **KINDS[request.param], efficiency="none").unwrapped
    env.reset(seed=1)
    yield env
    env.close()


def run(subsystem, until):
    """Let the built-in algorithm run a subsystem to a count of progress."""
    everything = np.ones(subsystem.instances, np.bool_)
    subsystem.execute(subsystem.builtin_decision(), ~everything, until, everything)


def test_a_clock_goes_on_with_progress(env):
    subsystem = env.proxy.subsystem
    assert isinstance(subsystem, Clocked)
    before, done = subsystem.time_us().astype(np.float64), subsystem.progress().copy()
    np.testing.assert_array_equal(subsystem.progress_by(before - 1e6), done)
    for ahead in (1e3, 50e3, 2e6):
        foretold = subsystem.progress_by(before + ahead)
        assert (foretold >= done).all()
        run(subsystem, foretold)
        assert (subsystem.progress() >= foretold).all()
        assert (subsystem.time_us() <= before + ahead).all()
        run(subsystem, subsystem.progress() + 1)
        assert (subsystem.time_us() > before + ahead - 1e-6).all()
        before, done = subsystem.time_us().astype(np.float64), subsystem.progress().copy()


def test_a_second_holds_the_writes_that_a_device_takes(env):
    subsystem = env.proxy.subsystem
    expected = {"LfsVictimSubsystem": 50_000, "LfsTuneSubsystem": 50_000, "DamonReclaimSubsystem": 1000}
    if (rate := expected.get(type(subsystem).__name__)) is None:
        assert type(subsystem).__name__ == "LfsPacingSubsystem", "its writes arrive as they like"
        return
    made = subsystem.progress_by(subsystem.time_us() + 1e6) - subsystem.progress()
    assert abs(int(made[0]) - rate) <= 1


def test_a_plain_subsystem_says_how_fast_it_is(tutorial_module):
    class Slow(tutorial_module.Readahead):
        progress_per_second = 50.0

    for kind, rate in ((tutorial_module.Readahead, 1000), (Slow, 50)):
        subsystem = batch(kind, 2)
        subsystem.reset(np.ones(2, np.bool_), np.arange(2, dtype=np.uint64))
        run(subsystem, np.array([100, 200]))
        np.testing.assert_allclose(subsystem.time_us(), np.array([100, 200]) / rate * 1e6)
        later = subsystem.progress_by(subsystem.time_us() + 1.5e6)
        np.testing.assert_array_equal(later, [100 + 1.5 * rate, 200 + 1.5 * rate])


def pass_time(kernel, begin, seconds):
    """Let the kernel do everything that is due within so many seconds."""
    now = begin
    while kernel.due is not None and kernel.due < begin + seconds:
        now = max(now, kernel.due)
        kernel.advance(now)
    return begin + seconds


@pytest.mark.parametrize("mode", ["auto", "recommendation", "emergency"])
@pytest.mark.parametrize(("name", "run_ahead_s"), [*zip(KINDS, (0.11, 0.11, 40.0, 2.2), strict=True)])
def test_a_second_of_the_kernel_is_a_second(name, run_ahead_s, mode):
    long = {"episode_s": 1000.0} if "Damon" in name else {"episode_volumes": 1000.0}
    env = gymnasium.make(name, **KINDS[name], **long, mode=mode, efficiency="none").unwrapped
    kernel = SimulatedKernel(env, ServeOptions(speed=2.0), seed=1)
    begin = float(env.proxy.subsystem.time_us()[0])
    now = 100.0
    for second in range(1, 3):
        now = pass_time(kernel, now, 1.0)
        passed = (float(env.proxy.subsystem.time_us()[0]) - begin) / 1e6
        assert 2.0 * second - 1e-6 <= passed < 2.0 * second + run_ahead_s
    assert not env.proxy.finished[0]


def test_time_goes_on_at_the_same_pace_across_episodes(tutorial_module):
    env = gymnasium.make("tutorial/Readahead-v0", episode_progress=100, mode="emergency").unwrapped
    kernel = SimulatedKernel(env, ServeOptions(speed=1.0), seed=1)
    begun = []
    env.reset = lambda reset=env.reset: begun.append(now) or reset()
    now = 0.0
    while now < 5.0:
        now = max(now, kernel.due)
        kernel.advance(now)
    np.testing.assert_allclose(np.diff(begun), 0.1, rtol=0.1)
