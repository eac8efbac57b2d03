"""Decisions on disk: columns in `.npz` parts, and a JSON file that says what they are.

| column | shape | meaning |
| --- | --- | --- |
| row | (D,) int32 | instance of the subsystem; where it is served, domain of the volume |
| episode | (D,) int64 | of the row, counted from 0; the domains of a volume begin and end theirs together |
| generation, progress | (D,) int64 | of the data set; served subsystems only |
| features | (D, F) float32 | data set |
| mask | (D, K) bool | candidates that could be chosen; choices only |
| recommendation | (D,) or (D, A) float64 | what the agent sent; NaN where nothing readable came |
| executed_decision, builtin_decision | (D,) int64 or (D, A) float64 | what was done; what the built-in one wanted |
| verdict, mode | (D,) int8 | numbers whose names stand in the JSON file |
| acted_by_agent, finished | (D,) bool | who acted; whether the episode ended, with the last decision of all domains |
| reward | (D,) float64 | cost saved since the last decision, in units of `reward_scale` |

A part is written whole, so that a killed recorder loses the part that it was filling and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from kml_envs import __version__
from kml_envs.errors import UserError
from kml_envs.files import DAMAGE, write_arrays, write_text
from kml_envs.proxy import BatchedSubsystem, Choice, Feedback, Mode, Verdict
from kml_envs.proxy.specs import Array, Snapshot

FORMAT = 2
PART_DECISIONS = 8192


@dataclass(frozen=True)
class Decision:
    """One decision cycle, for those who keep records of them.

    Attributes:
        row: The instance.
        episode: Number of its episode, from 0.
        generation: Of the data set.
        progress: Work done for the user when the question came up.
        snapshot: The data set; None where nobody keeps records.
        recommendation: What the agent sent, as far as it could be read; None where nothing came.
        feedback: What came of it.
    """

    row: int
    episode: int
    generation: int
    progress: int
    snapshot: Snapshot | None
    recommendation: Sequence[object] | Array | None
    feedback: Feedback


class Recorder:
    """Writes decisions into a folder."""

    def __init__(
        self, folder: Path, environment: str, env_kwargs: Mapping[str, Any], subsystem: BatchedSubsystem
    ) -> None:
        """Look at the folder; `begin` makes it.

        Args:
            folder: New or empty.
            environment: Id of the environment.
            env_kwargs: Its arguments.
            subsystem: Whose decisions these are.

        Raises:
            UserError: The folder holds something, or cannot be looked at.
        """
        self._folder, self._begun = folder, False
        self._parts = self._count = 0
        self._waiting: list[Mapping[str, Array]] = []
        asked = subsystem.recommendation
        self._about = {
            "format": FORMAT,
            "kml_envs": __version__,
            "environment": environment,
            "env_kwargs": dict(env_kwargs),
            "features": list(subsystem.observation.names),
            "recommendation": {"choice": asked.count} if isinstance(asked, Choice) else {"numbers": list(asked.names)},
            "reward_scale": subsystem.reward_scale,
            "verdicts": {str(int(verdict)): verdict.name.lower() for verdict in Verdict},
            "modes": {str(int(mode)): mode.name.lower() for mode in Mode},
        }
        try:
            if folder.exists() and any(folder.iterdir()):
                raise UserError(f"--record {folder}: is not empty")
        except OSError as error:
            raise UserError(f"--record {folder}: {error.strerror}") from None

    def begin(self) -> None:
        """Make the folder, as soon as there will be decisions; otherwise it is made with the first part.

        Raises:
            UserError: It cannot be written.
        """
        if self._begun:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_text(self._folder / "metadata.json", json.dumps(self._about, indent=2, default=list) + "\n")
        except OSError as error:
            raise UserError(f"--record {self._folder}: {error.strerror}") from None
        self._begun = True

    def add(self, columns: Mapping[str, Array]) -> None:
        """Add decisions: (D, …) arrays by column, the same columns each time; they must not change later."""
        self._waiting.append(columns)
        self._count += len(columns["row"])
        if self._count >= PART_DECISIONS:
            self.flush()

    def add_decision(self, decision: Decision) -> None:
        """Add one decision of a served subsystem."""
        feedback, snapshot = decision.feedback, decision.snapshot
        assert snapshot is not None, "the kernel keeps it for who keeps records"
        columns = {
            "row": np.full(1, decision.row, np.int32),
            "episode": np.array([decision.episode]),
            "generation": np.array([decision.generation]),
            "progress": np.array([decision.progress]),
            "features": snapshot.features,
            "recommendation": _readable(decision.recommendation, feedback.decision.shape),
            "executed_decision": feedback.decision,
            "verdict": feedback.verdict,
            "mode": feedback.mode,
            "acted_by_agent": feedback.acted_by_agent,
            "finished": feedback.finished,
            "reward": feedback.reward,
        }
        if snapshot.mask is not None:
            columns["mask"] = snapshot.mask
        if feedback.builtin_decision is not None:
            columns["builtin_decision"] = feedback.builtin_decision
        self.add(columns)

    def flush(self) -> None:
        """Write what is waiting.

        Raises:
            UserError: It cannot be written; it is not tried again.
        """
        if self._waiting:
            self.begin()
            joined = {name: np.concatenate([part[name] for part in self._waiting]) for name in self._waiting[0]}
            self._count, self._waiting = 0, []
            try:
                write_arrays(self._folder / f"part-{self._parts:05}.npz", joined)
            except OSError as error:
                raise UserError(f"--record {self._folder}: {error.strerror}") from None
            self._parts += 1


@dataclass(frozen=True)
class Recording:
    """Recorded decisions.

    Attributes:
        about: What the JSON file says.
        columns: (D, …) arrays by name.
    """

    about: Mapping[str, Any]
    columns: Mapping[str, Array]


def read_recording(folder: Path) -> Recording:
    """Read all parts of a recording.

    Raises:
        UserError: There is none, or it is damaged.
    """
    try:
        about = json.loads((folder / "metadata.json").read_text())
        parts = [dict(np.load(path, allow_pickle=False)) for path in sorted(folder.glob("part-*.npz"))]
        if about["format"] != FORMAT:
            raise UserError(f"{folder}: format {about['format']} of recordings is not known, {FORMAT} is")
        if not parts:
            raise UserError(f"{folder}: holds no decisions")
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(f"{folder}: is no recording of decisions: {shorten(str(error), 200)}") from None
    return Recording(about, columns)


def _readable(recommendation: object, shape: tuple[int, ...]) -> Array:
    """What the agent sent, as numbers of the decision's shape; NaN where it was something else."""
    try:
        given = np.array(recommendation, np.float64)
    except (TypeError, ValueError, OverflowError):  # the last: a whole number beyond the range of float64
        return np.full(shape, np.nan)
    return given if given.shape == shape else np.full(shape, np.nan)
