"""Command line: record an application, convert its log again, or print the table of the bundled traces."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from kml_envs.errors import OneLineParser, UserError, run_command, unknown_name
from kml_envs.workloads import bundled
from tools.record_traces.applications import RECORDINGS, Recording
from tools.record_traces.capture import capture
from tools.record_traces.convert import Conversion, convert
from tools.record_traces.publish import INDEX, publish, table_of_traces


def main() -> None:
    """Carry out one command."""
    arguments = _parser().parse_args()
    if arguments.command == "summary":
        if not (arguments.output / INDEX).is_file():
            raise UserError(f"{arguments.output / INDEX}: no such file")
        print(table_of_traces(arguments.output))
        return
    recording = RECORDINGS.get(arguments.name)
    if recording is None:
        raise unknown_name("recording", arguments.name, RECORDINGS)
    if arguments.command == "workload":
        recording.run(arguments.directory)
        return
    run = (arguments.scratch / recording.name).resolve()
    if arguments.command == "record":
        _record(recording, run)
    if not (run / "strace.log").is_file():
        raise UserError(f"{run / 'strace.log'}: no such file; the command `record` makes it")
    result = convert(run / "strace.log", run / "data")
    _report(recording, result)
    row = publish(recording, result, arguments.output)
    print(f"{row['name']}: {row['bytes']} bytes, {row['block_writes'] / row['footprint_blocks']:.1f} writes per block")


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="python -m tools.record_traces", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    output = OneLineParser(add_help=False)
    output.add_argument("--output", type=Path, default=bundled.DIRECTORY, help="folder of the trace files")
    for command, text in (
        ("record", "run the application under strace, then convert its log"),
        ("convert", "convert the log of an earlier recording"),
    ):
        subcommand = commands.add_parser(command, help=text, parents=[output])
        subcommand.add_argument("name", help=", ".join(RECORDINGS))
        subcommand.add_argument("--scratch", type=Path, required=True, help="folder for data and logs; some gigabytes")
    subcommand = commands.add_parser("workload", help="run the application alone, without recording")
    subcommand.add_argument("name")
    subcommand.add_argument("directory", type=Path)
    commands.add_parser("summary", help="print the table of the bundled traces", parents=[output])
    return parser


def _record(recording: Recording, run: Path) -> None:
    """Run a recording in a folder that holds nothing else."""
    shutil.rmtree(run, ignore_errors=True)
    (run / "data").mkdir(parents=True)
    workload = [sys.executable, "-m", "tools.record_traces", "workload", recording.name, str(run / "data")]
    capture(workload, run / "strace.log")


def _report(recording: Recording, result: Conversion) -> None:
    """Print what was converted, and every file that the model believes to have another size than it has."""
    if not result.writes:
        raise UserError(f"{recording.name}: the log holds no block writes")
    print(f"{recording.name}: {result.operations} file operations, {len(result.writes)} requests")
    for path, modelled, real in result.wrong_sizes:
        print(f"  warning: {path} has {real} bytes, the model says {modelled}")


if __name__ == "__main__":
    run_command(main)
