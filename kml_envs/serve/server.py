"""One event loop that drives the simulated kernel and answers for its files."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kml_envs.errors import UserError
from kml_envs.serve.channel import Channel
from kml_envs.serve.socket_server import serve_socket


@dataclass(frozen=True)
class Places:
    """Where a model is served.

    Attributes:
        socket_path: Path of a Unix-domain socket, or None.
        mount: Folder to mount on, or None.
        model: Name of the model's folder in the mount.
    """

    socket_path: Path | None = None
    mount: Path | None = None
    model: str = "model"

    def __post_init__(self) -> None:
        """Reject a server that nobody could reach.

        Raises:
            UserError: No place is given, or the model's name is no name of a folder.
        """
        if self.socket_path is None and self.mount is None:
            raise UserError("give --socket PATH, --mount FOLDER or both")
        if self.model in ("", ".", "..") or "/" in self.model:
            raise UserError(f"--model-name '{self.model}': must be the name of a folder")


def serve(channel: Channel, places: Places, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM, or until something breaks: that error is raised.

    Args:
        channel: The files.
        places: Where.
        ready: Called once agents can come.

    Raises:
        UserError: A place cannot be used.
    """
    if places.mount is not None:
        # Before the loop exists: without FUSE's libraries this raises.
        from kml_envs.serve.file_system import prepare

        prepare(places.mount)
    asyncio.run(_serve(channel, places, ready))
    if channel.failure is not None:
        raise channel.failure


async def _serve(channel: Channel, places: Places, ready: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    channel.failed = stop.set
    server = None
    try:
        if places.socket_path is not None:
            server = await serve_socket(channel, places.socket_path)
        driver = _Driver(channel, loop)
        if places.mount is None:
            ready()
            await stop.wait()
        else:
            from kml_envs.serve.file_system import mounted

            async with mounted(channel, places.mount, places.model) as gone:
                ready()
                ends = [asyncio.create_task(stop.wait()), gone]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                ends[0].cancel()
                if gone.done():
                    gone.result()
        driver.stop()
    finally:
        if server is not None:
            server.close()
            with suppress(FileNotFoundError):
                if places.socket_path is not None:
                    places.socket_path.unlink()


class _Driver:
    """Calls `advance` when the kernel is due, and never from more than one place at a time."""

    def __init__(self, channel: Channel, loop: asyncio.AbstractEventLoop) -> None:
        self._channel, self._loop = channel, loop
        self._timer: asyncio.TimerHandle | None = None
        self._at = float("inf")
        self._running = True
        channel.on_change(self._schedule)
        self._schedule()

    def stop(self) -> None:
        """Let no more time pass."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._timer, self._at = None, float("inf")
        try:
            self._channel.kernel.advance(self._channel.clock())
            self._channel.changed()
        except Exception as error:  # the event loop would only print it, and nobody would drive the kernel any more
            self._channel.fail(error)

    def _schedule(self) -> None:
        """Set the timer, unless one is set that fires early enough: a tick that comes too early does nothing."""
        due = self._channel.kernel.due
        if due is None or due >= self._at or not self._running or self._channel.failure is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at = due
        self._timer = self._loop.call_at(due, self._tick)
