"""What agents see of a real kernel: its snapshots, statistics and files, through the rules that the simulator has.

What no file tells has a substitute: the time that a program lost is worked out from memory pressure, by the model that
the simulated pressure is made with; docs/damon.md lists them all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.damon import monitor_features, reclaim_features
from kml_envs.damon.accuracy import PIECE, paint_picture, picture_error
from kml_envs.damon.config import PAGE_BYTES, MonitoringAttributes
from kml_envs.damon.control import Damon, Snapshot
from kml_envs.damon.kernel_files import KernelFiles
from kml_envs.damon.memory_config import MemoryConfig
from kml_envs.damon.monitor_tuning import TRACK
from kml_envs.damon.pressure import lost_share
from kml_envs.damon.reclaim_features import MEASURED, RATES
from kml_envs.damon.simulator import attributes_record
from kml_envs.damon.state import REGION

Features = NDArray[np.float32]

_SECOND_US = 1e6


@dataclass(frozen=True)
class KernelSources:
    """Where what is seen of a kernel comes from.

    Attributes:
        damon: Its DAMON.
        files: Its files.
        kdamond: Gives the process of the kdamond.
        pid: The process that is monitored; None: physical memory.
        clock: Gives the time in seconds.
    """

    damon: Damon
    files: KernelFiles
    kdamond: Callable[[], int]
    pid: int | None
    clock: Callable[[], float]


class ActingFeatures(ABC):
    """Features of a real kernel whose schemes act on memory; subclasses measure, and look."""

    def __init__(
        self, sources: KernelSources, machine: MemoryConfig, rates: np.dtype[np.void], measured: np.dtype[np.void]
    ) -> None:
        """Prepare; `begin` must follow, when the kernel monitors.

        Args:
            sources: What is looked at.
            machine: What is taken to be so of the machine.
            rates: Type of what is remembered between two control intervals.
            measured: Type of what is measured.
        """
        self._sources, self._machine = sources, machine
        self._rates, self._now = np.zeros(1, rates), np.zeros(1, measured)

    @property
    def size(self) -> int:
        """Bytes of the program, at least a page: what exists of it in memory and, for reclaim, on the swap device."""
        return max(int(self._now["size"][0]), PAGE_BYTES)

    def begin(self) -> None:
        """Take a first look, from which changes count."""
        self._rates[:], self._now[:] = np.zeros((), self._rates.dtype), np.zeros((), self._now.dtype)
        self._look_first()
        self._rates["before"] = self._now

    def hold(self, action: NDArray[np.float64] | None) -> None:
        """Note the agent's settings (A,) that are in force; None: the built-in algorithm's are."""
        self._rates["in_force"] = 0.0 if action is None else action

    @abstractmethod
    def look(self, attributes: MonitoringAttributes) -> Features:
        """Close a control interval that was monitored with these attributes; returns its features (F,) float32."""

    @abstractmethod
    def _look_first(self) -> None:
        """Measure what there is before the first interval."""


class ReclaimFeatures(ActingFeatures):
    """Features of `kml/DamonReclaim-v0`, of a real kernel."""

    def __init__(self, sources: KernelSources, machine: MemoryConfig, *, acting: int, watching: int) -> None:
        """Prepare; `begin` must follow, when the kernel monitors.

        Args:
            sources: What is looked at.
            machine: What is taken to be so of the machine: threads, swap device, and how kdamond disturbs.
            acting: Place of the scheme that pages out.
            watching: Place of the scheme that sees all regions.
        """
        super().__init__(sources, machine, RATES, MEASURED)
        self._acting, self._watching = acting, watching
        self._applied, self._exceeds, self._returned, self._kdamond = (Total() for _ in range(4))
        self._swapped_pages = 0.0
        self._stall_us = 0

    def look(self, attributes: MonitoringAttributes) -> Features:
        """Close a control interval.

        Args:
            attributes: Of the monitoring, as they are in force.

        Returns:
            (F,) float32, in the order of `reclaim_features.FEATURE_NAMES`.
        """
        self._measure()
        picture = packed_regions(self._sources.damon.snapshot(self._watching))
        row = np.zeros(len(reclaim_features.FEATURE_NAMES), np.float32)
        _write_reclaim(self._rates, self._now, picture, attributes_record(attributes).reshape(1), row)
        return row

    def _look_first(self) -> None:
        self._measure()

    def _measure(self) -> None:
        machine = self._sources.files.machine()
        now, statistics = self._now[0], self._sources.damon.statistics(self._acting)
        share = self._machine.swap.memory_share
        time_us = self._sources.clock() * _SECOND_US
        applied = self._applied.grown_to(statistics.sz_applied) / PAGE_BYTES
        resident: float
        used: float
        if self._sources.pid is None:
            used, swapped = machine.total_bytes - machine.free_bytes, machine.swapped_bytes
            resident = max(0.0, used - swapped * share)
            returned = self._returned.grown_to(machine.returned_pages)
            paged_out = applied
        else:
            process = self._sources.files.process(self._sources.pid)
            resident, swapped = process.resident_bytes, process.swapped_bytes
            used = resident + swapped * share
            returned = self._returned.grown_to(process.major_faults)
            # madvise() counts a whole range as paged out, whatever of it is in memory: the process's swap tells.
            paged_out = min(applied, max(0.0, swapped / PAGE_BYTES - self._swapped_pages + returned))
        size = max(resident + swapped, PAGE_BYTES)
        kdamond_ns = self._kdamond.grown_to(self._sources.files.processor_ns(self._sources.kdamond()))
        passed = max(time_us - now["time_us"], 1.0)
        waited = lost_share((machine.stall_us - self._stall_us) / passed, float(self._machine.threads)) * passed
        now["size"], now["used"], now["resident"], now["swapped"] = size, used / size, resident / size, swapped / size
        now["free"] = machine.free_bytes / machine.total_bytes
        now["pressure"] = machine.pressure
        now["time_us"] = time_us
        now["lost_us"] += waited + self._machine.interference * kdamond_ns / 1000.0
        now["paged_out"] += paged_out
        now["faults"] += returned
        now["kdamond_ns"] += kdamond_ns
        now["exceeds"] += self._exceeds.grown_to(statistics.qt_exceeds)
        self._swapped_pages, self._stall_us = swapped / PAGE_BYTES, machine.stall_us


class MonitorFeatures:
    """Features of `kml/DamonMonitor-v0`, of a real kernel."""

    def __init__(self, sources: KernelSources, *, watching: int, reference_us: float, max_nr_regions: int) -> None:
        """Prepare; `begin` must follow, when the kernel monitors.

        Args:
            sources: What is looked at.
            watching: Place of the scheme that sees all regions.
            reference_us: Time that accesses are counted in.
            max_nr_regions: Regions that there is room for.
        """
        self._sources, self._watching = sources, watching
        self._reference_us, self._max_nr_regions = reference_us, max_nr_regions
        self._track = np.zeros(1, TRACK)
        self._picture = np.zeros(0, PIECE)
        self._kdamond = Total()
        self._time_us = 0.0

    def begin(self) -> None:
        """Take a first look, from which changes count; the built-in algorithm is in force."""
        self._track[:] = np.zeros((), TRACK)
        self._picture = np.zeros(0, PIECE)
        self.hold(by_builtin=True)
        self._kdamond.grown_to(self._sources.files.processor_ns(self._sources.kdamond()))
        self._time_us = self._sources.clock() * _SECOND_US

    def hold(self, *, by_builtin: bool) -> None:
        """Note whose attributes are in force."""
        self._track["by_builtin"] = by_builtin

    def look(self, attributes: MonitoringAttributes) -> Features:
        """Close a control interval.

        The change that the agent sees is that between two aggregations, so that short ones are looked at twice.

        Args:
            attributes: Of the monitoring, as they are in force.

        Returns:
            (F,) float32, in the order of `monitor_features.FEATURE_NAMES`.
        """
        passed = self._sources.clock() * _SECOND_US - self._time_us
        if 2 * attributes.aggr_us <= passed:
            self._take(attributes)
        found = self._take(attributes)
        time_us = self._sources.clock() * _SECOND_US
        passed, self._time_us = max(time_us - self._time_us, 1.0), time_us
        kdamond_ns = self._kdamond.grown_to(self._sources.files.processor_ns(self._sources.kdamond()))
        pictures = max(1, round(passed / attributes.aggr_us))
        row = np.zeros(len(monitor_features.FEATURE_NAMES), np.float32)
        in_force = attributes_record(attributes).reshape(1)
        share = kdamond_ns / 1000.0 / passed
        _write_monitor(self._track, in_force, found, self._picture, self._max_nr_regions, share, float(pictures), row)
        return row

    def _take(self, attributes: MonitoringAttributes) -> NDArray[np.void]:
        """Look at the last aggregation; returns its regions."""
        found = packed_regions(self._sources.damon.snapshot(self._watching))
        picture = np.zeros(found.size, PIECE)
        samples = attributes.max_nr_accesses
        count = paint_picture(found, found.size, attributes.sample_us, samples, self._reference_us, picture)
        before, self._picture = self._picture, picture[:count]
        if before.size:
            self._track["change"] = picture_error(self._picture, count, before, before.size)
        return found


def packed_regions(snapshot: Snapshot) -> NDArray[np.void]:
    """The regions of a snapshot as (R,) REGION, moved together so that they begin at 0 and leave no holes."""
    found, sizes = regions_of(snapshot), snapshot.end - snapshot.start
    found["end"] = np.cumsum(sizes)
    found["start"] = found["end"] - sizes
    return found


def regions_of(snapshot: Snapshot) -> NDArray[np.void]:
    """The regions of a snapshot as (R,) REGION, where they are."""
    found = np.zeros(snapshot.start.size, REGION)
    found["start"], found["end"] = snapshot.start, snapshot.end
    found["last_nr_accesses"], found["age"] = snapshot.nr_accesses, snapshot.age
    return found


class Total:
    """A counter of the kernel, which may begin anew; the first look is where counting begins."""

    def __init__(self) -> None:
        """Begin without a look."""
        self._last: int | None = None

    def grown_to(self, value: int) -> int:
        """What it has grown by since the last look."""
        last, self._last = self._last, value
        return 0 if last is None else value - last if value >= last else value


@compiled
def _write_reclaim(rates: Record, now: Record, found: Record, attributes: Record, row: Record) -> None:
    reclaim_features.sum_up(rates[0], now[0])
    reclaim_features.write_features(rates[0], now[0], row)
    if found.size > 0:
        reclaim_features.write_histogram(found, found.size, found[found.size - 1].end, attributes[0], row)


@compiled
def _write_monitor(
    track: Record,
    attributes: Record,
    found: Record,
    picture: Record,
    max_nr_regions: int,
    kdamond_share: float,
    pictures: float,
    row: Record,
) -> None:
    one, in_force = track[0], attributes[0]
    monitor_features.sum_up(one, kdamond_share, pictures)
    if found.size > 0:
        size = found[found.size - 1].end
        # The kernel has waited for the end of an aggregation: the picture is of this moment.
        monitor_features.write_features(one, in_force, size, found.size, max_nr_regions, one.painted_us, row)
        monitor_features.write_regions(found, found.size, size, in_force, row)
        monitor_features.write_picture(picture, picture.size, size, row)
