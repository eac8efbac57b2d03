"""Programs whose agent tunes the monitor: per control interval its intervals and its numbers of regions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, array_of, compiled
from kml_envs.damon import intervals
from kml_envs.damon.accuracy import PIECE, paint_picture, paint_truth, picture_error
from kml_envs.damon.intervals import monitor_of, picture_of
from kml_envs.damon.monitor import advance, change_attributes, most_accesses_of
from kml_envs.damon.monitor_features import FEATURE_NAMES, sum_up, write_features, write_picture, write_regions
from kml_envs.damon.monitor_settings import (
    ACTION_NAMES,
    builtin_attributes,
    resume_tuning,
    settle,
    write_attributes,
    write_rows,
)
from kml_envs.damon.pictures import BINS, FOUND, HISTORY, RESIDENT, TOUCHED, spread
from kml_envs.damon.programs import BoolArray, FloatArray, MonitoredPrograms
from kml_envs.damon.simulator import attributes_record
from kml_envs.damon.state import ATTRIBUTES, regions
from kml_envs.damon.warm_programs import WarmPrograms
from kml_envs.workloads.access import move_to, next_boundary

REFERENCE_US = 100_000
"""Time that accesses are counted in: the kernel's default aggregation interval."""

CPU_PRICE = 19.7
"""Price of the whole of a processor, in access error: so that the kernel's defaults pay as much for the one as for the
other on the training workloads. Printed by `python -m tools.monitor_price`."""

TRACK = np.dtype(
    [
        ("picture", np.uint64),  # addresses of the monitor's picture (P,) PIECE,
        ("before", np.uint64),  # the one before (P,),
        ("truth", np.uint64),  # and what is accessed (T,)
        ("aggregated", np.int64),  # an aggregation ends with the sampling interval that the monitor is in
        ("sample_us", np.int64),  # which was counted with this interval
        ("samples", np.int64),  # and so many samples
        ("truth_end_us", np.int64),  # when the phase ends that the truth is of
        ("commits", np.int64),  # new attributes wait for the end of the sampling interval
        ("wanted", ATTRIBUTES),  # these
        ("held", np.float64, (len(ACTION_NAMES),)),  # powers of two that the agent holds, NaN: none
        ("by_builtin", np.int64),
        ("picture_count", np.int64),
        ("before_count", np.int64),
        ("truth_count", np.int64),
        ("painted_us", np.int64),  # when the picture was taken
        ("pictures", np.int64),  # since the start
        ("error", np.float64),  # of the picture, now
        ("change", np.float64),  # between the last two pictures
        ("error_us", np.float64),  # time integral of the error
        ("last_error_us", np.float64),  # totals at the beginning of the control interval
        ("last_checks", np.float64),
        ("last_pictures", np.float64),
        ("last_us", np.int64),
        ("kdamond_share", np.float64),  # of the last interval
        ("pictures_seen", np.float64),
        ("kdamond_mean", np.float64),  # running means
        ("change_mean", np.float64),
    ],
    align=True,
)
"""A program's clock, and what is known of its monitor's pictures."""

ERROR, CPU = range(2)
"""Rows of `Pictures.curves`."""


SETTINGS = np.dtype(
    [
        ("builtin", ATTRIBUTES),  # of the built-in algorithm
        ("max_nr_regions", np.int64),  # that there is room for
        ("check_us", np.float64),  # processor time of a region's check
        ("reference_us", np.float64),  # time that accesses are counted in
    ]
)
"""What is the same for all programs."""

_track_of = array_of("track", TRACK, 1)
_picture_of = array_of("picture", PIECE)
_before_of = array_of("before", PIECE)
_truth_of = array_of("truth", PIECE)


class MonitorPrograms(MonitoredPrograms):
    """N programs that ask for the monitor's attributes of the next control interval.

    They have no model of their memory: watching changes nothing in it.

    Attributes:
        pieces: `picture`, `before` and `truth` of `TRACK`, (N, most of them) PIECE each.
    """

    action_names = ACTION_NAMES
    feature_names = FEATURE_NAMES
    track = TRACK
    headline = ("access_error", "monitor_cpu_share")
    resident_title = "differ"
    used_title = "access error"
    slowdown_title = "processor share"

    def __init__(
        self,
        warm: WarmPrograms,
        instances: int,
        *,
        interval_us: int,
        builtin: str,
        cpu_price: float,
        reference_us: float,
    ) -> None:
        """Allocate the programs.

        Args:
            warm: Where episodes begin; shared with the shadow.
            instances: N.
            interval_us: Length of a control interval.
            builtin: Built-in algorithm.
            cpu_price: Access error that the whole of a processor is worth.
            reference_us: Time that accesses are counted in (see `accuracy`).
        """
        super().__init__(warm, instances, interval_us, builtin)
        self.cpu_price, self.reference_us = cpu_price, reference_us
        self.state.monitors["memory"] = 0
        capacity = int(self.state.monitors["region_capacity"][0])
        phases = [np.diff(workload.table.first_range).max() for workload in warm.workloads]
        most = {"picture": capacity, "before": capacity, "truth": 2 * int(max(phases)) + 1}
        self.pieces = {name: np.zeros((instances, count), PIECE) for name, count in most.items()}
        self.settings = np.zeros(1, SETTINGS)
        self.settings["builtin"] = attributes_record(builtin_attributes(builtin, warm.max_nr_regions))
        self.settings["max_nr_regions"] = warm.max_nr_regions
        self.settings["check_us"] = warm.machine.config.region_check_us
        self.settings["reference_us"] = reference_us
        self._checks_at_start = np.zeros(instances)

    def prepare(self, rows: BoolArray) -> None:
        """Begin when the warm-up is over, wherever the monitor's last sampling interval ends."""
        self.state.monitors["memory_time_us"][rows] = self.warm.warm_us
        for name, pieces in self.pieces.items():
            self.tracks[name][rows] = pieces.ctypes.data + np.flatnonzero(rows) * pieces.strides[0]
        self._checks_at_start[rows] = self.state.monitors["checks"][rows]

    def recommended(self, recommendation: FloatArray) -> NDArray[np.void]:
        """(N,) ATTRIBUTES that the recommendations (N, 4) stand for."""
        records = np.zeros(self.instances, ATTRIBUTES)
        write_rows(np.asarray(recommendation, np.float64), self.tracks["held"], self.warm.max_nr_regions, records)
        return records

    def _check_us(self) -> float:
        return self.warm.machine.config.region_check_us

    def critical(self) -> BoolArray:
        """(N,) bool, nowhere: nothing waits for the monitor."""
        return np.zeros(self.instances, np.bool_)

    def pressure(self) -> FloatArray:
        """(N,) float64, none."""
        return np.zeros(self.instances)

    def cost(self) -> FloatArray:
        """(N,) float64: milliseconds of access error, and of a processor at its price."""
        checking_us = self.state.monitors["checks"] * self._check_us()
        return np.asarray((self.tracks["error_us"] + self.cpu_price * checking_us) / 1000.0)

    def most_cost(self, recommendation: FloatArray) -> FloatArray:
        """(N,) float64, milliseconds: a picture without any truth, and as many regions checked as there may be."""
        given = self.recommended(np.nan_to_num(recommendation))
        checking = given["max_nr_regions"] / given["sample_us"] * self._check_us()
        return np.asarray((1.0 + self.cpu_price * checking) * self.interval_us / 1000.0)

    def metrics(self) -> dict[str, NDArray[Any]]:
        """(N,) each, of the running episode; `score` is what counts, higher is better."""
        elapsed = self.elapsed_us()
        error = self.tracks["error_us"] / elapsed
        share = (self.state.monitors["checks"] - self._checks_at_start) * self._check_us() / elapsed
        return {
            "operations": self.operations.copy(),
            "workload": self._workload.copy(),
            "access_error": error,
            "monitor_cpu_share": share,
            "score": -(error + self.cpu_price * share),
            "pictures": self.tracks["pictures"].copy(),
            "sample_ms": self.state.monitors["attributes"]["sample_us"] / 1000.0,
            "regions": self.state.monitors["region_count"].copy(),
        }


@intervals.begin_episode.rule(SETTINGS)
def _begin_episode(settings: Record, program: Record) -> None:
    monitor, track = monitor_of(program)[0], _track_of(program)[0]
    attributes = monitor.attributes
    track.wanted = attributes
    track.by_builtin = 1
    _hold_nothing(track)
    track.sample_us, track.samples = attributes.sample_us, most_accesses_of(attributes)
    _paint(monitor, track, settings.reference_us)
    _see_truth(monitor, track, settings.reference_us)
    _compare(track)
    _remember(monitor, track)


@intervals.begin_interval.rule(SETTINGS)
def _begin_interval(settings: Record, program: Record, decision: Record, by_agent: bool) -> None:
    """Put the attributes in force, from the next sampling interval on."""
    monitor, track = monitor_of(program)[0], _track_of(program)[0]
    if by_agent:
        settle(decision, track.held)
        write_attributes(track.held, settings.max_nr_regions, track.wanted)
        track.commits = 1
    else:
        _return_to_builtin(monitor, track, settings.builtin)
        _hold_nothing(track)
    track.by_builtin = 0 if by_agent else 1


@intervals.run_until.rule(SETTINGS)
def _run_until(settings: Record, program: Record, until_us: int) -> None:
    """Let program and monitor run, and integrate the error of the picture that is there at each moment."""
    monitor, track = monitor_of(program)[0], _track_of(program)[0]
    while monitor.memory_time_us < until_us:
        if monitor.time_us <= monitor.memory_time_us:
            _sample(monitor, track, until_us)
        now = min(until_us, min(monitor.time_us, track.truth_end_us))
        track.error_us += track.error * (now - monitor.memory_time_us)
        monitor.memory_time_us = now
        changed = False
        if track.aggregated and now >= monitor.time_us:
            _take_picture(monitor, track, settings.reference_us)
            changed = True
        if now >= track.truth_end_us:
            _see_truth(monitor, track, settings.reference_us)
            changed = True
        if changed:
            _compare(track)


@intervals.close_interval.rule(SETTINGS)
def _close_interval(settings: Record, program: Record) -> None:
    monitor, track, drawn = monitor_of(program)[0], _track_of(program)[0], picture_of(program)[0]
    passed = max(float(monitor.memory_time_us - track.last_us), 1.0)
    share = (monitor.checks - track.last_checks) * settings.check_us / passed
    sum_up(track, share, track.pictures - track.last_pictures)
    place = drawn.columns % HISTORY
    drawn.curves[ERROR, place] = (track.error_us - track.last_error_us) / passed
    drawn.curves[CPU, place] = track.kdamond_share
    maps, size = drawn.maps, monitor.access.size
    _draw(maps[TOUCHED], place, size, _truth_of(track), track.truth_count)
    _draw(maps[FOUND], place, size, _picture_of(track), track.picture_count)
    for k in range(BINS):
        maps[RESIDENT, place, k] = abs(maps[TOUCHED, place, k] - maps[FOUND, place, k])
    _remember(monitor, track)


@intervals.observe.rule(SETTINGS)
def _observe(settings: Record, program: Record, features: Record) -> None:
    monitor, track = monitor_of(program)[0], _track_of(program)[0]
    attributes, size, count = monitor.attributes, monitor.access.size, monitor.region_count
    write_features(track, attributes, size, count, settings.max_nr_regions, monitor.memory_time_us, features)
    write_regions(regions(monitor), count, size, attributes, features)
    write_picture(_picture_of(track), track.picture_count, size, features)


@compiled
def _remember(monitor: Record, track: Record) -> None:
    track.last_us = monitor.memory_time_us
    track.last_error_us = track.error_us
    track.last_checks = float(monitor.checks)
    track.last_pictures = float(track.pictures)


@compiled
def _see_truth(monitor: Record, track: Record, reference_us: float) -> None:
    move_to(monitor.access, monitor.memory_time_us)
    track.truth_count = paint_truth(monitor.access, reference_us, _truth_of(track))
    track.truth_end_us = next_boundary(monitor.access)


@compiled
def _paint(monitor: Record, track: Record, reference_us: float) -> None:
    picture = _picture_of(track)
    found, count = regions(monitor), monitor.region_count
    track.picture_count = paint_picture(found, count, track.sample_us, track.samples, reference_us, picture)
    track.painted_us = monitor.memory_time_us


@compiled
def _compare(track: Record) -> None:
    track.error = picture_error(_picture_of(track), track.picture_count, _truth_of(track), track.truth_count)


@compiled
def _sample(monitor: Record, track: Record, until_us: int) -> None:
    """Let the monitor begin its next sampling intervals, at most up to the end of an aggregation."""
    if track.commits:
        track.commits = 0
        if not _equal(monitor.attributes, track.wanted):
            change_attributes(monitor, track.wanted)
    attributes = monitor.attributes
    track.sample_us, track.samples = attributes.sample_us, most_accesses_of(attributes)
    aggregations = monitor.aggregations
    due_us = monitor.time_us + (monitor.next_aggregation - monitor.samples) * attributes.sample_us
    advance(monitor, max(monitor.time_us + 1, min(until_us, due_us)))
    track.aggregated = monitor.aggregations > aggregations


@compiled
def _take_picture(monitor: Record, track: Record, reference_us: float) -> None:
    picture, before = _picture_of(track), _before_of(track)
    for index in range(track.picture_count):
        before[index] = picture[index]
    track.before_count = track.picture_count
    _paint(monitor, track, reference_us)
    track.change = picture_error(picture, track.picture_count, before, track.before_count)
    track.aggregated = 0
    track.pictures += 1


@compiled
def _equal(one: Record, other: Record) -> Record:
    return (
        one.sample_us == other.sample_us
        and one.aggr_us == other.aggr_us
        and one.min_nr_regions == other.min_nr_regions
        and one.max_nr_regions == other.max_nr_regions
        and one.aggrs == other.aggrs
    )


@compiled
def _return_to_builtin(monitor: Record, track: Record, builtin: Record) -> None:
    """Let the built-in algorithm take over."""
    if track.by_builtin and builtin.aggrs > 0:
        return
    track.wanted = builtin
    resume_tuning(track.wanted, monitor.attributes.sample_us)
    track.commits = 1


@compiled
def _hold_nothing(track: Record) -> None:
    for k in range(len(ACTION_NAMES)):
        track.held[k] = np.nan


@compiled
def _draw(picture: Record, place: int, size: int, pieces: Record, count: int) -> None:
    for k in range(BINS):
        picture[place, k] = 0.0
    start = 0
    for index in range(count):
        spread(picture, place, size, start, pieces[index].end, pieces[index].share)
        start = pieces[index].end
