"""Memory that an update frees stays with the process: the next update wants as much of it again.

By default glibc gives large blocks back to the kernel as soon as they are free. The activations of a minibatch are some
MiB each, and to have the kernel clear them anew, page by page, takes as long as computing them.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_KEPT_BYTES = 1 << 30
_LARGEST_BLOCK_BYTES = 32 << 20  # the most that glibc takes from its heap on 64-bit machines


def keep_freed_memory() -> None:
    """Let malloc keep up to a GiB of freed memory; where the C library is not glibc, nothing happens."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(_TRIM_THRESHOLD, _KEPT_BYTES)
        set_option(_MMAP_THRESHOLD, _LARGEST_BLOCK_BYTES)
