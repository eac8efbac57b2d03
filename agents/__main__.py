"""`python -m agents serve MODEL --mount FOLDER`: let a trained agent decide for a served subsystem."""

from __future__ import annotations

import argparse
from pathlib import Path

from kml_envs.errors import OneLineParser, run_command


def main() -> int:
    """Parse the command line and serve."""
    arguments = parser().parse_args()
    from agents.serving import ServingOptions, serve_agent

    values = vars(arguments)
    values.pop("command")
    return serve_agent(ServingOptions(**values))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = OneLineParser(prog="python -m agents", description="Trained agents in user space.")
    serve = result.add_subparsers(dest="command", required=True).add_parser(
        "serve", help="answer the data sets of a served subsystem"
    )
    add = serve.add_argument
    add("model", type=Path, help="run folder of train.py, or a model's zip file in one")
    add("--mount", type=Path, metavar="FOLDER", help="where the subsystem is mounted")
    add("--socket", type=Path, metavar="PATH", help="or the socket where it is served")
    add("--learn", action="store_true", help="keep learning from the feedback")
    add("--save", type=Path, metavar="FILE", help="where --learn saves (default: served_model.zip beside the model)")
    add("--save-freq", type=int, default=10_000, help="decisions between two savings (default: %(default)s)")
    add("--env", help="environment id of a model that has no run folder")
    add("--algo", help="algorithm of such a model")
    add("--trust", action="store_true", help="load such a model, which runs code that it contains")
    add("--quiet", action="store_true", help="say nothing")
    return result


if __name__ == "__main__":
    run_command(main)
