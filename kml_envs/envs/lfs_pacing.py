"""`kml/LfsPacing-v0`: when a log-structured file system cleans, which segment, and how many blocks at a time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from kml_envs.envs.domains import AUTOMATIC
from kml_envs.envs.lfs import LfsArguments, LfsEnv, LfsVectorEnv
from kml_envs.envs.lfs_victim import VERDICTS
from kml_envs.envs.proxy_env import ProxyVectorEnv, SubsystemFactory
from kml_envs.errors import UserError, unknown_name
from kml_envs.lfs import pace, rendering
from kml_envs.lfs.config import Background, CleanerdConfig, CleaningPolicy, F2fsConfig, LfsConfig, OpenLoopConfig
from kml_envs.lfs.open_loop import advance_open_loop_rows
from kml_envs.lfs.pace import PaceVolumes
from kml_envs.lfs.warmup import WarmVolumes
from kml_envs.proxy import Bounds, Choice, ProxyOptions, Snapshot
from kml_envs.suites import make_arrivals, make_workload, workload_names
from kml_envs.workloads.synthetic import Workload, in_bursts

BACKGROUNDS = {
    "f2fs": Background.F2FS,
    "cleanerd": Background.CLEANERD,
    "ssdfs": Background.LOAD_GATE,
    "foreground": Background.NONE,
}
"""The built-in algorithms by name; foreground cleaning is greedy under all of them."""

_ONE_DEVICE = "in time all cleaning shares one device"
_LONGEST_LIMIT_MS = 1e9  # in nanoseconds a limit has 64 bits
_F2FS_SEGMENT, _NILFS2_SEGMENT = 512, 2048  # blocks
_DAY_US, _LONGEST_GAP_DAYS = 86_400e6, 7


class PaceCost(NamedTuple):
    """What the objective counts, and for how much.

    Attributes:
        latency_limit_ms: L0, latency above which a user write counts as slow.
        move_price_us: Price of a moved block, in microseconds of latency above the limit.
    """

    latency_limit_ms: float
    move_price_us: float


SHIPPED_COSTS = {
    "f2fs": PaceCost(2.1, 1004.1),
    "cleanerd": PaceCost(2.1, 406.4),
    "ssdfs": PaceCost(2.0, 498.9),
    "foreground": PaceCost(2.4, 1646.2),
}
"""By built-in algorithm, for the default file system on `paced-train`; printed by `python -m tools.pacing_costs`."""


class LfsPacingSubsystem(PaceVolumes):
    """Volumes in time that ask for victims and quotas, as a `BatchedSubsystem`."""

    observation = Bounds(pace.FEATURE_NAMES, 0.0, 1.0)
    recommendation: Choice | Bounds = Choice(pace.CHOICES)

    def snapshot(self) -> Snapshot:
        """Candidates, context and the moment of all rows."""
        return Snapshot(*self.observe())

    def check(self, recommendation: NDArray[Any]) -> NDArray[np.int8]:
        """(N,) int8 `Verdict` of the chosen candidates."""
        return VERDICTS[self.check_codes(recommendation)]

    def shadow(self) -> LfsPacingSubsystem:
        """The same episodes under the built-in algorithm."""
        return LfsPacingSubsystem(self.warm, self.instances, move_price_ns=self.move_price_ns)


@dataclass(frozen=True, kw_only=True)
class PacingArguments(LfsArguments):
    """The arguments of `LfsPacingEnv`."""

    workloads: str | Sequence[str] = "paced-train"
    arrivals: str = "bursts-400-2000-40"
    builtin: str = "f2fs"
    placement: str = "user-gc-split"
    latency_limit_ms: float | None = None
    move_price_us: float | None = None

    def setup(self) -> tuple[SubsystemFactory, ProxyOptions]:
        """Volumes in time, and the proxy's options."""
        cost = self.cost()
        config = dataclasses.replace(
            self.file_system(self.placement),
            f2fs=self._f2fs(),
            cleanerd=self._cleanerd(),
            open_loop=OpenLoopConfig(
                background=BACKGROUNDS[self.builtin], latency_limit_s=cost.latency_limit_ms / 1000
            ),
        )
        price_ns = round(1000 * cost.move_price_us)
        return functools.partial(LfsPacingSubsystem, self.warm(config), move_price_ns=price_ns), self.options(config)

    def domain_count(self) -> int:
        """One: the domains of a volume would share its one device in time.

        Raises:
            UserError: Another number is asked for.
        """
        if self.domains not in (1, AUTOMATIC):
            raise UserError(f"domains {self.domains}: {_ONE_DEVICE}, so that 1 is accepted")
        return 1

    def comparison(self) -> str:
        """How mode `auto` compares, in plain words."""
        return f"compared in time: {_ONE_DEVICE}"

    def cost(self) -> PaceCost:
        """What the objective counts: as given, else as shipped for the built-in algorithm.

        Raises:
            UserError: A number is not positive, or the limit is endless.
        """
        self.cleaning_policy()
        shipped = SHIPPED_COSTS[self.builtin]
        limit = shipped.latency_limit_ms if self.latency_limit_ms is None else self.latency_limit_ms
        price = shipped.move_price_us if self.move_price_us is None else self.move_price_us
        if limit > _LONGEST_LIMIT_MS:
            raise UserError(f"latency_limit_ms {limit}: must be at most {_LONGEST_LIMIT_MS:g}")
        if limit <= 0 or price < 0:
            raise UserError(f"latency_limit_ms {limit}, move_price_us {price}: a positive limit, and a price from 0 on")
        return PaceCost(limit, price)

    def cleaning_policy(self) -> CleaningPolicy:
        """Greedy, if there is such a built-in algorithm."""
        if self.builtin not in BACKGROUNDS:
            raise unknown_name("built-in algorithm", self.builtin, BACKGROUNDS)
        return CleaningPolicy.GREEDY

    def warm(self, config: LfsConfig) -> WarmVolumes:
        """Make the place where episodes begin; workloads without arrival times get those of `arrivals`."""
        if self.warm_volumes < 0:
            raise UserError(f"warm_volumes {self.warm_volumes}: must not be negative")
        make_arrivals(self.arrivals)  # a mistake also where all workloads have arrival times of their own
        workloads = [self._timed(make_workload(name)) for name in workload_names(self.workloads)]
        return WarmVolumes(config, workloads, volumes=self.warm_volumes, advance=advance_open_loop_rows)

    def _timed(self, workload: Workload) -> Workload:
        if workload.has_arrival_times:
            _refuse_endless_gaps(workload)
            return workload
        return dataclasses.replace(in_bursts(workload, make_arrivals(self.arrivals)), name=workload.name)

    def _f2fs(self) -> F2fsConfig:
        # The thread cleans a section a wake-up: with its sleeps as much shorter as segments are smaller than F2FS's,
        # it cleans as many bytes a second.
        scale = self.blocks_per_segment * self.segments_per_section / _F2FS_SEGMENT
        kept = super().file_system(self.placement).trigger_sections
        shipped = F2fsConfig()
        return F2fsConfig(
            reserved_sections=kept,
            overprovision_sections=kept,
            min_sleep_s=scale * shipped.min_sleep_s,
            max_sleep_s=scale * shipped.max_sleep_s,
            no_gc_sleep_s=scale * shipped.no_gc_sleep_s,
        )

    def _cleanerd(self) -> CleanerdConfig:
        # Its shares of clean segments are for volumes with more room: at a utilisation of 0.85 it would never rest.
        scale = self.blocks_per_segment * self.segments_per_section / _NILFS2_SEGMENT
        shipped = CleanerdConfig()
        return CleanerdConfig(
            min_clean_segments=0.025,
            max_clean_segments=0.05,
            reserved_segments=0.0,
            clean_check_interval_s=scale * shipped.clean_check_interval_s,
            cleaning_interval_s=scale * shipped.cleaning_interval_s,
            urgent_cleaning_interval_s=scale * shipped.urgent_cleaning_interval_s,
            retry_interval_s=scale * shipped.retry_interval_s,
        )


class _LatencyRendering:
    """Drawing that shows latencies too."""

    def _render_rgb(self, row: int) -> NDArray[np.uint8]:
        volumes = self._pace_volumes()
        limit_ns = volumes.warm.config.open_loop.latency_limit_s * 1e9
        segments = rendering.draw_segments(volumes, row)
        curve = rendering.draw_latencies(volumes.latency_histogram(row), limit_ns, segments.shape[1])
        return np.concatenate([segments, curve])

    def _render_ansi(self, row: int) -> str:
        volumes = self._pace_volumes()
        metrics = {name: float(value[row]) for name, value in volumes.metrics().items()}
        return (
            f"{rendering.describe_segments(volumes, row)}  latency ms: p50 {metrics['latency_p50_ms']:.2f} "
            f"p99 {metrics['latency_p99_ms']:.2f} p99.9 {metrics['latency_p999_ms']:.2f}  "
            f"stalls {metrics['stalls']:.0f} of {metrics['stall_ms']:.0f} ms"
        )

    def _pace_volumes(self) -> PaceVolumes:
        return cast(PaceVolumes, cast(Any, self).proxy.subsystem)


def _refuse_endless_gaps(workload: Workload) -> None:
    """Refuse times in a wrong unit: in a gap of years the cleaner would wake millions of times.

    Raises:
        UserError: Nothing is written for longer than a week.
    """
    if workload.trace is None:
        return
    written_us = workload.trace.time_us[workload.trace.is_write]
    days = float(np.diff(written_us).max(initial=0)) * workload.time_scale / _DAY_US
    if days > _LONGEST_GAP_DAYS:
        raise UserError(
            f"workload '{workload.name}': nothing is written for {days:,.0f} days: at most {_LONGEST_GAP_DAYS} are "
            "accepted; are its times in another unit? '@slowed-FACTOR' multiplies them"
        )


class LfsPacingEnv(_LatencyRendering, LfsEnv):
    """Decide when a log-structured file system cleans, which segment, and how many blocks at a time.

    ## Description
    The file system is that of `kml/LfsVictim-v0`, in time: user writes arrive at times of their own, in bursts with
    idle gaps between them, whether the device is ready or not, and wait for whatever it is doing. Cleaning in an idle
    gap disturbs nobody unless a write arrives meanwhile; cleaned too early, blocks are moved that the user would soon
    have overwritten. When free segments run out, a write waits for *foreground* cleaning. Nobody knows when a gap ends.

    The agent is asked in the background: 10 ms after the last write and again whenever four times that quiet time has
    passed, after each of its operations as long as no write arrives, and whenever the built-in algorithm's thread
    would clean; and in the foreground: when a write arrives and free segments are at or below the cleaning trigger. At
    the reserve only the built-in algorithm acts. A segment that has been cleaned in part goes first, whoever decides.

    The built-in algorithm `f2fs` is F2FS's background thread (sleep times, idle test; cost-benefit victims) with greedy
    foreground cleaning; `cleanerd` is NILFS2's daemon (oldest first, between a low and a high mark of clean segments),
    `ssdfs` SSDFS's gate by pending requests (greedy), `foreground` cleans in the foreground only. Sleeps of F2FS and
    NILFS2 are as much shorter as segments are smaller than theirs.

    ## Action Space
    `Discrete(14)`. An operation moves at most the quota's share of a segment's blocks; what is left of its victim is
    cleaned by later operations. A foreground operation with the full quota, or the built-in's, keeps the write waiting
    until free segments are above the trigger; one with a smaller quota lets it through, and action 1 lets B / 16 writes
    through.

    | Num | Action |
    | --- | --- |
    | 0 | what the built-in algorithm does at this moment: clean its own victim whole, or nothing |
    | 1 | nothing: wait until the next wake-up, or let B / 16 writes through |
    | 2, 3, 4 | clean the segment with the fewest valid blocks (greedy); quota 1, 1/4, 1/16 |
    | 5, 6, 7 | clean the best segment by cost-benefit; quota 1, 1/4, 1/16 |
    | 8, 9, 10 | clean the best segment by the square-root form of cost-benefit; quota 1, 1/4, 1/16 |
    | 11, 12, 13 | clean the oldest segment; quota 1, 1/4, 1/16 |

    While a segment is cleaned in part, actions 2 to 4 go on with it and 5 to 13 are masked (`action_masks()`,
    MaskablePPO's convention); choosing a masked one is rejected and the built-in algorithm acts.

    ## Observation Space
    `Box(0, 1, (75,), float32)`: 29 context features, 14 of the moment, then 8 for each of the four candidates.

    | Num | Name | Meaning | Scale |
    | --- | --- | --- | --- |
    | 0 | free_margin | free sections above the reserve | share of the span up to twice the cleaning trigger |
    | 1 | recent_write_amplification | of the last quarter volume | log2(WA) / 4 |
    | 2 | recent_victim_valid_share | mean valid share of the last quarter volume's victims | share |
    | 3-18 | overwrite_age_k | age of recently overwritten blocks, bucket 12 about one volume | share of overwrites |
    | 19-28 | segments_valid_k_percent | dirty segments with k to k + 10 % valid blocks | share of the segments |
    | 29 | foreground | a write is waiting | 0 or 1 |
    | 30 | builtin_cleans | the built-in algorithm would clean now | 0 or 1 |
    | 31 | quiet | time since the last write was done | log2(1 + t / 20 us) / 26 |
    | 32 | last_interval | between the last two writes | as quiet |
    | 33 | last_gap | last interval of 10 ms or more | as quiet |
    | 34 | mean_gap | such intervals, exponentially averaged | as quiet |
    | 35 | burst_writes | writes since the last gap | log2(1 + n) / 16 |
    | 36 | mean_burst_writes | writes between gaps, exponentially averaged | log2(1 + n) / 16 |
    | 37 | backlog | time until the device is free | as quiet |
    | 38 | slowest_latency | of the writes since the last decision | as quiet |
    | 39 | free_sections | above the reserve | log2(1 + n) / 6 |
    | 40 | free_above_trigger | above the cleaning trigger | n / 16 |
    | 41 | cleaned_in_part | valid blocks left in the segment that has been cleaned in part | share |
    | 42 | log_filled | filled part of the user's log | share |
    | 43 + 8c | present | candidate c is there | 0 or 1 |
    | 44 + 8c | valid_share | valid blocks u | share |
    | 45 + 8c | age | user writes t since its mtime | log2(1 + 16 t / P) / 8 |
    | 46 + 8c | quiet | user writes t since its last invalidation | log2(1 + t / B) / 8 |
    | 47 + 8c | open_age | user writes t since it was opened | log2(1 + 16 t / P) / 8 |
    | 48 + 8c | relocated | written by cleaning | 0 or 1 |
    | 49 + 8c | benefit | (1 - u) age / (1 + u) | as age |
    | 50 + 8c | invalidation_rate | invalid share per volume of user writes, r | log2(1 + r) / 6 |

    P is the blocks of the volume, B the blocks of a section.

    ## Rewards
    (cost of the built-in algorithm − cost) since the last step, at the same user writes; the cost is
    Σ max(0, latency − L0) / L0 over the user writes + λ · moved blocks / B. L0 is a tenth of the 99th percentile of
    the built-in algorithm's latencies on the training workloads, and λ makes both terms equal for it there
    (`python -m tools.pacing_costs` prints both); in the arguments, λ stands as the price of a block in latency. Under
    `efficiency="shadow"` the sum over an episode is exactly the cost saved.

    ## Starting State
    A volume in steady state: filled, then overwritten `warm_volumes` times under the built-in algorithm, in time, its
    thread's sleep included, with a workload drawn from `workloads`. `reset(options={"workload": NAME})` fixes the
    workload from then on, None frees it.

    ## Episode End
    Truncated after `episode_volumes` volumes of user writes. Never terminated.

    ## Information
    `mode`, `verdict` and `acted_by_agent` at every step; at the end `efficiency` (cost saved, in ns of latency above
    L0), `latency_p50_ms`, `latency_p99_ms`, `latency_p999_ms`, `latency_p9999_ms`, `latency_max_ms`, `excess_ms`
    (latencies above L0), `cost_ms` (that and the price of the moved blocks), `user_ms` (device time of the user's own
    writes), `stalls` and `stall_ms` (user writes that waited for cleaning), `foreground_operations`,
    `background_operations`, `workload`, `write_amplification`, `moved_blocks`, `free_sections` and more.

    ## Arguments
    | Argument | Default | Meaning |
    | --- | --- | --- |
    | workloads | "paced-train" | a suite, a workload or several (see the workloads page) |
    | arrivals | "bursts-400-2000-40" | when writes arrive, for workloads without arrival times |
    | segments, blocks_per_segment, segments_per_section | 256, 64, 1 | geometry; F2FS's segments hold 512 blocks |
    | utilisation | 0.85 | share of the main area that holds live blocks |
    | builtin | "f2fs" | built-in algorithm: f2fs, cleanerd, ssdfs or foreground |
    | placement | "user-gc-split" | which log a block goes to |
    | age_thresholds | (0.1, 0.4) | of placement "age-threshold", in volumes |
    | trigger_sections | reserve + 4 | free sections at which foreground cleaning starts |
    | latency_limit_ms, move_price_us | None | L0 and the price of a moved block; None: as shipped for the built-in |
    | mode | "recommendation" | emergency, learning, collaboration, recommendation or auto: the proxy decides |
    | efficiency | "shadow" | reward estimate: shadow, units or none |
    | episode_volumes | 5 | length of an episode in volumes of user writes |
    | window_volumes | 2 | length of a unit, where the mode works in units |
    | share, probes | None, False | the agent's share of units; probe units in recommendation mode |
    | domains | 1 | always 1: all cleaning shares one device |
    | latency_us, deadline_us | 0, None | time that the agent takes (writes arrive and are made), and has |
    | warm_volumes | 4 | user writes before an episode begins |

    ## Version History
    - v0: first version. Before its release, L0 was lowered from the 99th percentile to a tenth of it: cleaning in
      small parts already keeps all latencies below that percentile, and what was beyond it could not be told apart.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 10}  # noqa: RUF012
    arguments = PacingArguments


class LfsPacingVectorEnv(_LatencyRendering, LfsVectorEnv):
    """Many `LfsPacingEnv` stepped together by one compiled loop; same spaces, arguments and rewards."""

    metadata: dict[str, Any] = {**ProxyVectorEnv.metadata, **LfsPacingEnv.metadata}  # noqa: RUF012
    arguments = PacingArguments
