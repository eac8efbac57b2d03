"""A simulated program shown as a real kernel would show it: DAMON's files and those under /proc."""

from fake_kernel import FakeKernel
from fake_proc import FakeProc

from kml_envs.compiling import compiled
from kml_envs.damon.config import PAGE_BYTES, Context, Operations, Target
from kml_envs.damon.control import WHOLE_PICTURE
from kml_envs.damon.kernel_features import KernelSources
from kml_envs.damon.kernel_files import KernelFiles
from kml_envs.damon.memory import node_pages
from kml_envs.damon.simulator import whole_picture
from kml_envs.damon.sysfs import SysfsDamon

PID = 7
ORIGIN = 0x100000
"""Where the simulated memory begins among the kernel's addresses."""
RESERVED = 0x40000
"""Bytes of each node that the kernel has set aside."""


class KernelMirror:
    """The files, which `show` writes anew.

    Attributes:
        sources: What looks at them.
    """

    def __init__(self, folder, monkeypatch, programs, schemes, pid=None):
        self.programs, self.pid = programs, pid
        (folder / "damon").mkdir()
        self.kernel = FakeKernel(folder / "damon", live_processes=(PID,))
        self.kernel.install(monkeypatch)
        self.kernel.tuned = None
        self.proc = FakeProc(folder / "proc")
        damon = SysfsDamon(self.kernel.root)
        damon.turn_on(Context(Operations.PADDR, targets=(Target(),), schemes=(*schemes, WHOLE_PICTURE)))
        self.sources = KernelSources(
            damon, KernelFiles(folder / "proc"), damon.pid, pid, lambda: programs.time_us()[0] * 1e-6
        )

    def show(self):
        programs = self.programs
        picture = whole_picture(programs.state, 0)
        rows = zip(picture.start, picture.end, picture.nr_accesses, picture.age, strict=True)
        self.kernel.regions = [(int(s) + ORIGIN, int(e) + ORIGIN, int(n), int(a)) for s, e, n, a in rows]
        scheme = programs.state.schemes[0, 0]
        self.kernel.statistics = {name: int(scheme[name]) for name in self.kernel.statistics}
        memory = programs.memories.records[0]
        swapped = int(memory["swapped"]) * PAGE_BYTES
        used = memory["fast_used"] * PAGE_BYTES
        self.proc.machine(
            total=int(memory["fast_pages"]) * PAGE_BYTES,
            free=int(memory["fast_pages"]) * PAGE_BYTES - int(used),
            swapped=swapped,
            pressure=memory["psi_share_10s"],
            stall_us=int(memory["psi_us"]),
            returned=int(memory["major_faults"]),
        )
        resident = int(used - swapped * memory["swap_share"])
        self.proc.process(PID, resident, swapped, faults=int(memory["major_faults"]))
        self.proc.kdamond(int(memory["kdamond_ns"]))


class TierMirror(KernelMirror):
    """The same of a program on two nodes, each of which is a range of physical addresses.

    What a simulated region has on both nodes is shown as a region on each; what is free as one more that is idle.
    """

    def __init__(self, folder, monkeypatch, programs, schemes):
        super().__init__(folder, monkeypatch, programs, schemes)
        memory = programs.memories.records[0]
        sizes = [int(memory[name]) * PAGE_BYTES for name in ("fast_pages", "slow_pages")]
        self.starts = (ORIGIN, 2 * ORIGIN + sizes[0])
        # The kernel has set some memory aside, which DAMON watches although it manages none of it.
        self.zones = [[(start, size + RESERVED, size)] for start, size in zip(self.starts, sizes, strict=True)]
        self.free = [0, 0]

    def show(self):
        programs = self.programs
        picture, memories = whole_picture(programs.state, 0), programs.memories.records
        self.kernel.regions = []
        used = [float(memories[0][name]) * PAGE_BYTES for name in ("fast_used", "slow_used")]
        self.free = [
            max(0, zones[0][2] - round(used_bytes)) for zones, used_bytes in zip(self.zones, used, strict=True)
        ]
        for node, ((start, spanned, _),) in enumerate(self.zones):
            address = start
            for low, high, accesses, age in zip(
                picture.start, picture.end, picture.nr_accesses, picture.age, strict=True
            ):
                size = round(node_pages_of(memories, 0, int(low), int(high), node) * PAGE_BYTES)
                if size > 0:
                    self.kernel.regions.append((address, address + size, int(accesses), int(age)))
                    address += size
            if address < start + spanned:
                self.kernel.regions.append((address, start + spanned, 0, 10_000))
        for number in range(2):
            scheme = programs.state.schemes[0, number]
            self.kernel.own_statistics[number] = {name: int(scheme[name]) for name in self.kernel.statistics}
        self.proc.nodes(*((node, self.zones[node], self.free[node]) for node in range(2)))
        self.proc.kdamond(int(memories[0]["kdamond_ns"]))


@compiled
def node_pages_of(memories, row, start, end, node):
    """`node_pages` of one of N memories, for use from Python."""
    return node_pages(memories[row], start, end, node)
