"""What the agent that tunes tiering sees of a real kernel: on which node memory lies is told by its physical address.

Time that is lost to the nodes is no number of any file: it is worked out by the memory model, from the accesses that
DAMON finds and the pages that its schemes have moved; docs/damon.md lists all substitutes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.damon import tier_features
from kml_envs.damon.config import PAGE_BYTES, MonitoringAttributes
from kml_envs.damon.features import pages_of
from kml_envs.damon.kernel_features import ActingFeatures, Features, KernelSources, Total, regions_of
from kml_envs.damon.kernel_files import NodeState
from kml_envs.damon.memory import slow_wait
from kml_envs.damon.memory_config import MemoryConfig
from kml_envs.damon.simulator import attributes_record
from kml_envs.damon.tier_features import BINS, IDLE_BINS, MEASURED, RATES

_SECOND_US = 1e6
_IDLEST_FIRST = [*range(BINS - 1, BINS - 1 - IDLE_BINS, -1), *range(BINS - IDLE_BINS)]


class TierFeatures(ActingFeatures):
    """Features of `kml/DamonTier-v0`, of a real kernel."""

    def __init__(
        self,
        sources: KernelSources,
        machine: MemoryConfig,
        *,
        nodes: tuple[int, int],
        demoting: int,
        promoting: int,
        watching: int,
    ) -> None:
        """Prepare; `begin` must follow, when the kernel monitors.

        Args:
            sources: What is looked at.
            machine: What is taken to be so of the machine: how much a program waits for memory, latency and bandwidth
                of the slow node, threads, and how migrations and kdamond disturb.
            nodes: The fast and the slow memory node.
            demoting: Place of the scheme that migrates to the slow node.
            promoting: Place of the scheme that migrates to the fast node.
            watching: Place of the scheme that sees all regions.
        """
        super().__init__(sources, machine, RATES, MEASURED)
        self._nodes = nodes
        self._demoting, self._promoting, self._watching = demoting, promoting, watching
        self._demoted, self._promoted, self._kdamond = (Total() for _ in range(3))
        self._cold_exceeds, self._hot_exceeds = Total(), Total()

    def look(self, attributes: MonitoringAttributes) -> Features:
        """Close a control interval.

        Args:
            attributes: Of the monitoring, as they are in force.

        Returns:
            (F,) float32, in the order of `tier_features.FEATURE_NAMES`.
        """
        nodes = self._sources.files.memory_nodes(self._nodes)
        found = regions_of(self._sources.damon.snapshot(self._watching))
        fast, slow = (np.array(node.ranges, np.int64).reshape(-1, 2) for node in nodes)
        bins, accesses = np.zeros((2, BINS)), np.zeros(2)
        _count(found, attributes_record(attributes).reshape(1), fast, slow, bins, accesses)
        for node, pages in zip(nodes, bins, strict=True):
            _leave_used(pages, node.used_bytes / PAGE_BYTES)
        self._measure(nodes, float(tier_features.slow_share(accesses)))
        row = np.zeros(len(tier_features.FEATURE_NAMES), np.float32)
        _write(self._rates, self._now, attributes.sample_us, bins, accesses, row)
        return row

    def _look_first(self) -> None:
        self._measure(self._sources.files.memory_nodes(self._nodes), 0.0)

    def _measure(self, nodes: tuple[NodeState, ...], slow_share: float) -> None:
        """Measure at the end of an interval in which this share of the accesses was to the slow node."""
        now, files = self._now[0], self._sources.files
        demote, promote = (self._sources.damon.statistics(place) for place in (self._demoting, self._promoting))
        demoted = self._demoted.grown_to(demote.sz_applied) / PAGE_BYTES
        promoted = self._promoted.grown_to(promote.sz_applied) / PAGE_BYTES
        kdamond_ns = self._kdamond.grown_to(files.processor_ns(self._sources.kdamond()))
        time_us = self._sources.clock() * _SECOND_US
        passed = max(time_us - now["time_us"], 1.0)
        waited = self._waited_us(passed, slow_share, demoted + promoted)
        now["size"] = max(sum(node.used_bytes for node in nodes), PAGE_BYTES)
        now["fast_pages"], now["fast_used"] = nodes[0].managed_bytes / PAGE_BYTES, nodes[0].used_bytes / PAGE_BYTES
        now["time_us"] = time_us
        now["lost_us"] += waited + self._machine.interference * kdamond_ns / 1000.0
        now["waited_us"] += waited
        now["promoted"] += promoted
        now["demoted"] += demoted
        now["kdamond_ns"] += kdamond_ns
        now["hot_exceeds"] += self._hot_exceeds.grown_to(promote.qt_exceeds)
        now["cold_exceeds"] += self._cold_exceeds.grown_to(demote.qt_exceeds)

    def _waited_us(self, passed: float, slow_share: float, moved: float) -> float:
        """Time that a program at its mean activity waits for the slow node and for migrations (`memory`)."""
        machine = self._machine
        traffic = machine.program_bytes_per_s * slow_share / machine.slow_bytes_per_s
        moving = moved * PAGE_BYTES / (passed / _SECOND_US) / machine.slow_bytes_per_s
        excess = machine.slow_latency_ratio - 1.0
        waiting = slow_wait(machine.memory_bound * slow_share, excess, traffic, moving) * passed
        return float(waiting + moved * machine.migration_stall_us / machine.threads)


def _leave_used(pages: NDArray[np.float64], used: float) -> None:
    """Take off the pages of a node's bins, (BINS,) float64, what is not in use, as idle as it can be.

    DAMON watches free memory, too, and what the kernel has set aside: nobody accesses either.
    """
    found = pages[_IDLEST_FIRST]
    before = np.cumsum(found) - found
    pages[_IDLEST_FIRST] = found - np.clip(found.sum() - used - before, 0.0, found)


@compiled
def _count(found: Record, attributes: Record, fast: Record, slow: Record, bins: Record, accesses: Record) -> None:
    for index in range(found.size):
        region = found[index]
        on_fast, on_slow = _pages_within(region, fast), _pages_within(region, slow)
        tier_features.count_region(region, attributes[0], on_fast, on_slow, bins, accesses)


@compiled
def _pages_within(region: Record, ranges: Record) -> float:
    """Pages of a region that lie in ranges of addresses, (K, 2) int64."""
    size = 0
    for k in range(ranges.shape[0]):
        size += max(0, min(region.end, ranges[k, 1]) - max(region.start, ranges[k, 0]))
    return float(size / PAGE_BYTES)


@compiled
def _write(rates: Record, now: Record, sample_us: int, bins: Record, accesses: Record, row: Record) -> None:
    tier_features.sum_up(rates[0], now[0])
    tier_features.write_features(rates[0], now[0], sample_us, row)
    tier_features.write_regions(bins, accesses, pages_of(now[0]), row)
