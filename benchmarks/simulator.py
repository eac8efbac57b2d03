"""Speed of the simulator of a log-structured volume, against a loop that only updates its two maps.

    python benchmarks/simulator.py            # training geometry, and 1 GiB to 16 GiB
    python benchmarks/simulator.py --large    # up to 256 GiB, and a volume of 1 TiB

The loop does as many random updates of the same maps (where a block is, whose block a slot holds) as the
simulator writes and moves blocks: no faster simulator of the kind exists on the same machine. Both run in turns
and the fastest turn counts; times are processor times of the thread, so that a busy machine hardly matters.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from kml_envs.lfs.config import Geometry, LfsConfig
from kml_envs.lfs.simulator import advance_rows, fill_rows, format_rows
from kml_envs.lfs.state import LfsState, allocate, set_source
from kml_envs.workloads.source import bind_workloads
from kml_envs.workloads.synthetic import uniform

GIBIBYTE = 2**30
KERNEL_SEGMENT = 512  # blocks
SEED = 7
WARM_UP_VOLUMES = 3
FIRST_ROW = np.zeros(1, np.int64)


class Measurement(NamedTuple):
    """What one volume did.

    Attributes:
        writes: Million user writes per second of processor time.
        amplification: Write amplification of the measured writes.
        ratio: Map updates per second of the simulator against those of the loop.
    """

    writes: float
    amplification: float
    ratio: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of the log-structured volume's simulator.")
    parser.add_argument("--large", action="store_true", help="volumes up to 256 GiB, and one of 1 TiB")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side; the fastest counts")
    arguments = parser.parse_args()
    print(f"{'volume':>30} {'M user writes/s':>16} {'WA':>7} {'of the loop':>12} {'cost against 1 GiB':>19}")
    training = LfsConfig(Geometry(segments=256, blocks_per_segment=64, utilisation=0.83))
    _print_row("256 segments x 64 blocks", measure(training, 2_000_000, arguments.repeats), None)
    first: Measurement | None = None
    for size in (1, 4, 16, 64, 256) if arguments.large else (1, 4, 16):
        measured = measure(_sized(size), 4_000_000, arguments.repeats)
        first = first or measured
        _print_row(f"{size} GiB", measured, first)
    if arguments.large:
        _overwrite_tebibyte()


def _sized(gibibytes: int) -> LfsConfig:
    """A volume with so much main area in segments of the kernel's size."""
    segments = gibibytes * GIBIBYTE // 4096 // KERNEL_SEGMENT
    return LfsConfig(Geometry(segments=segments, blocks_per_segment=KERNEL_SEGMENT, utilisation=0.83))


def measure(config: LfsConfig, writes: int, repeats: int) -> Measurement:
    """Run the simulator and the loop in turns.

    Args:
        config: The volume.
        writes: User writes of a turn.
        repeats: Turns.

    Returns:
        The fastest turns.
    """
    state = _start(config)
    _write(state, WARM_UP_VOLUMES * config.geometry.volume_blocks)
    locations, owners = np.zeros_like(state.blocks[0]), np.zeros_like(state.owners[0])
    fastest_write, fastest_update, fastest_loop, amplification = np.inf, np.inf, np.inf, 0.0
    for repeat in range(repeats):
        moved = int(state.volumes["moved"][0])
        seconds = _write(state, writes)
        updates = writes + int(state.volumes["moved"][0]) - moved
        fastest_write = min(fastest_write, seconds / writes)
        fastest_update = min(fastest_update, seconds / updates)
        amplification = updates / writes
        begin = time.thread_time()
        _update_maps(locations, owners, updates, repeat)
        if repeat > 0:  # the first turn compiles
            fastest_loop = min(fastest_loop, (time.thread_time() - begin) / updates)
    return Measurement(1e-6 / fastest_write, amplification, fastest_loop / fastest_update)


def _start(config: LfsConfig) -> LfsState:
    state = allocate(config, bind_workloads([uniform()], config.geometry.volume_blocks), 1)
    format_rows(state.volumes, FIRST_ROW, np.array([SEED], np.uint64))
    set_source(state, 0, 0, SEED)
    fill_rows(state.volumes, FIRST_ROW)
    return state


def _write(state: LfsState, writes: int) -> float:
    until = state.volumes["user_writes"] + writes
    begin = time.thread_time()
    advance_rows(state.volumes, FIRST_ROW, until, np.zeros(1, np.bool_))
    return time.thread_time() - begin


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _update_maps(blocks: NDArray[np.void], owners: NDArray[np.int32], updates: int, seed: int) -> None:
    source = np.uint64(seed)
    for update in range(updates):
        source += np.uint64(0x9E3779B97F4A7C15)
        mixed = (source ^ (source >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
        block = ((mixed >> np.uint64(32)) * np.uint64(blocks.size)) >> np.uint64(32)
        slot = ((mixed & np.uint64(0xFFFFFFFF)) * np.uint64(owners.size)) >> np.uint64(32)
        blocks[block].location = slot
        blocks[block].written_at = update
        owners[slot] = block


def _overwrite_tebibyte() -> None:
    begin = time.thread_time()
    state = _start(_sized(1024))
    filled = time.thread_time() - begin
    seconds = _write(state, 10_000_000)
    gibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIBIBYTE
    print(
        f"1 TiB: allocated and filled in {filled:.0f} s, overwritten with 10 million writes in {seconds:.1f} s, "
        f"{gibibytes:.1f} GiB of memory at the most"
    )


def _print_row(name: str, measured: Measurement, first: Measurement | None) -> None:
    growth = f"{first.ratio / measured.ratio:19.2f}" if first else ""
    print(
        f"{name:>30} {measured.writes:16.2f} {measured.amplification:7.3f} {measured.ratio:12.3f} {growth}", flush=True
    )


if __name__ == "__main__":
    main()
