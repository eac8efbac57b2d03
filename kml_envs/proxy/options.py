"""How a proxy is set up."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from kml_envs.errors import UserError

WITHOUT_INFLUENCE = ("episode_progress", "latency", "deadline", "keep_builtin_decision")
"""Options that may change without what a mode has learned becoming void."""

LEAST_SHARE = 0.001
"""Of the units, for the agent: an environment runs through all others until it is asked."""

MOST_PROGRESS = 2**53
"""The largest number of an option in progress: sums of a few stay far below 2**63, and it is exact as float64."""


@dataclass(frozen=True)
class ProxyOptions:
    """How a proxy is set up.

    Attributes:
        episode_progress: Progress after which an episode is over.
        mode: `emergency`, `learning`, `collaboration` or `recommendation` fix it; with `auto` the proxy decides.
        share: The agent's share of the units; None: the mode's default. In mode `auto` that of learning.
        probes: In recommendation mode, leave one unit in 16 to the built-in algorithm.
        window: Progress in one unit; needed where the mode or the efficiency works in units. For a cleaner of a
            log-structured file system at least two volumes of user writes: shorter windows reverse the truth.
        efficiency: `shadow`, `units` or `none`.
        domains: Mode `auto`: instances that make up one volume and are compared with each other; 1: every instance is
            a volume, and its windows are compared.
        alpha: Mode `auto`: probability of ever trusting an agent without cause.
        tolerance: Mode `auto`: how much more than the built-in algorithm the agent may cost in all, as a share; also
            by how much it may be worse and still collaborate.
        latency: Progress that the subsystem makes while the agent thinks; the recommendation comes after that.
        deadline: Progress after which a recommendation is no longer waited for; None: there is no deadline.
        keep_builtin_decision: Ask the built-in algorithm at every decision and report what it would have done.
        least_window: Windows may not be shorter than this: the shortest that does not mislead.
    """

    episode_progress: int
    mode: str = "recommendation"
    share: float | None = None
    probes: bool = False
    window: int | None = None
    efficiency: str = "shadow"
    domains: int = 1
    alpha: float = 0.05
    tolerance: float = 0.03
    latency: int = 0
    deadline: int | None = None
    keep_builtin_decision: bool = False
    least_window: int = 1

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: A number is out of range.
        """
        for name in ("episode_progress", "window", "latency", "deadline"):
            if (getattr(self, name) or 0) > MOST_PROGRESS:
                raise UserError(f"{name} {getattr(self, name)}: must be at most 2**53")
        if self.episode_progress < 1:
            raise UserError(f"an episode needs at least one unit of progress, got {self.episode_progress}")
        if self.window is not None and self.window < self.least_window:
            raise UserError(
                f"window {self.window}: at least {self.least_window}, because shorter ones reverse the truth"
            )
        if self.latency < 0 or (self.deadline is not None and self.deadline < 0):
            raise UserError(f"latency {self.latency} and deadline {self.deadline}: must not be negative")
        if not 0.0 < self.alpha < 1.0 or not 0.0 < self.tolerance < 1.0:
            raise UserError(f"alpha {self.alpha} and tolerance {self.tolerance}: both must lie between 0 and 1")
        if self.share is not None and 0.0 < self.share < LEAST_SHARE:
            raise UserError(
                f"share {self.share}: must be 0 or at least {LEAST_SHARE}, or the agent is hardly ever asked"
            )
        if self.mode == "auto" and self.share is not None and not 0.0 < self.share < 1.0:
            raise UserError(
                f"mode 'auto' needs both sides while it learns: share {self.share} must lie between 0 and 1"
            )

    def same_modes(self, other: ProxyOptions) -> bool:
        """Whether modes work under both in the same way, so that evidence gathered under one counts under the other."""
        return replace(self, **{name: getattr(other, name) for name in WITHOUT_INFLUENCE}) == other


def timing(latency_us: float, deadline_us: float | None, unit_us: float) -> tuple[int, int | None]:
    """An agent's latency and its deadline in progress, rounded so that the later one stays the later one.

    Args:
        latency_us: Time that the agent takes, in microseconds.
        deadline_us: Time that it has; None: there is no deadline.
        unit_us: Time that one unit of progress takes.

    Returns:
        `ProxyOptions.latency` and `deadline`; the agent misses it if and only if it takes longer than it has.
    """
    latency = math.ceil(latency_us / unit_us)
    if deadline_us is None:
        return latency, None
    deadline = math.floor(deadline_us / unit_us)
    return latency, max(deadline, latency) if latency_us <= deadline_us else min(deadline, latency - 1)
