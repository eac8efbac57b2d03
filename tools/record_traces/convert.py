"""From a strace log to block writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tools.record_traces.block_model import BlockWrite, FileSystem
from tools.record_traces.strace_log import file_operations, process_tree


@dataclass(frozen=True)
class Conversion:
    """What came of a log.

    Attributes:
        operations: Number of file operations in the recorded directory.
        writes: The block writes, in the order of their arrival.
        wrong_sizes: Files whose size in the model differs from the real one: (path, modelled bytes, real bytes). It
            is a check of the whole chain, since a lost or misplaced write shows in the size of its file.
    """

    operations: int
    writes: list[BlockWrite]
    wrong_sizes: list[tuple[str, int, int]]


def convert(log: Path, directory: Path) -> Conversion:
    """Run the block-address model over a log.

    Args:
        log: Made by `capture`.
        directory: The recorded directory, as the application left it.
    """
    with log.open(encoding="utf-8", errors="replace") as lines:
        parents = process_tree(lines)
    file_system = FileSystem(str(directory))
    writes: list[BlockWrite] = []
    operations = 0
    with log.open(encoding="utf-8", errors="replace") as lines:
        for operation in file_operations(lines, parents):
            operations += operation.path.startswith(str(directory))
            writes.extend(file_system.apply(operation))
    return Conversion(operations, writes, _wrong_sizes(file_system, directory))


def _wrong_sizes(file_system: FileSystem, directory: Path) -> list[tuple[str, int, int]]:
    modelled = file_system.sizes()
    real = {str(path): path.stat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink()}
    paths = sorted(path for path in modelled.keys() | real.keys() if path.startswith(str(directory)))
    return [
        (path, modelled.get(path, 0), real.get(path, 0)) for path in paths if modelled.get(path, 0) != real.get(path, 0)
    ]
