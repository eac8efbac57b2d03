"""The course of the instances: their episodes, the units these are cut into, and the way to the next question.

The agent is asked where a decision waits in a unit that it controls. Everything between two questions passes in here:
units of the built-in algorithm, emergencies, decisions that wait although the agent is not asked. So it loses no step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kml_envs.compiling import Record, compiled
from kml_envs.proxy.lifecycle import LifeCycle
from kml_envs.proxy.modes import ModeController
from kml_envs.proxy.options import ProxyOptions
from kml_envs.proxy.protocols import BatchedSubsystem, SubsystemError
from kml_envs.proxy.specs import Array, BoolArray, FloatArray, IntArray
from kml_envs.proxy.units import UnitOutcome, UnitSchedule


class Course:
    """Where N instances stand, and who controls them.

    Attributes:
        asked: (N,) bool, where a decision waits for the agent; a new array whenever it changes, as is `finished`.
        all_asked: Whether it is asked everywhere.
        finished: (N,) bool, where the episode is over.
        begun: (N,) bool, where there has been an episode.
        agent_everywhere: Whether the agent controls every instance throughout.
        episode_progress: Progress after which an episode is over, of episodes that begin from now on.
        agent_had_unit: (N,) bool, whether it has controlled a unit in the running episode.
        stride: Gives the most progress (N,) that is made in one go, for who wants to look after the instances on
            their way to the next question, which is then reached by `go_on`; None: they are run there at once.
        underway: (N,) bool, where such a stop has been made.
    """

    def __init__(
        self,
        subsystem: BatchedSubsystem,
        life_cycle: LifeCycle,
        share: Callable[[], FloatArray],
        moved: Callable[[IntArray, FloatArray], None],
        units_ended: Callable[[UnitOutcome], None],
    ) -> None:
        """Prepare; `adopt` and `begin` must follow.

        Args:
            subsystem: What is run.
            life_cycle: Says which instances run; the others stand still.
            share: Gives the agent's share (N,) of the units drawn now.
            moved: Told the progress (N,) and cost (N,) at every stop on the way: what is added up there does not depend
                on where other rows stop.
            units_ended: Told of units that have ended, before the next ones are drawn.
        """
        count = subsystem.instances
        self.asked: BoolArray = np.zeros(count, dtype=np.bool_)
        self.all_asked = False
        self.finished: BoolArray = np.zeros(count, dtype=np.bool_)
        self.begun: BoolArray = np.zeros(count, dtype=np.bool_)
        self.agent_everywhere = False
        self.agent_had_unit: BoolArray = np.zeros(count, dtype=np.bool_)
        self.stride: Callable[[], IntArray] | None = None
        self.underway: BoolArray = np.zeros(count, dtype=np.bool_)
        self._subsystem, self._life_cycle = subsystem, life_cycle
        self._share, self._moved, self._units_ended = share, moved, units_ended
        self._schedule: UnitSchedule | None = None
        self._agent_rows: BoolArray = np.zeros(count, dtype=np.bool_)  # controlled by the agent, where no units are
        self._seeds: npt.NDArray[np.uint64] = np.zeros(count, dtype=np.uint64)
        self._start: IntArray = np.zeros(count, dtype=np.int64)
        self._start_cost: FloatArray = np.zeros(count)
        self._end: IntArray = np.zeros(count, dtype=np.int64)
        self.episode_progress = 0
        self._in_space = False

    def adopt(self, options: ProxyOptions, controller: ModeController) -> None:
        """Take over how episodes are cut into units; `begin_units` must follow where episodes run."""
        if controller.in_units and options.window is not None:
            self._schedule = UnitSchedule(self._subsystem.instances, options.window, options.domains)
        else:
            self._schedule = None
            self._agent_rows = np.asarray(controller.share() > 0.0)
        self.episode_progress, self._in_space = options.episode_progress, options.domains > 1
        self.agent_everywhere = self._schedule is None and bool(self._agent_rows.all())

    def begin(self, rows: BoolArray, seeds: npt.NDArray[np.uint64]) -> None:
        """Begin an episode in the rows, where the subsystem stands, and run them to the first question."""
        progress = self._subsystem.progress()
        self.begun |= rows
        self._seeds[rows] = seeds[rows]
        self._start[rows] = progress[rows]
        self._start_cost[rows] = self._subsystem.cost()[rows]
        self._end[rows] = progress[rows] + self.episode_progress
        self.begin_units(rows)

    def begin_units(self, rows: BoolArray) -> None:
        """Draw a first unit for the rows, and run them to the first question in it."""
        self.underway = self.underway & ~rows
        if self._schedule is None:
            self.agent_had_unit[rows] = self._agent_rows[rows]
        else:
            self._schedule.begin(rows, self._seeds, self._subsystem.progress(), self._share())
            self.agent_had_unit[rows] = self._schedule.agent[rows]
        self._run_on(self._settle(rows, self._subsystem.progress(), self._subsystem.pending()))

    def stop(self) -> None:
        """Ask nobody who does not run any more."""
        self.asked = self.asked & self._life_cycle.running()
        self.all_asked = bool(self.asked.all())

    def cut(self, rows: BoolArray) -> None:
        """Leave the rest of the rows' units to the built-in algorithm."""
        if self._schedule is not None:
            self._schedule.cut(rows)

    def agent_controls(self) -> BoolArray:
        """(N,) bool: whose unit it is now."""
        return self._agent_rows if self._schedule is None else self._schedule.agent

    def control_ends(self) -> IntArray:
        """(N,) int64: until which progress that holds."""
        return self._end if self._schedule is None else np.minimum(self._schedule.boundary, self._end)

    def made(self) -> IntArray:
        """(N,) int64: progress made in the running episodes."""
        return self._subsystem.progress() - self._start

    def paid(self) -> FloatArray:
        """(N,) float64: cost paid in the running episodes, by either side, in the subsystem's unit."""
        return np.asarray(self._subsystem.cost() - self._start_cost)

    def execute(self, decision: Array) -> None:
        """Carry decisions out where the agent was asked, and run on to the next question or the episode's end.

        Raises:
            SubsystemError: The subsystem broke its protocol.
        """
        if self._schedule is not None or not self._life_cycle.all_running or self.stride is not None:
            self._run_on(
                self.asked if self._life_cycle.all_running else self.asked & self._life_cycle.running(), decision
            )
            return
        subsystem = self._subsystem
        subsystem.execute(decision, self._agent_rows, self._end, self.asked)
        progress = subsystem.progress()
        self._moved(progress, subsystem.cost())
        self.finished = np.asarray(progress >= self._end)
        settled = self.finished | subsystem.pending()
        self.asked = settled ^ self.finished
        self.all_asked = not np.count_nonzero(self.finished)
        if np.count_nonzero(settled) < len(settled):
            raise SubsystemError(_stranded(~settled, progress, self._end))

    def go_on(self, rows: BoolArray) -> None:
        """Run those of the rows (N,) bool on that have stopped underway."""
        self._run_on(rows & self.underway & self._life_cycle.running())

    def narrow(self, rows: BoolArray) -> None:
        """Let the next decision be that of these rows (N,) bool only, of domains; the others' questions stay."""
        self.asked = self.asked & rows  # after it, `_settle` finds those of all domains again
        self.all_asked = bool(self.asked.all())

    def release(self, rows: BoolArray) -> None:
        """Leave the decisions that wait in the rows (N,) bool to the built-in algorithm, and run the rows on."""
        self.asked = self.asked & ~rows
        self._run_on(rows)

    def _run_on(self, rows: BoolArray, decision: Array | None = None) -> None:
        """Run the rows to the next question, or to the end of their episodes, or a stride on the way there.

        Args:
            rows: (N,) bool, rows that are not there yet.
            decision: What to carry out in all of them; None: whatever waits is the built-in algorithm's to decide.
        """
        subsystem = self._subsystem
        underway = self.underway & ~rows
        while np.count_nonzero(rows):
            if decision is None:
                decision = subsystem.builtin_decision()
            until = self.control_ends()
            if self.stride is not None:
                until = np.minimum(until, subsystem.progress() + self.stride())
            subsystem.execute(decision, self.agent_controls(), until, rows)
            decision = None
            progress, cost, pending = subsystem.progress(), subsystem.cost(), subsystem.pending()
            if _count_stranded(rows, progress, until, pending):
                raise SubsystemError(_stranded(rows & ~(pending | (progress >= until)), progress, until))
            self._moved(progress, cost)
            self._end_units(progress, cost)
            rows = self._settle(rows, progress, pending)
            if self.stride is not None:
                underway, rows = underway | rows, np.zeros(len(rows), dtype=np.bool_)
        self.underway = underway
        self.all_asked = np.count_nonzero(self.asked) == len(self.asked)

    def _settle(self, rows: BoolArray, progress: IntArray, pending: BoolArray) -> BoolArray:
        """Note which of the rows (N,) are asked or finished now; returns those that are neither."""
        if not self._life_cycle.all_running:
            rows = rows & self._life_cycle.running()
        if self._in_space:  # domains may have waited for others of their group
            rows = rows | (self._life_cycle.running() & self.begun & ~self.finished)
        self.finished, self.asked, left = self.finished.copy(), self.asked.copy(), np.zeros(len(rows), dtype=np.bool_)
        critical, controls = self._subsystem.critical(), self.agent_controls()
        _note_stops(rows, progress, self._end, controls, pending, critical, self.finished, self.asked, left)
        return left & ~self._schedule.waiting(progress) if self._in_space and self._schedule is not None else left

    def _end_units(self, progress: IntArray, cost: FloatArray) -> None:
        """Pass the boundaries of units that have been reached, and draw the units that follow."""
        if self._schedule is None:
            return
        outcome = self._schedule.close(progress, cost)
        if outcome is not None:
            self._units_ended(outcome)
            self._schedule.open(outcome.rows, progress, self._share())
            self.agent_had_unit |= self._schedule.agent & (progress < self._end)


@compiled
def _count_stranded(rows: Record, progress: Record, until: Record, pending: Record) -> int:
    """How many of the rows (N,) bool have stopped before `until` with no decision pending."""
    count = 0
    for row in range(rows.size):
        count += rows[row] and not (pending[row] or progress[row] >= until[row])
    return count


@compiled
def _note_stops(
    rows: Record,
    progress: Record,
    end: Record,
    controls: Record,
    pending: Record,
    critical: Record,
    finished: Record,
    asked: Record,
    left: Record,
) -> None:
    """Set which of the rows (N,) bool are `finished`, which are `asked`, and which are neither and `left` to run on."""
    for row in range(rows.size):
        if rows[row]:
            finished[row] = progress[row] >= end[row]
            asked[row] = controls[row] and pending[row] and not (critical[row] or finished[row])
            left[row] = not (finished[row] or asked[row])


def _stranded(rows: BoolArray, progress: IntArray, until: IntArray) -> str:
    """What to say of rows that stopped for no reason."""
    row = int(np.flatnonzero(rows)[0])
    return (
        f"execute() left instance {row} at progress {progress[row]} of {until[row]} with no decision pending: "
        "it must run on to a decision or to `until`"
    )
