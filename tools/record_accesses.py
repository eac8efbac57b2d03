"""Record the memory accesses of real programs, and write the access patterns that the package carries.

    python -m tools.record_accesses [NAME ...]

Needs valgrind, whose lackey tool prints every access; a program takes some minutes. Instructions count as time. The
addresses are bucketed by page and by intervals of instructions, then stretched as the table below says.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kml_envs.errors import OneLineParser, UserError, run_command, unknown_name
from kml_envs.workloads.access import PAGE_BYTES
from kml_envs.workloads.formats.memory_text import PageVisits, read_lackey
from kml_envs.workloads.formats.stream import ByteStream
from kml_envs.workloads.memory_traces import visit_table
from kml_envs.workloads.recorded import DIRECTORY, RecordedProgram
from kml_envs.workloads.recorded.table_format import encode_table

SAMPLE_INSTRUCTIONS = 50_000
PHASE_INSTRUCTIONS = 500_000
EXTENT_PAGES = 4
TIME_FACTOR = 8.0
"""A phase of 500,000 instructions, taken as microseconds, becomes 4 s."""
WANTED_BYTES = 4 << 30
"""Memory is stretched to about this."""


@dataclass(frozen=True)
class Program:
    """What to record: the name, the split, what it does, how its input is made, its command, and for how long."""

    name: str
    split: str
    behaviour: str
    prepare: Callable[[Path], None]
    command: str
    instructions: int = 40_000_000


def _rows(path: Path, count: int) -> None:
    chosen = random.Random(7)
    words = ["".join(chosen.choices("abcdefghijklmnopqrstuvwxyz", k=chosen.randint(3, 12))) for _ in range(5000)]
    with path.open("w") as output:
        for number in range(count):
            output.write(f"{chosen.choice(words)},{int(chosen.paretovariate(1.1))},{number},{chosen.random():.6f}\n")


def _sqlite(folder: Path) -> None:
    (folder / "queries.sql").write_text(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER, v TEXT);\n"
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 12000)\n"
        "INSERT INTO t SELECT i, abs(random()) % 4000, hex(randomblob(100)) FROM c;\n"
        "CREATE INDEX by_k ON t (k);\n"
        + "".join(
            f"SELECT count(v), max(v) FROM t WHERE k BETWEEN {k} AND {k + 3};\n"
            f"UPDATE t SET v = 'x' || v WHERE id = {1 + k * 3};\n"
            for k in (int(random.Random(step).paretovariate(0.6)) % 4000 for step in range(1500))
        )
        + "SELECT sum(length(v)) FROM t;\n"
    )


def _c_source(folder: Path) -> None:
    functions = [
        f"static int f{n}(int a, int b) {{ int s = {n}; for (int i = 0; i < a; i++) s += (i * b) ^ (s << {n % 7}); "
        f"return s > b ? f{n - 1}(s % 5, a) : s; }}"
        for n in range(1, 400)
    ]
    calls = " + ".join(f"f{n}(a, {n})" for n in range(1, 400))
    head = "#include <stdio.h>\n#include <stdlib.h>\n#include <math.h>\nstatic int f0(int a, int b) { return a + b; }\n"
    (folder / "source.c").write_text(
        f"{head}{chr(10).join(functions)}\nint main(int a, char **v) {{ return {calls}; }}\n"
    )


_PYTHON = """
import json, collections
rows = [line.rstrip().split(",") for line in open("rows.csv")]
groups = collections.defaultdict(list)
for word, weight, number, value in rows:
    groups[word].append((int(weight), float(value)))
text = json.dumps({word: sorted(entries)[-20:] for word, entries in groups.items()})
found = json.loads(text)
print(sum(len(entries) for entries in found.values()), max(groups, key=lambda word: sum(w for w, _ in groups[word])))
"""


def _python(folder: Path) -> None:
    _rows(folder / "rows.csv", 12_000)
    (folder / "group.py").write_text(_PYTHON)


PROGRAMS = (
    Program(
        "sqlite-queries",
        "train",
        "SQLite in memory: a table is filled and indexed, then range queries and updates of skewed keys",
        _sqlite,
        "sqlite3 :memory: '.read queries.sql'",
        80_000_000,
    ),
    Program(
        "sort-rows",
        "train",
        "GNU sort of 100,000 rows of text: read, merge-sort in memory, write",
        lambda folder: _rows(folder / "rows.csv", 100_000),
        "sort -t, -k2,2n --parallel=1 -S 64M -o sorted.csv rows.csv",
    ),
    Program(
        "gcc-compile",
        "train",
        "the C compiler proper on a source of 400 functions, optimising",
        _c_source,
        "gcc -O2 -S -o /dev/null source.c",
    ),
    Program(
        "python-json",
        "validation",
        "CPython: groups rows in dictionaries, sorts them, writes and reads JSON",
        _python,
        "python3 -S -E group.py",
    ),
    Program(
        "xz-compress",
        "held-out",
        "xz at level 3 on text: a sliding window with hash chains, read sequentially and matched at random",
        lambda folder: _rows(folder / "rows.csv", 60_000),
        "xz -3 -T1 -k -c rows.csv",
    ),
)


def main() -> int:
    """Record the programs that are named, or all."""
    known = {program.name: program for program in PROGRAMS}
    parser = OneLineParser(prog="python -m tools.record_accesses", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)} (default: all)")
    names = parser.parse_args().names or list(known)
    for name in names:
        if name not in known:
            raise unknown_name("program", name, known)
        # Without it valgrind would end before it opens the pipe, which whoever reads would wait for.
        for command in ("valgrind", shlex.split(known[name].command)[0]):
            if shutil.which(command) is None:
                raise UserError(f"{name}: '{command}' is needed, and is not installed")
    for name in names:
        publish(*record(known[name]))
    return 0


def record(program: Program) -> tuple[RecordedProgram, bytes]:
    """Run a program under lackey.

    Returns:
        Its row of the index, and the content of its file.
    """
    counted = [0]
    with tempfile.TemporaryDirectory() as folder:
        program.prepare(Path(folder))
        table = visit_table(
            _run(program, Path(folder), counted),
            program.name,
            sample_us=SAMPLE_INSTRUCTIONS,
            phase_us=PHASE_INSTRUCTIONS,
            extent_pages=EXTENT_PAGES,
        )
    content = encode_table(table)
    version = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    pages = table.size // PAGE_BYTES
    row = RecordedProgram(
        name=program.name,
        program=shlex.split(program.command)[0],
        split=program.split,
        file=f"{program.name}.pattern",
        behaviour=program.behaviour,
        command=program.command,
        recorded_with=f"{version} lackey on Debian 12, tools/record_accesses.py",
        licence="MIT",
        instructions=counted[0],
        touched_pages=pages,
        time_factor=TIME_FACTOR,
        address_factor=max(1, round(WANTED_BYTES / table.size)),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    return row, content


def publish(row: RecordedProgram, content: bytes) -> None:
    """Write a pattern and its row of the index."""
    index = DIRECTORY / "index.json"
    rows = json.loads(index.read_text(encoding="utf-8"))["programs"] if index.exists() else []
    rows = [other for other in rows if other["name"] != row.name] + [dataclasses.asdict(row)]
    order = [program.name for program in PROGRAMS]
    rows.sort(key=lambda other: order.index(other["name"]))
    for path, data in (
        (DIRECTORY / row.file, content),
        (index, (json.dumps({"programs": rows}, indent=2) + "\n").encode()),
    ):
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.write_bytes(data)
        os.replace(temporary, path)
    print(
        f"{row.name}: {row.instructions:,} instructions, {row.touched_pages:,} pages, {row.bytes:,} bytes", flush=True
    )


def _run(program: Program, folder: Path, counted: list[int]) -> Iterator[PageVisits]:
    """Start the program under lackey and read what it prints from a pipe, up to so many instructions.

    In gcc's place the compiler proper is started, as gcc would do it.
    """
    pipe = folder / "lackey"
    os.mkfifo(pipe)
    command = shlex.split(program.command)
    if command[0] == "python3":
        command[0] = os.path.realpath(sys.executable)  # what is on the path may be a script
    if command[0] == "gcc":
        asked = subprocess.run([*command, "-###"], cwd=folder, capture_output=True, text=True, check=True).stderr
        command = shlex.split(next(line for line in asked.splitlines() if "cc1" in line))
    tool = ["valgrind", "--tool=lackey", "--trace-mem=yes", f"--log-file={pipe}"]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONHASHSEED": "0"}
    with subprocess.Popen(
        [*tool, *command], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        stream = ByteStream(pipe)
        try:
            for chunk in read_lackey(stream):
                counted[0] = int(chunk.time[-1])
                yield chunk
                if counted[0] >= program.instructions:
                    break
        finally:
            process.kill()
            stream.close()
    if not counted[0]:
        raise UserError(f"{program.name}: valgrind printed no access; is it installed?")


if __name__ == "__main__":
    run_command(main)
