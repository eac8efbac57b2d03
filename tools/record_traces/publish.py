"""Writes a trace file of the package and its row of the index, and prints the table of all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.workloads.bundled.file_format import TICK_US, encode
from tools.record_traces.applications import RECORDINGS, Recording
from tools.record_traces.convert import Conversion

INDEX = "index.json"


def publish(recording: Recording, conversion: Conversion, directory: Path) -> dict[str, Any]:
    """Write the trace file, and its row into the index, and return the row.

    Args:
        recording: What was recorded.
        conversion: Its block writes.
        directory: Where the trace files and the index are.
    """
    columns = np.array(conversion.writes, dtype=np.int64)
    # An arrival never lies before the one ahead of it; threads can be logged a few microseconds out of order.
    time_us = np.maximum.accumulate(columns[:, 0])
    time_us = (time_us - time_us[0]) // TICK_US * TICK_US
    first_block, block_count = columns[:, 1], columns[:, 2]
    content = encode(time_us, first_block, block_count)
    row = {
        "name": recording.name,
        "application": recording.application,
        "split": recording.split,
        "file": f"{recording.name}.trace",
        "behaviour": recording.behaviour,
        "recorded_with": "strace 6.1 on Debian 12, block-address model of tools/record_traces",
        "licence": "MIT",
        "requests": len(first_block),
        "block_writes": int(block_count.sum()),
        "footprint_blocks": footprint(first_block, block_count),
        "duration_s": round(float(time_us[-1]) / 1e6, 1),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    directory.mkdir(parents=True, exist_ok=True)
    _replace(directory / str(row["file"]), content)
    index = directory / INDEX
    rows = json.loads(index.read_text())["traces"] if index.exists() else []
    rows = [other for other in rows if other["name"] != recording.name] + [row]
    rows.sort(key=lambda row: list(RECORDINGS).index(row["name"]))
    _replace(index, (json.dumps({"traces": rows}, indent=2) + "\n").encode())
    return row


def footprint(first_block: NDArray[np.int64], block_count: NDArray[np.int64]) -> int:
    """Return how many different blocks some requests touch.

    Args:
        first_block: Shape (R,), address of each request's first block.
        block_count: Shape (R,), its length in blocks.
    """
    edges = np.zeros(int((first_block + block_count).max()) + 1, dtype=np.int64)
    np.add.at(edges, first_block, 1)
    np.add.at(edges, first_block + block_count, -1)
    return int(np.count_nonzero(np.cumsum(edges)))


def table_of_traces(directory: Path) -> str:
    """Return the numbers of the bundled traces, and what each does, as two tables in Markdown.

    Args:
        directory: Where the trace files and the index are.
    """
    rows = json.loads((directory / INDEX).read_text())["traces"]
    lines = [
        "| trace | application | split | footprint, blocks | block writes | writes per block "
        "| requests | seconds | file, KB |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        lines.append(
            f"| `{row['name']}` | {row['application']} | {row['split']} | {row['footprint_blocks']:,} "
            f"| {row['block_writes']:,} | {row['block_writes'] / row['footprint_blocks']:.1f} | {row['requests']:,} "
            f"| {row['duration_s']:.0f} | {row['bytes'] / 1000:.0f} |"
        )
    total = sum(row["bytes"] for row in rows)
    lines += ["", f"{len(rows)} traces, {total:,} bytes.", "", "| trace | what it does |", "| --- | --- |"]
    return "\n".join(lines + [f"| `{row['name']}` | {row['behaviour']} |" for row in rows])


def _replace(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that nobody sees half of it."""
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
