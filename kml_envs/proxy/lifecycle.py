"""The life of a proxy and of its data set, as in ml-lib: states, legal calls, and errors that name both."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from kml_envs.proxy.specs import BoolArray


class LifeCycleState(IntEnum):
    """Where an instance of the proxy stands."""

    CREATED = 0
    INITIALIZED = 1
    STARTED = 2
    RUNNING = 3
    STOPPED = 4
    SHUTTING_DOWN = 5


class DataSetState(IntEnum):
    """Where an instance's data set stands."""

    ALLOCATED = 0
    """There is room for a data set, and none in it yet."""
    CLEAN = 1
    """Taken from the subsystem, nothing of it handed out."""
    EXTRACTED_PARTIALLY = 2
    EXTRACTED_COMPLETELY = 3
    OBSOLETE = 4
    """Discarded, or overtaken by an operation: recommendations for it are stale."""
    EXTRACTION_FAILURE = 5
    """The subsystem could not give a data set."""
    CORRUPTED = 6
    """The subsystem gave a data set that is not sound: recommendations for it are rejected."""


class LifeCycleError(RuntimeError):
    """A call that the state of an instance does not allow."""


_ALIVE = (LifeCycleState.INITIALIZED, LifeCycleState.STARTED, LifeCycleState.RUNNING, LifeCycleState.STOPPED)

TRANSITIONS: Mapping[str, Mapping[LifeCycleState, LifeCycleState]] = {
    "initialize": {LifeCycleState.CREATED: LifeCycleState.INITIALIZED},
    "start": {
        LifeCycleState.INITIALIZED: LifeCycleState.STARTED,
        LifeCycleState.STOPPED: LifeCycleState.STARTED,
    },
    "reset": {
        LifeCycleState.STARTED: LifeCycleState.RUNNING,
        LifeCycleState.RUNNING: LifeCycleState.RUNNING,
    },
    "prepare_dataset": {LifeCycleState.RUNNING: LifeCycleState.RUNNING},
    "discard_dataset": {
        LifeCycleState.RUNNING: LifeCycleState.RUNNING,
        LifeCycleState.STOPPED: LifeCycleState.STOPPED,
    },
    "decide": {LifeCycleState.RUNNING: LifeCycleState.RUNNING},
    "re_init": {state: state for state in _ALIVE},
    "stop": {
        LifeCycleState.STARTED: LifeCycleState.STOPPED,
        LifeCycleState.RUNNING: LifeCycleState.STOPPED,
    },
    "shut_down": {
        LifeCycleState.CREATED: LifeCycleState.SHUTTING_DOWN,
        LifeCycleState.INITIALIZED: LifeCycleState.SHUTTING_DOWN,
        LifeCycleState.STOPPED: LifeCycleState.SHUTTING_DOWN,
    },
}
"""For every call the states that allow it, and the state that follows."""


class LifeCycle:
    """The life cycle of N instances.

    Attributes:
        state: (N,) int8 `LifeCycleState`.
        all_running: Whether every instance is running; kept here so that the hot path need not look at N states.
    """

    def __init__(self, instances: int) -> None:
        self.state: npt.NDArray[np.int8] = np.full(instances, LifeCycleState.CREATED, dtype=np.int8)
        self.all_running = False

    def apply(self, call: str, rows: BoolArray | None = None) -> None:
        """Carry out a call: check that every row allows it, then move those rows on.

        Args:
            call: A key of `TRANSITIONS`.
            rows: (N,) bool, the instances the call is for; None: all.

        Raises:
            LifeCycleError: A row is in a state that does not allow the call; no row has moved then.
        """
        following = TRANSITIONS[call]
        if self.all_running and following.get(LifeCycleState.RUNNING) is LifeCycleState.RUNNING:
            return
        self.check(call, rows)
        concerned = np.ones(self.state.shape, dtype=np.bool_) if rows is None else rows
        before = self.state.copy()
        for state, after in following.items():
            self.state[concerned & (before == state)] = after
        self.all_running = bool((self.state == LifeCycleState.RUNNING).all())

    def check(self, call: str, rows: BoolArray | None = None) -> None:
        """Check that every row allows a call; arguments and errors as of `apply`."""
        following = TRANSITIONS[call]
        concerned = np.ones(self.state.shape, dtype=np.bool_) if rows is None else rows
        for state in np.unique(self.state[concerned]):
            if state not in following:
                row = int(np.flatnonzero(concerned & (self.state == state))[0])
                allowed = ", ".join(each.name.lower() for each in following)
                name = LifeCycleState(state).name.lower()
                raise LifeCycleError(f"{call}() while instance {row} is {name}: it is allowed while {allowed}")

    def check_any(self, call: str) -> None:
        """Check that a row allows a call for the whole batch, of which other rows may stand still.

        Raises:
            LifeCycleError: No row allows it.
        """
        if not self.all_running and not np.isin(self.state, list(TRANSITIONS[call])).any():
            self.check(call)

    def running(self) -> BoolArray:
        """(N,) bool: the instances that are running."""
        return np.asarray(self.state == LifeCycleState.RUNNING)
