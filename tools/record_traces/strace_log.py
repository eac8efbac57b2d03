"""Reads a strace log and tells it as operations on files.

Three things are followed from line to line, because single lines do not tell them: calls of one thread that strace had
to interrupt ("unfinished", "resumed"), the position in every open file (a plain `write` does not name its offset), and
the current directory of every process (`unlink` may name a relative path). Threads share descriptors and directory with
their process, a forked process starts with a copy.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from tools.record_traces.file_operations import Action, FileOperation


def file_operations(lines: Iterable[str], parents: dict[int, Parent]) -> Iterator[FileOperation]:
    """Yield the file operations of a strace log, in the order of the log.

    Args:
        lines: The log, made with the options of `capture.strace_arguments`.
        parents: Who started whom, from `process_tree` over the same log.
    """
    reader = _Reader(parents)
    for line in lines:
        yield from reader.read(line)


@dataclass(frozen=True, slots=True)
class Parent:
    """Who started a thread.

    Attributes:
        process: The thread that called clone or fork.
        shares: Whether open files and current directory are shared (a thread) or copied (a process).
    """

    process: int
    shares: bool


def process_tree(lines: Iterable[str]) -> dict[int, Parent]:
    """Return the parent of every thread in a strace log.

    This is a pass of its own, since a child's first lines may stand before the line that says who started it.

    Args:
        lines: The log.
    """
    parents: dict[int, Parent] = {}
    flags_of_caller: dict[int, str] = {}
    for line in lines:
        match = _START_OF_PROCESS.match(line)
        if match is None:
            continue
        caller, flags, child = int(match["caller"]), match["flags"] or "", match["child"]
        flags = flags_of_caller.pop(caller, "") + flags
        if child is None:
            flags_of_caller[caller] = flags
        else:
            parents[int(child)] = Parent(caller, "CLONE_FILES" in flags)
    return parents


_START_OF_PROCESS = re.compile(
    r"(?P<caller>\d+) +[\d.]+ (?:<\.\.\. )?(?:clone3?|v?fork)[( ]"
    r"(?:.*?flags=(?P<flags>[A-Z_|0-9x]+))?.*?(?:= (?P<child>\d+)|<unfinished \.\.\.>)?$"
)
_LINE = re.compile(r"(\d+) +(\d+)\.(\d{6}) (.*)$")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)$")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)(?:<(.*)>)?(?: \(.*\))?$")
_DESCRIPTOR = re.compile(r"\d+<(.*)>$")
_DIRECTORY = re.compile(r"(?:AT_FDCWD|\d+)<(.*)>$")
_UNFINISHED = " <unfinished ...>"


@dataclass(frozen=True, slots=True)
class _Call:
    """A system call that succeeded; `result_path` is the path of the descriptor that it returned."""

    thread: int
    time_us: int
    name: str
    arguments: list[str]
    result: int
    result_path: str


@dataclass(slots=True)
class _OpenFile:
    """What descriptors that were duplicated from each other share."""

    position: int = 0
    append: bool = False
    write_through: bool = False


@dataclass(slots=True)
class _Process:
    """What the threads of a process share."""

    directory: str = "/"
    descriptors: dict[int, _OpenFile] = field(default_factory=dict)


class _Reader:
    """The state that is carried from line to line."""

    def __init__(self, parents: dict[int, Parent]) -> None:
        self._parents = parents
        self._processes: dict[int, _Process] = {}
        self._interrupted: dict[int, str] = {}

    def read(self, line: str) -> Iterator[FileOperation]:
        """Yield the operations of one line."""
        call = self._whole_call(line)
        if call is None:
            return
        process, name, arguments = self._process(call.thread), call.name, call.arguments
        if name in _OPENING:
            yield from self._open(process, call)
        elif name in _DATA:
            yield from self._write(process, call)
        elif name in _DIRECTORIES:
            process.directory = _DIRECTORIES[name](process.directory, arguments)
        elif name in _NAMED:
            for operation in _NAMED[name](process.directory, arguments):
                yield replace(operation, time_us=call.time_us)
        elif name in _DESCRIBED:
            yield replace(_DESCRIBED[name](_path(arguments[0]), arguments), time_us=call.time_us)
        elif name == "lseek":
            self._opened(process, arguments[0]).position = call.result
        elif name.startswith("dup"):
            process.descriptors[call.result] = self._opened(process, arguments[0])

    def _whole_call(self, line: str) -> _Call | None:
        """Return the call that a line completes, or None if it completes none, or one that failed."""
        match = _LINE.match(line)
        if match is None:
            return None
        thread, time_us, text = int(match[1]), int(match[2]) * 1_000_000 + int(match[3]), match[4]
        if text.endswith(_UNFINISHED):
            text = text.removesuffix(_UNFINISHED)
            if not text.startswith(_FLUSHING):
                self._interrupted[thread] = text
                return None
            # The device sees the writes when the flush begins, and it needs no result to be understood.
            text += ") = 0"
        elif resumed := _RESUMED.match(text):
            if thread not in self._interrupted:
                return None
            text = self._interrupted.pop(thread) + resumed[1]
        call = _CALL.match(text)
        if call is None or int(call[3]) < 0:
            return None
        return _Call(thread, time_us, call[1], split_arguments(call[2]), int(call[3]), call[4] or "")

    def _process(self, thread: int) -> _Process:
        process = self._processes.get(thread)
        if process is None:
            parent = self._parents.get(thread)
            if parent is None:
                process = _Process()
            elif parent.shares:
                process = self._process(parent.process)
            else:
                original = self._process(parent.process)
                process = _Process(original.directory, dict(original.descriptors))
            self._processes[thread] = process
        return process

    @staticmethod
    def _opened(process: _Process, descriptor: str) -> _OpenFile:
        return process.descriptors.setdefault(int(descriptor.partition("<")[0]), _OpenFile())

    @staticmethod
    def _open(process: _Process, call: _Call) -> Iterator[FileOperation]:
        place = {"openat": 2, "open": 1, "creat": None}[call.name]
        flags = ["O_TRUNC"] if place is None else call.arguments[place].split("|")
        process.descriptors[call.result] = _OpenFile(
            append="O_APPEND" in flags, write_through=not _WRITE_THROUGH.isdisjoint(flags)
        )
        if "O_TRUNC" in flags:
            yield FileOperation(call.time_us, Action.TRUNCATE, call.result_path, 0)

    def _write(self, process: _Process, call: _Call) -> Iterator[FileOperation]:
        """Yield the operation of a call that stores data, and move the position in the open file."""
        descriptor = call.arguments[_DATA[call.name]]
        opened = self._opened(process, descriptor)
        offset: int | None
        if opened.append:
            offset = None
        elif call.name.startswith("pwrite") and call.arguments[3] != "-1":
            offset = int(call.arguments[3])
        else:
            offset = opened.position
            opened.position += call.result
        if call.result > 0:
            action = Action.WRITE_THROUGH if opened.write_through else Action.WRITE
            yield FileOperation(call.time_us, action, _path(descriptor), offset, call.result)


def split_arguments(text: str) -> list[str]:
    """Split the arguments of a call at the commas that are in no bracket, string or path.

    Args:
        text: What strace prints between the parentheses.
    """
    parts: list[str] = []
    depth = start = 0
    quoted = False
    for place, character in enumerate(text):
        if character == '"' and (place == 0 or text[place - 1] != "\\"):
            quoted = not quoted
        elif quoted:
            continue
        elif character in "<[{(":
            depth += 1
        elif character in ">]})":
            depth -= text[place - 1 : place + 1] != "=>"
        elif character == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    parts.append(text[start:].strip())
    return parts


def _path(argument: str) -> str:
    """Return the path that strace prints beside a descriptor."""
    match = _DESCRIPTOR.match(argument)
    return match[1] if match else ""


def _named(directory: str, argument: str, beside: str | None = None) -> str:
    """Return the absolute path of a path argument.

    Args:
        directory: The process's current directory.
        argument: The quoted path.
        beside: The directory descriptor of the calls whose names end in "at".
    """
    match = _DIRECTORY.match(beside) if beside else None
    return posixpath.normpath(posixpath.join(match[1] if match else directory, argument.strip('"')))


def _rename(path: str, target: str, flags: str = "0") -> Iterator[FileOperation]:
    if "RENAME_EXCHANGE" in flags:
        raise ValueError(f"exchanging two files is not modelled: {path}, {target}")
    yield FileOperation(0, Action.RENAME, path, target=target)


def _link(path: str, target: str) -> Iterator[FileOperation]:
    yield FileOperation(0, Action.LINK, path, target=target)


def _unlink(path: str, flags: str = "0") -> Iterator[FileOperation]:
    if "AT_REMOVEDIR" not in flags:
        yield FileOperation(0, Action.UNLINK, path)


def _allocate(path: str, arguments: list[str]) -> FileOperation:
    mode, offset, length = arguments[1], int(arguments[2]), int(arguments[3])
    if "COLLAPSE" in mode or "INSERT" in mode:
        raise ValueError(f"moving a file's ranges with fallocate is not modelled: {path}")
    if "PUNCH_HOLE" in mode:
        action = Action.PUNCH
    else:
        action = Action.ALLOCATE_KEEPING_SIZE if "KEEP_SIZE" in mode else Action.ALLOCATE
    return FileOperation(0, action, path, offset, length)


# A lone fsync needs no result to be understood; these calls are told when they begin.
_FLUSHING = ("fsync(", "fdatasync(", "sync_file_range(", "sync(", "syncfs(")
_OPENING = frozenset({"open", "openat", "creat"})
_WRITE_THROUGH = frozenset({"O_SYNC", "O_DSYNC", "O_DIRECT"})

# Which argument of a call that stores data is the descriptor written to.
_DATA = {"write": 0, "pwrite64": 0, "writev": 0, "pwritev": 0, "pwritev2": 0, "sendfile": 0, "copy_file_range": 2}

_DIRECTORIES: dict[str, Callable[[str, list[str]], str]] = {
    "chdir": lambda directory, a: _named(directory, a[0]),
    "fchdir": lambda _, a: _path(a[0]),
}

# Calls that name files by path: from the current directory and the arguments to operations.
_NAMED: dict[str, Callable[[str, list[str]], Iterator[FileOperation]]] = {
    "rename": lambda d, a: _rename(_named(d, a[0]), _named(d, a[1])),
    "renameat": lambda d, a: _rename(_named(d, a[1], a[0]), _named(d, a[3], a[2])),
    "renameat2": lambda d, a: _rename(_named(d, a[1], a[0]), _named(d, a[3], a[2]), a[4]),
    "link": lambda d, a: _link(_named(d, a[0]), _named(d, a[1])),
    "linkat": lambda d, a: _link(_named(d, a[1], a[0]), _named(d, a[3], a[2])),
    "unlink": lambda d, a: _unlink(_named(d, a[0])),
    "unlinkat": lambda d, a: _unlink(_named(d, a[1], a[0]), a[2]),
    "truncate": lambda d, a: iter([FileOperation(0, Action.TRUNCATE, _named(d, a[0]), int(a[1]))]),
}

# Calls that name a file by descriptor: from its path and the arguments to the operation.
_DESCRIBED: dict[str, Callable[[str, list[str]], FileOperation]] = {
    "ftruncate": lambda path, a: FileOperation(0, Action.TRUNCATE, path, int(a[1])),
    "fallocate": _allocate,
    "fsync": lambda path, _: FileOperation(0, Action.FLUSH, path),
    "fdatasync": lambda path, _: FileOperation(0, Action.FLUSH, path),
    "sync_file_range": lambda path, a: FileOperation(0, Action.FLUSH, path, int(a[1]), int(a[2]) or None),
    "sync": lambda _path, _: FileOperation(0, Action.FLUSH_ALL),
    "syncfs": lambda _path, _: FileOperation(0, Action.FLUSH_ALL),
}
