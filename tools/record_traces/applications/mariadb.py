"""MariaDB's InnoDB under sysbench."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools.record_traces.applications.processes import find_program, running_server, server_account, succeeds

TABLES = 3
ROWS_PER_TABLE = 90_000
TRANSACTIONS = 14_000


def sysbench(directory: Path) -> None:
    """Load tables of sysbench and run its write-only transactions with Pareto-distributed keys.

    Args:
        directory: The server's data directory.
    """
    account = server_account("mysql", directory)
    install = find_program("mariadb-install-db", "mariadb-server")
    socket = directory / "server.sock"
    options = [
        "--no-defaults",
        f"--datadir={directory}",
        f"--socket={socket}",
        "--skip-networking",
        # Asynchronous input and output would pass by the recorded system calls.
        "--innodb-use-native-aio=0",
        "--innodb-buffer-pool-size=16M",
        "--innodb-log-file-size=24M",
        "--innodb-flush-log-at-trx-commit=1",
        "--innodb-flush-method=fsync",
    ]
    quick = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
    subprocess.check_call([install, *options[:2], *quick], user=account, stdout=subprocess.DEVNULL)
    client = [find_program("mariadb", "mariadb-client"), "--no-defaults", "--user=root", f"--socket={socket}"]
    server = find_program("mariadbd", "mariadb-server")
    with running_server([server, *options], lambda: succeeds([*client, "--execute=SELECT 1"]), account):
        subprocess.check_call([*client, "--execute=CREATE DATABASE sbtest"])
        benchmark = [
            find_program("sysbench", "sysbench"),
            "oltp_write_only",
            f"--mysql-socket={socket}",
            "--mysql-user=root",
            f"--tables={TABLES}",
            f"--table-size={ROWS_PER_TABLE}",
            "--rand-type=pareto",
            "--rand-seed=4",
            "--threads=2",
            "--time=0",
            f"--events={TRANSACTIONS}",
        ]
        subprocess.check_call([*benchmark, "prepare"], stdout=subprocess.DEVNULL)
        subprocess.check_call([*benchmark, "run"], stdout=subprocess.DEVNULL)
