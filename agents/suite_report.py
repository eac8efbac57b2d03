"""`evaluate.py --suite NAME`: a table of the results page, from the shipped agent of all its training seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from agents.baselines import Policy
from agents.benchmark_plots import plot_gains
from agents.benchmark_results import SuiteResult
from agents.benchmark_suites import BenchmarkSuite, play_agent, play_alone, play_deployment, play_references
from agents.benchmark_tables import describe_suite, write_suite_csv, write_suite_json
from agents.shipped import find_agent, shipped_names
from kml_envs.errors import UserError
from kml_envs.suites import SUITE_VERSION


def shipped_policies(suite: BenchmarkSuite) -> dict[int, Policy]:
    """The shipped agent of a suite, by training seed.

    Raises:
        UserError: None is shipped for it.
    """
    if suite.name not in shipped_names():
        raise UserError(f"suite {suite.name}: no agent is shipped for it; give a model, or one of --agent, --policy")
    agent = find_agent(suite.name)
    return {seed: agent.load(seed, suite.env_kwargs).model for seed in sorted(agent.seeds)}


def version_warning(agent: str) -> str | None:
    """One line where a shipped agent was trained on another version of the suites than the one that is played.

    Args:
        agent: Its name, as `agents.shipped.load_agent` takes it.
    """
    version = find_agent(agent.partition(":")[0]).suite_version
    if version == SUITE_VERSION:
        return None
    return f"warning: {agent} was trained on version {version} of the suites, and plays version {SUITE_VERSION} here"


def play_suite(suite: BenchmarkSuite, policies: Mapping[int, Policy], progress: Callable[[str], None]) -> SuiteResult:
    """Play everything that belongs to a suite.

    Args:
        suite: The suite.
        policies: The agent, by training seed.
        progress: Told what plays.
    """
    progress("built-in algorithms and oracles")
    references = play_references(suite)
    alone = play_alone(suite)
    runs, deployments = {}, {}
    for seed, policy in policies.items():
        progress(f"agent, training seed {seed}")
        runs[seed] = play_agent(suite, policy)
        if (deployed := play_deployment(suite, policy, alone)) is not None:
            deployments[seed] = deployed
    return SuiteResult(suite, references, runs, deployments, {})


def report_suite(result: SuiteResult, *, json: Path | None, csv: Path | None, plot: Path | None) -> str:
    """Write the files that are wanted, and describe the result."""
    if json is not None:
        write_suite_json(json, result)
    if csv is not None:
        write_suite_csv(csv, result)
    if plot is not None:
        plot_gains(plot, result)
    return describe_suite(result)
