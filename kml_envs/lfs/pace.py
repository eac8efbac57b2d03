"""The agent paces cleaning: at idle moments and when a write is blocked, which section, and how many blocks at most."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.config import CleaningPolicy
from kml_envs.lfs.latency import percentile_ns
from kml_envs.lfs.observation import (
    CANDIDATE_FEATURES,
    CONTEXT_FEATURES,
    LOGARITHMS,
    mark_recent,
    observe_candidates,
    observe_context,
)
from kml_envs.lfs.open_loop import advance_open_loop, carry_out, wait_open_loop
from kml_envs.lfs.policies import select_victim
from kml_envs.lfs.score import log2
from kml_envs.lfs.subsystem import BoolArray, FloatArray, IntArray, LfsVolumes
from kml_envs.lfs.victim import ACCEPTED, check_victim
from kml_envs.lfs.volume import LATENCY_BUCKETS, logs, section_valid, slots_per_section
from kml_envs.lfs.warmup import WarmVolumes
from kml_envs.workloads.source import next_block

TIME_FEATURES = (
    "foreground",
    "builtin_cleans",
    "quiet",
    "last_interval",
    "last_gap",
    "mean_gap",
    "burst_writes",
    "mean_burst_writes",
    "backlog",
    "slowest_latency",
    "free_sections",
    "free_above_trigger",
    "cleaned_in_part",
    "log_filled",
)
RULES = (
    CleaningPolicy.GREEDY,
    CleaningPolicy.COST_BENEFIT,
    CleaningPolicy.COST_BENEFIT_SQRT,
    CleaningPolicy.FIFO,
)
"""Candidate c is the choice of rule c."""

QUOTAS = (1, 4, 16)
"""An operation moves at most a section's blocks divided by one of these."""

CANDIDATES = len(RULES)
BUILTIN, WAIT, FIRST = 0, 1, 2
"""Choices: what the built-in algorithm does now; nothing; and from FIRST on a candidate and a quota."""

CHOICES = FIRST + CANDIDATES * len(QUOTAS)
CHOICE_NAMES = (
    "built-in",
    "wait",
    *(f"{rule.name.lower().replace('_', '-')} 1/{quota}" for rule in RULES for quota in QUOTAS),
)
CONTEXT, TIME, PER_CANDIDATE = len(CONTEXT_FEATURES), len(TIME_FEATURES), len(CANDIDATE_FEATURES)
FEATURE_NAMES = (
    *CONTEXT_FEATURES,
    *TIME_FEATURES,
    *(f"{rule.name.lower()}_{name}" for rule in RULES for name in CANDIDATE_FEATURES),
)
PERCENTILES = {"latency_p50_ms": 50.0, "latency_p999_ms": 99.9, "latency_p9999_ms": 99.99}
_RULE_NUMBERS = np.array(RULES, np.int64)
_QUOTAS = np.array(QUOTAS, np.int64)
_OPERATIONS = ("foreground_operations", "background_operations", "waits")
_COUNTED = ("excess_ns", *_OPERATIONS)


class PaceVolumes(LfsVolumes):
    """N volumes in time that ask whether, what and how much to clean now.

    Attributes:
        candidates: (N, CANDIDATES) int32, sections of the last snapshot, -1 in empty slots.
        move_price_ns: What moving a block costs, in nanoseconds of latency above the limit.
    """

    def __init__(self, warm: WarmVolumes, instances: int, *, move_price_ns: int) -> None:
        """Allocate the volumes.

        Args:
            warm: Where episodes begin; its volumes run in `advance_open_loop_rows`.
            instances: N.
            move_price_ns: What moving a block costs.
        """
        super().__init__(warm, instances)
        self.candidates = np.full((instances, CANDIDATES), -1, np.int32)
        self.move_price_ns = move_price_ns
        self._logarithms = np.ones(LOGARITHMS * CANDIDATES)
        self.reward_scale = warm.config.open_loop.latency_limit_s * 1e9
        self._time_at_start = {name: np.zeros(instances, np.int64) for name in _COUNTED}

    def reset(self, rows: BoolArray, seeds: NDArray[np.uint64]) -> None:
        """Begin an episode in the rows."""
        super().reset(rows, seeds)
        for name, start in self._time_at_start.items():
            start[rows] = self.state.volumes["timeline"][name][rows]

    def observe(self) -> tuple[NDArray[np.float32], BoolArray]:
        """Choose candidates and describe them and the moment.

        Returns:
            Features (N, 75) float32 and mask (N, 14) bool, new arrays; a row without a pending decision shows its
            context only, and BUILTIN is never masked.
        """
        features = np.zeros((self.instances, len(FEATURE_NAMES)), np.float32)
        mask = np.zeros((self.instances, CHOICES), np.bool_)
        _observe_rows(self.state.volumes, self.candidates, _RULE_NUMBERS, len(QUOTAS), self._logarithms, features, mask)
        return features, mask

    def builtin_decision(self) -> IntArray:
        """(N,) int64: BUILTIN."""
        return np.full(self.instances, BUILTIN, np.int64)

    def check_codes(self, recommendation: IntArray) -> NDArray[np.int8]:
        """(N,) int8: what the kernel side knows against cleaning the chosen candidates (N,) now; see `victim`."""
        codes = np.zeros(self.instances, np.int8)
        _check_rows(self.state.volumes, self.candidates, recommendation, len(QUOTAS), codes)
        return codes

    def pending(self) -> BoolArray:
        """(N,) bool: a decision is waiting."""
        return np.asarray(self.state.volumes["pending"] != 0)

    def execute(self, decision: IntArray, ask: BoolArray, until: IntArray, rows: BoolArray) -> None:
        """Carry the decisions (N,) of the rows out, and let time pass (see BatchedSubsystem)."""
        _execute_rows(self.state.volumes, self.candidates, _QUOTAS, decision, ask, until, rows)

    def wait(self, until: IntArray, rows: BoolArray) -> None:
        """Let writes of the rows arrive and be made, down to the reserve (see `proxy.protocols.Waiting`).

        Time passes for as many writes as are missing to `until` (N,); in a gap fewer arrive.
        """
        _wait_rows(self.state.volumes, until, rows)

    def time_us(self) -> FloatArray:
        """(N,) float64: when the last user write arrived, or the decision came up that is pending or was made since."""
        timeline = self.state.volumes["timeline"]
        return np.asarray(np.maximum(timeline["request_ns"], timeline["now_ns"]) / 1000.0)

    def progress_by(self, time_us: FloatArray) -> IntArray:
        """(N,) int64: user writes that will have arrived by a time (N,) float64 (see `proxy.protocols.Clocked`)."""
        volumes = self.state.volumes
        arrived = volumes["user_writes"].copy()
        _count_arrivals(volumes, volumes["source"].copy(), (time_us * 1000.0).astype(np.int64), arrived)
        return arrived

    def cost(self) -> FloatArray:
        """(N,) float64, nanoseconds: latencies above the limit, and the price of the blocks moved; whole numbers."""
        volumes = self.state.volumes
        cost: FloatArray = (volumes["timeline"]["excess_ns"] + self.move_price_ns * volumes["moved"]).astype(np.float64)
        return cost

    def latency_histogram(self, row: int) -> NDArray[np.int64]:
        """User writes of the running episode by latency, (LATENCY_BUCKETS,) int64."""
        histogram: NDArray[np.int64] = self.state.latencies[row].copy()
        return histogram

    def metrics(self) -> dict[str, NDArray[np.generic]]:
        """(N,) each, of the running episode: those of every volume, and its latencies."""
        timeline = self.state.volumes["timeline"]
        counted = {name: timeline[name] - start for name, start in self._time_at_start.items()}
        percentiles = {name: percentile_ns(self.state.latencies, p) / 1e6 for name, p in PERCENTILES.items()}
        slow = LATENCY_BUCKETS - 1 - np.argmax(self.state.latencies[:, ::-1] > 0, axis=1)
        metrics: dict[str, Any] = super().metrics()
        return {
            **metrics,
            **percentiles,
            "operations": sum(counted[name] for name in _OPERATIONS),
            "latency_max_ms": percentile_ns(np.eye(LATENCY_BUCKETS, dtype=np.int64)[slow], 100.0) / 1e6,
            "excess_ms": counted["excess_ns"] / 1e6,
            "cost_ms": (counted["excess_ns"] + self.move_price_ns * metrics["moved_blocks"]) / 1e6,
            "user_ms": metrics["user_blocks"] * (self.warm.config.latency.write_ns / 1e6),
            "foreground_operations": counted["foreground_operations"],
            "background_operations": counted["background_operations"],
        }


@compiled
def observe_time(volume: Record, out: Record) -> None:
    """Write the features of the moment.

    Args:
        volume: The VOLUME record, with a decision pending.
        out: (14,) float32, in the order of TIME_FEATURES. Times are log2(1 + t / 20 us) / 26, up to 22 minutes;
            counts of writes log2(1 + n) / 16; free_sections: above the reserve, log2(1 + n) / 6; free_above_trigger:
            in sixteenths, up to 1; cleaned_in_part: valid blocks left there, as a share of a section;
            log_filled: of the first user log.
    """
    timeline, settings, slots = volume.timeline, volume.settings, slots_per_section(volume)
    out[0] = timeline.foreground
    out[1] = volume.suggestion >= 0
    out[2] = _time(timeline.now_ns - timeline.idle_since_ns)
    out[3] = _time(timeline.last_interval_ns)
    out[4] = _time(timeline.last_gap_ns)
    out[5] = _time(timeline.mean_gap_ns)
    out[6] = _count(timeline.burst_writes)
    out[7] = _count(timeline.mean_burst)
    out[8] = _time(volume.busy_until_ns - timeline.now_ns)
    out[9] = _time(timeline.slowest_ns)
    out[10] = min(log2(1.0 + max(volume.free_sections - settings.reserve_sections, 0)) / 6.0, 1.0)
    out[11] = min(max((volume.free_sections - settings.trigger_sections) / 16.0, 0.0), 1.0)
    out[12] = 0.0
    if timeline.victim >= 0:
        out[12] = section_valid(volume)[timeline.victim] / slots
    out[13] = logs(volume)[0].offset / slots


@compiled
def _count_arrivals(volumes: Record, sources: Record, until_ns: Record, arrived: Record) -> None:
    # The sources are copies, which may run ahead.
    for i in range(volumes.size):
        source = sources[i]
        if volumes[i].timeline.coming < 0:
            next_block(source)
        while source.arrival_ns <= until_ns[i]:
            arrived[i] += 1
            next_block(source)


@compiled
def _time(nanoseconds: float) -> float:
    return min(log2(1.0 + max(nanoseconds, 0) / 20_000.0) / 26.0, 1.0)


@compiled
def _count(number: float) -> float:
    return min(log2(1.0 + number) / 16.0, 1.0)


@compiled
def _choose_candidates(volume: Record, candidates: Record, rules: Record) -> None:
    # To look must not change what the built-in algorithm will choose.
    candidates[:] = -1
    if volume.timeline.victim >= 0:
        candidates[0] = volume.timeline.victim
        return
    start = np.int64(volume.scan_start)
    for c in range(rules.size):
        candidates[c] = select_victim(volume, rules[c])
        volume.scan_start = start


@compiled
def _observe_rows(
    volumes: Record,
    candidates: Record,
    rules: Record,
    quotas: int,
    logarithms: Record,
    features: Record,
    mask: Record,
) -> None:
    for i in range(volumes.size):
        volume = volumes[i]
        observe_context(volume, features[i, :CONTEXT])
        mask[i, BUILTIN] = True
        if volume.pending == 0:
            candidates[i, :] = -1
            continue
        mask[i, WAIT] = True
        observe_time(volume, features[i, CONTEXT : CONTEXT + TIME])
        _choose_candidates(volume, candidates[i], rules)
        for c in range(rules.size):
            if candidates[i, c] >= 0:
                mask[i, FIRST + c * quotas : FIRST + (c + 1) * quotas] = True
        observe_candidates(volume, candidates[i], features[i, CONTEXT + TIME :], logarithms)


@compiled
def _check_rows(volumes: Record, candidates: Record, chosen: Record, quotas: int, codes: Record) -> None:
    for i in range(volumes.size):
        codes[i] = ACCEPTED
        if volumes[i].pending and chosen[i] >= FIRST:
            section = candidates[i, (chosen[i] - FIRST) // quotas]
            if section < 0 or section != volumes[i].timeline.victim:
                codes[i] = check_victim(volumes[i], section)


@compiled
def _wait_rows(volumes: Record, until: Record, rows: Record) -> None:
    for i in range(volumes.size):
        if rows[i] and volumes[i].pending and volumes[i].user_writes < until[i]:
            wait_open_loop(volumes[i], until[i])


@compiled
def _execute_rows(
    volumes: Record, candidates: Record, quotas: Record, chosen: Record, ask: Record, until: Record, rows: Record
) -> None:
    for i in range(volumes.size):
        if not rows[i]:
            continue
        volume = volumes[i]
        if volume.pending:
            victim, quota = int(volume.suggestion), slots_per_section(volume)
            if chosen[i] == WAIT:
                victim = -1
            elif chosen[i] >= FIRST:
                victim = int(candidates[i, (chosen[i] - FIRST) // quotas.size])
                quota = max(quota // int(quotas[(chosen[i] - FIRST) % quotas.size]), 1)
            carry_out(volume, victim, quota)
        if 4 * (volume.user_writes - volume.mark_writes) >= volume.block_count:
            mark_recent(volume)
        advance_open_loop(volume, until[i], ask[i])
