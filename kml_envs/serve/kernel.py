"""The simulated kernel: one instance of a subsystem behind its proxy, in real or scaled time.

It never waits for user space. A question to the agent has a deadline in wall time; where none comes the built-in
algorithm acts. An agent that misses several deadlines in a row counts as absent until it shows itself again, and the
built-in algorithm then acts at once. There is no thread and no clock in here: whoever drives the kernel tells it the
time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from kml_envs.envs.proxy_env import ProxyEnv
from kml_envs.errors import UserError
from kml_envs.proxy import Choice, Feedback, Mode, ProxyOptions, Verdict
from kml_envs.proxy.lifecycle import DataSetState
from kml_envs.proxy.protocols import Waiting
from kml_envs.proxy.specs import IntArray, Snapshot
from kml_envs.serve.dataset import DataSet, pack
from kml_envs.serve.pacing import Pace

# Looking a member up in an enumeration costs as much as a system call: once here, not at every decision.
_OBSOLETE, _CORRUPTED = int(DataSetState.OBSOLETE), int(DataSetState.CORRUPTED)

STRIDE_S = 0.05
"""Wall time that is simulated in one go where nobody is asked, in between files are answered."""

UNPACED_STRIDE_S = 1.0
"""Simulated time of the same at speed 0."""

LOOK_S = 0.001
"""Wall time between two looks at the users of a subsystem whose question is open."""

HEARTBEAT_S = 1.0
"""Wall time after which an agent that has closed its files is gone, unless it has opened some again."""

_STEPS_AFTER_ANSWER = 4
_NOTHING = np.zeros(1, np.int64)


@dataclass(frozen=True)
class ServeOptions:
    """How a subsystem is served.

    Attributes:
        speed: Seconds of simulated time in a second of wall time; 0: as fast as the machine can.
        deadline_ms: Wall time from the publication of a data set until the built-in algorithm acts, in milliseconds.
        patience: Deadlines in a row that an agent may miss before it counts as absent.
    """

    speed: float = 1.0
    deadline_ms: float = 50.0
    patience: int = 3

    def __post_init__(self) -> None:
        """Reject times that cannot be.

        Raises:
            UserError: A number is out of range.
        """
        if not 0.0 <= self.speed < math.inf:
            raise UserError(f"speed {self.speed}: must be a number from 0 (as fast as possible) on")
        if not 0.0 < self.deadline_ms <= 1e6:
            raise UserError(f"deadline_ms {self.deadline_ms}: must lie above 0 and be at most 1e6")
        if self.patience < 1:
            raise UserError(f"patience {self.patience}: must be at least 1")


@dataclass(frozen=True)
class Decision:
    """One decision cycle, for those who keep records of them.

    Attributes:
        generation: Of the data set.
        progress: Work done for the user when the question came up.
        snapshot: The data set.
        recommendation: What the agent sent, as far as it could be read; None where nothing came.
        feedback: What came of it.
    """

    generation: int
    progress: int
    snapshot: Snapshot
    recommendation: object
    feedback: Feedback


class SimulatedKernel:
    """One instance of a subsystem behind its proxy, driven by `advance` and by what the agent writes.

    Attributes:
        env: The environment whose proxy is served.
        proxy: That proxy.
        options: Speed and deadline.
        open: Whether a data set is published and its recommendation awaited.
        present: Whether there is an agent to wait for.
        due: When `advance` has something to do next, in the driver's seconds; None: not before a command.
        verdict: Generation and number of the last `Verdict`, that of a missed deadline included.
        feedback: Generation and feedback of the last decision; None before the first.
    """

    def __init__(
        self,
        env: ProxyEnv,
        options: ServeOptions,
        seed: int | None = None,
        record: Callable[[Decision], None] | None = None,
    ) -> None:
        """Begin the first episode.

        Args:
            env: The environment whose proxy is served; nobody else may step it.
            options: Speed and deadline.
            seed: Of the episodes; None: from the operating system.
            record: Told every decision.
        """
        self.env, self.proxy, self.options = env, env.proxy, options
        self.open = self.present = False
        self.due: float | None = -math.inf
        self.verdict: tuple[int, int] | None = None
        self.feedback: tuple[int, Feedback] | None = None
        self._record = record
        self._missed = 0
        self._agent_files, self._seen_at, self._beating = 0, math.inf, True  # until one has come and gone
        self._asked_at = -math.inf
        self._asked_progress = 0
        self._given_up: tuple[int, int] | None = None  # verdict on the last question, if nothing came in time
        self._waits = self.proxy.subsystem if isinstance(self.proxy.subsystem, Waiting) else None
        self._data_set: bytes | None = None
        asked = self.proxy.subsystem.recommendation
        self._choice = isinstance(asked, Choice)
        self._any = np.ones(asked.count, np.bool_) if isinstance(asked, Choice) else None
        self._pace = Pace(self.proxy.subsystem)
        self._beginning = True  # an episode, of which no time has passed yet
        if record is not None:
            self.proxy.re_init(replace(self.proxy.options, keep_builtin_decision=True))
        self.proxy.course.stride = self._stride
        self.env.reset(seed=seed)

    # Time

    def advance(self, now: float) -> float | None:
        """Do what is due, one step of it.

        Args:
            now: The time, in seconds of a clock that never goes back.

        Returns:
            The new `due`.
        """
        if self.due is None or now < self.due:
            return self.due
        self._listen(now)
        if self.open:
            self._look(now)
        elif self._beginning:
            self._pace.begin(now)
            self._beginning = False
            self.due = now
        elif self.proxy.finished[0]:
            self._begin_episode()
            self._pace.begin()
        elif self.proxy.course.underway[0]:
            self.proxy.course.go_on(self.proxy.course.underway)
            self._follow(now)
        else:
            self._ask(now)
        return self.due

    def agent_seen(self, now: float, files: int = 0) -> None:
        """Somebody looks for data sets, or answers: there is an agent to wait for.

        Args:
            now: The time.
            files: How many more files it now holds open for that.
        """
        self._agent_files += files
        self._seen_at = now
        if not self.present:
            self.present, self._missed = True, 0

    def agent_left(self, now: float) -> None:
        """Somebody has closed such a file."""
        self._agent_files -= 1
        self._seen_at = now

    @property
    def agent_here(self) -> bool:
        """Whether the agent's heart beats: as long as its files are open, and a little longer."""
        return self._beating

    # What the agent does

    @property
    def published(self) -> bool | np.bool_:
        """Whether a decision waits, and its data set has not been discarded."""
        return self.open and self.proxy.data_set_state[0] != _OBSOLETE

    def read_data_set(self) -> bytes:
        """The record of the published data set."""
        if self._data_set is None:
            snapshot = self.proxy.publish_data(complete=False)
            data_set = DataSet(
                int(self.proxy.generation[0]),
                int(self.proxy.subsystem.progress()[0]),
                snapshot.features[0],
                self._any if snapshot.mask is None else snapshot.mask[0],
                round(self.options.deadline_ms * 1e3),
                bool(self.proxy.data_set_state[0] == _CORRUPTED),
            )
            self._data_set = pack(data_set)
        return self._data_set

    def data_set_extracted(self, generation: int) -> None:
        """The last byte of that generation's record has been handed out."""
        if self.open and self._data_set is not None and generation == self.proxy.generation[0]:
            self.proxy.publish_data()

    def recommend(self, text: bytes, now: float) -> None:
        """Take a recommendation: `GENERATION CANDIDATE` or `GENERATION NUMBER NUMBER …`, in text.

        One that names another generation than the published one is counted as stale, and the question stays open; one
        that comes after its deadline gets the verdict that this had. Anything else is judged, and where it is rejected
        the built-in algorithm acts.
        """
        self.agent_seen(now)
        generation, recommendation = parse_recommendation(text, self._choice)
        stale = generation is not None and generation != self.proxy.generation[0]
        if self.open:
            self._let_users_go_on(now)
            if self._too_late(now):
                self._give_up(now)
        if self._given_up is not None and generation == self._given_up[0]:
            self.verdict = self._given_up
            return
        if not self.open or stale:
            named = 0 if generation is None else generation
            verdict = Verdict.NOT_ASKED if generation is None else Verdict.STALE
            self.verdict = named, int(verdict)
            self.proxy.statistics.count(np.array([verdict], np.int8), self.proxy.life_cycle.running())
            return
        self._missed = 0
        self._decide(recommendation, now)
        # Where the next question is due already, its data set is there when the answer returns.
        for _ in range(_STEPS_AFTER_ANSWER):
            if self.open:
                break
            self.advance(now)

    # Commands

    def close(self) -> None:
        """End the proxy's life."""
        if self.due is None:
            self.proxy.shut_down()
        else:
            self.env.close()
        self._close()
        self.due = None

    def start(self, now: float) -> None:
        """Let a stopped model go on, with a new episode.

        Raises:
            LifeCycleError: It is not stopped.
        """
        self.proxy.start()
        self._begin_episode()
        self._pace.begin(now)
        self.due = now

    def stop(self) -> None:
        """Make the model stand still.

        Raises:
            LifeCycleError: It is not running.
        """
        self.proxy.stop()
        self._close()
        self.due = None

    def prepare_data_set(self) -> None:
        """Publish a new data set for the decision that waits; its deadline stays.

        Raises:
            LifeCycleError: The model is not running.
        """
        self.proxy.prepare_dataset()
        self._data_set = None

    def discard_data_set(self) -> None:
        """Withdraw the data set: recommendations for it are stale until the next one.

        Raises:
            LifeCycleError: The model is shutting down.
        """
        self.proxy.discard_dataset()
        self._data_set = None

    def set_proxy_options(self, options: ProxyOptions, now: float) -> None:
        """Change the proxy's options; the data set is replaced.

        Raises:
            UserError: The options contradict each other.
        """
        self.proxy.re_init(options)
        self.proxy.heartbeat(np.array([self._beating]))
        if self.due is not None:
            self._close()
            self._follow(now)

    # The decision cycle

    def _ask(self, now: float) -> None:
        """Publish a data set and wait for the agent; where there is none, the built-in algorithm acts at once."""
        self.proxy.get_dataset()
        self.proxy.preprocess_data()
        self._asked_at, self._asked_progress = now, int(self.proxy.subsystem.progress()[0])
        self._data_set, self._given_up = None, None
        self._pace.wait(now)
        self.open = True
        if self.present:
            self._plan_look(now)
        else:
            self._give_up(now)

    def _listen(self, now: float) -> None:
        """Tell the proxy when the agent's heart stops, or beats again."""
        beating = self._agent_files > 0 or now - self._seen_at < HEARTBEAT_S
        if beating != self._beating:
            self._beating = beating
            self.present = self.present and beating
            self.proxy.heartbeat(np.array([beating]))
            if self.open and not beating:
                self._give_up(now)

    def _look(self, now: float) -> None:
        """See what has become of an open question."""
        self._let_users_go_on(now)
        if self._too_late(now) or self._no_time_left():
            self._missed += 1
            self.present = self._missed < self.options.patience
            self._give_up(now)
        else:
            self._plan_look(now)

    def _plan_look(self, now: float) -> None:
        """The next look is due at the deadline, or earlier where users go on meanwhile, down to the reserve."""
        deadline = self._asked_at + self.options.deadline_ms / 1e3
        looks = self.options.speed > 0.0 and self._waits is not None
        self.due = min(deadline, now + LOOK_S) if looks else deadline

    def _let_users_go_on(self, now: float) -> None:
        """Let the simulated time pass that the agent has taken so far."""
        speed = self.options.speed
        if speed == 0.0 or now == self._asked_at:
            return
        users, subsystem = self._pace.users_by(now, speed), self.proxy.subsystem
        if self._waits is not None:
            self._waits.wait(np.minimum(users, self.proxy.course.control_ends()), self.proxy.asked)
        self._pace.follow(now, speed)
        # At the reserve, and at the end of a unit, the built-in algorithm acts in that very moment of simulated time.
        if subsystem.progress()[0] < users[0] and not self._no_time_left():
            self._pace.stall(now)

    def _too_late(self, now: float) -> bool:
        """Whether the deadline has passed, in wall time or in progress."""
        waited, deadline = int(self.proxy.subsystem.progress()[0]) - self._asked_progress, self.proxy.options.deadline
        # A timer may fire a rounding error before its time.
        overdue = now - self._asked_at > self.options.deadline_ms / 1e3 - 1e-9
        return overdue or (deadline is not None and self.options.speed > 0.0 and waited > deadline)

    def _no_time_left(self) -> bool:
        """Whether the users are at the reserve, or the unit in which the agent was asked is over."""
        subsystem, ends = self.proxy.subsystem, self.proxy.course.control_ends()
        return bool(subsystem.critical()[0] or subsystem.progress()[0] >= ends[0])

    def _give_up(self, now: float) -> None:
        """Let the built-in algorithm act."""
        self._decide(None, now)
        self._given_up = self.verdict

    def _decide(self, recommendation: object, now: float) -> None:
        """Carry one decision out, and let the simulated time pass that it took."""
        generation = int(self.proxy.generation[0])
        snapshot = self.proxy.publish_data() if self._record is not None else None
        self._choose_stride()
        # What the agent has taken has passed already. At speed 0 it takes what the options say.
        feedback = self.proxy.decide(recommendation, latency=None if self.options.speed == 0.0 else _NOTHING)
        self.feedback = generation, feedback
        self.verdict = generation, feedback.verdict.item()
        self._close()
        self._follow(now)
        if self._record is not None and snapshot is not None:
            self._record(Decision(generation, self._asked_progress, snapshot, recommendation, feedback))

    def _begin_episode(self) -> None:
        """Begin an episode, of which no time passes yet."""
        self._beginning = True
        self._choose_stride()
        self.env.reset()
        self._beginning = False

    def _follow(self, now: float) -> None:
        """What comes next is due when simulated time has led to where the subsystem stands."""
        self._pace.follow(now, self.options.speed)
        self.due = max(float(self._pace.wall[0]), now)

    def _choose_stride(self) -> None:
        """Run on in strides, but where the agent is always asked and nothing is paced: it is cheaper without."""
        course = self.proxy.course
        course.stride = None if self.options.speed == 0.0 and course.agent_everywhere else self._stride

    def _stride(self) -> IntArray:
        """(1,) int64: the most progress that is made in one go; none before the time of an episode is known."""
        if self._beginning:
            return np.zeros(1, np.int64)
        speed = self.options.speed
        return self._pace.stride(STRIDE_S * speed if speed else UNPACED_STRIDE_S)

    def _close(self) -> None:
        """No recommendation is awaited any more."""
        self.open, self._data_set = False, None


def parse_recommendation(text: bytes, choice: bool) -> tuple[int | None, object]:
    """Read a recommendation; what cannot be read is left for the proxy to reject.

    Args:
        text: `GENERATION CANDIDATE` or `GENERATION NUMBER NUMBER …`.
        choice: Whether a candidate is asked for.

    Returns:
        The generation, None where it cannot be read, and the recommendation as a batch of one.
    """
    words = text.split()
    if not words or not words[0].isdigit() or len(words[0]) > 18:
        return None, ["unreadable"]
    generation = int(words[0])
    try:
        if choice and len(words) == 2:
            return generation, np.array([int(words[1])])
        if choice:
            return generation, [[float(word) for word in words[1:]]]
        return generation, np.array([[float(word) for word in words[1:]]])
    except (ValueError, OverflowError):
        return generation, ["unreadable"]


def describe_feedback(generation: int, feedback: Feedback) -> str:
    """The text of `feedback`: what came of the decision for that data set."""
    acted = "agent" if feedback.acted_by_agent[0] else "builtin"
    return (
        f"generation={generation} reward={feedback.reward[0]:.9g} verdict={Verdict(feedback.verdict[0]).name.lower()} "
        f"acted={acted} mode={Mode(feedback.mode[0]).name.lower()} finished={int(feedback.finished[0])}\n"
    )
