"""Speed of the simulated DAMON, as ratios within one run.

    python benchmarks/damon.py

What is measured: simulated seconds per second of processor time with 1,000 regions and default attributes; the cost
of an aggregation of 200 MB against 160 GB, and of the page-by-page back end against the aggregated one. Everything
runs in turns and the fastest turn counts; times are processor times of the thread.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from kml_envs.damon.config import Context, MonitoringAttributes, Operations
from kml_envs.damon.simulator import Sampling, SimulatedDamon
from kml_envs.damon.versions import KernelVersion
from kml_envs.workloads.access import PAGE_BYTES, AccessTable

SMALL_BYTES = 200 * 2**20
LARGE_BYTES = 160 * 2**30
REGIONS = 1000
SEED = 3
WARM_UP_S = 60.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of the simulated DAMON.")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side; the fastest counts")
    parser.add_argument("--seconds", type=float, default=200.0, help="simulated seconds of a turn")
    arguments = parser.parse_args()
    monitors = {
        "200 MB, aggregated": started(SMALL_BYTES),
        "160 GB, aggregated": started(LARGE_BYTES),
        "200 MB, page by page": started(SMALL_BYTES, Sampling(per_sample=True)),
    }
    fastest = dict.fromkeys(monitors, np.inf)
    for _ in range(arguments.repeats):
        for name, damon in monitors.items():
            seconds = arguments.seconds / (20 if "page" in name else 1)
            checks = int(damon.state.monitors["checks"][0])
            begin = time.thread_time()
            damon.run(round(seconds * 1e6))
            spent = time.thread_time() - begin
            # As if there were always 1,000 regions: cost goes with their number, which moves a little.
            share = (int(damon.state.monitors["checks"][0]) - checks) / (seconds * 200 * REGIONS)
            fastest[name] = min(fastest[name], spent / seconds / share)
    base = fastest["200 MB, aggregated"]
    print(f"{'':>22} {'simulated s per s':>18} {'cost against the first':>23}")
    for name, cost in fastest.items():
        print(f"{name:>22} {1 / cost:18,.0f} {cost / base:23.2f}")


def started(size: int, sampling: Sampling = Sampling()) -> SimulatedDamon:  # noqa: B008 - an immutable tuple
    """A monitor that has settled at about 1,000 regions.

    Args:
        size: Bytes of the memory, with 2,000 ranges of different rates, so that no two regions are alike for long.
        sampling: How accesses are found.
    """
    edges = np.linspace(0, size // PAGE_BYTES, 2001).astype(np.int64) * PAGE_BYTES
    rates = np.random.default_rng(SEED).exponential(150.0, edges.size - 1)
    table = AccessTable(
        phase_end_us=np.array([10**15]),
        first_range=np.array([0, rates.size]),
        start=edges[:-1],
        end=edges[1:],
        rate=rates,
        sweep_us=np.zeros(rates.size),
        size=size,
    )
    damon = SimulatedDamon(table, SEED, KernelVersion.LATEST, sampling)
    attributes = MonitoringAttributes(min_nr_regions=REGIONS - 100, max_nr_regions=REGIONS)
    damon.turn_on(Context(Operations.FVADDR, attributes))
    damon.run(round(WARM_UP_S * 1e6))
    return damon


if __name__ == "__main__":
    main()
