"""Trained agents that come with the package, loaded by name: `lfs-tune`, or `lfs-tune:3` for a certain training seed.

```
agents/trained/lfs-tune/
  README.md    the model card: training data, seeds, numbers, limits
  agent.yml    environment, algorithm, hyperparameters and versions; the training seeds, best on validation first
  seed-0.npz   the policy's parameters after training with seed 0; nothing but arrays of numbers
```

No file holds code, and none is unpickled: the policy is rebuilt from `agent.yml`, and takes the arrays by their names.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from agents.loading import LoadedModel, load_model, untrained_model
from agents.run_folder import find_saved_run, load_settings
from agents.vector_env import make_native_vec_env
from kml_envs.errors import UserError, in_one_line, unknown_name
from kml_envs.files import DAMAGE, write_text

FOLDER = Path(__file__).parent / "trained"
SETTINGS, CARD = "agent.yml", "README.md"


@dataclass(frozen=True)
class ShippedAgent:
    """What is known of a shipped agent without loading its parameters.

    Attributes:
        name: As in `--agent`, without a seed.
        folder: Its files.
        env_id: The environment that it was trained on.
        env_kwargs: That environment's arguments, but for workloads and mode.
        algo: The algorithm.
        hyperparameters: As the run's `config.yml` has them.
        workloads: What it was trained on: suites or workloads.
        suite_version: Of the workloads that it was trained on.
        seeds: Training seeds, the best on the validation workloads first.
        steps: Steps of each seed's model.
    """

    name: str
    folder: Path
    env_id: str
    env_kwargs: Mapping[str, Any]
    algo: str
    hyperparameters: Mapping[str, Any]
    workloads: tuple[str, ...]
    suite_version: int
    seeds: tuple[int, ...]
    steps: tuple[int, ...]

    def load(self, seed: int | None = None, env_kwargs: Mapping[str, Any] | None = None) -> LoadedModel:
        """The agent of one training seed, ready to recommend.

        Args:
            seed: Training seed; None: the first.
            env_kwargs: Replace single arguments of its environment.

        Raises:
            UserError: There is no such seed, or the parameters do not fit this version of the environment.
        """
        seed = self.seeds[0] if seed is None else seed
        if seed not in self.seeds:
            raise unknown_name(f"training seed of {self.name}", str(seed), map(str, self.seeds))
        kwargs = {**self.env_kwargs, **(env_kwargs or {})}
        environment = make_native_vec_env(self.env_id, 1, {**kwargs, "efficiency": "none"})
        model = untrained_model(self.algo, self.env_id, self.hyperparameters, environment)
        environment.close()
        with np.load(weights_path(self.folder, seed), allow_pickle=False) as arrays:
            parameters = {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
        try:
            model.policy.load_state_dict(parameters)
        except RuntimeError as error:
            raise UserError(
                f"agent '{self.name}' does not fit {self.env_id} with {kwargs}: {in_one_line(error)}"
            ) from None
        return LoadedModel(model, self.algo, self.env_id, kwargs, self.steps[self.seeds.index(seed)])


def shipped_names(folder: Path = FOLDER) -> tuple[str, ...]:
    """Names of all shipped agents."""
    return tuple(sorted(path.parent.name for path in folder.glob(f"*/{SETTINGS}")))


def find_agent(name: str, folder: Path = FOLDER) -> ShippedAgent:
    """Look a shipped agent up.

    Raises:
        UserError: There is none of this name.
    """
    if name not in shipped_names(folder):
        raise unknown_name("shipped agent", name, shipped_names(folder))
    settings = yaml.safe_load((folder / name / SETTINGS).read_text())
    return ShippedAgent(
        name,
        folder / name,
        settings["env"],
        settings["env_kwargs"],
        settings["algo"],
        settings["hyperparameters"],
        tuple(settings["workloads"]),
        settings["suite_version"],
        tuple(run["seed"] for run in settings["trainings"]),
        tuple(run["steps"] for run in settings["trainings"]),
    )


def load_agent(name: str, *, env_kwargs: Mapping[str, Any] | None = None, folder: Path = FOLDER) -> LoadedModel:
    """Load a shipped agent.

    Args:
        name: `lfs-tune`, or `lfs-tune:3` for the training seed 3.
        env_kwargs: Replace single arguments of its environment.
        folder: Where the agents lie.

    Raises:
        UserError: There is no such agent or seed.
    """
    name, colon, seed = name.partition(":")
    agent = find_agent(name, folder)
    if colon and not seed.isdecimal():
        raise unknown_name(f"training seed of {name}", seed, map(str, agent.seeds))
    return agent.load(int(seed) if colon else None, env_kwargs)


def check_complete(env_id: str | None, algo: str | None, trust: bool) -> None:
    """Refuse options that a shipped agent needs none of.

    Raises:
        UserError: One is given.
    """
    if env_id is not None or algo is not None or trust:
        raise UserError("--env, --algo and --trust do not go with --agent: it knows its environment and algorithm")


def export_agent(runs: Sequence[Path], name: str, folder: Path = FOLDER) -> ShippedAgent:
    """Ship the best models of some run folders, trained alike but for their seeds.

    An agent of the same name is replaced, but for its model card, which people write; where there is none, a draft is
    written.

    Args:
        runs: Run folders of `train.py`.
        name: What the agent is to be called.
        folder: Where agents lie.

    Raises:
        UserError: A run cannot be read, the runs differ in more than their seeds, or the folder cannot be written.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{,99}", name):
        raise UserError(f"'{name}': a shipped agent's name consists of small letters, digits and hyphens, at most 100")
    exports = [_read(run) for run in runs]
    common, seeds = exports[0].common, [export.training["seed"] for export in exports]
    for run, export in zip(runs, exports, strict=True):
        if different := [key for key, value in export.common.items() if value != common[key]]:
            raise UserError(f"{run}: differs from the other runs in {', '.join(different)}")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"the runs have the seeds {seeds}: each needs one of its own")
    exports.sort(key=lambda export: -export.validation_score)
    try:
        _write_agent(name, folder, {**common, "trainings": [export.training for export in exports]}, exports)
    except OSError as error:
        raise UserError(f"{folder / name}: {error.strerror}") from None
    return find_agent(name, folder)


def _write_agent(name: str, folder: Path, settings: Mapping[str, Any], exports: Sequence[_Export]) -> None:
    """Write an agent's files beside the one of the same name, and put them into its place."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / name
    card = place / CARD
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
        made, replaced = Path(temporary) / name, Path(temporary) / "replaced"
        made.mkdir()
        for export in exports:
            np.savez_compressed(weights_path(made, export.training["seed"]), **export.parameters)
        write_text(made / SETTINGS, yaml.safe_dump(dict(settings), sort_keys=False))
        write_text(made / CARD, card.read_text() if card.is_file() else draft_card(name, settings))
        # A folder cannot take another one's place at once: between the two renames there is none, and whoever is
        # interrupted there puts the old one back. After a kill it lies in the temporary folder.
        try:
            if place.exists():
                place.rename(replaced)
            made.rename(place)
        except BaseException:
            if replaced.exists() and not place.exists():
                replaced.rename(place)
            raise


def draft_card(name: str, settings: Mapping[str, Any]) -> str:
    """A model card with what the runs themselves tell; a person completes it."""
    seeds = ", ".join(str(run["seed"]) for run in settings["trainings"])
    steps = " and ".join(f"{steps:,}" for steps in sorted({run["steps"] for run in settings["trainings"]}))
    return f"""# {name}

{settings["algo"]} on `{settings["env"]}`.

## Training data

{", ".join(f"`{workload}`" for workload in settings["workloads"])} (version {settings["suite_version"]} of the suites).

## Seeds

Training seeds {seeds}, best on the validation workloads first; {steps} steps until the best model.

## Numbers

`python evaluate.py --suite {name}` prints them.

## In plain words

To be written: what `python evaluate.py --agent {name} --explain` shows.

## Limits

To be written.
"""


def weights_path(folder: Path, seed: int) -> Path:
    """The parameters of one training seed."""
    return folder / f"seed-{seed}.npz"


@dataclass(frozen=True)
class _Export:
    """A run folder, read: what it shares with the other seeds, and what is its own."""

    common: Mapping[str, Any]
    training: Mapping[str, Any]
    parameters: dict[str, Any]  # arrays by name
    validation_score: float


def _read(run: Path) -> _Export:
    """Read a run folder.

    Raises:
        UserError: It is none, or something in it is missing or damaged.
    """
    if not run.is_dir():
        found = "is a file, a run folder of train.py is needed" if run.exists() else "no such file or folder"
        raise UserError(f"{run}: {found}")
    described = sorted(run.glob("*/run.yml"))
    if len(described) != 1:
        raise UserError(f"{run}: is no run folder of train.py, which holds one */run.yml")
    loaded = load_model(run)
    saved = find_saved_run(run)
    origin = _read_settings(described[0], ("seed", "suite_version", "versions", "git_revision"))
    best = _best_score(run / "evaluations.npz")
    workloads = saved.arguments.get("env_kwargs", {}).get("workloads")
    if workloads is None:
        raise UserError(f"{run}: its args.yml does not say what it was trained on (env_kwargs: workloads)")
    hyperparameters = dict(saved.hyperparameters)
    if isinstance(hyperparameters.get("imitate"), str):  # a file of the training's own, which does not ship
        hyperparameters["imitate"] = True
    common = {
        "env": loaded.env_id,
        "env_kwargs": dict(loaded.env_kwargs),
        "algo": loaded.algo,
        "hyperparameters": hyperparameters,
        "workloads": [workloads] if isinstance(workloads, str) else list(workloads),
        "suite_version": origin["suite_version"],
        "versions": origin["versions"],
    }
    training = {
        "seed": origin["seed"],
        "steps": loaded.num_timesteps,
        "validation_score": round(best, 5),
        "git_revision": origin["git_revision"],
    }
    state = loaded.model.policy.state_dict()
    return _Export(common, training, {name: value.numpy() for name, value in state.items()}, best)


def _read_settings(path: Path, wanted: Sequence[str]) -> Mapping[str, Any]:
    """Read a YAML file of a run that says certain things."""
    settings = load_settings(path)
    if not isinstance(settings, Mapping) or not set(wanted) <= settings.keys():
        raise UserError(f"{path}: does not say {', '.join(wanted)}")
    return settings


def _best_score(path: Path) -> float:
    """The best mean score of a run's evaluations."""
    try:
        with np.load(path, allow_pickle=False) as evaluations:
            scores = np.asarray(evaluations["scores"], np.float64)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: only runs that were evaluated can be compared") from None
    except DAMAGE as error:
        raise UserError(f"{path}: holds no evaluations: {in_one_line(error)}") from None
    if scores.ndim != 2 or not scores.size or not np.isfinite(scores).all():
        raise UserError(f"{path}: holds no evaluations with finite scores")
    return float(scores.mean(axis=1).max())
