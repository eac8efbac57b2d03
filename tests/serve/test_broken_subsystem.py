"""A user's own subsystem that has a bug: the server ends, answers whoever waits, and keeps what was recorded."""

import errno
from pathlib import Path

import pytest

from kml_envs.serve.client import next_data_set, recommend
from kml_envs.serve.recording import read_recording

BUG = """

from pathlib import Path


def unless_broken(method):
    def call(self, *arguments):
        if Path("broken").exists():
            raise {error}("a bug of the user's")
        return method(self, *arguments)

    return call


Readahead.{method} = unless_broken(Readahead.{method})
"""


class Broken:
    """A served subsystem of which one method begins to raise an error when told so."""

    def __init__(self, server, folder, method, arguments, error):
        self.folder, self.error = Path(folder), error
        with (folder / "readahead.py").open("a") as module:
            module.write(BUG.format(method=method, error=error))
        self.server = server(*arguments, "--speed", "0", "--deadline-ms", "20000")

    def break_down(self):
        (self.folder / "broken").touch()

    def check_ended(self):
        """It has ended by itself, and shows the user's own bug once."""
        process = self.server.process
        complaints = process.communicate(timeout=30)[1]
        assert process.returncode == 1
        assert complaints.count("Traceback") == complaints.count(f"{self.error}: a bug of the user's") == 1
        assert "in call" in complaints


@pytest.fixture
def broken(server, tmp_path):
    """Serve a subsystem with a bug: broken(method, *arguments)."""

    def start(method, *arguments, error="RuntimeError"):
        return Broken(server, tmp_path, method, arguments, error)

    return start


each_error = pytest.mark.parametrize("error", ["RuntimeError", "FileNotFoundError"])


@each_error
def test_a_bug_while_nobody_is_asked_ends_the_server(broken, tmp_path, eventually, error):
    one = broken("run", "--record", str(tmp_path / "decisions"), error=error)
    files = one.server.connect()
    eventually(lambda: int(one.server.statistics(files)["builtin_operations"]) > 10)
    one.break_down()
    one.check_ended()
    assert not one.server.socket.exists()
    assert len(read_recording(tmp_path / "decisions").columns["row"]) > 10


@each_error
def test_a_bug_in_a_decision_ends_the_server_and_its_agent_sees_it_gone(broken, error):
    one = broken("execute", error=error)
    files = one.server.connect()
    data_set = next_data_set(files, 10)
    one.break_down()
    recommend(files, data_set.generation, 1)  # is answered before it is carried out
    with pytest.raises(OSError):
        while True:
            files.read("state")
    one.check_ended()


def test_a_bug_behind_a_file_answers_its_reader_and_ends_the_server(broken):
    one = broken("metrics")
    files = one.server.connect()
    one.break_down()
    with pytest.raises(OSError) as refused:
        files.read("statistics")
    assert refused.value.errno == errno.EIO
    one.check_ended()


@pytest.mark.parametrize("name", ["recommendation", "statistics"])
def test_a_bug_behind_the_mount_answers_whoever_waits_and_ends_the_server(broken, tmp_path, needs_fuse, name):
    one = broken("execute" if name == "recommendation" else "metrics", "--mount", str(tmp_path / "mount"))
    files = one.server.connect(mount=tmp_path / "mount")
    data_set = next_data_set(files, 10)
    one.break_down()
    with pytest.raises(OSError) as refused:
        if name == "recommendation":
            recommend(files, data_set.generation, 1)
        else:
            files.read(name)
    assert refused.value.errno == errno.EIO
    files.close()
    one.check_ended()
    assert not (tmp_path / "mount").is_mount()
