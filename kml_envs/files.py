"""Files are written under a temporary name and renamed, so that no reader ever meets half of one."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from kml_envs.errors import UserError

DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading arrays that are cut short or overwritten raises; RuntimeError, where an archive seems encrypted."""


def is_stream(path: Path) -> bool:
    """Whether a path is a pipe, a device, or a process's open file such as `/dev/stdout`: not to be renamed over."""
    # os.path does not raise where a name is too long.
    other = os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
    return other or (path.parts[:2] in (("/", "dev"), ("/", "proc")) and os.path.islink(path))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let a function write a file under a temporary name of the same suffix, then rename it; a stream as it is."""
    if is_stream(path):
        write(path)
        return
    temporary = _temporary(path)
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path, option: str) -> None:
    """Find out whether a file can be written, by trying, before there is something to lose.

    Args:
        path: The file; one that is there already stays as it is. A stream is asked for its permission only.
        option: The option of the command line that names it.

    Raises:
        UserError: It cannot.
    """
    try:
        if stat.S_ISDIR(_kind(path)):
            raise UserError(f"{option} {path}: is a folder, a file is needed")
        if is_stream(path):
            if not os.access(path, os.W_OK):
                raise UserError(f"{option} {path}: Permission denied")
            return
        temporary = _temporary(path)
        try:
            temporary.touch()
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{option} {path}: {error.strerror}") from None


def make_writable_folder(folder: Path, option: str) -> None:
    """Make a folder, and find out whether files can be written into it.

    Args:
        folder: The folder; one that is there already keeps its files.
        option: The option of the command line that names it.

    Raises:
        UserError: It cannot be made, or not be written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{option} {folder}: {error.strerror}") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    write_atomically(path, lambda temporary: temporary.write_text(text))


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as .npz."""
    write_atomically(path, lambda temporary: np.savez(temporary, **dict(arrays)))


def _temporary(path: Path) -> Path:
    """The name under which a file is written."""
    return path.parent / f".{path.stem}.{os.getpid()}{path.suffix}"  # with_name() refuses what has no name, such as /


def _kind(path: Path) -> int:
    """The mode bits of what a path leads to; 0: nothing is there."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0
