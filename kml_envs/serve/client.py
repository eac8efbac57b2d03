"""The agent's side of the channel: the same few calls over a socket and over a mounted folder."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kml_envs.errors import UserError
from kml_envs.serve.channel import DATA_SET, LONGEST_WRITE, RECOMMENDATION
from kml_envs.serve.dataset import DataSet, unpack
from kml_envs.serve.socket_server import LENGTH, STATUS, Operation

_REPLY_TIMEOUT_S = 120  # longer than the longest wait


class ModelFiles(Protocol):
    """The files of one served model. Every call raises OSError where the server is gone or refuses."""

    def read(self, name: str) -> bytes:
        """The contents of a file; BlockingIOError where no new data set is published."""

    def write(self, name: str, text: bytes) -> None:
        """Write a file."""

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
        """
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            # The kernel's own timeout: Python's would cost a system call before each of ours.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _REPLY_TIMEOUT_S, 0))
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def read(self, name: str) -> bytes:
        """The contents of a file."""
        return self._ask(Operation.READ, name)[1]

    def write(self, name: str, text: bytes) -> None:
        """Write a file."""
        self._ask(Operation.WRITE, name, text)

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
        named = name.encode()
        request = struct.pack("<BB", operation, len(named)) + named + rest
        self._socket.sendall(LENGTH.pack(len(request)) + request)
        answer = self._receive(LENGTH.size)
        whole = LENGTH.size + LENGTH.unpack_from(answer)[0]
        if len(answer) < whole:
            answer += self._receive(whole - len(answer))
        (status,) = STATUS.unpack_from(answer, LENGTH.size)
        if status < 0:
            raise OSError(-status, os.strerror(-status), name)
        return status, answer[LENGTH.size + STATUS.size :]

    def _receive(self, least: int) -> bytes:
        """What has come, at least so many bytes; never more than the one answer that is due."""
        received = b""
        while len(received) < least:
            piece = self._socket.recv(LONGEST_WRITE)
            if not piece:
                raise ConnectionResetError(errno.ECONNRESET, "the server has closed the connection")
            received += piece
        return received


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

    def wait(self, name: str, timeout_s: float) -> bool:
        """Wait for news in a file."""
        poll = select.poll()
        poll.register(self._descriptor(name), select.POLLIN if name == DATA_SET else select.POLLPRI)
        return bool(poll.poll(timeout_s * 1e3))

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._descriptors.values():
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
        UserError: Not exactly one place is given.
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
    numbers = np.atleast_1d(decision).tolist()
    files.write(RECOMMENDATION, " ".join([str(generation), *(f"{number:.9g}" for number in numbers)]).encode())


def read_feedback(files: ModelFiles) -> dict[str, str]:
    """What came of the last decision, by name; empty before the first."""
    text = files.read("feedback").decode()
    return dict(word.split("=", 1) for word in text.split() if "=" in word)
