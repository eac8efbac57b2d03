"""The channel over a Unix-domain stream socket.

Every message is a little-endian length of 4 bytes and as many bytes. A request is

| offset | type | field |
| --- | --- | --- |
| 0 | uint8 | operation: 1 read, 2 write, 3 wait, 4 list |
| 1 | uint8 | length n of the name |
| 2 | char[n] | name of the file, such as `control` |
| 2 + n | | write: what to write; wait: uint32, milliseconds at most; else nothing |

and every request gets one answer, in order:

| offset | type | field |
| --- | --- | --- |
| 0 | int32 | read, list: bytes that follow; write: bytes taken; wait: 1 with news, 0 without; or minus an errno |
| 4 | | read: the file; list: one line `MODE NAME` per file |

A read of `dataset` never waits: it answers minus EAGAIN where no new data set is published. `wait` does, and the
requests behind it wait with it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import struct
from enum import IntEnum
from pathlib import Path

from kml_envs.errors import UserError
from kml_envs.serve.channel import LONGEST_WRITE, RECOMMENDATION, Channel, Handle

LENGTH = struct.Struct("<I")
STATUS = struct.Struct("<i")
LONGEST_REQUEST = LONGEST_WRITE + 300
LONGEST_WAIT_MS = 60_000
_REQUESTS_PER_TURN = 64  # so that one client that floods leaves time for the kernel and for others
_MOST_OF_A_FILE = 1 << 24


class Operation(IntEnum):
    """What a request asks for."""

    READ = 1
    WRITE = 2
    WAIT = 3
    LIST = 4


_READ, _WRITE = int(Operation.READ), int(Operation.WRITE)


async def serve_socket(channel: Channel, path: Path) -> asyncio.AbstractServer:
    """Listen at a path; only its owner may connect.

    Raises:
        UserError: Somebody listens there already, or the path cannot be used.
    """
    _make_room(path)
    loop = asyncio.get_running_loop()
    before = os.umask(0o177)
    try:
        return await loop.create_unix_server(lambda: _Connection(channel, loop), str(path))
    except OSError as error:
        raise UserError(f"--socket {path}: {error.strerror or error}") from None
    finally:
        os.umask(before)


class _Connection(asyncio.BufferedProtocol):
    """One client: its open files, and the requests that it has sent, in a buffer that is allocated once."""

    def __init__(self, channel: Channel, loop: asyncio.AbstractEventLoop) -> None:
        self._channel, self._loop = channel, loop
        self._handles: dict[tuple[bytes, bool], Handle] = {}
        self._buffer = memoryview(bytearray(2 * (LENGTH.size + LONGEST_REQUEST)))
        self._begin = self._end = 0  # of what has been received and not yet answered
        self._replies: list[bytes] = []  # that have not been sent yet
        self._waiting: tuple[Handle, asyncio.TimerHandle] | None = None
        self._full = self._later = self._stuffed = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._channel.on_change(self._news)

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel.forget(self._news)
        for handle in self._handles.values():
            handle.close()
        if self._waiting is not None:
            self._waiting[1].cancel()
            self._waiting = None

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._begin > 0:
            left = self._end - self._begin
            if left > 0:
                self._buffer[:left] = bytes(self._buffer[self._begin : self._end])
            self._begin, self._end = 0, left
        return self._buffer[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        self._end += nbytes
        self._work()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._work()

    def _work(self) -> None:
        """Answer some of the requests that have come in whole."""
        self._later = False
        for _ in range(_REQUESTS_PER_TURN):
            if self._waiting is not None or self._full or self._transport.is_closing():
                break
            if (request := self._next_request()) is None:
                break
            self._answer(request)
        else:
            if not self._later:
                self._later = True
                self._loop.call_soon(self._work)
        self._send()
        if self._stuffed != (self._end - self._begin > LONGEST_REQUEST):
            self._stuffed = not self._stuffed
            (self._transport.pause_reading if self._stuffed else self._transport.resume_reading)()

    def _next_request(self) -> memoryview | None:
        """The next request that has come in whole; a sender of anything else is thrown out."""
        begin, received = self._begin + LENGTH.size, self._end - self._begin
        if received < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(self._buffer, self._begin)
        if not 2 <= length <= LONGEST_REQUEST:
            self._send()
            self._transport.close()
            return None
        if received < LENGTH.size + length:
            return None
        self._begin = begin + length
        return self._buffer[begin : begin + length]

    def _answer(self, request: memoryview) -> None:
        """Carry one request out."""
        operation, length = request[0], request[1]
        name, rest = bytes(request[2 : 2 + length]), bytes(request[2 + length :])
        try:
            if operation == _READ:
                contents = self._handle(name, reading=True).read(_MOST_OF_A_FILE)
                if contents is None:  # no new data set is published
                    self._reply(-errno.EAGAIN)
                else:
                    self._reply(len(contents), contents)
            elif operation == _WRITE:
                self._write(self._handle(name, writing=True), rest)
            elif operation == Operation.WAIT and len(rest) == LENGTH.size:
                self._wait(self._handle(name, reading=True), min(LENGTH.unpack(rest)[0], LONGEST_WAIT_MS))
            elif operation == Operation.LIST:
                lines = [f"{file.mode:04o} {each}\n" for each, file in self._channel.files.items()]
                self._reply(len(contents := "".join(lines).encode()), contents)
            else:
                self._reply(-errno.EINVAL)
        except Exception as error:  # whoever has asked is answered, whatever is wrong
            self._reply(-self._channel.answer(error))

    def _handle(self, name: bytes, *, reading: bool = False, writing: bool = False) -> Handle:
        """The client's opening of a file; it lasts as long as the connection."""
        handle = self._handles.get((name, writing))
        if handle is None:
            handle = self._channel.open(name.decode(errors="replace"), reading=reading, writing=writing)
            self._handles[name, writing] = handle
        return handle

    def _write(self, handle: Handle, text: bytes) -> None:
        """Take a text; a recommendation, which is never an error, is answered before what follows from it is simulated.

        So the agent can ask for the next data set in the meantime. Nobody sees a state in between: what it asks for
        comes after.
        """
        if handle.name == RECOMMENDATION:
            handle.check(text)
            self._reply(len(text))
            if self._begin == self._end:  # else the agent has asked already, and gets both answers at once
                self._send()
            try:
                handle.store(text)
            except Exception as error:  # has been answered already
                self._channel.fail(error)
        else:
            self._reply(handle.write(text))

    def _wait(self, handle: Handle, milliseconds: int) -> None:
        if handle.poll():
            self._reply(1)
        else:
            self._waiting = handle, self._loop.call_later(milliseconds / 1e3, self._wait_over, 0)

    def _wait_over(self, status: int) -> None:
        assert self._waiting is not None
        self._waiting[1].cancel()
        self._waiting = None
        self._reply(status)
        self._work()

    def _news(self) -> None:
        if self._waiting is not None and self._waiting[0].ready():
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        if self._waiting is None:
            return
        try:
            ready = self._waiting[0].ready()
        except Exception as error:  # whoever waits is answered, whatever is wrong
            self._wait_over(-self._channel.answer(error))
            return
        if ready:
            self._wait_over(1)

    def _reply(self, status: int, contents: bytes = b"") -> None:
        self._replies.append(LENGTH.pack(STATUS.size + len(contents)) + STATUS.pack(status) + contents)

    def _send(self) -> None:
        if self._replies:
            self._transport.write(b"".join(self._replies))
            self._replies.clear()


def _make_room(path: Path) -> None:
    """Remove the socket that a killed server left behind.

    Raises:
        UserError: It is in use, or something else stands there.
    """
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"--socket {path}: {error.strerror}") from None
    if not stat.S_ISSOCK(kind):
        raise UserError(f"--socket {path}: exists, and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise UserError(f"--socket {path}: a server is listening there already")
