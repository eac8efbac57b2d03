"""PostgreSQL under pgbench."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.record_traces.applications.processes import find_program, running_server, server_account, succeeds

BINARIES = Path("/usr/lib/postgresql/15/bin")
DATABASE = "bench"
SCALE = 5
TRANSACTIONS_PER_CLIENT = 30_000
CLIENTS = 2
BURSTS = 8

ZIPF_SCRIPT = """\
\\set account random_zipfian(1, 100000 * :scale, 1.05)
\\set other random(1, 100000 * :scale)
\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :account;
UPDATE pgbench_accounts SET filler = md5(random()::text) WHERE aid = :other;
DELETE FROM session WHERE id = :account;
INSERT INTO session VALUES (:account, repeat(md5(random()::text), 20));
END;
"""


def pgbench_uniform(directory: Path) -> None:
    """Run pgbench's built-in TPC-B-like transactions.

    Args:
        directory: Where the cluster is made.
    """
    with _cluster(directory) as (connection, account):
        run = [find_program("pgbench", "postgresql-15", BINARIES), *connection]
        subprocess.check_call([*run, "-i", "-q", "-s", str(SCALE), DATABASE], user=account, stderr=subprocess.DEVNULL)
        load = ["-n", "-c", str(CLIENTS), "-t", str(TRANSACTIONS_PER_CLIENT), "--random-seed=7", DATABASE]
        subprocess.check_call([*run, *load], user=account, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def pgbench_zipf(directory: Path) -> None:
    """Run bursts of Zipf-distributed updates, and replace rows of a second table.

    Args:
        directory: Where the cluster is made.
    """
    with _cluster(directory) as (connection, account):
        run = [find_program("pgbench", "postgresql-15", BINARIES), *connection]
        subprocess.check_call([*run, "-i", "-q", "-s", str(SCALE), DATABASE], user=account, stderr=subprocess.DEVNULL)
        query = [find_program("psql", "postgresql-15", BINARIES), *connection, "-q", "-d", DATABASE]
        subprocess.check_call([*query, "-c", "CREATE TABLE session (id int, state text)"], user=account)
        subprocess.check_call([*query, "-c", "CREATE INDEX session_by_id ON session (id)"], user=account)
        script = directory.parent / "zipf.sql"
        script.write_text(ZIPF_SCRIPT)
        for burst in range(BURSTS):
            load = ["-n", "-c", str(CLIENTS), "-s", str(SCALE), "-f", str(script), f"--random-seed={burst}"]
            amount = ["-t", str(TRANSACTIONS_PER_CLIENT // BURSTS), DATABASE]
            subprocess.check_call([*run, *load, *amount], user=account, stdout=subprocess.DEVNULL)
            subprocess.check_call(["sleep", "4"])


@contextmanager
def _cluster(directory: Path) -> Iterator[tuple[list[str], str | None]]:
    """Make a cluster and run its server; yield the clients' connection options and their account."""
    account = server_account("postgres", directory)
    initialize = [find_program("initdb", "postgresql-15", BINARIES), "-D", str(directory), "--no-locale", "-E", "UTF8"]
    initialize += ["--auth=trust", "--username=recorder", "--wal-segsize=4"]
    subprocess.check_call(initialize, user=account, stdout=subprocess.DEVNULL)
    settings = {
        "listen_addresses": "''",
        "unix_socket_directories": f"'{directory}'",
        "shared_buffers": "16MB",
        "fsync": "on",
        "checkpoint_timeout": "30s",
        "max_wal_size": "48MB",
        "min_wal_size": "24MB",
        "autovacuum_naptime": "10s",
        "wal_compression": "off",
        "checkpoint_warning": "0",
        "log_checkpoints": "off",
        "log_min_messages": "error",
    }
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    with (directory / "postgresql.conf").open("a") as configuration:
        configuration.write(lines)
    connection = ["-h", str(directory), "-U", "recorder"]
    ready = [find_program("pg_isready", "postgresql-15", BINARIES), *connection, "-d", "postgres"]
    server = [find_program("postgres", "postgresql-15", BINARIES), "-D", str(directory)]
    with running_server(server, lambda: succeeds(ready), account):
        create = [find_program("createdb", "postgresql-15", BINARIES), *connection, DATABASE]
        subprocess.check_call(create, user=account)
        yield connection, account
