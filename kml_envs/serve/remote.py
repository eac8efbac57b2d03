"""A served model as a Gymnasium environment: an agent learns from a kernel that does not wait for it.

Between two steps the kernel may have decided without the agent, which then learns from its own decisions only: the
reward of one that came too late is 0. A server that goes away ends the episode, and the next `reset` waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from kml_envs.proxy.specs import BoolArray
from kml_envs.serve.client import ModelFiles, next_data_set, read_feedback, recommend
from kml_envs.serve.dataset import DataSet

Observation = npt.NDArray[np.float32]
RETRY_S = 0.2
_POLL_S = 1.0


class StopServing(Exception):  # noqa: N818 (no error)
    """Whoever runs the agent wants it to end."""


class ServedEnv(gymnasium.Env[Any, Any]):
    """The agent's side of a served model.

    Spaces are those of the model, whose `dataset_schema` must agree. A step sends a recommendation and waits for the
    next data set. Episodes are the simulation's; the observation at the end of one is the first of the next, as there
    is no last data set. `info` holds `verdict` and `acted_by_agent`.
    """

    def __init__(
        self,
        connect: Callable[[], ModelFiles],
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare to connect; the first `reset` does.

        Args:
            connect: Connects to the server; OSError where it is not there yet.
            observation_space: Of the model.
            action_space: Of the model.
            stopped: Asked while waiting; once it is true, `StopServing` is raised.
        """
        self.observation_space, self.action_space = observation_space, action_space
        self._connect, self._stopped = connect, stopped
        self._files: ModelFiles | None = None
        self._data_set: DataSet | None = None
        self._unanswered: DataSet | None = None  # the same, until it is answered

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The data set that is not answered yet, or else the next one; the episodes' seeds are the server's."""
        super().reset(seed=seed)
        if self._files is not None and self._unanswered is not None:
            return self._unanswered.features, {}
        while True:
            try:
                return self._next().features, {}
            except OSError:
                self.close()
                time.sleep(RETRY_S)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:  # noqa: ANN401
        """Recommend, and wait for the next data set."""
        answered = self._data_set
        if answered is None:
            raise RuntimeError("reset() must come before step()")
        try:
            if self._files is None:
                raise ConnectionError("the server is gone")
            self._unanswered = None
            recommend(self._files, answered.generation, action)
            following = self._next()
            feedback = read_feedback(self._files)
        except OSError:
            self.close()
            return answered.features, 0.0, False, True, {}
        if feedback.get("generation") != str(answered.generation):
            return following.features, 0.0, False, False, {"verdict": "deadline_missed", "acted_by_agent": False}
        info = {"verdict": feedback["verdict"], "acted_by_agent": feedback["acted"] == "agent"}
        return following.features, float(feedback["reward"]), False, feedback["finished"] == "1", info

    def action_masks(self) -> BoolArray:
        """(K,) bool, the candidates that may be chosen now. For choices only."""
        if self._data_set is None or self._data_set.mask is None:
            raise AttributeError("action masks exist only where a data set offers candidates")
        return self._data_set.mask

    def close(self) -> None:
        """Let go of the server."""
        self._unanswered = None
        if self._files is not None:
            self._files.close()
            self._files = None

    def _next(self) -> DataSet:
        """The next data set, however long it takes."""
        while True:
            if self._stopped():
                raise StopServing
            if self._files is None:
                self._files = self._connect()
            data_set = next_data_set(self._files, _POLL_S)
            if data_set is not None:
                self._data_set = self._unanswered = data_set
                return data_set
