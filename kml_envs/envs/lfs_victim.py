"""`kml/LfsVictim-v0`: choose the segment that a log-structured file system cleans next."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.envs.lfs import LfsArguments, LfsEnv, LfsVectorEnv
from kml_envs.envs.proxy_env import ProxyVectorEnv, SubsystemFactory
from kml_envs.errors import UserError
from kml_envs.lfs import victim
from kml_envs.lfs.observation import CANDIDATES
from kml_envs.lfs.shadow import VolumeShadow
from kml_envs.lfs.victim import VictimVolumes
from kml_envs.proxy import Bounds, Choice, ProxyOptions, Snapshot, Verdict

VERDICTS = np.array(
    [
        Verdict.ACCEPTED,
        Verdict.SEGMENT_FREE,
        Verdict.SEGMENT_CURRENT,
        Verdict.SEGMENT_UNDER_CLEANING,
        Verdict.SEGMENT_FULLY_VALID,
        Verdict.SEGMENT_PROTECTED,
        Verdict.NO_SUCH_CANDIDATE,
    ],
    np.int8,
)
"""By code of `lfs.victim.check_victim`."""


class LfsVictimSubsystem(VictimVolumes):
    """Volumes that ask for victims, as a `BatchedSubsystem`."""

    observation = Bounds(victim.FEATURE_NAMES, 0.0, 1.0)
    recommendation: Choice | Bounds = Choice(CANDIDATES)

    def snapshot(self) -> Snapshot:
        """Candidates and context of all rows."""
        return Snapshot(*self.observe())

    def check(self, recommendation: NDArray[Any]) -> NDArray[np.int8]:
        """(N,) int8 `Verdict` of the chosen candidates."""
        codes = self.check_codes(recommendation)
        return VERDICTS[codes] if np.count_nonzero(codes) else codes

    def shadow(self) -> VolumeShadow:
        """The same episodes under the built-in algorithm."""
        return VolumeShadow(self.warm, self.instances)


@dataclass(frozen=True, kw_only=True)
class VictimArguments(LfsArguments):
    """The arguments of `LfsVictimEnv`."""

    placement: str = "user-gc-split"
    protection_volumes: float = 0.0

    def setup(self) -> tuple[SubsystemFactory, ProxyOptions]:
        """Volumes that ask for victims, and the proxy's options."""
        if self.protection_volumes < 0:
            raise UserError(f"protection_volumes {self.protection_volumes}: must not be negative")
        config = self.file_system(self.placement)
        protection = round(self.protection_volumes * config.geometry.volume_blocks)
        config = replace(config, cleaning=replace(config.cleaning, protection=protection))
        return functools.partial(LfsVictimSubsystem, self.warm(config)), self.options(config)


class LfsVictimEnv(LfsEnv):
    """Choose the segment that a log-structured file system cleans next.

    ## Description
    A log-structured file system writes every block to the end of a log; the old copy becomes garbage. Before free
    segments run out, a *victim* segment is chosen, its valid blocks are moved to another log, and the segment is free
    again. Moving costs device writes: *write amplification* is (user blocks + moved blocks) / user blocks. Greedy
    cleaning (fewest valid blocks) is the cheapest next operation, but it wears out cold segments' garbage too early
    and loses to policies that look ahead. The agent sees 32 candidates that the kernel side pre-selects, and
    recommends one; the proxy checks it and cleans it, or lets the built-in algorithm act.

    ## Action Space
    `Discrete(32)`: the candidate to clean. Candidate 0 is the built-in algorithm's own choice; then come the 12
    segments with the fewest valid blocks, the 12 best by cost-benefit and the 8 oldest, without repeats. Empty slots
    and segments under protection are masked (`action_masks()`, MaskablePPO's convention); choosing one is rejected and
    the built-in algorithm acts.

    ## Observation Space
    `Box(0, 1, (285,), float32)`: 29 context features, then 8 features for each of the 32 candidates.

    | Num | Name | Meaning | Scale |
    | --- | --- | --- | --- |
    | 0 | free_margin | free sections above the reserve | share of the span up to twice the cleaning trigger |
    | 1 | recent_write_amplification | of the last quarter volume | log2(WA) / 4 |
    | 2 | recent_victim_valid_share | mean valid share of the last quarter volume's victims | share |
    | 3-18 | overwrite_age_k | age of recently overwritten blocks, bucket 12 about one volume | share of overwrites |
    | 19-28 | segments_valid_k_percent | dirty segments with k to k + 10 % valid blocks | share of the segments |
    | 29 + 8c | present | slot c holds a candidate | 0 or 1 |
    | 30 + 8c | valid_share | valid blocks u | share |
    | 31 + 8c | age | user writes t since its mtime | log2(1 + 16 t / P) / 8 |
    | 32 + 8c | quiet | user writes t since its last invalidation | log2(1 + t / B) / 8 |
    | 33 + 8c | open_age | user writes t since it was opened | log2(1 + 16 t / P) / 8 |
    | 34 + 8c | relocated | written by cleaning | 0 or 1 |
    | 35 + 8c | benefit | (1 - u) age / (1 + u) | as age |
    | 36 + 8c | invalidation_rate | invalid share per volume of user writes, r | log2(1 + r) / 6 |

    P is the blocks of the volume, B the blocks of a section.

    ## Rewards
    (blocks that the built-in algorithm moved − blocks moved) / B since the last step, at the same user writes. Under
    `efficiency="shadow"` a second simulator runs the built-in algorithm on the same writes, so that the sum over an
    episode times B is exactly the block moves saved.

    ## Starting State
    A volume in steady state: filled, then overwritten `warm_volumes` times under the built-in algorithm, with a
    workload drawn from `workloads`. `reset(options={"workload": NAME})` fixes the workload from then on, None frees it.

    ## Episode End
    Truncated after `episode_volumes` volumes of user writes. Never terminated.

    ## Information
    `mode`, `verdict` and `acted_by_agent` at every step; at the end `efficiency` (blocks saved), `workload`,
    `write_amplification`, `moved_blocks`, `operations`, `free_sections`, `stall_ms`,
    `latency_p99_ms` (of the user's writes) and more.

    ## Arguments
    | Argument | Default | Meaning |
    | --- | --- | --- |
    | workloads | "synthetic-train" | a suite, a workload or several (see the workloads page) |
    | segments, blocks_per_segment, segments_per_section | 256, 64, 1 | geometry; F2FS's segments hold 512 blocks |
    | utilisation | 0.85 | share of the main area that holds live blocks |
    | builtin | "greedy" | built-in algorithm |
    | placement | "user-gc-split" | which log a block goes to |
    | age_thresholds | (0.1, 0.4) | of placement "age-threshold", in volumes |
    | protection_volumes | 0 | age, in volumes, up to which a sealed segment is refused to agents and to "fifo" |
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

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 10}  # noqa: RUF012
    arguments = VictimArguments


class LfsVictimVectorEnv(LfsVectorEnv):
    """Many `LfsVictimEnv` stepped together by one compiled loop; same spaces, arguments and rewards."""

    metadata: dict[str, Any] = {**ProxyVectorEnv.metadata, **LfsVictimEnv.metadata}  # noqa: RUF012
    arguments = VictimArguments
