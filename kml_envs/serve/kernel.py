"""The simulated kernel: one volume of a subsystem behind its proxy, in real or scaled time.

It never waits for user space. A question to the agent has a deadline in wall time; where none comes the built-in
algorithm acts. An agent that misses several deadlines in a row counts as absent until it shows itself again, and the
built-in algorithm then acts at once. There is no thread and no clock in here: whoever drives the kernel tells it the
time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from kml_envs.envs.proxy_env import ProxyEnv, ProxyVectorEnv
from kml_envs.errors import UserError
from kml_envs.proxy import Choice, Feedback, ProxyOptions, Verdict
from kml_envs.proxy.lifecycle import DataSetState
from kml_envs.proxy.protocols import Waiting
from kml_envs.proxy.specs import Array, BoolArray, IntArray, Snapshot
from kml_envs.serve.dataset import DataSet, pack
from kml_envs.serve.heartbeat import Heartbeat
from kml_envs.serve.options import ServeOptions
from kml_envs.serve.pacing import Pace
from kml_envs.serve.recording import Decision
from kml_envs.serve.texts import parse_recommendation

# Looking a member up in an enumeration costs as much as a system call: once here, not at every decision.
_OBSOLETE, _CORRUPTED = int(DataSetState.OBSOLETE), int(DataSetState.CORRUPTED)

STRIDE_S = 0.05
"""Wall time that is simulated in one go where nobody is asked, in between files are answered."""

UNPACED_STRIDE_S = 1.0
"""Simulated time of the same at speed 0."""

LOOK_S = 0.001
"""Wall time between two looks at the users of a subsystem whose question is open."""

_STEPS_AFTER_ANSWER = 4
_Batch = TypeVar("_Batch", Feedback, Snapshot)


class SimulatedKernel:
    """A subsystem behind its proxy, driven by `advance` and by what the agent writes.

    It is one instance, or a group of N instances, the domains of one volume, whose questions are asked one at a time.

    Attributes:
        env: The environment whose proxy is served.
        proxy: That proxy.
        options: Speed and deadline.
        open: Whether a data set is published and its recommendation awaited.
        row: The instance whose question is open, or was last.
        present: Whether there is an agent to wait for.
        due: When `advance` has something to do next, in the driver's seconds; None: not before a command.
        verdict: Generation and number of the last `Verdict`, that of a missed deadline included.
        feedback: Generation and feedback of the last decision, complete when the next question comes up; None before
            the first. The reward is that of the whole volume.
    """

    def __init__(
        self,
        env: ProxyEnv | ProxyVectorEnv,
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
        self.row = 0
        self.due: float | None = -math.inf
        self.verdict: tuple[int, int] | None = None
        self.feedback: tuple[int, Feedback] | None = None
        subsystem = self.proxy.subsystem
        self._record = record
        self._incomplete: Decision | None = None  # the last decision, as long as more may come of it
        self._missed = 0
        self._heartbeat = Heartbeat()
        self._asked_at = self._look_at = -math.inf
        self._asked_progress = 0
        self._given_up: tuple[int, int] | None = None  # verdict on the last question, if nothing came in time
        self._data_set: bytes | None = None
        asked = subsystem.recommendation
        self._choice = isinstance(asked, Choice)
        self._any = np.ones(asked.count, np.bool_) if isinstance(asked, Choice) else None
        self._waits = subsystem if isinstance(subsystem, Waiting) else None
        self._pace = Pace(subsystem)
        self._count = subsystem.instances
        self._rows = range(self._count)
        self._nothing: IntArray = np.zeros(self._count, np.int64)
        self._waiting: BoolArray = np.zeros(self._count, np.bool_)  # whose users wait for a decision
        self._beginning = True  # an episode, of which no time has passed yet
        self._episode = 0
        if record is not None:
            self.proxy.re_init(replace(self.proxy.options, keep_builtin_decision=True))
        self.proxy.course.stride = self._stride
        self.proxy.heartbeat(None)
        self.env.reset(seed=seed)
        self._pace.begin()

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
        if self._heartbeat.listen(now):
            self._tell_heartbeat(now)
        if self._beginning:
            self._pace.begin(now)
            self._beginning = False
        proxy = self.proxy
        in_strides = proxy.course.stride is not None
        if in_strides and np.count_nonzero(here := proxy.course.underway & (self._pace.wall <= now)):
            proxy.course.go_on(here)
            self._pace.follow(now, self._speed)
        if self.open:
            self._look(now)
        elif np.count_nonzero(proxy.finished) == self._count:
            self._complete_feedback()
            self._begin_episode()
            self._pace.begin()
        elif np.count_nonzero(here := proxy.asked & (self._pace.wall <= now)):
            self._ask(int(np.where(here, self._pace.wall, np.inf).argmin()) if self._count > 1 else 0, now)
        self._plan(now)
        return self.due

    def agent_seen(self, now: float, files: int = 0) -> None:
        """Somebody looks for data sets, or answers: there is an agent to wait for.

        Args:
            now: The time.
            files: How many more files it now holds open for that.
        """
        self._heartbeat.seen(now, files)
        if not self.present:
            self.present, self._missed = True, 0

    def agent_left(self, now: float) -> None:
        """Somebody has closed such a file."""
        self._heartbeat.seen(now, -1)

    @property
    def agent_here(self) -> bool:
        """Whether there is an agent, and its heart beats."""
        return bool(self._heartbeat.beating)

    # What the agent does

    @property
    def published(self) -> bool | np.bool_:
        """Whether a decision waits, and its data set has not been discarded."""
        return self.open and self.proxy.data_set_state[self.row] != _OBSOLETE

    def read_data_set(self) -> bytes:
        """The record of the published data set."""
        if self._data_set is None:
            row, snapshot = self.row, self.proxy.publish_data(complete=False)
            data_set = DataSet(
                int(self.proxy.generation[row]),
                self._asked_progress,
                snapshot.features[row],
                self._any if snapshot.mask is None else snapshot.mask[row],
                round(self.options.deadline_ms * 1e3),
                bool(self.proxy.data_set_state[row] == _CORRUPTED),
            )
            self._data_set = pack(data_set)
        return self._data_set

    def data_set_extracted(self, generation: int) -> None:
        """The last byte of that generation's record has been handed out."""
        if self.open and self._data_set is not None and generation == self.proxy.generation[self.row]:
            self.proxy.publish_data()

    def recommend(self, text: bytes, now: float) -> None:
        """Take a recommendation: `GENERATION CANDIDATE` or `GENERATION NUMBER NUMBER …`, in text.

        One that names another generation than the published one is counted as stale, and the question stays open; one
        that comes after its deadline gets the verdict that this had. Anything else is judged, and where it is rejected
        the built-in algorithm acts.
        """
        self.agent_seen(now)
        generation, recommendation = parse_recommendation(text, self._choice)
        stale = generation is not None and generation != self.proxy.generation[self.row]
        if self.open:
            self._let_users_go_on(now)
            if self._too_late(now) or self._users_need_it():
                self._give_up(now)
                self._plan(now)
        if self._given_up is not None and generation == self._given_up[0]:
            self.verdict = self._given_up
            return
        if not self.open or stale:
            verdict = Verdict.NOT_ASKED if generation is None else Verdict.STALE
            self.verdict = 0 if generation is None else generation, int(verdict)
            only = np.arange(self._count) == self.row
            self.proxy.statistics.count(np.full(self._count, verdict, np.int8), only & self.proxy.life_cycle.running())
            return
        self._missed = 0
        self._decide(recommendation, now)
        self.due = now
        # Where the next question is due already, its data set is there when the answer returns.
        for _ in range(_STEPS_AFTER_ANSWER):
            if self.open:
                break
            self.advance(now)

    # Commands

    def close(self) -> None:
        """End the proxy's life."""
        self._complete_feedback()
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
        self._complete_feedback()
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
            UserError: The options contradict each other, or the volume would have to be split otherwise.
        """
        if options.domains != self.proxy.options.domains:
            raise UserError(f"domains {options.domains}: a volume of {self._count} is served")
        self.proxy.re_init(options)
        self._tell_heartbeat(now)
        if self.due is not None:
            self._close()
            self._pace.follow(now, self._speed)
            self._plan(now)

    def set_options(self, options: ServeOptions, now: float) -> None:
        """Change speed, deadline or patience at once, also of what the kernel sleeps towards.

        Args:
            options: The options.
            now: The time.
        """
        if self.due is None:
            self.options = options
            return
        if self.options.speed == 0.0:
            self._pace.begin()  # nobody has looked at the clocks
        if self.open:
            self._let_users_go_on(now)  # up to now at the speed of before
        wall, scale = self._pace.wall, self.options.speed / options.speed if options.speed else 0.0
        self.options = options
        self._pace.wall = np.where(wall > now, now + (wall - now) * scale, wall)
        self._plan(now)

    # The decision cycle

    @property
    def _speed(self) -> float:
        """Seconds of an instance's own time in a second: the users of a volume are spread over its domains."""
        return self.options.speed / self._count

    def _plan(self, now: float) -> None:
        """What comes next is due when simulated time has led to where an instance stands, or looks at a deadline."""
        course, wall = self.proxy.course, self._pace.wall
        if self.open:
            due = self._asked_at + self.options.deadline_ms / 1e3
            if self.options.speed > 0.0 and self._waits is not None:
                due = min(due, self._look_at)
            coming = course.underway
        else:
            due, coming = math.inf, course.underway | self.proxy.asked
            if not np.count_nonzero(coming):
                coming = self.proxy.finished
        if np.count_nonzero(coming):
            due = min(due, float(wall[coming].min()))
        self.due = max(due, now)

    def _ask(self, row: int, now: float) -> None:
        """Publish a data set and wait for the agent; where there is none, the built-in algorithm acts at once."""
        self._complete_feedback()
        self.proxy.get_dataset()
        self.proxy.preprocess_data()
        self.row, self._asked_at, self._asked_progress = row, now, int(self.proxy.subsystem.progress()[row])
        self._data_set, self._given_up = None, None
        if self._speed > 0.0 or self._count > 1:
            self._note_waiting(now)
            self._look_at = float(self._pace.waits_since[row]) + LOOK_S
        self.open = True
        if not self.present:
            self._give_up(now)

    def _tell_heartbeat(self, now: float) -> None:
        """Tell the proxy whether the agent is there; without it there is nothing to wait for."""
        beating = self._heartbeat.beating
        self.proxy.heartbeat(None if beating is None else np.full(self._count, beating))
        if beating is False:
            self.present = False
            if self.open:
                self._give_up(now)

    def _look(self, now: float) -> None:
        """See what has become of an open question."""
        self._look_at = now + LOOK_S
        self._let_users_go_on(now)
        if self._too_late(now) or self._users_need_it():
            self._missed += 1
            self.present = self._missed < self.options.patience
            self._give_up(now)
        elif self._count > 1:
            critical = self._waiting & self.proxy.subsystem.critical()
            if np.count_nonzero(critical):  # of domains whose turn has not come; the open question's was seen to
                self._waiting &= ~critical
                self._pace.acted_for(critical)
                self.proxy.course.release(critical)
                self._pace.follow(now, self._speed)

    def _note_waiting(self, now: float) -> None:
        """From now on the users of instances whose question has come up wait for its answer."""
        new = self.proxy.asked & (self._pace.wall <= now) & ~self._waiting
        self._pace.wait(new, now)
        self._waiting = self._waiting | new

    def _let_users_go_on(self, now: float) -> None:
        """Let the simulated time pass that the agent has taken so far."""
        speed, subsystem = self._speed, self.proxy.subsystem
        if speed == 0.0:
            return
        self._note_waiting(now)
        users = self._pace.users_by(now, speed)
        if self._waits is not None:
            self._waits.wait(np.minimum(users, self.proxy.course.control_ends()), self._waiting)
        self._pace.follow(now, speed)
        # At the reserve, and at the end of a unit, the built-in algorithm acts in that very moment of simulated time.
        stalled = self._waiting & (subsystem.progress() < users) & ~self._out_of_time()
        self._pace.stall(stalled, now)

    def _too_late(self, now: float) -> bool:
        """Whether the deadline has passed, in wall time or in progress."""
        # A timer may fire a rounding error before its time.
        if now - self._asked_at > self.options.deadline_ms / 1e3 - 1e-9:
            return True
        deadline = self.proxy.options.deadline
        if deadline is None or self.options.speed == 0.0:
            return False
        return int(self.proxy.subsystem.progress()[self.row]) - self._asked_progress > deadline

    def _users_need_it(self) -> bool:
        """Whether the users of the open question's instance cannot go on without its answer, at this very moment.

        If so, it is about to be given up, and the pace notes that they have gone on since.
        """
        if self.options.speed == 0.0:
            return False
        here = self._out_of_time() & (np.arange(self._count) == self.row)
        self._pace.acted_for(here)
        return bool(np.count_nonzero(here))

    def _out_of_time(self) -> BoolArray:
        """(N,) bool: the users are at the reserve, or the unit in which the agent is asked is over."""
        subsystem = self.proxy.subsystem
        return np.asarray(subsystem.critical() | (subsystem.progress() >= self.proxy.course.control_ends()))

    def _give_up(self, now: float) -> None:
        """Let the built-in algorithm act."""
        self._decide(None, now)
        self._given_up = self.verdict

    def _decide(self, recommendation: Sequence[object] | Array | None, now: float) -> None:
        """Carry one decision out, and go a first stride of the way to the next one."""
        proxy, row = self.proxy, self.row
        generation = int(proxy.generation[row])
        snapshot = _of_row(proxy.data_set, row) if self._record is not None else None
        self._choose_stride()
        given = recommendation
        if self._count > 1:
            proxy.course.narrow(np.arange(self._count) == row)
            given = [None if recommendation is None or other != row else recommendation[0] for other in self._rows]
        # What the agent has taken has passed already. At speed 0 it takes what the options say.
        feedback = proxy.decide(given, latency=None if self.options.speed == 0.0 else self._nothing)
        if self._count > 1:
            reward, finished = np.array([feedback.reward.sum()]), np.array([feedback.finished.all()])
            feedback = _of_row(feedback, row)._replace(reward=reward, finished=finished)
        self.feedback = generation, feedback
        self.verdict = generation, feedback.verdict.item()
        if (incomplete := proxy.course.stride is not None) or self._record is not None:
            asked = self._asked_progress
            decision = Decision(row, self._episode, generation, asked, snapshot, recommendation, feedback)
            if incomplete:
                self._incomplete = decision
            elif self._record is not None:
                self._record(decision)
        self._close()
        self._waiting = self._waiting & proxy.asked
        self._waiting[row] = False
        self._pace.follow(now, self._speed)

    def _complete_feedback(self) -> None:
        """Add to the last feedback what has come of the decision since, at the next question or an episode's end."""
        decision = self._incomplete
        if decision is None:
            return
        feedback = decision.feedback._replace(
            reward=decision.feedback.reward + self.proxy.further_reward().sum(),
            finished=np.array([self.proxy.finished.all()]),
        )
        self.feedback, self._incomplete = (decision.generation, feedback), None
        if self._record is not None:
            self._record(replace(decision, feedback=feedback))

    def _begin_episode(self) -> None:
        """Begin an episode, of which no time passes yet."""
        self._beginning = True
        self._episode += 1
        self._choose_stride()
        self.env.reset()
        self._beginning = False
        self._waiting = np.zeros(self._count, np.bool_)

    def _choose_stride(self) -> None:
        """Run on in strides, but where the agent is always asked and nothing is paced: it is cheaper without."""
        course = self.proxy.course
        whole = self.options.speed == 0.0 and course.agent_everywhere and not np.count_nonzero(course.underway)
        course.stride = None if whole else self._stride

    def _stride(self) -> IntArray:
        """(N,) int64: the most progress that is made in one go; none before the time of an episode is known."""
        if self._beginning:
            return self._nothing
        return self._pace.stride(STRIDE_S * self._speed if self.options.speed else UNPACED_STRIDE_S)

    def _close(self) -> None:
        """No recommendation is awaited any more."""
        self.open, self._data_set = False, None


def _of_row(batch: _Batch, row: int) -> _Batch:
    """One instance of a batch of arrays."""
    parts: Any = (None if part is None else part[row : row + 1] for part in batch)
    return type(batch)(*parts)
