"""Pictures of a volume: the segment map by valid share and temperature, and the write-amplification curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kml_envs.drawing import BACKGROUND, TEXT_HEIGHT, draw_text, shaded
from kml_envs.lfs.latency import bucket_edges
from kml_envs.lfs.volume import SegmentState

if TYPE_CHECKING:  # which draws itself with this module
    from kml_envs.lfs.subsystem import LfsVolumes

CELL = 14  # pixels of a segment's square, border included
COLUMNS = 32
CURVE_HEIGHT = 90
_HOT = np.array((230, 60, 30), np.float64)
_SHOWN_DECADES = (4.0, 9.0)  # log10 of the latencies shown, in nanoseconds
_SHARE_DECADES = 5
_SYMBOLS = {
    SegmentState.FREE: ".",
    SegmentState.CURRENT: ">",
    SegmentState.FULL: "#",
    SegmentState.PREFREE: ",",
    SegmentState.CLEANING: "*",
}


def draw_segments(subsystem: LfsVolumes, row: int) -> NDArray[np.uint8]:
    """Draw the segments of one instance as squares, and its write amplification over time below.

    A square's colour is its valid share, from violet (nothing valid) over green to yellow (all valid); the red of its
    inner square is its temperature: how recently a block of it was overwritten. Free segments are dark grey, open
    logs have a white frame.

    Args:
        subsystem: `LfsVolumes`.
        row: Instance.

    Returns:
        (height, width, 3) uint8.
    """
    metrics = {name: value[row] for name, value in subsystem.metrics().items()}
    squares = _draw_squares(subsystem, row)
    curve = _draw_curve(subsystem.write_amplification_curve(row), squares.shape[1])
    caption = f"write amplification {metrics['write_amplification']:.2f}, {metrics['free_sections']} free sections"
    return np.concatenate([draw_text(caption, squares.shape[1]), squares, curve])


def describe_segments(subsystem: LfsVolumes, row: int) -> str:
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


def draw_latencies(histogram: NDArray[np.int64], limit_ns: float, width: int) -> NDArray[np.uint8]:
    """Draw how many writes are slower than a latency, both axes logarithmic; a line marks the limit.

    Args:
        histogram: (LATENCY_BUCKETS,) int64, writes by latency.
        limit_ns: The limit, in nanoseconds.
        width: In pixels.

    Returns:
        (height, width, 3) uint8.
    """
    picture = np.full((CURVE_HEIGHT, width, 3), BACKGROUND, np.uint8)
    shown_ns = 10.0 ** np.linspace(*_SHOWN_DECADES, width)
    slower = histogram[::-1].cumsum()[::-1]
    share = slower[np.searchsorted(bucket_edges()[:-1], shown_ns)] / max(int(slower[0]), 1)
    decades = np.log10(np.maximum(share, 10.0**-_SHARE_DECADES)) / _SHARE_DECADES + 1.0
    heights = (decades * (CURVE_HEIGHT - TEXT_HEIGHT - 2)).astype(np.int64)
    rows = np.arange(CURVE_HEIGHT)[:, None]
    picture[rows >= CURVE_HEIGHT - 1 - heights[None, :]] = (60, 160, 120)
    picture[:, np.clip(np.searchsorted(shown_ns, limit_ns), 0, width - 1)] = _HOT
    caption = f"share of writes slower than 10 us to 1 s, down to 1e-{_SHARE_DECADES}; limit {limit_ns / 1e6:.1f} ms"
    picture[:TEXT_HEIGHT] = draw_text(caption, width)
    return picture


def _states(subsystem: LfsVolumes, row: int) -> NDArray[np.int8]:
    per_section = subsystem.warm.config.geometry.segments_per_section
    states: NDArray[np.int8] = subsystem.state.section_states[row].repeat(per_section)
    return states


def _draw_squares(subsystem: LfsVolumes, row: int) -> NDArray[np.uint8]:
    segments = subsystem.state.segments[row]
    geometry = subsystem.warm.config.geometry
    per_section = geometry.segments_per_section
    # Most segments are more than half full: the square spreads them over the scale.
    colours = shaded((segments["valid"] / geometry.blocks_per_segment) ** 2)
    invalidated = subsystem.state.sections["last_invalidation"][row].repeat(per_section)
    quiet = np.maximum(subsystem.state.volumes["user_writes"][row] - invalidated, 0)
    heat = np.clip(1.0 - np.log2(1.0 + quiet / geometry.blocks_per_section) / 8.0, 0.0, 1.0)[:, None]
    inner = colours * (1 - heat) + _HOT * heat
    states = _states(subsystem, row)
    for state, grey in ((SegmentState.FREE, 50), (SegmentState.PREFREE, 100)):
        colours[states == state] = inner[states == state] = grey
    lines = -(-len(colours) // COLUMNS)
    picture = np.full((lines * COLUMNS, CELL, CELL, 3), BACKGROUND, np.uint8)
    drawn = picture[: len(colours)]
    drawn[states == SegmentState.CURRENT] = 255
    drawn[:, 1:-1, 1:-1] = colours[:, None, None]
    drawn[:, 4:-4, 4:-4] = inner[:, None, None]
    return picture.reshape(lines, COLUMNS, CELL, CELL, 3).swapaxes(1, 2).reshape(lines * CELL, COLUMNS * CELL, 3)


def _draw_curve(values: NDArray[np.float64], width: int) -> NDArray[np.uint8]:
    picture = np.full((CURVE_HEIGHT, width, 3), BACKGROUND, np.uint8)
    if values.size == 0:
        return picture
    top = max(2.0, float(values.max()))
    shown = values[np.arange(width) * values.size // width]
    heights = ((shown - 1.0) / (top - 1.0) * (CURVE_HEIGHT - TEXT_HEIGHT - 2)).astype(np.int64)
    rows = np.arange(CURVE_HEIGHT)[:, None]
    picture[rows >= CURVE_HEIGHT - 1 - heights[None, :]] = (90, 130, 220)
    picture[:TEXT_HEIGHT] = draw_text(f"write amplification per quarter volume, 1 to {top:.2f}", width)
    return picture
