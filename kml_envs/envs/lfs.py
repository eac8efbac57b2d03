"""The log-structured file system behind the proxy: its two subsystems, and how environments set one up."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from kml_envs.envs.proxy_env import Rendering
from kml_envs.errors import UserError, unknown_name
from kml_envs.lfs import rendering, tune, victim
from kml_envs.lfs.config import (
    CleaningConfig,
    CleaningPolicy,
    Geometry,
    LfsConfig,
    Placement,
    PlacementConfig,
)
from kml_envs.lfs.observation import CANDIDATES
from kml_envs.lfs.subsystem import LfsVolumes
from kml_envs.lfs.tune import TuneVolumes
from kml_envs.lfs.victim import VictimVolumes
from kml_envs.lfs.warmup import WarmVolumes
from kml_envs.proxy import BatchedSubsystem, Bounds, Choice, ProxyOptions, Snapshot, Verdict
from kml_envs.suites import make_workloads

BUILTIN_POLICIES = {
    policy.name.lower().replace("_", "-"): policy for policy in CleaningPolicy if policy < CleaningPolicy.SCORE
}
PLACEMENTS = {rule.name.lower().replace("_", "-"): rule for rule in Placement if rule < Placement.CLAIRVOYANT}

# By code of lfs.victim.check_victim.
_VERDICTS = np.array(
    [
        Verdict.ACCEPTED,
        Verdict.SEGMENT_FREE,
        Verdict.SEGMENT_CURRENT,
        Verdict.SEGMENT_UNDER_CLEANING,
        Verdict.SEGMENT_FULLY_VALID,
        Verdict.SEGMENT_PROTECTED,
        Verdict.NO_SUCH_CANDIDATE,
    ],
    np.int8,
)


class LfsVictimSubsystem(VictimVolumes):
    """Volumes that ask for victims, as a `BatchedSubsystem`."""

    observation = Bounds(victim.FEATURE_NAMES, 0.0, 1.0)
    recommendation: Choice | Bounds = Choice(CANDIDATES)

    def snapshot(self) -> Snapshot:
        """Candidates and context of all rows."""
        return Snapshot(*self.observe())

    def check(self, recommendation: NDArray[Any]) -> NDArray[np.int8]:
        """(N,) int8 `Verdict` of the chosen candidates."""
        codes = self.check_codes(recommendation)
        return _VERDICTS[codes] if np.count_nonzero(codes) else codes

    def shadow(self) -> LfsVictimSubsystem:
        """The same episodes under the built-in algorithm."""
        return LfsVictimSubsystem(self.warm, self.instances)


class LfsTuneSubsystem(TuneVolumes):
    """Volumes that ask for parameters, as a `BatchedSubsystem`."""

    observation = Bounds(tune.FEATURE_NAMES, 0.0, 1.0)
    recommendation: Choice | Bounds = Bounds(tune.ACTION_NAMES, -1.0, 1.0)

    def snapshot(self) -> Snapshot:
        """Context of all rows."""
        return Snapshot(self.observe(), None)

    def check(self, recommendation: NDArray[Any]) -> NDArray[np.int8]:
        """(N,) int8: every bounded recommendation is accepted."""
        return np.zeros(self.instances, np.int8)

    def shadow(self) -> LfsTuneSubsystem:
        """The same episodes under the built-in algorithm."""
        return LfsTuneSubsystem(self.warm, self.instances, interval_writes=self.interval_writes)


def make_config(
    *,
    segments: int,
    blocks_per_segment: int,
    segments_per_section: int,
    utilisation: float,
    builtin: str,
    placement: str,
    trigger_sections: int | None,
    age_thresholds: Sequence[float],
) -> LfsConfig:
    """Make a file system from an environment's arguments.

    Raises:
        UserError: A name is not known, or sizes do not fit together.
    """
    if builtin not in BUILTIN_POLICIES:
        raise unknown_name("built-in algorithm", builtin, BUILTIN_POLICIES)
    if placement not in PLACEMENTS:
        raise unknown_name("placement", placement, PLACEMENTS)
    return LfsConfig(
        Geometry(segments, blocks_per_segment, segments_per_section, utilisation),
        PlacementConfig(PLACEMENTS[placement], age_thresholds=tuple(age_thresholds)),
        CleaningConfig(policy=BUILTIN_POLICIES[builtin], trigger_sections=trigger_sections),
    )


def make_warm(config: LfsConfig, workloads: str | Sequence[str], warm_volumes: float) -> WarmVolumes:
    """Make the place where episodes begin."""
    if warm_volumes < 0:
        raise UserError(f"warm_volumes {warm_volumes}: must not be negative")
    return WarmVolumes(config, make_workloads(workloads), volumes=warm_volumes)


def make_options(
    config: LfsConfig,
    *,
    mode: str,
    efficiency: str,
    episode_volumes: float,
    window_volumes: float,
    share: float | None,
    probes: bool,
) -> ProxyOptions:
    """Make the proxy's options from an environment's arguments, which count in volumes of user writes.

    Raises:
        UserError: A length is not positive, or the window is shorter than two volumes: those reverse the truth.
    """
    if episode_volumes <= 0:
        raise UserError(f"episode_volumes {episode_volumes}: must be positive")
    if window_volumes < 2:
        raise UserError(f"window_volumes {window_volumes}: at least 2, because cleaning is an investment")
    count = config.geometry.volume_blocks
    return ProxyOptions(
        episode_progress=max(1, round(episode_volumes * count)),
        mode=mode,
        share=share,
        probes=probes,
        window=round(window_volumes * count),
        efficiency=efficiency,
    )


class LfsRendering(Rendering):
    """Drawing and reset options that both file-system environments share."""

    def _render_rgb(self, row: int) -> NDArray[np.uint8]:
        return rendering.draw_segments(self._volumes(), row)

    def _render_ansi(self, row: int) -> str:
        return rendering.describe_segments(self._volumes(), row)

    def _apply_options(self, options: dict[str, Any]) -> None:
        remaining = dict(options)
        if "workload" in remaining:
            self._volumes().fix_workload(remaining.pop("workload"))
        super()._apply_options(remaining)

    def _volumes(self) -> LfsVolumes:
        return cast(LfsVolumes, self.proxy.subsystem)


def subsystem_factory(
    kind: Callable[..., BatchedSubsystem], warm: WarmVolumes, **arguments: Any
) -> functools.partial[BatchedSubsystem]:
    """A factory that makes a batch of so many instances."""
    return functools.partial(kind, warm, **arguments)
