"""Arguments of environments that come from a command line or a file may be of any kind: which ones a field takes."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, cast, get_args, get_origin, get_type_hints

import numpy as np

from kml_envs.errors import UserError
from kml_envs.proxy.options import MOST_PROGRESS

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    NoneType: "null",
}
_ABSTRACT: dict[type, Any] = {
    bool: (bool, np.bool_),
    int: numbers.Integral,
    float: numbers.Real,
    str: str,
    NoneType: NoneType,
}


def check_kinds(arguments: object) -> None:
    """Check that every field of a frozen dataclass holds what its annotation says.

    Args:
        arguments: A dataclass whose annotations are made of bool, int, float, str, None, and sequences of these.

    Raises:
        UserError: A field holds something else, or a number that is too large for any length.
    """
    kind: Any = type(arguments)
    for name, hint in _hints(kind).items():
        value = getattr(arguments, name)
        kinds = get_args(hint) if get_origin(hint) not in (None, Sequence) else (hint,)
        if not any(_fits(value, kind) for kind in kinds):
            raise UserError(f"{name} {value!r}: must be {' or '.join(map(_in_words, kinds))}")
        if isinstance(value, float) and abs(value) > MOST_PROGRESS:
            # No more is accepted as progress, and no product of two numbers up to here is infinite.
            raise UserError(f"{name} {value!r}: must be at most 2**53")


@functools.cache
def _hints(kind: Any) -> Mapping[str, Any]:  # noqa: ANN401
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _fits(value: object, kind: Any) -> bool:  # noqa: ANN401
    if get_origin(kind) is Sequence:
        [member] = get_args(kind)
        return (
            isinstance(value, (Sequence, np.ndarray))
            and not isinstance(value, (str, bytes))
            and all(_fits(one, member) for one in value)
        )
    # True is a whole number to Python, and never what was meant.
    if isinstance(value, (bool, np.bool_)) and kind is not bool:
        return False
    if not isinstance(value, _ABSTRACT[kind]):
        return False
    return kind is not float or math.isfinite(cast(float, value))


def _in_words(kind: Any) -> str:  # noqa: ANN401
    if get_origin(kind) is Sequence:
        return f"a list, each member {_in_words(get_args(kind)[0])}"
    return _WORDS[kind]
