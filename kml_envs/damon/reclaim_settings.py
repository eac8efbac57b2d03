"""What proactive reclamation is tuned by: the settings of a scheme that pages cold memory out, and of its rivals."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.damon.config import (
    ACTIONS,
    PAGE_BYTES,
    AccessPattern,
    Action,
    Context,
    MonitoringAttributes,
    Operations,
    Quota,
    Scheme,
    WatermarkMetric,
    Watermarks,
    Weights,
)
from kml_envs.damon.policies import POLICIES
from kml_envs.damon.state import SCHEME
from kml_envs.errors import unknown_name

FloatArray = NDArray[np.float64]

SENPAI = "senpai"
"""The built-in algorithm that is no scheme of DAMON's, but a program in user space that asks for reclaim."""
BUILTINS = ("damon_reclaim", "prcl", "prcl_auto", "pdarc", SENPAI)
"""Built-in algorithms: of `damon.policies`, the kernel's own first."""

ACTION_NAMES = ("min_age", "quota", "nr_accesses_weight", "age_weight", "watermark_mid", "watermark_low")
MIN_AGE_S_PER_GIB, MIN_AGE_RANGE = 1.25, 6.0  # at the zero action, and powers of two by which the action moves it
MOST_QUOTA, QUOTA_RANGE = 1 << 30, 6.0  # bytes per second, and powers of two from there down to the zero action
LEAST_QUOTA_SHARE = 2.0 ** (-2.0 * QUOTA_RANGE)
WATERMARK_HIGH, WATERMARK_INTERVAL_US = 1000, 1_000_000

_PAGEOUT = ACTIONS.index(Action.PAGEOUT)
_FREE_MEM_RATE = tuple(WatermarkMetric).index(WatermarkMetric.FREE_MEM_RATE)
_SECOND_US = 1_000_000
_GIB = 1 << 30


def builtin_context(name: str, attributes: MonitoringAttributes) -> Context:
    """DAMON's settings under a built-in algorithm, on physical memory and with the environment's attributes.

    Raises:
        UserError: There is no such built-in algorithm.
    """
    if name not in BUILTINS:
        raise unknown_name("built-in algorithm", name, BUILTINS)
    if name == SENPAI:  # acts by itself; DAMON only watches
        return watching_context(attributes)
    made = POLICIES[name].context(attributes)
    return Context(Operations.PADDR, attributes, schemes=made.schemes)


def watching_context(attributes: MonitoringAttributes) -> Context:
    """DAMON's settings while nothing is reclaimed."""
    return Context(Operations.PADDR, attributes, schemes=(Scheme(Action.STAT, AccessPattern()),))


def recommended_scheme(action: FloatArray, size: int, attributes: MonitoringAttributes) -> Scheme:
    """The scheme that an action stands for: what the compiled `apply_parameters` writes.

    Args:
        action: (6,) float64 in [-1, 1], in the order of ACTION_NAMES.
        size: Bytes of the program.
        attributes: Of the monitoring.
    """
    record = np.zeros(1, SCHEME)
    _apply_to_array(record, np.asarray(action, np.float64), size, attributes.aggr_us)
    one = record[0]
    return Scheme(
        Action.PAGEOUT,
        AccessPattern(min_sz=PAGE_BYTES, max_nr_accesses=0, min_age=int(one["min_age"])),
        quotas=Quota(
            bytes=int(one["quota_bytes"]),
            reset_interval_ms=1000,
            weights=Weights(0, int(one["nr_accesses_permil"]), int(one["age_permil"])),
        ),
        watermarks=Watermarks(
            WatermarkMetric.FREE_MEM_RATE,
            WATERMARK_INTERVAL_US,
            WATERMARK_HIGH,
            int(one["mid"]),
            int(one["low"]),
        ),
    )


@compiled
def apply_parameters(scheme: Record, parameters: Record, size: int, aggr_us: int) -> None:
    """Take over the agent's settings of the scheme.

    Args:
        scheme: The SCHEME record.
        parameters: (6,) float64 in [-1, 1], in the order of ACTION_NAMES.
        size: Bytes of the program.
        aggr_us: Aggregation interval.
    """
    scheme.action = _PAGEOUT
    scheme.supported = 1
    scheme.priority = -1
    scheme.min_sz = PAGE_BYTES
    scheme.max_sz = 2**62
    scheme.min_nr_accesses, scheme.max_nr_accesses = 0, 0
    # What a page costs on its way out and back is the same for all programs, what it saves is its share of the program:
    # so the idle time after which it has paid for itself goes with the size.
    age_us = MIN_AGE_S_PER_GIB * (size / _GIB) * 2.0 ** (MIN_AGE_RANGE * parameters[0]) * _SECOND_US
    scheme.min_age, scheme.max_age = np.int64(math.ceil(age_us / aggr_us)), 2**62
    scheme.apply_interval_us = 0
    scheme.quota_ms = 0
    scheme.quota_bytes = np.int64((2.0 ** (QUOTA_RANGE * (parameters[1] - 1.0)) - LEAST_QUOTA_SHARE) * MOST_QUOTA)
    scheme.reset_interval_us = _SECOND_US
    scheme.goal_count = 0
    scheme.nr_accesses_permil = np.int64(500.0 * (1.0 + parameters[2]))
    scheme.age_permil = np.int64(500.0 * (1.0 + parameters[3]))
    scheme.watermark_metric = _FREE_MEM_RATE
    scheme.watermark_interval_us = WATERMARK_INTERVAL_US
    scheme.high = WATERMARK_HIGH
    scheme.mid = np.int64(500.0 * (1.0 + parameters[4]))
    scheme.low = np.int64(50.0 * (1.0 + parameters[5]))


@compiled
def _apply_to_array(record: Record, parameters: Record, size: int, aggr_us: int) -> None:
    apply_parameters(record[0], parameters, size, aggr_us)
