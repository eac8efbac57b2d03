"""How a subsystem is served."""

from __future__ import annotations

from dataclasses import dataclass

from kml_envs.errors import UserError


@dataclass(frozen=True)
class ServeOptions:
    """How a subsystem is served.

    Attributes:
        speed: Seconds of simulated time in a second of wall time, 1e-9 to 1e9; 0: as fast as the machine can.
        deadline_ms: Wall time from the publication of a data set until the built-in algorithm acts, in milliseconds.
        patience: Deadlines in a row that an agent may miss before it counts as absent.
    """

    speed: float = 1.0
    deadline_ms: float = 50.0
    patience: int = 3

    def __post_init__(self) -> None:
        """Reject times that cannot be.

        Raises:
            UserError: A number is out of range.
        """
        if self.speed != 0.0 and not 1e-9 <= self.speed <= 1e9:
            raise UserError(f"speed {self.speed}: must be 0 (as fast as possible) or lie in 1e-9..1e9")
        if not 0.0 < self.deadline_ms <= 1e6:
            raise UserError(f"deadline_ms {self.deadline_ms}: must lie above 0 and be at most 1e6")
        if self.patience < 1:
            raise UserError(f"patience {self.patience}: must be at least 1")
