"""Comparisons as files: JSON with everything, CSV with one line per episode. No reader ever meets half a file."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.deployment import Deployed, Outcome
from agents.results import Comparison
from agents.run_folder import provenance
from agents.statistics import FloatArray, Interval
from kml_envs.errors import UserError
from kml_envs.files import check_writable, write_text
from kml_envs.lfs.oracle import OracleKind
from kml_envs.proxy.modes import Mode
from kml_envs.suites import SUITE_VERSION

_DEPLOYMENT_COLUMNS = (
    "collaboration_after",
    "recommendation_after",
    "degradations",
    "evidence",
    "evidence_needed",
)
"""What is told of deployments, as `Outcome` has it."""


def check_outputs(outputs: Mapping[str, Path | None], played: Iterable[Path]) -> None:
    """Find out before the episodes are played whether their results can be written.

    Args:
        outputs: Files by the options that name them; None: it is not wanted.
        played: Files that are read.

    Raises:
        UserError: A file cannot be written, or would overwrite another one, or what is played.
    """
    taken = {os.path.realpath(path): "a file that is to be played" for path in played}
    for option, path in outputs.items():
        if path is None:
            continue
        check_writable(path, option)
        place = os.path.realpath(path)
        if place in taken:
            raise UserError(f"{option} {path}: is {taken[place]}, another one is needed")
        taken[place] = f"the file of {option}"


def write_json(
    path: Path, comparison: Comparison, settings: Mapping[str, Any], deployed: Deployed | None = None
) -> None:
    """Write everything: settings, versions, all metrics (policies x workloads x seeds) and what follows from them.

    Args:
        path: The file.
        comparison: The first table.
        settings: What was asked for.
        deployed: The second one, under mode `auto`, if there is one; its lists have one entry per deployment.
    """
    results = comparison.results
    content: dict[str, Any] = {
        "settings": dict(settings),
        "suite_version": SUITE_VERSION,
        **provenance(),
        "judged": comparison.judged,
        "reference": comparison.reference,
        "builtins": list(comparison.builtins),
        "policies": list(results.policies),
        "workloads": list(results.workloads),
        "seeds": list(results.seeds),
        "metrics": {name: _plain(values) for name, values in results.metrics.items()},
    }
    if "score" not in results.metrics:
        content |= {
            "write_amplification": _plain(results.write_amplification),
            "geometric_mean": dict(
                zip(results.policies, _plain(results.geometric_means(results.policies)), strict=True)
            ),
            "best_single_builtin": results.best_single(comparison.builtins),
            "normalized_score": {
                oracle.value: {**_interval(comparison.score(oracle)), "values": _plain(comparison.scores(oracle))}
                for oracle in OracleKind
                if oracle.value in results.policies
            },
        }
    if deployed is not None:
        outcome = deployed.outcome
        content["deployment"] = {
            "units": deployed.units,
            "unit": deployed.unit,
            "comparison": deployed.comparison,
            "workloads": list(outcome.workloads),
            "seeds": list(outcome.seeds),
            "mode": _modes(outcome),
            **{name: _plain(getattr(outcome, name).astype(np.float64)) for name in _DEPLOYMENT_COLUMNS},
            "extra_cost": _plain(deployed.extra_cost),
            "metrics": {name: _plain(values) for name, values in outcome.metrics.items()},
        }
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_csv(path: Path, comparison: Comparison, deployed: Deployed | None = None) -> None:
    """Write one line per policy, workload and seed; policies that do not play a workload have no line there.

    Deployments are lines of a policy `NAME (mode auto)`, with some columns more.
    """
    results = comparison.results
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    further = () if deployed is None else ("mode", *_DEPLOYMENT_COLUMNS, "extra_cost")
    writer.writerow(("policy", "workload", "seed", *results.metrics, *further))
    for place in np.ndindex(len(results.policies), len(results.workloads), len(results.seeds)):
        values = [values[place] for values in results.metrics.values()]
        if not np.isnan(values[0]):
            policy, workload, seed = place
            cells = [*(_cell(float(value)) for value in values), *("" for _ in further)]
            writer.writerow((results.policies[policy], results.workloads[workload], results.seeds[seed], *cells))
    if deployed is not None:
        outcome, name = deployed.outcome, f"{comparison.judged} (mode auto)"
        unknown = np.full(len(outcome.seeds), np.nan)
        columns = [outcome.metrics.get(metric, unknown) for metric in results.metrics]
        added = [*(getattr(outcome, column) for column in _DEPLOYMENT_COLUMNS), deployed.extra_cost]
        for row, (workload, seed, mode) in enumerate(
            zip(outcome.workloads, outcome.seeds, _modes(outcome), strict=True)
        ):
            cells = [_cell(values[row]) for values in (*columns, *added)]
            cells.insert(len(columns), mode)
            writer.writerow((name, workload, seed, *cells))
    write_text(path, text.getvalue())


def _modes(outcome: Outcome) -> list[str]:
    """The names of the modes at the end."""
    return [Mode(mode).name.lower() for mode in outcome.mode.tolist()]


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.10g}"


def _plain(values: FloatArray) -> Any:  # noqa: ANN401 (lists as deep as the array)
    """Nested lists, with None for what is not known."""
    return np.where(np.isnan(values), None, values).tolist()  # type: ignore[call-overload]


def _interval(interval: Interval) -> dict[str, float | None]:
    numbers = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    return {name: None if np.isnan(number) else number for name, number in numbers.items()}
