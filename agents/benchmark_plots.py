"""Results of a benchmark suite as pictures: savings, learning curves, performance profiles, improvement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agents.benchmark_results import SuiteResult, over_runs, performance_profile
from agents.statistics import FloatArray
from kml_envs.files import write_atomically

_LEVELS = 201
_WIDEST = 0.5  # of gains as ratios
_DRAWS = 500


def plot_suite(folder: Path, result: SuiteResult) -> tuple[Path, ...]:
    """Draw all pictures of a suite into a folder; returns their paths."""
    made = []
    for kind, draw in (
        ("gains", plot_gains),
        ("learning-curves", plot_learning_curves),
        ("performance-profiles", plot_performance_profiles),
        ("probability-of-improvement", plot_improvement),
    ):
        if kind == "learning-curves" and not result.curves:
            continue
        made.append(folder / f"{result.suite.name}-{kind}.png")
        draw(made[-1], result)
    return tuple(made)


def plot_gains(path: Path, result: SuiteResult) -> None:
    """What the agent gains on each workload over its best built-in algorithm, one dot for each training seed."""
    figure, axes = _figure(1.0 * len(result.references.workloads) + 3.0)
    gains = _scale(result) * result.gains()
    places = np.arange(gains.shape[1])
    axes.bar(places, [over_runs(column).estimate for column in gains.T], color="0.8", label="interquartile mean")
    for row in gains:
        axes.plot(places, row, "k.", markersize=5)
    axes.axhline(0.0, color="black", linewidth=1)
    axes.set_xticks(places, result.references.workloads, rotation=30, ha="right")
    axes.set_ylabel(_gain_label(result))
    _save(path, figure, axes)


def plot_learning_curves(path: Path, result: SuiteResult) -> None:
    """Score on the validation workloads against steps: interquartile mean and range of the training seeds."""
    figure, axes = _figure(7.0)
    end = min(float(curve.steps[-1]) for curve in result.curves.values())
    steps = np.linspace(0.0, end, 100)
    values = np.stack([np.interp(steps, curve.steps, curve.scores) for curve in result.curves.values()])
    axes.fill_between(steps, values.min(axis=0), values.max(axis=0), alpha=0.25, label="range of the training seeds")
    axes.plot(steps, [over_runs(column).estimate for column in values.T], label="interquartile mean")
    axes.axhline(0.0, color="black", linewidth=1)
    axes.set_xlabel("steps")
    axes.set_ylabel("score on the validation workloads")
    _save(path, figure, axes)


def plot_performance_profiles(path: Path, result: SuiteResult) -> None:
    """Share of runs and workloads that gain at least as much, of the agent and notable built-in algorithms."""
    figure, axes = _figure(7.0)
    gains, best = result.gains(), result.best_builtin()[1]
    others = {name: result.suite.measure.gain(result.reference(name), best)[None] for name in result.notable}
    levels = _levels(result, np.concatenate([gains, *others.values()]))
    shown, generator = _scale(result) * levels, np.random.default_rng(0)
    drawn = generator.integers(len(gains), size=(_DRAWS, len(gains)))
    profiles = np.stack([performance_profile(gains[rows], levels) for rows in drawn])
    low, high = np.quantile(profiles, [0.025, 0.975], axis=0)
    axes.fill_between(shown, low, high, color="0.5", alpha=0.3)
    axes.plot(shown, performance_profile(gains, levels), color="black", linewidth=2, label="agent")
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    for number, (name, other) in enumerate(others.items()):
        style = {"color": colours[number % len(colours)], "label": name}
        axes.plot(shown, performance_profile(other, levels), linewidth=1, alpha=0.8, **style)
    axes.set_xlabel(f"at least: {_gain_label(result)}")
    axes.set_ylabel("share of runs and workloads")
    _save(path, figure, axes)


def plot_improvement(path: Path, result: SuiteResult) -> None:
    """Probability that the agent is better than each notable built-in algorithm on the same episode."""
    figure, axes = _figure(7.0)
    intervals = [result.probability_of_improvement(name) for name in result.notable]
    places = np.arange(len(intervals))
    estimates = np.array([interval.estimate for interval in intervals])
    low, high = ([getattr(interval, end) for interval in intervals] for end in ("low", "high"))
    axes.barh(places, estimates, color="0.8")
    axes.hlines(places, low, high, color="black")
    axes.axvline(0.5, color="black", linewidth=1)
    axes.set_yticks(places, result.notable)
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel("P(agent is better)")
    _save(path, figure, axes)


def _scale(result: SuiteResult) -> float:
    return 100.0 if result.suite.measure.ratio else 1.0


def _gain_label(result: SuiteResult) -> str:
    measure = result.suite.measure
    unit = ", %" if measure.ratio else f", {measure.metric.replace('_', ' ')}"
    return "gain over the best built-in of the workload" + unit


def _levels(result: SuiteResult, gains: FloatArray) -> FloatArray:
    """Gains at which a profile is drawn, as far as some policy gains or loses."""
    widest = 1.05 * max(float(np.abs(gains).max()), 1e-6)
    if result.suite.measure.ratio:
        widest = min(widest, _WIDEST)
    return np.linspace(-widest, widest, _LEVELS)


def _figure(width: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(max(7.0, width), 4.8), layout="constrained")
    return figure, figure.add_subplot()


def _save(path: Path, figure: Figure, axes: Axes) -> None:
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small")
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=150))
