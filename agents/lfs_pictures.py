"""Which sections an agent cleans, beside what greedy and cost-benefit would clean at the same moments.

All three are asked about the same volume, so that the pictures compare choices, not what became of them. For
`kml/LfsTune-v0` they also show the victim score that the agent sets, and the thresholds by which it splits blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agents.baselines import Array, Contender
from agents.statistics import FloatArray
from agents.watching import watch
from kml_envs.lfs import tune
from kml_envs.lfs.config import CleaningPolicy
from kml_envs.lfs.policies import select_victim, victim_cost
from kml_envs.lfs.score import linear_score
from kml_envs.lfs.volume import SegmentState

RULES = {"greedy": CleaningPolicy.GREEDY, "cost-benefit": CleaningPolicy.COST_BENEFIT}
_COLOURS = {"agent": "black", "greedy": "tab:blue", "cost-benefit": "tab:orange"}
_MARKS = {"agent": "o", "greedy": "v", "cost-benefit": "^"}
_COLUMNS = 4
_LOOKS = 40  # moments of a workload that are shown, about
_LEAST_AGE, _GRID = 2.0**-10, 48  # volumes


@dataclass
class Sections:
    """Sections seen on a workload.

    Attributes:
        victims: By rule: (age in volumes, valid share) of what it would clean, one for each moment.
        found: (age in volumes, quiet in sections, coldness) of the sections that could have been cleaned.
        weights: (8,) each: of the agent's victim score, where it sets one.
        thresholds: (5,) each: moment in volumes of user writes, the update interval in volumes from which the agent
            moves a user's block to a colder log, and the three thresholds for moved blocks, in volumes.
    """

    victims: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    found: list[FloatArray] = field(default_factory=list)
    weights: list[FloatArray] = field(default_factory=list)
    thresholds: list[tuple[float, ...]] = field(default_factory=list)


Choose = Callable[[Any, int, Array, Sections], int]
"""The section that the agent cleans: of a subsystem, a row and the row's action; -1: none."""


def draw_victims(judged: Contender, workloads: Sequence[str], seeds: Sequence[int]) -> Mapping[str, Figure]:
    """Draw which candidates an agent of `kml/LfsVictim-v0` cleans."""
    return draw_victims_of(judged, workloads, seeds, _chosen_candidate)


def draw_victims_of(
    judged: Contender, workloads: Sequence[str], seeds: Sequence[int], choose: Choose
) -> Mapping[str, Figure]:
    """Draw which sections an agent cleans, by what its actions choose."""
    return {"victims": _panels(_look_at(judged, workloads, seeds, choose), _draw_victims, "victims", _agreement)}


def draw_tuning(judged: Contender, workloads: Sequence[str], seeds: Sequence[int]) -> Mapping[str, Figure]:
    """Draw victim score, victims and thresholds of an agent of `kml/LfsTune-v0`."""
    seen = _look_at(judged, workloads, seeds, _highest_score)
    score = "colour: the agent's victim score, light is cleaned first; lines: equally good for greedy and cost-benefit"
    return {
        "victims": _panels(seen, _draw_score, score, _agreement),
        "thresholds": _panels(
            seen, _draw_thresholds, "from which age or update interval blocks go to the next colder log"
        ),
    }


class _Looker:
    """Looks at a subsystem about `_LOOKS` times in an episode, each time at the next decision to clean a section."""

    def __init__(self, choose: Choose, sections: Sections, every: int) -> None:
        self._choose, self._sections, self._every = choose, sections, every
        self._moment = self._due = 0

    def __call__(self, subsystem: Any, observations: Array, actions: Array) -> None:  # noqa: ANN401 (any LfsVolumes)
        if self._moment >= self._due:
            rows = range(subsystem.instances)
            if any([_note(subsystem, row, actions[row], self._choose, self._sections) for row in rows]):
                self._due = self._moment + self._every
        self._moment += 1


def _look_at(judged: Contender, workloads: Sequence[str], seeds: Sequence[int], choose: Choose) -> dict[str, Sections]:
    result = {}
    for workload in workloads:
        result[workload] = sections = Sections()
        every = max(1, _moments(judged, workload, seeds) * len(seeds) // _LOOKS)
        watch(judged, workload, seeds, _Looker(choose, sections, every))
    return result


def _moments(judged: Contender, workload: str, seeds: Sequence[int]) -> int:
    """Decisions of an episode, of the slowest row."""
    count = 0

    def look(subsystem: Any, observations: Array, actions: Array) -> None:  # noqa: ANN401
        nonlocal count
        count += 1

    watch(judged, workload, seeds, look)
    return count


def _note(subsystem: Any, row: int, action: Array, choose: Choose, sections: Sections) -> bool:  # noqa: ANN401
    """Note what would be cleaned at this moment; whether anything is."""
    volume = subsystem.state.volumes[row]
    start = int(volume["scan_start"])
    chosen = {"agent": choose(subsystem, row, action, sections)}
    if chosen["agent"] < 0:
        return False
    for name, policy in RULES.items():
        chosen[name] = int(select_victim(volume, policy))
        volume["scan_start"] = start
        costs = [victim_cost(volume, chosen[who], policy, 0) for who in ("agent", name)]
        if costs[0] <= costs[1]:  # of sections that are equally good for a rule, it takes the first in scan order
            chosen[name] = chosen["agent"]
    state, records = subsystem.state, subsystem.state.sections[row]
    share = state.section_valid[row] / float(volume["slots_per_section"])
    mtimes = state.mtimes[row, :: int(volume["segments_per_section"])]
    age = (int(volume["clock"]) - mtimes) / float(volume["block_count"])
    for name, section in chosen.items():
        sections.victims.setdefault(name, []).append((max(float(age[section]), _LEAST_AGE), float(share[section])))
    dirty = state.section_states[row] == SegmentState.DIRTY
    quiet = (int(volume["user_writes"]) - records["last_invalidation"]) / float(volume["slots_per_section"])
    coldness = records["log"] / max(int(volume["settings"]["logs"]) - 1, 1)
    sections.found.append(np.stack([age, quiet, coldness], axis=1)[dirty])
    return True


def _chosen_candidate(subsystem: Any, row: int, action: Array, sections: Sections) -> int:  # noqa: ANN401
    section = int(subsystem.candidates[row, int(action)])
    return section if action > 0 else int(subsystem.state.volumes[row]["suggestion"])


def _highest_score(subsystem: Any, row: int, action: Array, sections: Sections) -> int:  # noqa: ANN401
    # What `execute` is about to do anyway: the decision pending is the one that is looked at.
    volume = subsystem.state.volumes[row]
    tune.apply_parameters(volume, action.astype(np.float64))
    settings, count = volume["settings"], float(volume["block_count"])
    limits = settings["age_threshold"][: int(settings["logs"]) - 1] / count
    sections.weights.append(action[: tune.WEIGHTS].astype(np.float64))
    moment = float(volume["user_writes"]) / count
    sections.thresholds.append((moment, float(limits[0] / settings["user_interval_scale"]), *limits.tolist()))
    start = int(volume["scan_start"])
    section = int(select_victim(volume, CleaningPolicy.SCORE))
    volume["scan_start"] = start
    return section


def _panels(
    seen: Mapping[str, Sections],
    draw: Callable[[Axes, Sections], None],
    title: str,
    caption: Callable[[Sections], str] = lambda sections: "",
) -> Figure:
    """One panel for each workload."""
    columns = min(_COLUMNS, len(seen))
    rows = -(-len(seen) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.1 * rows + 0.8), layout="constrained")
    for place, (workload, sections) in enumerate(seen.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        draw(axes, sections)
        axes.set_title(workload + caption(sections), fontsize=8)
    figure.axes[0].legend(fontsize=7)
    figure.suptitle(title, fontsize=9)
    return figure


def _draw_victims(axes: Axes, sections: Sections) -> None:
    for name, points in sections.victims.items():
        ages, shares = np.array(points).T
        style: dict[str, Any] = {"edgecolors": _COLOURS[name], "marker": _MARKS[name], "label": name, "alpha": 0.6}
        axes.scatter(
            ages, shares, s=14, linewidths=0.5, facecolors="none" if name == "agent" else _COLOURS[name], **style
        )
    axes.set_xscale("log", base=2)
    axes.set_ylim(0.0, 1.0)
    axes.set_xlabel("age of the section, volumes of user writes", fontsize=7)
    axes.set_ylabel("valid share", fontsize=7)


def _draw_score(axes: Axes, sections: Sections) -> None:
    """The score over age and valid share, at the quiet time and coldness that sections of that age have."""
    ages = np.geomspace(2.0**-6, 2.0**4, _GRID)
    shares = np.linspace(0.0, 1.0, _GRID)
    quiet, coldness = _typical(np.concatenate(sections.found), ages)
    weights = np.mean(sections.weights, axis=0)
    score = np.array(
        [
            [
                linear_score(weights, share, age, silent, cold)
                for age, silent, cold in zip(ages, quiet, coldness, strict=True)
            ]
            for share in shares
        ]
    )
    axes.contourf(ages, shares, score, levels=14, cmap="viridis", alpha=0.8)
    _draw_victims(axes, sections)
    age, share = np.median(np.array(sections.victims["agent"]), axis=0)
    axes.axhline(share, color=_COLOURS["greedy"], linewidth=1)
    benefit = age * (1 - share) / (1 + share) / ages
    axes.plot(ages, np.clip((1 - benefit) / (1 + benefit), 0.0, 1.0), color=_COLOURS["cost-benefit"], linewidth=1)
    axes.set_xlim(ages[0], ages[-1])


def _draw_thresholds(axes: Axes, sections: Sections) -> None:
    moments, *limits = np.array(sorted(sections.thresholds)).T
    since = moments - moments.min()
    axes.plot(since, limits[0], ".", markersize=4, color="tab:red", label="user's blocks, first")
    for number, values in enumerate(limits[1:]):
        label = "moved blocks" if number == 0 else None
        axes.plot(since, values, ".", markersize=3, color="0.3", alpha=0.4 + 0.2 * number, label=label)
    axes.axhline(1.0, color="black", linewidth=0.5)
    axes.set_yscale("log", base=2)
    axes.set_xlabel("volumes of user writes", fontsize=7)
    axes.set_ylabel("volumes of user writes", fontsize=7)


def _agreement(sections: Sections) -> str:
    """How often the agent's victim is that of a rule."""
    own = sections.victims["agent"]
    others = {name: points for name, points in sections.victims.items() if name != "agent"}
    shares = {
        name: np.mean([one == other for one, other in zip(own, points, strict=True)]) for name, points in others.items()
    }
    return "\nsame victim: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())


def _typical(found: FloatArray, ages: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean quiet time and coldness of sections by age, (n,) each, at ages (n,)."""
    logarithm = np.log2(np.maximum(found[:, 0], _LEAST_AGE))
    edges = np.arange(np.floor(logarithm.min()), np.ceil(logarithm.max()) + 1.0)
    bins = np.digitize(logarithm, edges)
    taken = np.unique(bins)
    middles = np.array([logarithm[bins == each].mean() for each in taken])
    columns = [np.array([found[bins == each, column].mean() for each in taken]) for column in (1, 2)]
    quiet, coldness = (np.interp(np.log2(ages), middles, column) for column in columns)
    return quiet, coldness
