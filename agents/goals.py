"""What a benchmark suite is to reach, as numbers."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kml_envs.proxy import ProxyOptions


class GoalKind(str, enum.Enum):
    """What a goal asks for."""

    BEST_OF_EACH = "gain over the best built-in algorithm of each workload"
    BEST_SINGLE_SHARE = "mean above that of the best single built-in algorithm, as a share of it"
    WORST_WORKLOAD = "gain over the best built-in algorithm on the worst workload"
    OWN_BUILTIN = "saved against the environment's own built-in algorithm"
    NORMALIZED_SCORE = "normalized score against the"
    SHARE_OF_ORACLE = "mean as a share of the clairvoyant oracle's"
    EXTRA_COST = (
        "extra cost under mode auto as a share of the built-in algorithm's cost, the largest over training seeds and "
        "workloads"
    )


@dataclass(frozen=True)
class Goal:
    """A number that the agent's runs are to reach.

    Attributes:
        kind: What is asked for.
        mark: How much, at least; of `EXTRA_COST` at most.
        of: Of `OWN_BUILTIN` the metric, of `NORMALIZED_SCORE` the oracle.
        workloads: Of `NORMALIZED_SCORE`: the only ones that count; none: all.
    """

    kind: GoalKind
    mark: float
    of: str = ""
    workloads: tuple[str, ...] = ()

    @property
    def at_most(self) -> bool:
        """Whether the mark is the most that is allowed, not the least that is wanted."""
        return self.kind is GoalKind.EXTRA_COST

    def is_reached(self, value: float) -> bool:
        """Whether a number that the runs reached is enough."""
        return value <= self.mark if self.at_most else value >= self.mark

    @property
    def text(self) -> str:
        """The goal in words."""
        what = f"{self.of}: {self.kind.value}" if self.kind is GoalKind.OWN_BUILTIN else f"{self.kind.value} {self.of}"
        return f"{what.strip()} on {', '.join(self.workloads)}" if self.workloads else what.strip()


DEPLOYMENT = Goal(GoalKind.EXTRA_COST, ProxyOptions.tolerance)
"""What mode `auto` promises: no more extra cost than its loss budget allows."""
