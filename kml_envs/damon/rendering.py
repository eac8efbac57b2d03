"""Pictures of a program under DAMON: true and monitored accesses, what is in memory, curves of memory and stalls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kml_envs.drawing import BACKGROUND, draw_text, shaded

if TYPE_CHECKING:  # which draws itself with this module
    from kml_envs.damon.programs import MonitoredPrograms

CELL_WIDTH, CELL_HEIGHT = 4, 3  # pixels of a part of the address space in an interval
CURVE_HEIGHT = 60
_CONTRAST = 0.3  # exponent: a page in a thousand that is touched in a sample shall be seen
_TITLES = ("true accesses (address upwards, time to the right)", "accesses that the monitor found")
_COLOURS = ((90, 130, 220), (230, 60, 30))
_SYMBOLS = " .:-=+*#%@"


def draw_program(subsystem: MonitoredPrograms, row: int) -> NDArray[np.uint8]:
    """Draw what one program did in the last control intervals, the newest at the right.

    Args:
        subsystem: The programs.
        row: Instance.

    Returns:
        (height, width, 3) uint8: three maps of the address space over time from dark (nothing) to yellow (all), and
        curves of the subsystem's `used_title` and `slowdown_title`.
    """
    maps, curves = _in_order(subsystem, row)
    width = maps.shape[1] * CELL_WIDTH
    parts = [draw_text(_headline(subsystem, row, ", "), width)]
    for title, shares in zip((*_TITLES, subsystem.resident_title), maps, strict=True):
        cells = shaded(shares.T[::-1] ** _CONTRAST).astype(np.uint8)
        parts += [draw_text(title, width), cells.repeat(CELL_HEIGHT, axis=0).repeat(CELL_WIDTH, axis=1)]
    titles = (subsystem.used_title, subsystem.slowdown_title)
    for title, values, colour in zip(titles, curves, _COLOURS, strict=True):
        parts.append(_draw_curve(f"{title}, up to", values, colour, width))
    return np.concatenate(parts)


def describe_program(subsystem: MonitoredPrograms, row: int) -> str:
    """Write the last control interval of one program as text, from the lowest address to the highest.

    Args:
        subsystem: The programs.
        row: Instance.

    Returns:
        Three lines, from ' ' (nothing) to '@' (all), and a line of counters.
    """
    maps, curves = _in_order(subsystem, row)
    lines = []
    for title, shares in zip(("touched", "found", subsystem.resident_title), maps, strict=True):
        places = np.minimum((shares[-1] ** _CONTRAST * len(_SYMBOLS)).astype(np.int64), len(_SYMBOLS) - 1)
        lines.append(f"{title:>9} |{''.join(_SYMBOLS[place] for place in places)}|")
    lines.append(
        f"{subsystem.used_title} {curves[0, -1]:.3f}  {subsystem.slowdown_title} {curves[1, -1]:.4f}  "
        f"regions {subsystem.metrics()['regions'][row]}  {_headline(subsystem, row, '  ')}"
    )
    return "\n".join(lines)


def _headline(subsystem: MonitoredPrograms, row: int, separator: str) -> str:
    """The metrics of the running episode that the subsystem puts first."""
    metrics = subsystem.metrics()
    return separator.join(f"{name.replace('_', ' ')} {metrics[name][row]:.3f}" for name in subsystem.headline)


def _in_order(subsystem: MonitoredPrograms, row: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The rings of one program, the oldest interval first; what has not been drawn yet is 0."""
    drawn = int(subsystem.pictures.columns[row])
    maps, curves = subsystem.pictures.maps[row], subsystem.pictures.curves[row]
    places = np.arange(drawn - maps.shape[1], drawn)
    known = (places >= 0).astype(np.float32)
    ring = places % maps.shape[1]
    return np.clip(maps[:, ring] * known[None, :, None], 0.0, 1.0), curves[:, ring] * known


def _draw_curve(title: str, values: NDArray[np.float32], colour: tuple[int, int, int], width: int) -> NDArray[np.uint8]:
    picture = np.full((CURVE_HEIGHT, width, 3), BACKGROUND, np.uint8)
    text = draw_text(f"{title} {values.max():.3f}", width)
    top = max(float(values.max()), 1e-9)
    heights = (values / top * (CURVE_HEIGHT - len(text) - 2)).astype(np.int64).repeat(CELL_WIDTH)
    picture[np.arange(CURVE_HEIGHT)[:, None] >= CURVE_HEIGHT - 1 - heights[None, :]] = colour
    picture[: len(text)] = text
    return picture
