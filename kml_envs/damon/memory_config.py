"""Parameters of the memory model, each with where its default comes from."""

from __future__ import annotations

from dataclasses import dataclass

from kml_envs.errors import UserError

GIB = 1 << 30
FAST_NODE, SLOW_NODE = 0, 1
"""The memory nodes that there can be."""


RECLAIM_US = 1.0
"""Processor time for taking a page out of memory beside writing it: unmapping, lists.

Assumed, as it is that kswapd takes one page after the other. Direct reclaim takes 6 % longer by it on zram and 25 % on
an NVMe drive, and kswapd reclaims 230 and 781 MiB/s, which matters only where a program outruns it."""


@dataclass(frozen=True)
class SwapDevice:
    """Where pages go that are paged out.

    Attributes:
        name: How tables call it.
        fault_us: Time for which a thread waits for a page: entry into the fault, reading, mapping.
        write_us: Processor time for writing a page out.
        memory_share: Memory that a page on the device still takes, as a share of the page.
        most_write_pages_per_s: Pages that the device takes per second.
    """

    name: str
    fault_us: float
    write_us: float
    memory_share: float
    most_write_pages_per_s: float


ZRAM = SwapDevice("zram", fault_us=5.0, write_us=16.0, memory_share=1 / 2.7, most_write_pages_per_s=1e9)
"""Compressed memory, lzo-rle: 2.2 us to read 4 KiB and a ratio of 2.74 in the "Zram Performance Analysis" notes of the
Linux gaming community (fio, page-cluster 0), there also 1.1 GB compressed in 4.5 s; about 3 us for the fault itself."""

NVME = SwapDevice("nvme", fault_us=90.0, write_us=4.0, memory_share=0.0, most_write_pages_per_s=250_000)
"""A data-center solid-state drive: data sheets give 77 to 90 us for a random read of 4 KiB at queue depth 1 (Intel
P4510: 77 us) and about 1 GB/s of sustained writes."""

CXL = SwapDevice("cxl", fault_us=3.0, write_us=2.0, memory_share=0.0, most_write_pages_per_s=2e6)
"""A memory expander used as swap: a copy of 4 KiB from memory with 140 to 410 ns of latency ("Dissecting CXL Memory
Performance at Scale", arXiv 2409.14317), about 1 us, and about 2 us for the fault."""

SWAP_DEVICES = {device.name: device for device in (ZRAM, NVME, CXL)}


@dataclass(frozen=True)
class MemoryConfig:
    """The machine around a workload.

    Attributes:
        fast_bytes: Memory of node 0; 0: as much as 5/4 of the workload, so that there is no pressure.
        slow_bytes: Memory of node 1; 0: there is none.
        swap: The swap device.
        swap_bytes: Its size; 0: as large as the workload.
        threads: Threads of the program; faults are spread evenly over them.
        memory_bound: Share of the program's time that it waits for memory, all of it on node 0. The default makes a
            program that lies on node 1 altogether 1.21 times as slow, as Redis under HMSDK (see docs).
        slow_latency_ratio: Latency of node 1 over that of node 0 (CXL, arXiv 2409.14317: 1.5 to 4; cori-sim 2.2).
        program_bytes_per_s: Memory traffic of the program at its mean activity.
        slow_bytes_per_s: Bandwidth of node 1 (one x8 expander, arXiv 2409.14317: 20 to 30 GB/s).
        migration_us: Processor time for migrating a page (cori-sim 1 us; 2 to 4 us measured by Nimble, ASPLOS 2019).
        migration_stall_us: Time for which a thread waits per migrated page: unmapping and TLB flushes.
        walk_share: Share of the program's time in page table walks when nothing is mapped by huge pages and the TLB
            is far too small (transparent huge pages speed the DAMON series' 24 workloads up by 5.4 to 5.6 % in mean).
        tlb_entries: Pages that the TLB's second level holds (Intel Skylake-SP: 1536).
        always_huge: Whether transparent huge pages are on for all memory ("always") or only on advice ("madvise").
        khugepaged_bytes_per_s: Speed of khugepaged (default pages_to_scan 4096 every scan_sleep_millisecs 10000).
        min_permil: Free memory, per mille of node 0, under which programs reclaim themselves.
        low_permil: Free memory under which kswapd wakes (watermark_scale_factor 10: 1 per mille above min).
        high_permil: Free memory at which kswapd sleeps.
        region_check_us: kdamond's time for checking one region once (2.95 % of a processor at 5 ms, see docs).
        interference: Slowdown of the program per processor that kdamond takes (0.69 % at 1.25 %, 2.23 % at 2.95 %).
        active_s: Pages idle for less count as active. Assumed: the kernel goes by pressure, not by time. Only goals for
            the active or the inactive share of memory read it.
    """

    fast_bytes: int = 0
    slow_bytes: int = 0
    swap: SwapDevice = ZRAM
    swap_bytes: int = 0
    threads: int = 4
    memory_bound: float = 0.175
    slow_latency_ratio: float = 2.2
    program_bytes_per_s: float = 4e9
    slow_bytes_per_s: float = 20e9
    migration_us: float = 3.0
    migration_stall_us: float = 0.5
    walk_share: float = 0.06
    tlb_entries: int = 1536
    always_huge: bool = False
    khugepaged_bytes_per_s: float = 4096 * 4096 / 10
    min_permil: float = 2.0
    low_permil: float = 3.0
    high_permil: float = 4.0
    region_check_us: float = 0.3
    interference: float = 0.6
    active_s: float = 60.0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: A size is negative, there is no thread, or the watermarks are not in order.
        """
        if min(self.fast_bytes, self.slow_bytes, self.swap_bytes) < 0:
            raise UserError("sizes of memory and swap: 0 or more bytes are accepted")
        if self.threads < 1:
            raise UserError(f"threads {self.threads}: at least 1 is accepted")
        if not 0 < self.min_permil <= self.low_permil <= self.high_permil < 1000:
            raise UserError("watermarks: 0 < min <= low <= high < 1000 per mille is accepted")
        if not 0 <= self.memory_bound < 1 or not 0 <= self.walk_share < 1 or self.slow_latency_ratio < 1:
            raise UserError("shares of time lie in 0..1, and node 1 is at least as slow as node 0")
