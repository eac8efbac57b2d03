"""Speed of the simulated DAMON, as ratios within one run.

    python benchmarks/damon.py

What is measured: simulated seconds per second of processor time with 1,000 regions and default attributes; the cost
of an aggregation of 200 MB against 160 GB, and of the page-by-page back end against the aggregated one. Then, for every
environment of DAMON, the step rate of the native vector environment over the single one's, on one thread and with
its rows shared among as many threads as there are cores; with what part of a single step is the
simulator's. Everything runs in turns and the fastest turn counts; times are processor times of the thread in the first
table, and of the clock in the second.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable

import gymnasium
import numpy as np

import kml_envs
from agents.vector_env import make_native_vec_env
from kml_envs.damon.config import Context, MonitoringAttributes, Operations
from kml_envs.damon.simulator import Sampling, SimulatedDamon
from kml_envs.damon.versions import KernelVersion
from kml_envs.workloads.access import PAGE_BYTES, AccessTable

SMALL_BYTES = 200 * 2**20
LARGE_BYTES = 160 * 2**30
REGIONS = 1000
SEED = 3
WARM_UP_S = 60.0
ROWS = 64
STEPS = 15  # of a single environment in a turn, and of a vector environment


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of the simulated DAMON.")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side; the fastest counts")
    parser.add_argument("--seconds", type=float, default=200.0, help="simulated seconds of a turn")
    parser.add_argument("--workload", default="sort-rows", help="of the environments (default: %(default)s)")
    arguments = parser.parse_args()
    measure_monitors(arguments.repeats, arguments.seconds)
    print()
    measure_environments(arguments.repeats, arguments.workload)


def measure_monitors(repeats: int, seconds_of_turn: float) -> None:
    """Print how fast monitors are."""
    monitors = {
        "200 MB, aggregated": started(SMALL_BYTES),
        "160 GB, aggregated": started(LARGE_BYTES),
        "200 MB, page by page": started(SMALL_BYTES, Sampling(per_sample=True)),
    }
    fastest = dict.fromkeys(monitors, np.inf)
    for _ in range(repeats):
        for name, damon in monitors.items():
            seconds = seconds_of_turn / (20 if "page" in name else 1)
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


def measure_environments(repeats: int, workload: str) -> None:
    """Print how much faster vector environments are than single ones, per step of an instance."""
    cores = os.cpu_count() or 1
    print(
        f"{'environment':>22} {'single steps/s':>15} {f'of {ROWS} rows':>15} {'ratio':>6} "
        f"{f'on {cores} threads':>15} {'ratio':>6} {'simulator share':>16}"
    )
    for env_id in kml_envs.environment_ids():
        if "Damon" not in env_id:
            continue
        single = gymnasium.make(env_id, workloads=[workload])
        inside = [0.0]
        timed_execution(single, inside)
        shared = [make_native_vec_env(env_id, ROWS, {"workloads": [workload]}, threads) for threads in (1, cores)]
        action = np.zeros(single.action_space.shape, np.float32)
        turns = [
            (functools.partial(step_single, single, action), 4 * STEPS, 1),
            *((functools.partial(env.step, np.tile(action, (ROWS, 1))), STEPS, ROWS) for env in shared),
        ]
        single.reset(seed=SEED)
        for env in shared:
            env.seed(SEED)
            env.reset()
        fastest, share = [np.inf] * len(turns), 1.0
        for _ in range(repeats + 1):  # the first turn fills the caches
            for place, (step, count, rows) in enumerate(turns):
                inside[0] = 0.0
                begin = time.perf_counter()
                for _ in range(count):
                    step()
                spent = (time.perf_counter() - begin) / count / rows
                if spent < fastest[place]:
                    fastest[place] = spent
                    share = inside[0] / count / spent if rows == 1 else share
        rates = [1.0 / spent for spent in fastest]
        ratios = [f"{rate:15,.0f} {rate / rates[0]:6.2f}" for rate in rates[1:]]
        print(f"{env_id:>22} {rates[0]:15,.0f} {' '.join(ratios)} {share:16.2f}", flush=True)
        for env in shared:
            env.close()


def step_single(env: gymnasium.Env, action: np.ndarray) -> None:
    """Take a step in the middle of the box."""
    if env.step(action)[3]:
        env.reset()


def timed_execution(env: gymnasium.Env, inside: list[float]) -> None:
    """Let the subsystem and its shadow add the time of their compiled loops to a sum."""
    proxy = env.unwrapped.proxy
    for owner in (proxy.subsystem, proxy.efficiency._shadow._subsystem):

        def execute(*given: object, run: Callable[..., None] = owner.execute) -> None:
            begin = time.perf_counter()
            run(*given)
            inside[0] += time.perf_counter() - begin

        owner.execute = execute


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
