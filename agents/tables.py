"""A comparison in words: a table with one row per workload, and what it says in plain sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from agents.results import Comparison
from agents.statistics import FloatArray
from kml_envs.lfs.oracle import OracleKind

_COLUMN = 9  # characters, above which a column's name is broken
_MARGIN = 0.0005  # relative; closer than that, two geometric means are called equal


def describe(comparison: Comparison) -> str:
    """The table of write amplifications, and below it who won."""
    lines = [
        "Write amplification on each workload (blocks written / blocks written by the user; * best built-in algorithm)",
        "",
        table(comparison),
        "",
        verdict(comparison),
    ]
    if comparison.judged not in comparison.builtins:
        lines.append(_against_best_per_workload(comparison))
    lines.append(score_sentence(comparison))
    return "\n".join(lines)


def table(comparison: Comparison) -> str:
    """One row per workload and one of geometric means, one column per policy."""
    results = comparison.results
    amplification = results.write_amplification
    means = results.geometric_means(results.policies)
    body = [[workload, *_cells(comparison, amplification[:, row])] for row, workload in enumerate(results.workloads)]
    body.append(["geometric mean", *_cells(comparison, means)])
    return format_table(["workload", *results.policies], body)


def verdict(comparison: Comparison) -> str:
    """Whether the judged policy beats the best single built-in algorithm in geometric mean, and by how much."""
    results, judged = comparison.results, comparison.judged
    others = [name for name in comparison.builtins if name != judged]
    best = results.best_single(others)
    own, other = results.geometric_means([judged, best])
    count = len(results.workloads)
    over = f" in geometric mean over {count} workloads" if count > 1 else f" on {results.workloads[0]}"
    numbers = f"write amplification {own:.3f} against {other:.3f}{over}"
    subject = in_words(judged, comparison.builtins)
    what = f"the best {'other' if judged in comparison.builtins else 'single'} built-in algorithm ({best})"
    change = own / other - 1.0
    if change < -_MARGIN:
        return f"{subject} beats {what} by {-100 * change:.1f} %: {numbers}."
    if change > _MARGIN:
        return f"{subject} does not beat {what}, it is {100 * change:.1f} % worse: {numbers}."
    return f"{subject} equals {what}: {numbers}."


def in_words(policy: str, builtins: Sequence[str] = ()) -> str:
    """A policy as the subject of a sentence."""
    if policy in builtins:
        return f"Built-in algorithm {policy}"
    return f"The {policy}" if policy.startswith("agent") else f"Policy {policy}"


def score_sentence(comparison: Comparison) -> str:
    """The normalized score with its interval."""
    score, oracle = comparison.score(), OracleKind.CLAIRVOYANT.value
    if np.isnan(score.estimate):
        return f"Normalized score: not defined, the {oracle} saves nothing against {comparison.reference} here."
    return (
        f"Normalized score {score.estimate:.3f} [{score.low:.3f}, {score.high:.3f}] "
        f"(0 = {comparison.reference}, 1 = {oracle}; interquartile mean, 95 % bootstrap interval, "
        f"{len(comparison.results.seeds)} seeds)."
    )


def format_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Lay out a table: first column to the left, the others to the right, long column names broken at their hyphens.

    Args:
        header: Column names.
        body: Rows of cells.
    """
    broken = [[header[0]], *(_broken(name) for name in header[1:])]
    height = max(len(words) for words in broken)
    top = [["" for _ in range(height - len(words))] + words for words in broken]
    rows = [[words[line] for words in top] for line in range(height)]
    everything = [*rows, *body]
    widths = [max(len(row[column]) for row in everything) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in everything)
    ]
    lines.insert(height, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _broken(name: str) -> list[str]:
    """The lines of a column's name."""
    lines: list[str] = []
    for piece in re.findall(r"\(.*?\)|[^-/ ]+[-/]?", name):
        if lines and len(lines[-1]) + len(piece) <= _COLUMN and lines[-1][-1] in "-/":
            lines[-1] += piece
        else:
            lines.append(piece)
    return lines


def _against_best_per_workload(comparison: Comparison) -> str:
    results = comparison.results
    best = float(np.exp(np.log(results.best_per_workload(comparison.builtins)).mean()))
    own = float(results.geometric_means([comparison.judged])[0])
    relation = "better" if own < best else "worse"
    return (
        f"Against the best built-in algorithm of each workload, chosen with hindsight ({best:.3f}), "
        f"it is {100 * abs(own / best - 1):.1f} % {relation}."
    )


def _cells(comparison: Comparison, values: FloatArray) -> list[str]:
    policies = comparison.results.policies
    best = min(value for name, value in zip(policies, values, strict=True) if name in comparison.builtins)
    return [
        _cell(value, name in comparison.builtins and value == best)
        for name, value in zip(policies, values, strict=True)
    ]


def _cell(value: float, marked: bool) -> str:
    return "-" if np.isnan(value) else f"{'*' if marked else ''}{value:.3f}"
