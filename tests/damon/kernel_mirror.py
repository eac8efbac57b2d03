"""A simulated program shown as a real kernel would show it: DAMON's files and those under /proc."""

from fake_kernel import FakeKernel
from fake_proc import FakeProc

from kml_envs.damon.config import PAGE_BYTES, Context, Operations, Target
from kml_envs.damon.control import WHOLE_PICTURE
from kml_envs.damon.kernel_features import KernelSources
from kml_envs.damon.kernel_files import KernelFiles
from kml_envs.damon.simulator import whole_picture
from kml_envs.damon.sysfs import SysfsDamon

PID = 7
ORIGIN = 0x100000
"""Where the simulated memory begins among the kernel's addresses."""


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
