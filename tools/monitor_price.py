"""Print the price of a processor in the objective of `kml/DamonMonitor-v0`.

    python -m tools.monitor_price

It is such that access error and processor time cost the kernel's fixed defaults the same, over one episode of every
workload of `memory-train`. A test checks that `kml_envs.damon.monitor_tuning.CPU_PRICE` is what this prints.
"""

from __future__ import annotations

import numpy as np

from kml_envs.envs.damon_monitor import DamonMonitorSubsystem, MonitorArguments
from kml_envs.errors import OneLineParser, run_command


def measure() -> tuple[float, float]:
    """Mean access error, and mean share of a processor, of the kernel's fixed defaults."""
    make_subsystem, options = MonitorArguments(builtin="defaults").setup()
    programs = make_subsystem(1)
    assert isinstance(programs, DamonMonitorSubsystem)
    all_rows, never = np.ones(1, np.bool_), np.zeros(1, np.bool_)
    found = []
    for workload in range(len(programs.warm.workloads)):
        programs.reset(all_rows, np.array([workload], np.uint64))
        programs.execute(programs.builtin_decision(), never, programs.progress() + options.episode_progress, all_rows)
        metrics = programs.metrics()
        found.append((float(metrics["access_error"][0]), float(metrics["monitor_cpu_share"][0])))
    error, share = np.mean(found, axis=0)
    return float(error), float(share)


def price(error: float, share: float) -> float:
    """What makes both terms equal, with three digits."""
    return float(f"{error / share:.3g}")


def main() -> None:
    """Print it."""
    OneLineParser(prog="python -m tools.monitor_price", description=__doc__.partition("\n")[0]).parse_args()
    error, share = measure()
    print(f"access error {error:.4f}, share of a processor {share:.5f}: CPU_PRICE = {price(error, share)}")


if __name__ == "__main__":
    run_command(main)
