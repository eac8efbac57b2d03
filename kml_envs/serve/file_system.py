"""The channel as a mounted file system: `FOLDER/ENVIRONMENT/MODEL/control` and so on.

A read of `dataset` waits for a new data set, for a second at most, and then gives nothing; on a descriptor opened with
O_NONBLOCK it fails with EAGAIN instead. (The kernel cannot take a request back that a server holds, so that a reader
killed in an unbounded read would not die.) `poll` says POLLIN when a data set is there that the descriptor has not
read; on attributes POLLPRI and POLLERR when the text is another than the one read last, as sysfs has it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from kml_envs.errors import UserError
from kml_envs.serve.channel import DATA_SET, Channel, Handle

try:
    import pyfuse3
    import pyfuse3.asyncio
except ImportError as error:
    raise UserError(
        "--mount needs pyfuse3: pip install 'kml_envs[fuse]', which needs the packages libfuse3-dev, fuse3 and "
        f"pkg-config of Debian ({error}); --socket needs nothing"
    ) from None

LONGEST_READ_S = 1.0
_SIZE = 4096  # what sysfs says of every attribute; reads do not depend on it
_LISTED_FOR_S = 3600.0  # names and permissions never change
_ALWAYS = select.POLLIN | select.POLLRDNORM | select.POLLOUT | select.POLLWRNORM


def prepare(folder: Path) -> None:
    """See that a folder can be mounted on, and take away what a killed server left mounted there.

    Raises:
        UserError: It cannot.
    """
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise UserError("--mount needs /dev/fuse, which is not there or not permitted: use --socket")
    try:
        os.stat(folder)
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            _unmount(folder)
        elif error.errno != errno.ENOENT:
            raise UserError(f"--mount {folder}: {error.strerror}") from None
    if os.path.ismount(folder):
        raise UserError(f"--mount {folder}: something is mounted there already")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"--mount {folder}: is not empty")
    except OSError as error:
        raise UserError(f"--mount {folder}: {error.strerror}") from None


@asynccontextmanager
async def mounted(channel: Channel, folder: Path, model: str) -> AsyncIterator[asyncio.Task[None]]:
    """Mount the channel for as long as the context lasts.

    Args:
        channel: The files.
        folder: Where to mount.
        model: Name of the model's folder.

    Yields:
        A task that ends when somebody unmounts it.

    Raises:
        UserError: It cannot be mounted.
    """
    pyfuse3.asyncio.enable()
    options = {"default_permissions", "fsname=kml_envs", "subtype=kml_envs"}
    if os.geteuid() == 0:
        options.add("allow_other")
    files = _FileSystem(channel, (channel.environment.replace("/", "-"), model))
    try:
        pyfuse3.init(files, str(folder), options)
    except RuntimeError as error:
        raise UserError(f"--mount {folder}: cannot be mounted ({error}); --socket needs no permission") from None
    channel.on_change(files.notify)
    serving: asyncio.Task[None] = asyncio.create_task(pyfuse3.main())
    try:
        yield serving
    finally:
        channel.forget(files.notify)
        files.closing = True
        try:
            if not serving.done():
                # Raised where a request has just woken the loop of pyfuse3: it then sees by itself that it shall end.
                with suppress(asyncio.InvalidStateError):
                    pyfuse3.terminate()
                await asyncio.wait([serving], timeout=2 * LONGEST_READ_S)
        finally:
            pyfuse3.close(unmount=True)


class _FileSystem(pyfuse3.Operations):
    """A tree that never changes: two folders, the files, and the folder of options."""

    enable_writeback_cache = False

    def __init__(self, channel: Channel, folders: Sequence[str]) -> None:
        super().__init__()
        self._channel = channel
        self._entries: list[tuple[int, str, str | None]] = []  # parent, name, and the file of the channel
        self._inodes: dict[tuple[int, str], int] = {}
        self._handles: dict[int, Handle] = {}
        self._nonblocking: set[int] = set()
        self._polled: dict[int, pyfuse3.PollHandle] = {}
        self._readers: list[asyncio.Future[None]] = []
        self._begun = time.time_ns()
        self._last_handle = 0
        self.closing = False
        parent = self._enter(0, "", None)
        for name in folders:
            parent = self._enter(parent, name, None)
        for path in channel.files:
            *above, name = path.split("/")
            place = parent
            for folder in above:
                place = self._inodes.get((place, folder)) or self._enter(place, folder, None)
            self._enter(place, name, path)

    # Names

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        inode = self._inodes.get((parent_inode, os.fsdecode(name)))
        if inode is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._attributes(inode)

    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        return self._attributes(inode)

    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        if fields.update_mode or fields.update_uid or fields.update_gid:
            raise pyfuse3.FUSEError(errno.EPERM)
        return self._attributes(inode)  # a shell truncates what it redirects to, which means nothing here

    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        return pyfuse3.FileHandleT(inode)

    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        for inode in range(max(start_id, 1) + 1, len(self._entries) + 1):
            parent, name, _ = self._entries[inode - 1]
            if parent == fh and not pyfuse3.readdir_reply(token, os.fsencode(name), self._attributes(inode), inode):
                break

    # Contents

    async def open(self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        path = self._entries[inode - 1][2]
        assert path is not None, "the kernel opens folders otherwise"
        access = flags & os.O_ACCMODE
        try:
            handle = self._channel.open(path, reading=access != os.O_WRONLY, writing=access != os.O_RDONLY)
        except Exception as error:
            raise self._answer(error) from None
        self._last_handle += 1
        self._handles[self._last_handle] = handle
        if flags & os.O_NONBLOCK:
            self._nonblocking.add(self._last_handle)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(self._last_handle), direct_io=True)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        contents = self._read(fh, size, off)
        if contents is not None:
            return contents
        if fh in self._nonblocking:
            raise pyfuse3.FUSEError(errno.EAGAIN)  # no new data set is published
        loop = asyncio.get_running_loop()
        end = loop.time() + LONGEST_READ_S
        while contents is None and loop.time() < end and not self.closing:
            news: asyncio.Future[None] = loop.create_future()
            self._readers.append(news)
            await asyncio.wait([news], timeout=end - loop.time())
            contents = self._read(fh, size, off)
        return contents or b""

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        try:
            return self._handles[fh].write(bytes(buf))
        except Exception as error:
            raise self._answer(error) from None

    async def poll(
        self,
        inode: pyfuse3.InodeT,
        fh: pyfuse3.FileHandleT,
        poll_handle: pyfuse3.PollHandle | None,
        ctx: pyfuse3.RequestContext,
    ) -> int:
        if poll_handle is not None:
            self._polled[fh] = poll_handle
        handle = self._handles[fh]
        try:
            ready = handle.poll()
        except Exception as error:
            raise self._answer(error) from None
        if handle.name == DATA_SET:
            return select.POLLIN | select.POLLRDNORM if ready else 0
        return _ALWAYS | (select.POLLPRI | select.POLLERR if ready else 0)

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        if (handle := self._handles.pop(fh, None)) is not None:
            handle.close()
        self._polled.pop(fh, None)
        self._nonblocking.discard(fh)

    def notify(self) -> None:
        """Wake those who wait for files that have news."""
        for fh in [fh for fh, handle in self._handles.items() if fh in self._polled and handle.ready()]:
            self._polled.pop(fh).notify()
        readers, self._readers = self._readers, []
        for news in readers:
            if not news.done():
                news.set_result(None)

    def _read(self, fh: pyfuse3.FileHandleT, size: int, offset: int) -> bytes | None:
        """Read from an open file."""
        try:
            return self._handles[fh].read(size, offset)
        except Exception as error:
            raise self._answer(error) from None

    def _answer(self, error: Exception) -> pyfuse3.FUSEError:
        """What a system call has to answer, whatever is wrong: who has made it would wait for ever."""
        return pyfuse3.FUSEError(self._channel.answer(error))

    def _enter(self, parent: int, name: str, path: str | None) -> int:
        """Add an entry; its number in the tree is its inode."""
        self._entries.append((parent, name, path))
        inode = len(self._entries)
        self._inodes[parent, name] = inode
        return inode

    def _attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        path = self._entries[inode - 1][2]
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = pyfuse3.InodeT(inode)
        if path is None:
            attributes.st_mode = pyfuse3.ModeT(stat.S_IFDIR | 0o755)
        else:
            attributes.st_mode = pyfuse3.ModeT(stat.S_IFREG | self._channel.files[path].mode)
            attributes.st_size = _SIZE
        attributes.st_uid, attributes.st_gid = os.geteuid(), os.getegid()
        attributes.st_atime_ns = attributes.st_mtime_ns = attributes.st_ctime_ns = self._begun
        attributes.entry_timeout = attributes.attr_timeout = _LISTED_FOR_S
        return attributes


def _unmount(folder: Path) -> None:
    """Take away a mount whose server is gone.

    Raises:
        UserError: It stays.
    """
    result = subprocess.run(["fusermount3", "-u", "-z", str(folder)], capture_output=True, text=True, check=False)
    if result.returncode:
        raise UserError(f"--mount {folder}: a dead mount is in the way: {result.stderr.strip()}")
