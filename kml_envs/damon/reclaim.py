"""Programs whose agent tunes proactive reclamation: per control interval the settings of a scheme that pages out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, array_of, compiled
from kml_envs.damon import intervals
from kml_envs.damon.config import PAGE_BYTES, MonitoringAttributes, Operations
from kml_envs.damon.features import pages_of
from kml_envs.damon.intervals import monitor_of, picture_of
from kml_envs.damon.machine import memory_of
from kml_envs.damon.memory import free_permil, resident_pages, used_pages
from kml_envs.damon.monitor import advance_program
from kml_envs.damon.oracle import SAVING_WEIGHT, SLOWDOWN_WEIGHT
from kml_envs.damon.pictures import draw_column
from kml_envs.damon.policies import SENPAI_INTERVAL_US, senpai_step
from kml_envs.damon.programs import BoolArray, FloatArray, IntArray, MonitoredPrograms, lost_us
from kml_envs.damon.reclaim_features import (
    FEATURE_NAMES,
    MEASURED,
    RATES,
    sum_up,
    write_features,
    write_histogram,
)
from kml_envs.damon.reclaim_settings import (
    ACTION_NAMES,
    LEAST_QUOTA_SHARE,
    MOST_QUOTA,
    QUOTA_RANGE,
    SENPAI,
    apply_parameters,
    builtin_context,
)
from kml_envs.damon.schemes import copy_settings
from kml_envs.damon.simulator import write_scheme
from kml_envs.damon.state import SCHEME, allocate, regions, schemes
from kml_envs.damon.warm_programs import WarmPrograms

TRACK = np.dtype(
    [
        ("now", MEASURED),
        ("rates", RATES),
        ("used_page_us", np.float64),  # total at the end of the last interval
        ("senpai_due_us", np.int64),
    ]
)
"""What the agent's side of the kernel remembers of a program between two control intervals."""

_SECOND_US = 1_000_000
_NEVER_US = 2**62


SETTINGS = np.dtype([("shipped", SCHEME), ("senpai", np.int64)])
"""What is the same for all programs: the built-in algorithm's scheme, and whether senpai acts beside it."""

_track_of = array_of("track", TRACK, 1)


class ReclaimPrograms(MonitoredPrograms):
    """N programs that ask for the settings of the next control interval."""

    action_names = ACTION_NAMES
    feature_names = FEATURE_NAMES
    track = TRACK
    headline = ("memory_saving", "slowdown")

    def __init__(
        self, warm: WarmPrograms, instances: int, *, interval_us: int, builtin: str, attributes: MonitoringAttributes
    ) -> None:
        """Allocate the programs.

        Args:
            warm: Where episodes begin; shared with the shadow.
            instances: N.
            interval_us: Length of a control interval.
            builtin: Built-in algorithm.
            attributes: Of the monitoring.
        """
        super().__init__(warm, instances, interval_us, builtin)
        self.attributes = attributes
        template = allocate(1, attributes.max_nr_regions, 1)
        write_scheme(template, 0, 0, builtin_context(builtin, attributes).schemes[0], Operations.PADDR)
        self.settings = np.zeros(1, SETTINGS)
        self.settings["shipped"], self.settings["senpai"] = template.schemes[0, 0], builtin == SENPAI
        self._shipped_goals = template.goals[0].copy()

    def prepare(self, rows: BoolArray) -> None:
        """Begin with the built-in algorithm's goals, which the agent's schemes do not have."""
        self.state.goals[rows] = self._shipped_goals

    def quota_bytes(self, recommendation: FloatArray) -> IntArray:
        """(N,) int64: the quota that each recommendation (N, 6) stands for, in bytes per second; 0: none."""
        share = 2.0 ** (QUOTA_RANGE * (recommendation[:, 1] - 1.0)) - LEAST_QUOTA_SHARE
        return np.asarray((share * MOST_QUOTA).astype(np.int64))

    def watermarks(self, recommendation: FloatArray) -> tuple[IntArray, IntArray]:
        """(N,) int64 each: the mid and the low watermark of each recommendation (N, 6), per mille of free memory."""
        middle = (500.0 * (1.0 + recommendation[:, 4])).astype(np.int64)
        return np.asarray(middle), np.asarray((50.0 * (1.0 + recommendation[:, 5])).astype(np.int64))

    def cost(self) -> FloatArray:
        """(N,) float64: milliseconds of half the memory in use, as a share of the program, and half the time lost."""
        used = self.memories.records["used_page_us"] / self.pages()
        return np.asarray((SAVING_WEIGHT * used + SLOWDOWN_WEIGHT * self.lost_us()) / 1000.0)

    def most_cost(self, recommendation: FloatArray) -> FloatArray:
        """(N,) float64, milliseconds: nothing is saved, and all that the quota lets out in an interval comes back."""
        memories = self.memories.records
        pages_per_us = self.quota_bytes(np.nan_to_num(recommendation)) / PAGE_BYTES / _SECOND_US
        waiting = pages_per_us * memories["fault_us"] / memories["threads"]
        kdamond = memories["interference"] * np.minimum(pages_per_us * memories["write_us"], 1.0)
        most = SAVING_WEIGHT + SLOWDOWN_WEIGHT * (waiting + kdamond)
        return np.asarray(most * self.interval_us / 1000.0)

    def metrics(self) -> dict[str, NDArray[Any]]:
        """(N,) each, of the running episode; `score` is what counts, higher is better."""
        found = super().metrics()
        saving = 1.0 - self.counted("used_page_us") / self.elapsed_us() / self.pages()
        score = SAVING_WEIGHT * saving - SLOWDOWN_WEIGHT * found["slowdown"]  # type: ignore[operator]
        return {
            **found,
            "memory_saving": saving,
            "paged_out_mib": self.counted("paged_out") * (PAGE_BYTES / (1 << 20)),
            "major_faults": self.counted("major_faults"),
            "score": np.asarray(score),
        }


@intervals.begin_episode.rule(SETTINGS)
def _begin_episode(settings: Record, program: Record) -> None:
    monitor, track = monitor_of(program)[0], _track_of(program)[0]
    memory = memory_of(program)[0]
    _measure(monitor, memory, track.now)
    track.rates.before = track.now
    track.used_page_us = memory.used_page_us
    track.senpai_due_us = monitor.memory_time_us


@intervals.begin_interval.rule(SETTINGS)
def _begin_interval(settings: Record, program: Record, decision: Record, by_agent: bool) -> None:
    monitor, track = monitor_of(program)[0], _track_of(program)[0]
    scheme = schemes(monitor)[0]
    if by_agent:
        apply_parameters(scheme, decision, memory_of(program)[0].size, monitor.attributes.aggr_us)
    else:
        copy_settings(scheme, settings.shipped)
    for k in range(len(ACTION_NAMES)):
        track.rates.in_force[k] = decision[k] if by_agent else 0.0
    if by_agent or not settings.senpai:
        track.senpai_due_us = _NEVER_US
    elif track.senpai_due_us == _NEVER_US:
        track.senpai_due_us = monitor.memory_time_us


@intervals.run_until.rule(SETTINGS)
def _run_until(settings: Record, program: Record, until_us: int) -> None:
    monitor, track = monitor_of(program)[0], _track_of(program)[0]
    while monitor.memory_time_us < until_us:
        if monitor.memory_time_us >= track.senpai_due_us:
            senpai_step(memory_of(program)[0])
            track.senpai_due_us += SENPAI_INTERVAL_US
        advance_program(monitor, min(until_us, track.senpai_due_us))


@intervals.close_interval.rule(SETTINGS)
def _close_interval(settings: Record, program: Record) -> None:
    monitor, memory, track = monitor_of(program)[0], memory_of(program)[0], _track_of(program)[0]
    now, rates = track.now, track.rates
    _measure(monitor, memory, now)
    passed = max(now.time_us - rates.before.time_us, 1.0)
    used = (memory.used_page_us - track.used_page_us) / passed / pages_of(now)
    sum_up(rates, now)
    track.used_page_us = memory.used_page_us
    draw_column(monitor, memory, picture_of(program)[0], used, rates.slowdown, False)


@intervals.observe.rule(SETTINGS)
def _observe(settings: Record, program: Record, features: Record) -> None:
    monitor, track = monitor_of(program)[0], _track_of(program)[0]
    _measure(monitor, memory_of(program)[0], track.now)
    write_features(track.rates, track.now, features)
    write_histogram(regions(monitor), monitor.region_count, monitor.access.size, monitor.attributes, features)


@compiled
def _measure(monitor: Record, memory: Record, now: Record) -> None:
    pages = max(memory.size / PAGE_BYTES, 1.0)
    now.size = memory.size
    now.used, now.resident, now.swapped = (
        used_pages(memory) / pages,
        resident_pages(memory) / pages,
        memory.swapped / pages,
    )
    now.free = free_permil(memory) / 1000.0
    now.pressure = memory.psi_share_10s
    now.time_us = float(monitor.memory_time_us)
    now.lost_us = lost_us(memory)
    now.paged_out, now.faults = memory.paged_out, memory.major_faults
    now.kdamond_ns = memory.kdamond_ns
    now.exceeds = float(schemes(monitor)[0].qt_exceeds)
