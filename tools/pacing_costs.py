"""Print what the objective of `kml/LfsPacing-v0` counts, for each built-in algorithm on the training workloads.

    python -m tools.pacing_costs

The latency limit L0 is a tenth of the 99th percentile of the built-in algorithm's latencies, since an objective that
begins at that percentile itself cannot tell an agent with a tail half as long from one with a tail a tenth as long. The
price of a moved block is such that latencies above L0 and moved blocks cost the built-in algorithm the same. Both are
taken over one episode of every warm volume of every workload of `paced-train`, in the default file system. A test
checks that `kml_envs.envs.lfs_pacing.SHIPPED_COSTS` is what this prints.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kml_envs.envs.lfs_pacing import BACKGROUNDS, LfsPacingSubsystem, PaceCost, PacingArguments
from kml_envs.errors import OneLineParser, run_command
from kml_envs.lfs.latency import percentile_ns

SEEDS = 4
SHARE_OF_TAIL = 0.1  # the latency limit, of the built-in algorithm's 99th percentile


def measure(builtin: str) -> PaceCost:
    """The costs of one built-in algorithm, rounded to a tenth of a millisecond and of a microsecond."""
    limit_ms = round(SHARE_OF_TAIL * float(percentile_ns(play(builtin, 1.0)[0], 99.0)) / 1e6, 1)
    _, excess_ns, moved = play(builtin, limit_ms)
    return PaceCost(limit_ms, round(excess_ns / moved / 1000, 1))


def play(builtin: str, limit_ms: float) -> tuple[NDArray[np.int64], int, int]:
    """Let a built-in algorithm play all episodes, with this latency limit.

    Returns:
        (LATENCY_BUCKETS,) int64 writes by latency, nanoseconds above the limit, and blocks moved.
    """
    arguments = PacingArguments(builtin=builtin, latency_limit_ms=limit_ms, move_price_us=0.0)
    make_subsystem, options = arguments.setup()
    volumes = make_subsystem(1)
    assert isinstance(volumes, LfsPacingSubsystem)
    all_rows, never = np.ones(1, np.bool_), np.zeros(1, np.bool_)
    workloads = len(volumes.warm.workloads)
    seeds = np.arange(workloads * SEEDS, dtype=np.uint64)  # each picks another workload and warm volume
    histogram = np.zeros(volumes.latency_histogram(0).shape, np.int64)
    excess_ns = moved = 0
    for seed in seeds:
        volumes.reset(all_rows, np.array([seed]))
        volumes.execute(volumes.builtin_decision(), never, volumes.progress() + options.episode_progress, all_rows)
        histogram += volumes.latency_histogram(0)
        metrics = volumes.metrics()
        excess_ns += round(float(metrics["excess_ms"][0]) * 1e6)
        moved += int(metrics["moved_blocks"][0])
    return histogram, excess_ns, moved


def main() -> None:
    """Print all of them, as Python."""
    OneLineParser(prog="python -m tools.pacing_costs", description=__doc__.partition("\n")[0]).parse_args()
    for builtin in BACKGROUNDS:
        cost = measure(builtin)
        print(f'    "{builtin}": PaceCost({cost.latency_limit_ms}, {cost.move_price_us}),')


if __name__ == "__main__":
    run_command(main)
