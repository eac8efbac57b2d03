"""Runs a command under strace and keeps the system calls that decide which blocks are written."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kml_envs.errors import UserError

# A call that this kernel or strace does not know is skipped because of the question mark.
TRACED_CALLS = (
    "open openat creat dup dup2 dup3 lseek "
    "write pwrite64 writev pwritev pwritev2 sendfile copy_file_range "
    "ftruncate truncate fallocate fsync fdatasync sync_file_range sync syncfs "
    "rename renameat renameat2 link linkat unlink unlinkat "
    "chdir fchdir clone clone3 fork vfork"
).split()


def capture(command: Sequence[str], log: Path) -> None:
    """Run a command and all its children under strace.

    Args:
        command: Program and arguments.
        log: Where strace writes its lines; overwritten.

    Raises:
        UserError: strace is not installed, or the command failed.
    """
    if shutil.which("strace") is None:
        raise UserError("strace is not installed: on Debian, apt-get install strace")
    status = subprocess.call([*strace_arguments(log), *command])
    if status != 0:
        raise UserError(f"the recorded command ended with status {status}: {' '.join(command)}")


def strace_arguments(log: Path) -> list[str]:
    """Return strace's command line up to the recorded command.

    Args:
        log: Where strace writes its lines.
    """
    return [
        "strace",
        "--follow-forks",
        # Only the traced calls stop the application: all others run at full speed.
        "--seccomp-bpf",
        "--absolute-timestamps=format:unix,precision:us",
        # Descriptors are printed with their paths.
        "--decode-fds=path",
        # The data is of no interest, and what an application stores is nobody's business.
        "--string-limit=0",
        "--signal=none",
        "--quiet=attach,exit,personality,thread-execve",
        f"--trace={','.join('?' + call for call in TRACED_CALLS)}",
        f"--output={log}",
    ]
