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
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.core import config as numba_config
from numba.extending import intrinsic, overload
from numba.np.arrayobj import make_array, populate_array

Record: TypeAlias = Any
"""A numba record, such as one simulated volume: what its fields are stands beside its dtype."""

CACHE_LINE_BYTES = 64

Internal: TypeAlias = Any
"""An object of numba's compiler or of llvmlite, which have no types for mypy."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_PACKAGE = Path(__file__).parent
_COMPILED_FOLDERS = ("damon", "lfs", "proxy", "workloads")


def compiled(function: _Function) -> _Function:
    """Compile a function with numba: no Python objects, no GIL, cached on disk.

    Args:
        function: A function over numbers, arrays and named tuples of arrays.

    Returns:
        The compiled dispatcher, typed as the function that it came from.
    """
    settings: Internal = numba_config
    previous = settings.CACHE_DIR
    settings.CACHE_DIR = str(_cache_folder())
    try:
        return cast(_Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    finally:
        settings.CACHE_DIR = previous


class ChosenByRecord:
    """A function of compiled code whose rule is chosen by the type of the record that is its first argument.

    It is to compiled code what `functools.singledispatch` is to Python: a loop that calls it is compiled once for each
    type. (A loop that took functions as arguments would be compiled anew in every process, since numba's cache on
    disk cannot tell that they are the same ones.)
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        """Decorate a function whose body is empty: it names and documents the arguments of the rules."""
        functools.update_wrapper(self, function)
        self._rules: dict[Internal, Callable[..., Any]] = {}

        def choose(first: Internal, *others: Internal) -> Callable[..., Any] | None:
            return self._rules.get(first)

        overload(self, jit_options={"error_model": "numpy"}, strict=False)(choose)

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401 (as the rules have it)
        """Refuse: only compiled functions can call it."""
        raise NotImplementedError("to be called by compiled functions")

    def rule(self, dtype: npt.DTypeLike) -> Callable[[_Function], _Function]:
        """Make a decorator that registers a plain function as the rule for records of a type."""

        def register(function: _Function) -> _Function:
            self._rules[from_dtype(np.dtype(dtype))] = function
            return function

        return register


def array_of(field: str, dtype: npt.DTypeLike, length: int = 0) -> Callable[[Record], Any]:
    """Make the accessor of an array whose address stands in a field of a record.

    An instance of a simulator is one record that holds the addresses of its arrays, because compiled functions
    then pass each other one pointer instead of a hundred words.

    Unless a length is given, the array that the accessor returns has none: index it, never slice it or call its
    methods. So an index needs no test for counting from the end. Fields read this way are marked as constant, which
    lets LLVM keep the address in a register across the stores between two accesses; only addresses that never
    change may be read so.

    Args:
        field: Name of the uint64 field that holds the address.
        dtype: What the array holds.
        length: Items, for an array of the same size in every record.

    Returns:
        A function of the record, for use in compiled functions only.
    """
    item = from_dtype(np.dtype(dtype))

    def accessor(typing_context: Internal, record: Internal) -> Internal:
        array_type = types.Array(item, 1, "C")

        def generate(context: Internal, builder: Internal, signature: Internal, arguments: Internal) -> Internal:
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

    def accessor(typing_context: Internal, record: Internal) -> Internal:
        def generate(context: Internal, builder: Internal, signature: Internal, arguments: Internal) -> Internal:
            return load_constant_field(builder, arguments[0], record.offset(field))

        return types.int64(record), generate

    accessor.__name__ = field
    return cast(Callable[[Record], int], intrinsic(accessor))


def load_constant_field(builder: Internal, record: Internal, offset: int) -> Internal:
    """Emit the load of a 64-bit field that does not change: LLVM may do it once instead of after every store."""
    pointer = cgutils.pointer_add(builder, record, ir.IntType(64)(offset), ir.IntType(64).as_pointer())
    loaded = builder.load(pointer)
    loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
    return loaded


def instruction(result: Internal, argument: Internal) -> Callable[[Callable[..., Internal]], Callable[[Any], Any]]:
    """Turn a function that emits LLVM instructions into a function of one argument for compiled code.

    Args:
        result: Type of the result.
        argument: Type of the argument.

    Returns:
        A decorator of functions that take LLVM's instruction builder and the argument's value.
    """

    def decorate(emit: Callable[..., Internal]) -> Callable[[Any], Any]:
        def typed(typing_context: Internal, value: Internal) -> Internal:
            def generate(context: Internal, builder: Internal, signature: Internal, arguments: Internal) -> Internal:
                return emit(builder, *arguments)

            return result(argument), generate

        return cast(Callable[[Any], Any], intrinsic(functools.wraps(emit, assigned=("__name__", "__doc__"))(typed)))

    return decorate


@instruction(types.int64, types.uint64)
def lowest_bit(builder: Internal, word: Internal) -> Internal:
    """Position of the lowest set bit of a 64-bit word; 64 for zero."""
    return builder.cttz(word, cgutils.false_bit)


@instruction(types.int64, types.uint64)
def highest_bit(builder: Internal, word: Internal) -> Internal:
    """Position of the highest set bit of a 64-bit word, which is its log2 rounded down; -1 for zero."""
    zeros = builder.ctlz(word, cgutils.false_bit)
    return builder.sub(zeros.type(63), zeros)


@instruction(types.uint64, types.float64)
def bits_of_float(builder: Internal, number: Internal) -> Internal:
    """The 64 bits of a float64 as uint64."""
    return builder.bitcast(number, ir.IntType(64))


@instruction(types.float64, types.uint64)
def float_of_bits(builder: Internal, bits: Internal) -> Internal:
    """The float64 with the given 64 bits."""
    return builder.bitcast(bits, ir.DoubleType())


def _prefetch(lines_of: Callable[[int], int]) -> Callable[[Any, int], None]:
    # An instruction that fetches so many cache lines of an array's item, given the size of an item.
    def prefetch(typing_context: Internal, array: Internal, index: Internal) -> Internal:
        def generate(context: Internal, builder: Internal, signature: Internal, arguments: Internal) -> Internal:
            flag, byte = ir.IntType(32), ir.IntType(8)
            first = make_array(array)(context, builder, arguments[0]).data
            size = context.get_abi_sizeof(context.get_data_type(array.dtype))
            item = builder.bitcast(cgutils.gep_inbounds(builder, first, arguments[1]), byte.as_pointer())
            kind = ir.FunctionType(ir.VoidType(), [item.type, flag, flag, flag])
            fetch = builder.module.declare_intrinsic("llvm.prefetch", [item.type], kind)
            for line in range(lines_of(size)):
                address = builder.gep(item, [flag(line * CACHE_LINE_BYTES)])
                builder.call(fetch, [address, flag(1), flag(3), flag(1)])
            return context.get_dummy_value()

        return types.void(array, types.int64), generate

    return cast(Callable[[Any, int], None], intrinsic(prefetch))


prefetch_to_write = _prefetch(lambda size: 1)
"""Ask for the cache line of an array's item that will soon be written, and do not wait for it: (array, index)."""

prefetch_record = _prefetch(lambda size: -(-size // CACHE_LINE_BYTES))
"""The same for all cache lines of an item: (array, index)."""


@functools.cache
def _cache_folder() -> Path:
    digest = hashlib.sha256(numba.__version__.encode() + Path(__file__).read_bytes())
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
