"""The recorded applications: one module each, one table of recordings.

Every recording fills an empty directory and then overwrites it several times. Random choices have fixed seeds; what is
not repeatable is timing, and with it the order in which concurrent threads reach the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.record_traces.applications import git, lmdb_store, mail, mariadb, postgresql, redis, rocksdb, sqlite


@dataclass(frozen=True)
class Recording:
    """One run of one application.

    Attributes:
        name: The trace's name.
        application: Two recordings of one application are in the same split.
        split: "train", "validation" or "held-out".
        behaviour: What the run does and how the application writes.
        packages: What has to be installed.
        run: The workload; its argument is an empty directory.
    """

    name: str
    application: str
    split: str
    behaviour: str
    packages: str
    run: Callable[[Path], None]


RECORDINGS: dict[str, Recording] = {
    recording.name: recording
    for recording in (
        Recording(
            "sqlite-rollback-journal",
            "SQLite",
            "train",
            "skewed updates, inserts and deletes of rows, ten to a transaction, in rollback-journal mode: "
            "a journal file is written, flushed and removed by every transaction, the database overwritten in place",
            "none (Python's sqlite3)",
            sqlite.rollback_journal,
        ),
        Recording(
            "sqlite-write-ahead-log",
            "SQLite",
            "train",
            "a session store with random keys and an index by expiry, in write-ahead-log mode: "
            "a short log is overwritten from its start over and over, checkpoints scatter over the database",
            "none (Python's sqlite3)",
            sqlite.write_ahead_log,
        ),
        Recording(
            "rocksdb-update",
            "RocksDB",
            "train",
            "db_bench fillrandom, then overwrites of random keys: log-structured merge tree, "
            "files are written once from start to end and removed by compaction",
            "rocksdb-tools",
            rocksdb.update,
        ),
        Recording(
            "mariadb-sysbench",
            "MariaDB",
            "train",
            "sysbench oltp_write_only with Pareto-distributed keys on InnoDB: 16-KiB pages overwritten in place "
            "through a doublewrite buffer, circular redo log, undo logs",
            "mariadb-server sysbench",
            mariadb.sysbench,
        ),
        Recording(
            "git-commits",
            "git",
            "train",
            "a repository of text files: edits of the working tree, commits as loose objects, "
            "garbage collection into packs",
            "git",
            git.commits,
        ),
        Recording(
            "maildir",
            "mail",
            "validation",
            "Maildir folders: delivery by write, flush and rename, reading as rename, deletion; "
            "long-tailed message sizes",
            "none (Python's mailbox)",
            mail.folders,
        ),
        Recording(
            "redis-append-only-file",
            "Redis",
            "validation",
            "redis-benchmark SET with an append-only file flushed every second and rewritten whenever it has doubled",
            "redis-server redis-tools",
            redis.append_only_file,
        ),
        Recording(
            "postgresql-pgbench",
            "PostgreSQL",
            "held-out",
            "pgbench's TPC-B-like transactions, uniform accounts: 8-KiB pages overwritten in place "
            "by frequent checkpoints, write-ahead log with full pages in recycled segments",
            "postgresql-15",
            postgresql.pgbench_uniform,
        ),
        Recording(
            "postgresql-pgbench-zipf",
            "PostgreSQL",
            "held-out",
            "updates, inserts and deletes of Zipf-distributed accounts with autovacuum, bursts and pauses",
            "postgresql-15",
            postgresql.pgbench_zipf,
        ),
        Recording(
            "lmdb-transactions",
            "LMDB",
            "held-out",
            "transactions of a few skewed puts and deletes: copy-on-write B+ tree in one file, "
            "pages reused two transactions later, two alternating meta pages",
            "lmdb (from the Python package index)",
            lmdb_store.transactions,
        ),
    )
}
