"""The channel as a mounted file system, used with plain system calls and by a shell."""

import asyncio
import errno
import os
import select
import stat
import subprocess
import threading

import pytest

from kml_envs.serve.client import next_data_set, recommend
from kml_envs.serve.dataset import unpack


@pytest.fixture
def mount(server, tmp_path, needs_fuse):
    """Mount the tutorial's subsystem: mount(*arguments) returns the server, the model's folder and its files."""
    servers = []

    def start(*arguments):
        folder = tmp_path / "mount"
        one = server("--mount", str(folder), *arguments)
        servers.append(one)
        files = one.connect(mount=folder)
        return one, folder / "tutorial-Readahead-v0" / "model", files

    yield start
    for one in servers:
        if one.process.poll() is None:
            assert one.stop() == 0
    assert not os.path.ismount(tmp_path / "mount")


def test_a_decision_passes_through_the_mount(mount):
    one, folder, files = mount("--speed", "0", "--deadline-ms", "5000")
    for _ in range(100):
        data_set = next_data_set(files, 10)
        recommend(files, data_set.generation, 1)
    assert int(one.statistics(files)["agent_operations"]) == 100
    shell = (
        f"cd {folder}; cat state mode; echo learning > options/mode; cat options/mode; echo stop > control; cat state"
    )
    printed = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["running", "recommendation", "learning", "stopped"]


def test_permissions_are_those_of_sysfs(mount):
    _, folder, _ = mount()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes["control"] == modes["recommendation"] == 0o200 and modes["dataset"] == 0o400
    assert modes["state"] == modes["statistics"] == 0o444 and modes["options"] == 0o755
    assert stat.S_IMODE((folder / "options" / "mode").stat().st_mode) == 0o644
    for name, flags, error in (
        ("control", os.O_RDONLY, errno.EACCES),
        ("state", os.O_WRONLY, errno.EACCES),
        ("nothing", os.O_RDONLY, errno.ENOENT),
        ("another", os.O_CREAT | os.O_WRONLY, None),
    ):
        with pytest.raises(OSError) as refused:
            os.open(folder / name, flags)
        assert error is None or refused.value.errno == error
    with pytest.raises(OSError) as refused:
        (folder / "options" / "mode").write_text("best")
    assert refused.value.errno == errno.EINVAL
    with pytest.raises(OSError) as refused:
        os.chmod(folder / "control", 0o666)
    assert refused.value.errno == errno.EPERM


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_other_users_may_read_attributes_and_nothing_else(mount, tmp_path):
    _, folder, _ = mount()
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == 0 and stat.S_IMODE(path.stat().st_mode) == 0o700:
            path.chmod(0o711)
    script = f"cd {folder} && cat state && ! cat dataset && ! echo stop > control && ! echo learning > options/mode"
    result = subprocess.run(["sh", "-c", script], capture_output=True, text=True, user=65534, group=65534)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "running\n" and result.stderr.lower().count("permission denied") == 3


def test_poll_wakes_on_a_new_data_set_and_on_a_changed_text(mount):
    _, folder, files = mount("--speed", "0", "--deadline-ms", "20000")
    first = next_data_set(files, 10)
    data, verdict = (os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK) for name in ("dataset", "verdict"))
    try:
        assert unpack(os.pread(data, 4096, 0)).generation == first.generation
        with pytest.raises(BlockingIOError):
            os.pread(data, 4096, 0)
        os.pread(verdict, 4096, 0)
        poll = select.poll()
        poll.register(data, select.POLLIN)
        poll.register(verdict, select.POLLPRI)
        assert poll.poll(50) == []
        later = threading.Timer(0.2, recommend, (files, first.generation, 1))
        later.start()
        woken = dict(poll.poll(20_000))
        later.join()
        woken |= dict(poll.poll(20_000))
        assert woken[data] & select.POLLIN and woken[verdict] & select.POLLPRI
        assert unpack(os.pread(data, 4096, 0)).generation == first.generation + 1
    finally:
        os.close(data)
        os.close(verdict)


def test_a_reader_may_wait_in_the_read_itself(mount):
    _, folder, files = mount("--speed", "0", "--deadline-ms", "20000")
    first = next_data_set(files, 10)
    data = os.open(folder / "dataset", os.O_RDONLY)
    try:
        assert unpack(os.pread(data, 4096, 0)).generation == first.generation
        later = threading.Timer(0.2, recommend, (files, first.generation, 1))
        later.start()
        record = b""
        while not record:
            record = os.pread(data, 4096, 0)
        later.join()
        assert unpack(record).generation == first.generation + 1
        assert os.pread(data, 4096, 0) == b"", "a second without news"
    finally:
        os.close(data)


def test_a_mount_of_a_killed_server_is_replaced(mount):
    one, _, files = mount()
    one.kill()
    with pytest.raises(OSError) as gone:
        files.read("state")
    assert gone.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    files.close()
    one.start()
    assert one.connect(mount=one.socket.parent / "mount").read("state") == b"running\n"


def test_a_server_ends_cleanly_while_a_request_arrives(served, tmp_path, needs_fuse):
    """A request has woken the loop of pyfuse3, which has not run yet: ending it then left a dead mount once."""
    import pyfuse3.asyncio

    from kml_envs.serve.file_system import mounted

    folder = tmp_path / "mount"
    folder.mkdir()
    channel, _ = served()
    asker = threading.Thread(target=os.path.exists, args=(folder / "nothing",))

    async def serve():
        async with mounted(channel, folder, "model") as serving:
            while not pyfuse3.asyncio._read_futures:
                await asyncio.sleep(0.01)
            ((descriptor, (waiting,)),) = pyfuse3.asyncio._read_futures.items()
            asker.start()
            assert select.select([descriptor], [], [], 10)[0]
            waiting.set_result(None)
        return serving.done() and serving.exception()

    assert asyncio.run(serve()) is None
    asker.join(timeout=10)
    assert not asker.is_alive() and not os.path.ismount(folder)
