"""What the environments of DAMON share: arguments, constructors, drawing, reset options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from kml_envs.damon import rendering
from kml_envs.damon.checks import LEAST_MIN_NR_REGIONS
from kml_envs.damon.config import Context, MonitoringAttributes
from kml_envs.damon.memory_config import MemoryConfig
from kml_envs.damon.programs import MonitoredPrograms
from kml_envs.damon.warm_programs import Machine, WarmPrograms
from kml_envs.envs.arguments import check_kinds
from kml_envs.envs.proxy_env import ProxyEnv, ProxyVectorEnv, SubsystemFactory, WorkloadOption
from kml_envs.errors import UserError
from kml_envs.memory_suites import make_memory_workloads
from kml_envs.proxy import ProxyOptions
from kml_envs.proxy.options import MOST_PROGRESS, timing

_SHORTEST_WINDOW_S = 10.0
_PROGRESS_US = 1000.0


@dataclass(frozen=True, kw_only=True)
class ProgramArguments:
    """The arguments that all environments of DAMON share, described in the environments' own documentation.

    Lengths count in seconds of the simulated program. An environment adds its own arguments in a subclass and says in
    `setup` what they mean; all of them can be written as JSON.
    """

    workloads: str | Sequence[str] = "memory-real-train"
    max_nr_regions: int = 1000
    mode: str = "recommendation"
    efficiency: str = "shadow"
    interval_s: float = 2.0
    episode_s: float = 120.0
    window_s: float = 30.0
    share: float | None = None
    probes: bool = False
    latency_us: float = 0.0
    deadline_us: float | None = None
    warm_s: float = 30.0

    def __post_init__(self) -> None:
        """Check that every argument is of its kind, before any is computed with.

        Raises:
            UserError: One is not.
        """
        check_kinds(self)

    def setup(self) -> tuple[SubsystemFactory, ProxyOptions]:
        """Make what an environment consists of: a maker of subsystems, and the proxy's options.

        Raises:
            UserError: An argument is out of range, or a name is not known.
        """
        raise NotImplementedError

    def machine(self) -> Machine:
        """The machine that the program runs on; as large as it wants to be, unless a subclass says more of it."""
        return Machine(MemoryConfig(), 1.5)

    def region_room(self) -> int:
        """Regions that there is room for.

        Raises:
            UserError: There are too few or too many.
        """
        if not 10 <= self.max_nr_regions <= 10_000:
            raise UserError(f"max_nr_regions {self.max_nr_regions}: must lie in 10..10000")
        return self.max_nr_regions

    def warm(self, context: Context, max_nr_regions: int = 0) -> WarmPrograms:
        """Make the place where episodes begin.

        Args:
            context: DAMON's settings while a program warms up.
            max_nr_regions: Room for the regions of other settings than these.

        Raises:
            UserError: The warm-up is negative, or there is no such workload.
        """
        if self.warm_s < 0:
            raise UserError(f"warm_s {self.warm_s}: must not be negative")
        workloads = make_memory_workloads(self.workloads)
        return WarmPrograms(
            self.machine(),
            workloads,
            context,
            warm_s=self.warm_s,
            episode_s=self.episode_s,
            max_nr_regions=max_nr_regions,
        )

    def interval_us(self, shortest_us: int) -> int:
        """Length of a control interval.

        Args:
            shortest_us: One aggregation, which it must hold.

        Raises:
            UserError: It is shorter, or too long for any clock.
        """
        interval_us = round(self.interval_s * 1e6)
        if interval_us < shortest_us:
            raise UserError(f"interval_s {self.interval_s}: must hold at least one aggregation of {shortest_us} us")
        if interval_us > MOST_PROGRESS:
            raise UserError(f"interval_s {self.interval_s}: must be at most 2**53 us")
        return interval_us

    def options(self) -> ProxyOptions:
        """Make the proxy's options.

        Raises:
            UserError: A length is not positive, or the window is too short for what was paged out to be missed.
        """
        if self.episode_s <= 0:
            raise UserError(f"episode_s {self.episode_s}: must be positive")
        if self.window_s < _SHORTEST_WINDOW_S:
            raise UserError(f"window_s {self.window_s}: at least {_SHORTEST_WINDOW_S:g}: memory is missed only later")
        latency, deadline = timing(self.latency_us, self.deadline_us, _PROGRESS_US)
        return ProxyOptions(
            episode_progress=max(1, round(self.episode_s * 1000)),
            mode=self.mode,
            share=self.share,
            probes=self.probes,
            window=round(self.window_s * 1000),
            least_window=round(_SHORTEST_WINDOW_S * 1000),
            efficiency=self.efficiency,
            latency=latency,
            deadline=deadline,
        )


@dataclass(frozen=True, kw_only=True)
class DamonArguments(ProgramArguments):
    """Beside them, those of environments whose schemes act on memory: its machine, and how it is monitored."""

    memory_share: float = 1.5
    sample_us: int = 5_000
    aggr_us: int = 100_000
    min_nr_regions: int = 10

    def attributes(self) -> MonitoringAttributes:
        """How accesses are monitored.

        Raises:
            UserError: An aggregation holds less than one sample, or there are too few regions.
        """
        if not 1 <= self.sample_us <= self.aggr_us:
            raise UserError(f"sample_us {self.sample_us}: must lie in 1..{self.aggr_us}, which is aggr_us")
        if not LEAST_MIN_NR_REGIONS <= self.min_nr_regions <= 10_000:
            raise UserError(f"min_nr_regions {self.min_nr_regions}: must lie in {LEAST_MIN_NR_REGIONS}..10000")
        most = self.region_room()
        fewest = min(self.min_nr_regions, most // 2)
        return MonitoringAttributes(self.sample_us, self.aggr_us, min_nr_regions=fewest, max_nr_regions=most)

    def machine(self) -> Machine:
        """The machine.

        Raises:
            UserError: An argument is out of range.
        """
        if not 0.25 <= self.memory_share <= 16:
            raise UserError(f"memory_share {self.memory_share}: must lie in 0.25..16")
        return Machine(MemoryConfig(), self.memory_share)


class DamonRendering(WorkloadOption):
    """Drawing and reset options that the environments of DAMON share."""

    def _render_rgb(self, row: int) -> NDArray[np.uint8]:
        return rendering.draw_program(self._programs(), row)

    def _render_ansi(self, row: int) -> str:
        return rendering.describe_program(self._programs(), row)

    def _programs(self) -> MonitoredPrograms:
        return cast(MonitoredPrograms, self.proxy.subsystem)


class DamonEnv(DamonRendering, ProxyEnv):
    """One program under DAMON behind its proxy.

    Attributes:
        arguments: What an environment accepts beside its render mode.
    """

    arguments: ClassVar[type[ProgramArguments]]

    def __init__(self, *, render_mode: str | None = None, info_decisions: bool = False, **arguments: Any) -> None:
        """Set the program up; arguments as in the class description."""
        super().__init__(*self.arguments(**arguments).setup(), render_mode=render_mode, info_decisions=info_decisions)


class DamonVectorEnv(DamonRendering, ProxyVectorEnv):
    """Many programs under DAMON behind one proxy.

    Attributes:
        arguments: What an environment accepts beside the number of rows and its modes.
    """

    arguments: ClassVar[type[ProgramArguments]]

    def __init__(
        self,
        num_envs: int,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        info_decisions: bool = False,
        **arguments: Any,
    ) -> None:
        """Set the programs up; arguments as for the single environment."""
        make_subsystem, options = self.arguments(**arguments).setup()
        super().__init__(
            make_subsystem,
            num_envs,
            options,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
            info_decisions=info_decisions,
        )
