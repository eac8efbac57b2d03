"""The one implementation of beginning an episode and of a step; single and vector environments are faces of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kml_envs.errors import UserError
from kml_envs.proxy import BatchedSubsystem, Choice, MLModelProxy, ProxyOptions, Snapshot
from kml_envs.proxy.lifecycle import LifeCycleState
from kml_envs.proxy.modes import AUTO
from kml_envs.proxy.specs import Array, BoolArray, FloatArray


class Episodes:
    """N episodes behind one proxy, each at its own point.

    Attributes:
        proxy: The proxy, started.
        decide: The proxy's own, see there.
        info_decisions: Whether the built-in algorithm's decision is kept.
        passes_over_unasked: Whether episodes in which the mode's draw gives the agent no unit are passed over.
    """

    def __init__(self, subsystem: BatchedSubsystem, options: ProxyOptions, info_decisions: bool) -> None:
        """Put the subsystem behind a proxy and start it.

        Raises:
            UserError: The options contradict each other.
        """
        if not isinstance(info_decisions, bool):
            raise UserError(f"info_decisions {info_decisions!r}: must be true or false")
        self.info_decisions = info_decisions
        self.passes_over_unasked = True
        self.proxy = MLModelProxy(subsystem)
        self.proxy.initialize(replace(options, keep_builtin_decision=info_decisions))
        self.proxy.start()
        self.decide = self.proxy.decide
        self._snapshot: Snapshot | None = None
        self._saved_before: FloatArray = np.zeros(subsystem.instances)  # in the episodes before the running one

    def begin(self, rows: BoolArray, generators: Sequence[np.random.Generator], forget: BoolArray) -> Snapshot:
        """Begin an episode in the rows, each drawn from its own generator, and look at all rows.

        Episodes that the mode's draw gives to the built-in algorithm altogether run through, and the next one begins,
        so that no step of the agent is spent on them; unless they are not to be passed over.
        """
        self._reset(rows & forget, generators, True)
        self._reset(rows & ~forget, generators, False)
        while self.passes_over_unasked and np.count_nonzero(unasked := rows & self.proxy.unasked):
            self._reset(unasked, generators, False)
        return self.observe()

    def observe(self) -> Snapshot:
        """Look at all rows."""
        self._snapshot = self.proxy.observe()
        return self._snapshot

    def action_masks(self) -> BoolArray:
        """(N, K) bool, a new array."""
        accepted = self.proxy.subsystem.recommendation
        if not isinstance(accepted, Choice):
            raise UserError("action masks exist only where the agent is asked to choose among candidates")
        if self._snapshot is None or self._snapshot.mask is None:
            return np.ones((self.proxy.subsystem.instances, accepted.count), dtype=np.bool_)
        return self._snapshot.mask.copy()

    def summary(self) -> dict[str, Array]:
        """(N,) each, new arrays: what there is to say at the end of an episode."""
        metrics = {name: np.array(value) for name, value in self.proxy.subsystem.metrics().items()}
        if self.proxy.options.mode == AUTO:
            metrics |= self.proxy.controller.report()
        return {"efficiency": self._saved_total() - self._saved_before, **metrics}

    def close(self) -> None:
        """End the proxy's life, once."""
        if (self.proxy.life_cycle.state != LifeCycleState.SHUTTING_DOWN).any():
            self.proxy.stop()
            self.proxy.shut_down()

    def _reset(self, rows: BoolArray, generators: Sequence[np.random.Generator], forget: bool) -> None:
        """Reset the rows in the proxy, each with a seed from its own generator."""
        if not np.count_nonzero(rows):
            return
        seeds = np.zeros(len(rows), dtype=np.uint64)
        for row in np.flatnonzero(rows):
            seeds[row] = generators[int(row)].integers(2**63)
        self._saved_before[rows] = 0.0 if forget else self._saved_total()[rows]
        self.proxy.reset(rows, seeds, forget)

    def _saved_total(self) -> FloatArray:
        """(N,) cost saved over all episodes, by either side."""
        return self.proxy.statistics.saved_by_agent + self.proxy.statistics.saved_by_builtin
