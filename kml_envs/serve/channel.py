"""The channel: the proxy's control, data sets and recommendations as named files. The one home of the protocol.

Two files are streams, as of a character device: `dataset` gives one record per published data set, `recommendation`
takes one text per answer. All others are attributes as in sysfs: one short text each. What the socket and the
mounted file system add is transport only. What is refused raises `RefusedError`; any other error is a bug, mostly of a
subsystem that a user has written, and ends the server.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from kml_envs.errors import UserError
from kml_envs.proxy import Mode, Verdict
from kml_envs.proxy.lifecycle import DataSetState, LifeCycleError, LifeCycleState
from kml_envs.serve import dataset
from kml_envs.serve.kernel import SimulatedKernel
from kml_envs.serve.options import ServeOptions
from kml_envs.serve.texts import describe_feedback

DATA_SET, RECOMMENDATION = "dataset", "recommendation"
LONGEST_WRITE = 65536
"""Bytes of a recommendation; other files take at most `LONGEST_TEXT`."""
LONGEST_TEXT = 4096


class RefusedError(OSError):
    """What the files refuse: its number is the one that a system call would give."""


@dataclass(frozen=True)
class File:
    """One file.

    Attributes:
        mode: Permission bits as in sysfs: 0o444 to read, 0o200 to write, 0o644 for both.
        show: Gives its text; None for what is written only, and for `dataset`.
        store: Takes a text; None for what is read only.
    """

    mode: int
    show: Callable[[], str] | None = None
    store: Callable[[bytes], None] | None = None


class Channel:
    """The files of one served model.

    Attributes:
        kernel: What stands behind them.
        environment: Id of the environment.
        files: By name, such as `control` or `options/mode`.
        clock: Seconds that never go back; what drives the kernel uses the same.
        failure: The first error that was no refusal; None as long as all is well. The kernel is not to be driven then.
        failed: Called with the first failure.
    """

    def __init__(
        self,
        kernel: SimulatedKernel,
        environment: str,
        comparison: str = "not compared",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Name the files of a kernel.

        Args:
            kernel: The kernel.
            environment: Id of the environment.
            comparison: How mode `auto` compares, in plain words.
            clock: Seconds that never go back.
        """
        self.kernel, self.environment, self.clock = kernel, environment, clock
        self.failure: Exception | None = None
        self.failed: Callable[[], None] = lambda: None
        self._listeners: list[Callable[[], None]] = []
        self._schema = dataset.describe(environment, kernel.proxy.subsystem)
        self.files: Mapping[str, File] = {
            "control": File(0o200, store=self._command),
            "mode": File(0o444, self._mode),
            "comparison": File(0o444, lambda: comparison + "\n"),
            "state": File(0o444, self._state),
            "dataset_state": File(0o444, self._data_set_state),
            DATA_SET: File(0o400),
            "dataset_schema": File(0o444, lambda: self._schema),
            RECOMMENDATION: File(0o200, store=lambda text: kernel.recommend(text, clock())),
            "verdict": File(0o444, self._verdict),
            "efficiency": File(0o444, self._efficiency),
            "feedback": File(0o444, self._feedback),
            "statistics": File(0o444, self._statistics),
            **self._option_files(),
        }

    def open(self, name: str, *, reading: bool = False, writing: bool = False) -> Handle:
        """Open a file.

        Raises:
            RefusedError: ENOENT, there is no such file; EACCES, its permissions do not allow this, not even to root.
        """
        if name not in self.files:
            raise RefusedError(errno.ENOENT, "no such file", name)
        mode = self.files[name].mode
        if (reading and not mode & 0o400) or (writing and not mode & 0o200):
            raise RefusedError(errno.EACCES, "not permitted by the file's mode", name)
        return Handle(self, name)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Tell the listener whenever a file may have changed."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        """Tell the listener no more."""
        self._listeners.remove(listener)

    def changed(self) -> None:
        """Something happened in the kernel."""
        for listener in tuple(self._listeners):
            listener()

    def answer(self, error: Exception) -> int:
        """The number that a request is answered with which has raised an error; all but a refusal is a failure."""
        if isinstance(error, RefusedError):
            return error.errno or errno.EIO
        self.fail(error)
        return errno.EIO

    def fail(self, error: Exception) -> None:
        """Something is broken: whoever serves the files has to end, and to raise the error."""
        if self.failure is None:
            self.failure = error
            self.failed()

    # The texts

    def _command(self, text: bytes) -> None:
        kernel = self.kernel
        commands: dict[str, Callable[[], None]] = {
            "start": partial(kernel.start, self.clock()),
            "stop": kernel.stop,
            "prepare_dataset": kernel.prepare_data_set,
            "discard_dataset": kernel.discard_data_set,
        }
        command = commands.get(text.decode(errors="replace").strip())
        if command is None:
            raise RefusedError(errno.EINVAL, f"commands are {', '.join(commands)}")
        try:
            command()
        except LifeCycleError as error:
            raise RefusedError(errno.EBUSY, str(error)) from None

    def _mode(self) -> str:
        return Mode(self.kernel.proxy.controller.mode()[0]).name.lower() + "\n"

    def _state(self) -> str:
        return LifeCycleState(self.kernel.proxy.life_cycle.state[0]).name.lower() + "\n"

    def _data_set_state(self) -> str:
        return DataSetState(self.kernel.proxy.data_set_state[0]).name.lower() + "\n"

    def _verdict(self) -> str:
        last = self.kernel.verdict
        return "none\n" if last is None else f"{last[0]} {Verdict(last[1]).name.lower()}\n"

    def _efficiency(self) -> str:
        return f"{self.kernel.proxy.statistics.saved_by_agent.sum():.9g}\n"

    def _feedback(self) -> str:
        last = self.kernel.feedback
        return "none\n" if last is None else describe_feedback(*last)

    def _statistics(self) -> str:
        kernel, proxy = self.kernel, self.kernel.proxy
        present = {"agent_here": int(kernel.agent_here), "agent_present": int(kernel.present)}
        counters = {**present, "domains": proxy.subsystem.instances, **proxy.table(), **proxy.subsystem.metrics()}
        if proxy.subsystem.instances > 1:
            del counters["verdict/not_asked"]  # of domains whose turn it was not
        shared = {"mode", "workload", *proxy.controller.report()}  # by all domains
        lines = [
            f"{name.replace(' ', '_')} {_of_volume(value, name in shared, name.startswith('saved_by_')):.9g}"
            for name, value in counters.items()
        ]
        return "\n".join(lines) + "\n"

    # Options

    def _option_files(self) -> dict[str, File]:
        """One file per option that a short text can hold: those of the proxy, then those of the kernel."""
        owned = [("proxy", option) for option in fields(self.kernel.proxy.options)]
        owned += [("kernel", option) for option in fields(ServeOptions)]
        files = {}
        for owner, option in owned:
            if (kinds := _kinds(option.type)) is not None:
                show = partial(self._show_option, owner, option.name)
                store = partial(self._store_option, owner, option.name, kinds)
                files[f"options/{option.name}"] = File(0o644, show, store)
        return files

    def _show_option(self, owner: str, name: str) -> str:
        value = getattr(self.kernel.proxy.options if owner == "proxy" else self.kernel.options, name)
        return f"{int(value) if isinstance(value, bool) else value}\n".lower()

    def _store_option(self, owner: str, name: str, kinds: tuple[str, ...], text: bytes) -> None:
        value = {name: _parse_option(text.decode(errors="replace").strip(), kinds)}
        try:
            if owner == "proxy":
                options = replace(self.kernel.proxy.options, **value)
                self.kernel.set_proxy_options(options, self.clock())
            else:
                self.kernel.set_options(replace(self.kernel.options, **value), self.clock())
        except UserError as error:
            raise RefusedError(errno.EINVAL, str(error)) from None
        except LifeCycleError as error:
            raise RefusedError(errno.EBUSY, str(error)) from None


class Handle:
    """One opening of a file, with its own memory of what it has read."""

    def __init__(self, channel: Channel, name: str) -> None:
        """Open; `Channel.open` checks the permissions first."""
        self._channel, self.name = channel, name
        self._file = channel.files[name]
        self._stream = name == DATA_SET
        self._text = b""
        self._read = False
        self._generation: int | None = None
        self._is_agents = False

    def read(self, size: int, offset: int = 0) -> bytes | None:
        """Read; at offset 0 the text as it is now, or the next data set, further on the rest of that.

        Returns:
            At most `size` bytes, none past the end; None where no new data set is published: ask again later.
        """
        if self._stream:
            return self._read_data_set(size, offset)
        if offset == 0:
            self._text, self._read = self._show(), True
        return self._text[offset : offset + size]

    def write(self, text: bytes) -> int:
        """Write a whole text.

        Returns:
            Its length.

        Raises:
            RefusedError: EINVAL, too long or not accepted here; EBUSY, not in this state of the model.
        """
        self.check(text)
        self.store(text)
        return len(text)

    def check(self, text: bytes) -> None:
        """Whether the text may be stored, as far as can be said without looking into it.

        Raises:
            RefusedError: EINVAL, too long; EACCES, not to be written.
        """
        if len(text) > (LONGEST_WRITE if self.name == RECOMMENDATION else LONGEST_TEXT):
            raise RefusedError(errno.EINVAL, "too long", self.name)
        if self._file.store is None:
            raise RefusedError(errno.EACCES, "not to be written", self.name)

    def store(self, text: bytes) -> None:
        """Store a text that has passed `check`; a recommendation raises no error here, whatever it says."""
        assert self._file.store is not None
        if self.name == RECOMMENDATION and not self._is_agents:  # later the kernel notes by the recommendation itself
            self._note_agent()
        self._file.store(text)
        self._channel.changed()

    def poll(self) -> bool:
        """What `ready` says, to an agent that looks for it."""
        if self._stream:
            self._note_agent()
        return self.ready()

    def ready(self) -> bool:
        """Whether there is news: a data set that this handle has not read, a text other than the one it read last."""
        if self._stream:
            return self._fresh()
        return self._file.show is not None and (not self._read or self._show() != self._text)

    def close(self) -> None:
        """Close; an agent may be gone with it."""
        if self._is_agents:
            self._is_agents = False
            self._channel.kernel.agent_left(self._channel.clock())

    def _note_agent(self) -> None:
        """Whoever has opened this is an agent, and there."""
        self._channel.kernel.agent_seen(self._channel.clock(), files=int(not self._is_agents))
        self._is_agents = True

    def _show(self) -> bytes:
        if self._file.show is None:
            raise RefusedError(errno.EACCES, "not to be read", self.name)
        return self._file.show().encode()

    def _fresh(self) -> bool:
        """Whether a data set is published that this handle has not read."""
        kernel = self._channel.kernel
        return bool(kernel.published and kernel.proxy.generation[0] != self._generation)

    def _read_data_set(self, size: int, offset: int) -> bytes | None:
        kernel = self._channel.kernel
        if offset == 0:
            self._note_agent()
            if not self._fresh():
                return None
            self._text, self._generation = kernel.read_data_set(), int(kernel.proxy.generation[0])
        piece = self._text[offset : offset + size]
        if offset + len(piece) == len(self._text) and piece and self._generation is not None:
            kernel.data_set_extracted(self._generation)
        return piece


def _kinds(annotation: object) -> tuple[str, ...] | None:
    """The kinds of value that an option takes, from its annotation; None where a short text cannot hold it."""
    kinds = tuple(kind.strip() for kind in str(annotation).split("|"))
    return kinds if set(kinds) <= {"int", "float", "str", "bool", "None"} else None


def _parse_option(text: str, kinds: tuple[str, ...]) -> Any:  # noqa: ANN401 (of one of the kinds)
    """The value of an option's text.

    Raises:
        RefusedError: EINVAL, the text is of none of the kinds.
    """
    if text == "none" and "None" in kinds:
        return None
    if "bool" in kinds:
        if text not in ("0", "1"):
            raise RefusedError(errno.EINVAL, f"'{text}': 0 and 1 are accepted")
        return text == "1"
    try:
        return int(text) if "int" in kinds else float(text) if "float" in kinds else text
    except ValueError:
        raise RefusedError(errno.EINVAL, f"'{text}': a number is accepted") from None


def _of_volume(value: Any, shared: bool, added: bool) -> float:  # noqa: ANN401 (a number, or an array)
    """One number for a volume: counts of its domains are added up, of shares the mean is taken."""
    if isinstance(value, (int, float)):
        return float(value)
    if shared or len(value) == 1:
        return float(value[0])
    return float(value.sum() if added or np.issubdtype(value.dtype, np.integer) else value.mean())
