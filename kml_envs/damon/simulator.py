"""Simulated monitors: from settings to running instances, and the controls of a single one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.damon.checks import check
from kml_envs.damon.config import (
    ACTIONS,
    PAGE_BYTES,
    SUPPORTED_ACTIONS,
    Action,
    Context,
    Filter,
    FilterType,
    GoalMetric,
    GoalTuner,
    MonitoringAttributes,
    Operations,
    Scheme,
    Target,
    WatermarkMetric,
)
from kml_envs.damon.control import Intervals, SchemeStatistics, Snapshot
from kml_envs.damon.machine import FILTER_TYPES, METRICS
from kml_envs.damon.monitor import advance, begin, change_attributes
from kml_envs.damon.regions import mapped_ranges, set_regions, split_evenly, three_ranges
from kml_envs.damon.state import (
    ATTRIBUTES,
    DESTINATIONS,
    FILTERS,
    GOALS,
    RULES,
    DamonState,
    allocate,
    regions,
    set_accesses,
    set_mappings,
)
from kml_envs.damon.versions import RULES as VERSION_RULES
from kml_envs.damon.versions import KernelVersion
from kml_envs.errors import UserError
from kml_envs.workloads.access import AccessTable

_NEVER_US = -(1 << 62)
_LARGEST = 2**63 - 1
_COLD_FIRST = (Action.PAGEOUT, Action.LRU_DEPRIO, Action.MIGRATE_COLD)
_HOT_FIRST = (Action.LRU_PRIO, Action.MIGRATE_HOT)
_COUNTERS = (
    "time_us",
    "memory_time_us",
    "samples",
    "aggregations",
    "region_count",
    "scheme_count",
    "most_accesses",
    "regions_at_split",
    "split_phase",
    "checks",
    "charged_checks",
    "slept_us",
    "refused_cuts",
)
_OWN_CGROUP = ("", "/")


class Sampling(NamedTuple):
    """How accesses are found, and what hides them.

    Attributes:
        per_sample: Draw a page of every region in every sample, rather than the number of accesses of a region in all
            samples up to the next event. Needed for huge pages; both agree in distribution where pages are small.
        folio_bytes: Size of the pages that share an accessed bit; larger ones want `per_sample`.
        tlb_entries: Entries of the TLB, which hides accesses while all touched pages fit into it; 0: it never does.
    """

    per_sample: bool = False
    folio_bytes: int = PAGE_BYTES
    tlb_entries: int = 0


def turn_on(
    state: DamonState,
    row: int,
    context: Context,
    seed: int,
    version: KernelVersion = KernelVersion.LATEST,
    sampling: Sampling = Sampling(),  # noqa: B008 - an immutable tuple
) -> None:
    """Start a monitor on the access pattern of its row (`state.set_accesses`).

    Args:
        state: The monitors.
        row: Which of them.
        context: The settings; addresses are offsets into the simulated memory.
        seed: Of the samples and splits.
        version: The kernel's version, whose rules are followed.
        sampling: How accesses are found.

    Raises:
        UserError: The kernel refuses the context, or there is no room for it.
    """
    check(context, version)
    _check_room(state, row, context, sampling)
    monitor = state.monitors[row : row + 1]
    for name in _COUNTERS:
        monitor[name] = 0
    rules = VERSION_RULES[version]
    for name in RULES.names or ():
        monitor["rules"][name] = getattr(rules, name)
    monitor["random"] = np.uint64(seed)
    monitor["per_sample"] = sampling.per_sample
    monitor["folio_bytes"] = sampling.folio_bytes
    monitor["tlb_entries"] = sampling.tlb_entries
    monitor["attributes"] = attributes_record(context.monitoring_attrs)
    monitor["target_count"] = len(context.targets)
    _write_operations(state, row, context)
    for number, scheme in enumerate(context.schemes):
        _start_scheme(state, row, number)
        write_scheme(state, row, number, scheme, context.operations)
    monitor["scheme_count"] = len(context.schemes)
    for index, target in enumerate(context.targets):
        _place_target(state, row, index, target, context)
    _begin(monitor)


def commit(state: DamonState, row: int, context: Context, version: KernelVersion = KernelVersion.LATEST) -> None:
    """Replace the settings of a running monitor; regions, quotas and statistics live on (damon_commit_ctx).

    Raises:
        UserError: The kernel refuses the context, or there is no room for it.
    """
    check(context, version)
    _check_room(state, row, context, Sampling())
    monitor = state.monitors[row : row + 1]
    _write_operations(state, row, context)
    for number, scheme in enumerate(context.schemes):
        if number >= int(monitor["scheme_count"][0]):
            _start_scheme(state, row, number)
            state.schemes["next_apply"][row, number] = monitor["samples"][0]
        write_scheme(state, row, number, scheme, context.operations)
    monitor["scheme_count"] = len(context.schemes)
    _remove_targets(state, row, len(context.targets))
    monitor["target_count"] = len(context.targets)
    for index, target in enumerate(context.targets):
        if target.regions:
            _set_regions(monitor, index, np.array(target.regions, np.int64))
    attributes = attributes_record(context.monitoring_attrs)
    if attributes != monitor["attributes"][0]:
        _change_attributes(monitor, attributes.reshape(1))


def commit_quota_goals(state: DamonState, row: int, context: Context) -> None:
    """Replace the quota goals of a running monitor's schemes; see `write_scheme` for what they remember."""
    for number, scheme in enumerate(context.schemes):
        _write_goals(state, row, number, scheme)


@compiled
def advance_rows(monitors: Record, rows: Record, until_us: Record) -> None:
    """`monitor.advance` the given rows: rows (R,) int64 instances, until_us (N,) int64 by instance."""
    for row in rows:
        advance(monitors[row], until_us[row])


def attributes_record(attributes: MonitoringAttributes) -> NDArray[np.void]:
    """Lay monitoring attributes out as an ATTRIBUTES record, shape ()."""
    record = np.zeros((), ATTRIBUTES)
    for name in ATTRIBUTES.names or ():
        holder: Any = attributes if hasattr(attributes, name) else attributes.intervals_goal
        record[name] = min(getattr(holder, name), _LARGEST)
    return record


def whole_picture(state: DamonState, row: int) -> Snapshot:
    """The regions of a running monitor with what its last aggregation found: what `WHOLE_PICTURE` would show.

    Args:
        state: The monitors.
        row: Which of them.
    """
    rows = state.regions[row, : int(state.monitors["region_count"][row])]
    start, end = rows["start"].copy(), rows["end"].copy()
    sizes = end - start
    return Snapshot(start, end, rows["last_nr_accesses"].copy(), rows["age"].copy(), sizes, int(sizes.sum()))


def write_scheme(state: DamonState, row: int, number: int, scheme: Scheme, operations: Operations) -> None:
    """Write the settings of a scheme over those of a row; quota, statistics and goals' memory stay (damos_commit).

    Args:
        state: The monitors.
        row: Which of them.
        number: The scheme's place.
        scheme: The settings.
        operations: The operations set that carries it out.
    """
    record = state.schemes[row, number : number + 1]
    pattern, quota, marks = scheme.access_pattern, scheme.quotas, scheme.watermarks
    values: dict[str, Any] = {
        "action": ACTIONS.index(scheme.action),
        "supported": scheme.action in SUPPORTED_ACTIONS[operations],
        "priority": (scheme.action in _HOT_FIRST) - (scheme.action in _COLD_FIRST),
        "apply_interval_us": scheme.apply_interval_us,
        "target_nid": scheme.target_nid,
        "max_nr_snapshots": scheme.max_nr_snapshots,
        "quota_ms": quota.ms,
        "quota_bytes": quota.bytes,
        "reset_interval_us": quota.reset_interval_ms * 1000,
        "goal_tuner": tuple(GoalTuner).index(quota.goal_tuner),
        "nr_accesses_permil": quota.weights.nr_accesses_permil,
        "age_permil": quota.weights.age_permil,
        "fail_charge_num": quota.fail_charge_num,
        "fail_charge_denom": quota.fail_charge_denom,
        "watermark_metric": tuple(WatermarkMetric).index(marks.metric),
        "watermark_interval_us": marks.interval_us,
        "high": marks.high,
        "mid": marks.mid,
        "low": marks.low,
        "core_filter_count": len(scheme.core_filters),
        "filter_count": len(scheme.filters),
        "destination_count": len(scheme.dests),
        "core_default_reject": _rejects_rest(scheme.core_filters) and not scheme.ops_filters,
        "ops_default_reject": _rejects_rest(scheme.ops_filters),
    }
    for name in ("min_sz", "max_sz", "min_nr_accesses", "max_nr_accesses", "min_age", "max_age"):
        values[name] = getattr(pattern, name)
    for name, value in values.items():
        record[name] = min(int(value), _LARGEST)
    for place, item in enumerate((*scheme.core_filters, *scheme.ops_filters)):
        state.filters[row, number * FILTERS + place] = _filter_row(item)
    for place, destination in enumerate(scheme.dests):
        state.destinations[row, number * DESTINATIONS + place] = (destination.id, destination.weight)
    _write_goals(state, row, number, scheme)


class SimulatedDamon:
    """A single simulated monitor behind the controls of `control.Damon`.

    Attributes:
        state: The monitor, as a batch of one.
    """

    def __init__(
        self,
        accesses: AccessTable,
        seed: int = 0,
        version: KernelVersion = KernelVersion.LATEST,
        sampling: Sampling = Sampling(),  # noqa: B008 - an immutable tuple
        max_nr_regions: int = 1000,
        max_schemes: int = 4,
    ) -> None:
        """Allocate the monitor.

        Args:
            accesses: What the program does to its memory.
            seed: Of the samples and splits.
            version: The kernel's version, whose rules are followed.
            sampling: How accesses are found.
            max_nr_regions: The largest `max_nr_regions` that it will be given.
            max_schemes: Schemes that it will have at the most.
        """
        self.state = allocate(1, max_nr_regions, max_schemes)
        set_accesses(self.state, 0, accesses)
        self._seed, self._version, self._sampling = seed, version, sampling
        self._on = False

    def turn_on(self, context: Context) -> None:
        """Start monitoring at time 0 (see `control.Damon`)."""
        turn_on(self.state, 0, context, self._seed, self._version, self._sampling)
        self._on = True

    def turn_off(self) -> None:
        """Stop monitoring."""
        self._on = False

    def is_on(self) -> bool:
        """Whether a context is monitored."""
        return self._on

    def run(self, duration_us: int) -> None:
        """Let time pass, rounded up to whole sampling intervals.

        Raises:
            UserError: Monitoring is off.
        """
        self._want_on()
        until = self.state.monitors["time_us"] + duration_us
        advance_rows(self.state.monitors, np.zeros(1, np.int64), until)

    def commit(self, context: Context) -> None:
        """Replace all settings of the running context (see `control.Damon`)."""
        self._want_on()
        commit(self.state, 0, context, self._version)

    def commit_quota_goals(self, context: Context) -> None:
        """Replace the quota goals only."""
        self._want_on()
        commit_quota_goals(self.state, 0, context)

    def snapshot(self, scheme: int) -> Snapshot:
        """The regions that a scheme tried last."""
        record = self._scheme(scheme)
        capacity = int(self.state.monitors["region_capacity"][0])
        rows = self.state.tried[0, scheme * capacity : scheme * capacity + int(record["tried_count"])]
        return Snapshot(
            start=rows["start"].copy(),
            end=rows["end"].copy(),
            nr_accesses=rows["nr_accesses"].copy(),
            age=rows["age"].copy(),
            sz_filter_passed=rows["sz_filter_passed"].copy(),
            total_bytes=int(record["tried_bytes"]),
        )

    def statistics(self, scheme: int) -> SchemeStatistics:
        """What a scheme did."""
        record = self._scheme(scheme)
        return SchemeStatistics(**{name: int(record[name]) for name in SchemeStatistics._fields})

    def effective_bytes(self, scheme: int) -> int:
        """The quota in force of a scheme, 0: none."""
        return int(self._scheme(scheme)["effective_bytes"])

    def intervals(self) -> Intervals:
        """The intervals in force."""
        attributes = self.state.monitors["attributes"][0]
        return Intervals(int(attributes["sample_us"]), int(attributes["aggr_us"]))

    def _want_on(self) -> None:
        if not self._on:
            raise UserError("monitoring is off: turn it on first")

    def _scheme(self, number: int) -> np.void:
        if not 0 <= number < self.state.monitors["scheme_count"][0]:
            raise UserError(f"scheme {number}: the context has {self.state.monitors['scheme_count'][0]}")
        record: np.void = self.state.schemes[0, number]
        return record


def _check_room(state: DamonState, row: int, context: Context, sampling: Sampling) -> None:
    monitor = state.monitors[row]
    if not monitor["access"]["size"]:
        raise UserError(f"monitor {row}: it has no access pattern yet")
    if len(context.schemes) > monitor["scheme_capacity"]:
        raise UserError(f"{len(context.schemes)} schemes: at most {monitor['scheme_capacity']} were allocated")
    for number, scheme in enumerate(context.schemes):
        for what, count, room in (
            ("quota goals", len(scheme.quotas.goals), GOALS),
            ("filters", len(scheme.filters), FILTERS),
            ("destinations", len(scheme.dests), DESTINATIONS),
        ):
            if count > room:
                raise UserError(f"scheme {number}: {count} {what}, at most {room} can be simulated")
    if sampling.folio_bytes % PAGE_BYTES:
        raise UserError(f"folio_bytes {sampling.folio_bytes}: must be a multiple of {PAGE_BYTES}")
    if sampling.folio_bytes > PAGE_BYTES and not sampling.per_sample:
        raise UserError("huge pages need per_sample sampling")


def _write_operations(state: DamonState, row: int, context: Context) -> None:
    state.monitors["follows_mappings"][row] = context.operations is Operations.VADDR
    state.monitors["physical"][row] = context.operations is Operations.PADDR
    state.monitors["paused"][row] = context.pause


def _place_target(state: DamonState, row: int, index: int, target: Target, context: Context) -> None:
    monitor = state.monitors[row : row + 1]
    size = int(monitor["access"]["size"][0])
    if context.operations is Operations.VADDR:
        mapped = state.mappings[row][: 3 * int(monitor["mapping_count"][0])].reshape(-1, 3)
        if not (mapped[:, 0] == index).any():
            set_mappings(state, row, index, ((0, size),))
        _place_mapped(monitor, index)
    else:
        _set_regions(monitor, index, np.array(target.regions or ((0, size),), np.int64))


def _remove_targets(state: DamonState, row: int, kept: int) -> None:
    """Give up the regions of all but the first targets, and where a quota would have gone on among them."""
    count = int(state.monitors["region_count"][row])
    state.monitors["region_count"][row] = np.count_nonzero(state.regions["target"][row, :count] < kept)
    charged = state.schemes["charged_target"][row]
    charged[charged >= kept] = -1


def _start_scheme(state: DamonState, row: int, number: int) -> None:
    state.schemes[row, number] = np.zeros((), state.schemes.dtype)
    state.goals[row, number * GOALS : (number + 1) * GOALS] = np.zeros(GOALS, state.goals.dtype)
    for name, value in (("active", 1), ("charged_target", -1), ("window_start_us", _NEVER_US)):
        state.schemes[name][row, number] = value


def _write_goals(state: DamonState, row: int, number: int, scheme: Scheme) -> None:
    # The PSI total of the last look stays, and so does what the kernel itself measured.
    state.schemes["goal_count"][row, number] = len(scheme.quotas.goals)
    for place, goal in enumerate(scheme.quotas.goals):
        record = state.goals[row, number * GOALS + place : number * GOALS + place + 1]
        record["metric"] = METRICS.index(goal.target_metric)
        record["target_value"] = goal.target_value
        record["nid"] = goal.nid
        record["own_cgroup"] = goal.path in _OWN_CGROUP
        if goal.target_metric is GoalMetric.USER_INPUT:
            record["current_value"] = goal.current_value


def _rejects_rest(filters: tuple[Filter, ...]) -> bool:
    # What no filter is for is left if the last one allows: then the filters name what is wanted.
    return bool(filters) and filters[-1].allow


def _filter_row(item: Filter) -> tuple[int, ...]:
    first, last = {
        FilterType.ADDR: (item.addr_start, item.addr_end),
        FilterType.TARGET: (item.damon_target_idx, 0),
        FilterType.MEMCG: (int(item.memcg_path in _OWN_CGROUP), 0),
        FilterType.HUGEPAGE_SIZE: (item.min, item.max),
    }.get(item.type, (0, 0))
    return FILTER_TYPES.index(item.type), int(item.matching), int(item.allow), first, last


@compiled
def _begin(monitors: Record) -> None:
    begin(monitors[0])


@compiled
def _change_attributes(monitors: Record, attributes: Record) -> None:
    change_attributes(monitors[0], attributes[0])


@compiled
def _set_regions(monitors: Record, target: int, ranges: Record) -> None:
    set_regions(monitors[0], target, ranges)


@compiled
def _place_mapped(monitors: Record, target: int) -> None:
    # One region a range, then pieces of equal size, as many as there must be regions (__damon_va_init_regions).
    monitor = monitors[0]
    ranges = np.empty((3, 2), np.int64)
    first = monitor.region_count
    set_regions(monitor, target, ranges[: three_ranges(mapped_ranges(monitor, target), ranges)])
    total = 0
    for index in range(first, monitor.region_count):
        total += regions(monitor)[index].end - regions(monitor)[index].start
    piece = max(total // monitor.attributes.min_nr_regions, monitor.attributes.min_region_bytes)
    index = first
    while index < monitor.region_count:
        region = regions(monitor)[index]
        pieces = (region.end - region.start) // piece
        count = monitor.region_count
        split_evenly(monitor, index, pieces)
        index += 1 + monitor.region_count - count
