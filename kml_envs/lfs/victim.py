"""The agent picks the victim: one decision per cleaning, among candidates that the kernel side pre-selects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.cleaning import clean
from kml_envs.lfs.look_ahead import fetch_ahead
from kml_envs.lfs.observation import (
    CANDIDATE_FEATURES,
    CANDIDATES,
    CONTEXT_FEATURES,
    LOGARITHMS,
    choose_candidates,
    key_count,
    mark_recent,
    observe_candidates,
    observe_context,
)
from kml_envs.lfs.simulator import advance, write_without_cleaning
from kml_envs.lfs.state import SegmentState, segments, segments_per_section, slots_per_section
from kml_envs.lfs.subsystem import BoolArray, FloatArray, IntArray, LfsVolumes
from kml_envs.lfs.warmup import WarmVolumes

CONTEXT = len(CONTEXT_FEATURES)
PER_CANDIDATE = len(CANDIDATE_FEATURES)
FEATURE_NAMES = (
    *CONTEXT_FEATURES,
    *(f"candidate_{k}_{name}" for k in range(CANDIDATES) for name in CANDIDATE_FEATURES),
)

# Codes of `check_victims`; `LfsVictim.check` turns them into the proxy's verdicts.
ACCEPTED, FREE, CURRENT, UNDER_CLEANING, FULLY_VALID, PROTECTED, MISSING = range(7)


class VictimVolumes(LfsVolumes):
    """N volumes that ask which of their candidates to clean.

    Attributes:
        candidates: (N, CANDIDATES) int32, sections of the last snapshot, -1 in empty slots.
    """

    def __init__(self, warm: WarmVolumes, instances: int) -> None:
        """Allocate the volumes."""
        super().__init__(warm, instances)
        self.candidates = np.full((instances, CANDIDATES), -1, np.int32)
        self._keys = np.zeros((2, key_count(warm.config.geometry.sections)), np.int64)
        self._logarithms = np.ones(LOGARITHMS * CANDIDATES)
        self._row_numbers = np.arange(instances)

    def observe(self) -> tuple[NDArray[np.float32], BoolArray]:
        """Choose candidates and describe them.

        Returns:
            Features (N, 29 + 8 K) float32 and mask (N, K) bool, new arrays; a row without a pending decision
            shows its context only, and candidate 0 is not masked.
        """
        features = np.zeros((self.instances, CONTEXT + CANDIDATES * PER_CANDIDATE), np.float32)
        mask = np.zeros((self.instances, CANDIDATES), np.bool_)
        _observe_rows(self.state.volumes, self.candidates, self._keys, self._logarithms, features, mask)
        return features, mask

    def builtin_decision(self) -> IntArray:
        """(N,) int64: candidate 0, the built-in algorithm's own choice."""
        return np.zeros(self.instances, np.int64)

    def check_codes(self, recommendation: IntArray) -> NDArray[np.int8]:
        """(N,) int8: what the kernel side knows against cleaning the chosen candidates (N,) now."""
        codes = np.zeros(self.instances, np.int8)
        _check_rows(self.state.volumes, self.candidates, recommendation, codes)
        return codes

    def forecast(self, decision: IntArray) -> tuple[FloatArray, FloatArray]:
        """(N,) float64 each: blocks that cleaning the chosen candidates moves, and blocks that it makes free."""
        moved, freed = np.zeros((2, self.instances))
        _forecast_rows(self.state.volumes, self.candidates, decision, moved, freed)
        return moved, freed

    def wait(self, until: IntArray, rows: BoolArray) -> None:
        """Let the users of the rows write on without cleaning, down to the reserve (see `proxy.protocols.Waiting`)."""
        _wait_rows(self.state.volumes, until, rows)

    def pending(self) -> BoolArray:
        """(N,) bool: a cleaning decision is waiting."""
        return np.asarray(self.state.volumes["pending"] != 0)

    def execute(self, decision: IntArray, ask: BoolArray, until: IntArray, rows: BoolArray) -> None:
        """Clean the chosen candidates of the rows, and let the user write on (see BatchedSubsystem)."""
        victims = self.candidates[self._row_numbers, decision]
        _execute_rows(self.state.volumes, victims, decision, ask, until, rows)


@compiled
def check_victim(volume: Record, section: int) -> int:
    """Whether a section may be cleaned now, as NILFS2's kernel side checks what its cleaner asks for.

    Args:
        volume: The VOLUME record.
        section: Section number, negative where there is none.

    Returns:
        ACCEPTED or the code of the reason against it.
    """
    if section < 0 or section >= volume.sections:
        return MISSING
    head = segments(volume)[section * volume.segments_per_section]
    if head.state == SegmentState.CURRENT:
        return CURRENT
    if head.state == SegmentState.CLEANING:
        return UNDER_CLEANING
    if head.state == SegmentState.FULL:
        return FULLY_VALID
    if head.state != SegmentState.DIRTY:
        return FREE
    if volume.settings.protection > 0 and head.sealed_at > volume.clock - volume.settings.protection:
        return PROTECTED
    return ACCEPTED


@compiled
def _observe_rows(
    volumes: Record, candidates: Record, keys: Record, logarithms: Record, features: Record, mask: Record
) -> None:
    for i in range(volumes.size):
        volume = volumes[i]
        observe_context(volume, features[i, :CONTEXT])
        mask[i, 0] = True
        if volume.pending == 0:
            candidates[i, :] = -1
            continue
        choose_candidates(volume, candidates[i], keys)
        for k in range(candidates.shape[1]):
            mask[i, k] = candidates[i, k] >= 0
        observe_candidates(volume, candidates[i], features[i, CONTEXT:], logarithms)


@compiled
def _wait_rows(volumes: Record, until: Record, rows: Record) -> None:
    for i in range(volumes.size):
        volume = volumes[i]
        if rows[i] and volume.pending and volume.user_writes < until[i]:
            write_without_cleaning(volume, until[i])


@compiled
def _forecast_rows(volumes: Record, candidates: Record, chosen: Record, moved: Record, freed: Record) -> None:
    for i in range(volumes.size):
        volume = volumes[i]
        section = candidates[i, chosen[i]] if chosen[i] > 0 else volume.suggestion
        if volume.pending and section >= 0:
            forecast_cleaning(volume, section, moved[i : i + 1], freed[i : i + 1])


@compiled
def forecast_cleaning(volume: Record, section: int, moved: Record, freed: Record) -> None:
    """Write down what cleaning a section would move and make free, (1,) float64 each, in blocks."""
    valid = segments(volume)[section * segments_per_section(volume)].section_valid
    moved[0] = valid
    freed[0] = slots_per_section(volume) - valid


@compiled
def _check_rows(volumes: Record, candidates: Record, chosen: Record, codes: Record) -> None:
    for i in range(volumes.size):
        codes[i] = check_victim(volumes[i], candidates[i, chosen[i]]) if volumes[i].pending else ACCEPTED


@compiled
def _execute_rows(volumes: Record, victims: Record, chosen: Record, ask: Record, until: Record, rows: Record) -> None:
    for i in range(volumes.size):
        fetch_ahead(volumes, i, victims, rows)
        if not rows[i]:
            continue
        volume = volumes[i]
        if volume.pending:
            clean(volume, victims[i] if chosen[i] > 0 else volume.suggestion)
        if 4 * (volume.user_writes - volume.mark_writes) >= volume.block_count:
            mark_recent(volume)
        advance(volume, until[i], ask[i])
