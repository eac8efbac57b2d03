"""Note what the suites of this version consist of, so that a changed workload is noticed.

    python -m tools.suite_digests

Writes `tests/suite_digests.yml`: for each suite a digest of its workloads' names, for each workload one of what is
written or accessed first. A test compares the file with what is there. Within one version of the suites the command
adds what is new, and refuses to write other digests: raise `kml_envs.suites.SUITE_VERSION` first, and run it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kml_envs.errors import OneLineParser, UserError, run_command
from kml_envs.files import write_text
from kml_envs.memory_suites import make_memory_workload, memory_suites
from kml_envs.suites import SUITE_VERSION, make_workload, suites
from kml_envs.workloads.source import bind_workloads, materialize, start_source

FILE = Path(__file__).parents[1] / "tests" / "suite_digests.yml"
VOLUME_BLOCKS, VOLUMES = 1024, 8  # longer than the longest cycle of phases
SEED = 7
LOOKS = 32  # at the arrival time
DIGITS = 6  # of numbers that are not whole: the last ones may depend on the machine


def digests() -> dict[str, dict[str, str]]:
    """Digests by name: of `suites` by their workloads' names, of block `writes`, and of memory `accesses`."""
    block, memory = suites(), memory_suites()
    return {
        "suites": {name: _digest(names) for name, names in sorted({**block, **memory}.items())},
        "writes": {name: digest_of_writes(name) for name in _names(block)},
        "accesses": {name: digest_of_accesses(name) for name in _names(memory)},
    }


def digest_of_writes(name: str) -> str:
    """Of a block workload: the addresses of its first writes on a small volume, and when they arrive, in ms."""
    table = bind_workloads([make_workload(name)], VOLUME_BLOCKS)  # must live as long as the source
    source = start_source(table, 0, SEED)
    parts: list[str] = []
    for _ in range(LOOKS):
        parts.append(materialize(source, VOLUMES * VOLUME_BLOCKS // LOOKS).astype("<i4").tobytes().hex())
        parts.append(str(round(int(source["arrival_ns"][0]) / 1e6)))
    return _digest(parts)


def digest_of_accesses(name: str) -> str:
    """Of a memory workload: its whole table of accesses, and the memory that it has."""
    workload = make_memory_workload(name)
    parts = [f"{workload.limit_bytes} {workload.populated}"]
    for column in workload.table:
        values = np.atleast_1d(np.asarray(column))
        parts.append(" ".join(f"{value:.{DIGITS}g}" if values.dtype.kind == "f" else str(value) for value in values))
    return _digest(parts)


def read(file: Path = FILE) -> tuple[int, Mapping[str, Any]]:
    """The version that a file was written for, and its digests; version 0 without a file."""
    if not file.is_file():
        return 0, {}
    content = yaml.safe_load(file.read_text())
    return int(content.pop("version")), content


def renew(file: Path = FILE, version: int = SUITE_VERSION) -> str:
    """Write the digests of a version; returns what was done.

    Raises:
        UserError: The file has other digests of the same version: something has changed, or is gone.
    """
    now = digests()
    before, noted = read(file)
    if before == version and noted == now:
        return f"{file}: nothing has changed since version {version}"
    if before == version and (changed := changes(noted, now)):
        raise UserError(f"version {version} of the suites is another: raise SUITE_VERSION first; {changed}")
    comment = "# Written by python -m tools.suite_digests\n"
    write_text(file, comment + yaml.safe_dump({"version": version, **now}, sort_keys=False))
    return f"{file}: written for version {version}"


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What is not as it was, by name, in one line; empty where things are only new."""
    differing = [
        f"{kind}: {', '.join(names)}"
        for kind, digests_before in before.items()
        if (names := sorted(name for name, digest in digests_before.items() if now[kind].get(name) != digest))
    ]
    return "changed are " + "; ".join(differing) if differing else ""


def main() -> None:
    """Write them."""
    OneLineParser(prog="python -m tools.suite_digests", description=__doc__.partition("\n")[0]).parse_args()
    print(renew())


def _names(known: Mapping[str, Iterable[str]]) -> list[str]:
    return sorted({name for names in known.values() for name in names})


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


if __name__ == "__main__":
    run_command(main)
