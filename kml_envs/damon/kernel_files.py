"""What a running kernel tells of its memory and of its processes in the files under /proc.

Only reading: nothing here knows what becomes of the numbers. Formats: Documentation/filesystems/proc.rst,
Documentation/accounting/psi.rst, zoneinfo_show_print in mm/vmstat.c and kernel/resource.c of the kernel. Pages are
taken to be of 4 KiB.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from kml_envs.damon.config import PAGE_BYTES
from kml_envs.errors import UserError

PROC = Path("/proc")
"""Where the kernel shows the files."""

_KB = 1024
_MAJOR_FAULTS, _USER_TICKS, _SYSTEM_TICKS = 9, 11, 12  # of /proc/PID/stat, counted from behind the name


class MachineState(NamedTuple):
    """What is known of a machine at a moment.

    Attributes:
        total_bytes: Its memory (MemTotal).
        free_bytes: What of it is free, the page cache not included (MemFree): the metric of DAMON's watermarks.
        least_free_bytes: Below it programs reclaim for themselves (vm.min_free_kbytes).
        swapped_bytes: What is swapped out (SwapTotal less SwapFree).
        pressure: Share of time in which some task waited for memory, averaged over 10 s (PSI).
        stall_us: Total of such time.
        returned_pages: Total of pages read back from swap, and from files soon after they were given up.
    """

    total_bytes: int
    free_bytes: int
    least_free_bytes: int
    swapped_bytes: int
    pressure: float
    stall_us: int
    returned_pages: int


class ProcessState(NamedTuple):
    """What is known of a process at a moment.

    Attributes:
        resident_bytes: In memory (VmRSS).
        swapped_bytes: Swapped out (VmSwap).
        major_faults: Total of faults that had to wait for a device.
    """

    resident_bytes: int
    swapped_bytes: int
    major_faults: int


Ranges = tuple[tuple[int, int], ...]
"""Ranges of physical addresses in ascending order: first byte and byte behind the last of each."""


class NodeState(NamedTuple):
    """What is known of a memory node at a moment.

    Attributes:
        ranges: What its zones span, holes included.
        managed_bytes: Memory that there is for programs and the kernel (managed pages of its zones).
        free_bytes: What of it is free.
    """

    ranges: Ranges
    managed_bytes: int
    free_bytes: int

    @property
    def used_bytes(self) -> int:
        """What of it is in use."""
        return self.managed_bytes - self.free_bytes


class KernelFiles:
    """The files under /proc, or copies of them.

    Attributes:
        root: The folder `proc`.
    """

    def __init__(self, root: Path = PROC) -> None:
        """Choose the folder; nothing is read yet."""
        self.root = root

    def machine(self) -> MachineState:
        """Read what there is to know of the machine.

        Raises:
            UserError: A file is missing, such as pressure/memory of a kernel without CONFIG_PSI, or cannot be read.
        """
        memory = self._fields("meminfo")
        counts = self._fields("vmstat")
        pressure = re.search(r"^some avg10=([\d.]+) .*total=(\d+)$", self._read("pressure/memory"), re.MULTILINE)
        if pressure is None:
            raise UserError(f"{self.root / 'pressure/memory'}: no line 'some avg10=... total=...' in it")
        return MachineState(
            total_bytes=self._of(memory, "meminfo", "MemTotal") * _KB,
            free_bytes=self._of(memory, "meminfo", "MemFree") * _KB,
            least_free_bytes=self._number("sys/vm/min_free_kbytes") * _KB,
            swapped_bytes=(self._of(memory, "meminfo", "SwapTotal") - self._of(memory, "meminfo", "SwapFree")) * _KB,
            pressure=float(pressure[1]) / 100.0,
            stall_us=int(pressure[2]),
            returned_pages=self._of(counts, "vmstat", "pswpin") + counts.get("workingset_refault_file", 0),
        )

    def process(self, pid: int) -> ProcessState:
        """Read what there is to know of a process.

        Raises:
            UserError: There is no such process, or it is one of the kernel's own.
        """
        status = self._fields(f"{pid}/status")
        faults = self._stat(pid)[_MAJOR_FAULTS]
        resident, swapped = (self._of(status, f"{pid}/status", name) * _KB for name in ("VmRSS", "VmSwap"))
        return ProcessState(resident, swapped, faults)

    def processor_ns(self, pid: int) -> int:
        """Total of processor time of a process or kernel thread, in nanoseconds; in clock ticks where it must be.

        Raises:
            UserError: There is no such process.
        """
        if (self.root / f"{pid}/schedstat").exists():
            return int(self._read(f"{pid}/schedstat").split()[0])
        ticks = self._stat(pid)
        return (ticks[_USER_TICKS] + ticks[_SYSTEM_TICKS]) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")

    def memory_ranges(self) -> Ranges:
        """Read which ranges of physical addresses are memory.

        Raises:
            UserError: None is told; to all but root the kernel says that they begin and end at 0.
        """
        # Memory that a driver has added, such as that of an expander, stands indented below its device.
        line = r"^ *([0-9a-f]+)-([0-9a-f]+) : System RAM(?: \(\w+\))?$"
        found = re.findall(line, self._read("iomem"), re.MULTILINE)
        ranges = [
            (-(-int(first, 16) // PAGE_BYTES) * PAGE_BYTES, (int(last, 16) + 1) // PAGE_BYTES * PAGE_BYTES)
            for first, last in found
        ]
        ranges = [(start, end) for start, end in ranges if start < end]
        if not ranges:
            raise UserError(f"{self.root / 'iomem'}: it tells no range of System RAM; only root can see them")
        return _joined(ranges)

    def memory_nodes(self, numbers: Sequence[int]) -> tuple[NodeState, ...]:
        """Read what there is to know of some memory nodes.

        Args:
            numbers: Their numbers.

        Raises:
            UserError: A node is not there, or has no memory.
        """
        zones = self._zones(numbers)
        return tuple(_node_of(zones[number]) for number in numbers)

    def node_ranges(self, numbers: Sequence[int]) -> Ranges:
        """Read which ranges of physical addresses are memory of some nodes.

        Raises:
            UserError: A node is not there or has no memory, or its memory lies among that of another node, so that
                addresses do not tell the node.
        """
        found = self._zones(numbers)
        memory = self.memory_ranges()
        parts = {number: _common(memory, _node_of(zones).ranges) for number, zones in found.items()}
        for number in numbers:
            if not parts[number]:
                raise UserError(f"{self.root / 'iomem'}: it tells no range of System RAM in node {number}")
            for other, others in parts.items():
                if other != number and _common(parts[number], others):
                    file = self.root / "zoneinfo"
                    raise UserError(f"{file}: nodes {number} and {other} overlap: addresses do not tell the node")
        return tuple(sorted(part for number in numbers for part in parts[number]))

    def _zones(self, wanted: Sequence[int]) -> dict[int, list[NodeState]]:
        """What is known of the zones that have memory, by their nodes; the wanted ones are among these."""
        found: dict[int, list[NodeState]] = {}
        _, *parts = re.split(r"^Node (\d+), zone +(\w+)$", self._read("zoneinfo"), flags=re.MULTILINE)
        if not parts:
            raise UserError(f"{self.root / 'zoneinfo'}: no line 'Node N, zone NAME' in it")
        for node, name, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            zones = found.setdefault(int(node), [])
            lines = re.findall(r"^ +(?:pages )?(free|spanned|managed|start_pfn):? +(\d+)$", text, re.MULTILINE)
            pages = {key: int(value) for key, value in lines}
            if pages.get("spanned") == 0 or pages.get("managed") == 0:
                continue
            for key in ("free", "spanned", "managed", "start_pfn"):
                if key not in pages:
                    raise UserError(f"{self.root / 'zoneinfo'}: no line {key} of node {node}, zone {name} in it")
            start, managed, free = (pages[key] * PAGE_BYTES for key in ("start_pfn", "managed", "free"))
            zones.append(NodeState(((start, start + pages["spanned"] * PAGE_BYTES),), managed, free))
        file = self.root / "zoneinfo"
        for number in wanted:
            if number not in found:
                raise UserError(f"{file}: node {number}: not there; nodes of the machine: {', '.join(map(str, found))}")
            if not found[number]:
                having = ", ".join(str(other) for other, zones in found.items() if zones)
                raise UserError(f"{file}: node {number}: has no memory; nodes with memory: {having}")
        return found

    def _stat(self, pid: int) -> list[int]:
        """The numbers of /proc/PID/stat behind the name; the state, a letter, as 0."""
        _, _, fields = self._read(f"{pid}/stat").rpartition(")")
        return [int(field) if field.lstrip("-").isdigit() else 0 for field in fields.split()]

    def _fields(self, name: str) -> dict[str, int]:
        """The numbers of a file of names and values by their names."""
        found = re.findall(r"^(\w+):?\s+(\d+)(?: kB)?$", self._read(name), re.MULTILINE)
        return {key: int(value) for key, value in found}

    def _of(self, fields: dict[str, int], name: str, field: str) -> int:
        if field not in fields:
            raise UserError(f"{self.root / name}: no line {field} in it")
        return fields[field]

    def _number(self, name: str) -> int:
        text = self._read(name).strip()
        if not text.isdigit():
            raise UserError(f"{self.root / name}: {text[:40]!r} is not a number")
        return int(text)

    def _read(self, name: str) -> str:
        try:
            # A process may be called anything: the kernel shows the bytes of its name, or the first 15 of them.
            return (self.root / name).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise UserError(f"{self.root / name}: cannot be read: {error.strerror}") from error


def _node_of(zones: Sequence[NodeState]) -> NodeState:
    """A node of its zones."""
    return NodeState(
        _joined(part for zone in zones for part in zone.ranges),
        sum(zone.managed_bytes for zone in zones),
        sum(zone.free_bytes for zone in zones),
    )


def _common(ranges: Ranges, others: Ranges) -> Ranges:
    """What lies in both."""
    found = ((max(start, low), min(end, high)) for start, end in ranges for low, high in others)
    return tuple((start, end) for start, end in found if start < end)


def _joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges in ascending order, of which those that touch are one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)
