"""Units of a benchmark's work in processes of their own, as many at a time as there are cores, with progress."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

from agents.benchmark_work import TrainingInterruptedError, Unit
from agents.stopping import stoppable
from kml_envs.errors import UserError

_LOOK_S = 0.5  # between two looks for a request to stop
_INTERRUPTED = 130


@dataclass
class Outcome:
    """What became of the work.

    Attributes:
        failures: One line for each unit that failed.
        interrupted_by: Name of the signal that ended it early; empty if none did.
    """

    failures: list[str] = field(default_factory=list)
    interrupted_by: str = ""


def run_units(units: Sequence[Unit], jobs: int, tell: Callable[[str], None]) -> Outcome:
    """Do all units of work that are not done yet.

    One that fails keeps no others from being done, but those that wait for it. A request to stop ends the running ones.

    Args:
        units: The work.
        jobs: Processes at a time.
        tell: Told one line for each unit that ends.
    """
    waiting = [unit for unit in units if not unit.done()]
    if len(waiting) < len(units):
        tell(f"{len(units) - len(waiting)} of {len(units)} units of work are done already")
    outcome, durations = Outcome(), _Durations(jobs)
    running: dict[int, tuple[Unit, SpawnProcess, float]] = {}
    ended = len(units) - len(waiting)
    with stoppable() as request:
        while (waiting or running) and not request.signal_name:
            while len(running) < jobs and (ready := [unit for unit in waiting if unit.ready()]):
                waiting.remove(unit := ready[0])
                process = multiprocessing.get_context("spawn").Process(target=_work, args=(unit,))
                process.start()
                running[process.sentinel] = unit, process, time.monotonic()
            if not running:  # what is left waits for a search that has failed
                outcome.failures += [f"{unit.name}: waits for the search of the start ({unit.log})" for unit in waiting]
                break
            for sentinel in wait(list(running), timeout=_LOOK_S):
                assert isinstance(sentinel, int)
                unit, process, begun = running.pop(sentinel)
                process.join()
                seconds, ended = time.monotonic() - begun, ended + 1
                durations.note(unit, seconds)
                left = [*waiting, *(other for other, _, _ in running.values())]
                state = f"done in {_duration(seconds)}"
                if process.exitcode == _INTERRUPTED:
                    state = "interrupted"
                elif process.exitcode or not unit.done():
                    state = "failed"
                    outcome.failures.append(f"{unit.name}: {_last_line(unit)} ({unit.log})")
                tell(f"[{ended}/{len(units)}] {unit.name}: {state}{durations.remaining(left)}")
        for _, process, _ in running.values():
            process.terminate()
        for _, process, _ in running.values():
            process.join()
        outcome.interrupted_by = request.signal_name
    return outcome


class _Durations:
    """How long units took, and how long the others will take."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._seconds: dict[tuple[str, bool, bool], list[float]] = {}

    def note(self, unit: Unit, seconds: float) -> None:
        self._seconds.setdefault(self._kind(unit), []).append(seconds)

    def remaining(self, left: Sequence[Unit]) -> str:
        """What is left, in words; nothing where a kind of unit has not been seen yet."""
        if not left:
            return ""
        kinds = [self._kind(unit) for unit in left]
        if any(kind not in self._seconds for kind in kinds):
            return f"; {len(left)} to go"
        total = sum(sum(self._seconds[kind]) / len(self._seconds[kind]) for kind in kinds)
        return f"; {len(left)} to go, about {_duration(total / min(self._jobs, len(left)))}"

    def _kind(self, unit: Unit) -> tuple[str, bool, bool]:
        return unit.folder.suite.name, unit.seed is None, unit.searches


def _work(unit: Unit) -> None:
    """A process: do a unit, print into its log."""
    with unit.log.open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        unit.work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except (TrainingInterruptedError, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)


def _last_line(unit: Unit) -> str:
    lines = [line for line in unit.log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ")[:200] if lines else "ended without a word"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
