"""What a benchmark has to do for a suite, cut into units of work, and what is done of it: the state lies in files.

```
OUTPUT/lfs-tune/
  benchmark.yml       settings: work of other settings is not mixed with it
  start.yml           what trainings begin with, where that is searched anew, and beside it teachers.yml
  references.npz      the built-in algorithms and oracles
  seed-0/             one training seed
    ppo/kml-LfsTune-v0_1/   the run folder of its training
    trained.yml       written when the training is complete: where its run folder is, and how long it took
    agent.npz         the best model of the training, playing the held-out workloads
    deployment.npz    the same under mode `auto`, of suites that have that
  search.log, references.log, seed-0.log
```

A file appears when its work is complete, and complete work is never done again. A training that was interrupted
begins anew, so that results do not depend on interruptions.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from agents.benchmark_results import Curve, SuiteResult, read_evaluation, write_evaluation
from agents.benchmark_suites import BenchmarkSuite, play_agent, play_deployment, play_references
from agents.hyperparameter_files import read_entry
from agents.loading import load_model
from agents.plan import TrainingOptions
from agents.results import CHARGED_COST, EVERYTHING
from agents.start_search import budget_of, read_start, search_start, write_start
from agents.training import train
from kml_envs.errors import UserError, in_one_line
from kml_envs.files import make_writable_folder, write_text
from kml_envs.suites import SUITE_VERSION

QUICK_ROWS = 8  # environments stepped together when trying out
_QUICK_STEPS = 16  # of each of them, where the algorithm has no rollouts
_QUICK_WORKLOADS = 2
_QUICK_RIVAL_STEPS = 2000


class TrainingInterruptedError(Exception):
    """A training was stopped by a signal."""


@dataclass(frozen=True)
class SuiteFolder:
    """Where the work of a suite lies.

    Attributes:
        path: Its folder.
        suite: The suite.
        quick: Whether it is only tried out, with tiny budgets.
        search: Whether what trainings begin with is searched anew, instead of taken from the hyperparameter files.
    """

    path: Path
    suite: BenchmarkSuite
    quick: bool = False
    search: bool = False

    @property
    def start(self) -> Path:
        """What trainings begin with, if it is searched."""
        return self.path / "start.yml"

    @property
    def found(self) -> dict[str, Any]:
        """Hyperparameters that the search has found; none where there is none."""
        return read_start(self.start) if self.search else {}

    @property
    def started_suite(self) -> BenchmarkSuite:
        """The suite, with what its trainings begin with."""
        return replace(self.suite, start=self.found.get("policy_kwargs", {}))

    @property
    def references(self) -> Path:
        """What the built-in algorithms and oracles reached."""
        return self.path / "references.npz"

    def seed(self, seed: int) -> Path:
        """Everything of one training seed."""
        return self.path / f"seed-{seed}"

    def open(self) -> None:
        """Make the folder, or find out whether what lies there may be continued.

        Raises:
            UserError: It cannot be written, or was made with other settings.
        """
        settings, file = self._settings(), self.path / "benchmark.yml"
        make_writable_folder(self.path, "--output")
        try:
            if not file.is_file():
                write_text(file, yaml.safe_dump(settings, sort_keys=False))
            found = yaml.safe_load(file.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f"--output {file}: {in_one_line(error)}") from None
        known = found if isinstance(found, dict) else {}
        if different := [key for key, value in settings.items() if known.get(key) != value]:
            raise UserError(f"--output {self.path}: was made with other {', '.join(different)}: give another folder")

    def training(self, seed: int) -> TrainingOptions:
        """The training of one seed; where the start is searched, only once it has been found."""
        options = self._training(seed)
        return replace(options, hyperparameters={**self.found, **options.hyperparameters})

    def _training(self, seed: int) -> TrainingOptions:
        """The training of one seed from the start of the hyperparameter files."""
        suite = self.suite
        options = TrainingOptions(
            env=suite.env_id,
            algo=suite.algo,
            seed=seed,
            env_kwargs=suite.env_kwargs,
            log_folder=str(self.seed(seed)),
            save_freq=0,
            progress=False,
            closing=False,
        )
        if not self.quick:
            return options
        entry = read_entry(suite.algo, suite.env_id)
        steps = QUICK_ROWS * int(entry.get("n_steps", _QUICK_STEPS))
        changes: dict[str, Any] = {"imitate": False} if "imitate" in entry else {}
        if "batch_size" in entry:
            changes["batch_size"] = min(int(entry["batch_size"]), steps)
        return replace(
            options, n_envs=QUICK_ROWS, n_timesteps=steps, hyperparameters=changes, eval_freq=0, eval_episodes=1
        )

    def _settings(self) -> dict[str, Any]:
        """What must be the same for results to belong together; plain values."""
        suite, options = self.suite, self._training(0)
        budget = asdict(budget_of(suite.env_id, quick=self.quick)) if self.search else None
        entry = {**read_entry(suite.algo, suite.env_id), **options.hyperparameters}
        settings = {
            "suite_version": SUITE_VERSION,
            "environment": suite.env_id,
            "arguments": dict(suite.env_kwargs),
            "algorithm": suite.algo,
            "hyperparameters": entry,
            "steps": options.n_timesteps or entry.get("n_timesteps"),
            "search of the start": budget,
            "workloads": list(suite.played),
            "episode_seeds": list(suite.episode_seeds),
            "built-in algorithms": [contender.name for contender in suite.builtins],
            "deployment": dict(suite.deployment),
            "deployed seeds": suite.deployed_seeds,
            "steps of the rival": suite.rival_steps,
            "noted of each episode": [*EVERYTHING, CHARGED_COST],
        }
        plain: dict[str, Any] = yaml.safe_load(yaml.safe_dump(settings, sort_keys=False))
        return plain


def quick_suite(suite: BenchmarkSuite) -> BenchmarkSuite:
    """A suite to be tried out: two workloads, one episode each, no deployment."""
    return replace(
        suite,
        workloads=suite.played[:_QUICK_WORKLOADS],
        episode_seeds=suite.episode_seeds[:1],
        deployment={},
        rival_steps=min(suite.rival_steps, _QUICK_RIVAL_STEPS),
    )


@dataclass(frozen=True)
class Unit:
    """A unit of work, for one process.

    Attributes:
        folder: The suite's folder.
        seed: Training seed; None: the references, or the search.
        searches: Whether it is the search of what trainings begin with.
    """

    folder: SuiteFolder
    seed: int | None
    searches: bool = False

    @property
    def name(self) -> str:
        """What progress calls it."""
        what = "built-in algorithms" if self.seed is None else f"training seed {self.seed}"
        return f"{self.folder.suite.name}, {'search of the start' if self.searches else what}"

    @property
    def log(self) -> Path:
        """What it printed."""
        references = "search.log" if self.searches else "references.log"
        return self.folder.path / (references if self.seed is None else f"seed-{self.seed}.log")

    def ready(self) -> bool:
        """Whether it can be done now: all but the search wait for that, if there is one."""
        return self.searches or not self.folder.search or self.folder.start.is_file()

    def done(self) -> bool:
        """Whether nothing is left to do."""
        if self.searches:
            return self.folder.start.is_file()
        if self.seed is None:
            return self.folder.references.is_file()
        needed = ["trained.yml", "agent.npz", *(["deployment.npz"] if self.folder.suite.deployment else [])]
        return all((self.folder.seed(self.seed) / name).is_file() for name in needed)

    def work(self) -> None:
        """Do what is left to do.

        Raises:
            TrainingInterruptedError: By a signal.
        """
        torch.set_num_threads(1)
        if self.searches:
            suite, budget = self.folder.suite, budget_of(self.folder.suite.env_id, quick=self.folder.quick)
            write_start(self.folder.start, search_start(suite.env_id, suite.algo, self.folder.path, budget))
            return
        if self.seed is None:
            write_evaluation(self.folder.references, play_references(self.folder.started_suite))
            return
        place, suite = self.folder.seed(self.seed), self.folder.suite
        if not (place / "trained.yml").is_file():
            self._train(place, self.seed)
        policy = load_model(_run_of(place)).model
        if not (place / "agent.npz").is_file():
            write_evaluation(place / "agent.npz", play_agent(suite, policy))
        if suite.deployment and not (place / "deployment.npz").is_file():
            deployed = play_deployment(suite, policy)
            assert deployed is not None
            write_evaluation(place / "deployment.npz", deployed)

    def _train(self, place: Path, seed: int) -> None:
        shutil.rmtree(place, ignore_errors=True)
        begun = time.monotonic()
        trained = train(self.folder.training(seed))
        if trained.interrupted_by:
            raise TrainingInterruptedError(trained.interrupted_by)
        facts: Mapping[str, Any] = {
            "run": str(trained.folder.relative_to(place)),
            "steps": trained.num_timesteps,
            "seconds": round(time.monotonic() - begun, 1),
        }
        write_text(place / "trained.yml", yaml.safe_dump(dict(facts)))


def units_of(folder: SuiteFolder, seeds: Sequence[int]) -> list[Unit]:
    """All units of work of a suite: the search, if there is one, the references, and the training seeds."""
    search = [Unit(folder, None, searches=True)] if folder.search else []
    return [*search, Unit(folder, None), *(Unit(folder, seed) for seed in seeds)]


def collect(folder: SuiteFolder, seeds: Sequence[int]) -> SuiteResult | None:
    """Read the results of a suite, of the training seeds that are done; None where there is nothing to compare yet."""
    done = [seed for seed in seeds if Unit(folder, seed).done()]
    if not done or not Unit(folder, None).done():
        return None
    read = {seed: read_evaluation(folder.seed(seed) / "agent.npz") for seed in done}
    deployed = done if folder.suite.deployment else []
    deployments = {seed: read_evaluation(folder.seed(seed) / "deployment.npz") for seed in deployed}
    curves = {seed: _curve(_run_of(folder.seed(seed))) for seed in done}
    return SuiteResult(folder.suite, read_evaluation(folder.references), read, deployments, curves)


def run_folders(folder: SuiteFolder, seeds: Sequence[int]) -> list[Path]:
    """The run folders of the trainings that are done."""
    return [_run_of(folder.seed(seed)) for seed in seeds if Unit(folder, seed).done()]


def _run_of(place: Path) -> Path:
    return place / str(yaml.safe_load((place / "trained.yml").read_text())["run"])


def _curve(run: Path) -> Curve:
    with np.load(run / "evaluations.npz", allow_pickle=False) as arrays:
        return Curve(arrays["timesteps"].astype(np.float64), arrays["scores"].mean(axis=1))
