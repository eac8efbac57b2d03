"""A served subsystem, in this process with a clock of its own, or in another process behind a socket."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gymnasium
import pytest

from kml_envs.serve.channel import Channel
from kml_envs.serve.client import connect
from kml_envs.serve.kernel import SimulatedKernel
from kml_envs.serve.options import ServeOptions

ROOT = Path(__file__).parent.parent.parent

FIXED = ("--mode", "recommendation")  # in which every decision is the agent's


class Clock:
    """A clock that stands still until it is set."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def served(tutorial_module):
    """Serve the tutorial's subsystem in this process: served(**options) returns channel and clock."""

    def make(*, speed=0.0, deadline_ms=50.0, record=None, **options):
        env = gymnasium.make("tutorial/Readahead-v0", **options).unwrapped
        kernel = SimulatedKernel(env, ServeOptions(speed, deadline_ms), seed=3, record=record)
        clock = Clock()
        return Channel(kernel, "tutorial/Readahead-v0", clock=clock), clock

    return make


class Server:
    """A server in another process; at the end it is killed if it still runs."""

    def __init__(self, folder, arguments):
        self.socket = folder / "socket"
        self._command = [sys.executable, "-m", "kml_envs", "serve", "--seed", "3", *arguments]
        self._command += ["--env", "readahead:tutorial/Readahead-v0", *(() if "--mode" in arguments else FIXED)]
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
        self._folder = folder
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            self._command, env=self._environment, cwd=self._folder, stderr=subprocess.PIPE, text=True
        )

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """End it as an operator would, and return its exit status; its complaints are shown where a test fails."""
        self.process.send_signal(signal.SIGTERM)
        print(self.process.communicate(timeout=30)[1])
        return self.process.returncode

    def connect(self, **place):
        place = place or {"socket_path": self.socket}
        return _eventually(lambda: connect(**place), OSError)

    def statistics(self, files):
        return dict(line.rsplit(" ", 1) for line in files.read("statistics").decode().splitlines())


@pytest.fixture
def server(tutorial_module, tmp_path):
    """Serve the tutorial's subsystem in another process: server(*arguments)."""
    (tmp_path / "readahead.py").write_text(Path(tutorial_module.__file__).read_text())
    servers = []

    def start(*arguments):
        places = () if "--mount" in arguments else ("--socket", str(tmp_path / "socket"))
        servers.append(Server(tmp_path, [*places, *arguments]))
        return servers[-1]

    yield start
    for one in servers:
        if one.process.poll() is None:
            one.kill()
        one.process.stderr.close()


def _eventually(call, *errors, seconds=60):
    """The first true result of a call, which may raise the given errors until then."""
    end = time.monotonic() + seconds
    while True:
        try:
            if result := call():
                return result
        except errors:
            if time.monotonic() > end:
                raise
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


@pytest.fixture
def eventually():
    """Call until the result is true: eventually(call, *errors_to_ignore)."""
    return _eventually


@pytest.fixture
def needs_fuse():
    """Skip where nothing can be mounted, and say why."""
    pytest.importorskip("pyfuse3", reason="needs the extra 'fuse'")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is not there or not permitted")
    if shutil.which("fusermount3") is None:
        pytest.skip("fusermount3 is not installed")
    with tempfile.TemporaryDirectory() as folder:
        program = "import pyfuse3, sys; pyfuse3.init(pyfuse3.Operations(), sys.argv[1]); pyfuse3.close()"
        tried = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=False)
        if tried.returncode:
            pytest.skip(f"this machine cannot mount: {tried.stderr.strip().splitlines()[-1]}")
