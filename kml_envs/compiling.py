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
from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.core import config as numba_config
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

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


def array_of(field: str, dtype: Any, length: int = 0) -> Callable[[Record], Any]:
    """Make the accessor of an array whose address stands in a field of a record.

    Unless a length is given, the array that the accessor returns has none: index it, never slice it or call its
    methods. So an index needs no test for counting from the end. Fields read this way are marked as constant, which lets LLVM keep the address in a
    register across the stores between two accesses; only addresses that never change may be read so.

    Args:
        field: Name of the uint64 field that holds the address.
        dtype: What the array holds.
        length: Items, for an array of the same size in every record.

    Returns:
        A function of the record, for use in compiled functions only.
    """
    item = from_dtype(dtype)

    def accessor(typing_context: Any, record: Any) -> Any:
        array_type = types.Array(item, 1, "C")

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address = load_constant_field(builder, arguments[0], record.offset(field))
            array = make_array(array_type)(context, builder)
            word = context.get_value_type(types.intp)
            size = context.get_abi_sizeof(context.get_data_type(item))
            populate_array(
                array,
                data=builder.inttoptr(address, array.data.type),
                shape=(word(length),),
                strides=(word(size),),
                itemsize=word(size),
                meminfo=None,
            )
            return array._getvalue()

        return array_type(record), generate

    accessor.__name__ = field
    return cast(Callable[[Record], Any], intrinsic(accessor))


def constant_of(field: str) -> Callable[[Record], int]:
    """Make the accessor of an int64 field of a record that never changes once the record is in use."""

    def accessor(typing_context: Any, record: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return load_constant_field(builder, arguments[0], record.offset(field))

        return types.int64(record), generate

    accessor.__name__ = field
    return cast(Callable[[Record], int], intrinsic(accessor))


def load_constant_field(builder: Any, record: Any, offset: int) -> Any:
    """Emit the load of a 64-bit field that does not change: LLVM may do it once instead of after every store."""
    pointer = cgutils.pointer_add(builder, record, ir.IntType(64)(offset), ir.IntType(64).as_pointer())
    loaded = builder.load(pointer)
    loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
    return loaded


@intrinsic  # type: ignore[untyped-decorator]
def lowest_bit(typing_context: Any, word: Any) -> Any:
    """Position of the lowest set bit of a 64-bit word; 64 for zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], cgutils.false_bit)

    return types.int64(types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def highest_bit(typing_context: Any, word: Any) -> Any:
    """Position of the highest set bit of a 64-bit word, which is its log2 rounded down; -1 for zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zeros = builder.ctlz(arguments[0], cgutils.false_bit)
        return builder.sub(zeros.type(63), zeros)

    return types.int64(types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def bits_of_float(typing_context: Any, number: Any) -> Any:
    """The 64 bits of a float64 as uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.uint64(types.float64), generate


@intrinsic  # type: ignore[untyped-decorator]
def float_of_bits(typing_context: Any, bits: Any) -> Any:
    """The float64 with the given 64 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.uint64), generate


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
