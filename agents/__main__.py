"""Trained agents in user space.

`python -m agents serve MODEL --mount FOLDER` lets one decide for a served subsystem, `drive AGENT --root FOLDER` lets
one drive a real kernel's DAMON, and `export RUN... --name NAME` ships one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kml_envs.errors import OneLineParser, run_command


def main() -> int:
    """Parse the command line, and serve, drive or export."""
    values = vars(parser().parse_args())
    command = values.pop("command")
    if command == "export":
        from agents.shipped import export_agent

        agent = export_agent(**values)
        print(f"{agent.folder}: seeds {', '.join(map(str, agent.seeds))}, best on the validation workloads first")
        return 0
    if command == "drive":
        from agents.driving import DrivingOptions, drive

        return drive(DrivingOptions(**values))
    from agents.serving import ServingOptions, serve_agent

    return serve_agent(ServingOptions(**values))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = OneLineParser(prog="python -m agents", description="Trained agents in user space.")
    commands = result.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="answer the data sets of a served subsystem")
    add = serve.add_argument
    add("model", nargs="?", type=Path, help="run folder of train.py, or a model's zip file in one")
    add("--agent", metavar="NAME", help="a trained agent that comes with the package, such as lfs-tune")
    add("--mount", type=Path, metavar="FOLDER", help="where the subsystem is mounted")
    add("--socket", type=Path, metavar="PATH", help="or the socket where it is served")
    add("--learn", action="store_true", help="keep learning from the feedback")
    add("--save", type=Path, metavar="FILE", help="where --learn saves (default: served_model.zip beside the model)")
    add("--save-freq", type=int, default=10_000, help="decisions between two savings (default: %(default)s)")
    add("--env", help="environment id of a model that has no run folder")
    add("--algo", help="algorithm of such a model")
    add("--trust", action="store_true", help="load such a model, which runs code that it contains")
    add("--quiet", action="store_true", help="say nothing")
    _add_drive(commands)
    export = commands.add_parser(
        "export", help="ship the best models of run folders, alike but for their seeds; replaces an agent of that name"
    )
    export.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder of train.py")
    export.add_argument("--name", required=True, help="what the agent is to be called, such as lfs-tune")
    return result


def _add_drive(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    """The command line of `drive`."""
    drive = commands.add_parser(
        "drive",
        help="drive the DAMON of a real kernel",
        description=(
            "Drive the DAMON of a real kernel through its files: every interval look at snapshot, statistics and /proc,"
            " ask the agent, check, and write. It writes, below --root: nr_kdamonds, if it is 0; then, of one kdamond,"
            " all settings of its context (operations, intervals, numbers of regions, target, and schemes: those that"
            " act, and a stat scheme that shows all regions) and its state (on, commit, update_..., off)."
            " What was set for that kdamond before is lost; a kdamond that is on is left alone. At the end, also after"
            " SIGHUP, SIGINT and SIGTERM, it is turned off. Schemes of kml/DamonReclaim-v0 page memory out, those of"
            " kml/DamonTier-v0 migrate memory between two nodes."
        ),
    )
    add = drive.add_argument
    add("agent", metavar="AGENT", help="a trained agent that comes with the package, such as damon-reclaim, or a run")
    add("--root", type=Path, default=Path("/sys/kernel/mm/damon/admin"), help="DAMON's files (default: %(default)s)")
    add("--proc", type=Path, default=Path("/proc"), help="the kernel's other files (default: %(default)s)")
    add(
        "--pid",
        type=int,
        help="process to watch and manage (default: all physical memory, and nothing else for kml/DamonTier-v0)",
    )
    add(
        "--nodes",
        type=int,
        nargs=2,
        metavar=("FAST", "SLOW"),
        help="memory nodes of agents of kml/DamonTier-v0, which watch all memory of both (default: 0 1)",
    )
    add("--kdamond", type=int, default=0, help="number of the kdamond (default: %(default)s)")
    add("--interval", type=float, metavar="SECONDS", help="control interval (default: as in training)")
    add("--steps", type=int, help="intervals (default: until interrupted)")
    add("--builtin", help="built-in algorithm that acts where the agent does not (default: as in training)")
    add("--this-kernel", action="store_true", help="allow writing to the kernel that this runs on")
    add("--quiet", action="store_true", help="say nothing")


if __name__ == "__main__":
    run_command(main)
