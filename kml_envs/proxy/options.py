"""How a proxy is set up."""

from __future__ import annotations

from dataclasses import dataclass

from kml_envs.errors import UserError


@dataclass(frozen=True)
class ProxyOptions:
    """How a proxy is set up.

    Attributes:
        episode_progress: Progress after which an episode is over.
        mode: `emergency`, `learning`, `collaboration` or `recommendation`.
        share: The agent's share of the units; None: the mode's default.
        probes: In recommendation mode, leave one unit in 16 to the built-in algorithm.
        window: Progress in one unit; needed where the mode or the efficiency works in units. For a cleaner of a
            log-structured file system at least two volumes of user writes: shorter windows reverse the truth.
        efficiency: `shadow`, `units` or `none`.
        keep_builtin_decision: Ask the built-in algorithm at every decision and report what it would have done.
    """

    episode_progress: int
    mode: str = "recommendation"
    share: float | None = None
    probes: bool = False
    window: int | None = None
    efficiency: str = "shadow"
    keep_builtin_decision: bool = False

    def __post_init__(self) -> None:
        """Reject an episode without progress."""
        if self.episode_progress < 1:
            raise UserError(f"an episode needs at least one unit of progress, got {self.episode_progress}")
