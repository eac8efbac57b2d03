"""Named memory workloads and their suites, the counterpart of `suites.py` for what runs on DAMON.

Training, validation and held-out workloads are disjoint by name; nothing is tuned on held-out ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from kml_envs.errors import unknown_name
from kml_envs.suites import expand_selection
from kml_envs.workloads.access import AccessTable
from kml_envs.workloads.memory_traces import read_memory_trace
from kml_envs.workloads.memory_workloads import (
    SCENARIOS,
    MemoryWorkload,
    bursts,
    mixture,
    scenario,
    turns,
    zipf_memory,
)
from kml_envs.workloads.package_files import SPLITS
from kml_envs.workloads.recorded import load_recorded, recorded_index

SYNTHETIC_SUITES: dict[str, tuple[str, ...]] = {
    "memory-synthetic-train": (
        "bursts-2-1",
        "bursts-4-2",
        "bursts-8-3",
        "bursts-16-4",
        "zipf-memory-0.6-4-1",
        "zipf-memory-0.9-8-2",
        "zipf-memory-1.2-16-3",
        "mixture-2-1",
        "mixture-4-2",
        "mixture-8-3",
        "stairs",
        "idle-server",
        "huge-page-bloat",
        "translation-fit",
    ),
    "memory-synthetic-validation": ("bursts-4-11", "bursts-8-12", "zipf-memory-0.8-4-11", "mixture-4-11", "zigzag"),
    "memory-synthetic-held-out": (
        "bursts-4-21",
        "bursts-12-22",
        "zipf-memory-0.99-6-21",
        "mixture-6-21",
        "needle",
        "pressure-spike",
        "mis-sized-quota",
    ),
}


# Where reclaim is a mistake: large programs, whose cold memory is wanted back before it has paid for its way out.
RETURNING: dict[str, tuple[str, ...]] = {
    "train": ("turns-4-1", "turns-8-2", "turns-16-3", "turns-24-4", "turns-48-5", "bursts-64-5"),
    "validation": ("turns-12-11", "turns-40-12"),
    "held-out": (),
}

_WHOLE = r"(\d{1,4000})"  # Python refuses to convert more than 4,300 digits
_PARAMETRIC: dict[str, Callable[[re.Match[str]], MemoryWorkload]] = {
    rf"bursts-{_WHOLE}-{_WHOLE}": lambda match: bursts(int(match[1]), int(match[2])),
    rf"turns-{_WHOLE}-{_WHOLE}": lambda match: turns(int(match[1]), int(match[2])),
    rf"mixture-{_WHOLE}-{_WHOLE}": lambda match: mixture(int(match[1]), int(match[2])),
    rf"zipf-memory-(\d+(?:\.\d+)?)-{_WHOLE}-{_WHOLE}": lambda match: zipf_memory(
        float(match[1]), int(match[2]), int(match[3])
    ),
}


def memory_suites() -> dict[str, tuple[str, ...]]:
    """All memory suites by name: `memory-synthetic-…`, `memory-real-…`, `memory-…` for both, and wider `reclaim-…`."""
    result = dict(SYNTHETIC_SUITES)
    for split in SPLITS:
        real = tuple(name for name, program in recorded_index().items() if program.split == split)
        result[f"memory-real-{split}"] = real
        result[f"memory-{split}"] = result[f"memory-synthetic-{split}"] + real
        result[f"reclaim-{split}"] = result[f"memory-{split}"] + RETURNING[split]
    return result


def memory_workload_names(selection: str | Iterable[str]) -> tuple[str, ...]:
    """Expand suites and names into workload names, without repeats (see `suites.workload_names`)."""
    return expand_selection(selection, memory_suites())


def is_memory_workload(name: str) -> bool:
    """Whether a name has one of the forms that `make_memory_workload` takes."""
    if name in SCENARIOS or name in recorded_index() or name.startswith("accesses:"):
        return True
    return any(re.fullmatch(pattern, name) for pattern in _PARAMETRIC)


def make_memory_workload(name: str) -> MemoryWorkload:
    """Make a memory workload by its name.

    Args:
        name: A scenario, a recorded program's name, `bursts-GIB-SEED`, `zipf-memory-THETA-GIB-SEED`,
            `mixture-GIB-SEED`, `turns-GIB-SEED`, or `accesses:PATH` for a file of the user: a damo record, a masim
            configuration, a lackey trace or CSV; `accesses:PATH#N` for record N of a damo file that holds several.

    Raises:
        UserError: The name is none of these, or the file cannot be read.
    """
    if name in SCENARIOS:
        return scenario(name)
    if name in recorded_index():
        return MemoryWorkload(name, load_recorded(name))
    if name.startswith("accesses:"):
        return MemoryWorkload(name, _read_accesses(name.removeprefix("accesses:")))
    for pattern, make in _PARAMETRIC.items():
        if match := re.fullmatch(pattern, name):
            return make(match)
    kinds = ("bursts-GIB-SEED", "mixture-GIB-SEED", "turns-GIB-SEED", "zipf-memory-THETA-GIB-SEED", "accesses:PATH")
    raise unknown_name("memory workload", name, {*kinds, *SCENARIOS, *recorded_index(), *memory_suites()})


def make_memory_workloads(selection: str | Iterable[str]) -> tuple[MemoryWorkload, ...]:
    """Make all workloads of a selection."""
    return tuple(make_memory_workload(name) for name in memory_workload_names(selection))


def _read_accesses(place: str) -> AccessTable:
    """Read a file of the user, or a record of it."""
    path, mark, record = place.rpartition("#")
    if mark and record.isascii() and record.isdecimal() and not os.path.exists(place):
        return read_memory_trace(path, target=int(record))
    return read_memory_trace(place)
