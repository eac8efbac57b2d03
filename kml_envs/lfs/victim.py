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
    NEVER,
    choose_candidates,
    key_count,
    mark_recent,
    observe_candidates,
    observe_context,
)
from kml_envs.lfs.simulator import advance, write_without_cleaning
from kml_envs.lfs.subsystem import BoolArray, FloatArray, IntArray, LfsVolumes
from kml_envs.lfs.volume import SegmentState, sealed_at, section_states, section_valid, slots_per_section
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
        self._described = np.zeros(instances, np.bool_)  # rows whose part of these two arrays is what a snapshot holds
        self._features, self._mask = self._blank_observation()
        self._keys = np.full((2, key_count(warm.config.geometry.sections)), NEVER, np.int64)
        self._logarithms = np.ones(LOGARITHMS * CANDIDATES)
        self._row_numbers = np.arange(instances)

    def observe(self) -> tuple[NDArray[np.float32], BoolArray]:
        """Choose candidates and describe them.

        Returns:
            Features (N, 29 + 8 K) float32 and mask (N, K) bool, new arrays; a row without a pending decision
            shows its context only, and candidate 0 is not masked.
        """
        features, mask = self._features, self._mask
        _observe_rows(
            self.state.volumes, self._described, self.candidates, self._keys, self._logarithms, features, mask
        )
        self._described[:] = False
        self._features, self._mask = self._blank_observation()
        return features, mask

    def reset(self, rows: BoolArray, seeds: NDArray[np.uint64]) -> None:
        """Begin an episode in the rows (N,) bool with their seeds (N,) uint64."""
        super().reset(rows, seeds)
        self._described[rows] = False

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
        self._described[rows] = False

    def pending(self) -> BoolArray:
        """(N,) bool: a cleaning decision is waiting."""
        return self.state.volumes["pending"].astype(np.bool_)

    def execute(self, decision: IntArray, ask: BoolArray, until: IntArray, rows: BoolArray) -> None:
        """Clean the chosen candidates of the rows, and let the user write on (see BatchedSubsystem).

        Rows whose agent will be asked are described at once, while they are in the processor's cache.
        """
        victims = self.candidates[self._row_numbers, decision]
        _execute_rows(
            self.state.volumes,
            victims,
            decision,
            ask,
            until,
            rows,
            self._described,
            self.candidates,
            self._keys,
            self._logarithms,
            self._features,
            self._mask,
        )

    def _blank_observation(self) -> tuple[NDArray[np.float32], BoolArray]:
        features = np.empty((self.instances, CONTEXT + CANDIDATES * PER_CANDIDATE), np.float32)
        return features, np.empty((self.instances, CANDIDATES), np.bool_)


@compiled
def check_victim(volume: Record, section: int) -> int:
    """Whether a section may be cleaned now, as NILFS2's kernel side checks what its cleaner asks for.

    Args:
        volume: The VOLUME record.
        section: Section number, negative where there is none.

    Returns:
        ACCEPTED or the code of the reason against it.
    """
    if section < 0 or section >= volume.section_count:
        return MISSING
    state = section_states(volume)[section]
    if state == SegmentState.CURRENT:
        return CURRENT
    if state == SegmentState.CLEANING:
        return UNDER_CLEANING
    if state == SegmentState.FULL:
        return FULLY_VALID
    if state != SegmentState.DIRTY:
        return FREE
    if volume.settings.protection > 0 and sealed_at(volume)[section] > volume.clock - volume.settings.protection:
        return PROTECTED
    return ACCEPTED


@compiled
def _observe_rows(
    volumes: Record,
    described: Record,
    candidates: Record,
    keys: Record,
    logarithms: Record,
    features: Record,
    mask: Record,
) -> None:
    for i in range(volumes.size):
        if not described[i]:
            _describe(volumes[i], candidates[i], keys, logarithms, features[i], mask[i])


@compiled
def _describe(
    volume: Record, candidates: Record, keys: Record, logarithms: Record, features: Record, mask: Record
) -> None:
    features[:] = 0.0
    observe_context(volume, features[:CONTEXT])
    if volume.pending:
        choose_candidates(volume, candidates, keys)
        observe_candidates(volume, candidates, features[CONTEXT:], logarithms)
    else:
        candidates[:] = -1
    for k in range(candidates.size):
        mask[k] = candidates[k] >= 0 and (
            volume.settings.protection == 0 or check_victim(volume, candidates[k]) == ACCEPTED
        )
    mask[0] = True


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
    valid = section_valid(volume)[section]
    moved[0] = valid
    freed[0] = slots_per_section(volume) - valid


@compiled
def _check_rows(volumes: Record, candidates: Record, chosen: Record, codes: Record) -> None:
    for i in range(volumes.size):
        codes[i] = check_victim(volumes[i], candidates[i, chosen[i]]) if volumes[i].pending else ACCEPTED


@compiled
def _execute_rows(
    volumes: Record,
    victims: Record,
    chosen: Record,
    ask: Record,
    until: Record,
    rows: Record,
    described: Record,
    candidates: Record,
    keys: Record,
    logarithms: Record,
    features: Record,
    mask: Record,
) -> None:
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
        described[i] = ask[i]
        if ask[i]:
            _describe(volume, candidates[i], keys, logarithms, features[i], mask[i])
