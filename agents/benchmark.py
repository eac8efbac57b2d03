"""Retrain every agent from scratch, and write what came of it: tables, learning curves, profiles, probabilities.

    python -m agents.benchmark --search            # everything from scratch, about a night on two cores
    python -m agents.benchmark                     # from the searched starts that hyperparameter files hold
    python -m agents.benchmark --only lfs-tune     # one suite
    python -m agents.benchmark --quick             # try it out: tiny budgets, which say nothing of the agents

The same command goes on where an interrupted one was. Statistics and pictures follow Agarwal et al. 2021
(`agents.benchmark_results`).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.benchmark_plots import plot_suite
from agents.benchmark_results import SuiteResult
from agents.benchmark_schedule import run_units
from agents.benchmark_suites import SUITES, BenchmarkSuite, find_suite
from agents.benchmark_tables import describe_suite, markdown_suite, write_suite_csv, write_suite_json
from agents.benchmark_work import SuiteFolder, collect, quick_suite, run_folders, units_of
from kml_envs.errors import OneLineParser, UserError, run_command
from kml_envs.files import write_text

SEEDS = 5
OUTPUT, QUICK_OUTPUT = Path("logs/benchmark"), Path("logs/benchmark-quick")


@dataclass(frozen=True)
class BenchmarkOptions:
    """What a benchmark is asked for.

    Attributes:
        suites: What to train for.
        output: Where everything goes.
        seeds: How many trainings of each agent, with the seeds 0, 1, …
        jobs: Processes at a time.
        quick: Tiny budgets.
        search: Whether what trainings begin with is searched anew first.
    """

    suites: tuple[BenchmarkSuite, ...]
    output: Path
    seeds: int = SEEDS
    jobs: int = 1
    quick: bool = False
    search: bool = False


def main() -> int:
    """Parse the command line, and do the work."""
    given = parser().parse_args()
    suites = tuple(find_suite(name) for name in given.only or SUITES)
    output = given.output or (QUICK_OUTPUT if given.quick else OUTPUT)
    jobs = len(os.sched_getaffinity(0)) if given.jobs is None else given.jobs
    seeds = (2 if given.quick else SEEDS) if given.seeds is None else given.seeds
    if not 1 <= seeds <= 1000:
        raise UserError(f"--seeds {seeds}: must lie in 1..1000")
    if not 1 <= jobs <= 1024:
        raise UserError(f"--jobs {jobs}: must lie in 1..1024")
    return benchmark(BenchmarkOptions(suites, output, seeds, jobs, given.quick, given.search), _print)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = OneLineParser(prog="python -m agents.benchmark", description=__doc__.partition("\n")[0])
    add = result.add_argument
    add("--only", nargs="+", metavar="SUITE", help=f"single suites (default: all: {', '.join(SUITES)})")
    add("--seeds", type=int, metavar="N", help=f"training seeds of each agent (default: {SEEDS})")
    add("--jobs", type=int, metavar="N", help="processes at a time (default: the cores)")
    add("--output", type=Path, metavar="FOLDER", help=f"where everything goes (default: {OUTPUT})")
    add("--search", action="store_true", help="search what trainings begin with anew first (default: as shipped)")
    add("--quick", action="store_true", help=f"tiny budgets, into {QUICK_OUTPUT}: whether everything works")
    return result


def benchmark(options: BenchmarkOptions, tell: Callable[[str], None]) -> int:
    """Train, play and report, as far as it has not been done yet.

    Args:
        options: What is asked for.
        tell: Told progress and results.

    Returns:
        The exit status: 0, 1 if some work failed, or that of an interruption.

    Raises:
        UserError: The output folder holds work of other settings, or cannot be written.
    """
    folders = [
        SuiteFolder(
            options.output / suite.name,
            quick_suite(suite) if options.quick else suite,
            quick=options.quick,
            search=options.search,
        )
        for suite in options.suites
    ]
    for folder in folders:
        folder.open()
    seeds = range(options.seeds)
    units = [unit for folder in folders for unit in units_of(folder, seeds)]
    # What others wait for first, then what is quick and tells mistakes.
    units.sort(key=lambda unit: (not unit.searches, unit.seed is not None))
    outcome = run_units(units, options.jobs, tell)
    if outcome.interrupted_by:
        tell(f"stopped by {outcome.interrupted_by}; the same command goes on from here")
        return 130 if outcome.interrupted_by == "SIGINT" else 143
    results = {folder.suite.name: result for folder in folders if (result := collect(folder, seeds)) is not None}
    if results:
        _report(options.output, results, tell)
    for folder in folders:
        if runs := run_folders(folder, seeds):
            tell(f"python -m agents export {' '.join(map(str, runs))} --name {folder.suite.name}")
    for failure in outcome.failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if outcome.failures else 0


def write_report(folder: Path, result: SuiteResult) -> str:
    """Write tables and pictures of a suite into a folder; returns them as Markdown, which names the pictures."""
    name = result.suite.name
    write_text(folder / f"{name}.txt", describe_suite(result) + "\n")
    write_suite_json(folder / f"{name}.json", result)
    write_suite_csv(folder / f"{name}.csv", result)
    pictures = plot_suite(folder, result)
    shown = [f"![{path.stem.replace('-', ' ')}]({path.name})" for path in pictures]
    return "\n".join([f"## {name}", "", markdown_suite(result), *shown, ""])


def _report(output: Path, results: dict[str, SuiteResult], tell: Callable[[str], None]) -> None:
    parts: Sequence[str] = [write_report(output, result) for result in results.values()]
    write_text(output / "report.md", "\n".join(["# Benchmark", "", *parts]))
    for result in results.values():
        tell("\n" + describe_suite(result) + "\n")
    tell(f"tables and pictures: {output / 'report.md'}")


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    run_command(main)
