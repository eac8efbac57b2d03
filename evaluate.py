"""Say how good a policy is: `python evaluate.py logs/ppo/kml-LfsTune-v0_1`, or `--policy cost-benefit`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kml_envs.command_line import not_negative, parse_pairs
from kml_envs.errors import OneLineParser, run_command
from kml_envs.long_episodes import UNITS


def main() -> int:
    """Parse the command line, play, and report."""
    arguments = parser().parse_args()
    from agents.judging import JudgingOptions, judge

    values = vars(arguments)
    workloads = [
        *(values.pop("suite") or ()),
        *(values.pop("workload") or ()),
        *(f"trace:{path}" for path in values.pop("trace") or ()),
    ]
    values["env_kwargs"] = parse_pairs(values["env_kwargs"], "--env-kwargs")
    print(judge(JudgingOptions(workloads=tuple(workloads), **values), sys.stderr))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("model", nargs="?", type=Path, help="run folder of train.py, or a model's zip file in one")
    add(
        "--policy",
        help="a built-in algorithm, clairvoyant, informed, rule, random-action[:SEED] or constant:NUMBER[,NUMBER...]",
    )
    add("--agent", metavar="NAME", help="a trained agent that comes with the package, such as lfs-tune or lfs-tune:3")
    add("--env", help="environment id (default: the model's, else kml/LfsTune-v0)")
    add("--env-kwargs", nargs="+", metavar="KEY:VALUE", help="arguments of the environment, such as utilisation:0.9")
    add(
        "--suite",
        nargs="+",
        metavar="NAME",
        help="suites of workloads (default: held-out), or a benchmark: lfs-tune, ...",
    )
    add("--workload", nargs="+", metavar="NAME", help="single workloads, such as zipf-0.99")
    add(
        "--trace",
        nargs="+",
        metavar="FILE",
        help="your own traces: of blocks; for DAMON damo records, masim configurations, lackey, CSV of accesses",
    )
    add("--seeds", nargs="+", type=int, metavar="SEED", help="seeds of the episodes (default: 1001, 1002, ...)")
    add("--n-seeds", type=int, help="number of episodes on each workload (default: 5)")
    add("--mode", help="learning, collaboration, recommendation, emergency or auto (default: recommendation)")
    add("--algo", help="algorithm of a model that has no run folder")
    add("--trust", action="store_true", help="load a model without run folder, which runs code that it contains")
    add("--json", type=Path, metavar="FILE", help="write everything as JSON")
    add("--csv", type=Path, metavar="FILE", help="write one line per episode")
    add("--plot", type=Path, metavar="FILE", help="draw the comparison (.png, .svg, .pdf, ...)")
    add("--damo", metavar="FILE", type=Path, help="write what DAMON's monitor finds, as records for damo report")
    add(
        "--deployment",
        type=not_negative,
        metavar="VOLUMES",
        help="length of the runs of the second table, under mode auto: volumes of user writes, for DAMON half minutes; "
        f"0: none (default: {UNITS:g})",
    )
    add("--explain", action="store_true", help="say what drives the agent instead, and draw its choices")
    add("--output", type=Path, metavar="FOLDER", help="where --explain draws (default: logs/explanations/NAME)")
    add("--quiet", action="store_true", help="do not tell what is being played")
    return result


if __name__ == "__main__":
    run_command(main)
