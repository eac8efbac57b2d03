"""Whether mode `auto` trusts the right agents, how soon, and at what cost: the table of the proxy page.

    python benchmarks/proxy_trust.py [--seeds 100] [--first-seed 1] [--only NAME ...]

The agents are cleaning policies, so that what is true can be measured: before each row both sides run alone. Everything
else is the proxy as it is shipped; only the data set is empty, since these agents need none. A run ends for good once
it has shown what its row asks for.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.config import CleaningConfig, CleaningPolicy, Geometry, LfsConfig
from kml_envs.lfs.policies import select_victim
from kml_envs.lfs.section_index import first_section
from kml_envs.lfs.simulator import advance, clean
from kml_envs.lfs.subsystem import BoolArray, FloatArray, IntArray, LfsVolumes
from kml_envs.lfs.victim import forecast_cleaning
from kml_envs.lfs.volume import population, slots_per_section
from kml_envs.lfs.warmup import WarmVolumes
from kml_envs.proxy import Bounds, Choice, MLModelProxy, Mode, ProxyOptions, Snapshot
from kml_envs.proxy.efficiency import LockstepShadow
from kml_envs.proxy.protocols import Shadow
from kml_envs.workloads.synthetic import Phase, PhaseKind, Workload, hot_cold, shifting

GREEDY, COST_BENEFIT = int(CleaningPolicy.GREEDY), int(CleaningPolicy.COST_BENEFIT)
HARMFUL = 1000
"""Instead of a policy: the section with the most valid blocks."""


class RivalVolumes(LfsVolumes):
    """Volumes whose agent is another cleaning policy: decision 0 is the built-in algorithm's victim, 1 the rival's."""

    observation = Bounds(["nothing"], 0.0, 1.0)
    recommendation: Choice | Bounds = Choice(2)

    def __init__(self, warm: WarmVolumes, instances: int) -> None:
        """Allocate the volumes; `rival` (N,) int64 says which policy the agent is."""
        super().__init__(warm, instances)
        self.rival: IntArray = np.zeros(instances, np.int64)
        self.first_phase_writes: int | None = None
        self._victims: IntArray = np.full(instances, -1, np.int64)

    def reset(self, rows: BoolArray, seeds: NDArray[np.uint64]) -> None:
        """Begin an episode; with `first_phase_writes` at the start of the workload's first phase."""
        super().reset(rows, seeds)
        if self.first_phase_writes is not None:
            source = self.state.volumes["source"]
            source["phase"][rows] = source["first_phase"][rows]
            source["remaining"][rows] = self.first_phase_writes

    def snapshot(self) -> Snapshot:
        """An empty data set; the rival looks at the volume itself."""
        _rival_victims(self.state.volumes, self.rival, self._victims)
        return Snapshot(np.zeros((self.instances, 1), np.float32), None)

    def builtin_decision(self) -> IntArray:
        """(N,) int64 zeros."""
        return np.zeros(self.instances, np.int64)

    def check(self, recommendation: IntArray) -> NDArray[np.int8]:
        """(N,) int8: both are always possible."""
        return np.zeros(self.instances, np.int8)

    def forecast(self, decision: IntArray) -> tuple[FloatArray, FloatArray]:
        """(N,) float64 each: blocks moved and freed."""
        moved, freed = np.zeros((2, self.instances))
        _forecast_rivals(self.state.volumes, self._victims, decision, moved, freed)
        return moved, freed

    def pending(self) -> BoolArray:
        """(N,) bool: a cleaning decision is waiting."""
        return np.asarray(self.state.volumes["pending"] != 0)

    def execute(self, decision: IntArray, ask: BoolArray, until: IntArray, rows: BoolArray) -> None:
        """See BatchedSubsystem."""
        _execute_rivals(self.state.volumes, self._victims, decision, ask, until, rows)

    def shadow(self) -> RivalVolumes:
        """The same episodes under the built-in algorithm."""
        twin = RivalVolumes(self.warm, self.instances)
        twin.first_phase_writes = self.first_phase_writes
        return twin


@compiled
def _rival_victims(volumes: Record, rivals: Record, victims: Record) -> None:
    for i in range(volumes.size):
        if volumes[i].pending:
            if rivals[i] == HARMFUL:
                victims[i] = _most_valid(volumes[i])
            else:
                victims[i] = select_victim(volumes[i], rivals[i])


@compiled
def _most_valid(volume: Record) -> int:
    row = slots_per_section(volume) - 1
    while row > 0 and population(volume)[row] == 0:
        row -= 1
    return first_section(volume, row, 0)


@compiled
def _forecast_rivals(volumes: Record, victims: Record, chosen: Record, moved: Record, freed: Record) -> None:
    for i in range(volumes.size):
        if volumes[i].pending:
            section = victims[i] if chosen[i] else volumes[i].suggestion
            forecast_cleaning(volumes[i], section, moved[i : i + 1], freed[i : i + 1])


@compiled
def _execute_rivals(volumes: Record, victims: Record, chosen: Record, ask: Record, until: Record, rows: Record) -> None:
    for i in range(volumes.size):
        if rows[i]:
            if volumes[i].pending:
                clean(volumes[i], victims[i] if chosen[i] else volumes[i].suggestion)
            advance(volumes[i], until[i], ask[i])


HOT_COLD = hot_cold(0.95, 0.05)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: For --only.
        says: What the row is about.
        builtin: Policy of the built-in algorithm.
        agent: Policy of the agent.
        volumes: Volumes of user writes of a run.
        domains: Domains of a volume; 1: compared in time.
        share: Share of the agent while learning; None: the default.
        efficiency: `shadow` or `none`.
        harmful: Volumes between which the agent is harmful instead; None: never.
        load: The load.
        shift: Volumes after which the load's second phase begins; None: it has one phase.
        until: Mode that a run is over with; None: never.
    """

    name: str
    says: str
    builtin: int
    agent: int
    volumes: float
    domains: int = 1
    share: float | None = None
    efficiency: str = "none"
    harmful: tuple[float, float] | None = None
    load: Workload = HOT_COLD
    shift: float | None = None
    until: Mode | None = None


CIRCULAR = Phase(PhaseKind.CIRCULAR_LOG, volumes=1000.0, hot_writes=0.5, hot_blocks=0.3)
SHIFTING = shifting("hot-cold-then-log", (Phase(PhaseKind.HOT_COLD, 1000.0, 0.95, 0.05), CIRCULAR))
UP = Mode.RECOMMENDATION
ROWS = (
    Row("better-time", "truly better, in time", GREEDY, COST_BENEFIT, 100, until=UP),
    Row("better-half", "truly better, in time, learning share 1/2", GREEDY, COST_BENEFIT, 40, share=0.5, until=UP),
    Row("better-space", "truly better, in space", GREEDY, COST_BENEFIT, 12, domains=8, until=UP),
    Row("worse-time", "truly worse, in time", COST_BENEFIT, GREEDY, 100, until=UP),
    Row("worse-half", "truly worse, in time, learning share 1/2", COST_BENEFIT, GREEDY, 100, share=0.5, until=UP),
    Row("worse-space", "truly worse, in space", COST_BENEFIT, GREEDY, 60, domains=8, until=UP),
    Row("same-time", "the built-in algorithm itself, in time", GREEDY, GREEDY, 100, until=UP),
    Row("same-space", "the built-in algorithm itself, in space", GREEDY, GREEDY, 60, domains=8, until=UP),
    Row("harmful-shadow", "most harmful victims, shadow", GREEDY, HARMFUL, 60, efficiency="shadow"),
    Row("harmful-space", "most harmful victims, in space", GREEDY, HARMFUL, 60, domains=8),
    Row("harmful-time", "most harmful victims, in time", GREEDY, HARMFUL, 60),
    Row("turns", "good, harmful in volumes 40-50, good again", GREEDY, COST_BENEFIT, 100, share=0.5, harmful=(40, 50)),
    Row("turns-space", "the same in space, volumes 20-24", GREEDY, COST_BENEFIT, 60, domains=8, harmful=(20, 24)),
    Row(
        "shift", "the load shifts at volume 40: then it is worse", GREEDY, COST_BENEFIT, 100, share=0.5,
        load=SHIFTING, shift=40,
    ),
    Row(
        "shift-space", "the same in space, at volume 20", GREEDY, COST_BENEFIT, 60, domains=8, load=SHIFTING, shift=20
    ),
)  # fmt: skip


@dataclass
class Outcome:
    """What the runs of a row have shown, R runs.

    Attributes:
        reached: (R,) float64 volumes at which each mode was first seen; NaN: never.
        total: (R,) float64, cost over that of the built-in algorithm alone.
        overrun: (R,) float64, the largest (cost - cost of the built-in algorithm alone) over the latter, at any look.
        fell: (R,) float64, volumes after the agent turned at which it was back in learning or emergency.
        rose: (R,) float64, volumes after it was good again at which it was in recommendation again.
    """

    reached: dict[Mode, FloatArray] = field(default_factory=dict)
    total: FloatArray = field(default_factory=lambda: np.zeros(0))
    overrun: FloatArray = field(default_factory=lambda: np.zeros(0))
    fell: FloatArray = field(default_factory=lambda: np.zeros(0))
    rose: FloatArray = field(default_factory=lambda: np.zeros(0))


def volumes_of(row: Row, policy: int, runs: int, segments: int) -> RivalVolumes:
    """So many runs of a row's volume, or of its domains, under a built-in algorithm."""
    geometry = Geometry(segments // row.domains, 64, 1, 0.85)
    config = LfsConfig(geometry, cleaning=CleaningConfig(policy=CleaningPolicy(policy)))
    warm = WarmVolumes(config, [row.load], seeds=4)
    volumes = RivalVolumes(warm, runs * row.domains)
    if row.shift is not None:
        volumes.first_phase_writes = round(row.shift * geometry.volume_blocks)
    return volumes


def run(row: Row, runs: int, segments: int, first_seed: int = 1, window: float = 2.0) -> Outcome:
    """Run a row under mode `auto`."""
    subsystem = volumes_of(row, row.builtin, runs, segments)
    subsystem.rival[:] = row.agent
    blocks, count = subsystem.warm.config.geometry.volume_blocks, runs * row.domains
    proxy = MLModelProxy(subsystem)
    options = ProxyOptions(
        episode_progress=round(row.volumes * blocks),
        mode="auto",
        share=row.share,
        domains=row.domains,
        window=round(window * blocks),
        efficiency=row.efficiency,
    )
    proxy.initialize(options)
    proxy.start()
    seeds = first_seed + np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) % np.uint64(2**62)
    everything = np.ones(count, np.bool_)
    alone = subsystem.shadow()
    alone.reset(everything, seeds)
    start, paid_before, shadow = alone.progress().copy(), alone.cost(), LockstepShadow(alone)
    proxy.reset(everything, seeds)
    watch = _Watch(row, runs, start, blocks)
    looked = np.zeros(runs)
    while not (proxy.finished | ~proxy.life_cycle.running()).all():
        done = watch.volumes(subsystem.progress())
        if row.harmful is not None:
            turned = (done >= row.harmful[0]) & (done < row.harmful[1])
            subsystem.rival[:] = np.where(turned, HARMFUL, row.agent)
        proxy.observe()
        feedback = proxy.decide(np.ones(count, np.int64))
        reached = watch.look(feedback.mode, subsystem.progress())
        if row.until is not None and reached[row.until].any():
            over = np.repeat(reached[row.until], row.domains) & proxy.life_cycle.running()
            if over.any():
                proxy.stop(over)
        now = watch.volumes(subsystem.progress()).reshape(runs, -1).mean(axis=1)
        if row.until is None and (now >= looked + 1.0).any():  # at most once a volume: the shadow has to follow
            looked = np.where(now >= looked + 1.0, now, looked)
            watch.compare(shadow, subsystem, paid_before)
    if row.until is None:
        watch.compare(shadow, subsystem, paid_before)
    return watch.outcome


class _Watch:
    """Looks at runs as they go."""

    def __init__(self, row: Row, runs: int, start: IntArray, blocks: int) -> None:
        self._row, self._start, self._blocks = row, start, blocks
        never = np.full(runs, np.nan)
        self.outcome = Outcome({mode: never.copy() for mode in Mode}, never, never.copy(), never.copy(), never.copy())
        self._turn = row.harmful[0] if row.harmful else row.shift
        self._again = row.harmful[1] if row.harmful else None

    def volumes(self, progress: IntArray) -> FloatArray:
        """(N,) volumes of user writes done."""
        return np.asarray((progress - self._start) / self._blocks)

    def look(self, modes: NDArray[np.int8], progress: IntArray) -> dict[Mode, BoolArray]:
        """Note the modes; returns where each has been reached by now."""
        domains = self._row.domains
        mode, now = modes.reshape(-1, domains)[:, 0], self.volumes(progress).reshape(-1, domains).max(axis=1)
        outcome = self.outcome
        for one, first in outcome.reached.items():
            first[(mode == one) & np.isnan(first)] = now[(mode == one) & np.isnan(first)]
        if self._turn is not None:
            late = (mode <= Mode.LEARNING) & (now >= self._turn) & np.isnan(outcome.fell)
            outcome.fell[late] = now[late] - self._turn
        if self._again is not None:
            back = (mode == Mode.RECOMMENDATION) & (now >= self._again) & np.isnan(outcome.rose)
            back &= ~np.isnan(outcome.fell)
            outcome.rose[back] = now[back] - self._again
        return {one: ~np.isnan(first) for one, first in outcome.reached.items()}

    def compare(self, shadow: Shadow, subsystem: RivalVolumes, before: FloatArray) -> None:
        """Compare costs with the built-in algorithm alone, at the same user writes."""
        costs = (shadow.cost_at(subsystem.progress()), subsystem.cost())
        alone, paid = ((cost - before).reshape(-1, self._row.domains).sum(axis=1) for cost in costs)
        self.outcome.total = paid / np.maximum(alone, 1.0)
        self.outcome.overrun = np.fmax(self.outcome.overrun, self.outcome.total - 1.0)


def truth(row: Row, segments: int, runs: int = 10, volumes: int = 40) -> list[tuple[float, float]]:
    """Blocks moved per user write under the built-in algorithm and under the agent alone, for each phase."""
    costs = []
    for phase in row.load.phases:
        alone = []
        for policy in (row.builtin, row.agent):
            load = Row("", "", policy, policy, volumes, row.domains, load=Workload("alone", (phase,)))
            subsystem = volumes_of(load, policy if policy != HARMFUL else GREEDY, runs, segments)
            subsystem.rival[:] = policy
            alone.append(_alone(subsystem, volumes, policy == HARMFUL))
        costs.append((alone[0], alone[1]))
    return costs


def _alone(subsystem: RivalVolumes, volumes: int, asked: bool) -> float:
    """Blocks moved per user write; `asked`: the rival decides every time, else the built-in algorithm."""
    everything = np.ones(subsystem.instances, np.bool_)
    subsystem.reset(everything, 1 + np.arange(subsystem.instances, dtype=np.uint64))
    writes = subsystem.warm.config.geometry.volume_blocks
    until = subsystem.progress() + volumes * writes
    before = subsystem.cost().copy()
    decision, rows = np.zeros(subsystem.instances, np.int64), everything
    while rows.any():
        subsystem.execute(decision, everything & asked, until, rows)
        subsystem.snapshot()
        decision = np.where(subsystem.critical(), 0, 1)
        rows = subsystem.progress() < until
    return float((subsystem.cost() - before).mean() / (volumes * writes))


def binomial_interval(hits: int, runs: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact bounds of a probability (Clopper and Pearson 1934)."""
    tail = (1.0 - confidence) / 2.0

    def at_most(number: int, chance: float) -> float:
        return sum(math.comb(runs, k) * chance**k * (1.0 - chance) ** (runs - k) for k in range(number + 1))

    def solve(number: int, level: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2.0
            low, high = (middle, high) if at_most(number, middle) > level else (low, middle)
        return low

    return (0.0 if hits == 0 else solve(hits - 1, 1.0 - tail)), (1.0 if hits == runs else solve(hits, tail))


def describe(row: Row, outcome: Outcome) -> str:
    """A row's outcome in words."""
    runs = len(outcome.fell)
    parts = []
    for mode in (Mode.COLLABORATION, Mode.RECOMMENDATION, Mode.EMERGENCY):
        first = outcome.reached[mode]
        if mode is Mode.COLLABORATION:  # the way to recommendation goes through it
            first = np.fmin(first, outcome.reached[Mode.RECOMMENDATION])
        # An emergency is seen when the agent is asked again, so that it has no time of its own.
        parts.append(f"{mode.name.lower()} {_share(first, mode is not Mode.EMERGENCY)}")
    if row.harmful is not None or row.shift is not None:
        parts.append(f"then back to learning or emergency {_share(outcome.fell)}")
    if row.harmful is not None:
        parts.append(f"and to recommendation again {_share(outcome.rose)}")
    if not np.isnan(outcome.overrun).all():
        parts.append(
            f"cost over built-in alone: mean {outcome.total.mean():.4f}, "
            f"largest at any look {1 + outcome.overrun.max():.4f}"
        )
    return f"{row.name}: {row.says} ({runs} runs of at most {row.volumes:g} volumes)\n  " + "\n  ".join(parts)


def _share(first: FloatArray, timed: bool = True) -> str:
    """How many runs, its bounds, and when, if that is of interest."""
    runs, there = len(first), ~np.isnan(first)
    hits = int(there.sum())
    low, high = binomial_interval(hits, runs)
    text = f"{hits}/{runs} [{low:.3f}, {high:.3f}]"
    if hits and timed:
        median, most = np.percentile(first[there], [50, 95])
        text += f", after {median:.1f} volumes (median), {most:.1f} (95 %)"
    return text


def short_windows(segments: int, runs: int) -> None:
    """The figure of how short windows reverse the truth, and what the proxy's evidence says beside it."""
    print("\nwindow  cost-benefit  greedy   log evidence for cost-benefit 'better' after 40 windows (median)")
    for window in (0.25, 1.0, 2.0, 4.0):
        row = Row("", "", GREEDY, COST_BENEFIT, 40 * window, share=0.5)
        costs = alternate(row, segments, runs, window)
        print(f"{window:6.2f} {costs[1]:13.2f} {costs[0]:7.2f}   {evidence(row, segments, runs, window):8.1f}")


def alternate(row: Row, segments: int, runs: int, window: float, windows: int = 24) -> FloatArray:
    """(2,) float64: blocks moved per user write in the counted part of alternating windows, built-in and agent.

    A window of less than a volume counts as a whole, as the figure was drawn; longer ones by their second half.
    """
    subsystem = volumes_of(row, row.builtin, runs, segments)
    everything = np.ones(runs, np.bool_)
    subsystem.reset(everything, 1 + np.arange(runs, dtype=np.uint64))
    blocks = subsystem.warm.config.geometry.volume_blocks
    cost, writes = np.zeros(2), np.zeros(2)
    left_out = 0.0 if window < 1.0 else 0.5
    for index in range(windows):
        side = index % 2
        subsystem.state.volumes["settings"]["policy"] = (row.builtin, row.agent)[side]
        for part, counted in ((left_out, False), (1.0 - left_out, True)):
            before, until = subsystem.cost().copy(), subsystem.progress() + round(part * window * blocks)
            subsystem.execute(np.zeros(runs, np.int64), ~everything, until, everything)
            if counted and index > 3:
                cost[side] += float((subsystem.cost() - before).sum())
                writes[side] += runs * round(part * window * blocks)
    return cost / writes


def evidence(row: Row, segments: int, runs: int, window: float) -> float:
    """Median log evidence for "better" at the end of a row's runs in collaboration, with windows of that length."""
    subsystem = volumes_of(row, row.builtin, runs, segments)
    subsystem.rival[:] = row.agent
    blocks = subsystem.warm.config.geometry.volume_blocks
    proxy = MLModelProxy(subsystem)
    options = ProxyOptions(
        episode_progress=round(row.volumes * blocks),
        mode="auto",
        share=0.5,
        window=round(window * blocks),
        efficiency="none",
        tolerance=0.5,
        alpha=1e-12,
    )
    proxy.initialize(options)
    proxy.start()
    proxy.reset(np.ones(runs, np.bool_), 1 + np.arange(runs, dtype=np.uint64))
    while not proxy.finished.all():
        proxy.observe()
        proxy.decide(np.ones(runs, np.int64))
    return float(np.median(proxy.table()["evidence_better"]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="runs of a row (default: %(default)s)")
    parser.add_argument(
        "--first-seed", type=int, default=1, help="another one gives other runs throughout (default: %(default)s)"
    )
    parser.add_argument("--segments", type=int, default=2048, help="segments of a volume (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=[*(row.name for row in ROWS), "windows"], help="these rows only")
    arguments = parser.parse_args()
    known: dict[object, list[tuple[float, float]]] = {}
    for row in ROWS:
        if arguments.only and row.name not in arguments.only:
            continue
        key = (row.builtin, row.agent, row.domains, row.load)
        if key not in known:
            known[key] = truth(row, arguments.segments)
        for builtin, agent in known[key]:
            print(
                f"truth: built-in alone {builtin:.3f}, agent alone {agent:.3f} moved blocks per user write", flush=True
            )
        print(describe(row, run(row, arguments.seeds, arguments.segments, arguments.first_seed)), flush=True)
    if not arguments.only or "windows" in arguments.only:
        short_windows(arguments.segments, min(arguments.seeds, 10))


if __name__ == "__main__":
    main()
