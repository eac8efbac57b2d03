"""What mode `auto` adds to a vector step: the time of a step that is not the simulator's, in both modes.

    python benchmarks/proxy_cost.py [--instances 256] [--rounds 20] [--efficiency shadow]

The two modes do different work: under `auto` a step also runs through the units of the built-in algorithm, which
happen anyway. So the time inside the subsystem's (and its shadow's) `execute` and `snapshot` is taken off, and what
is left (proxy, units, evidence, budget) is compared per vector step:

    added = (left under auto - left under recommendation) / (whole step under recommendation)

The modes take turns in one run, so that a busy machine slows both alike; medians over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

import kml_envs  # noqa: F401  (registers the environments)

BOUND = 0.10
STEPS = 100  # of a round


class Stopwatch:
    """Adds up the time spent in methods of objects."""

    def __init__(self) -> None:
        """Nothing is watched yet."""
        self.seconds = 0.0

    def watch(self, owner: Any, *names: str) -> None:  # noqa: ANN401
        """Watch methods of an object."""
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:  # noqa: ANN401
            begin = time.thread_time()
            result = method(*arguments)
            self.seconds += time.thread_time() - begin
            return result

        return call


class Measured:
    """One environment whose steps are timed, without and with the simulator's part."""

    def __init__(self, mode: str, instances: int, efficiency: str) -> None:
        """Make the environment and get it going."""
        self.environment: Any = gymnasium.make_vec(
            "kml_envs:kml/LfsVictim-v0",
            num_envs=instances,
            vectorization_mode="vector_entry_point",
            mode=mode,
            efficiency=efficiency,
            episode_volumes=200.0,
        )
        self.actions = np.zeros(instances, np.int64)
        self.simulator = Stopwatch()
        proxy = self.environment.unwrapped.proxy
        self.simulator.watch(proxy.subsystem, "execute", "snapshot")
        if efficiency == "shadow":
            self.simulator.watch(proxy.efficiency._shadow, "cost_at")
        self.environment.reset(seed=1)
        self.round()

    def round(self) -> tuple[float, float]:
        """Seconds of a step on average over a round: in all, and outside the simulator."""
        self.simulator.seconds = 0.0
        begin = time.thread_time()
        for _ in range(STEPS):
            self.environment.step(self.actions)
        whole = time.thread_time() - begin
        return whole / STEPS, (whole - self.simulator.seconds) / STEPS


def measure(instances: int, rounds: int, efficiency: str) -> dict[str, tuple[float, float]]:
    """Median seconds of a vector step by mode: in all, and outside the simulator."""
    measured = {mode: Measured(mode, instances, efficiency) for mode in ("recommendation", "auto")}
    seen: dict[str, list[tuple[float, float]]] = {mode: [] for mode in measured}
    for _ in range(rounds):
        for mode, one in measured.items():
            seen[mode].append(one.round())
    return {
        mode: (statistics.median(whole for whole, _ in each), statistics.median(left for _, left in each))
        for mode, each in seen.items()
    }


def main() -> None:
    """Measure, and print what the mode adds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=256, help="rows of the environment (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help=f"rounds of {STEPS} steps (default: %(default)s)")
    parser.add_argument("--efficiency", choices=("shadow", "none"), nargs="+", default=["none", "shadow"])
    arguments = parser.parse_args()
    print(f"{'efficiency':10} {'mode':15} {'step µs':>9} {'outside the simulator µs':>25}")
    for efficiency in arguments.efficiency:
        result = measure(arguments.instances, arguments.rounds, efficiency)
        for mode, (whole, left) in result.items():
            print(f"{efficiency:10} {mode:15} {whole * 1e6:9.0f} {left * 1e6:25.0f}")
        added = (result["auto"][1] - result["recommendation"][1]) / result["recommendation"][0]
        print(f"mode auto adds {100 * added:.1f} % to a vector step (bound {100 * BOUND:.0f} %)", flush=True)


if __name__ == "__main__":
    main()
