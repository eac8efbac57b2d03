"""Print what thresholds on idle time could reach in `kml/DamonReclaim-v0` if the monitor saw every page.

    python -m tools.reclaim_thresholds [SUITE ...]

By workload of a suite (default: `memory-held-out`), in mean over the places at which episodes begin: the score of the
best of some thresholds, that of the clairvoyant oracle, and below them the means, and that of one threshold for all.
What a policy lacks to the first is the monitor's and its own; what that lacks to the second nobody can know.
"""

from __future__ import annotations

import numpy as np

from kml_envs.damon.oracle import idle_threshold_scores, reclaim_bound
from kml_envs.damon.warm_programs import ORIGINS
from kml_envs.envs.damon_reclaim import DamonReclaimSubsystem, ReclaimArguments
from kml_envs.errors import OneLineParser, run_command
from kml_envs.memory_suites import memory_workload_names

THRESHOLDS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
NEVER = "never"


def measure(workload: str) -> tuple[float, np.ndarray]:
    """The oracle's score on a workload, and those of the thresholds (K,)."""
    make_subsystem, options = ReclaimArguments(workloads=workload).setup()
    programs = make_subsystem(1)
    assert isinstance(programs, DamonReclaimSubsystem)
    [known], machine = programs.warm.workloads, programs.warm.machine
    config, duration_s = machine.config_for(known), options.episode_progress / 1000.0
    origins = [programs.warm.origin_us(0, place) for place in range(ORIGINS)]
    oracle = [reclaim_bound(known.table, config, duration_s, origin_us=origin).score for origin in origins]
    scores = [
        idle_threshold_scores(known.table, config, duration_s, THRESHOLDS_S, origin_us=origin) for origin in origins
    ]
    return float(np.mean(oracle)), np.mean(scores, axis=0)


def main() -> int:
    """Print the table."""
    parser = OneLineParser(prog="python -m tools.reclaim_thresholds", description=__doc__.partition("\n")[0])
    parser.add_argument("suites", nargs="*", default=["memory-held-out"], metavar="SUITE", help="or a workload's name")
    names = memory_workload_names(parser.parse_args().suites)
    found = [measure(name) for name in names]
    print(f"{'workload':24} {'best threshold':>15} {'its score':>10} {'clairvoyant':>12}")
    for name, (oracle, scores) in zip(names, found, strict=True):
        best = int(scores.argmax())
        chosen = f"{THRESHOLDS_S[best]:g} s" if scores[best] > 0 else NEVER
        print(f"{name:24} {chosen:>15} {max(scores[best], 0.0):10.4f} {oracle:12.4f}")
    oracle_mean = float(np.mean([oracle for oracle, _ in found]))
    everything = np.array([scores for _, scores in found])
    best_mean = float(np.maximum(everything.max(axis=1), 0.0).mean())
    print(f"{'mean':24} {'of each':>15} {best_mean:10.4f} {oracle_mean:12.4f}")
    common = everything.mean(axis=0)
    print(f"{'':24} {f'{THRESHOLDS_S[int(common.argmax())]:g} s for all':>15} {common.max():10.4f}")
    return 0


if __name__ == "__main__":
    run_command(main)
