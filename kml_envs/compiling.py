"""Compiled functions: numba with one set of options and a disk cache that never goes stale.

numba's own cache looks only at the file of the function that is called, so a change in a helper of another
module would go unnoticed. Here the cache folder is named after the contents of every module that holds
compiled functions: any change starts a fresh cache.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import numba
from numba import types
from numba.core import config as numba_config
from numba.extending import intrinsic

Record: TypeAlias = Any
"""A numba record, such as one simulated volume: what its fields are stands beside its dtype."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_PACKAGE = Path(__file__).parent
_COMPILED_FOLDERS = ("lfs", "workloads")


def compiled(function: _Function) -> _Function:
    """Compile a function with numba: no Python objects, no GIL, cached on disk.

    Args:
        function: A function over numbers, arrays and named tuples of arrays.

    Returns:
        The compiled dispatcher, typed as the function that it came from.
    """
    previous = numba_config.CACHE_DIR
    numba_config.CACHE_DIR = str(_cache_folder())
    try:
        return cast(_Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    finally:
        numba_config.CACHE_DIR = previous


@intrinsic  # type: ignore[untyped-decorator]
def pointer_at(typing_context: Any, address: Any) -> Any:
    """Turn the address of an array, kept in a record, back into a pointer for `numba.carray`.

    An instance of a simulator is one record that holds the addresses of its arrays, because compiled
    functions then pass each other one pointer instead of a hundred words.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.uint64), generate


@functools.cache
def _cache_folder() -> Path:
    digest = hashlib.sha256(numba.__version__.encode())
    for folder in _COMPILED_FOLDERS:
        for source in sorted((_PACKAGE / folder).glob("*.py")):
            digest.update(source.read_bytes())
    return _cache_root() / f"compiled-{digest.hexdigest()[:16]}"


def _cache_root() -> Path:
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen) / "kml_envs"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "kml_envs"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kml_envs"
