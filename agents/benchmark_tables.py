"""Results of a benchmark suite as text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from agents.baselines import LISTED_BUILTINS
from agents.benchmark_goals import goal_rows
from agents.benchmark_latencies import latency_table, stall_table
from agents.benchmark_results import SuiteResult, over_runs
from agents.benchmark_suites import RIVAL, START, start_text
from agents.measures import TAIL_LATENCY, percent_text
from agents.run_folder import provenance
from agents.statistics import FloatArray, Interval, geometric_mean
from agents.tables import format_table
from kml_envs.files import write_text
from kml_envs.suites import SUITE_VERSION

Rows = list[list[str]]


def describe_suite(result: SuiteResult) -> str:
    """The table and what it says, for a terminal."""
    tables = [line for header, rows in suite_tables(result) for line in (format_table(header, rows), "")]
    return "\n".join([heading(result), "", *tables, *sentences(result)])


def markdown_suite(result: SuiteResult) -> str:
    """The same as Markdown."""
    lines = []
    for header, rows in suite_tables(result):
        lines += ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)] + [""]
    return "\n".join([heading(result), "", *lines, *(f"- {sentence}" for sentence in sentences(result)), ""])


def heading(result: SuiteResult) -> str:
    """What the table shows."""
    suite, count, episodes = result.suite, len(result.runs), len(result.suite.episode_seeds)
    return (
        f"{suite.name}: {suite.measure.title} on {suite.env_id}, suite version {SUITE_VERSION}, "
        f"{episodes} episode{'s' * (episodes != 1)} a workload; agent: interquartile mean over {count} "
        f"training seed{'s' * (count != 1)} [95 % bootstrap interval]"
    )


def suite_tables(result: SuiteResult) -> list[tuple[list[str], Rows]]:
    """The suite's table, and of latencies one with all measures and one of the stalls."""
    if result.suite.measure is TAIL_LATENCY:
        return [suite_table(result), latency_table(result), stall_table(result)]
    return [suite_table(result)]


def suite_table(result: SuiteResult) -> tuple[list[str], Rows]:
    """Header and rows: one for each workload, and their average."""
    measure, single = result.suite.measure, result.best_single()
    names, best = result.best_builtin()
    deployed = result.deployed_gain()
    others, oracles = result.others, result.oracles
    header = ["workload", "best built-in", "its value", single, *others, "agent", "against the best", *oracles]
    columns = [best, *(result.reference(name) for name in (single, *others, *oracles))]
    body: Rows = []
    for row, workload in enumerate(result.references.workloads):
        body.append([workload, names[row], *_cells(result, result.agent[:, row], [column[row] for column in columns])])
    means = [measure.mean(column) for column in columns]
    body.append([measure.average, "of each workload", *_cells(result, measure.mean(result.agent), means)])
    if deployed is not None:
        header.append("auto against the built-in")
        changes = deployed if measure.more_is_better else -deployed
        for row in range(len(body) - 1):
            body[row].append(measure.change_text(over_runs(changes[:, row]).estimate))
        overall = geometric_mean(1.0 + changes) - 1.0 if measure.ratio else changes.mean(axis=1)
        body[-1].append(measure.change_text(over_runs(overall).estimate))
    if (extra := result.extra_cost()) is not None:
        header.append("largest extra cost under auto")
        for cells, largest in zip(body, [*extra.max(axis=0), extra.max()], strict=True):
            cells.append(percent_text(largest))
    return header, body


def sentences(result: SuiteResult) -> list[str]:
    """What the table says, in plain words."""
    measure, single = result.suite.measure, result.best_single()
    said = []
    count = len(result.builtins)
    best = f"the best of all {count} built-in algorithms on each workload, chosen with hindsight"
    marks = [
        (f"the best single built-in algorithm ({single})", result.reference(single)),
        (best, result.best_builtin()[1]),
    ]
    if result.listed:
        names = f"{', '.join(LISTED_BUILTINS[:-1])} and {LISTED_BUILTINS[-1]}"
        marks.append((f"the best of {names} with user/GC split", result.best_builtin(result.listed)[1]))
    for what, against in marks:
        gain = result.gain(against)
        verdict = "beats" if gain.low > 0 else "does not beat" if gain.high < 0 else "equals, as far as the runs tell,"
        said.append(f"The agent {verdict} {what}: {measure.gain_text(gain)}.")
    said.append(_worst(result, "the best built-in", result.best_builtin()[1]))
    if result.listed:
        said.append(_worst(result, "the best of that list", result.best_builtin(result.listed)[1]))
    if RIVAL in result.others:
        gain = result.gain(result.reference(RIVAL))
        said.append(f"Against the tabular Q-learning cleaner of Kang et al. (TECS 2017): {measure.gain_text(gain)}.")
    if START in result.others:
        gain = result.gain(result.reference(START))
        what = start_text(result.suite)
        said.append(f"Against the {what} that its training begins with: {measure.gain_text(gain)}.")
    for oracle in result.oracles:
        score = result.normalized_score(oracle)
        if not np.isnan(score.estimate):
            said.append(f"Normalized score against the {oracle}: {_bracketed(score)} (0 = {result.builtins[0]}).")
    worst, single_worst = result.dearest(), result.dearest(single=True)
    if worst is not None and single_worst is not None:
        said.append(
            f"Under mode auto, over {_length(result)}, the extra cost that the proxy charges is at most "
            f"{100 * worst.share:+.2f} % of what the built-in algorithm alone costs ({result.builtins[0]}): "
            f"training seed {worst.training_seed}, {worst.workload}. In a single episode it is at most "
            f"{100 * single_worst.share:+.2f} %: training seed {single_worst.training_seed}, {single_worst.workload}, "
            f"episode {single_worst.episode_seed}."
        )
    for what, wanted, got, verdict in goal_rows(result):
        said.append(f"Goal, {what}: {wanted}; the agent has {got}: {verdict}.")
    return said


def write_suite_json(path: Path, result: SuiteResult) -> None:
    """Write everything that follows from the results, with versions."""
    (names, best), (_, listed) = result.best_builtin(), result.best_builtin(result.listed)
    content = {
        "suite": asdict(result.suite),
        "suite_version": SUITE_VERSION,
        **provenance(),
        "workloads": list(result.references.workloads),
        "training_seeds": list(result.runs),
        "references": {name: _plain(result.reference(name)) for name in result.references.policies},
        "best_builtin": {"names": names, "costs": _plain(best)},
        "best_single_builtin": result.best_single(),
        "agent": _plain(result.agent),
        "gain_over_best_single": asdict(result.gain(result.reference(result.best_single()))),
        "gain_over_best_of_each": asdict(result.gain(best)),
        "gain_over_best_of_listed": asdict(result.gain(listed)) if result.listed else None,
        "normalized_score": {name: _plain(asdict(result.normalized_score(name))) for name in result.oracles},
        "goals": [dict(zip(("goal", "wanted", "reached", "verdict"), row, strict=True)) for row in goal_rows(result)],
        "extra_cost": None if (extra := result.extra_cost()) is None else _plain(extra),
        "deployed_gain": None if (deployed := result.deployed_gain()) is None else _plain(deployed),
        "probability_of_improvement": {
            name: asdict(result.probability_of_improvement(name)) for name in result.builtins
        },
        "validation": {
            str(seed): {"steps": _plain(curve.steps), "scores": _plain(curve.scores)}
            for seed, curve in result.curves.items()
        },
    }
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_suite_csv(path: Path, result: SuiteResult) -> None:
    """Write one line per policy, training seed, workload and episode."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    metrics = list(result.references.metrics)
    writer.writerow(("policy", "training_seed", "workload", "seed", *metrics))
    for seed, played in (("", result.references), *((str(seed), run) for seed, run in result.runs.items())):
        for place in np.ndindex(len(played.policies), len(played.workloads), len(played.seeds)):
            values = [played.metrics[name][place] for name in metrics]
            if not np.isnan(values[0]):
                key = (played.policies[place[0]], seed, played.workloads[place[1]], played.seeds[place[2]])
                writer.writerow((*key, *("" if np.isnan(value) else f"{value:.10g}" for value in values)))
    write_text(path, text.getvalue())


def _bracketed(interval: Interval, decimals: int = 3) -> str:
    estimate, low, high = (f"{value:.{decimals}f}" for value in (interval.estimate, interval.low, interval.high))
    return estimate if interval.low == interval.high else f"{estimate} [{low}, {high}]"  # a single run has none


def _cells(result: SuiteResult, runs: FloatArray, references: Sequence[FloatArray | float]) -> list[str]:
    """One row's cells: the agent's value and its change against the first reference stand before the oracles'."""
    measure = result.suite.measure
    values = [float(value) for value in references]
    own = over_runs(runs)
    change = float(measure.change(np.asarray(own.estimate), np.asarray(values[0])))
    texts, before = [measure.value_text(value) for value in values], len(values) - len(result.oracles)
    return [*texts[:before], _bracketed(own, measure.decimals), measure.change_text(change), *texts[before:]]


def _worst(result: SuiteResult, what: str, against: FloatArray) -> str:
    """Where the agent gains least over values (W,), and how much."""
    workload, gain = result.worst_gain(against)
    return f"Its worst workload is {workload}: {result.suite.measure.compared_text(gain)} than {what}."


def _length(result: SuiteResult) -> str:
    """How long a deployment lasts and how many there are, in words."""
    deployment = result.suite.deployment
    played = len(next(iter(result.deployments.values())).seeds)
    volumes = "episode_volumes" in deployment
    length = (
        f"{deployment['episode_volumes']:g} volumes of user writes" if volumes else f"{deployment['episode_s']:g} s"
    )
    return f"{length} ({played} episode{'s' * (played != 1)} a workload)"


def _plain(values: Any) -> Any:  # noqa: ANN401 (lists as deep as the array)
    """Nested lists or a mapping, with None for what is not known or not finite."""
    if isinstance(values, dict):
        return {key: _plain(value) for key, value in values.items()}
    array = np.asarray(values, np.float64)
    return np.where(np.isfinite(array), array, None).tolist()  # type: ignore[call-overload]
