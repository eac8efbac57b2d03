"""Access patterns from the configuration files of masim, the access generator that DAMON's developers use.

The grammar, from masim's README and parser (github.com/sjp38/masim): `#` begins a comment, empty lines part
paragraphs. The first paragraph lists regions, `name, bytes[, initial content]`; every further one is a phase: its name,
its length in milliseconds, then lines `region, randomness (1 or 0), stride, relative probability[, ro|wo|rw]`.

masim runs each line in turns of 131,072 accesses, chosen by relative probability, as fast as the machine can. Here the
turns, far shorter than a monitor's interval, run side by side, and the speed of the machine is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

from kml_envs.errors import UserError, unknown_name
from kml_envs.workloads.access import PAGE_BYTES, AccessTable, build_table

ACCESSES_PER_S = 50e6
"""Default speed of the machine: 50,000 accesses a millisecond, the order that masim prints on servers."""

CONFIGURATIONS = Path(__file__).parent / "masim_configurations"
"""The configuration files that the package carries; written for this project."""

_MODES = ("ro", "wo", "rw")
_MOST_SPARSE_PAGES = 1 << 15


@dataclass(frozen=True)
class MasimRegion:
    """A region of memory: its name and its size in bytes."""

    name: str
    bytes: int


@dataclass(frozen=True)
class MasimAccess:
    """One line of a phase.

    Attributes:
        region: Name of the region.
        random: Whether a uniformly drawn byte is accessed; otherwise one cursor strides through the region.
        stride: Bytes between two accesses of the cursor.
        probability: Share of the turns, relative to the other lines'.
        mode: "ro", "wo" or "rw"; the accessed bit does not tell them apart.
    """

    region: str
    random: bool
    stride: int
    probability: float
    mode: str


@dataclass(frozen=True)
class MasimPhase:
    """A phase: its name, its length in milliseconds, and its lines."""

    name: str
    time_ms: int
    accesses: tuple[MasimAccess, ...]


@dataclass(frozen=True)
class MasimConfiguration:
    """A whole file: the regions in the order of their addresses, and the phases in the order of time."""

    regions: tuple[MasimRegion, ...]
    phases: tuple[MasimPhase, ...]


def shipped_configurations() -> tuple[str, ...]:
    """Names of the configuration files in the package."""
    return tuple(sorted(path.stem for path in CONFIGURATIONS.glob("*.cfg")))


def shipped_masim(name: str) -> MasimConfiguration:
    """Read one of `shipped_configurations()`."""
    if name not in shipped_configurations():
        raise unknown_name("masim configuration", name, shipped_configurations())
    return read_masim(CONFIGURATIONS / f"{name}.cfg")


def read_masim(path: str | Path) -> MasimConfiguration:
    """Read a configuration file.

    Raises:
        UserError: It cannot be read, or a line does not fit the grammar: with the file, the line and what is accepted.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "not a text file"
        raise UserError(f"{path}: {reason}") from error
    paragraphs = list(_paragraphs(str(path), text))
    if not paragraphs:
        raise UserError(f"{path}, line 1: a paragraph of regions and one of each phase are expected, found nothing")
    regions = tuple(_region(line) for line in paragraphs[0])
    names = [region.name for region in regions]
    for line, name in zip(paragraphs[0], names, strict=True):
        if names.count(name) > 1:
            _refuse(line, f"region '{name}' is named twice")
    if len(paragraphs) == 1:
        _refuse(paragraphs[0][-1], "a phase is expected after the regions and an empty line")
    return MasimConfiguration(regions, tuple(_phase(lines, names) for lines in paragraphs[1:]))


def masim_table(
    configuration: MasimConfiguration,
    *,
    accesses_per_s: float = ACCESSES_PER_S,
    once: bool = False,
    name: str = "masim",
) -> AccessTable:
    """Turn a configuration into an access pattern; the regions lie one behind the other, each on whole pages.

    Args:
        configuration: The regions and phases.
        accesses_per_s: Accesses per second that the machine manages.
        once: Whether the pattern ends after the last phase, as masim does; otherwise it begins anew.
        name: What errors call it.

    Returns:
        The pattern. A cursor with a stride of at most a page is a sweep. One with a longer stride visits a fixed set of
        pages, each of which becomes a range of its own. A region with several lines in one phase is touched at random,
        as often as by all of them.

    Raises:
        UserError: A long stride visits more than 32,768 separate pages, or the speed is not positive.
    """
    if not 0 < accesses_per_s < math.inf:
        raise UserError(f"{name}: speed of {accesses_per_s} accesses a second: a positive number is accepted")
    placed: dict[str, tuple[int, int]] = {}
    size = 0
    for region in configuration.regions:
        placed[region.name] = (size, region.bytes)
        size += -(-region.bytes // PAGE_BYTES) * PAGE_BYTES
    phases = []
    for phase in configuration.phases:
        total = sum(access.probability for access in phase.accesses)
        ranges: list[tuple[int, int, float, float]] = []
        for region_name, (base, length) in placed.items():
            lines = [access for access in phase.accesses if access.region == region_name and access.probability > 0]
            speeds = [accesses_per_s * access.probability / total for access in lines]
            ranges += _region_ranges(base, length, lines, speeds, f"{name}, phase '{phase.name}'")
        phases.append((phase.time_ms * 1000, ranges))
    return build_table(name, phases, size, once=once)


def _region_ranges(
    base: int, length: int, lines: Sequence[MasimAccess], speeds: Sequence[float], where: str
) -> list[tuple[int, int, float, float]]:
    pages = -(-length // PAGE_BYTES)
    end = base + pages * PAGE_BYTES
    if not lines:
        return []
    if len(lines) > 1:
        rate = sum(
            speed / pages * (1.0 if line.random else min(line.stride, PAGE_BYTES) / PAGE_BYTES)
            for line, speed in zip(lines, speeds, strict=True)
        )
        return [(base, end, rate, 0.0)]
    line, speed = lines[0], speeds[0]
    if line.random:
        return [(base, end, speed / pages, 0.0)]
    sweep_us = max(length / line.stride, 1.0) / speed * 1e6
    if line.stride <= PAGE_BYTES:
        return [(base, end, 0.0, sweep_us)]
    offsets = range(0, length, line.stride)
    if len(offsets) > _MOST_SPARSE_PAGES:
        raise UserError(
            f"{where}: stride {line.stride} visits {len(offsets)} separate pages, "
            f"at most {_MOST_SPARSE_PAGES} are accepted"
        )
    starts = sorted({base + offset // PAGE_BYTES * PAGE_BYTES for offset in offsets})
    return [(start, start + PAGE_BYTES, 1e6 / sweep_us, 0.0) for start in starts]


class _Line(NamedTuple):
    path: str
    number: int
    text: str

    def fields(self, least: int, most: int, form: str) -> list[str]:
        found = [field.strip() for field in self.text.split(",")]
        if not least <= len(found) <= most or "" in found:
            _refuse(self, f"'{form}' is expected, found {self.text[:60]!r}")
        return found


def _paragraphs(path: str, text: str) -> Iterator[list[_Line]]:
    lines: list[_Line] = []
    for number, raw in enumerate(text.splitlines(), 1):
        if raw.lstrip().startswith("#"):
            continue
        content = raw.split("#", 1)[0].strip()
        if content:
            lines.append(_Line(path, number, content))
        elif lines:
            yield lines
            lines = []
    if lines:
        yield lines


def _region(line: _Line) -> MasimRegion:
    name, size, *_ = line.fields(2, 3, "name, bytes[, initial content]")
    return MasimRegion(name, _whole(line, size, "a region's size in bytes", 1))


def _phase(lines: list[_Line], regions: Sequence[str]) -> MasimPhase:
    if len(lines) < 3:
        _refuse(lines[-1], "a phase is a name, a length in milliseconds and at least one access, each on a line")
    return MasimPhase(
        name=lines[0].text,
        time_ms=_whole(lines[1], lines[1].text, "a phase's length in milliseconds", 1),
        accesses=_accesses(lines[2:], regions),
    )


def _accesses(lines: Sequence[_Line], regions: Sequence[str]) -> tuple[MasimAccess, ...]:
    accesses = []
    for line in lines:
        region, randomness, stride, probability, *mode = line.fields(
            4, 5, "region, randomness, stride, probability[, ro|wo|rw]"
        )
        if region not in regions:
            _refuse(line, f"no region '{region}': accepted are {', '.join(regions)}")
        if randomness not in ("0", "1"):
            _refuse(line, f"randomness is 1 (random) or 0 (sequential), found {randomness!r}")
        if mode and mode[0] not in _MODES:
            _refuse(line, f"mode is one of {', '.join(_MODES)}, found {mode[0]!r}")
        accesses.append(
            MasimAccess(
                region,
                randomness == "1",
                _whole(line, stride, "a stride in bytes", 1),
                _whole(line, probability, "a relative probability", 0),
                mode[0] if mode else "wo",
            )
        )
    if not any(access.probability for access in accesses):
        _refuse(lines[-1], "at least one access of a phase needs a probability above 0")
    return tuple(accesses)


def _whole(line: _Line, text: str, what: str, least: int) -> int:
    # The length first: Python refuses to convert more than 4,300 digits.
    if not (text.isascii() and text.isdecimal() and len(text) <= 40 and least <= int(text) < 1 << 50):
        _refuse(line, f"{what} is a whole number of at least {least}, without a unit, found {text[:40]!r}")
    return int(text)


def _refuse(line: _Line, reason: str) -> NoReturn:
    raise UserError(f"{line.path}, line {line.number}: {reason}")
