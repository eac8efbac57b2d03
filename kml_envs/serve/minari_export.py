"""Recorded decisions as a data set of Minari, for libraries that learn offline from those."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from kml_envs.errors import UserError
from kml_envs.proxy.specs import Array
from kml_envs.serve.recording import Recording, read_recording


def export(folder: Path, name: str) -> int:
    """Write a recording as a data set of Minari, into the folder that Minari keeps its data sets in.

    Actions are the decisions that were carried out, whoever made them. An episode's last observation is its last but
    one once more, because nobody is asked at the end.

    Args:
        folder: The recording.
        name: Of the data set, such as `kml/lfs-victim-v0`.

    Returns:
        The number of episodes.

    Raises:
        UserError: Minari is not installed, the recording is none, or Minari refuses it.
    """
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError as error:
        raise UserError(f"exporting needs Minari: pip install 'kml_envs[minari]' ({error})") from None
    recording = read_recording(folder)
    buffers = [
        EpisodeBuffer(
            id=number,
            observations=np.concatenate([features, features[-1:]]),
            actions=actions,
            rewards=rewards,
            terminations=np.zeros(len(rewards), np.bool_),
            truncations=np.arange(1, len(rewards) + 1) == len(rewards),
        )
        for number, (features, actions, rewards) in enumerate(episodes(recording))
    ]
    try:
        minari.create_dataset_from_buffers(
            dataset_id=name,
            buffer=buffers,
            observation_space=_observation_space(recording),
            action_space=_action_space(recording),
            description=f"decisions of {recording.about['environment']}",
        )
    except ValueError as error:
        raise UserError(f"Minari refuses '{name}': {' '.join(str(error).split())}") from None
    return len(buffers)


def episodes(recording: Recording) -> Iterator[tuple[Array, Array, Array]]:
    """Features (T, F), decisions (T,) or (T, A) and rewards (T,) of every episode, some of which may be cut short."""
    columns = recording.columns
    actions = columns["executed_decision"]
    if np.isnan(actions.astype(np.float64)).any():
        raise UserError("some decisions of the built-in algorithm are no recommendations: nothing to export them as")
    if actions.ndim == 2:
        actions = actions.astype(np.float32)
    order = np.lexsort((columns["episode"], columns["row"]))  # which leaves the decisions of an episode in order
    begins = np.diff(columns["row"][order]) | np.diff(columns["episode"][order])
    for rows in np.split(order, np.flatnonzero(begins) + 1):
        yield columns["features"][rows], actions[rows], columns["reward"][rows]


def _observation_space(recording: Recording) -> gymnasium.Space[Any]:
    features = recording.columns["features"]
    return gymnasium.spaces.Box(-np.inf, np.inf, features.shape[1:], np.float32)


def _action_space(recording: Recording) -> gymnasium.Space[Any]:
    asked = recording.about["recommendation"]
    if "choice" in asked:
        return gymnasium.spaces.Discrete(asked["choice"])
    return gymnasium.spaces.Box(-np.inf, np.inf, (len(asked["numbers"]),), np.float32)
