"""One training's folder, in RL Zoo's layout: `LOG_FOLDER/ALGO/ENV_n/`.

```
logs/ppo/kml-LfsTune-v0_1/
  best_model.zip            the model that did best on the validation workloads
  kml-LfsTune-v0.zip        the model at the end
  rl_model_10240_steps.zip  checkpoints; beside each model, NAME.rewards.npz holds the scale of its rewards
  evaluations.npz           results of all evaluations
  0.monitor.csv             one line per training episode
  kml-LfsTune-v0/           args.yml, config.yml, command.txt, run.yml
  tensorboard/              event files
```

Every file is written under a temporary name and renamed (`kml_envs.files`).
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kml_envs import __version__
from kml_envs.errors import UserError, in_one_line
from kml_envs.files import make_writable_folder, write_text
from kml_envs.suites import SUITE_VERSION

TRAINING_ONLY = ("workloads", "mode", "efficiency")
"""Arguments of the environment of a run that do not hold where its agent plays afterwards."""

_PACKAGES = ("gymnasium", "numba", "numpy", "sb3-contrib", "stable-baselines3", "tensorboard", "torch")


@dataclass(frozen=True)
class RunFolder:
    """Where one run leaves its files.

    Attributes:
        path: `LOG_FOLDER/ALGO/ENV_n`.
        env_name: The environment's id with "-" for "/".
    """

    path: Path
    env_name: str

    @classmethod
    def create(cls, log_folder: Path, algo: str, env_id: str) -> RunFolder:
        """Make the next free folder.

        Raises:
            UserError: The folder cannot be written.
        """
        env_name = env_id.replace("/", "-")
        try:
            folder = cls(_next_free(log_folder / algo, env_name), env_name)
            folder.config.mkdir()
        except OSError as error:
            raise UserError(f"--log-folder {log_folder}: {error.strerror}") from None
        return folder

    @property
    def config(self) -> Path:
        """Where arguments and hyperparameters stand."""
        return self.path / self.env_name

    @property
    def best_model(self) -> Path:
        """The model that did best on the validation workloads."""
        return self.path / "best_model.zip"

    @property
    def final_model(self) -> Path:
        """The model at the end."""
        return self.path / f"{self.env_name}.zip"

    def checkpoint(self, steps: int) -> Path:
        """The model after so many steps."""
        return self.path / f"rl_model_{steps}_steps.zip"

    def describe(self, arguments: Mapping[str, Any], hyperparameters: Mapping[str, Any], seed: int) -> None:
        """Write down how the run came to be."""
        _write_yaml(self.config / "args.yml", arguments)
        _write_yaml(self.config / "config.yml", hyperparameters)
        write_text(self.config / "command.txt", shlex.join([Path(sys.executable).name, *sys.argv]) + "\n")
        _write_yaml(self.config / "run.yml", {"seed": seed, "suite_version": SUITE_VERSION, **provenance()})


def check_event_folder(folder: Path) -> None:
    """Make the folder that TensorBoard looks at, or see that it can be written into.

    Raises:
        UserError: It cannot.
    """
    make_writable_folder(folder, "--tensorboard-log")


def make_event_folder(folder: Path, algo: str, env_name: str) -> Path:
    """Make the next free folder of a run's event files, whatever folder its models go to."""
    return _next_free(folder / env_name, algo)


@dataclass(frozen=True)
class SavedRun:
    """A model on disk and the run that it came from.

    Attributes:
        model: The zip file.
        num_timesteps: Steps that it was trained for.
        arguments: The run's `args.yml`; empty where the model stands alone.
        hyperparameters: The run's `config.yml`; empty likewise.
    """

    model: Path
    num_timesteps: int
    arguments: Mapping[str, Any]
    hyperparameters: Mapping[str, Any]


def find_saved_run(model: Path) -> SavedRun:
    """Look at a saved model, without running anything that its file contains.

    Args:
        model: A zip file, or a run folder, whose newest model is meant.

    Raises:
        UserError: There is no model, or the settings of its run cannot be read.
    """
    if model.is_dir():
        # Of equal steps the later one has been trained more. A dot stands before what was never finished.
        found = sorted(model.glob("[!.]*.zip"), key=lambda path: (saved_steps(path), path.stat().st_mtime_ns))
        if not found:
            raise UserError(f"{model}: holds no saved model (*.zip)")
        model = found[-1]
    steps = saved_steps(model)
    configs = sorted(model.parent.glob("*/config.yml"))
    if not configs:
        return SavedRun(model, steps, {}, {})
    return SavedRun(model, steps, _read_yaml(configs[0].with_name("args.yml")), _read_yaml(configs[0]))


def load_settings(path: Path) -> object:
    """What a YAML file of a run holds, whatever that is.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return yaml.safe_load(path.read_text())
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the settings of the run cannot be read: {in_one_line(error)}") from None


def saved_steps(model: Path) -> int:
    """Steps that a saved model was trained for.

    Raises:
        UserError: The file is no model of Stable-Baselines3.
    """
    try:
        with zipfile.ZipFile(model) as archive:
            return int(json.loads(archive.read("data"))["num_timesteps"])
    except FileNotFoundError:
        raise UserError(f"{model}: no such file") from None
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError):
        raise UserError(f"{model}: is not a model saved by Stable-Baselines3") from None


def provenance() -> dict[str, Any]:
    """Which code ran, on what: git revision (None outside a checkout), package versions, Python and machine kind."""
    versions = {"kml_envs": __version__}
    versions |= {package: importlib.metadata.version(package) for package in _PACKAGES}
    return {
        "git_revision": _git_revision(),
        "versions": versions,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _git_revision() -> str | None:
    """The commit of the checkout that this file stands in, with "-dirty" where it was changed."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def _write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, yaml.safe_dump(dict(values), sort_keys=True))


def _read_yaml(path: Path) -> Mapping[str, Any]:
    values = load_settings(path)
    if not isinstance(values, Mapping):
        raise UserError(f"{path}: the settings of the run are not a mapping of names to values")
    return values


def _next_free(parent: Path, name: str) -> Path:
    """Make `NAME_n` in a folder, n being above all that are there."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 1 + max((_number(path.name, name) for path in parent.iterdir()), default=0)
    while True:
        try:
            (parent / f"{name}_{number}").mkdir()
        except FileExistsError:  # another training took it just now
            number += 1
        else:
            return parent / f"{name}_{number}"


def _number(found: str, name: str) -> int:
    """The n of `NAME_n`, 0 for other names."""
    match = re.fullmatch(rf"{re.escape(name)}_(\d+)", found)
    return int(match[1]) if match else 0
