"""The human-made policies that agents are compared with, as settings of DAMON.

All but one are schemes: whoever runs them applies a `Context`. senpai's rule is the exception, a program in user space
that asks for a little reclaim now and then; `senpai_step` is one turn of it. The rules are those published with DAMON's
evaluations (damonitor/damon-tests), damo's scripts (lru_sort.sh, mem_tier.sh) and HMSDK's manual.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from kml_envs.compiling import Record, compiled
from kml_envs.damon.config import (
    PAGE_BYTES,
    AccessPattern,
    Action,
    Context,
    Filter,
    FilterType,
    GoalMetric,
    IntervalsGoal,
    MonitoringAttributes,
    Operations,
    Quota,
    QuotaGoal,
    Scheme,
    WatermarkMetric,
    Watermarks,
    Weights,
)
from kml_envs.damon.memory import used_pages
from kml_envs.damon.memory_config import FAST_NODE, SLOW_NODE
from kml_envs.damon.memory_reclaim import reclaim
from kml_envs.damon.presets import damon_lru_sort, damon_reclaim
from kml_envs.errors import unknown_name

HUGE_PAGE_BYTES = 2 << 20

SENPAI_INTERVAL_US = 6_000_000
SENPAI_SHARE = 0.0005
SENPAI_PRESSURE = 0.001
"""senpai (TMO, ASPLOS 2022): every 6 s this share of the used memory, less as pressure nears this share of time."""

_TUNED = IntervalsGoal(access_bp=400, aggrs=3, min_sample_us=5_000, max_sample_us=10_000_000)
_DEFAULTS = MonitoringAttributes()
_NO_QUOTA = Quota()


@dataclass(frozen=True)
class Policy:
    """A built-in policy.

    Attributes:
        name: How tables call it.
        description: One line.
        context: Makes the settings for given attributes of monitoring, or brings its own attributes along.
    """

    name: str
    description: str
    context: Callable[[MonitoringAttributes], Context]


def policy(name: str) -> Policy:
    """One of the `POLICIES` by name.

    Raises:
        UserError: There is no such policy.
    """
    if name not in POLICIES:
        raise unknown_name("policy", name, POLICIES)
    return POLICIES[name]


def prcl(attributes: MonitoringAttributes = _DEFAULTS, min_age_s: float = 5.0, quota: Quota = _NO_QUOTA) -> Context:
    """Proactive reclamation: page out what was not accessed for some seconds."""
    pattern = AccessPattern(min_sz=PAGE_BYTES, max_nr_accesses=0, min_age=aggregations(min_age_s, attributes))
    return Context(Operations.VADDR, attributes, schemes=(Scheme(Action.PAGEOUT, pattern, quotas=quota),))


def prcl_auto(attributes: MonitoringAttributes = _DEFAULTS, pressure_us: int = 5_000) -> Context:
    """`prcl` under a quota that is tuned for so many microseconds of memory pressure per second."""
    goal = QuotaGoal(GoalMetric.SOME_MEM_PSI_US, target_value=pressure_us)
    return prcl(attributes, quota=Quota(reset_interval_ms=1_000, goals=(goal,)))


def ethp(attributes: MonitoringAttributes = _DEFAULTS) -> Context:
    """Access-aware huge pages: for what is accessed, and not for what rests."""
    hot = AccessPattern(min_nr_accesses=samples(0.05, attributes))
    cold = AccessPattern(min_sz=HUGE_PAGE_BYTES, max_nr_accesses=0, min_age=aggregations(7.0, attributes))
    return Context(
        Operations.VADDR, attributes, schemes=(Scheme(Action.HUGEPAGE, hot), Scheme(Action.NOHUGEPAGE, cold))
    )


def pdarc(attributes: MonitoringAttributes = _DEFAULTS) -> Context:
    """Proactive reclamation of physical memory under a time quota, oldest first."""
    pattern = AccessPattern(max_nr_accesses=0, min_age=aggregations(5.0, attributes))
    quota = Quota(ms=50, reset_interval_ms=1_000, weights=Weights(0, 3, 7))
    watermarks = Watermarks(WatermarkMetric.FREE_MEM_RATE, 5_000_000, high=1000, mid=999, low=0)
    scheme = Scheme(Action.PAGEOUT, pattern, quotas=quota, watermarks=watermarks)
    return Context(Operations.PADDR, attributes, schemes=(scheme,))


def plrus(attributes: MonitoringAttributes = _DEFAULTS) -> Context:
    """Proactive sorting of the lists of pages: hot ones to the active, cold ones to the inactive."""
    quota = Quota(ms=20, reset_interval_ms=1_000)
    hot = AccessPattern(min_nr_accesses=samples(0.2, attributes))
    cold = AccessPattern(max_nr_accesses=0, min_age=aggregations(5.0, attributes))
    schemes = (Scheme(Action.LRU_PRIO, hot, quotas=quota), Scheme(Action.LRU_DEPRIO, cold, quotas=quota))
    return Context(Operations.PADDR, attributes, schemes=schemes)


def lru_sort(attributes: MonitoringAttributes = _DEFAULTS) -> Context:
    """Sorting of damo (lru_sort.sh): hot and cold pages to their lists, until each list has half of the memory."""
    quota = Quota(bytes=100 << 20, reset_interval_ms=1_000, weights=Weights(0, 1, 1))  # damo's MB are 2^20 bytes
    inactive = QuotaGoal(GoalMetric.INACTIVE_MEM_BP, target_value=5_010)
    active = QuotaGoal(GoalMetric.ACTIVE_MEM_BP, target_value=5_010)
    cold = Scheme(
        Action.LRU_DEPRIO,
        AccessPattern(max_nr_accesses=0),
        apply_interval_us=1_000_000,
        quotas=replace(quota, goals=(inactive,)),
        filters=(_young(allow=False),),
    )
    hot = Scheme(
        Action.LRU_PRIO,
        AccessPattern(min_nr_accesses=samples(0.05, attributes)),
        apply_interval_us=1_000_000,
        quotas=replace(quota, goals=(active,)),
        filters=(_young(allow=True),),
    )
    return Context(Operations.PADDR, replace(attributes, intervals_goal=_TUNED), schemes=(cold, hot))


def mem_tier(attributes: MonitoringAttributes = _DEFAULTS) -> Context:
    """Tiering of damo: promote into a nearly full node 0, and demote what keeps a little of it free."""
    quota = Quota(bytes=200 << 20, reset_interval_ms=1_000)  # damo's MB are 2^20 bytes
    free = QuotaGoal(GoalMetric.NODE_MEM_FREE_BP, target_value=50, nid=FAST_NODE)
    used = QuotaGoal(GoalMetric.NODE_MEM_USED_BP, target_value=9_970, nid=FAST_NODE)
    tuned = replace(attributes, intervals_goal=_TUNED)
    demote = Scheme(
        Action.MIGRATE_COLD,
        AccessPattern(max_nr_accesses=0),
        apply_interval_us=1_000_000,
        quotas=replace(quota, goals=(free,)),
        filters=(_young(allow=False),),
        target_nid=SLOW_NODE,
    )
    promote = Scheme(
        Action.MIGRATE_HOT,
        AccessPattern(min_nr_accesses=samples(0.05, attributes)),
        apply_interval_us=1_000_000,
        quotas=replace(quota, goals=(used,)),
        filters=(_young(allow=True),),
        target_nid=FAST_NODE,
    )
    return Context(Operations.PADDR, tuned, schemes=(demote, promote))


def fixed_thresholds(attributes: MonitoringAttributes = _DEFAULTS) -> Context:
    """Tiering as `mem_tier`, by a cold age and fixed quotas in the place of goals and tuned intervals."""
    quota = Quota(bytes=100_000_000, reset_interval_ms=1_000, weights=Weights(0, 1, 1))
    demote = Scheme(
        Action.MIGRATE_COLD,
        AccessPattern(max_nr_accesses=0, min_age=aggregations(10.0, attributes)),
        apply_interval_us=1_000_000,
        quotas=quota,
        filters=(_young(allow=False),),
        target_nid=SLOW_NODE,
    )
    promote = Scheme(
        Action.MIGRATE_HOT,
        AccessPattern(min_nr_accesses=samples(0.05, attributes)),
        apply_interval_us=1_000_000,
        quotas=quota,
        filters=(_young(allow=True),),
        target_nid=FAST_NODE,
    )
    return Context(Operations.PADDR, attributes, schemes=(demote, promote))


def hmsdk(attributes: MonitoringAttributes = _DEFAULTS) -> Context:
    """Tiering of SK hynix's HMSDK, with its own intervals and regions; the attributes given are not used."""
    del attributes
    own = MonitoringAttributes(100_000, 2_000_000, 20_000_000, min_nr_regions=100, max_nr_regions=10_000)
    quota = Quota(bytes=50_000_000_000, reset_interval_ms=20_000, weights=Weights(0, 0, 1))
    demote = Scheme(
        Action.MIGRATE_COLD,
        AccessPattern(max_nr_accesses=0, min_age=aggregations(30.0, own)),
        quotas=replace(quota, ms=1_000),
        filters=(_young(allow=False),),
        target_nid=SLOW_NODE,
    )
    promote = Scheme(
        Action.MIGRATE_HOT,
        AccessPattern(min_nr_accesses=samples(0.05, own)),
        quotas=replace(quota, ms=2_000),
        filters=(_young(allow=True),),
        target_nid=FAST_NODE,
    )
    return Context(Operations.PADDR, own, schemes=(demote, promote))


def _damon_reclaim(attributes: MonitoringAttributes) -> Context:
    return damon_reclaim(attributes=attributes)


def _damon_lru_sort(attributes: MonitoringAttributes) -> Context:
    return damon_lru_sort(attributes=attributes)


POLICIES: dict[str, Policy] = {
    known.name: known
    for known in (
        Policy("prcl", "page out what is idle for 5 s", prcl),
        Policy("prcl_auto", "page out what is idle for 5 s, as far as memory pressure stays at 0.5 %", prcl_auto),
        Policy("pdarc", "page out physical memory idle for 5 s, 50 ms per second, oldest first", pdarc),
        Policy("ethp", "huge pages for what is accessed, none for what is idle for 7 s", ethp),
        Policy("plrus", "sort the lists of pages by access", plrus),
        Policy("lru_sort", "damo's sorting of the lists, half of the memory on each, 100 MiB/s", lru_sort),
        Policy("mem_tier", "damo's tiering under node goals, 200 MB/s", mem_tier),
        Policy("fixed_thresholds", "tiering at 5 % of accesses and 10 s of idleness, 100 MB/s", fixed_thresholds),
        Policy("hmsdk", "HMSDK's tiering with fixed thresholds", hmsdk),
        Policy("damon_reclaim", "the kernel's DAMON_RECLAIM, two minutes idle", _damon_reclaim),
        Policy("damon_lru_sort", "the kernel's DAMON_LRU_SORT, hot from half of the samples", _damon_lru_sort),
    )
}
"""The policies that are schemes, by name. Only hmsdk brings its own attributes along."""


@compiled
def senpai_step(memory: Record) -> float:
    """Reclaim what senpai asks for in one of its intervals, the longest idle pages first.

    Args:
        memory: The MEMORY record, whose pressure over the last 10 s decides.

    Returns:
        Pages that were swapped out.
    """
    wanted = senpai_pages(used_pages(memory), memory.psi_share_10s)
    taken = reclaim(memory, wanted)
    memory.reclaimed += taken
    memory.kdamond_ns += taken * memory.write_us * 1000.0
    return taken


@compiled
def senpai_pages(used: float, pressure: float) -> float:
    """Pages that senpai asks for: the share of the used ones, times how far the pressure (0..1) is below its limit."""
    return used * SENPAI_SHARE * max(0.0, 1.0 - pressure / SENPAI_PRESSURE)


def aggregations(seconds: float, attributes: MonitoringAttributes) -> int:
    """Aggregation intervals in a time, rounded up."""
    return math.ceil(seconds * 1e6 / attributes.aggr_us)


def samples(share: float, attributes: MonitoringAttributes) -> int:
    """Samples of an aggregation in a share of them, cut off as damo does, but at least 1."""
    return max(1, int(share * attributes.max_nr_accesses))


def _young(allow: bool) -> Filter:
    return Filter(FilterType.YOUNG, matching=True, allow=allow)
