"""What command lines have in common: `KEY:VALUE` words, whose values are YAML."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from kml_envs.errors import UserError

_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def parse_pairs(pairs: Sequence[str] | None, option: str) -> dict[str, Any]:
    """Parse `KEY:VALUE` or `KEY=VALUE` words of a command line; values are YAML.

    Raises:
        UserError: A word is not of that form.
    """
    result: dict[str, Any] = {}
    for pair in pairs or ():
        match = re.fullmatch(r"(\w+)[:=](.*)", pair, flags=re.DOTALL)
        if match is None:
            raise UserError(f"{option} '{pair}': must be KEY:VALUE, such as learning_rate:0.001")
        try:
            result[match[1]] = plain_value(yaml.safe_load(match[2]))
        except yaml.YAMLError:
            raise UserError(f"{option} '{pair}': '{match[2]}' is not a YAML value") from None
    return result


def not_negative(text: str) -> float:
    """The number that a word of a command line stands for, from 0 on; a `type` of argparse.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number from 0 on")
    return value


def whole_number_from(least: int) -> Callable[[str], int]:
    """What reads a word of a command line as a whole number, from `least` on; a `type` of argparse."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"'{text}' must be a whole number from {least} on")
        return value

    return read


def plain_value(value: object) -> object:
    """The value with numbers such as 1e-3, which YAML takes for text, as numbers."""
    if isinstance(value, str) and _FLOAT.fullmatch(value):
        return float(value)
    return value
