"""SQLite in its two journal modes, under two different tables."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from tools.record_traces.applications.skew import skewed_key

ROWS = 200_000
TRANSACTIONS = 9_000
STATEMENTS_PER_TRANSACTION = 10

SESSIONS = 160_000
SESSION_TRANSACTIONS = 14_000


def rollback_journal(directory: Path) -> None:
    """Run an inventory: rows of 100 to 600 bytes, updated, inserted and deleted, in rollback-journal mode.

    Args:
        directory: Where the database is made.
    """
    generator = random.Random(1)
    database = sqlite3.connect(directory / "inventory.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, place INTEGER, description BLOB)")
    database.execute("CREATE INDEX item_by_place ON item (place)")
    for first in range(0, ROWS, 10_000):
        rows = [(key, generator.randrange(1000), _payload(generator, 600)) for key in range(first, first + 10_000)]
        _in_transaction(database, "INSERT INTO item VALUES (?, ?, ?)", rows)
    newest = ROWS
    for _ in range(TRANSACTIONS):
        database.execute("BEGIN")
        for _ in range(STATEMENTS_PER_TRANSACTION):
            key = skewed_key(generator, ROWS)
            kind = generator.random()
            if kind < 0.70:
                payload = _payload(generator, 600)
                database.execute("UPDATE item SET description = ? WHERE id = ?", (payload, key))
            elif kind < 0.80:
                database.execute("UPDATE item SET place = ? WHERE id = ?", (generator.randrange(1000), key))
            elif kind < 0.90:
                database.execute("DELETE FROM item WHERE id = ?", (key,))
            else:
                newest += 1
                row = (newest, generator.randrange(1000), _payload(generator, 600))
                database.execute("INSERT INTO item VALUES (?, ?, ?)", row)
        database.execute("COMMIT")
    database.close()


def write_ahead_log(directory: Path) -> None:
    """Run a session store: random 16-byte keys, an index by expiry, sessions touched and dropped, in WAL mode.

    Args:
        directory: Where the database is made.
    """
    generator = random.Random(2)
    database = sqlite3.connect(directory / "sessions.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE session (token BLOB PRIMARY KEY, expires INTEGER, state BLOB) WITHOUT ROWID")
    database.execute("CREATE INDEX session_by_expiry ON session (expires)")
    tokens = [generator.randbytes(16) for _ in range(SESSIONS)]
    for first in range(0, SESSIONS, 10_000):
        rows = [(token, first, _payload(generator, 900)) for token in tokens[first : first + 10_000]]
        _in_transaction(database, "INSERT INTO session VALUES (?, ?, ?)", rows)
    for now in range(SESSIONS, SESSIONS + SESSION_TRANSACTIONS):
        database.execute("BEGIN")
        for _ in range(3):
            place = skewed_key(generator, SESSIONS, exponent=2.0)
            state = _payload(generator, 900)
            database.execute("UPDATE session SET expires = ?, state = ? WHERE token = ?", (now, state, tokens[place]))
        place = generator.randrange(SESSIONS)
        database.execute("DELETE FROM session WHERE token = ?", (tokens[place],))
        tokens[place] = generator.randbytes(16)
        row = (tokens[place], now, _payload(generator, 900))
        database.execute("INSERT INTO session VALUES (?, ?, ?)", row)
        database.execute("COMMIT")
    database.close()


def _payload(generator: random.Random, largest: int) -> bytes:
    return generator.randbytes(generator.randrange(100, largest))


def _in_transaction(database: sqlite3.Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    database.execute("BEGIN")
    database.executemany(statement, rows)
    database.execute("COMMIT")
