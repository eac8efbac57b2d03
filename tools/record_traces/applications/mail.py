"""A mail store of Maildir folders."""

from __future__ import annotations

import mailbox
import random
from pathlib import Path

FOLDERS = 40
DELIVERIES = 26_000
KEPT_MESSAGES = 5_000


def folders(directory: Path) -> None:
    """Deliver messages to folders, read most of them, delete old ones so that the store keeps its size.

    Args:
        directory: Where the folders are made.
    """
    generator = random.Random(6)
    paths = [directory / f"folder_{number:02}" for number in range(FOLDERS)]
    boxes = {path: mailbox.Maildir(path) for path in paths}
    kept: list[tuple[Path, str]] = []
    for _ in range(DELIVERIES):
        folder = paths[int(FOLDERS * generator.random() ** 2)]
        kept.append((folder, boxes[folder].add(_message(generator))))
        if generator.random() < 0.7:
            _read(*kept[generator.randrange(max(0, len(kept) - 200), len(kept))])
        while len(kept) > KEPT_MESSAGES:
            # Most messages go soon or never: half of the deletions hit the newest tenth.
            first = len(kept) - KEPT_MESSAGES // 10 if generator.random() < 0.5 else 0
            place = generator.randrange(first, len(kept))
            folder, key = kept.pop(place)
            boxes[folder].remove(key)


def _message(generator: random.Random) -> bytes:
    """Make a message: most are a few kilobytes of text, some carry an attachment."""
    size = generator.lognormvariate(8.5, 0.9)
    if generator.random() < 0.12:
        size += generator.lognormvariate(11.5, 0.8)
    size = min(size, 2_000_000)
    lines = [generator.randbytes(36).hex() for _ in range(int(size) // 73 + 1)]
    return ("From: a@example.org\nTo: b@example.org\nSubject: recorded\n\n" + "\n".join(lines) + "\n").encode()


def _read(folder: Path, key: str) -> None:
    """Mark a message as seen, which mail readers do by renaming its file."""
    unread = folder / "new" / key
    if unread.exists():
        unread.rename(folder / "cur" / f"{key}:2,S")
