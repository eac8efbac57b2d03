"""`python -m kml_envs serve`: the command line of the server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium

from kml_envs.command_line import parse_pairs
from kml_envs.envs.domains import AUTOMATIC, comparison_of, has_domains
from kml_envs.envs.proxy_env import ProxyEnv, ProxyVectorEnv
from kml_envs.errors import OneLineParser, UserError
from kml_envs.long_episodes import with_long_episodes
from kml_envs.proxy.modes import AUTO
from kml_envs.registration import find_environment
from kml_envs.serve.channel import Channel
from kml_envs.serve.kernel import SimulatedKernel
from kml_envs.serve.options import ServeOptions
from kml_envs.serve.recording import Recorder
from kml_envs.serve.server import Places, serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `serve` takes."""
    add = parser.add_argument
    add("--env", default="kml/LfsVictim-v0", help="environment id, or MODULE:ID (default: %(default)s)")
    add("--env-kwargs", nargs="+", metavar="KEY:VALUE", help="arguments of the environment, such as segments:128")
    add("--mode", default="auto", help="the proxy's mode (default: %(default)s)")
    add("--socket", type=Path, metavar="PATH", help="serve at a Unix-domain socket")
    add("--mount", type=Path, metavar="FOLDER", help="serve as files (needs the extra 'fuse')")
    add("--model-name", default="model", help="name of the model's folder in the mount (default: %(default)s)")
    add("--speed", type=float, default=1.0, help="simulated seconds per second; 0: unpaced (default: %(default)s)")
    add("--deadline-ms", type=float, default=50.0, help="time that the agent has (default: %(default)s)")
    add("--seed", type=int, help="of the episodes (default: from the operating system)")
    add("--record", type=Path, metavar="FOLDER", help="store every decision there")


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal ends it.

    Raises:
        UserError: The command line names what does not exist, or a place cannot be used.
    """
    places = Places(arguments.socket, arguments.mount, arguments.model_name)
    options = ServeOptions(arguments.speed, arguments.deadline_ms)
    if arguments.seed is not None and arguments.seed < 0:
        raise UserError(f"--seed {arguments.seed}: must not be negative")
    env_kwargs = parse_pairs(arguments.env_kwargs, "--env-kwargs")
    env_kwargs = served_arguments(arguments.env, arguments.mode, env_kwargs)
    env = make_served(arguments.env, env_kwargs)
    comparison = comparison_of(arguments.env, env_kwargs)[1] if env_kwargs["mode"] == AUTO else "not compared"
    tell = partial(print, file=sys.stderr, flush=True)
    tell(f"preparing {arguments.env} (compiling takes a minute or two the first time) ...")
    tell(f"mode {env_kwargs['mode']}: {comparison}")
    recorder = None
    if arguments.record is not None:
        recorder = Recorder(arguments.record, arguments.env, env_kwargs, env.proxy.subsystem)
    kernel = SimulatedKernel(env, options, arguments.seed, None if recorder is None else recorder.add_decision)
    channel = Channel(kernel, find_environment(arguments.env), comparison)
    served_at = " and ".join(str(place) for place in (places.socket_path, places.mount) if place is not None)

    def ready() -> None:
        if recorder is not None:
            recorder.begin()
        tell(f"serving {arguments.env} at {served_at}")

    try:
        serve(channel, places, ready)
        kernel.close()
    finally:
        if recorder is not None:
            recorder.flush()
    return 0


def served_arguments(env_id: str, mode: str, env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a served environment: long episodes, and domains where the volume is large enough.

    Args:
        env_id: The environment.
        mode: The proxy's mode, unless the arguments say it.
        env_kwargs: The arguments that the user gives.
    """
    arguments = with_long_episodes(env_id, {"mode": mode, **env_kwargs})
    if arguments["mode"] == AUTO and has_domains(env_id):
        arguments.setdefault("domains", AUTOMATIC)
    return arguments


def make_served(env_id: str, env_kwargs: Mapping[str, Any]) -> ProxyEnv | ProxyVectorEnv:
    """The environment whose proxy is to be served: a single one, or one row for each domain of a volume.

    Args:
        env_id: A registered id, or `MODULE:ID` where importing the module registers it.
        env_kwargs: Its arguments.

    Raises:
        UserError: There is no such environment, it has no proxy, or it does not take these arguments.
    """
    name, arguments = find_environment(env_id), dict(env_kwargs)
    domains, _ = comparison_of(env_id, arguments)
    env: Any
    try:
        if domains == 1:
            env = gymnasium.make(name, disable_env_checker=True, **arguments)
        else:
            arguments["autoreset_mode"] = "disabled"
            env = gymnasium.make_vec(name, domains, vectorization_mode="vector_entry_point", **arguments)
    except TypeError as error:
        raise UserError(f"{env_id} does not take these arguments {dict(env_kwargs)}: {error}") from None
    if not isinstance(env.unwrapped, (ProxyEnv, ProxyVectorEnv)):
        raise UserError(f"--env {env_id}: has no proxy, so that there is nothing to serve")
    return env.unwrapped


def main(words: Sequence[str] | None = None) -> int:
    """Parse the words of `python -m kml_envs`, and do what they ask for."""
    parser = OneLineParser(prog="kml_envs", description="Simulated kernel subsystems behind an ML model proxy.")
    commands = parser.add_subparsers(dest="command", required=True)
    add_arguments(commands.add_parser("serve", help="serve a simulated subsystem to agents in other processes"))
    exporting = commands.add_parser("export-minari", help="make a data set of Minari from recorded decisions")
    exporting.add_argument("recording", type=Path, help="folder written by --record")
    exporting.add_argument("name", help="of the data set, such as kml/lfs-victim-v0")
    arguments = parser.parse_args(words)
    if arguments.command == "serve":
        return run(arguments)
    from kml_envs.serve.minari_export import export

    print(f"{arguments.name}: {export(arguments.recording, arguments.name)} episodes")
    return 0
