"""A comparison as a picture: write amplification or score by workload, one mark per policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from agents.damon_environments import DAMON_ENVIRONMENTS
from agents.results import Comparison
from kml_envs.errors import UserError
from kml_envs.files import write_atomically

_MARKS = "osv^D<>Ph*X"
_TICKS = (1, 1.1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100)


def write_plot(path: Path, comparison: Comparison) -> None:
    """Draw the comparison; the file name's suffix says in which format."""
    figure = draw(comparison)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=150))


def check_format(path: Path | None) -> None:
    """Find out before the episodes are played whether there is such a format.

    Raises:
        UserError: There is not.
    """
    accepted = sorted(FigureCanvasAgg.get_supported_filetypes())
    if path is not None and path.suffix.removeprefix(".").lower() not in accepted:
        raise UserError(f"{path}: the suffix must name a picture format: {', '.join(accepted)}")


def draw(comparison: Comparison) -> Figure:
    """Draw write amplification (logarithmic) or score, the judged policy in front with the range of its seeds."""
    results = comparison.results
    measure = "score" if "score" in results.metrics else "write_amplification"
    shown_values = results.metrics["score"].mean(axis=2) if measure == "score" else results.write_amplification
    figure = Figure(figsize=(max(7.0, 1.1 * len(results.workloads) + 3.0), 4.8), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(results.workloads))
    for number, (policy, values) in enumerate(zip(results.policies, shown_values, strict=True)):
        style: dict[str, Any] = {"markersize": 5, "alpha": 0.75, "linestyle": "none"}
        if policy == comparison.judged:
            seeds = results.of(policy, measure)
            axes.vlines(places, seeds.min(axis=1), seeds.max(axis=1), colors="black", linewidth=1)
            style |= {"markersize": 9, "alpha": 1.0, "color": "black", "zorder": 3}
        axes.plot(places, values, _MARKS[number % len(_MARKS)], label=policy, **style)
    if measure == "write_amplification":
        axes.set_yscale("log")
        top = 1.05 * max(float(np.nanmax(shown_values)), 1.2)
        axes.set_ylim(1.0, top)
        shown = [tick for tick in _TICKS if tick <= top]
        axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
        axes.set_yticks([], minor=True)
    known = DAMON_ENVIRONMENTS.get(comparison.env_id)
    axes.set_ylabel(measure.replace("_", " ") + (f" ({known.score})" if known is not None else ""))
    axes.set_xticks(places, results.workloads, rotation=30, ha="right")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure
