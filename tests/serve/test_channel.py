"""The protocol: files, permissions, deadlines and verdicts, driven by a clock that the test sets."""

import errno

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kml_envs.errors import UserError
from kml_envs.serve.channel import DATA_SET, RECOMMENDATION
from kml_envs.serve.dataset import unpack
from kml_envs.serve.options import ServeOptions
from kml_envs.serve.recording import Recorder
from kml_envs.serve.texts import parse_recommendation


class Agent:
    """Both sides' view of a channel: the agent's files, and the clock's hands."""

    def __init__(self, channel, clock):
        self.channel, self.clock, self.kernel = channel, clock, channel.kernel
        self.data = channel.open(DATA_SET, reading=True)
        self.answers = channel.open(RECOMMENDATION, writing=True)

    def text(self, name):
        return self.channel.open(name, reading=True).read(4096).decode().strip()

    def write(self, name, text):
        return self.channel.open(name, writing=True).write(text)

    def pass_time(self, seconds, steps=10_000):
        """Let the kernel do everything that is due until then."""
        end = self.clock.now + seconds
        while self.kernel.due is not None and self.kernel.due <= end and steps:
            self.clock.now = max(self.clock.now, self.kernel.due)
            self.kernel.advance(self.clock.now)
            steps -= 1
        self.clock.now = end

    def next(self):
        """The next data set, as one that waits for it gets it."""
        for _ in range(100):
            if (record := self.data.read(4096)) is not None:
                return unpack(record)
            self.kernel.advance(self.clock.now)
        raise AssertionError("no data set")


@pytest.fixture
def agent(served):
    return lambda **options: Agent(*served(**options))


def error_of(call, *arguments, **keywords):
    with pytest.raises(OSError) as caught:
        call(*arguments, **keywords)
    return caught.value.errno


def test_permissions_are_those_of_sysfs_even_for_root(agent):
    channel = agent().channel
    modes = {name: file.mode for name, file in channel.files.items()}
    assert modes["control"] == modes[RECOMMENDATION] == 0o200 and modes[DATA_SET] == 0o400
    assert all(mode == 0o644 for name, mode in modes.items() if name.startswith("options/"))
    assert error_of(channel.open, "control", reading=True) == errno.EACCES
    assert error_of(channel.open, "state", writing=True) == errno.EACCES
    assert error_of(channel.open, "nothing", reading=True) == errno.ENOENT
    for name, mode in modes.items():
        assert channel.open(name, reading=bool(mode & 0o400), writing=bool(mode & 0o200))


def test_a_decision_passes_through_the_files(agent):
    one = agent()
    data_set = one.next()
    assert one.text("dataset_state") == "extracted_completely"
    assert data_set.mask.all() and data_set.deadline_us == 50_000 and not data_set.corrupted
    one.answers.write(f"{data_set.generation} 2\n".encode())
    assert one.text("verdict") == f"{data_set.generation} accepted"
    feedback = dict(word.split("=") for word in one.text("feedback").split())
    assert feedback["generation"] == str(data_set.generation) and feedback["acted"] == "agent"
    assert feedback["mode"] == one.text("mode") == "recommendation"
    assert one.next().generation == data_set.generation + 1
    assert "agent_operations 1" in one.text("statistics").splitlines()


@pytest.mark.parametrize("speed", [0.0, 0.1, 1.0, 50.0])
@pytest.mark.parametrize("mode", [{}, {"mode": "learning", "share": 0.5, "window": 40}])
def test_the_agent_decides_as_through_the_environment(agent, tutorial_module, speed, mode):
    import gymnasium

    env = gymnasium.make("tutorial/Readahead-v0", episode_progress=300, **mode).unwrapped
    observation, _ = env.reset(seed=3)
    reward, truncated = 0.0, False
    one = agent(episode_progress=300, speed=speed, **mode)
    one.data.read(4096)
    for step in range(150):
        while not one.kernel.open:
            one.pass_time(max(one.kernel.due - one.clock.now, 0.0))
        data_set = one.next()
        np.testing.assert_array_equal(data_set.features, observation)
        if step > 0:
            feedback = dict(word.split("=") for word in one.text("feedback").split())
            assert float(feedback["reward"]) == pytest.approx(reward, rel=1e-6)
            assert int(feedback["finished"]) == truncated
        one.answers.write(b"%d %d" % (data_set.generation, step % 6))
        observation, reward, _, truncated, _ = env.step(step % 6)
        if truncated:
            observation, _ = env.reset()


def test_reading_in_pieces_extracts_partially_and_then_completely(agent):
    one = agent()
    one.next()
    record = one.data.read(4096) or one.channel.open(DATA_SET, reading=True).read(4096)
    pieces = one.channel.open(DATA_SET, reading=True)
    one.write("control", b"prepare_dataset")
    assert one.text("dataset_state") == "clean"
    joined = pieces.read(10, 0)
    assert one.text("dataset_state") == "extracted_partially"
    while piece := pieces.read(10, len(joined)):
        joined += piece
    assert one.text("dataset_state") == "extracted_completely"
    assert len(joined) == len(record) and unpack(joined).generation == unpack(record).generation + 1
    assert pieces.read(10, 0) is None, "each data set is given once to a reader"


def test_a_missed_deadline_leaves_the_decision_to_the_builtin_algorithm(agent):
    one = agent(speed=1.0, deadline_ms=50.0)
    one.data.read(4096)
    one.pass_time(0.001)
    generation = one.next().generation
    one.pass_time(0.049 - 1e-9)
    assert one.kernel.open and one.kernel.proxy.generation[0] == generation
    one.pass_time(0.01)
    assert one.text("verdict").endswith("deadline_missed") and "acted=builtin" in one.text("feedback")


def test_an_agent_that_hangs_counts_as_absent_and_time_goes_on(agent):
    one = agent(speed=1.0, deadline_ms=100.0)
    one.data.read(4096)
    one.pass_time(1.0)
    assert not one.kernel.present
    before = one.kernel.proxy.subsystem.progress()[0]
    one.pass_time(1.0)
    assert 900 < one.kernel.proxy.subsystem.progress()[0] - before < 1100, "1,000 units of progress a second"
    assert one.data.read(4096) is None and one.kernel.present
    one.pass_time(0.05)
    assert one.kernel.open, "the next question waits for it again"
    one.answers.write(f"{one.next().generation} 1".encode())
    assert one.text("verdict").endswith("accepted")


def test_speed_scales_time_and_a_slow_answer_makes_no_burst(agent):
    slow, fast = (agent(speed=speed, episode_progress=100_000) for speed in (1.0, 10.0))
    for one in (slow, fast):
        one.pass_time(0.15)
    ratio = fast.kernel.proxy.subsystem.progress()[0] / slow.kernel.proxy.subsystem.progress()[0]
    assert 8 < ratio < 12
    slow.data.read(4096)
    slow.kernel.options = ServeOptions(1.0, 900.0)
    while not slow.kernel.open:
        slow.pass_time(0.01)
    slow.clock.now += 0.8
    slow.answers.write(f"{slow.next().generation} 1".encode())
    slow.kernel.present = False
    slow.pass_time(0.1)  # the most that the server makes up for
    counted = []
    for _ in range(2):
        before = slow.kernel.proxy.subsystem.progress()[0]
        slow.pass_time(1.0)
        counted.append(slow.kernel.proxy.subsystem.progress()[0] - before)
    assert abs(counted[0] - counted[1]) < 100


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("{} 6", "out_of_range"),
        ("{} -1", "out_of_range"),
        ("{} " + 400 * "9", "out_of_range"),
        ("{} " + 5000 * "9", "wrong_type"),
        ("{}", "wrong_shape"),
        ("{} 1 2", "wrong_shape"),
        ("{} two", "wrong_type"),
        ("two {}", "wrong_type"),
        ("", "wrong_type"),
        ("\0\udcff", "wrong_type"),
    ],
)
@pytest.mark.parametrize("recorded", [False, True])
def test_garbage_is_judged_and_the_builtin_algorithm_acts(agent, tmp_path, text, verdict, recorded):
    recorders = []
    one = agent(record=(lambda decision: recorders[0].add_decision(decision)) if recorded else None)
    recorders.append(Recorder(tmp_path / "recording", "x", {}, one.kernel.proxy.subsystem))
    generation = one.next().generation
    one.answers.write(text.format(generation).encode(errors="surrogateescape"))
    assert one.text("verdict") == f"{generation} {verdict}" and "acted=builtin" in one.text("feedback")
    one.answers.write(f"{one.next().generation} 1".encode())
    assert one.text("verdict").endswith("accepted"), "the kernel goes on"


def test_a_stale_recommendation_is_counted_and_the_question_stays_open(agent):
    one = agent()
    generation = one.next().generation
    for stale in (generation - 1, generation + 1):
        one.answers.write(b"%d 1" % stale)
        assert one.text("verdict") == f"{stale} stale" and one.kernel.open
    assert "verdict/stale 2" in one.text("statistics").splitlines()
    one.answers.write(b"%d 1" % generation)
    assert one.text("verdict") == f"{generation} accepted"


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_can_be_read_as_a_recommendation(text, choice):
    generation, _ = parse_recommendation(text, choice)
    assert generation is None or generation >= 0


def test_commands_drive_the_life_cycle(agent):
    one = agent()
    one.next()
    one.write("control", b"discard_dataset\n")
    assert one.text("dataset_state") == "obsolete" and one.data.read(4096) is None
    one.write("control", b"prepare_dataset\n")
    generation = one.next().generation
    one.answers.write(b"%d 0" % generation)
    assert one.text("verdict").endswith("accepted")
    one.write("control", b"stop")
    assert one.text("state") == "stopped" and one.kernel.due is None and one.data.read(4096) is None
    assert error_of(one.write, "control", b"stop") == errno.EBUSY
    one.write("control", b"start")
    assert one.text("state") == "running" and one.next().generation > generation
    assert error_of(one.write, "control", b"shut down") == errno.EINVAL


@pytest.mark.parametrize("record", [None, lambda decision: None], ids=["unrecorded", "recorded"])
def test_a_discarded_data_set_stays_discarded(agent, record):
    one = agent(record=record)
    generation = one.next().generation
    one.write("control", b"discard_dataset")
    one.answers.write(b"%d 1" % generation)
    assert one.text("verdict") == f"{generation} stale" and "acted=builtin" in one.text("feedback")


def test_options_are_read_and_written_one_by_one(agent):
    one = agent()
    assert (one.text("options/mode"), one.text("options/share")) == ("recommendation", "none")
    assert (one.text("options/probes"), one.text("options/window")) == ("0", "500")
    one.write("options/mode", b"learning\n")
    assert one.text("mode") == one.text("options/mode") == "learning"
    one.write("options/share", b"0.5")
    assert one.kernel.proxy.options.share == 0.5
    one.write("options/share", b"none")
    one.write("options/deadline_ms", b"20")
    assert one.kernel.options.deadline_ms == 20.0
    for name, text in (("mode", b"best"), ("share", b"2"), ("probes", b"yes"), ("window", b"x"), ("speed", b"-1")):
        assert error_of(one.write, f"options/{name}", text) == errno.EINVAL
    assert error_of(one.write, "options/speed", b"1" * 5000) == errno.EINVAL
    assert one.text("options/mode") == "learning" and one.next()


@pytest.mark.parametrize("name", ["episode_progress", "window", "latency", "deadline"])
def test_numbers_that_no_clock_can_hold_are_refused_and_the_kernel_goes_on(agent, name):
    one = agent(mode="learning", share=0.5)
    before = one.text(f"options/{name}")
    for much in (10**25, 2**53 + 1):
        assert error_of(one.write, f"options/{name}", b"%d" % much) == errno.EINVAL
    assert one.text(f"options/{name}") == before
    for _ in range(5):
        one.answers.write(b"%d 1" % one.next().generation)
    if name != "latency":  # the tutorial's subsystem cannot wait
        one.write(f"options/{name}", b"%d" % 2**53)
        one.kernel.advance(one.clock.now)
        assert one.text("state") == "running"


def test_a_new_speed_wakes_a_kernel_that_sleeps_towards_an_old_moment(agent):
    one = agent(speed=1.0, episode_progress=100_000)
    progress = one.kernel.proxy.subsystem.progress
    one.pass_time(0.1)
    one.write("options/speed", b"1e-9")
    before = progress()[0]
    one.pass_time(5.0)
    assert progress()[0] - before <= 64 and one.kernel.due > one.clock.now + 1000.0
    one.write("options/speed", b"1")
    before = progress()[0]
    one.pass_time(1.0)
    assert 900 < progress()[0] - before < 1100, "1,000 units of progress a second, and none made up for"
    one.write("options/speed", b"1e-9")
    one.pass_time(5.0)
    one.write("options/speed", b"0")
    assert one.kernel.due == one.clock.now


def test_a_new_speed_holds_from_then_on_while_a_question_is_open(agent):
    one = agent(speed=1.0, deadline_ms=1e6, episode_progress=100_000)
    one.data.read(4096)
    while not one.kernel.open:
        one.pass_time(0.01)
    one.next()
    one.clock.now += 100.0
    one.write("options/speed", b"2")
    one.answers.write(b"%d 1" % one.kernel.proxy.generation[0])
    assert one.text("verdict").endswith("accepted")
    assert one.kernel.due <= one.clock.now + 0.1


def test_a_new_deadline_holds_for_the_question_that_is_open(agent):
    one = agent(speed=1.0, deadline_ms=1e6)
    one.data.read(4096)
    while not one.kernel.open:
        one.pass_time(0.01)
    one.next()
    asked = one.clock.now
    one.write("options/deadline_ms", b"50")
    assert asked < one.kernel.due <= asked + 0.05
    one.pass_time(0.05)
    assert one.text("verdict").endswith("deadline_missed")


def test_modes_run_through_units_and_episodes_of_the_builtin_algorithm(agent):
    one = agent(speed=1.0, mode="emergency")
    one.data.read(4096)
    one.pass_time(5.0)
    assert one.text("mode") == "emergency" and not one.kernel.open
    one.write("options/mode", b"learning")
    one.data.read(4096)
    one.pass_time(30.0)
    assert one.text("mode") == "learning" and "agent_operations 0" in one.text("statistics")


def test_readers_learn_that_a_text_has_changed(agent):
    one = agent()
    one.next()
    verdict = one.channel.open("verdict", reading=True)
    assert verdict.ready(), "nothing has been read yet"
    verdict.read(4096)
    assert not verdict.ready()
    told = []
    one.channel.on_change(lambda: told.append(verdict.ready()))
    one.answers.write(b"0 0")
    assert told == [True]


def statistic(one, name):
    return float(dict(line.split(" ") for line in one.text("statistics").splitlines())[name])


def test_an_agent_that_is_gone_means_emergency_until_one_is_back(agent):
    one = agent(speed=1.0, mode="auto", episode_progress=1_000_000)
    one.data.read(4096)
    one.pass_time(0.2)
    assert one.text("mode") == "learning" and statistic(one, "agent_here") == 1
    one.data.close()
    one.pass_time(0.5)
    assert one.text("mode") == "learning", "one that opens its files anew for every decision is not gone yet"
    one.pass_time(1.0)
    assert one.text("mode") == "emergency" and not one.kernel.open
    assert statistic(one, "agent_here") == 0 and statistic(one, "emergencies_unhealthy") == 1
    one.pass_time(5.0)
    assert one.text("mode") == "emergency"
    back = one.channel.open(DATA_SET, reading=True)
    back.read(4096)
    one.pass_time(2.0)  # the hold time
    assert one.text("mode") == "learning" and statistic(one, "agent_here") == 1


def test_an_agent_that_comes_again_and_again_is_there(agent):
    one = agent(speed=1.0, mode="auto", episode_progress=1_000_000)
    for _ in range(10):
        handle = one.channel.open(DATA_SET, reading=True)
        handle.read(4096)
        handle.close()
        handle.close()
        one.pass_time(0.4)
        assert statistic(one, "agent_here") == 1
    one.channel.open("state", reading=True).read(4096)
    one.pass_time(1.0)
    assert statistic(one, "agent_here") == 0, "not everybody who reads is an agent"


def test_a_heartbeat_outlives_a_change_of_options(agent):
    one = agent(speed=1.0, mode="auto", episode_progress=1_000_000)
    one.data.read(4096)
    one.data.close()
    one.pass_time(2.0)
    assert one.text("mode") == "emergency"
    one.write("options/share", b"0.5")
    assert one.text("mode") == "emergency"


def test_options_out_of_range_are_mistakes_of_the_user():
    for wrong in (
        {"speed": -1.0},
        {"speed": float("nan")},
        {"speed": 1e300},
        {"speed": 5e-324},
        {"deadline_ms": 0.0},
        {"patience": 0},
    ):
        with pytest.raises(UserError):
            ServeOptions(**wrong)
