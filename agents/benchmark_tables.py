"""Results of a benchmark suite as text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from agents.benchmark_results import SuiteResult, over_runs
from agents.run_folder import provenance
from agents.statistics import Interval, geometric_mean
from agents.tables import format_table
from kml_envs.files import write_text
from kml_envs.lfs.oracle import OracleKind
from kml_envs.suites import SUITE_VERSION

Rows = list[list[str]]
TITLES = {"write_amplification": "write amplification", "latency_p999_ms": "p99.9 of the write latencies, in ms"}


def describe_suite(result: SuiteResult) -> str:
    """The table and what it says, for a terminal."""
    header, rows = suite_table(result)
    return "\n".join([heading(result), "", format_table(header, rows), "", *sentences(result)])


def markdown_suite(result: SuiteResult) -> str:
    """The same as Markdown."""
    header, rows = suite_table(result)
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
    return "\n".join([heading(result), "", *lines, "", *(f"- {sentence}" for sentence in sentences(result)), ""])


def heading(result: SuiteResult) -> str:
    """What the table shows."""
    suite, count = result.suite, len(result.runs)
    return (
        f"{suite.name}: {TITLES[suite.metric]} on {suite.env_id}, suite version {SUITE_VERSION}, "
        f"{len(suite.episode_seeds)} episodes a workload; agent: interquartile mean over {count} "
        f"training seed{'s' * (count != 1)} [95 % bootstrap interval]"
    )


def suite_table(result: SuiteResult) -> tuple[list[str], Rows]:
    """Header and rows: one for each workload, and the geometric mean."""
    single = result.best_single()
    names, best = result.best_builtin()
    deployed = result.deployed_saving()
    oracles = [kind.value for kind in OracleKind if kind.value in result.references.policies]
    header = ["workload", "best built-in", "its cost", single, "agent", "against the best", *oracles]
    body: Rows = []
    columns = [result.reference(name) for name in oracles]
    for row, workload in enumerate(result.references.workloads):
        own = over_runs(result.agent[:, row])
        cells = [workload, names[row], f"{best[row]:.3f}", f"{result.reference(single)[row]:.3f}"]
        cells += [_bracketed(own), f"{100 * (own.estimate / best[row] - 1):+.1f} %"]
        body.append([*cells, *(_number(column[row]) for column in columns)])
    own = over_runs(geometric_mean(result.agent))
    mark, fixed = float(geometric_mean(best)), float(geometric_mean(result.reference(single)))
    cells = ["geometric mean", "of each workload", f"{mark:.3f}", f"{fixed:.3f}", _bracketed(own)]
    cells.append(f"{100 * (own.estimate / mark - 1):+.1f} %")
    body.append([*cells, *(_number(float(geometric_mean(column))) for column in columns)])
    if deployed is not None:
        header.append("auto against the built-in")
        for row in range(len(body) - 1):
            body[row].append(f"{-100 * over_runs(deployed[:, row]).estimate:+.1f} %")
        overall = over_runs(1.0 - geometric_mean(1.0 - deployed))
        body[-1].append(f"{-100 * overall.estimate:+.1f} %")
    return header, body


def sentences(result: SuiteResult) -> list[str]:
    """What the table says, in plain words."""
    single = result.best_single()
    said = []
    for what, against in (
        (f"the best single built-in algorithm ({single})", result.reference(single)),
        ("the best built-in algorithm of each workload, chosen with hindsight", result.best_builtin()[1]),
    ):
        saving = result.saving(against)
        verdict = (
            "beats" if saving.low > 0 else "does not beat" if saving.high < 0 else "equals, as far as the runs tell,"
        )
        said.append(f"The agent {verdict} {what}: {_percent(saving)} lower in geometric mean.")
    worst = (1.0 - result.savings()).mean(axis=0) - 1.0
    place = int(np.argmax(worst))
    workload = result.references.workloads[place]
    relation = "higher" if worst[place] > 0 else "lower"
    said.append(f"Its worst workload is {workload}: {100 * abs(worst[place]):.1f} % {relation} than the best built-in.")
    for kind in OracleKind:
        score = result.normalized_score(kind)
        if not np.isnan(score.estimate):
            said.append(f"Normalized score against the {kind.value}: {_bracketed(score)} (0 = {result.builtins[0]}).")
    if (deployed := result.deployed_saving()) is not None:
        least = over_runs(deployed.min(axis=1)).estimate
        said.append(
            f"Under mode auto, over {result.suite.deployment_volumes:g} volumes of user writes, the worst workload "
            f"costs {-100 * least:+.1f} % against the built-in algorithm alone ({result.builtins[0]})."
        )
    return said


def write_suite_json(path: Path, result: SuiteResult) -> None:
    """Write everything that follows from the results, with versions."""
    names, best = result.best_builtin()
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
        "saving_against_best_single": asdict(result.saving(result.reference(result.best_single()))),
        "saving_against_best_of_each": asdict(result.saving(best)),
        "normalized_score": {kind.value: _plain(asdict(result.normalized_score(kind))) for kind in OracleKind},
        "deployed_saving": None if (deployed := result.deployed_saving()) is None else _plain(deployed),
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


def _bracketed(interval: Interval) -> str:
    if interval.low == interval.high:  # a single run
        return f"{interval.estimate:.3f}"
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _percent(interval: Interval) -> str:
    if interval.low == interval.high:
        return f"{100 * interval.estimate:.1f} %"
    return f"{100 * interval.estimate:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _plain(values: Any) -> Any:  # noqa: ANN401 (lists as deep as the array)
    """Nested lists or a mapping, with None for what is not known."""
    if isinstance(values, dict):
        return {key: _plain(value) for key, value in values.items()}
    array = np.asarray(values, np.float64)
    return np.where(np.isnan(array), None, array).tolist()  # type: ignore[call-overload]
