"""A tree of the kernel's files under /proc in an ordinary folder, written in the kernel's formats."""

KDAMOND = 42


class FakeProc:
    """The tree; each method writes some of its files anew."""

    def __init__(self, root):
        self.root = root
        self.machine(total=8 << 30, free=4 << 30)
        self.kdamond(0)
        self._write(
            "iomem", "00001000-0009ffff : System RAM\n000a0000-000fffff : Reserved\n00100000-3fffffff : System RAM\n"
        )

    def machine(self, total, free, least_free=64 << 20, swapped=0, pressure=0.0, stall_us=0, returned=0):
        swap = 16 << 30
        meminfo = {
            "MemTotal": total,
            "MemFree": free,
            "MemAvailable": free,
            "SwapTotal": swap,
            "SwapFree": swap - swapped,
        }
        self._write("meminfo", "".join(f"{name + ':':<16}{value // 1024:>8} kB\n" for name, value in meminfo.items()))
        self._write("sys/vm/min_free_kbytes", f"{least_free // 1024}\n")
        self._write(
            "vmstat", f"nr_free_pages {free // 4096}\npswpin {returned}\npswpout 0\nworkingset_refault_anon 5\n"
        )
        line = "{} avg10={:.2f} avg60=0.00 avg300=0.00 total={}\n"
        self._write(
            "pressure/memory", line.format("some", 100 * pressure, stall_us) + line.format("full", 0.0, stall_us // 2)
        )

    def process(self, pid, resident, swapped, faults=0):
        self._write(
            f"{pid}/status", f"Name:\ta program\nVmRSS:\t{resident // 1024:>8} kB\nVmSwap:\t{swapped // 1024:>8} kB\n"
        )
        self._write(f"{pid}/stat", f"{pid} (a (odd) program) S 1 1 1 0 -1 0 9 0 {faults} 0 300 200 0 0 20 0\n")

    def kdamond(self, processor_ns):
        self._write(f"{KDAMOND}/schedstat", f"{processor_ns} 12345 67\n")

    def _write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
