"""What a running kernel tells of its memory and of its processes in the files under /proc.

Only reading: nothing here knows what becomes of the numbers. Formats: Documentation/filesystems/proc.rst,
Documentation/accounting/psi.rst and fs/proc/iomem of the kernel.
"""

from __future__ import annotations

import os
import re
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

    def memory_ranges(self) -> tuple[tuple[int, int], ...]:
        """Read which ranges of physical addresses are memory: first byte and byte behind the last of each.

        Raises:
            UserError: None is told; to all but root the kernel says that they begin and end at 0.
        """
        found = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) : System RAM$", self._read("iomem"), re.MULTILINE)
        ranges = [
            (-(-int(first, 16) // PAGE_BYTES) * PAGE_BYTES, (int(last, 16) + 1) // PAGE_BYTES * PAGE_BYTES)
            for first, last in found
        ]
        ranges = [(start, end) for start, end in ranges if start < end]
        if not ranges:
            raise UserError(f"{self.root / 'iomem'}: it tells no range of System RAM; only root can see them")
        return tuple(ranges)

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
