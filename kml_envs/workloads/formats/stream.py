"""The bytes of a trace file, decompressed as they are read.

Compression is recognised by the magic bytes at the start of the file, never by the file's name: gzip (RFC 1952),
xz (the .xz file format 1.2) and Zstandard (RFC 8878). Files of several concatenated members or frames are read
whole, as the command line tools do.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kml_envs.errors import UserError

PIECE_BYTES = 1 << 16
"""Compressed bytes handed to the decompressor at once: small, so that a highly compressed piece stays small too."""


class BrokenStreamError(Exception):
    """The file cannot be read on, or its data is damaged or ends early; the reader adds the line or record number."""


class ByteStream:
    """Forward reader over one trace file, with a look at its beginning.

    Args:
        path: The file.

    Raises:
        UserError: When the file does not exist, cannot be read or is empty.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the file and recognise its compression."""
        self.path = str(path)
        try:
            self._file: BinaryIO = open(path, "rb")
        except OSError as error:
            raise UserError(f"{path}: {(error.strerror or str(error)).lower()}") from error
        self._pieces = self._decompressed()
        self._buffer = bytearray()
        self._failure: BrokenStreamError | None = None
        if not self.peek(1):
            self.close()
            raise UserError(f"{path}, line 1: {self._failure or 'the file is empty'}")

    def peek(self, count: int) -> bytes:
        """Return up to `count` bytes without consuming them; fewer only where the readable data ends."""
        self._fill(count)
        return bytes(self._buffer[:count])

    def read(self, count: int) -> bytes:
        """Return `count` bytes, fewer only at the end of the file.

        Raises:
            BrokenStreamError: When the compressed data is damaged or ends early. What was decompressed before that
                point stays readable through `rest`.
        """
        self._fill(count)
        if self._failure is not None and len(self._buffer) < count:
            raise self._failure
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def skip(self, prefix: bytes) -> None:
        """Drop some bytes, if the unread ones begin with them."""
        if self.peek(len(prefix)) == prefix:
            del self._buffer[: len(prefix)]

    def require_end(self, count: int) -> None:
        """Check that what `peek` returned is all that there is, where it returned fewer than `count` bytes.

        Raises:
            BrokenStreamError: The compressed data is damaged or ends early before `count` bytes.
        """
        if self._failure is not None and len(self._buffer) < count:
            raise self._failure

    def rest(self) -> bytes:
        """Return the bytes that are already decompressed and not yet read."""
        return bytes(self._buffer)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _fill(self, count: int) -> None:
        while len(self._buffer) < count:
            try:
                piece = next(self._pieces, b"")
            except BrokenStreamError as failure:
                # Kept, because a generator that has raised looks like the end of the file when asked again.
                self._failure = failure
                return
            except OSError as error:
                self._failure = BrokenStreamError((error.strerror or str(error)).lower())
                return
            if not piece:
                return
            self._buffer += piece

    def _decompressed(self) -> Iterator[bytes]:
        piece = self._file.read(PIECE_BYTES)
        decompressor = _decompressor(piece)
        if decompressor is None:
            while piece:
                yield piece
                piece = self._file.read(PIECE_BYTES)
            return
        yield from _members(self._file, piece, decompressor)


_MAGIC: dict[bytes, str] = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "Zstandard"}


def _decompressor(head: bytes) -> Callable[[], Any] | None:
    """Choose the decompressor by magic bytes; every one has `decompress`, `eof` and `unused_data`."""
    kind = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if kind == "gzip":
        return lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    if kind == "xz":
        return lzma.LZMADecompressor
    if kind == "Zstandard":
        import zstandard  # kept out of the import of this package: only .zst files need it

        return zstandard.ZstdDecompressor().decompressobj
    return None


def _members(file: BinaryIO, piece: bytes, start: Callable[[], Any]) -> Iterator[bytes]:
    """Decompress every member of the file, one after another."""
    import zstandard

    current = start()
    while piece:
        try:
            plain = current.decompress(piece)
        except (zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            raise BrokenStreamError(f"the compressed data is damaged ({error})") from error
        if plain:
            yield plain
        piece = b""
        if current.eof:
            # Zero padding after a member is allowed by gzip's and xz's tools (tapes, block devices).
            piece = current.unused_data.lstrip(b"\0") or file.read(PIECE_BYTES).lstrip(b"\0")
            if piece:
                current = start()
        else:
            piece = file.read(PIECE_BYTES)
    if not current.eof:
        raise BrokenStreamError("the compressed data ends early: the file is truncated")
