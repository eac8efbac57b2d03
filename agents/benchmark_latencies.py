"""All measures of a benchmark suite that is judged by its latencies: tails, stalls and write amplification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.benchmark_results import SuiteResult, over_runs
from agents.pacing_tables import TAILS, geometric_tail
from agents.results import Evaluation
from agents.statistics import FloatArray

_DECIMALS = (*(2 for _ in TAILS), 0, 1, 3)


def latency_table(result: SuiteResult) -> tuple[list[str], list[list[str]]]:
    """Header and rows over all workloads: built-in algorithms, rival, start of the training, agent of all seeds."""
    runs = [_over_workloads(run, run.policies[0]) for run in result.runs.values()]
    rows = [[name, *_cells([_over_workloads(result.references, name)])] for name in (*result.builtins, *result.others)]
    header = ["over all workloads", *(f"{name} ms" for name in TAILS), "stalls", "stall s", "write amplification"]
    return header, [*rows, ["agent", *_cells(runs)]]


def stall_table(result: SuiteResult) -> tuple[list[str], list[list[str]]]:
    """Header and rows: of each workload the seconds that writes waited for cleaning, in all of its episodes."""
    names = (*result.builtins, *result.others)
    columns = [_stalls(result.references, name) for name in names]
    agent = np.array([_stalls(run, run.policies[0]) for run in result.runs.values()])
    body = []
    for row, workload in enumerate(result.references.workloads):
        cells = [f"{column[row]:,.1f}" for column in columns]
        body.append([workload, *cells, f"{over_runs(agent[:, row]).estimate:,.1f}"])
    return ["stall s on each workload", *names, "agent"], body


def _stalls(evaluation: Evaluation, policy: str) -> FloatArray:
    """(W,) seconds of stalls, summed over episodes."""
    return np.asarray(evaluation.of(policy, "stall_ms").sum(axis=-1) / 1000)


def _over_workloads(evaluation: Evaluation, policy: str) -> list[float]:
    """Tails and write amplification in geometric mean, stalls and their seconds summed, over workloads and episodes."""
    stalls, stall_ms = (float(evaluation.of(policy, name).sum()) for name in ("stalls", "stall_ms"))
    tails = [geometric_tail(evaluation.of(policy, name)) for name in TAILS.values()]
    return [*tails, stalls, stall_ms / 1000, float(evaluation.geometric_means([policy])[0])]


def _cells(runs: Sequence[Sequence[float]]) -> list[str]:
    """Interquartile mean over the runs of each number, with its 95 % bootstrap interval if there are several."""
    cells = []
    for column, decimals in zip(np.array(runs).T, _DECIMALS, strict=True):
        found = over_runs(column)
        text, low, high = (f"{value:,.{decimals}f}" for value in (found.estimate, found.low, found.high))
        cells.append(text if len(runs) == 1 else f"{text} [{low}, {high}]")
    return cells
