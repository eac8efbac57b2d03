"""What an application does to its files, as far as it decides which blocks are written."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Action(Enum):
    """The kinds of file operations that matter to a block-address model."""

    WRITE = auto()
    """Store bytes in the page cache."""
    WRITE_THROUGH = auto()
    """Store bytes and have them written before the call returns (O_SYNC, O_DSYNC, O_DIRECT)."""
    FLUSH = auto()
    """Write the file's dirty pages within the range (fsync, fdatasync, sync_file_range)."""
    FLUSH_ALL = auto()
    """Write every dirty page (sync, syncfs)."""
    TRUNCATE = auto()
    """Set the file's size to `offset`."""
    ALLOCATE = auto()
    """Give blocks to the range without writing them; a file that is shorter grows (fallocate)."""
    ALLOCATE_KEEPING_SIZE = auto()
    """The same, but the file's size stays (fallocate with FALLOC_FL_KEEP_SIZE)."""
    PUNCH = auto()
    """Give the range's blocks back (fallocate with FALLOC_FL_PUNCH_HOLE)."""
    UNLINK = auto()
    """Remove the name `path`."""
    RENAME = auto()
    """Move a file, or a directory with all that is in it, from `path` to `target`."""
    LINK = auto()
    """Give the file `path` the further name `target`."""


@dataclass(frozen=True, slots=True)
class FileOperation:
    """One operation on a file.

    Attributes:
        time_us: When it happened, in microseconds.
        action: What was done.
        path: Absolute path of the file; empty for `FLUSH_ALL`.
        offset: First byte; None means the end of the file (a write in append mode).
        length: Bytes; None means up to the end of the file.
        target: The second path of `RENAME` and `LINK`.
    """

    time_us: int
    action: Action
    path: str = ""
    offset: int | None = 0
    length: int | None = None
    target: str = ""
