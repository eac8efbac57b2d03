"""What a simulated log-structured file system is made of: geometry, placement, cleaning, latency."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from itertools import pairwise

from kml_envs.errors import UserError

MOST_AGE = 1e6
"""Volumes of user writes: no age is told from older ones."""


class CleaningPolicy(enum.IntEnum):
    """How the victim of a cleaning is chosen; sources and formulas stand in `victim_costs.py` and `policies.py`."""

    GREEDY = 0
    COST_BENEFIT = 1
    COST_BENEFIT_ENVY = 2
    COST_BENEFIT_SQRT = 3
    COST_BENEFIT_F2FS = 4
    ATGC = 5
    FIFO = 6
    RANDOM = 7
    D_CHOICES = 8
    WINDOWED_GREEDY = 9
    CAT = 10
    SCORE = 11
    CLAIRVOYANT = 12
    INFORMED = 13


class Placement(enum.IntEnum):
    """Which log a block goes to; the rules and their sources are in `placement.py`."""

    ONE_LOG = 0
    USER_GC_SPLIT = 1
    AGE_THRESHOLD = 2
    TEMPERATURE = 3
    DAC = 4
    SEPBIT = 5
    UPDATE_INTERVAL = 6
    CLAIRVOYANT = 7
    INFORMED = 8


_FORESIGHTED_POLICIES = (CleaningPolicy.CLAIRVOYANT, CleaningPolicy.INFORMED)
_FORESIGHTED_PLACEMENTS = (Placement.CLAIRVOYANT, Placement.INFORMED)


class Trigger(enum.IntEnum):
    """When cleaning is needed before the next user write."""

    FREE_SECTIONS = 0  # free sections at or below the cleaning trigger
    GARBAGE_SHARE = 1  # invalid share of all written slots above a limit; the space floats (SepBIT's simulator)
    F2FS = 2  # f2fs_balance_fs: free sections against reserve and dirty pages, checkpoint first; see f2fs.py
    CLEANERD = 3  # NILFS2's cleaner daemon in simulated time, and nobody else; see nilfs2.py


class AgeClock(enum.IntEnum):
    """The unit of mtime."""

    USER_WRITES = 0
    SECONDS = 1


class MtimeRule(enum.IntEnum):
    """What the mtime of a segment is.

    LAST_WRITE is the default because it reproduces what other simulators measured: SepBIT's reference runs within
    1 %, greedy and cost-benefit on hot and cold blocks within 1 %; under WEIGHTED_MEAN the square-root form of
    cost-benefit is 2-3 % off (tests/conformance/test_elastic_volumes.py, test_hot_cold_policies.py).
    """

    LAST_WRITE = 0  # time of the youngest block added: a relocated block counts as young (LFS '91 simulators)
    WEIGHTED_MEAN = 1  # F2FS: integer mean over the valid blocks, updated by additions and invalidations


@dataclass(frozen=True)
class Geometry:
    """Sizes of the volume.

    Attributes:
        segments: Segments of the main area.
        blocks_per_segment: Blocks of a segment, a power of two (F2FS: 512).
        segments_per_section: Segments of a section, the unit of cleaning and of free space.
        utilisation: Share of the main area that holds live blocks once the volume is filled, in 0..1.
        block_bytes: Bytes of a block.
    """

    segments: int = 256
    blocks_per_segment: int = 64
    segments_per_section: int = 1
    utilisation: float = 0.85
    block_bytes: int = 4096

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            UserError: A size is out of range or does not divide another.
        """
        if self.blocks_per_segment < 2 or self.blocks_per_segment & (self.blocks_per_segment - 1):
            raise UserError(f"blocks_per_segment {self.blocks_per_segment}: must be a power of two, at least 2")
        if self.segments_per_section < 1 or self.segments % self.segments_per_section:
            raise UserError(f"segments {self.segments}: must be a multiple of {self.segments_per_section} a section")
        if not 0 < self.utilisation < 1:
            raise UserError(f"utilisation {self.utilisation}: must lie between 0 and 1")
        if self.segments * self.blocks_per_segment >= 2**31:
            raise UserError("a volume holds less than 2**31 blocks")

    @property
    def sections(self) -> int:
        """Number of sections."""
        return self.segments // self.segments_per_section

    @property
    def blocks_per_section(self) -> int:
        """Slots of a section."""
        return self.blocks_per_segment * self.segments_per_section

    @property
    def physical_blocks(self) -> int:
        """Slots of the main area."""
        return self.segments * self.blocks_per_segment

    @property
    def volume_blocks(self) -> int:
        """Logical blocks of the volume: what the user can address."""
        return math.floor(self.physical_blocks * self.utilisation)


@dataclass(frozen=True)
class PlacementConfig:
    """Where blocks go.

    Attributes:
        rule: The placement rule.
        age_thresholds: AGE_THRESHOLD: ages, in volumes of user writes, that split relocated blocks; one log more
            than thresholds. UPDATE_INTERVAL: intervals that split all blocks.
        classes: Number of logs of DAC and of the oracles' placement.
        hot_age: TEMPERATURE: blocks updated within this age, in volumes, are hot (F2FS: 262,144 blocks).
        warm_age: TEMPERATURE: blocks updated within this age, in volumes, are warm (F2FS: 2,621,440 blocks).
        interval_gain: Weight of the newest interval between two writes of a block in its smoothed update interval
            (F2FS's age extent cache: 0.7, 1 - LAST_AGE_WEIGHT).
        keep_intervals: Keep smoothed update intervals under a rule other than UPDATE_INTERVAL too.
    """

    rule: Placement = Placement.USER_GC_SPLIT
    age_thresholds: tuple[float, ...] = (2.0**-3.3, 4 * 2.0**-3.3)
    classes: int = 6
    hot_age: float = 0.1
    warm_age: float = 1.0
    interval_gain: float = 0.15
    keep_intervals: bool = False

    def __post_init__(self) -> None:
        """Check the thresholds.

        Raises:
            UserError: Thresholds are not increasing, or there are too many logs.
        """
        ages = (0.0, *self.age_thresholds, MOST_AGE)
        if not 2 < len(ages) <= 8 or not all(younger < older for younger, older in pairwise(ages)):
            raise UserError(
                f"age_thresholds {self.age_thresholds}: one to six increasing ages, in volumes, above 0 and below "
                f"{MOST_AGE:g}"
            )
        if not 2 <= self.classes <= 8:
            raise UserError(f"classes {self.classes}: must lie in 2..8")
        if not 0 < self.interval_gain <= 1:
            raise UserError(f"interval_gain {self.interval_gain}: must lie above 0 and not above 1")

    @property
    def keeps_intervals(self) -> bool:
        """Whether each block has a smoothed update interval."""
        return self.keep_intervals or self.rule is Placement.UPDATE_INTERVAL

    @property
    def user_logs(self) -> int:
        """Logs that user writes go to."""
        return {
            Placement.TEMPERATURE: 3,
            Placement.DAC: self.classes,
            Placement.SEPBIT: 2,
            Placement.UPDATE_INTERVAL: len(self.age_thresholds) + 1,
            Placement.CLAIRVOYANT: self.classes,
            Placement.INFORMED: self.classes,
        }.get(self.rule, 1)

    @property
    def relocation_logs(self) -> int:
        """Logs that only relocated blocks go to."""
        return {
            Placement.USER_GC_SPLIT: 1,
            Placement.AGE_THRESHOLD: len(self.age_thresholds) + 1,
            Placement.TEMPERATURE: 1,
            Placement.SEPBIT: 4,
        }.get(self.rule, 0)

    @property
    def logs(self) -> int:
        """All logs."""
        return self.user_logs + self.relocation_logs


@dataclass(frozen=True)
class CleaningConfig:
    """When and how the built-in algorithm cleans.

    Attributes:
        policy: Victim selection.
        trigger: When cleaning is needed.
        trigger_sections: FREE_SECTIONS: clean at or below this many free sections; None: reserve + 4.
        garbage_share: GARBAGE_SHARE: clean above this share of invalid slots; candidates have at least as much.
        choices: D_CHOICES: segments drawn.
        window: WINDOWED_GREEDY: share of the oldest candidates that is looked at.
        protection: FIFO: segments sealed within this age, in mtime units, are protected (NILFS2 protection period).
        max_search: Candidates that a scanning policy looks at, 0 = all (F2FS: 4096 in background cleaning).
        candidate_age: ATGC: segments this much older than the youngest are candidates, in mtime units
            (F2FS: 604,800 s).
        age_clock: Unit of mtime.
        mtime_rule: What mtime is.
        checkpoint_interval: Empty sections stay prefree until the next checkpoint, written at least every so many
            user writes and whenever free sections run short; 0: they are free at once.
    """

    policy: CleaningPolicy = CleaningPolicy.GREEDY
    trigger: Trigger = Trigger.FREE_SECTIONS
    trigger_sections: int | None = None
    garbage_share: float = 0.15
    choices: int = 10
    window: float = 0.9
    protection: int = 0
    max_search: int = 0
    candidate_age: int = 0
    age_clock: AgeClock = AgeClock.USER_WRITES
    mtime_rule: MtimeRule = MtimeRule.LAST_WRITE
    checkpoint_interval: int = 0


class GcMode(enum.IntEnum):
    """What sysfs gc_urgent and gc_idle ask of F2FS (fs/f2fs/f2fs.h); the numbers are those of gc_mode."""

    NORMAL = 0
    IDLE_COST_BENEFIT = 1
    IDLE_GREEDY = 2
    IDLE_AGE_THRESHOLD = 3
    URGENT_HIGH = 4
    URGENT_LOW = 5
    URGENT_MID = 6


@dataclass(frozen=True)
class F2fsConfig:
    """When F2FS cleans, and what it writes besides the user's blocks; used with `Trigger.F2FS`.

    Attributes:
        reserved_sections: Sections that foreground cleaning defends; None: what mkfs.f2fs reserves.
        overprovision_sections: Sections that the user cannot fill, reserved ones included; None: as mkfs.f2fs.
        inode_blocks: Data blocks that the inode maps itself (with inline xattr: 923 - 50).
        blocks_per_node: Data blocks that a direct node maps (ADDRS_PER_BLOCK).
        writeback_batch: User writes that gather in the page cache before they are written in file order.
        background_thread: Whether the background thread runs; it needs arrival times.
        gc_mode: Urgent and idle modes.
        min_sleep_s: Shortest sleep of the background thread, and the step of its walk, in seconds.
        max_sleep_s: Longest sleep, in seconds.
        no_gc_sleep_s: Sleep after a wake that found no victim, in seconds.
        urgent_sleep_s: Sleep of the high and middle urgent modes, in seconds.
        idle_interval_s: Time since the last request from which on the device counts as idle, in seconds.
    """

    reserved_sections: int | None = None
    overprovision_sections: int | None = None
    inode_blocks: int = 873
    blocks_per_node: int = 1018
    writeback_batch: int = 64
    background_thread: bool = False
    gc_mode: GcMode = GcMode.NORMAL
    min_sleep_s: float = 30.0
    max_sleep_s: float = 60.0
    no_gc_sleep_s: float = 300.0
    urgent_sleep_s: float = 0.5
    idle_interval_s: float = 5.0


@dataclass(frozen=True)
class CleanerdConfig:
    """nilfs_cleanerd.conf, used with `Trigger.CLEANERD`; the defaults are those of nilfs-utils.

    Attributes:
        min_clean_segments: Share of the segments below which cleaning starts; 0: always cleaning.
        max_clean_segments: Share above which it stops.
        reserved_segments: Share that the file system keeps for itself, at least 8 segments.
        clean_check_interval_s: Seconds between two looks while not cleaning.
        segments_per_clean: Segments of a step.
        urgent_segments_per_clean: The same below the minimum (mc_nsegments_per_clean).
        cleaning_interval_s: Seconds between two steps.
        urgent_cleaning_interval_s: The same below the minimum (mc_cleaning_interval).
        retry_interval_s: Seconds after a step that failed for lack of room.
        min_reclaimable: Share of a segment that must be reclaimable on average, or the step is deferred.
        urgent_min_reclaimable: The same below the minimum (mc_min_reclaimable_blocks).
    """

    min_clean_segments: float = 0.10
    max_clean_segments: float = 0.20
    reserved_segments: float = 0.05
    clean_check_interval_s: float = 10.0
    segments_per_clean: int = 2
    urgent_segments_per_clean: int = 4
    cleaning_interval_s: float = 5.0
    urgent_cleaning_interval_s: float = 1.0
    retry_interval_s: float = 60.0
    min_reclaimable: float = 0.10
    urgent_min_reclaimable: float = 0.01


class Background(enum.IntEnum):
    """Which built-in algorithm cleans in the background of an open-loop volume; see background.py."""

    NONE = 0  # foreground cleaning only
    F2FS = 1  # the background thread with its sleep times and its idle test
    CLEANERD = 2  # NILFS2's cleaner daemon
    LOAD_GATE = 3  # SSDFS's gate by pending requests


@dataclass(frozen=True)
class OpenLoopConfig:
    """Cleaning in time on a volume whose writes arrive by themselves; used by `open_loop.py`.

    Attributes:
        background: The built-in algorithm of background cleaning; foreground cleaning is greedy.
        first_wake_s: Quiet time after the last write at which an agent is asked for the first time, in seconds; it
            is asked again whenever four times that has passed, and after each of its operations.
        gate_interval_s: LOAD_GATE: seconds between two looks at the load.
        latency_limit_s: Latency above which a user write counts as slow, in seconds.
    """

    background: Background = Background.NONE
    first_wake_s: float = 0.01
    gate_interval_s: float = 1.0
    latency_limit_s: float = 0.01


@dataclass(frozen=True)
class LatencyProfile:
    """Device time of one block, in nanoseconds.

    The default is a TLC NVMe device behind a log-structured host at queue depth one: reference section G.

    Attributes:
        write_ns: Writing a block sequentially.
        read_ns: Reading a block of a victim.
        erase_ns: Making a cleaned section writable (discard or erase).
        checkpoint_ns: Writing a checkpoint.
    """

    write_ns: int = 20_000
    read_ns: int = 80_000
    erase_ns: int = 0
    checkpoint_ns: int = 0


@dataclass(frozen=True)
class LfsConfig:
    """A whole simulated file system."""

    geometry: Geometry = field(default_factory=Geometry)
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    latency: LatencyProfile = field(default_factory=LatencyProfile)
    f2fs: F2fsConfig = field(default_factory=F2fsConfig)
    cleanerd: CleanerdConfig = field(default_factory=CleanerdConfig)
    open_loop: OpenLoopConfig = field(default_factory=OpenLoopConfig)

    def __post_init__(self) -> None:
        """Check that live blocks, open logs and the cleaning trigger fit into the main area, and each other.

        Raises:
            UserError: They do not.
        """
        if self.cleaning.trigger >= Trigger.F2FS and (
            self.cleaning.policy in _FORESIGHTED_POLICIES or self.placement.rule in _FORESIGHTED_PLACEMENTS
        ):
            raise UserError(f"trigger {self.cleaning.trigger.name}: the oracles know nothing of a kernel's own blocks")
        if self.cleaning.trigger is Trigger.GARBAGE_SHARE and self.cleaning.checkpoint_interval:
            raise UserError("trigger GARBAGE_SHARE frees sections at once: checkpoint_interval must be 0")
        sections = self.geometry.sections
        live = math.ceil(self.geometry.volume_blocks / self.geometry.blocks_per_section)
        kept = self.f2fs_reserve[0] if self.cleaning.trigger is Trigger.F2FS else self.trigger_sections
        needed = live + kept + self.placement.logs
        if self.cleaning.trigger is not Trigger.GARBAGE_SHARE and needed >= sections:
            raise UserError(
                f"utilisation {self.geometry.utilisation} leaves no room to clean: {live} sections of live blocks, "
                f"{kept} kept free and {self.placement.logs} open logs need more than {sections}"
            )
        if self.trigger_sections < self.reserve_sections:
            raise UserError(
                f"trigger_sections {self.trigger_sections}: must be at least the reserve of {self.reserve_sections}"
            )

    @property
    def reserve_sections(self) -> int:
        """Free sections at or below which only the built-in algorithm acts: a section a log, and one."""
        return self.placement.logs + 1

    @property
    def trigger_sections(self) -> int:
        """Free sections at or below which cleaning starts."""
        if self.cleaning.trigger_sections is None:
            return self.reserve_sections + 4
        return self.cleaning.trigger_sections

    @property
    def node_blocks(self) -> int:
        """Node blocks that map the volume as one file: the inode and its direct nodes; 0 but under F2FS's rules."""
        if self.cleaning.trigger is not Trigger.F2FS:
            return 0
        return 1 + max(0, -(-(self.geometry.volume_blocks - self.f2fs.inode_blocks) // self.f2fs.blocks_per_node))

    @property
    def f2fs_reserve(self) -> tuple[int, int]:
        """F2FS's reserved and overprovisioned sections: the configured ones, or those that mkfs.f2fs chooses."""
        reserved, overprovision = mkfs_reserve(self.geometry.sections)
        if self.f2fs.reserved_sections is not None:
            reserved = self.f2fs.reserved_sections
        if self.f2fs.overprovision_sections is not None:
            overprovision = self.f2fs.overprovision_sections
        return reserved, max(reserved, overprovision)


def mkfs_reserve(sections: int) -> tuple[int, int]:
    """Sections that mkfs.f2fs reserves and overprovisions (f2fs-tools, get_best_overprovision).

    Args:
        sections: Sections of the main area.

    Returns:
        The reserved sections and all sections that the user cannot fill; small volumes of fewer than about 30
        sections get what is left of them.
    """
    percents = [step / 100 for step in range(1, 1001)] if sections >= 256 else [float(p) for p in range(10, 100, 5)]
    best, kept, most = 0.0, sections / 2, -1.0
    for percent in percents:
        reserved = 2 * (100 / percent + 1) + 6
        space = (sections - reserved) * (1 - percent / 100)
        if reserved < sections and space > most:
            best, kept, most = percent, reserved, space
    return round(kept), round(kept) + round((sections - round(kept)) * best / 100)
