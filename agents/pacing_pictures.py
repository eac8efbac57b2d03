"""Pictures of an agent of `kml/LfsPacing-v0`: when it cleans, how much of a section at a time, and which sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agents.baselines import Array, Contender
from agents.lfs_pictures import Sections, draw_victims_of
from agents.statistics import FloatArray
from agents.watching import decisions_of
from kml_envs.lfs.pace import BUILTIN, FEATURE_NAMES, FIRST, QUOTAS

MOST_FREE = 24  # sections above the reserve that are told apart
KINDS = ("built-in", "wait", *(f"clean, quota 1/{quota}" if quota > 1 else "clean, full quota" for quota in QUOTAS))
_COLOURS = ("tab:purple", "0.85", "tab:red", "tab:orange", "tab:green")
_SITUATIONS = ("in the background", "while a write waits")


def draw_pacing(judged: Contender, workloads: Sequence[str], seeds: Sequence[int]) -> Mapping[str, Figure]:
    """Draw what an agent decides by free sections, and the sections that it cleans."""
    figure = Figure(figsize=(3.4 * len(_SITUATIONS) + 2.0, 1.6 * len(workloads) + 0.8), layout="constrained")
    for row, workload in enumerate(workloads):
        decisions, _ = decisions_of(judged, workload, seeds)
        seen = decisions.observations.reshape(-1, len(FEATURE_NAMES))
        shares = shares_by_free_sections(seen, decisions.actions.ravel())
        for column, situation in enumerate(_SITUATIONS):
            axes = figure.add_subplot(len(workloads), len(_SITUATIONS), row * len(_SITUATIONS) + column + 1)
            _draw_shares(axes, shares[column])
            axes.set_title(f"{workload}, {situation}", fontsize=7)
    figure.axes[0].legend(fontsize=6)
    figure.suptitle("share of its decisions by free sections above the reserve", fontsize=9)
    return {"pace": figure, **draw_victims_of(judged, workloads, seeds, chosen_section)}


def shares_by_free_sections(seen: Array, actions: Array) -> FloatArray:
    """(2, MOST_FREE + 1, 5) shares of the kinds of decisions, in the background and while a write waits; NaN: none.

    Args:
        seen: (T, 75) observations.
        actions: (T,) choices.
    """
    sections = np.exp2(6.0 * seen[:, FEATURE_NAMES.index("free_sections")]) - 1.0
    free = np.minimum(np.rint(sections), MOST_FREE).astype(np.int64)
    foreground = seen[:, FEATURE_NAMES.index("foreground")] > 0.5
    kinds = np.where(actions < FIRST, actions, FIRST + (actions - FIRST) % len(QUOTAS))
    counts = np.zeros((len(_SITUATIONS), MOST_FREE + 1, len(KINDS)))
    np.add.at(counts, (foreground.astype(np.int64), free, kinds.astype(np.int64)), 1.0)
    total = counts.sum(axis=2, keepdims=True)
    shares: FloatArray = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    return shares


def chosen_section(subsystem: Any, row: int, action: Array, sections: Sections) -> int:  # noqa: ANN401
    """The section that an action cleans whole or in part; -1: none."""
    if action < FIRST:
        return int(subsystem.state.volumes[row]["suggestion"]) if action == BUILTIN else -1
    section = int(subsystem.candidates[row, (int(action) - FIRST) // len(QUOTAS)])
    # Which one it was to be was decided when its cleaning began.
    return -1 if section == int(subsystem.state.volumes[row]["timeline"]["victim"]) else section


def _draw_shares(axes: Axes, shares: FloatArray) -> None:
    bottom = np.zeros(len(shares))
    for kind, (name, colour) in enumerate(zip(KINDS, _COLOURS, strict=True)):
        height = np.nan_to_num(shares[:, kind])
        axes.bar(np.arange(len(shares)), height, 1.0, bottom=bottom, color=colour, label=name)
        bottom += height
    axes.set_xlim(-0.5, len(shares) - 0.5)
    axes.set_ylim(0.0, 1.0)
