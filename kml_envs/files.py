"""Files are written under a temporary name and renamed, so that no reader ever meets half of one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let a function write a file under a temporary name of the same suffix, then rename it."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    write_atomically(path, lambda temporary: temporary.write_text(text))


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as .npz."""
    write_atomically(path, lambda temporary: np.savez(temporary, **dict(arrays)))
