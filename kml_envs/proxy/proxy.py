"""The ML model proxy: the kernel-side object between a subsystem and an agent.

It publishes a data set, checks the recommendation that comes back, decides by its mode who acts, lets the subsystem
carry the decision out, estimates what that saved and feeds it back. One proxy holds N instances of a subsystem, each
at its own point of its own episode. The steps of the decision cycle carry the names of ml-lib; `observe` and `decide`
run them in order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kml_envs.errors import UserError
from kml_envs.proxy.automatic import AutoMode
from kml_envs.proxy.course import Course
from kml_envs.proxy.efficiency import Efficiency, make_efficiency
from kml_envs.proxy.lifecycle import DataSetState, LifeCycle
from kml_envs.proxy.modes import AUTO, FixedMode, ModeController, parse_mode
from kml_envs.proxy.options import ProxyOptions
from kml_envs.proxy.protocols import BatchedSubsystem, SubsystemError, Waiting
from kml_envs.proxy.specs import Array, BoolArray, Feedback, FloatArray, IntArray, Snapshot, SystemState
from kml_envs.proxy.statistics import Statistics
from kml_envs.proxy.units import UnitOutcome
from kml_envs.proxy.verdict import ACCEPTED, Judgement, Verdict, is_stale, judge, reject

# Looking a member up in an enumeration costs as much as a small array operation: once here, not at every decision.
_CLEAN = int(DataSetState.CLEAN)
_EXTRACTED_PARTIALLY = int(DataSetState.EXTRACTED_PARTIALLY)
_EXTRACTED_COMPLETELY = int(DataSetState.EXTRACTED_COMPLETELY)
_OBSOLETE = int(DataSetState.OBSOLETE)

NEVER = 2**62
"""Latency of a recommendation that does not come."""


class MLModelProxy:
    """N instances of a subsystem behind one proxy.

    Attributes:
        subsystem: The subsystem.
        life_cycle: State of each instance.
        options: The options in force.
        controller: Decides the mode of each instance.
        efficiency: Estimates what the agent saves.
        generation: (N,) int64, generation of the data set that each instance published last.
        data_set_state: (N,) int8 `DataSetState`.
        course: Where the instances stand in their episodes and units.
        statistics: Counters of verdicts, operations and savings.
    """

    def __init__(self, subsystem: BatchedSubsystem) -> None:
        """Create the proxy of a subsystem; `initialize` and `start` must follow."""
        count = subsystem.instances
        self.subsystem = subsystem
        self.life_cycle = LifeCycle(count)
        self.options: ProxyOptions
        self.controller: ModeController
        self.efficiency: Efficiency
        self.generation: IntArray = np.zeros(count, dtype=np.int64)
        self.data_set_state: npt.NDArray[np.int8] = np.full(count, DataSetState.ALLOCATED, dtype=np.int8)
        self.course = Course(subsystem, self.life_cycle, self._share, self.estimate_efficiency, self._units_ended)
        self.statistics = Statistics(count)
        self._waits = subsystem if isinstance(subsystem, Waiting) else None
        self._rows: IntArray = np.arange(count)
        self._snapshot: Snapshot | None = None
        self._corrupted: BoolArray | None = None
        self._published = False  # whether no row's data set is obsolete
        self._saved: FloatArray = np.zeros(count)  # since the last feedback

    # Life cycle

    def initialize(self, options: ProxyOptions, controller: ModeController | None = None) -> None:
        """Set the proxy up.

        Args:
            options: The options.
            controller: Decides the modes; None: the mode that the options fix.

        Raises:
            UserError: The options contradict each other; others may be tried.
            LifeCycleError: The proxy has been initialized before.
        """
        self.life_cycle.check("initialize")
        self._adopt(options, controller, make_efficiency(options.efficiency, self.subsystem))
        self.life_cycle.apply("initialize")

    def re_init(self, options: ProxyOptions, controller: ModeController | None = None) -> None:
        """Change the options while the proxy lives.

        Mode and window take effect at once, with a new unit and a new data set, and mode `auto` begins anew; the
        episode's length takes effect with the next episode. What `ProxyOptions.same_modes` holds the same leaves
        modes, evidence and units as they are.

        Raises:
            UserError: The options contradict each other, or change the efficiency during episodes.
            LifeCycleError: The proxy is not initialized, or is shutting down.
        """
        self.life_cycle.apply("re_init")
        efficiency = self.efficiency
        if options.efficiency != self.options.efficiency:
            if self.course.begun.any():
                raise UserError(
                    f"the efficiency cannot change from '{self.options.efficiency}' to '{options.efficiency}' "
                    "while episodes run: make a new proxy"
                )
            efficiency = make_efficiency(options.efficiency, self.subsystem)
        if controller is None and options.same_modes(self.options):
            self._check_options(options, self.controller, efficiency)
            self.course.episode_progress, self.options = options.episode_progress, options
            return
        self._adopt(options, controller, efficiency)
        begun = self.course.begun & self.life_cycle.running() & ~self.finished
        if begun.any():
            self.course.begin_units(begun)
            self.data_set_state[begun] = DataSetState.OBSOLETE
            self._published = False

    def start(self, rows: BoolArray | None = None) -> None:
        """Let the instances take part; their episodes begin with `reset`."""
        self.life_cycle.apply("start", rows)

    def stop(self, rows: BoolArray | None = None) -> None:
        """Make the instances stand still: their agents are not asked, and their time does not pass."""
        self.life_cycle.apply("stop", rows)
        self.course.stop()

    def shut_down(self) -> None:
        """End the proxy's life."""
        self.life_cycle.apply("shut_down")

    def reset(self, rows: BoolArray, seeds: npt.NDArray[np.uint64], forget: bool = False) -> None:
        """Begin a new episode in the rows and run them to the first moment at which the agent is asked.

        Args:
            rows: (N,) bool.
            seeds: (N,) uint64, used in those rows.
            forget: Whether the rows lose their maturity too: counters and evidence.

        Raises:
            LifeCycleError: A row has not been started.
        """
        self.life_cycle.apply("reset", rows)
        if forget:
            self.statistics.forget(rows)
        elif (ended := rows & self.course.begun).any():
            self.statistics.past_operations[ended] += self._operations()[ended]
        self.subsystem.reset(rows, seeds)
        progress, cost = self.subsystem.progress(), self.subsystem.cost()
        self.efficiency.reset(rows, seeds, progress, cost, forget)
        self.controller.reset(rows, forget)
        self._saved[rows] = 0.0
        self.course.begin(rows, seeds)
        self.data_set_state[rows] = DataSetState.OBSOLETE
        self._published = False

    # Data set

    def prepare_dataset(self) -> None:
        """Take a new data set from the subsystem; recommendations for the one before are stale from now on."""
        self.life_cycle.check_any("prepare_dataset")
        self.get_dataset()
        self.preprocess_data()

    def discard_dataset(self) -> None:
        """Drop the data set; recommendations are stale until the next one is published."""
        self.life_cycle.check_any("discard_dataset")
        self.data_set_state[:] = DataSetState.OBSOLETE
        self._published = False

    def heartbeat(self, alive: BoolArray | None) -> None:
        """Take in which agents (N,) bool are there at all, as far as their channel knows: mode `auto` goes by it.

        None: no agent has come yet. It gets no units before, and nobody misses it.
        """
        self.controller.heartbeat(alive)
        if (suspended := self.controller.suspended()) is not None:
            self.course.cut(suspended)

    # Decision cycle

    def observe(self) -> Snapshot:
        """The first half of the cycle: what the agent sees now.

        Returns:
            Features (N, F) and mask (N, K), in new arrays; rows that are not asked hold their state all the same.
        """
        self.get_dataset()
        self.preprocess_data()
        return self.publish_data()

    def decide(self, recommendation: object, generation: object = None, latency: IntArray | None = None) -> Feedback:
        """The second half of the cycle: from a recommendation to the feedback on it.

        Args:
            recommendation: Anything; well-formed is (N,) integers for a choice, (N, A) numbers for bounds. None: it
                has not come in time.
            generation: (N,) integers or one: the data set it was made for; None: the current one.
            latency: (N,) int64, progress made until it came, `NEVER` where it did not come; None: that of the options.

        Returns:
            The feedback, when every row stands at its next question to the agent or at the end of its episode.

        Raises:
            LifeCycleError: No row is running.
            SubsystemError: The subsystem broke its protocol.
        """
        self.life_cycle.check_any("decide")
        if recommendation is None and latency is None and self.options.deadline is not None:
            latency = np.full(len(self._rows), NEVER)
        late = self._pass_time(latency)
        judgement = self.preprocess_recommendation(recommendation, generation)
        if late is not None:
            judgement = self._judge_time(judgement, late)
        judgement = self.estimate_system_state(judgement)
        decision, builtin_decision = self.apply_recommendation(judgement)
        self.execute_operation(decision)  # which estimates the efficiency at every stop
        feedback = self.error_backpropagation(judgement, decision, builtin_decision)
        self.correct_system_state(judgement)
        return feedback

    def get_system_state(self) -> SystemState:
        """Where the subsystem stands."""
        subsystem = self.subsystem
        return SystemState(subsystem.pending(), subsystem.critical(), subsystem.progress(), subsystem.cost())

    def get_dataset(self) -> None:
        """Take a data set from the subsystem; its generation is new in every row."""
        try:
            self._snapshot = self.subsystem.snapshot()
        except Exception:
            self.data_set_state[:] = DataSetState.EXTRACTION_FAILURE
            raise
        self.generation += 1
        self.data_set_state.fill(_CLEAN)

    def preprocess_data(self) -> None:
        """Make the data set fit to be shown: no number that is not finite, no row of the mask without a candidate.

        Rows with numbers that are not finite show zeros instead, and recommendations made from them are rejected.
        """
        snapshot = self.data_set
        finite = np.isfinite(snapshot.features)
        self._corrupted = None
        if np.count_nonzero(finite) < finite.size:
            self._corrupted = ~np.all(finite, axis=1)
            snapshot.features[~finite] = 0.0
            self.data_set_state[self._corrupted] = DataSetState.CORRUPTED
        # Candidate 0 is usually there, and looking at it alone is much cheaper than at the whole mask.
        if snapshot.mask is not None and np.count_nonzero(snapshot.mask[:, 0]) < len(self._rows):
            snapshot.mask[~snapshot.mask.any(axis=1), 0] = True

    def publish_data(self, complete: bool = True) -> Snapshot:
        """Hand the data set out.

        Args:
            complete: Whether this is the last piece, for channels that hand it out in pieces.
        """
        snapshot = self.data_set
        state = _EXTRACTED_COMPLETELY if complete else _EXTRACTED_PARTIALLY
        self._published = True
        if self._corrupted is None:
            self.data_set_state.fill(state)
        else:
            self.data_set_state[~self._corrupted] = state
        return snapshot

    def preprocess_recommendation(self, recommendation: object, generation: object = None) -> Judgement:
        """Check a recommendation: what the proxy knows first, then what only the subsystem can know."""
        mask = None if self._snapshot is None else self._snapshot.mask
        decision, verdict, accepted = judge(recommendation, self.subsystem.recommendation, mask, self._rows)
        if not self._published:
            obsolete = self.data_set_state == DataSetState.OBSOLETE
            verdict, accepted = reject(verdict, obsolete, Verdict.STALE), False
        if generation is not None and (stale := is_stale(generation, self.generation)).any():
            verdict, accepted = reject(verdict, stale, Verdict.STALE), False
        if self._corrupted is not None:
            verdict, accepted = reject(verdict, self._corrupted, Verdict.DATA_SET_CORRUPTED), False
        known = self.subsystem.check(decision)
        if np.count_nonzero(known):
            verdict, accepted = np.where(verdict == ACCEPTED, known, verdict).astype(np.int8), False
        if not self.course.all_asked:
            verdict, accepted = np.where(self.asked, verdict, np.int8(Verdict.NOT_ASKED)), False
        return Judgement(decision, verdict, accepted)

    def estimate_system_state(self, judgement: Judgement) -> Judgement:
        """Decide by the mode where the agent may act; its controller may refuse what passed the checks."""
        permitted = self.controller.permit(judgement)
        if (suspended := self.controller.suspended()) is not None:
            self.course.cut(suspended)
        if permitted is None or np.count_nonzero(permitted) == len(permitted):
            return judgement
        decision, verdict, _ = judgement
        return Judgement(decision, reject(verdict, ~permitted, Verdict.NOT_PERMITTED), False)

    def apply_recommendation(self, judgement: Judgement) -> tuple[Array, Array | None]:
        """Put the built-in algorithm's decision wherever the agent does not act.

        Returns:
            What is to be carried out, and what the built-in algorithm would do (None where nobody wants to know).
        """
        decision, verdict, all_accepted = judgement
        self.data_set_state.fill(_OBSOLETE)
        self._published = False
        if all_accepted:
            self.statistics.count_accepted()
            builtin = self.subsystem.builtin_decision().copy() if self.options.keep_builtin_decision else None
            return decision, builtin
        acts = verdict == ACCEPTED
        self.statistics.count(verdict, self.life_cycle.running())
        builtin = self.subsystem.builtin_decision().copy()
        decision = np.where(acts if decision.ndim == 1 else acts[:, None], decision, builtin)
        return decision, builtin if self.options.keep_builtin_decision else None

    def execute_operation(self, decision: Array) -> None:
        """Carry the decisions out and run every row on to its next question to the agent, or its episode's end."""
        self.course.execute(decision)

    def estimate_efficiency(self, progress: IntArray, cost: FloatArray) -> None:
        """Estimate the cost saved since the last estimate, and note it for the side that controls the row.

        Args:
            progress: (N,) int64, where the subsystem is.
            cost: (N,) float64, what it has cost.
        """
        saved = self.efficiency.saved(progress, cost)
        self._saved += saved
        if self.course.agent_everywhere:
            self.statistics.saved_by_agent += saved
        else:
            self.statistics.saved(saved, self.course.agent_controls())

    def error_backpropagation(self, judgement: Judgement, decision: Array, builtin_decision: Array | None) -> Feedback:
        """The feedback for the agent: its reward is the estimated efficiency and nothing else."""
        reward = self._saved / self.subsystem.reward_scale
        self._saved = np.zeros(len(reward))
        verdict = judgement.verdict
        acted = np.logical_not(verdict)  # several times cheaper than a comparison with ACCEPTED, which is 0
        mode = self.controller.mode().copy()
        return Feedback(reward, verdict, acted, self.finished.copy(), mode, decision, builtin_decision)

    def further_reward(self) -> FloatArray:
        """(N,) float64: what has been saved since the last feedback; for who drives the course in strides."""
        reward = self._saved / self.subsystem.reward_scale
        self._saved = np.zeros(len(reward))
        return np.asarray(reward)

    def correct_system_state(self, judgement: Judgement) -> None:
        """Let the mode's controller learn from the cycle."""
        self.controller.operation_ended(judgement.verdict)

    # What others may want to know

    @property
    def data_set(self) -> Snapshot:
        """The data set that was taken last, whatever its state: to look at it does not hand it out."""
        if self._snapshot is None:
            raise SubsystemError("no data set has been taken from the subsystem yet: call get_dataset() first")
        return self._snapshot

    @property
    def asked(self) -> BoolArray:
        """(N,) bool: where a decision waits for the agent."""
        return self.course.asked

    @property
    def finished(self) -> BoolArray:
        """(N,) bool: where the episode is over."""
        return self.course.finished

    @property
    def unasked(self) -> BoolArray:
        """(N,) bool: episodes that ended without any unit of the agent's, although the mode gives it a share."""
        return self.finished & ~self.course.agent_had_unit & np.asarray(self.controller.share() > 0.0)

    @property
    def episode_progress(self) -> IntArray:
        """(N,) int64: progress made in the running episodes; meaningless before the first `reset`."""
        return self.course.made()

    def table(self) -> dict[str, Array]:
        """Mode and counters of every instance: (N,) arrays by name, for TensorBoard and tables."""
        operations = np.where(self.course.begun, self._operations(), 0)
        mode = self.controller.mode().copy()
        return {"mode": mode, **self.controller.report(), **self.statistics.table(operations)}

    def _adopt(self, options: ProxyOptions, controller: ModeController | None, efficiency: Efficiency) -> None:
        """Take the options over, if they go together, with a controller for their mode; else nothing changes."""
        if controller is None:
            count = self.subsystem.instances
            controller = (
                AutoMode(self.subsystem, options, efficiency.builtin_cost)
                if options.mode == AUTO
                else FixedMode(parse_mode(options.mode), count, options.share, options.probes)
            )
        self._check_options(options, controller, efficiency)
        self.course.adopt(options, controller)
        self.options, self.controller, self.efficiency = options, controller, efficiency

    def _check_options(self, options: ProxyOptions, controller: ModeController, efficiency: Efficiency) -> None:
        """Raise a UserError if the options contradict each other."""
        if efficiency.needs_units and not controller.in_units:
            raise UserError(
                f"efficiency '{options.efficiency}' learns from units that the built-in algorithm controls, and "
                f"mode '{options.mode}' has none: choose another mode, probes or efficiency 'shadow'"
            )
        if options.latency > 0 and self._waits is None:
            raise UserError(f"latency {options.latency}: {type(self.subsystem).__name__} cannot wait, it has no wait()")
        if options.mode == AUTO and options.probes:
            raise UserError("mode 'auto' decides on probe units itself: leave probes out")
        if options.mode == AUTO and options.window is not None and 2 * options.window > options.episode_progress:
            raise UserError(
                f"mode 'auto' needs at least two units: an episode ({options.episode_progress}) must hold two windows "
                f"({options.window})"
            )
        if controller.in_units and options.window is None:
            raise UserError(f"mode '{options.mode}' works in units: it needs a window, the progress in one unit")
        if efficiency.needs_units and options.window is not None and options.window > options.episode_progress:
            raise UserError(
                f"efficiency '{options.efficiency}' needs whole units: the window ({options.window}) must not exceed "
                f"the episode ({options.episode_progress})"
            )

    def _pass_time(self, latency: IntArray | None) -> BoolArray | None:
        """Let the subsystem go on until the recommendations have come, or their deadline has passed.

        Returns:
            (N,) bool, those that come too late; None where no time passes.
        """
        options, waits = self.options, self._waits
        if latency is None:
            if options.latency == 0:
                return None
            latency = np.full(len(self._rows), options.latency, dtype=np.int64)
        deadline = NEVER if options.deadline is None else options.deadline
        late = np.asarray((latency > deadline) | (latency >= NEVER))
        if waits is not None:
            progress, until = self.subsystem.progress(), self.course.control_ends()
            waited = np.minimum(latency, deadline)
            waited[waited >= NEVER] = 0  # nobody waits for ever
            waits.wait(progress + np.minimum(waited, until - progress), self.asked)
        return late

    def _judge_time(self, judgement: Judgement, late: BoolArray) -> Judgement:
        """Reject recommendations that came too late: after their deadline, or when there was no time left."""
        verdict = np.where(late & self.asked, np.int8(Verdict.DEADLINE_MISSED), judgement.verdict)
        verdict = reject(verdict, self.asked & np.asarray(self.subsystem.critical()), Verdict.EMERGENCY)
        return Judgement(judgement.decision, verdict, not np.count_nonzero(verdict))

    def _share(self) -> FloatArray:
        """The agent's share of the units drawn now: none where the built-in algorithm's cost is unknown."""
        share = self.controller.share()
        wanted = self.efficiency.wants_builtin_unit()
        return share if wanted is None else np.where(wanted, 0.0, share)

    def _units_ended(self, outcome: UnitOutcome) -> None:
        """Let everybody learn from units that are over."""
        self.efficiency.unit_ended(outcome)
        self.controller.unit_ended(outcome)

    def _operations(self) -> Array:
        """(N,) operations of the running episodes."""
        metrics = self.subsystem.metrics()
        if "operations" not in metrics:
            raise SubsystemError(f"metrics() of {type(self.subsystem).__name__} must hold 'operations'")
        return metrics["operations"]
