"""`kml/DamonMonitor-v0`: tune DAMON's monitor itself, one control interval at a time."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.damon.checks import FEWEST_SAMPLES, LEAST_MIN_NR_REGIONS
from kml_envs.damon.monitor_settings import BUILTINS, builtin_attributes, watching_context
from kml_envs.damon.monitor_tuning import CPU_PRICE, REFERENCE_US, MonitorPrograms
from kml_envs.envs.damon import DamonEnv, DamonVectorEnv, ProgramArguments
from kml_envs.envs.proxy_env import ProxyVectorEnv, SubsystemFactory
from kml_envs.errors import UserError, unknown_name
from kml_envs.proxy import Bounds, Choice, ProxyOptions, Snapshot, Verdict
from kml_envs.proxy.verdict import reject


class DamonMonitorSubsystem(MonitorPrograms):
    """Programs that ask for the monitor's attributes, as a `BatchedSubsystem`."""

    observation = Bounds(MonitorPrograms.feature_names, 0.0, 1.0)
    recommendation: Choice | Bounds = Bounds(MonitorPrograms.action_names, -1.0, 1.0)

    def snapshot(self) -> Snapshot:
        """Features of all rows."""
        return Snapshot(self.observe(), None)

    def check(self, recommendation: NDArray[Any]) -> NDArray[np.int8]:
        """(N,) int8: what `damon.checks` finds in the attributes that are recommended, the kernel's refusals first."""
        given = self.recommended(recommendation)
        fewest, most = given["min_nr_regions"], given["max_nr_regions"]
        verdict = np.zeros(self.instances, np.int8)
        verdict = reject(verdict, fewest < LEAST_MIN_NR_REGIONS, Verdict.TOO_FEW_REGIONS)
        verdict = reject(verdict, fewest > most, Verdict.REGION_LIMITS_CROSSED)
        samples = given["aggr_us"] // np.maximum(given["sample_us"], 1)
        return reject(verdict, samples < FEWEST_SAMPLES, Verdict.TOO_FEW_SAMPLES)

    def shadow(self) -> DamonMonitorSubsystem:
        """The same episodes under the built-in algorithm."""
        return DamonMonitorSubsystem(
            self.warm,
            self.instances,
            interval_us=self.interval_us,
            builtin=self.builtin,
            cpu_price=self.cpu_price,
            reference_us=self.reference_us,
        )


@dataclass(frozen=True, kw_only=True)
class MonitorArguments(ProgramArguments):
    """The arguments of `DamonMonitorEnv`."""

    workloads: str | Sequence[str] = "memory-train"
    builtin: str = BUILTINS[0]
    cpu_price: float = CPU_PRICE
    reference_us: float = REFERENCE_US
    interval_s: float = 5.0
    episode_s: float = 300.0
    window_s: float = 60.0
    warm_s: float = 120.0

    def setup(self) -> tuple[SubsystemFactory, ProxyOptions]:
        """Programs that ask for attributes, and the proxy's options."""
        if self.builtin not in BUILTINS:
            raise unknown_name("built-in algorithm", self.builtin, BUILTINS)
        if not self.cpu_price >= 0:
            raise UserError(f"cpu_price {self.cpu_price}: must not be negative")
        if not 1_000 <= self.reference_us <= 60_000_000:
            raise UserError(f"reference_us {self.reference_us}: must lie in 1000..60000000")
        interval_us = self.interval_us(builtin_attributes("defaults", self.region_room()).aggr_us)
        warm = self.warm(watching_context(self.region_room()))
        make = functools.partial(
            DamonMonitorSubsystem,
            warm,
            interval_us=interval_us,
            builtin=self.builtin,
            cpu_price=self.cpu_price,
            reference_us=self.reference_us,
        )
        return make, self.options()


class DamonMonitorEnv(DamonEnv):
    """Tune DAMON's monitor, one control interval at a time.

    ## Description
    DAMON watches a program's accesses through samples. Sampling seldom misses what is touched often, and cannot tell
    often from always; sampling often costs processor time; long aggregations are precise and out of date, short ones
    the contrary; many regions see small things and cost time each. What is right depends on the program and on its
    phase. The agent recommends the monitor's attributes for the next five seconds; the proxy refuses what the kernel
    refuses, and what it accepts although the picture becomes useless. Attributes are changed as the kernel does online:
    at the end of the sampling interval, results converted, the running aggregation begun anew.

    The picture that somebody could rely on at a moment is that of the last aggregation that has ended. Its error is
    `∫|m − t| / ∫(m + t)` over the addresses, where `t` is the share of the pages touched within `reference_us` and `m`
    what the picture says of it: 0 for a true picture, 1 for one with nothing in common with the truth, whatever the
    size of the memory and the rates; one minus it is the F1 score of the touched memory. A region in which k of n
    samples found an access stands for `log((n + ½) / (n + ½ − k))` touches per page and sampling interval.

    ## Action Space
    `Box(-1, 1, (4,), float32)`. All numbers are rounded to powers of two, written `[…]`, and one that is in force stays
    until the recommendation is more than three quarters of a power away from it: so a little noise changes nothing.

    | Number | Setting |
    | --- | --- |
    | 0 `sample_interval` | sampling interval, `5 ms · 2^[5.5 (1 + a0)]`: 5 ms to 10.24 s |
    | 1 `samples` | samples in an aggregation, `20 · 2^[3 a1]`: 2 to 160 |
    | 2 `min_regions` | least number of regions, `20 · 2^[3 a2]`: 2 to 160 |
    | 3 `max_regions` | largest number of regions, `max_nr_regions · 2^[1.5 (a3 − 1)]`: an eighth of them to all |

    Refused are fewer than three regions (`TOO_FEW_REGIONS`) and a least number above the largest
    (`REGION_LIMITS_CROSSED`), as by the kernel, and fewer than five samples in an aggregation (`TOO_FEW_SAMPLES`).

    ## Observation Space
    `Box(0, 1, (31,), float32)`, what the kernel side knows; nothing of the true accesses.

    | Features | Meaning |
    | --- | --- |
    | 0 | size of the program, `log2(bytes / 64 MiB) / 14` |
    | 1 | sampling interval in force, `log2(interval / 5 ms) / 11` |
    | 2 | samples in an aggregation, `log2 / 8` |
    | 3, 4 | least and largest number of regions, `log2 / 10` and `log2 / 14` |
    | 5 | whether the built-in algorithm's attributes are in force |
    | 6 | regions, as a share of `max_nr_regions` |
    | 7 | square root of the accesses found in all that could be, weighted by size: what auto-tuning goes by |
    | 8 | square root of the share of the memory that is touched within `reference_us`, as the picture has it |
    | 9, 10 | error of the last picture against the one before, and its running mean |
    | 11 | pictures taken in the last control interval, `log2(1 + n) / 6` |
    | 12 | age of the picture, `log2(1 + seconds) / 8` |
    | 13, 14 | square root of kdamond's share of a processor, in the last interval and as a running mean |
    | 15-22 | shares of the memory by touched share in the picture: none, up to .02, .05, .15, .4, .8, .99, above |
    | 23-30 | shares of the memory by how long its regions have not changed: up to 1, 2, 4, …, 64 s, and longer |

    ## Rewards
    Cost saved against the built-in algorithm in the same interval, in tenths of an interval. The cost is the error of
    the picture plus `cpu_price` times kdamond's share of a processor, integrated over time. The shipped price is such
    that the kernel's fixed defaults pay as much for the one as for the other on the training workloads.

    ## Starting State
    A workload and one of four places in it, drawn from the seed, after a warm-up in which the kernel has tuned the
    intervals, whatever the built-in algorithm: so all policies begin alike. `reset(options={"workload": NAME})` fixes
    the workload from then on, None frees it.

    ## Episode End
    Truncated after `episode_s` seconds of the program; never terminated.

    ## Information
    `mode`, `verdict`, `acted_by_agent` at every step. At the end of an episode also `efficiency`, `score` (the negative
    of the mean cost), `access_error`, `monitor_cpu_share`, `pictures`, `sample_ms`, `regions`, `operations` and
    `workload` (its index). With `info_decisions` a built-in decision of NaN stands for the built-in algorithm.

    ## Arguments
    | Argument | Default | Meaning |
    | --- | --- | --- |
    | workloads | "memory-train" | a suite, a workload or several (see the memory workloads page) |
    | builtin | "autotune" | built-in algorithm: autotune (4 %, 3, 5 ms, 10 s), defaults (5 ms, 100 ms) or hmsdk |
    | reference_us | 100000 | time that accesses are counted in, by default the kernel's aggregation interval |
    | cpu_price | 19.7 | what the whole of a processor costs, in access error |
    | interval_s | 5 | length of a control interval |
    | max_nr_regions | 1000 | regions that there is room for, and that the built-in algorithms may have |
    | mode | "recommendation" | emergency, learning, collaboration, recommendation or auto: the proxy decides |
    | efficiency | "shadow" | reward estimate: shadow, units or none |
    | episode_s | 300 | length of an episode |
    | window_s | 60 | length of a unit, where the mode works in units |
    | share, probes | None, False | the agent's share of units (auto: in learning); probe units in recommendation mode |
    | latency_us, deadline_us | 0, None | time that the agent takes (the program runs on), and has |
    | warm_s | 120 | seconds before an episode begins |

    ## Version History
    - v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}  # noqa: RUF012
    arguments = MonitorArguments


class DamonMonitorVectorEnv(DamonVectorEnv):
    """Many `DamonMonitorEnv` stepped together by one compiled loop; same spaces, arguments and rewards."""

    metadata: dict[str, Any] = {**ProxyVectorEnv.metadata, **DamonMonitorEnv.metadata}  # noqa: RUF012
    arguments = MonitorArguments
