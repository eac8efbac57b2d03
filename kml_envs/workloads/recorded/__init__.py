"""Memory accesses of real programs, recorded for this project and carried in the package as access patterns.

How they were recorded, and what the stretching to a larger program means, is told in `docs/memory-workloads.md`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from kml_envs.errors import unknown_name
from kml_envs.workloads.access import AccessTable
from kml_envs.workloads.memory_traces import scaled
from kml_envs.workloads.package_files import read_index, read_verified
from kml_envs.workloads.recorded.table_format import decode_table

DIRECTORY = Path(__file__).parent


@dataclass(frozen=True)
class RecordedProgram:
    """One row of the index.

    Attributes:
        name: The pattern's name.
        program: What was recorded; all patterns of one program are in one split.
        split: One of "train", "validation", "held-out".
        file: File name within `DIRECTORY`.
        behaviour: What the program does.
        command: How it was started.
        recorded_with: Tools of the recording.
        licence: Licence of the file.
        instructions: Instructions recorded.
        touched_pages: Different pages touched.
        time_factor: Stretching of the time, see `memory_traces.scaled`.
        address_factor: Stretching of the memory.
        bytes: Size of the file.
        sha256: Digest of the file.
    """

    name: str
    program: str
    split: str
    file: str
    behaviour: str
    command: str
    recorded_with: str
    licence: str
    instructions: int
    touched_pages: int
    time_factor: float
    address_factor: int
    bytes: int
    sha256: str


@functools.cache
def recorded_index() -> dict[str, RecordedProgram]:
    """The recorded programs by name, in the order of the splits."""
    return read_index(DIRECTORY, "programs", RecordedProgram)


def load_recorded(name: str, *, stretched: bool = True) -> AccessTable:
    """Read the access pattern of a recorded program.

    Args:
        name: A name in `recorded_index()`.
        stretched: Whether to stretch it to gigabytes and minutes by the factors of the index.

    Raises:
        UserError: There is no such program.
        ValueError: The file is not the one that was published.
    """
    if name not in recorded_index():
        raise unknown_name("recorded program", name, recorded_index())
    row = recorded_index()[name]
    table = decode_table(read_verified(DIRECTORY, row))
    return scaled(table, row.time_factor, row.address_factor) if stretched else table
