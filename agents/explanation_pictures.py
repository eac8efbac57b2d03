"""Pictures of an agent's choices: an environment's own, or a map of its actions by workload.

An environment contributes its picture by one function in `PICTURES`; it plays what it wants to see (`watch`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from agents.baselines import PACING, TUNE, VICTIM, Contender
from agents.damon_environments import DAMON_ENVIRONMENTS
from agents.damon_pictures import draw_settings
from agents.lfs_pictures import draw_tuning, draw_victims
from agents.pacing_pictures import draw_pacing
from agents.statistics import FloatArray
from agents.watching import Decisions
from kml_envs.files import write_atomically
from kml_envs.lfs.pace import CHOICE_NAMES

Draw = Callable[[Contender, Sequence[str], Sequence[int]], Mapping[str, Figure]]
"""Draws an agent's choices on workloads, in episodes of these seeds: figures by what they show."""

CHOICES: dict[str, tuple[str, ...]] = {PACING: CHOICE_NAMES}
"""Names of the choices of an environment."""

PICTURES: dict[str, Draw] = {
    TUNE: draw_tuning,
    VICTIM: draw_victims,
    PACING: draw_pacing,
    **dict.fromkeys(DAMON_ENVIRONMENTS, draw_settings),
}


def draw_choices(
    folder: Path,
    name: str,
    judged: Contender,
    decisions: Mapping[str, Decisions],
    seeds: Sequence[int],
    numbers: tuple[str, ...],
) -> tuple[Path, ...]:
    """Draw the picture of actions by workload, and those that the environment contributes.

    Args:
        folder: Where they go.
        name: What they are called after.
        judged: The agent and its environment.
        decisions: What it saw and did, by workload.
        seeds: Of the episodes.
        numbers: Names of the numbers of its action; none where it chooses.

    Returns:
        Their paths.
    """
    figures = {"actions": draw_actions(decisions, numbers, CHOICES.get(judged.env_id, ()))}
    if judged.env_id in PICTURES:
        figures.update(PICTURES[judged.env_id](judged, tuple(decisions), seeds))
    paths = []
    for kind, figure in figures.items():
        paths.append(folder / f"{name}-{kind}.png")
        write_atomically(paths[-1], lambda temporary, figure=figure: figure.savefig(temporary, dpi=120))  # type: ignore[misc]
    return tuple(paths)


def draw_actions(decisions: Mapping[str, Decisions], numbers: tuple[str, ...], choices: tuple[str, ...] = ()) -> Figure:
    """Mean of each number of the action by workload, or how often each choice is taken, by its name if it has one."""
    workloads = tuple(decisions)
    if numbers:
        flat = [each.actions.reshape(-1, len(numbers)) for each in decisions.values()]
        shown = np.stack([actions.mean(axis=0) for actions in flat], axis=1)
        spread = np.stack([actions.std(axis=0) for actions in flat], axis=1)
        labels, limits, colours = numbers, (-1.0, 1.0), "RdBu_r"
    else:
        shown, labels = _shares(decisions, choices)
        spread, limits, colours = np.full(shown.shape, np.nan), (0.0, 1.0), "Greys"
    figure = Figure(figsize=(1.1 * len(workloads) + 4.0, 0.32 * len(labels) + 2.2), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shown, aspect="auto", cmap=colours, vmin=limits[0], vmax=limits[1])
    for row, column in np.ndindex(*shown.shape):
        text = f"{shown[row, column]:.2f}" + ("" if np.isnan(spread[row, column]) else f" ±{spread[row, column]:.2f}")
        dark = abs(shown[row, column] - limits[0] * (limits[0] > 0)) > 0.6
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axes.set_xticks(np.arange(len(workloads)), workloads, rotation=30, ha="right")
    axes.set_yticks(np.arange(len(labels)), labels)
    axes.set_title("mean ± deviation of each number of the action" if numbers else "share of the decisions")
    figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def _shares(decisions: Mapping[str, Decisions], choices: tuple[str, ...]) -> tuple[FloatArray, tuple[str, ...]]:
    """(K, W) how often each choice was taken, and its label; choices never taken are left out."""
    count = 1 + max(int(each.actions.max()) for each in decisions.values())
    shares = np.stack(
        [
            np.bincount(each.actions.ravel().astype(np.int64), minlength=count) / each.actions.size
            for each in decisions.values()
        ],
        axis=1,
    )
    taken = np.flatnonzero(shares.any(axis=1))
    return shares[taken], tuple(choices[choice] if choices else f"choice {choice}" for choice in taken)
