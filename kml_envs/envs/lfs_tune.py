"""`kml/LfsTune-v0`: tune the cleaner of a log-structured file system, one control interval at a time."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.envs.lfs import LfsArguments, LfsEnv, LfsVectorEnv
from kml_envs.envs.proxy_env import ProxyVectorEnv, SubsystemFactory
from kml_envs.errors import UserError
from kml_envs.lfs import tune
from kml_envs.lfs.tune import TuneVolumes
from kml_envs.proxy import Bounds, Choice, ProxyOptions, Snapshot

DEFAULT_AGE_THRESHOLDS = (2.0**-3.3, 4 * 2.0**-3.3)


class LfsTuneSubsystem(TuneVolumes):
    """Volumes that ask for parameters, as a `BatchedSubsystem`."""

    observation = Bounds(tune.FEATURE_NAMES, 0.0, 1.0)
    recommendation: Choice | Bounds = Bounds(tune.ACTION_NAMES, -1.0, 1.0)

    def snapshot(self) -> Snapshot:
        """Context of all rows."""
        return Snapshot(self.observe(), None)

    def check(self, recommendation: NDArray[Any]) -> NDArray[np.int8]:
        """(N,) int8: every bounded recommendation is accepted."""
        return np.zeros(self.instances, np.int8)

    def shadow(self) -> LfsTuneSubsystem:
        """The same episodes under the built-in algorithm."""
        return LfsTuneSubsystem(self.warm, self.instances, interval_writes=self.interval_writes)


@dataclass(frozen=True, kw_only=True)
class TuneArguments(LfsArguments):
    """The arguments of `LfsTuneEnv`."""

    age_thresholds: Sequence[float] = DEFAULT_AGE_THRESHOLDS
    interval_volumes: float = 0.25

    def setup(self) -> tuple[SubsystemFactory, ProxyOptions]:
        """Volumes that ask for parameters, and the proxy's options."""
        if len(self.age_thresholds) != 2:
            raise UserError(f"age_thresholds {tuple(self.age_thresholds)}: this environment splits at two ages")
        config = self.file_system("age-threshold", keep_intervals=True)
        interval_writes = round(self.interval_volumes * config.geometry.volume_blocks)
        if interval_writes < 1:
            raise UserError(f"interval_volumes {self.interval_volumes}: must hold at least one user write")
        options = self.options(config)
        return functools.partial(LfsTuneSubsystem, self.warm(config), interval_writes=interval_writes), options


class LfsTuneEnv(LfsEnv):
    """Tune the cleaner of a log-structured file system, one control interval at a time.

    ## Description
    The file system is that of `kml/LfsVictim-v0`. Here the agent does not pick victims; it recommends the weights of
    the score by which the kernel side picks them, and how blocks are split into four logs by their *update interval*,
    and holds them for an interval of user writes. The update interval of a block is the time between two writes of it,
    smoothed as in F2FS's age extent cache (15 % for the newest, the volume's size at first). No single rule is best
    everywhere: greedy is best on uniform loads, cost-benefit on strongly skewed ones, and a split of the user's blocks
    gains much where the past of a block tells its future, and costs where it does not.

    ## Action Space
    `Box(-1, 1, (12,), float32)`. The section with the highest score is cleaned:
    `−u + 2 (a0 u² + a1 m + a2 m u + a3 i + a4 i u + c (a5 + a6 u + a7 m))`, where u is the valid share,
    `m = log2(1 + 16 (now − mtime) / P) / 4`, `i = log2(1 + (now − last invalidation) / B) / 4`, c is the log
    that wrote the section, from 0 for the first to 1 for the last, P the blocks of the volume, B the blocks of a
    section. Blocks are split at `P · 2^(−3.3 + 3 a8)` user writes and at the next two thresholds, each
    `2^(2 + 2 a9)` times the one before: blocks that the user writes by `2^(−4 + 5 a10)` times their update interval,
    blocks that cleaning moves by their interval plus `2^(−2 + 4 a11)` times their age. The zero action is greedy,
    with a first threshold of a tenth of the volume, and nearly all of the user's blocks in one log.

    | Num | Name | Weight of |
    | --- | --- | --- |
    | 0 | valid_share_squared | u² |
    | 1 | age | m |
    | 2 | age_times_valid_share | m u |
    | 3 | quiet | i |
    | 4 | quiet_times_valid_share | i u |
    | 5 | coldness | c |
    | 6 | coldness_times_valid_share | c u |
    | 7 | coldness_times_age | c m |
    | 8 | interval_threshold | exponent of the first threshold |
    | 9 | interval_ratio | exponent of the ratio of thresholds |
    | 10 | user_interval_scale | exponent of the scale of the user's blocks |
    | 11 | age_weight | exponent of the weight of the age of moved blocks |

    ## Observation Space
    `Box(0, 1, (46,), float32)`.

    | Num | Name | Meaning | Scale |
    | --- | --- | --- | --- |
    | 0 | free_margin | free sections above the reserve | share of the span up to twice the cleaning trigger |
    | 1 | recent_write_amplification | of the last interval | log2(WA) / 4 |
    | 2 | recent_victim_valid_share | mean valid share of the last interval's victims | share |
    | 3-18 | overwrite_age_k | age of recently overwritten blocks, bucket 12 about one volume | share of overwrites |
    | 19-28 | segments_valid_k_percent | dirty segments with k to k + 10 % valid blocks | share of the segments |
    | 29-44 | update_interval_k | update interval that was expected of these overwritten blocks | share of overwrites |
    | 45 | predictability | correlation of the logarithms of expected interval and age | 0..1 |

    ## Rewards
    (blocks that the built-in algorithm moved − blocks moved) / B since the last step, at the same user writes; under
    `efficiency="shadow"` the sum over an episode times B is exactly the block moves saved.

    ## Starting State
    A volume in steady state: filled, then overwritten `warm_volumes` times under the built-in algorithm, with a
    workload drawn from `workloads`. `reset(options={"workload": NAME})` fixes the workload from then on, None frees it.

    ## Episode End
    Truncated after `episode_volumes` volumes of user writes: 20 intervals by default. Never terminated.

    ## Information
    `mode`, `verdict` and `acted_by_agent` at every step; at the end `efficiency` (blocks saved), `workload`,
    `write_amplification`, `moved_blocks`, `operations`, `free_sections`, `stall_ms`,
    `latency_p99_ms` (of the user's writes) and more. With `info_decisions`
    a built-in decision of NaN stands for the built-in algorithm at its shipped settings.

    ## Arguments
    | Argument | Default | Meaning |
    | --- | --- | --- |
    | workloads | "synthetic-train" | a suite, a workload or several (see the workloads page) |
    | interval_volumes | 0.25 | length of a control interval in volumes of user writes |
    | segments, blocks_per_segment, segments_per_section | 256, 64, 1 | geometry; F2FS's segments hold 512 blocks |
    | utilisation | 0.85 | share of the main area that holds live blocks |
    | builtin | "greedy" | built-in algorithm, with user blocks in one log and moved ones split by age |
    | age_thresholds | (0.1015, 0.406) | of the built-in algorithm, in volumes |
    | trigger_sections | reserve + 4 | free sections at which cleaning starts |
    | mode | "recommendation" | emergency, learning, collaboration, recommendation or auto: the proxy decides |
    | efficiency | "shadow" | reward estimate: shadow, units or none |
    | episode_volumes | 5 | length of an episode in volumes of user writes |
    | window_volumes | 2 | length of a unit, where the mode works in units |
    | share, probes | None, False | the agent's share of units (auto: in learning); probe units in recommendation mode |
    | domains | 1 | mode auto: parts compared in space; 1: in time; "auto": as many of 256 segments as fit, if 9 do |
    | latency_us, deadline_us | 0, None | time that the agent takes (users write on), and has; 20 µs are one write |
    | warm_volumes | 4 | user writes before an episode begins |

    ## Version History
    - v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}  # noqa: RUF012
    arguments = TuneArguments


class LfsTuneVectorEnv(LfsVectorEnv):
    """Many `LfsTuneEnv` stepped together by one compiled loop; same spaces, arguments and rewards."""

    metadata: dict[str, Any] = {**ProxyVectorEnv.metadata, **LfsTuneEnv.metadata}  # noqa: RUF012
    arguments = TuneArguments
