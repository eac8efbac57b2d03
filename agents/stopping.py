"""A clean stop upon SIGINT and SIGTERM: what goes on looks at a request, and ends where nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sb3_contrib import ARS
from stable_baselines3.common.callbacks import BaseCallback


class Stopped(Exception):  # noqa: N818 (not an error)
    """Somebody asked the training to stop, and what was going on has been given up."""


class StopRequest:
    """Whether somebody asked the training to stop.

    Attributes:
        signal_name: `SIGINT` or `SIGTERM`; empty while nobody has.
    """

    def __init__(self) -> None:
        """Nobody has."""
        self.signal_name = ""

    def check(self) -> None:
        """Give up what is going on if somebody has.

        Raises:
            Stopped: Somebody has.
        """
        if self.signal_name:
            raise Stopped


@contextmanager
def stoppable() -> Iterator[StopRequest]:
    """Take SIGINT and SIGTERM for requests to stop; a second one acts at once, as usual."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may handle signals
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        request.signal_name = signal.Signals(number).name
        restore()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    for number in previous:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()


class Stop(BaseCallback):
    """Ends the training at the first step after a request; ARS, which asks no callback, by `Stopped`."""

    def __init__(self, request: StopRequest) -> None:
        """Watch a request."""
        super().__init__()
        self.request = request

    def _on_step(self) -> bool:
        if isinstance(self.model, ARS):
            self.request.check()
        return not self.request.signal_name
