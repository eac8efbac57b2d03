"""Write the compact forms of the kernel recordings that the conformance tests read.

python tests/conformance/compact_recordings.py SHARED, SHARED being the folder that holds kernel-data.
"""

import gzip
import json
import re
import sys
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"
PAIRS = ("p_h85_greedyFG", "p_h80_cbFG", "p_u85_cbBG", "p_u80_atgcBG")
LAST_VICTIM = {"Cost-Benefit": 0, "Greedy": 1, "Age-threshold": 2}
FREED = "nilfs2_segment_usage_freed"
MONITORED = ("stair_tick", "zipf", "seq", "pageout", "pageoutwm")
TICKS_PER_SECOND = 100
MONITORED_BASE = 0x10000000000
USAGE = (0, 2, 3, 5, 9)  # time, ticks of kdamond, resident and free KiB, bytes that the scheme was applied to


def compact_victims(folder):
    """Segment tables before a cleaning, and the victim that the kernel then chose: f2fs_victims.npz."""
    columns = {}
    for file in PAIRS:
        for line in gzip.open(folder / f"{file}.jsonl.gz", "rt"):
            record = json.loads(line)
            choice = next(event for event in record["trace"] if "f2fs_get_victim" in event)
            policy, victim, cost = re.search(r"LFS-mode, ([\w-]+)\), victim = (\d+), cost = (\d+)", choice).groups()
            row = {
                "run": np.uint8(PAIRS.index(file)),
                "valid": np.array(record["valid"], np.uint16),
                "mtime": np.array(record["mtime"], np.uint32),
                "dirty": np.isin(np.arange(record["main_segs"]), record["dirty"]),
                "newest": np.uint32(record["max_mtime"]),
                "oldest": np.uint32(record["min_mtime"]),
                "last_victim": np.uint16(record["last_victim"][LAST_VICTIM[policy]]),
                "victim": np.uint16(victim),
                "cost": np.uint32(cost),
            }
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
    np.savez_compressed(DATA / "f2fs_victims.npz", **{name: np.array(values) for name, values in columns.items()})


def compact_runs(folder):
    """The table of every run as it is, without the final segment listing: f2fs_runs.json.gz."""
    runs = {}
    for file in sorted(folder.glob("*.txt")):
        geometry, header, *lines = file.read_text().splitlines()
        rows = [[float(value) for value in line.split(",")] for line in lines if not line.startswith("S ")]
        runs[file.stem] = {
            "geometry": {name: int(value) for name, value in (word.split("=") for word in geometry.split()[1:])},
            "table": dict(zip(header.split(","), zip(*rows, strict=True), strict=True)),
        }
    _write_json(DATA / "f2fs_runs.json.gz", runs)


def compact_cleaner(folder):
    """Segments in the order of their allocation and release: nilfs2_segments.npz."""
    times, numbers, freed = [], [], []
    for line in gzip.open(folder / "n_h50_ns4_mr10.trace.gz", "rt"):
        time, event, *_, number = line.split()
        times.append(float(time))
        numbers.append(int(number))
        freed.append(event.startswith(FREED))
    np.savez_compressed(
        DATA / "nilfs2_segments.npz",
        time_us=np.round(np.array(times) * 1e6).astype(np.int64),
        segment=np.array(numbers, np.int16),
        freed=np.array(freed),
    )


def compact_monitor(folder):
    """Regions at every aggregation, what was touched, and what schemes were applied to: damon_runs.npz."""
    columns = {}
    for run in MONITORED:
        with gzip.open(folder / f"d_{run}.regions.csv.gz", "rt") as file:
            rows = np.loadtxt(file, delimiter=",")
        first = [0]
        while first[-1] < len(rows):
            first.append(first[-1] + int(rows[first[-1], 1]))
        columns[f"{run}_time_s"] = rows[first[:-1], 0].astype(np.float32)
        columns[f"{run}_regions"] = np.diff(first).astype(np.uint16)
        columns[f"{run}_end_page"] = _pages(rows[:, 3]).astype(np.uint16)
        columns[f"{run}_nr_accesses"] = rows[:, 4].astype(np.uint8)
        lines = (folder / f"d_{run}.truth.csv").read_text().splitlines()
        truth = np.loadtxt([line for line in lines if line[0].isdigit()], delimiter=",")
        columns[f"{run}_truth"] = truth.astype(np.float32)
        usage = np.genfromtxt(folder / f"d_{run}.stat.csv", delimiter=",", skip_header=1)
        seconds, ticks = usage[-1, :2] - usage[0, :2]
        columns[f"{run}_cpu_share"] = np.float32(ticks / TICKS_PER_SECOND / seconds)
        if (folder / f"d_{run}.damos.gz").exists():
            events = gzip.open(folder / f"d_{run}.damos.gz", "rt").read()
            columns[f"{run}_usage"] = usage[:, USAGE]
            found = re.findall(r"^([\d.]+) .* (\d+)-(\d+): ", events, re.MULTILINE)
            columns[f"{run}_applied"] = np.array(
                [(float(time), _pages(int(start)), _pages(int(end))) for time, start, end in found], np.float32
            )
    np.savez_compressed(DATA / "damon_runs.npz", **columns)


def _pages(address):
    return (address - MONITORED_BASE) // 4096


def _write_json(path, content):
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(json.dumps(content, separators=(",", ":")).encode())


if __name__ == "__main__":
    recordings = Path(sys.argv[1]) / "kernel-data"
    compact_victims(recordings / "f2fs-pairs")
    compact_runs(recordings / "f2fs-runs")
    compact_cleaner(recordings / "nilfs2")
    compact_monitor(recordings / "damon")
