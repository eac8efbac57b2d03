"""What the monitor is tuned by: its attributes, those of the built-in algorithms, and what an action stands for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.damon.config import Context, IntervalsGoal, MonitoringAttributes, Operations
from kml_envs.damon.monitor import most_accesses_of
from kml_envs.damon.simulator import attributes_record
from kml_envs.damon.state import ATTRIBUTES
from kml_envs.errors import unknown_name

FloatArray = NDArray[np.float64]

BUILTINS = ("autotune", "defaults", "hmsdk")
"""Built-in algorithms: the kernel's tuning of the intervals, its fixed defaults, and HMSDK's fixed settings."""

ACTION_NAMES = ("sample_interval", "samples", "min_regions", "max_regions")
SHORTEST_SAMPLE_US, SAMPLE_RANGE = 5_000, 11.0
SAMPLES, SAMPLES_RANGE = 20.0, 3.0
FEWEST_REGIONS, FEWEST_RANGE = 20.0, 3.0
MOST_RANGE = 3.0
"""Actions move each number by so many powers of two: see `settle`."""

HOLD = 0.75
"""Powers of two by which a recommendation must be away from a number of the agent's that is in force to change it."""


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


def recommended_attributes(
    action: FloatArray, max_nr_regions: int, held: FloatArray | None = None
) -> MonitoringAttributes:
    """The attributes that an action stands for: what `settle` and `write_attributes` say.

    Args:
        action: (4,) float64 in [-1, 1], in the order of ACTION_NAMES.
        max_nr_regions: Regions that there is room for.
        held: (4,) float64, the agent's powers of two that are in force; None: the built-in algorithm's attributes are.
    """
    records = np.zeros(1, ATTRIBUTES)
    powers = np.full((1, len(ACTION_NAMES)), np.nan) if held is None else held[None]
    write_rows(np.asarray(action, np.float64)[None], powers, max_nr_regions, records)
    return _attributes_of(records[0])


def resumed_attributes(attributes: MonitoringAttributes, sample_us: int) -> MonitoringAttributes:
    """The attributes with which a built-in algorithm takes over: what `resume_tuning` says.

    Args:
        attributes: Those that it begins with.
        sample_us: Sampling interval that it finds.
    """
    records = attributes_record(attributes).reshape(1)
    _resume_in_array(records, sample_us)
    return replace(attributes, sample_us=int(records["sample_us"][0]), aggr_us=int(records["aggr_us"][0]))


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
def write_rows(actions: Record, held: Record, max_nr_regions: int, records: Record) -> None:
    """Write the attributes that actions stand for; nothing for those that stand for the built-in algorithm.

    Args:
        actions: (N, 4) float64, NaN for the built-in algorithm.
        held: (N, 4) float64, powers in force or NaN.
        max_nr_regions: Regions that there is room for.
        records: (N,) ATTRIBUTES.
    """
    powers = np.empty(len(ACTION_NAMES))
    for i in range(records.size):
        if not np.isnan(actions[i, 0]):
            for k in range(powers.size):
                powers[k] = held[i, k]
            settle(actions[i], powers)
            write_attributes(powers, max_nr_regions, records[i])


@compiled
def resume_tuning(attributes: Record, sample_us: int) -> None:
    """Let the kernel's tuning go on from the interval that it finds, within its limits; without tuning do nothing.

    Args:
        attributes: The ATTRIBUTES record of a built-in algorithm.
        sample_us: Sampling interval that it finds.
    """
    if attributes.aggrs > 0:
        found = min(max(sample_us, attributes.min_sample_us), attributes.max_sample_us)
        attributes.aggr_us = found * most_accesses_of(attributes)
        attributes.sample_us = found


@compiled
def _resume_in_array(records: Record, sample_us: int) -> None:
    resume_tuning(records[0], sample_us)


def _attributes_of(record: np.void) -> MonitoringAttributes:
    return MonitoringAttributes(
        sample_us=int(record["sample_us"]),
        aggr_us=int(record["aggr_us"]),
        min_nr_regions=int(record["min_nr_regions"]),
        max_nr_regions=int(record["max_nr_regions"]),
    )
