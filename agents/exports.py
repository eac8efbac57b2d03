"""Comparisons as files: JSON with everything, CSV with one line per episode. No reader ever meets half a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.results import Comparison
from agents.run_folder import provenance
from agents.statistics import FloatArray, Interval
from kml_envs.errors import UserError
from kml_envs.files import write_text
from kml_envs.lfs.oracle import OracleKind
from kml_envs.suites import SUITE_VERSION


def check_writable(*paths: Path | None) -> None:
    """Find out before the episodes are played whether their results can be written.

    Raises:
        UserError: A folder does not exist, or a path is a folder.
    """
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise UserError(f"{path}: is a folder, a file name is needed")
        if not path.parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}")


def write_json(path: Path, comparison: Comparison, settings: Mapping[str, Any]) -> None:
    """Write everything: settings, versions, all metrics (policies x workloads x seeds) and what follows from them."""
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
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_csv(path: Path, comparison: Comparison) -> None:
    """Write one line per policy, workload and seed; policies that do not play a workload have no line there."""
    results = comparison.results
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("policy", "workload", "seed", *results.metrics))
    for place in np.ndindex(len(results.policies), len(results.workloads), len(results.seeds)):
        values = [values[place] for values in results.metrics.values()]
        if not np.isnan(values[0]):
            policy, workload, seed = place
            cells = ["" if np.isnan(value) else f"{value:.10g}" for value in values]
            writer.writerow((results.policies[policy], results.workloads[workload], results.seeds[seed], *cells))
    write_text(path, text.getvalue())


def _plain(values: FloatArray) -> Any:  # noqa: ANN401 (lists as deep as the array)
    """Nested lists, with None for what is not known."""
    return np.where(np.isnan(values), None, values).tolist()  # type: ignore[call-overload]


def _interval(interval: Interval) -> dict[str, float | None]:
    numbers = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    return {name: None if np.isnan(number) else number for name, number in numbers.items()}
