"""LMDB, the memory-mapped copy-on-write B+ tree."""

from __future__ import annotations

import importlib
import random
from pathlib import Path

from kml_envs.errors import UserError
from tools.record_traces.applications.skew import skewed_key

KEYS = 150_000
TRANSACTIONS = 13_000
PUTS_PER_TRANSACTION = 4


def transactions(directory: Path) -> None:
    """Load keys, then put and delete skewed ones, a few to a transaction, every transaction flushed.

    LMDB reads through a memory map but writes with pwrite, so that all of its writes are recorded.

    Args:
        directory: Where the store is made.
    """
    try:
        lmdb = importlib.import_module("lmdb")
    except ImportError as error:
        raise UserError("the Python package lmdb is not installed") from error
    generator = random.Random(8)
    environment = lmdb.open(str(directory), map_size=1 << 30, writemap=False, sync=True)
    for first in range(0, KEYS, 2_000):
        with environment.begin(write=True) as transaction:
            for number in range(first, first + 2_000):
                transaction.put(_key(number), _value(generator))
    for _ in range(TRANSACTIONS):
        with environment.begin(write=True) as transaction:
            for _ in range(generator.randrange(1, 2 * PUTS_PER_TRANSACTION)):
                key = _key(skewed_key(generator, KEYS, exponent=2.5))
                if generator.random() < 0.15:
                    transaction.delete(key)
                else:
                    transaction.put(key, _value(generator))
    environment.close()


def _key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _value(generator: random.Random) -> bytes:
    """Make a value; a few are longer than a page and go to overflow pages."""
    size = generator.randrange(5_000, 20_000) if generator.random() < 0.005 else generator.randrange(100, 800)
    return generator.randbytes(size)
