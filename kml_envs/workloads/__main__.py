"""Command line of the workloads: `python -m kml_envs.workloads describe FILE`, and other commands (see `--help`).

`describe` takes block traces and recorded memory accesses, and bundled traces and memory workloads by name.
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from kml_envs.errors import OneLineParser, UserError, run_command
from kml_envs.files import write_atomically
from kml_envs.memory_suites import is_memory_workload, make_memory_workload, memory_suites
from kml_envs.suites import suites
from kml_envs.workloads.bundled import bundled_names, load_bundled
from kml_envs.workloads.describe import describe_requests, format_description
from kml_envs.workloads.describe_memory import describe_accesses, format_access_description
from kml_envs.workloads.formats import ACTIONS, FORMATS, detect_format
from kml_envs.workloads.formats.records import LARGEST_OFFSET_BYTES
from kml_envs.workloads.formats.selection import ALL_DEVICES
from kml_envs.workloads.memory_traces import MEMORY_FORMATS, detect_memory_format, read_memory_trace, scaled
from kml_envs.workloads.recorded import recorded_index
from kml_envs.workloads.trace import RequestChunk, devices_side_by_side, iterate_requests, read_trace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        arguments: The command line without the program's name; None takes the process's own.

    Returns:
        The exit status.
    """
    chosen = build_parser().parse_args(arguments)
    run = cast(Callable[[argparse.Namespace], int], chosen.run)
    return run(chosen)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; every subcommand is added by a function of its own and sets `run`."""
    parser = OneLineParser(prog="python -m kml_envs.workloads", description="Block workloads and traces.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_describe(commands)
    _add_convert(commands)
    _add_formats(commands)
    _add_suites(commands)
    _add_programs(commands)
    return parser


_Commands = Any  # argparse keeps the class of add_subparsers' result private


def _add_describe(commands: _Commands) -> None:
    parser = commands.add_parser("describe", help="print what a block trace, or a record of memory accesses, holds")
    _add_reading_options(parser, "; or the name of a bundled trace or of a memory workload")
    parser.add_argument("--target", type=int, help="which record of a damo file that holds several, from 0")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=_describe)


def _describe(chosen: argparse.Namespace) -> int:
    if chosen.format in MEMORY_FORMATS or (chosen.format is None and _is_about_memory(chosen.file)):
        return _describe_memory(chosen)
    _refuse(chosen, _TARGET, f"{chosen.file} is no record of damo, of which it would choose one")
    if chosen.file in bundled_names() and not os.path.exists(chosen.file):
        return _describe_bundled(chosen)
    name = chosen.format or detect_format(chosen.file)
    options = _reading_options(chosen)
    description = describe_requests(
        Path(chosen.file).name, iterate_requests(chosen.file, **options), chosen.block_bytes
    )
    if chosen.json:
        print(json.dumps({"format": name, **description.as_dict()}, indent=2))
    else:
        print(format_description(description))
        print(f"\nread as '{name}' in blocks of {chosen.block_bytes:,} bytes")
    return 0


def _describe_bundled(chosen: argparse.Namespace) -> int:
    every = {**_BLOCK_OPTIONS, "format": None, "time_scale": 1.0}
    _refuse(chosen, every, f"is for files, and {chosen.file} is a bundled trace")
    description = describe_requests(chosen.file, load_bundled(chosen.file))
    print(json.dumps(description.as_dict(), indent=2) if chosen.json else format_description(description))
    return 0


def _refuse(chosen: argparse.Namespace, options: Mapping[str, Any], reason: str) -> None:
    """Refuse options, by name and default, that are given although they mean nothing here."""
    for name, default in options.items():
        if getattr(chosen, name) != default:
            raise UserError(f"--{name.replace('_', '-')}: {reason}")


def _is_about_memory(name: str) -> bool:
    if os.path.exists(name):
        return detect_memory_format(name) is not None
    return is_memory_workload(name)


def _describe_memory(chosen: argparse.Namespace) -> int:
    _refuse(chosen, _BLOCK_OPTIONS, f"is for block traces, and {chosen.file} is about memory")
    if os.path.exists(chosen.file):
        table = read_memory_trace(
            chosen.file, format=chosen.format, target=chosen.target, time_factor=chosen.time_scale
        )
    else:
        _refuse(chosen, _TARGET, f"{chosen.file} is no record of damo, of which it would choose one")
        table = scaled(make_memory_workload(chosen.file).table, chosen.time_scale, 1)
    description = describe_accesses(Path(chosen.file).name, table)
    print(json.dumps(description.as_dict(), indent=2) if chosen.json else format_access_description(description))
    return 0


def _add_convert(commands: _Commands) -> None:
    parser = commands.add_parser("convert", help="write a trace in the plain form: time_us,op,offset,size")
    _add_reading_options(parser)
    parser.add_argument("output", metavar="OUTPUT", help="file to write; .gz, .xz and .zst are compressed")
    parser.add_argument("--dense", action="store_true", help="number the blocks 0, 1, 2, ... in order of first access")
    parser.set_defaults(run=_convert)


def _convert(chosen: argparse.Namespace) -> int:
    options = _reading_options(chosen)
    if chosen.dense:
        trace = read_trace(chosen.file, dense=True, **options)
        chunks = iter([RequestChunk(trace.time_us, trace.is_write, trace.first_block, trace.block_count)])
    else:
        chunks = iterate_requests(chosen.file, **options)
        if chosen.device == ALL_DEVICES:
            chunks = _side_by_side(chosen, chunks)

    def write(temporary: Path) -> None:
        with _open_for_writing(str(temporary), chosen.output) as output:
            output.write(b"time_us,op,offset,size\n")
            for chunk in chunks:
                output.write(_plain_text(chunk, chosen.block_bytes))

    try:
        write_atomically(Path(chosen.output), write)
    except OSError as error:
        raise UserError(f"{chosen.output}: {(error.strerror or str(error)).lower()}") from error
    return 0


def _side_by_side(chosen: argparse.Namespace, chunks: Iterable[RequestChunk]) -> Iterator[RequestChunk]:
    """Move the devices together, since addresses beyond 4 PiB could not be read again."""
    moved = devices_side_by_side(list(chunks))
    if any((chunk.first_block > LARGEST_OFFSET_BYTES // chosen.block_bytes).any() for chunk in moved):
        raise UserError(f"{chosen.file}: its devices side by side are larger than 4 PiB: number the blocks by --dense")
    return iter(moved)


def _open_for_writing(temporary: str, name: str) -> BinaryIO:
    if name.endswith(".gz"):
        return cast(BinaryIO, gzip.open(temporary, "wb"))
    if name.endswith(".xz"):
        return cast(BinaryIO, lzma.open(temporary, "wb"))
    if name.endswith(".zst"):
        import zstandard

        return cast(BinaryIO, zstandard.open(temporary, "wb"))
    return open(temporary, "wb")


def _plain_text(chunk: RequestChunk, block_bytes: int) -> bytes:
    rows = zip(
        chunk.time_us.tolist(),
        chunk.is_write.tolist(),
        (chunk.first_block * block_bytes).tolist(),
        (chunk.block_count.astype("int64") * block_bytes).tolist(),
        strict=True,
    )
    return "".join(f"{time},{'W' if write else 'R'},{offset},{size}\n" for time, write, offset, size in rows).encode()


def _add_formats(commands: _Commands) -> None:
    parser = commands.add_parser("formats", help="list the trace formats that can be read")
    parser.set_defaults(run=_formats)


def _formats(chosen: argparse.Namespace) -> int:
    descriptions = {known.name: known.description for known in FORMATS.values()} | MEMORY_FORMATS
    width = max(len(name) for name in descriptions)
    for name, description in descriptions.items():
        print(f"{name:<{width}}  {description}")
    return 0


def _add_suites(commands: _Commands) -> None:
    parser = commands.add_parser("suites", help="list the suites of workloads, as a Markdown table")
    parser.add_argument("--memory", action="store_true", help="those of memory accesses instead of block writes")
    parser.set_defaults(run=_suites)


def _suites(chosen: argparse.Namespace) -> int:
    print("| suite | workloads |\n| --- | --- |")
    for name, workloads in (memory_suites() if chosen.memory else suites()).items():
        print(f"| `{name}` | {', '.join(f'`{workload}`' for workload in workloads)} |")
    return 0


def _add_programs(commands: _Commands) -> None:
    parser = commands.add_parser("programs", help="list the recorded programs of memory workloads, as a Markdown table")
    parser.set_defaults(run=_programs)


def _programs(chosen: argparse.Namespace) -> int:
    print("| name | split | what it does | instructions | pages touched | stretched | bytes |")
    print("| --- | --- | --- | ---: | ---: | --- | ---: |")
    for row in recorded_index().values():
        stretched = f"{row.address_factor} × memory, {row.time_factor:g} × time"
        counts = f"{row.instructions:,} | {row.touched_pages:,} | {stretched} | {row.bytes:,}"
        print(f"| `{row.name}` | {row.split} | {row.behaviour} | {counts} |")
    return 0


def _add_reading_options(parser: argparse.ArgumentParser, or_else: str = "") -> None:
    known = f"trace file, plain or compressed with gzip, xz or Zstandard{or_else}"
    parser.add_argument("file", metavar="FILE", help=known)
    parser.add_argument("--format", help=f"one of {', '.join(FORMATS)}; default: recognised from the content")
    parser.add_argument("--block-bytes", type=int, default=4096, help="block size in bytes (default %(default)s)")
    parser.add_argument("--device", help="device, volume or file of a trace that holds several, or 'all'")
    parser.add_argument("--action", help=f"blkparse action that marks a request: {' or '.join(ACTIONS)}; default D")
    parser.add_argument("--limit", type=int, help="read at most so many requests")
    parser.add_argument(
        "--sample", type=float, default=1.0, help="keep this share of the block addresses (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling (default %(default)s)")
    parser.add_argument("--time-scale", type=float, default=1.0, help="multiply all times (default %(default)s)")
    parser.add_argument("--sort", action="store_true", help="order the requests by time first, in memory")


# Of `describe`, with their defaults: a memory pattern has no use for them.
_BLOCK_OPTIONS = {
    "block_bytes": 4096,
    "device": None,
    "action": None,
    "limit": None,
    "sample": 1.0,
    "seed": 0,
    "sort": False,
}
_TARGET = {"target": None}


def _reading_options(chosen: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in ("format", *_BLOCK_OPTIONS, "time_scale")}


if __name__ == "__main__":
    run_command(main)
