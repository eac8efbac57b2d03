"""Starting the servers that are recorded, and waiting for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kml_envs.errors import UserError

SECONDS_TO_START = 60


def find_program(name: str, package: str, *directories: Path) -> str:
    """Return the path of a program.

    Args:
        name: The program.
        package: The Debian package that holds it, for the message.
        *directories: Looked into before the search path.

    Raises:
        UserError: It is not installed.
    """
    for directory in directories:
        if (directory / name).exists():
            return str(directory / name)
    found = shutil.which(name)
    if found is None:
        raise UserError(f"{name} is not installed: on Debian, apt-get install {package}")
    return found


def server_account(account: str, directory: Path) -> str | None:
    """Return the account to run a server as, and hand it the directory; None keeps the account of the caller.

    Database servers refuse to run as root.

    Args:
        account: The account that root gives way to.
        directory: The server's data directory.
    """
    if os.geteuid() != 0:
        return None
    shutil.chown(directory, account)
    return account


@contextmanager
def running_server(command: Sequence[str], ready: Callable[[], bool], account: str | None = None) -> Iterator[None]:
    """Start a server, wait until it answers, and stop it at the end.

    Args:
        command: Program and arguments; must stay in the foreground.
        ready: Whether it answers.
        account: Who it runs as; None is the caller.

    Raises:
        UserError: It ended or did not answer in time.
    """
    server = subprocess.Popen(command, user=account, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while not ready():
            if server.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"the server did not start: {' '.join(command)}")
            time.sleep(0.2)
        yield
    finally:
        server.terminate()
        server.wait()


def succeeds(command: Sequence[str]) -> bool:
    """Run a command silently and return whether its exit status is 0.

    Args:
        command: Program and arguments.
    """
    return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
