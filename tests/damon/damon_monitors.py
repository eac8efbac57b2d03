"""Monitors made by hand: regions with any history, on memory that nothing touches unless said."""

import numpy as np

from kml_envs.compiling import compiled
from kml_envs.damon import monitor, quota, regions, schemes
from kml_envs.damon.config import Context, MonitoringAttributes, Operations, Target
from kml_envs.damon.simulator import Sampling, advance_rows, turn_on
from kml_envs.damon.state import allocate, set_accesses, set_mappings
from kml_envs.damon.versions import KernelVersion
from kml_envs.workloads.access import AccessTable

PAGE = 4096
FIRST_ROW = np.zeros(1, np.int64)


def silent(size=1 << 20):
    """Memory that is never touched."""
    nothing = np.zeros(0, np.int64)
    return AccessTable(np.array([10**12]), np.zeros(2, np.int64), nothing, nothing, nothing * 1.0, nothing * 1.0, size)


def touched(ranges, size, phase_us=10**12, sweep_us=0.0):
    """Memory with (start, end, touches per page and second) in a single phase."""
    starts, ends, rates = (np.array(column) for column in zip(*ranges, strict=True))
    sweeps = np.full(len(ranges), float(sweep_us))
    return AccessTable(
        np.array([phase_us]), np.array([0, len(ranges)]), starts, ends, rates.astype(float), sweeps, size
    )


def monitor_of(
    spans,
    version=KernelVersion.LATEST,
    schemes=(),
    table=None,
    seed=0,
    sampling=None,
    operations=Operations.FVADDR,
    mapped=(),
    **attributes,
):
    """Start a monitor of one target with the given (start, end, nr_accesses, last_nr_accesses, age) regions.

    Shorter rows are filled up with zeros; the smallest region is a byte unless said. No regions: those that monitoring
    begins with. `mapped` are ranges of bytes; unless said, all is mapped.
    """
    attributes = MonitoringAttributes(**{"min_region_bytes": 1, **attributes})
    state = allocate(1, attributes.max_nr_regions, 4)
    table = table or silent()
    set_accesses(state, 0, table)
    if mapped:
        set_mappings(state, 0, 0, mapped)
    context = Context(
        operations=operations,
        monitoring_attrs=attributes,
        targets=(Target(regions=((0, table.size),)),),
        schemes=schemes,
    )
    turn_on(state, 0, context, seed, version, sampling or Sampling())
    if spans is not None:
        fill(state, spans)
    return state


def fill(state, spans):
    """Replace the regions."""
    state.monitors["region_count"] = len(spans)
    for index, span in enumerate(spans):
        region = state.regions[0, index : index + 1]
        region[:] = 0
        for name, value in zip(("start", "end", "nr_accesses", "last_nr_accesses", "age"), span, strict=False):
            region[name] = value
        region["nr_accesses_bp"] = region["nr_accesses"] * 10_000


def spans_of(state, *names):
    """The regions as tuples: their ends, and the named fields."""
    rows = state.regions[0, : state.monitors["region_count"][0]]
    return [tuple(int(row[name]) for name in ("start", "end", *names)) for row in rows]


def run(state, microseconds):
    advance_rows(state.monitors, FIRST_ROW, state.monitors["time_us"] + microseconds)


def ranges_of(*pairs):
    return np.array(pairs, np.int64).reshape(-1, 2)


@compiled
def call_split_at(monitors, index, size):
    return regions.cut_region(monitors[0], index, size)


@compiled
def call_merge_once(monitors, threshold, ages):
    regions.merge_once(monitors[0], threshold, ages)


@compiled
def call_merge(monitors, threshold):
    regions.merge_regions(monitors[0], threshold)


@compiled
def call_split_all(monitors, parts):
    regions.split_all(monitors[0], parts)


@compiled
def call_split(monitors):
    regions.split_regions(monitors[0])


@compiled
def call_clear(monitors):
    regions.clear_aggregation(monitors[0])


@compiled
def call_set_regions(monitors, target, ranges):
    regions.set_regions(monitors[0], target, ranges)


@compiled
def call_split_evenly(monitors, index, pieces):
    return regions.split_evenly(monitors[0], index, pieces)


@compiled
def call_change_attributes(monitors, attributes):
    monitor.change_attributes(monitors[0], attributes[0])


@compiled
def call_convert(monitors, attributes, aggregating):
    monitor.convert_results(monitors[0], attributes[0], aggregating)


@compiled
def call_access_sum(monitors, index):
    return quota.access_sum(monitors[0], regions.regions(monitors[0])[index])


@compiled
def call_score(monitors, scheme, index):
    records = monitors[0]
    return quota.priority_score(records, quota.schemes(records)[scheme], regions.regions(records)[index])


@compiled
def call_apply(monitors):
    schemes.apply_schemes(monitors[0])


@compiled
def call_factor(monitors):
    return monitor.interval_factor_bp(monitors[0])


@compiled
def call_is_last(monitors, index):
    return regions.is_last_region(monitors[0], index)


@compiled
def call_size_limit(monitors):
    return regions.region_size_limit(monitors[0])
