"""The agent tunes the monitor: per control interval its intervals and its least and largest numbers of regions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.damon.accuracy import PIECE, paint_picture, paint_truth, picture_error
from kml_envs.damon.config import Context, IntervalsGoal, MonitoringAttributes, Operations
from kml_envs.damon.monitor import advance, change_attributes, most_accesses_of
from kml_envs.damon.programs import (
    BINS,
    FOUND,
    HISTORY,
    RESIDENT,
    TOUCHED,
    BoolArray,
    FloatArray,
    IntArray,
    MonitoredPrograms,
    WarmPrograms,
    spread,
)
from kml_envs.damon.simulator import attributes_record
from kml_envs.damon.state import ATTRIBUTES, regions
from kml_envs.errors import unknown_name
from kml_envs.workloads.access import move_to, next_boundary

BUILTINS = ("autotune", "defaults", "hmsdk")
"""Built-in algorithms: the kernel's tuning of the intervals, its fixed defaults, and HMSDK's fixed settings."""

REFERENCE_US = 100_000
"""Time that accesses are counted in: the kernel's default aggregation interval."""

CPU_PRICE = 19.7
"""Price of the whole of a processor, in access error: so that the kernel's defaults pay as much for the one as for the
other on the training workloads. Printed by `python -m tools.monitor_price`."""

ACTION_NAMES = ("sample_interval", "samples", "min_regions", "max_regions")
SHORTEST_SAMPLE_US, SAMPLE_RANGE = 5_000, 11.0
SAMPLES, SAMPLES_RANGE = 20.0, 3.0
FEWEST_REGIONS, FEWEST_RANGE = 20.0, 3.0
MOST_RANGE = 3.0
"""Actions move each number by so many powers of two: see `settle`."""

HOLD = 0.75
"""Powers of two by which a recommendation must be away from a number of the agent's that is in force to change it."""

LEVEL_EDGES = (0.02, 0.05, 0.15, 0.4, 0.8, 0.99)
STABLE_BINS = 8
FEATURE_NAMES = (
    "memory_size",
    "sample_interval",
    "samples",
    "min_regions",
    "max_regions",
    "builtin_in_force",
    "regions",
    "found_share",
    "touched_share",
    "change",
    "change_mean",
    "pictures",
    "picture_age",
    "kdamond_share",
    "kdamond_share_mean",
    *(f"level_{name}" for name in ("none", *(f"to_{edge:g}" for edge in LEVEL_EDGES), "above")),
    *(f"stable_{bin}" for bin in range(STABLE_BINS)),
)
_LEVELS = FEATURE_NAMES.index("level_none")
_STABLE = FEATURE_NAMES.index("stable_0")
_MEAN_KEEP = 0.8  # of a running mean, per control interval

TRACK = np.dtype(
    [
        ("reference_us", np.float64),  # time that accesses are counted in
        ("clock_us", np.int64),  # time of the program; the monitor may be in a sampling interval that ends later
        ("aggregated", np.int64),  # an aggregation ends with that sampling interval
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


class Views(NamedTuple):
    """Pictures of the memory of N programs, P pieces each at the most.

    Attributes:
        picture: (N, P) PIECE, the monitor's.
        before: (N, P) PIECE, the one before.
        truth: (N, T) PIECE.
    """

    picture: NDArray[np.void]
    before: NDArray[np.void]
    truth: NDArray[np.void]


def builtin_attributes(name: str, max_nr_regions: int) -> MonitoringAttributes:
    """The attributes that a built-in algorithm begins with.

    Args:
        name: One of `BUILTINS`.
        max_nr_regions: Regions that there is room for.

    Raises:
        UserError: There is no such built-in algorithm.
    """
    if name not in BUILTINS:
        raise unknown_name("built-in algorithm", name, BUILTINS)
    kernel = MonitoringAttributes(max_nr_regions=max_nr_regions)
    if name == "autotune":
        return replace(kernel, intervals_goal=IntervalsGoal(400, 3, 5_000, 10_000_000))
    if name == "hmsdk":
        return replace(kernel, sample_us=100_000, aggr_us=2_000_000, min_nr_regions=min(100, max_nr_regions))
    return kernel


def watching_context(max_nr_regions: int) -> Context:
    """DAMON's settings before an episode: the kernel has tuned the intervals."""
    return Context(Operations.PADDR, builtin_attributes("autotune", max_nr_regions))


def recommended_attributes(action: FloatArray, max_nr_regions: int) -> MonitoringAttributes:
    """The attributes that an action stands for, where the built-in algorithm's are in force: what `settle` says.

    Args:
        action: (4,) float64 in [-1, 1], in the order of ACTION_NAMES.
        max_nr_regions: Regions that there is room for.
    """
    record, track = np.zeros(1, ATTRIBUTES), np.zeros(1, TRACK)
    track["held"] = np.nan
    _write_rows(np.asarray(action, np.float64)[None], max_nr_regions, track, record)
    written = record[0]
    return MonitoringAttributes(
        sample_us=int(written["sample_us"]),
        aggr_us=int(written["aggr_us"]),
        min_nr_regions=int(written["min_nr_regions"]),
        max_nr_regions=int(written["max_nr_regions"]),
    )


class MonitorPrograms(MonitoredPrograms):
    """N programs that ask for the monitor's attributes of the next control interval.

    They have no model of their memory: watching changes nothing in it.
    """

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
        super().__init__(warm, instances, interval_us)
        self.builtin, self.cpu_price, self.reference_us = builtin, cpu_price, reference_us
        self.reward_scale = interval_us / 1000.0 / 10.0
        self.state.monitors["memory"] = 0
        capacity = int(self.state.monitors["region_capacity"][0])
        phases = [np.diff(workload.table.first_range).max() for workload in warm.workloads]
        self.views = Views(
            np.zeros((instances, capacity), PIECE),
            np.zeros((instances, capacity), PIECE),
            np.zeros((instances, 2 * int(max(phases)) + 1), PIECE),
        )
        self.tracks = np.zeros(instances, TRACK)
        self.max_nr_regions = warm.max_nr_regions
        self._check_us = warm.machine.config.region_check_us
        self._builtin = attributes_record(builtin_attributes(builtin, self.max_nr_regions)).reshape(1)
        self._start = self.tracks.copy()
        self._checks_at_start = np.zeros(instances)

    def reset(self, rows: BoolArray, seeds: NDArray[np.uint64]) -> None:
        """Begin an episode in the rows, with a decision pending."""
        super().reset(rows, seeds)
        self.tracks[rows] = np.zeros((), TRACK)
        self.tracks["clock_us"][rows], self.tracks["reference_us"][rows] = self.warm.warm_us, self.reference_us
        _start_tracks(self.state.monitors, self.tracks, *self.views, rows)
        self.interval_end[rows] = self.warm.warm_us
        self._start[rows] = self.tracks[rows]
        self._checks_at_start[rows] = self.state.monitors["checks"][rows]

    def observe(self) -> NDArray[np.float32]:
        """Features (N, F) float32, a new array."""
        features = np.zeros((self.instances, len(FEATURE_NAMES)), np.float32)
        _observe_rows(self.state.monitors, self.tracks, self.views.picture, self.max_nr_regions, features)
        return features

    def builtin_decision(self) -> FloatArray:
        """(N, 4) float64 NaN: the built-in algorithm."""
        return np.full((self.instances, len(ACTION_NAMES)), np.nan)

    def recommended(self, recommendation: FloatArray) -> NDArray[np.void]:
        """(N,) ATTRIBUTES that the recommendations (N, 4) stand for."""
        records = np.zeros(self.instances, ATTRIBUTES)
        _write_rows(np.asarray(recommendation, np.float64), self.max_nr_regions, self.tracks, records)
        return records

    def wait(self, until: IntArray, rows: BoolArray) -> None:
        """Let the programs of the rows run on under the last settings (see `proxy.protocols.Waiting`)."""
        _wait_rows(self.state.monitors, self.tracks, *self.views, until, rows)

    def execute(self, decision: FloatArray, ask: BoolArray, until: IntArray, rows: BoolArray) -> None:
        """Run the rows' next intervals under the decisions (N, 4) (see BatchedSubsystem)."""
        _execute_rows(
            self.state.monitors,
            self.tracks,
            *self.views,
            self._builtin,
            self.max_nr_regions,
            self._check_us,
            self.interval_us,
            self.interval_end,
            self.operations,
            self.pictures.columns,
            self.pictures.maps,
            self.pictures.curves,
            decision,
            ask,
            until,
            rows,
        )

    def pending(self) -> BoolArray:
        """(N,) bool: the control interval is over."""
        return np.asarray(self.tracks["clock_us"] >= self.interval_end)

    def critical(self) -> BoolArray:
        """(N,) bool, nowhere: nothing waits for the monitor."""
        return np.zeros(self.instances, np.bool_)

    def pressure(self) -> FloatArray:
        """(N,) float64, none."""
        return np.zeros(self.instances)

    def progress(self) -> IntArray:
        """(N,) int64: time that the program has run, in milliseconds."""
        return np.asarray(self.tracks["clock_us"] // 1000)

    def elapsed_us(self) -> FloatArray:
        """(N,) float64: time of the running episode, at least 1."""
        return np.asarray(np.maximum(self.tracks["clock_us"] - self._start["clock_us"], 1.0))

    def cost(self) -> FloatArray:
        """(N,) float64: milliseconds of access error, and of a processor at its price."""
        checking_us = self.state.monitors["checks"] * self._check_us
        return np.asarray((self.tracks["error_us"] + self.cpu_price * checking_us) / 1000.0)

    def metrics(self) -> dict[str, NDArray[Any]]:
        """(N,) each, of the running episode; `score` is what counts, higher is better."""
        elapsed = self.elapsed_us()
        error = (self.tracks["error_us"] - self._start["error_us"]) / elapsed
        share = (self.state.monitors["checks"] - self._checks_at_start) * self._check_us / elapsed
        return {
            "operations": self.operations.copy(),
            "workload": self._workload.copy(),
            "access_error": error,
            "monitor_cpu_share": share,
            "score": -(error + self.cpu_price * share),
            "pictures": self.tracks["pictures"] - self._start["pictures"],
            "sample_ms": self.state.monitors["attributes"]["sample_us"] / 1000.0,
            "regions": self.state.monitors["region_count"].copy(),
        }


@compiled
def settle(action: Record, held: Record) -> None:
    """Round an action to powers of two, and leave those that are in force alone while it is near them.

    A change of the attributes makes the kernel begin the running aggregation anew, so that recommendations that are
    not quite still would never see one end.

    Args:
        action: (4,) float64 in [-1, 1], in the order of ACTION_NAMES.
        held: (4,) float64, the powers in force or NaN, written.
    """
    for k in range(len(ACTION_NAMES)):
        if k == 0:
            power = 0.5 * SAMPLE_RANGE * (1.0 + action[k])
        elif k == 1:
            power = SAMPLES_RANGE * action[k]
        elif k == 2:
            power = FEWEST_RANGE * action[k]
        else:
            power = 0.5 * MOST_RANGE * (action[k] - 1.0)
        if not abs(power - held[k]) <= HOLD:
            held[k] = math.floor(power + 0.5)


@compiled
def write_attributes(held: Record, max_nr_regions: int, attributes: Record) -> None:
    """Write the attributes that the agent's powers of two stand for; auto-tuning is turned off.

    Args:
        held: (4,) float64, in the order of ACTION_NAMES.
        max_nr_regions: Regions that there is room for.
        attributes: The ATTRIBUTES record.
    """
    attributes.sample_us = SHORTEST_SAMPLE_US * np.int64(2.0 ** held[0])
    attributes.aggr_us = attributes.sample_us * np.int64(SAMPLES * 2.0 ** held[1])
    attributes.min_nr_regions = np.int64(FEWEST_REGIONS * 2.0 ** held[2])
    attributes.max_nr_regions = np.int64(max_nr_regions * 2.0 ** held[3])
    attributes.access_bp, attributes.aggrs = 0, 0
    attributes.min_sample_us, attributes.max_sample_us = 0, 0


@compiled
def _write_rows(actions: Record, max_nr_regions: int, tracks: Record, records: Record) -> None:
    held = np.empty(len(ACTION_NAMES))
    for i in range(records.size):
        if not np.isnan(actions[i, 0]):
            for k in range(held.size):
                held[k] = tracks[i].held[k]
            settle(actions[i], held)
            write_attributes(held, max_nr_regions, records[i])


@compiled
def _start_tracks(
    monitors: Record, tracks: Record, picture: Record, before: Record, truth: Record, rows: Record
) -> None:
    for i in range(monitors.size):
        if rows[i]:
            monitor, track = monitors[i], tracks[i]
            attributes = monitor.attributes
            track.wanted = attributes
            track.by_builtin = 1
            _hold_nothing(track)
            most = most_accesses_of(attributes)
            track.picture_count = paint_picture(monitor, attributes.sample_us, most, track.reference_us, picture[i])
            track.before_count = 0
            track.painted_us = track.clock_us
            _see_truth(monitor, track, truth[i])
            track.error = picture_error(picture[i], track.picture_count, truth[i], track.truth_count)
            _remember(monitor, track)


@compiled
def _remember(monitor: Record, track: Record) -> None:
    track.last_us = track.clock_us
    track.last_error_us = track.error_us
    track.last_checks = float(monitor.checks)
    track.last_pictures = float(track.pictures)


@compiled
def _see_truth(monitor: Record, track: Record, truth: Record) -> None:
    move_to(monitor.access, track.clock_us)
    track.truth_count = paint_truth(monitor.access, track.reference_us, truth)
    track.truth_end_us = next_boundary(monitor.access)


@compiled
def _run(monitor: Record, track: Record, picture: Record, before: Record, truth: Record, until_us: int) -> None:
    """Let program and monitor run until a time, and integrate the error of the picture that is there at each moment."""
    while track.clock_us < until_us:
        if monitor.time_us <= track.clock_us:
            _sample(monitor, track, until_us)
        now = min(until_us, min(monitor.time_us, track.truth_end_us))
        track.error_us += track.error * (now - track.clock_us)
        track.clock_us = now
        changed = False
        if track.aggregated and now >= monitor.time_us:
            _take_picture(monitor, track, picture, before)
            changed = True
        if now >= track.truth_end_us:
            _see_truth(monitor, track, truth)
            changed = True
        if changed:
            track.error = picture_error(picture, track.picture_count, truth, track.truth_count)


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
def _take_picture(monitor: Record, track: Record, picture: Record, before: Record) -> None:
    for index in range(track.picture_count):
        before[index] = picture[index]
    track.before_count = track.picture_count
    track.picture_count = paint_picture(monitor, track.sample_us, track.samples, track.reference_us, picture)
    track.change = picture_error(picture, track.picture_count, before, track.before_count)
    track.aggregated = 0
    track.painted_us = track.clock_us
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
def _begin_interval(
    monitor: Record, track: Record, parameters: Record, builtin: Record, max_nr_regions: int, by_agent: bool
) -> None:
    """Put the agent's or the built-in algorithm's attributes in force, from the next sampling interval on."""
    if by_agent:
        settle(parameters, track.held)
        write_attributes(track.held, max_nr_regions, track.wanted)
        track.commits = 1
    elif not track.by_builtin or builtin.aggrs == 0:
        in_force = monitor.attributes.sample_us
        track.wanted = builtin
        if builtin.aggrs > 0:  # tuning goes on from the interval that it finds
            found = min(max(in_force, builtin.min_sample_us), builtin.max_sample_us)
            track.wanted.aggr_us = found * most_accesses_of(builtin)
            track.wanted.sample_us = found
        track.commits = 1
    track.by_builtin = 0 if by_agent else 1
    if not by_agent:
        _hold_nothing(track)


@compiled
def _hold_nothing(track: Record) -> None:
    for k in range(len(ACTION_NAMES)):
        track.held[k] = np.nan


@compiled
def _close_interval(
    monitor: Record,
    track: Record,
    picture: Record,
    truth: Record,
    check_us: float,
    column: int,
    maps: Record,
    curves: Record,
) -> None:
    """Sum the interval up that is over, and draw it."""
    passed = max(float(track.clock_us - track.last_us), 1.0)
    track.kdamond_share = (monitor.checks - track.last_checks) * check_us / passed
    track.pictures_seen = track.pictures - track.last_pictures
    track.kdamond_mean += (1.0 - _MEAN_KEEP) * (track.kdamond_share - track.kdamond_mean)
    track.change_mean += (1.0 - _MEAN_KEEP) * (track.change - track.change_mean)
    place = column % HISTORY
    curves[ERROR, place] = (track.error_us - track.last_error_us) / passed
    curves[CPU, place] = track.kdamond_share
    size = monitor.access.size
    _draw(maps[TOUCHED], place, size, truth, track.truth_count)
    _draw(maps[FOUND], place, size, picture, track.picture_count)
    for k in range(BINS):
        maps[RESIDENT, place, k] = abs(maps[TOUCHED, place, k] - maps[FOUND, place, k])
    _remember(monitor, track)


@compiled
def _draw(picture: Record, place: int, size: int, pieces: Record, count: int) -> None:
    for k in range(BINS):
        picture[place, k] = 0.0
    start = 0
    for index in range(count):
        spread(picture, place, size, start, pieces[index].end, pieces[index].share)
        start = pieces[index].end


@compiled
def _execute_rows(
    monitors: Record,
    tracks: Record,
    picture: Record,
    before: Record,
    truth: Record,
    builtin: Record,
    max_nr_regions: int,
    check_us: float,
    interval_us: int,
    interval_end: Record,
    operations: Record,
    columns: Record,
    maps: Record,
    curves: Record,
    decision: Record,
    ask: Record,
    until: Record,
    rows: Record,
) -> None:
    for i in range(monitors.size):
        if not rows[i]:
            continue
        monitor, track = monitors[i], tracks[i]
        until_us = until[i] * 1000
        decided = True
        while True:
            if track.clock_us >= interval_end[i]:
                if not decided and ask[i]:
                    break
                by_agent = decided and not np.isnan(decision[i, 0])
                _begin_interval(monitor, track, decision[i], builtin[0], max_nr_regions, by_agent)
                interval_end[i] = track.clock_us + interval_us
                operations[i] += 1
            decided = False
            _run(monitor, track, picture[i], before[i], truth[i], min(until_us, interval_end[i]))
            if track.clock_us >= interval_end[i]:
                _close_interval(monitor, track, picture[i], truth[i], check_us, columns[i], maps[i], curves[i])
                columns[i] += 1
            if track.clock_us >= until_us:
                break


@compiled
def _wait_rows(
    monitors: Record, tracks: Record, picture: Record, before: Record, truth: Record, until: Record, rows: Record
) -> None:
    for i in range(monitors.size):
        if rows[i]:
            _run(monitors[i], tracks[i], picture[i], before[i], truth[i], until[i] * 1000)


@compiled
def _observe_rows(monitors: Record, tracks: Record, picture: Record, max_nr_regions: int, features: Record) -> None:
    for i in range(monitors.size):
        if monitors[i].access.size > 0:
            _observe(monitors[i], tracks[i], picture[i], max_nr_regions, features[i])


@compiled
def _observe(monitor: Record, track: Record, picture: Record, max_nr_regions: int, row: Record) -> None:
    attributes, size = monitor.attributes, monitor.access.size
    row[0] = _scaled(math.log2(size / 2.0**26) / 14.0)
    row[1] = _scaled(math.log2(attributes.sample_us / SHORTEST_SAMPLE_US) / SAMPLE_RANGE)
    row[2] = _scaled(math.log2(most_accesses_of(attributes)) / 8.0)
    row[3] = _scaled(math.log2(attributes.min_nr_regions) / 10.0)
    row[4] = _scaled(math.log2(attributes.max_nr_regions) / 14.0)
    row[5] = float(track.by_builtin)
    row[6] = _scaled(monitor.region_count / max_nr_regions)
    row[9], row[10] = _scaled(track.change), _scaled(track.change_mean)
    row[11] = _scaled(math.log2(1.0 + track.pictures_seen) / 6.0)
    row[12] = _scaled(math.log2(1.0 + (track.clock_us - track.painted_us) * 1e-6) / 8.0)
    row[13] = math.sqrt(_scaled(track.kdamond_share))
    row[14] = math.sqrt(_scaled(track.kdamond_mean))
    found = 0.0
    for index in range(monitor.region_count):
        region = regions(monitor)[index]
        share = (region.end - region.start) / size
        found += share * region.last_nr_accesses
        stable_s, place = region.age * attributes.aggr_us * 1e-6, 0
        while place < STABLE_BINS - 1 and stable_s >= 2.0**place:
            place += 1
        row[_STABLE + place] = min(1.0, row[_STABLE + place] + share)
    row[7] = math.sqrt(_scaled(found / most_accesses_of(attributes)))
    touched, start = 0.0, 0
    for index in range(track.picture_count):
        piece = picture[index]
        share = (piece.end - start) / size
        touched += share * piece.share
        start, place = piece.end, 0
        if piece.share > 0.0:
            place = 1
            while place <= len(LEVEL_EDGES) and piece.share > LEVEL_EDGES[place - 1]:
                place += 1
        row[_LEVELS + place] = min(1.0, row[_LEVELS + place] + share)
    row[8] = math.sqrt(_scaled(touched))


@compiled
def _scaled(number: float) -> float:
    return min(1.0, max(0.0, number))
