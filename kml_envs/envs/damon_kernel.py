"""DAMON of a real kernel as a subsystem behind the proxy: agents trained on the simulated one drive it.

It is the same proxy with the same checks. A unit of progress is a control interval; efficiency and cost are not known,
because nobody runs the same program under the built-in algorithm at the same time.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kml_envs.damon import monitor_settings, reclaim_settings, tier_settings
from kml_envs.damon.checks import harmful_settings, kernel_refusals
from kml_envs.damon.config import Context, MonitoringAttributes, Operations, Target
from kml_envs.damon.control import WHOLE_PICTURE
from kml_envs.damon.kernel_features import (
    ActingFeatures,
    Features,
    KernelSources,
    MonitorFeatures,
    ReclaimFeatures,
)
from kml_envs.damon.kernel_files import KernelFiles
from kml_envs.damon.kernel_tier_features import TierFeatures
from kml_envs.damon.memory_config import FAST_NODE, SLOW_NODE
from kml_envs.damon.monitor_features import FEATURE_NAMES as MONITOR_FEATURES
from kml_envs.damon.reclaim_features import FEATURE_NAMES as RECLAIM_FEATURES
from kml_envs.damon.sysfs import SysfsDamon
from kml_envs.damon.tier_features import FEATURE_NAMES as TIER_FEATURES
from kml_envs.envs.damon_monitor import MonitorArguments
from kml_envs.envs.damon_reclaim import ReclaimArguments
from kml_envs.envs.damon_tier import TierArguments
from kml_envs.errors import UserError
from kml_envs.proxy import Bounds, Subsystem, Verdict

FloatArray = npt.NDArray[np.float64]

_ACTING, _WATCHING = 0, 1
"""Places of the schemes of reclaim: the one that looks comes last, so that it sees ages that pageout has reset. So it
does in tiering, behind both schemes that migrate."""


@dataclass(frozen=True)
class Kernel:
    """The kernel that is driven, and how time passes for whoever drives it.

    Attributes:
        damon: One of its kdamonds.
        files: Its files under /proc.
        pid: The process whose memory is watched and managed; None: all physical memory. Tiering never asks for it.
        nodes: The fast and the slow memory node. Only tiering asks for them, and watches all memory of these two.
        clock: Gives the time in seconds.
        sleep: Waits for some seconds.
    """

    damon: SysfsDamon
    files: KernelFiles
    pid: int | None = None
    nodes: tuple[int, int] = (FAST_NODE, SLOW_NODE)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def sources(self) -> KernelSources:
        """Where what is seen of it comes from."""
        return KernelSources(self.damon, self.files, self.damon.pid, self.pid, self.clock)

    def aimed(self, context: Context) -> Context:
        """The settings, for what is watched.

        Raises:
            UserError: The ranges of physical memory cannot be seen.
        """
        if self.pid is not None:
            return replace(context, operations=Operations.VADDR, targets=(Target(self.pid),))
        return replace(context, operations=Operations.PADDR, targets=(Target(regions=self.files.memory_ranges()),))

    def aimed_at_nodes(self, context: Context) -> Context:
        """The settings of tiering, for all memory of both nodes.

        Raises:
            UserError: The ranges of their memory cannot be seen.
        """
        targets = (Target(regions=self.files.node_ranges(self.nodes)),)
        context = tier_settings.on_nodes(context, *self.nodes)
        return replace(context, operations=Operations.PADDR, targets=targets)


class KernelSubsystem(Subsystem):
    """One kdamond whose settings the agent recommends; subclasses say what settings.

    Attributes:
        kernel: The kernel.
        in_force: The settings that were written last.
        node_count: Numbers of memory nodes that settings may name: those below it.
    """

    reward_scale = 1.0
    recommendation: Bounds
    node_count = 1

    def __init__(self, kernel: Kernel, interval_s: float) -> None:
        """Prepare; nothing is written before `reset`.

        Args:
            kernel: The kernel.
            interval_s: Least length of a control interval. It is longer where the kernel lets whoever asks for a
                snapshot wait for the end of an aggregation.
        """
        self.kernel, self.interval_s = kernel, interval_s
        self.in_force = Context()
        self._features: Features = np.zeros(self.observation.size, np.float32)
        self._intervals = 0
        self._pending = False
        self._due_s = 0.0

    def reset(self, seed: int) -> None:
        """Turn DAMON on under the built-in algorithm, and let it run for an interval.

        Raises:
            UserError: The kdamond is on already, or the kernel refuses.
        """
        self.in_force = self._shipped()
        self.kernel.damon.turn_on(self.in_force)
        self._intervals, self._pending = 0, False
        self._begin()
        self._due_s = self.kernel.clock() + self.interval_s
        self._close_interval()

    def features(self) -> Sequence[float] | npt.NDArray[Any]:
        """What was seen at the end of the last interval."""
        return self._features

    def builtin_decision(self) -> int | Sequence[float] | npt.NDArray[Any]:
        """NaN, which stands for the built-in algorithm at its shipped settings."""
        return np.full(self.recommendation.size, np.nan)

    def check(self, recommendation: int | npt.NDArray[Any]) -> Verdict:
        """What the kernel refuses of the settings, or accepts although it does harm."""
        context = self._recommended(np.asarray(recommendation, np.float64))
        found = [*kernel_refusals(context), *harmful_settings(context, self.node_count)]
        return Verdict[found[0].reason.name] if found else Verdict.ACCEPTED

    def pending(self) -> bool:
        """Whether an interval is over and settings are wanted for the next one."""
        return self._pending

    def execute(self, decision: int | npt.NDArray[Any]) -> None:
        """Put settings in force.

        Raises:
            UserError: The kernel refuses.
        """
        given = np.asarray(decision, np.float64)
        by_agent = not np.isnan(given).any()
        wanted = self._recommended(given) if by_agent else self._builtin()
        if wanted != self.in_force:
            self.kernel.damon.commit(wanted)
            self.in_force = wanted
        self._hold(given if by_agent else None)
        self._due_s = self.kernel.clock() + self.interval_s
        self._pending = False

    def run(self, until: int) -> None:
        """Wait for the end of the interval, and look."""
        self._close_interval()
        self._intervals += 1

    def progress(self) -> int:
        """Intervals that are over."""
        return self._intervals

    def cost(self) -> float:
        """Not known: 0."""
        return 0.0

    def critical(self) -> bool:
        """Whether free memory is below the least, where programs reclaim for themselves."""
        machine = self.kernel.files.machine()
        return machine.free_bytes < machine.least_free_bytes

    def _close_interval(self) -> None:
        self.kernel.sleep(max(0.0, self._due_s - self.kernel.clock()))
        if not self.kernel.damon.is_on():
            raise UserError("the kernel has stopped monitoring: has the process ended?")
        intervals = self.kernel.damon.intervals()
        attributes = replace(self.in_force.monitoring_attrs, sample_us=intervals.sample_us, aggr_us=intervals.aggr_us)
        self._features = self._look(attributes)
        self._pending = True

    def _builtin(self) -> Context:
        """Settings with which the built-in algorithm goes on, or takes over."""
        return self._shipped()

    @abstractmethod
    def _shipped(self) -> Context:
        """Settings that the built-in algorithm begins with."""

    @abstractmethod
    def _recommended(self, action: FloatArray) -> Context:
        """Settings that an action stands for."""

    @abstractmethod
    def _begin(self) -> None:
        """Take the first look."""

    @abstractmethod
    def _hold(self, action: FloatArray | None) -> None:
        """Note whose settings have been put in force; None: the built-in algorithm's."""

    @abstractmethod
    def _look(self, attributes: MonitoringAttributes) -> Features:
        """Look at the interval that is over, monitored with these attributes."""


class ActingKernel(KernelSubsystem):
    """A kdamond whose schemes act on memory."""

    _seen: ActingFeatures

    def metrics(self) -> dict[str, float]:
        """Size of what is managed, or of what is in use on both nodes."""
        return {"size_mib": self._seen.size / (1 << 20)}

    def _begin(self) -> None:
        self._seen.begin()

    def _hold(self, action: FloatArray | None) -> None:
        self._seen.hold(action)

    def _look(self, attributes: MonitoringAttributes) -> Features:
        return self._seen.look(attributes)


class KernelReclaim(ActingKernel):
    """A kdamond whose scheme pages out what is idle: `kml/DamonReclaim-v0` of a real kernel."""

    observation = Bounds(RECLAIM_FEATURES, 0.0, 1.0)
    recommendation = Bounds(reclaim_settings.ACTION_NAMES, -1.0, 1.0)

    def __init__(self, kernel: Kernel, arguments: ReclaimArguments) -> None:
        """Prepare.

        Args:
            kernel: The kernel.
            arguments: Those of the environment: intervals, built-in algorithm, monitoring, and what the machine is
                taken to be like.

        Raises:
            UserError: An argument is out of range, or the built-in algorithm is no scheme of DAMON's.
        """
        if arguments.builtin == reclaim_settings.SENPAI:
            raise UserError(f"built-in algorithm {arguments.builtin}: is a program, no scheme that a kernel could run")
        self._attributes = arguments.attributes()
        super().__init__(kernel, arguments.interval_us(self._attributes.aggr_us) / 1e6)
        schemes = reclaim_settings.builtin_context(arguments.builtin, self._attributes).schemes
        self._builtin_schemes = (*schemes, WHOLE_PICTURE)
        machine = arguments.machine().config
        self._seen = ReclaimFeatures(kernel.sources(), machine, acting=_ACTING, watching=_WATCHING)

    def _shipped(self) -> Context:
        return self.kernel.aimed(Context(monitoring_attrs=self._attributes, schemes=self._builtin_schemes))

    def _recommended(self, action: FloatArray) -> Context:
        scheme = reclaim_settings.recommended_scheme(action, self._seen.size, self._attributes)
        return self.kernel.aimed(Context(monitoring_attrs=self._attributes, schemes=(scheme, WHOLE_PICTURE)))


class KernelMonitor(KernelSubsystem):
    """A kdamond that only watches: `kml/DamonMonitor-v0` of a real kernel."""

    observation = Bounds(MONITOR_FEATURES, 0.0, 1.0)
    recommendation = Bounds(monitor_settings.ACTION_NAMES, -1.0, 1.0)

    def __init__(self, kernel: Kernel, arguments: MonitorArguments) -> None:
        """Prepare.

        Args:
            kernel: The kernel.
            arguments: Those of the environment: intervals, built-in algorithm and room for regions.

        Raises:
            UserError: An argument is out of range.
        """
        self._room = arguments.region_room()
        self._builtin_attributes = monitor_settings.builtin_attributes(arguments.builtin, self._room)
        super().__init__(kernel, arguments.interval_us(self._builtin_attributes.aggr_us) / 1e6)
        self._seen = MonitorFeatures(
            kernel.sources(), watching=0, reference_us=arguments.reference_us, max_nr_regions=self._room
        )
        self._held: FloatArray | None = None

    def _shipped(self) -> Context:
        self._held = None
        return self._watching(self._builtin_attributes)

    def _builtin(self) -> Context:
        if self._held is None:
            return self.in_force
        found = self.kernel.damon.intervals().sample_us
        return self._watching(monitor_settings.resumed_attributes(self._builtin_attributes, found))

    def _recommended(self, action: FloatArray) -> Context:
        return self._watching(monitor_settings.recommended_attributes(action, self._room, self._held))

    def _watching(self, attributes: MonitoringAttributes) -> Context:
        return self.kernel.aimed(Context(monitoring_attrs=attributes, schemes=(WHOLE_PICTURE,)))

    def _begin(self) -> None:
        self._seen.begin()

    def _hold(self, action: FloatArray | None) -> None:
        self._seen.hold(by_builtin=action is None)
        if action is None:
            self._held = None
            return
        held = np.full(len(monitor_settings.ACTION_NAMES), np.nan) if self._held is None else self._held
        monitor_settings.settle(action, held)
        self._held = held

    def _look(self, attributes: MonitoringAttributes) -> Features:
        return self._seen.look(attributes)


class KernelTier(ActingKernel):
    """A kdamond whose schemes migrate memory between two nodes: `kml/DamonTier-v0` of a real kernel."""

    observation = Bounds(TIER_FEATURES, 0.0, 1.0)
    recommendation = Bounds(tier_settings.ACTION_NAMES, -1.0, 1.0)

    def __init__(self, kernel: Kernel, arguments: TierArguments) -> None:
        """Prepare.

        Args:
            kernel: The kernel.
            arguments: Those of the environment: intervals, built-in algorithm, monitoring, and what the machine is
                taken to be like.

        Raises:
            UserError: An argument is out of range.
        """
        self._attributes = arguments.attributes()
        super().__init__(kernel, arguments.interval_us(self._attributes.aggr_us) / 1e6)
        self._builtin_context = tier_settings.builtin_context(arguments.builtin, self._attributes)
        self.node_count = 1 + max(kernel.nodes)
        self._seen = TierFeatures(
            kernel.sources(),
            arguments.machine().config,
            nodes=kernel.nodes,
            demoting=tier_settings.COLD,
            promoting=tier_settings.HOT,
            watching=len(self._builtin_context.schemes),
        )

    def _shipped(self) -> Context:
        return self._watched(self._builtin_context)

    def _recommended(self, action: FloatArray) -> Context:
        return self._watched(tier_settings.recommended_context(action, self._attributes))

    def _watched(self, context: Context) -> Context:
        return self.kernel.aimed_at_nodes(replace(context, schemes=(*context.schemes, WHOLE_PICTURE)))
