"""A git repository that is worked on."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from string import ascii_lowercase

from tools.record_traces.applications.processes import find_program
from tools.record_traces.applications.skew import skewed_key

FILES = 3_000
COMMITS = 260
FILES_PER_COMMIT = 120
COMMITS_BETWEEN_COLLECTIONS = 30
WORDS = 5_000


def commits(directory: Path) -> None:
    """Edit files, commit them, and collect garbage now and then.

    Args:
        directory: The working tree.
    """
    generator = random.Random(5)
    words = ["".join(generator.choices(ascii_lowercase, k=generator.randrange(2, 11))) for _ in range(WORDS)]
    git = [find_program("git", "git"), "-C", str(directory)]
    identity = ["-c", "user.name=Recorder", "-c", "user.email=recorder@example.org"]
    subprocess.check_call([*git, "init", "--quiet"])
    # Collection happens below, at a known place, and not in the background.
    subprocess.check_call([*git, "config", "gc.auto", "0"])
    paths = [directory / f"module_{number % 60:02}" / f"file_{number:04}.txt" for number in range(FILES)]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        lines = int(generator.lognormvariate(5.0, 0.9)) + 5
        path.write_text("".join(_line(generator, words) for _ in range(lines)))
    for number in range(COMMITS):
        if number > 0:
            for _ in range(FILES_PER_COMMIT):
                _edit(generator, paths[skewed_key(generator, FILES, exponent=1.5)], words)
        subprocess.check_call([*git, "add", "--all"])
        subprocess.check_call([*git, *identity, "commit", "--quiet", "--message", f"Change {number}"])
        if number % COMMITS_BETWEEN_COLLECTIONS == COMMITS_BETWEEN_COLLECTIONS - 1:
            subprocess.check_call([*git, "gc", "--quiet", "--prune=now"])


def _line(generator: random.Random, words: list[str]) -> str:
    return " ".join(generator.choices(words, k=generator.randrange(3, 16))) + "\n"


def _edit(generator: random.Random, path: Path, words: list[str]) -> None:
    """Replace a run of lines and save the file as many editors do: cut to nothing and written anew."""
    lines = path.read_text().splitlines(keepends=True)
    place = generator.randrange(len(lines))
    count = generator.randrange(1, 20)
    lines[place : place + count] = [_line(generator, words) for _ in range(count)]
    path.write_text("".join(lines))
