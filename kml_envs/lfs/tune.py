"""The agent tunes the cleaner: per control interval the weights of the victim score, and how blocks are split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.config import CleaningPolicy, Placement
from kml_envs.lfs.observation import (
    CONTEXT_FEATURES,
    INTERVAL_FEATURES,
    mark_recent,
    observe_context,
    observe_intervals,
)
from kml_envs.lfs.simulator import advance, advance_rows
from kml_envs.lfs.state import settings_record
from kml_envs.lfs.subsystem import BoolArray, FloatArray, IntArray, LfsVolumes
from kml_envs.lfs.warmup import WarmVolumes

FEATURE_NAMES = (*CONTEXT_FEATURES, *INTERVAL_FEATURES)
ACTION_NAMES = (
    "valid_share_squared",
    "age",
    "age_times_valid_share",
    "quiet",
    "quiet_times_valid_share",
    "coldness",
    "coldness_times_valid_share",
    "coldness_times_age",
    "interval_threshold",
    "interval_ratio",
    "user_interval_scale",
    "age_weight",
)
WEIGHTS = 8
CONTEXT = len(CONTEXT_FEATURES)
# log2 of the other numbers at the zero action, and by how much the action moves it.
THRESHOLD_EXPONENT, THRESHOLD_RANGE = -3.3, 3.0
RATIO_EXPONENT, RATIO_RANGE = 2.0, 2.0
USER_SCALE_EXPONENT, USER_SCALE_RANGE = -4.0, 5.0
AGE_WEIGHT_EXPONENT, AGE_WEIGHT_RANGE = -2.0, 4.0


class TuneVolumes(LfsVolumes):
    """N volumes that ask for the parameters of the next control interval."""

    def __init__(self, warm: WarmVolumes, instances: int, *, interval_writes: int) -> None:
        """Allocate the volumes.

        Args:
            warm: Where episodes begin.
            instances: N.
            interval_writes: User writes for which parameters are held.
        """
        super().__init__(warm, instances)
        self.interval_writes = interval_writes
        self._interval_end = np.zeros(instances, np.int64)
        self._shipped = settings_record(warm.config).reshape(1)

    def reset(self, rows: BoolArray, seeds: NDArray[np.uint64]) -> None:
        """Begin an episode in the rows, with a decision pending."""
        super().reset(rows, seeds)
        self._interval_end[rows] = self.state.volumes["user_writes"][rows]

    def observe(self) -> NDArray[np.float32]:
        """Context features (N, 46) float32, a new array."""
        features = np.zeros((self.instances, len(FEATURE_NAMES)), np.float32)
        _observe_rows(self.state.volumes, features)
        return features

    def builtin_decision(self) -> FloatArray:
        """(N, 12) float64 NaN: the built-in algorithm at its shipped settings, whatever its formula."""
        return np.full((self.instances, len(ACTION_NAMES)), np.nan)

    def wait(self, until: IntArray, rows: BoolArray) -> None:
        """Let the users of the rows write on under the last parameters (see `proxy.protocols.Waiting`)."""
        never = np.zeros(self.instances, np.bool_)
        advance_rows(self.state.volumes, np.flatnonzero(rows), until, never)

    def metrics(self) -> dict[str, NDArray[np.generic]]:
        """(N,) each, of the running episode; what either side decides is an interval, not a cleaning."""
        return {**super().metrics(), "operations": self.state.volumes["marks"] - self._at_start["marks"]}

    def pending(self) -> BoolArray:
        """(N,) bool: the control interval is over."""
        return np.asarray(self.state.volumes["user_writes"] >= self._interval_end)

    def execute(self, decision: FloatArray, ask: BoolArray, until: IntArray, rows: BoolArray) -> None:
        """Run the rows' next intervals under the decisions (N, 12) (see BatchedSubsystem)."""
        _execute_rows(
            self.state.volumes, self._interval_end, self.interval_writes, self._shipped, decision, ask, until, rows
        )


@compiled
def apply_parameters(volume: Record, parameters: Record) -> None:
    """Take over the agent's parameters of the victim score and of the split by update interval.

    Args:
        volume: The VOLUME record.
        parameters: (12,) float64 in [-1, 1], in the order of ACTION_NAMES.
    """
    settings = volume.settings
    settings.policy = CleaningPolicy.SCORE
    for k in range(WEIGHTS):
        settings.score[k] = parameters[k]
    settings.placement = Placement.UPDATE_INTERVAL
    threshold = volume.block_count * 2.0 ** (THRESHOLD_EXPONENT + THRESHOLD_RANGE * parameters[WEIGHTS])
    ratio = 2.0 ** (RATIO_EXPONENT + RATIO_RANGE * parameters[WEIGHTS + 1])
    for log in range(settings.logs - 1):
        settings.age_threshold[log] = np.int64(threshold)
        threshold *= ratio
    settings.user_interval_scale = 2.0 ** (USER_SCALE_EXPONENT + USER_SCALE_RANGE * parameters[WEIGHTS + 2])
    settings.age_weight = 2.0 ** (AGE_WEIGHT_EXPONENT + AGE_WEIGHT_RANGE * parameters[WEIGHTS + 3])


@compiled
def _apply_shipped(volume: Record, shipped: Record) -> None:
    volume.settings.policy = shipped.policy
    volume.settings.placement = shipped.placement
    for k in range(shipped.age_threshold.size):
        volume.settings.age_threshold[k] = shipped.age_threshold[k]


@compiled
def _observe_rows(volumes: Record, features: Record) -> None:
    for i in range(volumes.size):
        observe_context(volumes[i], features[i])
        observe_intervals(volumes[i], features[i][CONTEXT:])


@compiled
def _execute_rows(
    volumes: Record,
    interval_end: Record,
    interval_writes: int,
    shipped: Record,
    decision: Record,
    ask: Record,
    until: Record,
    rows: Record,
) -> None:
    for i in range(volumes.size):
        if not rows[i]:
            continue
        volume = volumes[i]
        decided = True
        while True:
            if volume.user_writes >= interval_end[i]:
                if not decided and ask[i]:
                    break
                if decided and not np.isnan(decision[i, 0]):
                    apply_parameters(volume, decision[i])
                else:
                    _apply_shipped(volume, shipped[0])
                mark_recent(volume)
                # From when the parameters are in force: users wrote on while a slow agent thought.
                interval_end[i] = volume.user_writes + interval_writes
            decided = False
            advance(volume, min(until[i], interval_end[i]), False)
            if volume.user_writes >= until[i] or volume.exhausted:
                break
