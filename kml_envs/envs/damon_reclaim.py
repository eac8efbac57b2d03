"""`kml/DamonReclaim-v0`: tune proactive reclamation by DAMON, one control interval at a time."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.damon.memory_config import SWAP_DEVICES
from kml_envs.damon.reclaim import ReclaimPrograms
from kml_envs.damon.reclaim_settings import BUILTINS, watching_context
from kml_envs.damon.warm_programs import Machine
from kml_envs.envs.damon import DamonArguments, DamonEnv, DamonVectorEnv
from kml_envs.envs.proxy_env import ProxyVectorEnv, SubsystemFactory
from kml_envs.errors import UserError, unknown_name
from kml_envs.proxy import Bounds, Choice, ProxyOptions, Snapshot, Verdict
from kml_envs.proxy.verdict import reject


class DamonReclaimSubsystem(ReclaimPrograms):
    """Programs that ask for settings of reclamation, as a `BatchedSubsystem`."""

    observation = Bounds(ReclaimPrograms.feature_names, 0.0, 1.0)
    recommendation: Choice | Bounds = Bounds(ReclaimPrograms.action_names, -1.0, 1.0)

    def snapshot(self) -> Snapshot:
        """Features of all rows."""
        return Snapshot(self.observe(), None)

    def check(self, recommendation: NDArray[Any]) -> NDArray[np.int8]:
        """(N,) int8: what `damon.checks.harmful_settings` finds in the scheme that is recommended."""
        given = np.asarray(recommendation, np.float64)
        middle, low = self.watermarks(given)
        verdict = np.zeros(self.instances, np.int8)
        verdict = reject(verdict, self.quota_bytes(given) == 0, Verdict.PAGEOUT_WITHOUT_QUOTA)
        verdict = reject(verdict, low == 0, Verdict.WATERMARKS_NEVER_STOP)
        return reject(verdict, middle < low, Verdict.WATERMARKS_CROSSED)

    def shadow(self) -> DamonReclaimSubsystem:
        """The same episodes under the built-in algorithm."""
        return DamonReclaimSubsystem(
            self.warm,
            self.instances,
            interval_us=self.interval_us,
            builtin=self.builtin,
            attributes=self.attributes,
        )


@dataclass(frozen=True, kw_only=True)
class ReclaimArguments(DamonArguments):
    """The arguments of `DamonReclaimEnv`."""

    builtin: str = BUILTINS[0]
    swap: str = "zram"
    # What pays is idleness of seconds to minutes: the kernel's 5 ms and 100 ms find it no better, and cost more than
    # many programs have to gain. Of its 10 regions at least, one that is touched anywhere hides what is idle in it.
    sample_us: int = 200_000
    aggr_us: int = 2_000_000
    min_nr_regions: int = 400

    def machine(self) -> Machine:
        """The machine, with its swap device.

        Raises:
            UserError: There is no such swap device, or no memory.
        """
        if self.swap not in SWAP_DEVICES:
            raise unknown_name("swap device", self.swap, SWAP_DEVICES)
        machine, swap = super().machine(), SWAP_DEVICES[self.swap]
        if self.memory_share <= swap.memory_share:
            raise UserError(
                f"memory_share {self.memory_share}: must lie above {swap.memory_share:.3f}, what {self.swap} keeps of "
                "a page: else the program never fits"
            )
        return replace(machine, config=replace(machine.config, swap=swap))

    def setup(self) -> tuple[SubsystemFactory, ProxyOptions]:
        """Programs that ask for settings, and the proxy's options."""
        if self.builtin not in BUILTINS:
            raise unknown_name("built-in algorithm", self.builtin, BUILTINS)
        attributes, interval_us = self.attributes(), self.interval_us(self.aggr_us)
        options = self.options()
        warm = self.warm(watching_context(attributes))
        make = functools.partial(
            DamonReclaimSubsystem, warm, interval_us=interval_us, builtin=self.builtin, attributes=attributes
        )
        return make, options


class DamonReclaimEnv(DamonEnv):
    """Tune proactive reclamation by DAMON, one control interval at a time.

    ## Description
    A program runs on a simulated machine whose kernel watches its accesses with DAMON and pages out what has been idle
    for long. Paging out saves memory and costs time when the memory is wanted back: too eager settings stall the
    program, too timid ones save nothing, and what is right depends on the program and on its phase. The agent
    recommends the settings of the reclamation scheme for the next two seconds; the proxy refuses those that do harm.
    Monitor, schemes, memory and recorded programs are described on the pages of the memory model and of the memory
    workloads.

    ## Action Space
    `Box(-1, 1, (6,), float32)`, the settings of a `pageout` scheme for regions without accesses.

    | Number | Setting |
    | --- | --- |
    | 0 `min_age` | idle time from which memory is cold, `1.25 · 2^(6 a0)` s per GiB of it, in whole aggregations |
    | 1 `quota` | bytes per second, `2^30 · (2^(6 (a1 − 1)) − 2^−12)`; at −1 that is 0, which the kernel reads as none |
    | 2, 3 `nr_accesses_weight`, `age_weight` | priorities under the quota, `500 (1 + a)` per mille |
    | 4 `watermark_mid` | free memory below which the scheme is active, `500 (1 + a4)` per mille |
    | 5 `watermark_low` | free memory below which it stops, `50 (1 + a5)` per mille |

    Refused are a missing quota (`PAGEOUT_WITHOUT_QUOTA`), watermarks that never stop (`WATERMARKS_NEVER_STOP`, low at
    0) and watermarks out of order (`WATERMARKS_CROSSED`).

    ## Observation Space
    `Box(0, 1, (38,), float32)`, what the kernel side knows without seeing single accesses.

    | Features | Meaning |
    | --- | --- |
    | 0 | size of the program, `log2(bytes / 64 MiB) / 14` |
    | 1-4 | memory in use, resident and swapped, as shares of the program; free memory as a share of the machine's |
    | 5 | square root of the share of time with memory pressure (PSI some, average of 10 s) |
    | 6, 7 | square root of the share of time lost, of the last interval and as a running mean |
    | 8-11 | square roots of the program's shares paged out and faulted back per second, likewise |
    | 12 | faults in all pages moved |
    | 13 | windows in which the quota was used up |
    | 14 | square root of kdamond's share of a processor |
    | 15-18 | shares of the memory by accesses found in an aggregation: up to 5, 20, 50 and 100 % of the samples |
    | 19-31 | shares without accesses by idle time: below 0.2 s, 0.4 s, … 409.6 s, and longer |
    | 32-37 | the settings in force, each moved to 0..1; 0.5 under the built-in algorithm |

    ## Rewards
    Cost saved against the built-in algorithm in the same interval, in tenths of an interval. The cost is half the
    memory in use, as a share of the program's size, plus half the time lost, integrated over time: the negative of the
    score `0.5 · saving − 0.5 · slowdown`, but for a constant.

    ## Starting State
    A workload and one of four places in it, drawn from the seed, after a warm-up in which DAMON has only watched. All
    memory is resident, as far as it fits, whatever the built-in algorithm: so all policies begin alike.
    `reset(options={"workload": NAME})` fixes the workload from then on, None frees it.

    ## Episode End
    Truncated after `episode_s` seconds of the program; never terminated.

    ## Information
    `mode`, `verdict`, `acted_by_agent` at every step. At the end of an episode also `efficiency`, `score`,
    `memory_saving`, `slowdown`, `paged_out_mib`, `major_faults`, `monitor_cpu_share`, `regions`, `operations` and
    `workload` (its index). With `info_decisions` a built-in decision of NaN stands for the built-in algorithm at its
    shipped settings.

    ## Arguments
    | Argument | Default | Meaning |
    | --- | --- | --- |
    | workloads | "memory-real-train" | a suite, a workload or several (see the memory workloads page) |
    | builtin | "damon_reclaim" | built-in algorithm: damon_reclaim, prcl, prcl_auto, pdarc or senpai |
    | interval_s | 2 | length of a control interval |
    | swap | "zram" | swap device: zram, nvme or cxl |
    | memory_share | 1.5 | memory of the machine over the size of the program, where the workload does not fix it |
    | sample_us, aggr_us | 200000, 2000000 | sampling and aggregation interval of the monitor, under all algorithms |
    | min_nr_regions | 400 | regions that it has at least; never more than half of `max_nr_regions` |
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
    arguments = ReclaimArguments


class DamonReclaimVectorEnv(DamonVectorEnv):
    """Many `DamonReclaimEnv` stepped together by one compiled loop; same spaces, arguments and rewards."""

    metadata: dict[str, Any] = {**ProxyVectorEnv.metadata, **DamonReclaimEnv.metadata}  # noqa: RUF012
    arguments = ReclaimArguments
