"""`python -m agents serve MODEL --mount FOLDER` lets a trained agent decide; `export RUN... --name NAME` ships one."""

from __future__ import annotations

import argparse
from pathlib import Path

from kml_envs.errors import OneLineParser, run_command


def main() -> int:
    """Parse the command line, and serve or export."""
    values = vars(parser().parse_args())
    command = values.pop("command")
    if command == "export":
        from agents.shipped import export_agent

        agent = export_agent(**values)
        print(f"{agent.folder}: seeds {', '.join(map(str, agent.seeds))}, best on the validation workloads first")
        return 0
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
    export = commands.add_parser("export", help="ship the best models of run folders, alike but for their seeds")
    export.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder of train.py")
    export.add_argument("--name", required=True, help="what the agent is to be called, such as lfs-tune")
    return result


if __name__ == "__main__":
    run_command(main)
