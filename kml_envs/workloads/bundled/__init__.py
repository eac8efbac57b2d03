"""Block writes of real applications, recorded for this project and carried in the package.

How they were recorded, and what they hold, is told in `docs/bundled-traces.md`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kml_envs.errors import unknown_name
from kml_envs.workloads.bundled.file_format import decode
from kml_envs.workloads.package_files import SPLITS, read_index, read_verified
from kml_envs.workloads.trace import BlockTrace

DIRECTORY = Path(__file__).parent


@dataclass(frozen=True)
class BundledTrace:
    """One row of the index.

    Attributes:
        name: The trace's name.
        application: What was recorded; all traces of one application are in one split.
        split: One of `SPLITS`.
        file: File name within `DIRECTORY`.
        behaviour: How the application writes.
        recorded_with: Tools of the recording.
        licence: Licence of the trace file.
        requests: Write requests.
        block_writes: Written 4-KiB blocks, repetitions counted.
        footprint_blocks: Different blocks written.
        duration_s: Last arrival in seconds.
        bytes: Size of the file.
        sha256: Digest of the file.
    """

    name: str
    application: str
    split: str
    file: str
    behaviour: str
    recorded_with: str
    licence: str
    requests: int
    block_writes: int
    footprint_blocks: int
    duration_s: float
    bytes: int
    sha256: str


@functools.cache
def bundled_index() -> dict[str, BundledTrace]:
    """Return the index of the bundled traces by name, in the order of the splits."""
    return read_index(DIRECTORY, "traces", BundledTrace)


def bundled_names(split: str | None = None) -> tuple[str, ...]:
    """Return the names of the bundled traces.

    Args:
        split: Only those of one split: "train", "validation" or "held-out".

    Raises:
        UserError: There is no such split.
    """
    if split is not None and split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    return tuple(trace.name for trace in bundled_index().values() if split in (None, trace.split))


def load_bundled(name: str) -> BlockTrace:
    """Return a bundled trace; all of its requests are writes.

    Args:
        name: One of `bundled_names()`.

    Raises:
        UserError: There is no such trace.
        ValueError: The file is not the one that was published.
    """
    if name not in bundled_index():
        raise unknown_name("bundled trace", name, bundled_index())
    time_us, first_block, block_count = decode(read_verified(DIRECTORY, bundled_index()[name]))
    return BlockTrace(
        name=name,
        time_us=time_us,
        is_write=np.ones(len(time_us), dtype=np.bool_),
        first_block=first_block,
        block_count=block_count.astype(np.int32),
    )
