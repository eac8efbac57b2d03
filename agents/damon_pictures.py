"""The settings that an agent of DAMON's environments puts in force, beside those of the built-in algorithms.

All play the same programs. What is drawn is what the simulated kernel had in force in each control interval, in its own
units, whether a recommendation, a shipped setting or the kernel's own tuning has put it there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agents.baselines import Array, BuiltinPolicy, Contender
from agents.damon_environments import DAMON_ENVIRONMENTS, MONITOR, RECLAIM, TIER
from agents.statistics import FloatArray
from agents.watching import watch
from kml_envs.damon.config import ACTIONS, Action, WatermarkMetric
from kml_envs.damon.state import GOALS, DamonState
from kml_envs.damon.tier_settings import COLD, HOT

AGENT = "agent"
_COLUMNS = 2
_RANGE = (0.1, 0.5, 0.9)  # quantiles over control intervals: the ends of the line, and the mark
_MARKS = ("o", "v", "^", "s", "D", "P", "X")
_MIB, _SECOND_US = float(1 << 20), 1e6
_NO_LIMIT = 2.0**50  # bytes: more stands for none
_NO_METRIC = tuple(WatermarkMetric).index(WatermarkMetric.NONE)


@dataclass(frozen=True)
class Setting:
    """A number that is in force.

    Attributes:
        label: What it is, with its unit.
        read: (N,) float64 from the monitors; NaN where a policy has no such setting.
    """

    label: str
    read: Callable[[DamonState], FloatArray]


def draw_settings(judged: Contender, workloads: Sequence[str], seeds: Sequence[int]) -> Mapping[str, Figure]:
    """Draw the settings that an agent and the built-in algorithms have in force on each workload."""
    settings = SETTINGS[judged.env_id]
    seen = {
        contender.name: [settings_in_force(contender, workload, seeds) for workload in workloads]
        for contender in _contenders(judged)
    }
    rows = -(-len(settings) // _COLUMNS)
    figure = Figure(figsize=(_COLUMNS * (0.75 * len(workloads) + 2.0), 2.6 * rows + 0.8), layout="constrained")
    for number, setting in enumerate(settings):
        axes = figure.add_subplot(rows, _COLUMNS, number + 1)
        _draw_setting(axes, {name: [each[:, number] for each in found] for name, found in seen.items()})
        axes.set_title(setting.label, fontsize=8)
        axes.set_xticks(np.arange(len(workloads)), workloads, rotation=30, ha="right", fontsize=6)
        axes.set_xlim(-0.5, len(workloads) - 0.5)
        axes.tick_params(axis="y", which="both", labelsize=7)
    figure.axes[0].legend(fontsize=6)
    figure.suptitle(
        "in force: median and 10 to 90 % of the control intervals; no mark: has no such setting", fontsize=8
    )
    return {"settings": figure}


def settings_in_force(contender: Contender, workload: str, seeds: Sequence[int]) -> FloatArray:
    """(T, K) the settings of an environment that a policy has in force in the control intervals of some episodes.

    Args:
        contender: The policy; it must be asked at every interval, built-in algorithms by `BuiltinPolicy`.
        workload: Name.
        seeds: One episode each.
    """
    settings = SETTINGS[contender.env_id]
    found: list[FloatArray] = []

    def look(subsystem: Any, observations: Array, actions: Array) -> None:  # noqa: ANN401 (any MonitoredPrograms)
        found.append(np.stack([setting.read(subsystem.state) for setting in settings], axis=1))

    watch(contender, workload, seeds, look)
    return np.concatenate(found[1:])  # the first look is at what was there before the episode


def _contenders(judged: Contender) -> tuple[Contender, ...]:
    """The agent, and all built-in algorithms, each asked at every control interval."""
    names = DAMON_ENVIRONMENTS[judged.env_id].builtins
    builtins = (Contender(name, judged.env_id, {**judged.env_kwargs, "builtin": name}, BuiltinPolicy) for name in names)
    return (Contender(AGENT, judged.env_id, judged.env_kwargs, judged.make_policy), *builtins)


def _draw_setting(axes: Axes, found: Mapping[str, Sequence[FloatArray]]) -> None:
    """Draw (T,) values by policy and workload."""
    everything = np.concatenate([values for workloads in found.values() for values in workloads])
    known = everything[~np.isnan(everything)]
    if known.size and known.min() > 0.0 and known.max() > 10.0 * known.min():
        axes.set_yscale("log")
    for place, (name, workloads) in enumerate(found.items()):
        shift = 0.6 * (place / max(len(found) - 1, 1) - 0.5)
        quantiles = np.array(
            [np.quantile(values, _RANGE) if (values == values).all() else (np.nan,) * 3 for values in workloads]
        )
        places = np.arange(len(workloads)) + shift
        colour = "black" if name == AGENT else f"C{place - 1}"
        axes.vlines(places, quantiles[:, 0], quantiles[:, 2], linewidth=1, color=colour)
        axes.plot(places, quantiles[:, 1], _MARKS[place % len(_MARKS)], markersize=4, label=name, color=colour)
    axes.grid(alpha=0.3)


def _attribute(name: str, scale: float = 1.0) -> Callable[[DamonState], FloatArray]:
    return lambda state: np.asarray(state.monitors["attributes"][name] / scale, np.float64)


def _of_scheme(
    number: int, action: Action, read: Callable[[DamonState, Array], Array]
) -> Callable[[DamonState], FloatArray]:
    """What `read` says of monitors and their scheme of this number, where that carries the action out."""

    def found(state: DamonState) -> FloatArray:
        schemes = state.schemes[:, number]
        values = np.asarray(read(state, schemes), np.float64)
        return np.where(schemes["action"] == ACTIONS.index(action), values, np.nan)

    return found


def _min_age_s(state: DamonState, schemes: Array) -> Array:
    return np.asarray(schemes["min_age"] * state.monitors["attributes"]["aggr_us"] / _SECOND_US)


def _quota_mib(state: DamonState, schemes: Array) -> Array:
    """MiB per second that the quota leaves now: the given one, or what time and goals have made of it; NaN: none."""
    tuned = (schemes["goal_count"] > 0) | (schemes["quota_ms"] > 0)
    limit = np.where(tuned, schemes["effective_bytes"], schemes["quota_bytes"]).astype(np.float64)
    seconds = np.maximum(schemes["reset_interval_us"], 1) / _SECOND_US
    limited = (tuned | (schemes["quota_bytes"] > 0)) & (limit < _NO_LIMIT)
    return np.where(limited, limit / _MIB / seconds, np.nan)


def _share_of_samples(name: str) -> Callable[[DamonState, Array], Array]:
    """A threshold on accesses, in per cent of the samples of an aggregation."""

    def found(state: DamonState, schemes: Array) -> Array:
        attributes = state.monitors["attributes"]
        most = np.maximum(attributes["aggr_us"] // np.maximum(attributes["sample_us"], 1), 1)
        return np.asarray(100.0 * np.minimum(schemes[name] / most, 1.0))

    return found


def _field(name: str) -> Callable[[DamonState, Array], Array]:
    return lambda state, schemes: np.asarray(schemes[name])


def _watermark(name: str) -> Callable[[DamonState, Array], Array]:
    return lambda state, schemes: np.where(schemes["watermark_metric"] == _NO_METRIC, np.nan, schemes[name])


def _free_goal(state: DamonState, schemes: Array) -> Array:
    goal = state.goals[:, COLD * GOALS]["target_value"] / 100.0
    return np.where(schemes["goal_count"] > 0, goal, np.nan)


SETTINGS: dict[str, tuple[Setting, ...]] = {
    MONITOR: (
        Setting("sampling interval, ms", _attribute("sample_us", 1e3)),
        Setting("aggregation interval, s", _attribute("aggr_us", _SECOND_US)),
        Setting("least number of regions", _attribute("min_nr_regions")),
        Setting("largest number of regions", _attribute("max_nr_regions")),
    ),
    RECLAIM: (
        Setting("page out: idle for at least, s", _of_scheme(0, Action.PAGEOUT, _min_age_s)),
        Setting("page out: quota, MiB/s", _of_scheme(0, Action.PAGEOUT, _quota_mib)),
        Setting("page out: weight of accesses, per mille", _of_scheme(0, Action.PAGEOUT, _field("nr_accesses_permil"))),
        Setting("page out: weight of age, per mille", _of_scheme(0, Action.PAGEOUT, _field("age_permil"))),
        Setting(
            "becomes active below so much free memory, per mille", _of_scheme(0, Action.PAGEOUT, _watermark("mid"))
        ),
        Setting("stops below so much free memory, per mille", _of_scheme(0, Action.PAGEOUT, _watermark("low"))),
    ),
    TIER: (
        Setting(
            "promote: accessed in at least, % of the samples",
            _of_scheme(HOT, Action.MIGRATE_HOT, _share_of_samples("min_nr_accesses")),
        ),
        Setting(
            "demote: accessed in at most, % of the samples",
            _of_scheme(COLD, Action.MIGRATE_COLD, _share_of_samples("max_nr_accesses")),
        ),
        Setting("promote: for at least, s", _of_scheme(HOT, Action.MIGRATE_HOT, _min_age_s)),
        Setting("demote: for at least, s", _of_scheme(COLD, Action.MIGRATE_COLD, _min_age_s)),
        Setting("promote: quota, MiB/s", _of_scheme(HOT, Action.MIGRATE_HOT, _quota_mib)),
        Setting("demote: quota, MiB/s", _of_scheme(COLD, Action.MIGRATE_COLD, _quota_mib)),
        Setting("demote: while less is free of node 0 than, %", _of_scheme(COLD, Action.MIGRATE_COLD, _free_goal)),
    ),
}
"""What is drawn of each environment."""
