"""Pictures of a volume: the segment map by valid share and temperature, and the write-amplification curve."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.lfs.state import SegmentState

CELL = 10  # pixels of a segment's square, border included
CURVE_HEIGHT = 80
_SYMBOLS = {
    SegmentState.FREE: ".",
    SegmentState.CURRENT: ">",
    SegmentState.FULL: "#",
    SegmentState.PREFREE: ",",
    SegmentState.CLEANING: "*",
}


def draw_segments(subsystem: Any, row: int) -> NDArray[np.uint8]:
    """Draw the segments of one instance as squares, and its write amplification over time below.

    Free segments are dark, open logs green; others go from blue (nothing valid) over violet to red (all valid) and
    are brighter the more recently one of their blocks was invalidated.

    Args:
        subsystem: `LfsVolumes`.
        row: Instance.

    Returns:
        (height, width, 3) uint8.
    """
    colours = _segment_colours(subsystem, row)
    columns = int(np.ceil(np.sqrt(len(colours) * 2)))
    lines = -(-len(colours) // columns)
    grid = np.full((lines * columns, 3), 255, np.uint8)
    grid[: len(colours)] = colours
    picture = grid.reshape(lines, columns, 3).repeat(CELL, axis=0).repeat(CELL, axis=1)
    picture[CELL - 1 :: CELL] = 255
    picture[:, CELL - 1 :: CELL] = 255
    return np.concatenate([picture, _draw_curve(subsystem.write_amplification_curve(row), picture.shape[1])])


def describe_segments(subsystem: Any, row: int) -> str:
    """Write the segments of one instance as text: a digit is the valid share in tenths.

    Args:
        subsystem: `LfsVolumes`.
        row: Instance.

    Returns:
        Lines of 64 segments, and a line of counters.
    """
    segments = subsystem.state.segments[row]
    per_segment = subsystem.warm.config.geometry.blocks_per_segment
    states = _states(subsystem, row)
    tenths = np.minimum(segments["valid"] * 10 // per_segment, 9)
    symbols = "".join(
        _SYMBOLS.get(SegmentState(state), str(tenth)) for state, tenth in zip(states.tolist(), tenths, strict=True)
    )
    lines = [symbols[start : start + 64] for start in range(0, len(symbols), 64)]
    metrics = {name: value[row] for name, value in subsystem.metrics().items()}
    lines.append(
        f"write amplification {metrics['write_amplification']:.2f}  cleanings {metrics['operations']}  "
        f"free sections {metrics['free_sections']}  user blocks {metrics['user_blocks']}"
    )
    return "\n".join(lines)


def _states(subsystem: Any, row: int) -> NDArray[np.int8]:
    per_section = subsystem.warm.config.geometry.segments_per_section
    states: NDArray[np.int8] = subsystem.state.segments["state"][row][::per_section].repeat(per_section)
    return states


def _segment_colours(subsystem: Any, row: int) -> NDArray[np.uint8]:
    segments = subsystem.state.segments[row]
    geometry = subsystem.warm.config.geometry
    share = segments["valid"] / geometry.blocks_per_segment
    per_section = geometry.segments_per_section
    quiet = subsystem.state.volumes["user_writes"][row] - segments["last_invalidation"][::per_section].repeat(
        per_section
    )
    heat = np.clip(1.0 - np.log2(1.0 + quiet / geometry.blocks_per_section) / 10.0, 0.25, 1.0)
    colours = np.stack([share, 0.15 + 0.0 * share, 1.0 - share], axis=1) * heat[:, None] * 255
    states = _states(subsystem, row)
    colours[states == SegmentState.FREE] = (40, 40, 40)
    colours[states == SegmentState.PREFREE] = (90, 90, 90)
    colours[states == SegmentState.CURRENT] = (60, 180, 75)
    return colours.astype(np.uint8)


def _draw_curve(values: NDArray[np.float64], width: int) -> NDArray[np.uint8]:
    picture = np.full((CURVE_HEIGHT, width, 3), 255, np.uint8)
    if values.size == 0:
        return picture
    top = max(2.0, float(values.max()))
    shown = values[-width:]
    columns = np.arange(shown.size) * (width - 1) // max(shown.size - 1, 1)
    heights = ((shown - 1.0) / (top - 1.0) * (CURVE_HEIGHT - 4)).astype(np.int64)
    for column, height in zip(columns, heights, strict=True):
        picture[CURVE_HEIGHT - 2 - height : CURVE_HEIGHT - 1, column] = (70, 70, 160)
    return picture
