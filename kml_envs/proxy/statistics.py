"""What a proxy counts: verdicts, operations and savings of either side, per instance."""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.proxy.specs import Array, BoolArray, FloatArray, IntArray
from kml_envs.proxy.verdict import ACCEPTED, Verdict, VerdictArray, count_verdicts


class Statistics:
    """Counters of N instances over all their episodes.

    Attributes:
        verdict_counts: (N, number of verdicts) int64.
        agent_operations: (N,) int64, decisions of the agent that were carried out.
        saved_by_agent: (N,) float64, cost saved in the agent's units.
        saved_by_builtin: (N,) float64, likewise in those of the built-in algorithm.
        past_operations: (N,) int64, operations of either side in episodes that are over.
    """

    def __init__(self, instances: int) -> None:
        """Begin at zero."""
        self.verdict_counts: IntArray = np.zeros((instances, len(Verdict)), dtype=np.int64)
        self._accepted = self.verdict_counts[:, ACCEPTED]  # a view
        self.agent_operations: IntArray = np.zeros(instances, dtype=np.int64)
        self.past_operations: IntArray = np.zeros(instances, dtype=np.int64)
        self.saved_by_agent: FloatArray = np.zeros(instances)
        self.saved_by_builtin: FloatArray = np.zeros(instances)

    def count_accepted(self) -> None:
        """The agent's recommendation was accepted in every row."""
        self.agent_operations += 1
        self._accepted += 1

    def count(self, verdict: VerdictArray, rows: BoolArray) -> None:
        """Count the verdicts (N,) of the given rows (N,)."""
        self.agent_operations += rows & (verdict == ACCEPTED)
        count_verdicts(self.verdict_counts, verdict, rows)

    def saved(self, saved: FloatArray, agent: BoolArray) -> None:
        """Add savings (N,) to the side that controls each row: the agent where `agent` (N,) is true."""
        _add_to_sides(saved, agent, self.saved_by_agent, self.saved_by_builtin)

    def forget(self, rows: BoolArray) -> None:
        """Set the counters of the rows back to zero."""
        for counter in (self.verdict_counts, self.agent_operations, self.past_operations):
            counter[rows] = 0
        self.saved_by_agent[rows] = 0.0
        self.saved_by_builtin[rows] = 0.0

    def table(self, operations: Array) -> dict[str, Array]:
        """All counters by name, for TensorBoard and tables.

        Args:
            operations: (N,) operations of either side in the running episodes.

        Returns:
            (N,) each, in new arrays.
        """
        table: dict[str, Array] = {
            "agent_operations": self.agent_operations.copy(),
            "builtin_operations": self.past_operations + operations - self.agent_operations,
            "saved_by_agent": self.saved_by_agent.copy(),
            "saved_by_builtin": self.saved_by_builtin.copy(),
        }
        for verdict in Verdict:
            table[f"verdict/{verdict.name.lower()}"] = self.verdict_counts[:, verdict].copy()
        return table


@compiled
def _add_to_sides(saved: Record, agent: Record, by_agent: Record, by_builtin: Record) -> None:
    for row in range(saved.size):
        if agent[row]:
            by_agent[row] += saved[row]
        else:
            by_builtin[row] += saved[row]
