"""`kml/DamonTier-v0`: tune tiering by DAMON, one control interval at a time."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.damon.checks import too_few_samples
from kml_envs.damon.config import MonitoringAttributes
from kml_envs.damon.memory_config import MemoryConfig
from kml_envs.damon.tier import TierPrograms
from kml_envs.damon.tier_settings import BUILTINS, builtin_context, watching_context
from kml_envs.damon.warm_programs import Machine
from kml_envs.envs.damon import DamonArguments, DamonEnv, DamonVectorEnv
from kml_envs.envs.proxy_env import ProxyVectorEnv, SubsystemFactory
from kml_envs.errors import UserError, unknown_name
from kml_envs.proxy import Bounds, Choice, ProxyOptions, Snapshot, Verdict
from kml_envs.proxy.verdict import reject


class DamonTierSubsystem(TierPrograms):
    """Programs that ask for settings of tiering, as a `BatchedSubsystem`."""

    observation = Bounds(TierPrograms.feature_names, 0.0, 1.0)
    recommendation: Choice | Bounds = Bounds(TierPrograms.action_names, -1.0, 1.0)

    def snapshot(self) -> Snapshot:
        """Features of all rows."""
        return Snapshot(self.observe(), None)

    def check(self, recommendation: NDArray[Any]) -> NDArray[np.int8]:
        """(N,) int8: what `damon.checks.harmful_settings` finds in the schemes that are recommended."""
        settings = self.recommended(np.asarray(recommendation, np.float64))
        hot_accesses, _, hot_quota, cold_accesses, _, cold_quota, _ = settings.T
        verdict = np.zeros(self.instances, np.int8)
        verdict = reject(verdict, np.minimum(hot_quota, cold_quota) == 0, Verdict.MIGRATION_WITHOUT_QUOTA)
        return reject(verdict, hot_accesses <= cold_accesses, Verdict.MIGRATION_THRESHOLDS_CROSSED)

    def shadow(self) -> DamonTierSubsystem:
        """The same episodes under the built-in algorithm."""
        return DamonTierSubsystem(
            self.warm,
            self.instances,
            interval_us=self.interval_us,
            builtin=self.builtin,
            attributes=self.attributes,
        )


@dataclass(frozen=True, kw_only=True)
class TierArguments(DamonArguments):
    """The arguments of `DamonTierEnv`."""

    workloads: str | Sequence[str] = "memory-train"
    builtin: str = BUILTINS[0]
    memory_share: float = 0.5
    slow_latency_ratio: float = 2.2
    sample_us: int = 20_000
    aggr_us: int = 400_000

    def attributes(self) -> MonitoringAttributes:
        """How accesses are monitored.

        Raises:
            UserError: An argument is out of range, or an aggregation has too few samples.
        """
        attributes = super().attributes()
        for refusal in too_few_samples(attributes):
            raise UserError(refusal.message)
        return attributes

    def machine(self) -> Machine:
        """The machine: a fast node 0 smaller than the program, and a slow node 1 that holds all of it.

        Raises:
            UserError: Node 0 is as large as the program, or next to nothing, or not the faster one.
        """
        if not 0.05 <= self.memory_share <= 0.95:
            raise UserError(f"memory_share {self.memory_share}: must lie in 0.05..0.95")
        if not 1.0 < self.slow_latency_ratio <= 20:
            raise UserError(f"slow_latency_ratio {self.slow_latency_ratio}: must lie above 1 and up to 20")
        config = MemoryConfig(slow_latency_ratio=self.slow_latency_ratio)
        return Machine(config, self.memory_share, slow_share=1.0)

    def setup(self) -> tuple[SubsystemFactory, ProxyOptions]:
        """Programs that ask for settings, and the proxy's options."""
        if self.builtin not in BUILTINS:
            raise unknown_name("built-in algorithm", self.builtin, BUILTINS)
        attributes, interval_us = self.attributes(), self.interval_us(self.aggr_us)
        options = self.options()
        own_regions = builtin_context(self.builtin, attributes).monitoring_attrs.max_nr_regions
        warm = self.warm(watching_context(attributes), own_regions)
        make = functools.partial(
            DamonTierSubsystem, warm, interval_us=interval_us, builtin=self.builtin, attributes=attributes
        )
        return make, options


class DamonTierEnv(DamonEnv):
    """Tune tiering by DAMON, one control interval at a time.

    ## Description
    A program runs on a machine with two memory nodes: node 0 is fast and smaller than the program, node 1 is slow (a
    CXL expander) and holds the rest. The kernel watches the program's accesses with DAMON; one scheme migrates cold
    regions from node 0 to node 1, another hot ones back. Every access to node 1 costs time; so does every page that is
    moved, and every look at one. What was worth moving depends on how long it stays hot, how much room there is, and
    on the program's phase. The agent recommends thresholds and quotas of both schemes for the next two seconds; the
    proxy refuses those that do harm. Monitor, schemes, memory and recorded programs are described on the pages of the
    memory model and of the memory workloads.

    ## Action Space
    `Box(-1, 1, (7,), float32)`, the settings of a `migrate_hot` scheme towards node 0 and a `migrate_cold` scheme
    towards node 1, each applied once a second.

    | Number | Setting |
    | --- | --- |
    | 0 `hot_accesses` | share of an aggregation's samples that finds hot memory accessed, at least `(1 + a0)² / 4` |
    | 1 `hot_age` | for at least `(2^(4 (1 + a1)) − 1) / 4` seconds |
    | 2 `hot_quota` | bytes per second, `2^30 · (2^(6 (a2 − 1)) − 2^−12)`; at −1 that is 0, read as none |
    | 3 `cold_accesses` | share of the samples that finds cold memory accessed, at most `(1 + a3)² / 8` |
    | 4 `cold_age` | for at least `5 · 2^(5 a4)` seconds |
    | 5 `cold_quota` | as the hot one |
    | 6 `free_goal` | share of node 0 from which on nothing is demoted because it is free, `0.02 · 2^(4 a6)` |

    Shares become whole samples, cut off. Under a quota, what is accessed more and for longer comes first in the one
    scheme and last in the other. Each page is looked at once more: only young ones are promoted, and where cold memory
    is not accessed at all, only others are demoted.

    Refused are a missing quota (`MIGRATION_WITHOUT_QUOTA`) and thresholds by which the same memory is hot and cold, so
    that it would go back and forth (`MIGRATION_THRESHOLDS_CROSSED`: the hot one not above the cold one, in samples).

    ## Observation Space
    `Box(0, 1, (41,), float32)`, what the kernel side knows without seeing single accesses.

    | Features | Meaning |
    | --- | --- |
    | 0 | size of the program, `log2(bytes / 64 MiB) / 14` |
    | 1, 2 | size of node 0 as a share of the program; square root of its free share |
    | 3-5 | square roots of the share of time lost, of the last interval, as a running mean, and to nodes alone |
    | 6-9 | square roots of node 0's shares promoted and demoted per second, of the last interval and as running means |
    | 10 | the lesser of the two means over the greater |
    | 11, 12 | windows in which the hot and the cold quota were used up |
    | 13 | square root of kdamond's share of a processor |
    | 14 | sampling interval, `log2(milliseconds) / 14` |
    | 15 | share of the accesses found that are to node 1 |
    | 16-19 | square roots of its shares on node 0 that up to 5, 20, 50 and 100 % of the samples found accessed |
    | 20-24 | the same of what was not accessed, by idle time: below 1 s, 4 s, 16 s, 64 s, and longer |
    | 25-33 | the same nine of node 1 |
    | 34-40 | the settings in force, each moved to 0..1; 0.5 under the built-in algorithm |

    ## Rewards
    Cost saved against the built-in algorithm in the same interval, in tenths of an interval. The cost is the time
    lost against a machine whose memory is all fast: waiting for node 1 and its bandwidth, for migrations, and what
    kdamond takes from the program.

    ## Starting State
    A workload and one of four places in it, drawn from the seed, after a warm-up in which DAMON has only watched. Node
    0 holds the lower part of the addresses, as if the program had touched its memory in that order, whatever the
    built-in algorithm: so all policies begin alike. `reset(options={"workload": NAME})` fixes the workload from then
    on, None frees it.

    ## Episode End
    Truncated after `episode_s` seconds of the program; never terminated.

    ## Information
    `mode`, `verdict`, `acted_by_agent` at every step. At the end of an episode also `efficiency`, `score` (the
    negative of `slowdown`), `slowdown`, `slow_access_share`, `promoted_mib`, `demoted_mib`, `migrated_mib`,
    `monitor_cpu_share`, `regions`, `operations` and `workload` (its index). With `info_decisions` a built-in decision
    of NaN stands for the built-in algorithm at its shipped settings.

    ## Arguments
    | Argument | Default | Meaning |
    | --- | --- | --- |
    | workloads | "memory-train" | a suite, a workload or several (see the memory workloads page) |
    | builtin | "mem_tier" | built-in algorithm: mem_tier, hmsdk, fixed_thresholds or none |
    | interval_s | 2 | length of a control interval |
    | memory_share | 0.5 | memory of node 0 over the size of the program, 0.05 to 0.95 |
    | slow_latency_ratio | 2.2 | latency of node 1 over that of node 0 |
    | sample_us, aggr_us | 20000, 400000 | sampling and aggregation interval of the monitor |
    | min_nr_regions | 10 | regions that it has at least; never more than half of `max_nr_regions` |
    | max_nr_regions | 1000 | regions that it may have |
    | mode | "recommendation" | emergency, learning, collaboration, recommendation or auto: the proxy decides |
    | efficiency | "shadow" | reward estimate: shadow, units or none |
    | episode_s | 120 | length of an episode |
    | window_s | 30 | length of a unit, where the mode works in units |
    | share, probes | None, False | the agent's share of units (auto: in learning); probe units in recommendation mode |
    | latency_us, deadline_us | 0, None | time that the agent takes (the program runs on), and has |
    | warm_s | 30 | seconds before an episode begins |

    ## Version History
    - v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}  # noqa: RUF012
    arguments = TierArguments


class DamonTierVectorEnv(DamonVectorEnv):
    """Many `DamonTierEnv` stepped together by one compiled loop; same spaces, arguments and rewards."""

    metadata: dict[str, Any] = {**ProxyVectorEnv.metadata, **DamonTierEnv.metadata}  # noqa: RUF012
    arguments = TierArguments
