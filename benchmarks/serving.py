"""What a decision of an agent in another process costs, beside a bare pipe ping-pong of the same run.

    python benchmarks/serving.py [--env ID] [--rounds N]

A decision is one write of `recommendation` and one read of the `dataset` that follows, on open descriptors, against a
server at speed 0; it includes the simulation that runs on to the next question. Over the socket both requests go out in
one message, as `python -m agents serve` sends them, or one after the other ("two trips"). A ping-pong is one byte to
another process and back. Prints medians; the kinds take turns, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kml_envs.serve.client import ModelFiles, connect, next_data_set
from kml_envs.serve.dataset import HEADER

DECISIONS = 500
BOUNDS = {"socket": 20.0, "socket, two trips": 20.0, "mount": 60.0}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="kml/LfsVictim-v0")
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        times = measure(arguments.env, arguments.rounds, Path(folder))
    anchor = statistics.median(times["pipe"])
    print(f"{'one decision':20} {'median µs':>10} {'pipes':>6} {'bound':>6}")
    for name, each in times.items():
        median = statistics.median(each)
        print(f"{name:20} {median * 1e6:10.1f} {median / anchor:6.1f} {BOUNDS.get(name, 1.0):6.0f}")


def measure(env: str, rounds: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of every ping-pong and decision, by kind."""
    command = [sys.executable, "-m", "kml_envs", "serve", "--env", env, "--mode", "recommendation"]
    command += ["--seed", "1", "--speed", "0", "--deadline-ms", "5000", "--socket", str(folder / "socket")]
    if os.access("/dev/fuse", os.R_OK | os.W_OK):
        command += ["--mount", str(folder / "mount")]
    server = subprocess.Popen(command)
    try:
        kinds: dict[str, Callable[[], list[float]]] = {"pipe": ping_pong()}
        socket_files = reached(server, {"socket_path": folder / "socket"})
        kinds["socket"] = lambda: decisions(socket_files, write_and_read)
        kinds["socket, two trips"] = lambda: decisions(socket_files, write_then_read)
        if "--mount" in command:
            mounted = reached(server, {"mount": folder / "mount"})
            kinds["mount"] = lambda: decisions(mounted, write_then_read)
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, run in kinds.items():
                times[name] += run()
        return times
    finally:
        server.terminate()
        server.wait()


def reached(server: subprocess.Popen[bytes], place: dict[str, Path]) -> ModelFiles:
    """Connect, once the server has prepared itself."""
    while server.poll() is None:
        try:
            return connect(**place)
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the server ended")


def decisions(files: ModelFiles, decide: Callable[[ModelFiles, bytes], bytes]) -> list[float]:
    """Seconds of decisions in a row."""
    while next_data_set(files, 1.0) is None:
        pass
    files.write("control", b"prepare_dataset")
    times: list[float] = []
    record: bytes | None = None
    while len(times) < DECISIONS:
        try:
            if record is None:
                record = files.read("dataset")
            recommendation = b"%d 0" % HEADER.unpack_from(record)[3]
            begin = time.perf_counter()
            record = decide(files, recommendation)
            times.append(time.perf_counter() - begin)
        except BlockingIOError:  # another question came up and was missed, while others were measured
            record = None
            files.wait("dataset", 1.0)
    return times


def write_and_read(files: ModelFiles, recommendation: bytes) -> bytes:
    """Both in one message, where the channel can."""
    return files.write_and_read("recommendation", recommendation, "dataset")


def write_then_read(files: ModelFiles, recommendation: bytes) -> bytes:
    """One after the other."""
    files.write("recommendation", recommendation)
    return files.read("dataset")


def ping_pong() -> Callable[[], list[float]]:
    """A process that answers a byte with a byte."""
    (its, ours), (our_end, its_end) = os.pipe(), os.pipe()
    multiprocessing.get_context("fork").Process(target=_echo, args=(its, its_end), daemon=True).start()

    def run() -> list[float]:
        times = []
        for _ in range(DECISIONS):
            begin = time.perf_counter()
            os.write(ours, b"x")
            os.read(our_end, 1)
            times.append(time.perf_counter() - begin)
        return times

    return run


def _echo(source: int, target: int) -> None:
    while byte := os.read(source, 1):
        os.write(target, byte)


if __name__ == "__main__":
    main()
