"""The agent's side of the channel: the same few calls over a socket and over a mounted folder."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kml_envs.errors import UserError
from kml_envs.serve.channel import DATA_SET, LONGEST_WRITE, RECOMMENDATION
from kml_envs.serve.dataset import DataSet, unpack
from kml_envs.serve.socket_server import LENGTH, STATUS, Operation

_REPLY_TIMEOUT_S = 120  # longer than the longest wait
_WATCH_S = 200e-6 if hasattr(os, "sched_yield") else 0.0  # about twice what a decision takes
_LEAST_ROOM = 1 << 16  # for an answer


class ModelFiles(Protocol):
    """The files of one served model. Every call raises OSError where the server is gone or refuses."""

    def read(self, name: str) -> bytes:
        """The contents of a file; BlockingIOError where no new data set is published."""

    def write(self, name: str, text: bytes) -> None:
        """Write a file."""

    def write_and_read(self, written: str, text: bytes, read: str) -> bytes:
        """Write a file and then read another, in one round trip where the channel can; errors as of `read`."""

    def wait(self, name: str, timeout_s: float) -> bool:
        """Wait for news in a file: a new data set, or another text than the one read last."""

    def close(self) -> None:
        """Let go of the server."""


class SocketFiles:
    """The files behind a Unix-domain socket."""

    def __init__(self, path: Path) -> None:
        """Connect.

        Raises:
            OSError: Nobody listens there.
            UserError: Nobody ever could: the path is too long for a socket.
        """
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            # The kernel's own timeout: Python's would cost a system call before each of ours.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _REPLY_TIMEOUT_S, 0))
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            if error.errno is None:  # Python refuses what the system could not even be asked for
                raise UserError(f"--socket {path}: {error}") from None
            raise
        self._arrived = select.poll()
        self._arrived.register(self._socket, select.POLLIN)
        self._buffer = memoryview(bytearray(_LEAST_ROOM))
        self._begin = self._end = 0  # of what has been received and not yet looked at
        self._heads: dict[tuple[Operation, str], bytes] = {}

    def read(self, name: str) -> bytes:
        """The contents of a file."""
        return self._ask(Operation.READ, name)[1]

    def write(self, name: str, text: bytes) -> None:
        """Write a file."""
        self._ask(Operation.WRITE, name, text)

    def write_and_read(self, written: str, text: bytes, read: str) -> bytes:
        """Write a file and then read another: both requests go out in one message, and so do the answers."""
        self._socket.sendall(self._request(Operation.WRITE, written, text) + self._request(Operation.READ, read))
        answers = self._receive(), self._receive()
        for name, (status, _) in zip((written, read), answers, strict=True):
            _check(status, name)
        return answers[1][1]

    def wait(self, name: str, timeout_s: float) -> bool:
        """Wait for news in a file."""
        return self._ask(Operation.WAIT, name, LENGTH.pack(round(timeout_s * 1e3)))[0] == 1

    def list(self) -> dict[str, int]:
        """Permission bits of all files, by name."""
        lines = self._ask(Operation.LIST, "")[1].decode().splitlines()
        return {name: int(mode, 8) for mode, name in (line.split(" ", 1) for line in lines)}

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()

    def _ask(self, operation: Operation, name: str, rest: bytes = b"") -> tuple[int, bytes]:
        """One request and its answer."""
        self._socket.sendall(self._request(operation, name, rest))
        status, contents = self._receive()
        _check(status, name)
        return status, contents

    def _request(self, operation: Operation, name: str, rest: bytes = b"") -> bytes:
        head = self._heads.get((operation, name))
        if head is None:
            named = name.encode()
            head = self._heads[operation, name] = struct.pack("<BB", operation, len(named)) + named
        return LENGTH.pack(len(head) + len(rest)) + head + rest

    def _receive(self) -> tuple[int, bytes]:
        """The next answer: its status, and what follows that."""
        self._fill(LENGTH.size)
        (length,) = LENGTH.unpack_from(self._buffer, self._begin)
        self._fill(LENGTH.size + length)
        begin = self._begin + LENGTH.size
        self._begin = begin + length
        (status,) = STATUS.unpack_from(self._buffer, begin)
        return status, bytes(self._buffer[begin + STATUS.size : self._begin])

    def _fill(self, least: int) -> None:
        """Receive until the buffer holds so many bytes that nobody has looked at."""
        if self._end - self._begin >= least:
            return
        left = bytes(self._buffer[self._begin : self._end])
        if least > len(self._buffer):
            self._buffer = memoryview(bytearray(least))
        self._buffer[: len(left)] = left
        self._begin, self._end = 0, len(left)
        self._watch()
        while self._end < least:
            count = self._socket.recv_into(self._buffer[self._end :])
            if count == 0:
                raise ConnectionResetError(errno.ECONNRESET, "the server has closed the connection")
            self._end += count

    def _watch(self) -> None:
        """Look for an answer for a moment before sleeping until it comes.

        To be woken up costs as much as half a decision, and in between whoever shares the processor may have it.
        """
        until = time.perf_counter() + _WATCH_S
        while not self._arrived.poll(0) and time.perf_counter() < until:
            os.sched_yield()


class MountedFiles:
    """The files in a mounted folder, each held open from its first use on."""

    def __init__(self, folder: Path) -> None:
        """Look for the model.

        Args:
            folder: The model's own folder, or a mount in which there is only one.

        Raises:
            OSError: There is none.
        """
        self._folder = find_model(folder)
        self._descriptors: dict[str, int] = {}

    def read(self, name: str) -> bytes:
        """The contents of a file."""
        descriptor = self._descriptor(name)
        contents = os.pread(descriptor, LONGEST_WRITE, 0)
        while piece := os.pread(descriptor, LONGEST_WRITE, len(contents)) if len(contents) == LONGEST_WRITE else b"":
            contents += piece
        return contents

    def write(self, name: str, text: bytes) -> None:
        """Write a file."""
        os.pwrite(self._descriptor(name), text, 0)

    def write_and_read(self, written: str, text: bytes, read: str) -> bytes:
        """Write a file and then read another."""
        self.write(written, text)
        return self.read(read)

    def wait(self, name: str, timeout_s: float) -> bool:
        """Wait for news in a file."""
        poll = select.poll()
        poll.register(self._descriptor(name), select.POLLIN if name == DATA_SET else select.POLLPRI)
        return bool(poll.poll(timeout_s * 1e3))

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._descriptors.values():
            with suppress(OSError):  # it is closed all the same: that the server has gone is said by all other calls
                os.close(descriptor)
        self._descriptors.clear()

    def _descriptor(self, name: str) -> int:
        if name not in self._descriptors:
            path = self._folder / name
            access = {0o444: os.O_RDONLY, 0o400: os.O_RDONLY, 0o200: os.O_WRONLY}.get(path.stat().st_mode & 0o777)
            self._descriptors[name] = os.open(path, (os.O_RDWR if access is None else access) | os.O_NONBLOCK)
        return self._descriptors[name]


def connect(*, socket_path: Path | None = None, mount: Path | None = None) -> SocketFiles | MountedFiles:
    """Connect to a served model.

    Raises:
        OSError: There is none, or not yet.
        UserError: Not exactly one place is given, or none that could ever be served.
    """
    if (socket_path is None) == (mount is None):
        raise UserError("give either --mount or --socket")
    if socket_path is not None:
        return SocketFiles(socket_path)
    assert mount is not None
    return MountedFiles(mount)


def find_model(folder: Path) -> Path:
    """The folder of the one model in a mount.

    Raises:
        OSError: There is none, or more than one.
    """
    found = [path.parent for pattern in ("control", "*/*/control") for path in sorted(folder.glob(pattern))]
    if len(found) != 1:
        raise FileNotFoundError(errno.ENOENT, f"{len(found)} served models there, one is needed", str(folder))
    return found[0]


def next_data_set(files: ModelFiles, timeout_s: float) -> DataSet | None:
    """The next data set; None where none is published in time.

    Raises:
        OSError: The server is gone.
    """
    for attempt in (1, 2):
        try:
            return unpack(files.read(DATA_SET))
        except BlockingIOError:
            if attempt == 2 or not files.wait(DATA_SET, timeout_s):
                return None
    return None


def recommend(files: ModelFiles, generation: int, decision: npt.NDArray[np.generic] | int) -> None:
    """Recommend for the data set of that generation.

    Args:
        files: The model's files.
        generation: Of the data set.
        decision: A candidate, or (A,) numbers.

    Raises:
        OSError: The server is gone.
    """
    files.write(RECOMMENDATION, _recommendation(generation, decision))


def recommend_and_go_on(
    files: ModelFiles, generation: int, decision: npt.NDArray[np.generic] | int, timeout_s: float
) -> DataSet | None:
    """Recommend for the data set of that generation, and give the next one; None where none is published in time.

    Arguments and errors as of `recommend` and `next_data_set`. Where the next data set follows at once, a decision
    costs one round trip instead of two.
    """
    try:
        return unpack(files.write_and_read(RECOMMENDATION, _recommendation(generation, decision), DATA_SET))
    except BlockingIOError:
        return next_data_set(files, timeout_s)


def _recommendation(generation: int, decision: npt.NDArray[np.generic] | int) -> bytes:
    numbers = np.atleast_1d(decision).tolist()
    return " ".join([str(generation), *(f"{number:.9g}" for number in numbers)]).encode()


def _check(status: int, name: str) -> None:
    """Raise what an answer's status stands for."""
    if status < 0:
        raise OSError(-status, os.strerror(-status), name)


def read_feedback(files: ModelFiles) -> dict[str, str]:
    """What came of the last decision, by name; empty before the first."""
    text = files.read("feedback").decode()
    return dict(word.split("=", 1) for word in text.split() if "=" in word)
