"""RocksDB under its own benchmark program."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools.record_traces.applications.processes import find_program

KEYS = 250_000
VALUE_BYTES = 400


def update(directory: Path) -> None:
    """Fill a store in random order, then overwrite random keys, with small buffers so that compaction is frequent.

    Args:
        directory: Where the store is made.
    """
    subprocess.check_call(
        [
            find_program("db_bench", "rocksdb-tools"),
            f"--db={directory}",
            "--benchmarks=fillrandom,overwrite",
            f"--num={KEYS}",
            f"--value_size={VALUE_BYTES}",
            "--seed=3",
            "--threads=1",
            "--batch_size=20",
            "--compression_type=none",
            f"--write_buffer_size={2 << 20}",
            f"--target_file_size_base={2 << 20}",
            f"--max_bytes_for_level_base={8 << 20}",
            "--level0_file_num_compaction_trigger=4",
            "--max_background_jobs=2",
            # The log reaches the device in steps instead of only when it is closed.
            f"--wal_bytes_per_sync={64 << 10}",
            # Spread the run out: bursts of compaction between a steady flow of writes.
            f"--benchmark_write_rate_limit={4 << 20}",
        ],
        stdout=subprocess.DEVNULL,
    )
