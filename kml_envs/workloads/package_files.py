"""Recordings that the package carries: an index in JSON, and files with their digests in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

SPLITS = ("train", "validation", "held-out")


class IndexRow(Protocol):
    """What every row of an index tells."""

    @property
    def name(self) -> str:
        """The recording's name."""

    @property
    def split(self) -> str:
        """One of `SPLITS`."""

    @property
    def file(self) -> str:
        """Name of its file, beside the index."""

    @property
    def sha256(self) -> str:
        """Digest of the file."""


_Row = TypeVar("_Row", bound=IndexRow)


def read_index(directory: Path, key: str, make_row: Callable[..., _Row]) -> dict[str, _Row]:
    """Read `index.json`.

    Args:
        directory: Where it is.
        key: Its member that holds the rows.
        make_row: Makes a row of its members.

    Returns:
        The rows by name, in the order of the splits.
    """
    rows: list[dict[str, Any]] = json.loads((directory / "index.json").read_text(encoding="utf-8"))[key]
    made = sorted((make_row(**row) for row in rows), key=lambda row: SPLITS.index(row.split))
    return {row.name: row for row in made}


def read_verified(directory: Path, row: IndexRow) -> bytes:
    """Read the file of a row.

    Raises:
        ValueError: The file is not the one that was published.
    """
    content = (directory / row.file).read_bytes()
    if hashlib.sha256(content).hexdigest() != row.sha256:
        raise ValueError(f"{row.file} is damaged: its sha256 differs from the one in index.json")
    return content
