"""Redis with an append-only file."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools.record_traces.applications.processes import find_program, running_server, succeeds

KEYS = 70_000
VALUE_BYTES = 700
ROUNDS = 40
WRITES_PER_ROUND = 24_000


def append_only_file(directory: Path) -> None:
    """Set random keys; the file is rewritten whenever it has doubled.

    Args:
        directory: Where the server keeps its files.
    """
    socket = directory / "server.sock"
    server = [find_program("redis-server", "redis-server"), "--port", "0", "--unixsocket", str(socket)]
    server += ["--dir", str(directory), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]
    server += ["--auto-aof-rewrite-percentage", "100", "--auto-aof-rewrite-min-size", "24mb", "--rdbcompression", "no"]
    client = [find_program("redis-cli", "redis-tools"), "-s", str(socket)]
    benchmark = [find_program("redis-benchmark", "redis-tools"), "-s", str(socket), "-q", "-t", "set", "-P", "32"]
    benchmark += ["-c", "2", "-r", str(KEYS), "-n", str(WRITES_PER_ROUND)]
    with running_server(server, lambda: succeeds([*client, "ping"])):
        for number in range(ROUNDS):
            # Rounds of different value sizes; the pause lets the flush of every second be seen.
            size = VALUE_BYTES // 2 + VALUE_BYTES * (number % 3) // 2
            subprocess.check_call([*benchmark, "-d", str(size)], stdout=subprocess.DEVNULL)
            subprocess.check_call(["sleep", "1"])
