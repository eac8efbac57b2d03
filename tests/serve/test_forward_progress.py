"""The kernel never waits for user space: users go on while a question is open, and at the reserve nobody is asked."""

import gymnasium
import pytest

import kml_envs  # noqa: F401 - registers the environments
from kml_envs.serve.channel import DATA_SET, RECOMMENDATION, Channel
from kml_envs.serve.dataset import unpack
from kml_envs.serve.kernel import SimulatedKernel
from kml_envs.serve.options import ServeOptions

WRITES_PER_SECOND = 50_000
SMALL = {"segments": 128, "workloads": ["hot-cold-0.8-0.2"], "warm_volumes": 1, "episode_volumes": 1000.0}
PROGRAM = {"workloads": ["sort-rows"], "warm_s": 5.0, "max_nr_regions": 200, "episode_s": 1000.0}


class Hands:
    """An agent's files, the clock's hands, and what both sides have come to."""

    def __init__(self, name, deadline_ms=5000.0, **arguments):
        kwargs = {**(PROGRAM if "Damon" in name else SMALL), "efficiency": "none", **arguments}
        self.env = gymnasium.make(name, **kwargs).unwrapped
        self.subsystem = self.env.proxy.subsystem
        self.now = 0.0
        self.kernel = SimulatedKernel(self.env, ServeOptions(1.0, deadline_ms), seed=1)
        self.channel = Channel(self.kernel, name, clock=lambda: self.now)
        self.data = self.channel.open(DATA_SET, reading=True)
        self.answers = self.channel.open(RECOMMENDATION, writing=True)

    def text(self, name):
        return self.channel.open(name, reading=True).read(4096).decode().strip()

    def written(self):
        return int(self.subsystem.progress()[0])

    def pass_time(self, seconds, look=lambda: None):
        end = self.now + seconds
        while self.kernel.due is not None and self.kernel.due <= end:
            self.now = max(self.now, self.kernel.due)
            self.kernel.advance(self.now)
            look()
        self.now = end

    def next(self):
        """The next data set, read the moment that it is published."""
        while (record := self.data.read(1 << 16)) is None:
            self.now = max(self.now, self.kernel.due)
            self.kernel.advance(self.now)
        return unpack(record)


@pytest.fixture
def hands():
    made = []

    def make(*arguments, **keywords):
        made.append(Hands(*arguments, **keywords))
        return made[-1]

    yield make
    for one in made:
        one.env.close()


def test_users_write_on_while_an_agent_hangs(hands):
    one = hands("kml/LfsVictim-v0")
    asked = one.next()
    assert one.written() == asked.progress
    one.pass_time(0.002)
    assert one.kernel.open and abs(one.written() - asked.progress - 0.002 * WRITES_PER_SECOND) <= 51, "a look each ms"
    before, begin = one.written(), one.now
    for _ in range(10):
        one.data.read(1 << 16)  # it shows itself, and hangs again
        one.pass_time(0.1)
        assert one.written() - before == pytest.approx((one.now - begin) * WRITES_PER_SECOND, rel=0.02)


def test_a_new_speed_holds_from_then_on_while_users_write_on(hands):
    one = hands("kml/LfsVictim-v0")
    asked = one.next()
    one.now += 0.0006
    one.channel.open("options/speed", writing=True).write(b"0.1")
    one.pass_time(0.002)
    assert one.kernel.open
    expected = (0.0006 + 0.002 * 0.1) * WRITES_PER_SECOND
    assert one.written() - asked.progress == pytest.approx(expected, abs=6), "a look each ms"


def test_at_the_reserve_the_builtin_algorithm_acts_at_once_and_nobody_is_asked(hands):
    one = hands("kml/LfsVictim-v0")
    asked = one.next()
    begin, given_up_after = one.now, []

    def look():
        assert not (one.kernel.open and one.subsystem.critical()[0])
        if one.text("verdict").startswith(f"{asked.generation} ") and not given_up_after:
            assert one.text("verdict").endswith("deadline_missed") and "acted=builtin" in one.text("feedback")
            given_up_after.append(one.now - begin)

    one.pass_time(0.02, look)
    config = one.subsystem.warm.config
    blocks = (config.trigger_sections - config.reserve_sections) * config.geometry.blocks_per_section
    assert 0.003 < given_up_after[0] <= blocks / WRITES_PER_SECOND + 0.0011
    assert one.kernel.options.deadline_ms == 5000.0


def test_an_answer_meets_the_state_that_time_has_led_to(hands):
    one = hands("kml/LfsVictim-v0")
    asked = one.next()
    one.now += 0.0011
    one.answers.write(b"%d 0" % asked.generation)
    assert one.text("verdict") == f"{asked.generation} accepted"
    following = one.next()
    assert following.progress >= asked.progress + 55
    assert one.now >= (following.progress - asked.progress) / WRITES_PER_SECOND


@pytest.mark.parametrize("seen", [True, False], ids=["its deadline was seen to pass", "it comes before that is seen"])
@pytest.mark.parametrize("name", ["kml/LfsTune-v0", "kml/DamonReclaim-v0"])
def test_a_late_answer_is_refused_as_late(hands, name, seen):
    one = hands(name, deadline_ms=30.0)
    numbers = one.subsystem.recommendation.size
    asked = one.next()
    if seen:
        one.pass_time(0.04)
    else:
        one.now += 0.04
    one.answers.write(f"{asked.generation}{' 0.0' * numbers}".encode())
    assert one.text("verdict") == f"{asked.generation} deadline_missed"
    assert "agent_operations 0" in one.text("statistics").splitlines()
    assert "verdict/deadline_missed 1" in one.text("statistics").splitlines()
    assert "verdict/stale 0" in one.text("statistics").splitlines()
    following = one.next()
    one.answers.write(f"{following.generation}{' 0.0' * numbers}".encode())
    assert one.text("verdict") == f"{following.generation} accepted"


def test_a_program_runs_on_while_an_agent_hangs(hands):
    one = hands("kml/DamonReclaim-v0", deadline_ms=5000.0)
    asked = one.next()
    one.pass_time(1.5)
    assert one.kernel.open and one.written() == pytest.approx(asked.progress + 1500, abs=2)


def test_a_question_ends_with_the_unit_that_it_belongs_to(hands):
    one = hands("kml/LfsTune-v0", deadline_ms=100_000.0, mode="learning", share=0.5)
    before, begin = one.next().progress, one.now
    one.pass_time(3.0)
    assert one.written() - before == pytest.approx((one.now - begin) * WRITES_PER_SECOND, rel=0.02)


def test_a_deadline_in_progress_is_kept_too(hands):
    one = hands("kml/LfsVictim-v0", deadline_us=1000.0)
    asked = one.next()
    one.now += 0.0021
    one.answers.write(b"%d 0" % asked.generation)
    assert one.text("verdict") == f"{asked.generation} deadline_missed"


def test_what_an_answer_is_worth_does_not_depend_on_how_often_the_kernel_looks(hands):
    decided = []
    for looks in (1, 4):
        one = hands("kml/LfsVictim-v0")
        asked = one.next()
        for _ in range(looks):
            one.now += 0.004 / looks
            one.kernel.advance(one.now)
        one.answers.write(b"%d 0" % asked.generation)
        decided.append((one.text("verdict"), one.next().progress, one.subsystem.cost()[0]))
    assert decided[0] == decided[1]
    assert decided[0][0].endswith("accepted")


@pytest.mark.parametrize("thinks_s", [0.0002, 0.0005, 0.001, 0.002, 0.004])
def test_users_keep_their_pace_whatever_that_of_the_agent(hands, thinks_s):
    one = hands("kml/LfsVictim-v0")
    before, begin = one.written(), one.now
    while one.now < begin + 1.0:
        asked = one.next()
        one.pass_time(thinks_s)
        one.answers.write(b"%d 0" % asked.generation)
    assert one.written() - before == pytest.approx((one.now - begin) * WRITES_PER_SECOND, rel=0.03)
    counts = {name: int(float(number)) for name, number in map(str.split, one.text("statistics").splitlines())}
    assert counts["verdict/accepted"] > 0 and counts["verdict/emergency"] == 0


def test_an_answer_is_late_once_the_users_have_needed_it_though_nobody_has_looked(hands):
    one = hands("kml/LfsVictim-v0")
    one.next()
    begin = one.now
    while one.kernel.open:  # how long that takes
        one.now = max(one.now, one.kernel.due)
        one.kernel.advance(one.now)
    other = hands("kml/LfsVictim-v0")
    asked = other.next()
    other.now += one.now - begin
    other.answers.write(b"%d 0" % asked.generation)
    assert other.text("verdict") == f"{asked.generation} deadline_missed"


def test_before_an_agent_has_come_nobody_is_missed(hands):
    one = hands("kml/LfsVictim-v0", mode="auto", window_volumes=2.0)
    one.data.close()
    emergencies = "emergencies_unhealthy 0"
    one.pass_time(20.0)
    assert one.text("mode") == "learning" and emergencies in one.text("statistics").splitlines()
    assert "verdict/deadline_missed 0" in one.text("statistics").splitlines()
    asked = one.next()
    one.answers.write(b"%d 0" % asked.generation)
    assert one.text("verdict") == f"{asked.generation} accepted"
    assert one.text("mode") == "learning" and emergencies in one.text("statistics").splitlines()
