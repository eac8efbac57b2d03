"""A tree of the kernel's files under /proc in an ordinary folder, written in the kernel's formats."""

KDAMOND = 42


def zone_text(node, name, start, spanned, managed, free):
    """What /proc/zoneinfo says of a zone, all in bytes; of one without memory it says less."""
    free, spanned, managed = free // 4096, spanned // 4096, managed // 4096
    text = (
        f"Node {node}, zone {name:>8}\n  per-node stats\n      nr_inactive_anon 12\n  pages free     {free}\n"
        f"        boost    0\n        min      32\n        spanned  {spanned}\n        present  {spanned}\n"
        f"        managed  {managed}\n        cma      0\n        protection: (0, 0, 0, 0, 0)\n"
    )
    if spanned:
        text += f"      nr_free_pages {free}\n  pagesets\n    cpu: 0\n              count:    0\n"
        text += f"  node_unreclaimable:  0\n  start_pfn:           {start // 4096}\n"
    return text


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

    def nodes(self, *nodes):
        """Write nodes, each of a number, its zones (first byte, bytes spanned, bytes managed) and its free bytes."""
        text, ranges = "", []
        for number, zones, free in nodes:
            for place, (start, spanned, managed) in enumerate(zones):
                text += zone_text(number, f"Zone{place}", start, spanned, managed, free if place == 0 else 0)
                ranges.append((start, start + spanned))
            text += zone_text(number, "Movable", 0, 0, 0, 0)
        self._write("zoneinfo", text)
        self._write("iomem", "".join(f"{start:08x}-{end - 1:08x} : System RAM\n" for start, end in sorted(ranges)))

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
