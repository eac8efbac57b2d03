"""What the environments of the log-structured file system share: arguments, constructors, drawing, reset options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from kml_envs.envs.arguments import check_kinds
from kml_envs.envs.domains import choose_domains, describe_comparison
from kml_envs.envs.proxy_env import ProxyEnv, ProxyVectorEnv, SubsystemFactory, WorkloadOption
from kml_envs.errors import UserError, unknown_name
from kml_envs.lfs import rendering
from kml_envs.lfs.config import (
    CleaningConfig,
    CleaningPolicy,
    Geometry,
    LfsConfig,
    Placement,
    PlacementConfig,
)
from kml_envs.lfs.subsystem import LEAST_WINDOW_VOLUMES, LfsVolumes
from kml_envs.lfs.warmup import WarmVolumes
from kml_envs.proxy import ProxyOptions
from kml_envs.proxy.modes import AUTO
from kml_envs.proxy.options import timing
from kml_envs.suites import make_workloads

BUILTIN_POLICIES = {
    policy.name.lower().replace("_", "-"): policy for policy in CleaningPolicy if policy < CleaningPolicy.SCORE
}
PLACEMENTS = {rule.name.lower().replace("_", "-"): rule for rule in Placement if rule < Placement.CLAIRVOYANT}


@dataclass(frozen=True, kw_only=True)
class LfsArguments:
    """The arguments that environments of the file system share, described in the environments' own documentation.

    Lengths count in volumes of user writes. An environment adds its own arguments in a subclass and says in
    `setup` what they mean; all of them can be written as JSON.
    """

    workloads: str | Sequence[str] = "synthetic-train"
    segments: int = 256
    blocks_per_segment: int = 64
    segments_per_section: int = 1
    utilisation: float = 0.85
    builtin: str = "greedy"
    age_thresholds: Sequence[float] = (0.1, 0.4)
    trigger_sections: int | None = None
    mode: str = "recommendation"
    efficiency: str = "shadow"
    episode_volumes: float = 5.0
    window_volumes: float = 2.0
    share: float | None = None
    probes: bool = False
    domains: int | str = 1
    latency_us: float = 0.0
    deadline_us: float | None = None
    warm_volumes: float = 4.0

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

    def file_system(self, placement: str, *, keep_intervals: bool = False) -> LfsConfig:
        """Make the file system with a placement of this name, and with update intervals if the agent needs them.

        Raises:
            UserError: A name is not known, or sizes do not fit together.
        """
        policy = self.cleaning_policy()
        segments, per_section = self.segments // self.domain_count(), max(self.segments_per_section, 1)
        if self.domain_count() > 1:
            segments -= segments % per_section
        if placement not in PLACEMENTS:
            raise unknown_name("placement", placement, PLACEMENTS)
        return LfsConfig(
            Geometry(segments, self.blocks_per_segment, self.segments_per_section, self.utilisation),
            PlacementConfig(
                PLACEMENTS[placement], age_thresholds=tuple(self.age_thresholds), keep_intervals=keep_intervals
            ),
            CleaningConfig(policy=policy, trigger_sections=self.trigger_sections),
        )

    def cleaning_policy(self) -> CleaningPolicy:
        """The policy by which the built-in algorithm chooses victims, when a write waits for it.

        Raises:
            UserError: There is no such built-in algorithm.
        """
        if self.builtin not in BUILTIN_POLICIES:
            raise unknown_name("built-in algorithm", self.builtin, BUILTIN_POLICIES)
        return BUILTIN_POLICIES[self.builtin]

    def domain_count(self) -> int:
        """Domains that mode `auto` splits the volume into, each of them an instance; 1: it compares in time.

        Raises:
            UserError: There is no such number, or the domains would be too few or too small.
        """
        domains = choose_domains(self.domains, self.segments)
        return domains if self.mode == AUTO else 1

    def comparison(self) -> str:
        """How mode `auto` compares, in plain words."""
        return describe_comparison(self.domains, self.segments)

    def warm(self, config: LfsConfig) -> WarmVolumes:
        """Make the place where episodes begin.

        Raises:
            UserError: The warm-up is negative, or there is no such workload.
        """
        if self.warm_volumes < 0:
            raise UserError(f"warm_volumes {self.warm_volumes}: must not be negative")
        workloads = make_workloads(self.workloads)
        return WarmVolumes(config, workloads, volumes=self.warm_volumes, domains=self.domain_count())

    def options(self, config: LfsConfig) -> ProxyOptions:
        """Make the proxy's options.

        Raises:
            UserError: A length is not positive, or the window is shorter than two volumes: those reverse the truth.
        """
        if self.episode_volumes <= 0:
            raise UserError(f"episode_volumes {self.episode_volumes}: must be positive")
        if self.window_volumes < LEAST_WINDOW_VOLUMES:
            least = LEAST_WINDOW_VOLUMES
            raise UserError(
                f"window_volumes {self.window_volumes}: at least {least}, because cleaning is an investment"
            )
        count = config.geometry.volume_blocks
        latency, deadline = timing(
            self.latency_us, self.deadline_us, config.latency.write_ns / 1e3 * self.domain_count()
        )
        return ProxyOptions(
            episode_progress=max(1, round(self.episode_volumes * count)),
            mode=self.mode,
            share=self.share,
            probes=self.probes,
            window=round(self.window_volumes * count),
            efficiency=self.efficiency,
            domains=self.domain_count(),
            latency=latency,
            deadline=deadline,
            least_window=round(LEAST_WINDOW_VOLUMES * count),
        )


class LfsRendering(WorkloadOption):
    """Drawing and reset options that the file-system environments share."""

    def _render_rgb(self, row: int) -> NDArray[np.uint8]:
        return rendering.draw_segments(self._volumes(), row)

    def _render_ansi(self, row: int) -> str:
        return rendering.describe_segments(self._volumes(), row)

    def _volumes(self) -> LfsVolumes:
        return cast(LfsVolumes, self.proxy.subsystem)


class LfsEnv(LfsRendering, ProxyEnv):
    """One file system behind its proxy.

    Attributes:
        arguments: What an environment accepts beside its render mode.
    """

    arguments: ClassVar[type[LfsArguments]]

    def __init__(self, *, render_mode: str | None = None, info_decisions: bool = False, **arguments: Any) -> None:
        """Set the file system up; arguments as in the class description."""
        super().__init__(*self.arguments(**arguments).setup(), render_mode=render_mode, info_decisions=info_decisions)


class LfsVectorEnv(LfsRendering, ProxyVectorEnv):
    """Many file systems behind one proxy.

    Attributes:
        arguments: What an environment accepts beside the number of rows and its modes.
    """

    arguments: ClassVar[type[LfsArguments]]

    def __init__(
        self,
        num_envs: int,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        info_decisions: bool = False,
        **arguments: Any,
    ) -> None:
        """Set the file systems up; arguments as for the single environment."""
        make_subsystem, options = self.arguments(**arguments).setup()
        super().__init__(
            make_subsystem,
            num_envs,
            options,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
            info_decisions=info_decisions,
        )
