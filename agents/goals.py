"""What a benchmark suite is to reach, as numbers."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class GoalKind(str, enum.Enum):
    """What a goal asks for."""

    BEST_OF_EACH = "gain over the best built-in algorithm of each workload"
    BEST_SINGLE_SHARE = "mean above that of the best single built-in algorithm, as a share of it"
    WORST_WORKLOAD = "gain over the best built-in algorithm on the worst workload"
    OWN_BUILTIN = "saved against the environment's own built-in algorithm"
    NORMALIZED_SCORE = "normalized score against the"
    SHARE_OF_ORACLE = "mean as a share of the clairvoyant oracle's"


@dataclass(frozen=True)
class Goal:
    """A number that the agent's runs are to reach.

    Attributes:
        kind: What is asked for.
        least: How much, at least.
        of: Of `OWN_BUILTIN` the metric, of `NORMALIZED_SCORE` the oracle.
    """

    kind: GoalKind
    least: float
    of: str = ""

    @property
    def text(self) -> str:
        """The goal in words."""
        what = f"{self.of}: {self.kind.value}" if self.kind is GoalKind.OWN_BUILTIN else f"{self.kind.value} {self.of}"
        return what.strip()
