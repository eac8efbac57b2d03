"""What a DAMON context is made of: attributes of monitoring, targets and schemes.

One model for the simulator, the sysfs back end and damo's JSON. The fields have the names of the files under
/sys/kernel/mm/damon/admin; an enumeration's value is what the kernel's file holds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

PAGE_BYTES = 4096
UNLIMITED = 2**64 - 1
"""The largest size that the kernel's files take."""
LARGEST_COUNT = 2**32 - 1
"""The largest number of accesses or age that the kernel's files take."""


class Operations(enum.Enum):
    """How accesses are checked, and where the monitored ranges come from."""

    VADDR = "vaddr"  # a process's address space, followed as its mappings change
    FVADDR = "fvaddr"  # given ranges of a process's address space
    PADDR = "paddr"  # physical memory


class Action(enum.Enum):
    """What a scheme does to the regions of its pattern."""

    WILLNEED = "willneed"
    COLD = "cold"
    PAGEOUT = "pageout"
    HUGEPAGE = "hugepage"
    NOHUGEPAGE = "nohugepage"
    COLLAPSE = "collapse"
    LRU_PRIO = "lru_prio"
    LRU_DEPRIO = "lru_deprio"
    MIGRATE_HOT = "migrate_hot"
    MIGRATE_COLD = "migrate_cold"
    STAT = "stat"


class FilterType(enum.Enum):
    """What a filter looks at; the first two are handled by DAMON's core, the others by the operations set."""

    ADDR = "addr"
    TARGET = "target"
    ANON = "anon"
    MEMCG = "memcg"
    YOUNG = "young"
    ACTIVE = "active"
    HUGEPAGE_SIZE = "hugepage_size"
    UNMAPPED = "unmapped"


class GoalMetric(enum.Enum):
    """What a quota goal measures; names ending in bp are shares in 1/10,000."""

    USER_INPUT = "user_input"
    SOME_MEM_PSI_US = "some_mem_psi_us"
    NODE_MEM_USED_BP = "node_mem_used_bp"
    NODE_MEM_FREE_BP = "node_mem_free_bp"
    NODE_MEMCG_USED_BP = "node_memcg_used_bp"
    NODE_MEMCG_FREE_BP = "node_memcg_free_bp"
    ACTIVE_MEM_BP = "active_mem_bp"
    INACTIVE_MEM_BP = "inactive_mem_bp"
    NODE_ELIGIBLE_MEM_BP = "node_eligible_mem_bp"  # a node's share in all memory of the scheme's access pattern


class GoalTuner(enum.Enum):
    """How a quota is moved towards its goals."""

    CONSIST = "consist"
    TEMPORAL = "temporal"


class WatermarkMetric(enum.Enum):
    """What activates and deactivates a scheme."""

    NONE = "none"
    FREE_MEM_RATE = "free_mem_rate"  # free memory, per mille


ACTIONS = tuple(Action)
"""Actions by their numbers in compiled code."""

CORE_FILTERS = (FilterType.ADDR, FilterType.TARGET)

SUPPORTED_ACTIONS = {
    Operations.VADDR: frozenset(Action) - {Action.LRU_PRIO, Action.LRU_DEPRIO},
    Operations.FVADDR: frozenset(Action) - {Action.LRU_PRIO, Action.LRU_DEPRIO},
    Operations.PADDR: frozenset(
        (
            Action.PAGEOUT,
            Action.LRU_PRIO,
            Action.LRU_DEPRIO,
            Action.MIGRATE_HOT,
            Action.MIGRATE_COLD,
            Action.STAT,
        )
    ),
}
"""Actions that an operations set carries out; others are tried and have no effect."""


@dataclass(frozen=True)
class IntervalsGoal:
    """Auto-tuning of the intervals; all zero is off.

    Attributes:
        access_bp: Wanted share of observed accesses in the most that could be observed, in 1/10,000.
        aggrs: Aggregations between two adjustments.
        min_sample_us: Shortest sampling interval.
        max_sample_us: Longest sampling interval.
    """

    access_bp: int = 0
    aggrs: int = 0
    min_sample_us: int = 0
    max_sample_us: int = 0


@dataclass(frozen=True)
class MonitoringAttributes:
    """How accesses are monitored.

    Attributes:
        sample_us: Sampling interval.
        aggr_us: Aggregation interval.
        update_us: Interval at which the operations set re-reads the monitored ranges.
        intervals_goal: Auto-tuning of the first two.
        min_nr_regions: Lower limit of the number of regions.
        max_nr_regions: Upper limit of the number of regions.
        min_region_bytes: Smallest region.
    """

    sample_us: int = 5_000
    aggr_us: int = 100_000
    update_us: int = 60_000_000
    intervals_goal: IntervalsGoal = IntervalsGoal()
    min_nr_regions: int = 10
    max_nr_regions: int = 1_000
    min_region_bytes: int = PAGE_BYTES

    @property
    def max_nr_accesses(self) -> int:
        """Most accesses that a region can have in an aggregation (damon_max_nr_accesses)."""
        return max(1, self.aggr_us // max(1, self.sample_us))


@dataclass(frozen=True)
class AccessPattern:
    """The regions that a scheme is for; both ends of every interval belong to it.

    Attributes:
        min_sz: Bytes.
        max_sz: Bytes.
        min_nr_accesses: Samples of an aggregation that found an access.
        max_nr_accesses: Samples of an aggregation that found an access.
        min_age: Aggregations since the region's accesses changed.
        max_age: Aggregations since the region's accesses changed.
    """

    min_sz: int = 0
    max_sz: int = UNLIMITED
    min_nr_accesses: int = 0
    max_nr_accesses: int = LARGEST_COUNT
    min_age: int = 0
    max_age: int = LARGEST_COUNT


@dataclass(frozen=True)
class QuotaGoal:
    """A goal of a quota.

    Attributes:
        target_metric: What is measured.
        target_value: Wanted value.
        current_value: USER_INPUT: what the user measured.
        nid: Memory node of the node metrics.
        path: Memory cgroup of the memcg metrics.
    """

    target_metric: GoalMetric = GoalMetric.USER_INPUT
    target_value: int = 10_000
    current_value: int = 0
    nid: int = 0
    path: str = ""


@dataclass(frozen=True)
class Weights:
    """Weights of a region's size, accesses and age in its priority."""

    sz_permil: int = 0
    nr_accesses_permil: int = 0
    age_permil: int = 0


@dataclass(frozen=True)
class Quota:
    """How much a scheme may do in a window of `reset_interval_ms`.

    Attributes:
        ms: Time, 0: no limit.
        bytes: Bytes, 0: no limit.
        reset_interval_ms: Length of a window.
        goals: What the quota is tuned for.
        goal_tuner: How it is tuned.
        weights: Priorities under the quota.
        fail_charge_num: Numerator of the share at which bytes that were tried in vain are charged.
        fail_charge_denom: Its denominator; 0: they are charged in full.
    """

    ms: int = 0
    bytes: int = 0
    reset_interval_ms: int = 0
    goals: tuple[QuotaGoal, ...] = ()
    goal_tuner: GoalTuner = GoalTuner.CONSIST
    weights: Weights = Weights()
    fail_charge_num: int = 0
    fail_charge_denom: int = 0

    @property
    def is_set(self) -> bool:
        """Whether anything limits the scheme."""
        return bool(self.ms or self.bytes or self.goals)


@dataclass(frozen=True)
class Watermarks:
    """When a scheme is active, by a system metric: see `schemes.watermark_wait_us`."""

    metric: WatermarkMetric = WatermarkMetric.NONE
    interval_us: int = 0
    high: int = 0
    mid: int = 0
    low: int = 0


@dataclass(frozen=True)
class Filter:
    """Which memory a scheme takes or leaves.

    Attributes:
        type: What is looked at.
        matching: Whether the filter is for memory that is of the type, or for memory that is not.
        allow: Whether that memory is taken, or left.
        memcg_path: MEMCG: the memory cgroup.
        addr_start: ADDR: first byte.
        addr_end: ADDR: byte behind the last.
        min: HUGEPAGE_SIZE: smallest size in bytes.
        max: HUGEPAGE_SIZE: largest size in bytes.
        damon_target_idx: TARGET: index of the monitoring target.
    """

    type: FilterType
    matching: bool = True
    allow: bool = False
    memcg_path: str = ""
    addr_start: int = 0
    addr_end: int = 0
    min: int = 0
    max: int = 0
    damon_target_idx: int = 0


@dataclass(frozen=True)
class Destination:
    """A memory node that migrations go to, and its share of them."""

    id: int
    weight: int


@dataclass(frozen=True)
class Scheme:
    """An operation scheme (DAMOS).

    Attributes:
        action: What is done.
        access_pattern: To which regions.
        apply_interval_us: How often, 0: every aggregation.
        quotas: How much.
        watermarks: When.
        filters: To which memory within the regions.
        dests: Where migrations go to, if to more than one node.
        target_nid: Where migrations go to.
        max_nr_snapshots: How many times, 0: without end.
    """

    action: Action = Action.STAT
    access_pattern: AccessPattern = AccessPattern()
    apply_interval_us: int = 0
    quotas: Quota = Quota()
    watermarks: Watermarks = Watermarks()
    filters: tuple[Filter, ...] = ()
    dests: tuple[Destination, ...] = ()
    target_nid: int = -1
    max_nr_snapshots: int = 0

    @property
    def core_filters(self) -> tuple[Filter, ...]:
        """The filters that DAMON's core handles, which come first."""
        return tuple(item for item in self.filters if item.type in CORE_FILTERS)

    @property
    def ops_filters(self) -> tuple[Filter, ...]:
        """The filters that the operations set handles."""
        return tuple(item for item in self.filters if item.type not in CORE_FILTERS)


@dataclass(frozen=True)
class Target:
    """What is monitored.

    Attributes:
        pid: The process, for VADDR and FVADDR; None in a simulation or for PADDR.
        regions: Ranges of bytes, each (start, end); empty for VADDR, and for all memory.
    """

    pid: int | None = None
    regions: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Context:
    """A whole DAMON context: one kdamond's work.

    Attributes:
        operations: The operations set.
        monitoring_attrs: How accesses are monitored.
        targets: What is monitored.
        schemes: What is done about it.
        addr_unit: PADDR: bytes of a unit of address.
        pause: Whether monitoring stands still.
    """

    operations: Operations = Operations.VADDR
    monitoring_attrs: MonitoringAttributes = MonitoringAttributes()
    targets: tuple[Target, ...] = field(default_factory=lambda: (Target(),))
    schemes: tuple[Scheme, ...] = ()
    addr_unit: int = 1
    pause: bool = False
