"""Whether there is an agent at all, as far as its channel can know."""

from __future__ import annotations

import math

HEARTBEAT_S = 1.0
"""Wall time after which an agent that has closed its files is gone, unless it has opened some again."""


class Heartbeat:
    """An agent's heart beats as long as it holds files open, and a little longer.

    Attributes:
        beating: Whether it did when last listened to; None: no agent has come yet.
    """

    def __init__(self) -> None:
        """Nobody has come yet."""
        self.beating: bool | None = None
        self._files = 0
        self._seen_at = math.inf

    def seen(self, now: float, files: int = 0) -> None:
        """An agent has shown itself, and holds so many more files open now, or fewer."""
        self._files += files
        self._seen_at = now

    def listen(self, now: float) -> bool:
        """Listen; returns whether that has changed anything."""
        before = self.beating
        if self._seen_at < math.inf:
            self.beating = self._files > 0 or now - self._seen_at < HEARTBEAT_S
        return before != self.beating
