"""Named workloads and suites: what agents train on, what they are chosen by, and what they are judged on.

Training, validation and held-out workloads are disjoint by name; nothing is tuned on held-out ones. A workload is
named by its kind and parameters (`zipf-0.99`, `hot-cold-0.8-0.2`), by a bundled trace's name, or as `trace:PATH`;
behind an `@` stands when its writes arrive (`zipf-0.99@bursts-400-2000-20`, `maildir@slowed-4`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from kml_envs.errors import UserError, unknown_name
from kml_envs.workloads.bundled import bundled_index, load_bundled
from kml_envs.workloads.package_files import SPLITS
from kml_envs.workloads.synthetic import (
    Bursts,
    Phase,
    PhaseKind,
    Workload,
    checkpoints,
    circular_log,
    copy_on_write,
    hot_cold,
    in_bursts,
    replay,
    sequential,
    shifting,
    slowed,
    uniform,
    zipf,
)
from kml_envs.workloads.trace import read_trace

SUITE_VERSION = 2
"""Changes whenever a workload of a suite does: results are comparable within one version only."""

SYNTHETIC_SUITES: dict[str, tuple[str, ...]] = {
    "synthetic-train": (
        "hot-cold-0.55-0.45",
        "hot-cold-0.7-0.3",
        "hot-cold-0.85-0.15",
        "hot-cold-0.9-0.1",
        "hot-cold-0.97-0.03",
        "zipf-0.4",
        "zipf-0.7",
        "zipf-0.9",
        "zipf-1.1",
        "circular-log-0.3-0.05",
        "circular-log-0.5-0.2",
        "circular-log-0.3-0.3",
        "circular-log-0.6-0.4",
        "circular-log-0.8-0.6",
        "copy-on-write-0.1-0.8-0.2",
        "copy-on-write-0.2-0.9-0.4",
        "copy-on-write-0.3-0.5-0.5",
        "copy-on-write-0.5-0.9-0.1",
        "shifting-hot-spots",
        "shifting-skew",
    ),
    "synthetic-validation": (
        "hot-cold-0.6-0.4",
        "hot-cold-0.75-0.25",
        "zipf-0.8",
        "circular-log-0.4-0.1",
        "copy-on-write-0.2-0.7-0.3",
        "shifting-zipf",
    ),
    "synthetic-held-out": ("uniform", "zipf-0.99", "hot-cold-0.8-0.2", "hot-cold-0.95-0.05", "shifting-mixture"),
}

# The same block addresses with arrival times, for what happens in idle gaps; the bursts differ between the splits too.
PACED_SUITES: dict[str, tuple[str, ...]] = {
    "paced-train": (
        "hot-cold-0.55-0.45@bursts-200-2000-20",
        "hot-cold-0.85-0.15@bursts-400-2000-60",
        "hot-cold-0.97-0.03@bursts-1000-2500-60",
        "zipf-0.4@bursts-100-1000-20",
        "zipf-0.7@bursts-800-1500-80",
        "zipf-0.9@bursts-300-2000-100",
        "zipf-1.1@bursts-600-2500-60",
        "circular-log-0.3-0.05@bursts-200-1000-40",
        "circular-log-0.5-0.2@bursts-1500-2000-150",
        "shifting-hot-spots@bursts-500-2000-50",
        "shifting-skew@bursts-300-1500-30",
        "sqlite-rollback-journal@slowed-8",
        "rocksdb-update@slowed-16",
    ),
    "paced-validation": (
        "hot-cold-0.75-0.25@bursts-300-2000-40",
        "zipf-0.8@bursts-500-1500-80",
        "circular-log-0.4-0.1@bursts-800-2000-50",
        "shifting-zipf@bursts-200-1500-20",
        "maildir@slowed-8",
    ),
    "paced-held-out": (
        "uniform@bursts-250-2000-40",
        "zipf-0.99@bursts-700-2000-60",
        "hot-cold-0.8-0.2@bursts-400-1500-30",
        "hot-cold-0.95-0.05@bursts-1200-2500-120",
        "shifting-mixture@bursts-150-1500-25",
        "postgresql-pgbench@slowed-8",
        "lmdb-transactions@slowed-8",
    ),
}

_PARAMETRIC: dict[str, tuple[Callable[..., Workload], tuple[str, ...]]] = {
    "zipf": (zipf, ("THETA",)),
    "hot-cold": (hot_cold, ("WRITES", "BLOCKS")),
    "circular-log": (circular_log, ("WRITES", "BLOCKS")),
    "copy-on-write": (copy_on_write, ("FREE", "WRITES", "BLOCKS")),
    "checkpoints": (checkpoints, ("LENGTH", "WRITES", "BLOCKS")),
}

_NUMBER = r"(\d+\.?\d*|\.\d+)"

_SHIFTING: dict[str, tuple[Phase, ...]] = {
    "shifting-hot-spots": tuple(
        Phase(PhaseKind.HOT_COLD, volumes=1.5, hot_writes=0.85, hot_blocks=0.15, shift=place)
        for place in (0.0, 0.35, 0.7)
    ),
    "shifting-skew": (
        Phase(PhaseKind.ZIPF, volumes=1.0, theta=1.0),
        Phase(PhaseKind.UNIFORM, volumes=0.75),
        Phase(PhaseKind.HOT_COLD, volumes=1.0, hot_writes=0.9, hot_blocks=0.2, shift=0.5),
    ),
    "shifting-zipf": tuple(Phase(PhaseKind.ZIPF, volumes=1.5, theta=0.95, shift=place) for place in (0.0, 0.4)),
    "shifting-mixture": (
        Phase(PhaseKind.ZIPF, volumes=1.25, theta=0.9, shift=0.2),
        Phase(PhaseKind.HOT_COLD, volumes=1.25, hot_writes=0.8, hot_blocks=0.1, shift=0.6),
        Phase(PhaseKind.UNIFORM, volumes=0.5),
        Phase(PhaseKind.HOT_COLD, volumes=1.25, hot_writes=0.8, hot_blocks=0.1, shift=0.1),
    ),
}


def suites() -> dict[str, tuple[str, ...]]:
    """All suites by name: `synthetic-…` and `real-…`, `…` for both together, and `paced-…` with arrival times."""
    result = {**SYNTHETIC_SUITES, **PACED_SUITES}
    for split in SPLITS:
        real = tuple(name for name, trace in bundled_index().items() if trace.split == split)
        result[f"real-{split}"] = real
        result[split] = result[f"synthetic-{split}"] + real
    return result


def workload_names(selection: str | Iterable[str]) -> tuple[str, ...]:
    """Expand suites and names into workload names, without repeats.

    Args:
        selection: A suite, a workload name, or several of either.

    Returns:
        The names in order.

    Raises:
        UserError: Nothing is selected.
    """
    return expand_selection(selection, suites())


def expand_selection(selection: str | Iterable[str], known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Expand names and the given suites, as `workload_names` does."""
    names: dict[str, None] = {}
    for entry in (selection,) if isinstance(selection, str) else selection:
        names.update(dict.fromkeys(known.get(entry, (entry,))))
    if not names:
        raise UserError("no workload is selected: name a suite or a workload")
    return tuple(names)


def make_workload(name: str) -> Workload:
    """Make a workload by its name.

    Args:
        name: `uniform`, `sequential`, `zipf-THETA`, `hot-cold-WRITES-BLOCKS`, `circular-log-WRITES-BLOCKS`,
            `copy-on-write-FREE-WRITES-BLOCKS`, `checkpoints-LENGTH-WRITES-BLOCKS`, `shifting-…`, a bundled trace's
            name, or `trace:PATH` for a trace file of the user; a synthetic one may be followed by
            `@bursts-WRITES-RATE-GAP`, a trace by `@slowed-FACTOR`.

    Returns:
        The workload.

    Raises:
        UserError: The name is none of these, or the trace cannot be read.
    """
    addresses, at, timing = name.rpartition("@")
    if at and timing.startswith("bursts-"):
        return in_bursts(make_workload(addresses), make_arrivals(timing))
    if at and (match := re.fullmatch(rf"slowed-{_NUMBER}", timing)):
        return slowed(make_workload(addresses), float(match[1]))
    if name.startswith("trace:"):
        return replay(read_trace(name.removeprefix("trace:")))
    if name in _SHIFTING:
        return shifting(name, _SHIFTING[name])
    if name in bundled_index():
        return replay(load_bundled(name))
    if name == "uniform":
        return uniform()
    if name == "sequential":
        return sequential()
    for kind, (make, parameters) in _PARAMETRIC.items():
        if match := re.fullmatch(kind + f"-{_NUMBER}" * len(parameters), name):
            return make(*map(float, match.groups()))
    kinds = {"-".join((kind, *parameters)) for kind, (_, parameters) in _PARAMETRIC.items()}
    accepted = {"uniform", "sequential", "trace:PATH"} | kinds
    raise unknown_name("workload", name, accepted | set(suites()) | set(bundled_index()) | set(_SHIFTING))


def make_arrivals(name: str) -> Bursts:
    """Make an arrival process by its name, `bursts-WRITES-RATE-GAP`.

    Raises:
        UserError: The name is not of that form, or a number is out of range.
    """
    numbers = name.removeprefix("bursts-").split("-")
    try:
        writes, rate, gap_s = (float(number) for number in numbers)
    except ValueError:
        raise UserError(
            f"arrivals '{name}': bursts-WRITES-RATE-GAP is accepted, such as bursts-400-2000-40 for bursts of 400 "
            "writes, 2000 a second, with gaps of 40 s"
        ) from None
    return Bursts(writes, rate, gap_s)


def make_workloads(selection: str | Iterable[str]) -> tuple[Workload, ...]:
    """Make all workloads of a selection (see `workload_names`)."""
    return tuple(make_workload(name) for name in workload_names(selection))
