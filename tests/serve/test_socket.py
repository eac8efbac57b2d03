"""The channel over a socket, with a server in another process."""

import errno
import os
import socket
import stat
import struct

import pytest

from kml_envs.serve.client import next_data_set, read_feedback, recommend


def test_an_agent_in_another_process_serves_the_proxy(server):
    one = server("--speed", "0", "--deadline-ms", "5000")
    files = one.connect()
    assert stat.S_IMODE(os.stat(one.socket).st_mode) == 0o600
    assert files.list()["control"] == 0o200
    for _ in range(200):
        data_set = next_data_set(files, 10)
        recommend(files, data_set.generation, 1)
        assert read_feedback(files)["generation"] == str(data_set.generation)
    assert int(one.statistics(files)["agent_operations"]) == 200
    with pytest.raises(OSError) as refused:
        files.read("control")
    assert refused.value.errno == errno.EACCES
    assert one.stop() == 0 and not one.socket.exists()


def test_killing_the_agent_leaves_the_kernel_running_and_another_may_come(server, eventually):
    one = server("--speed", "0", "--deadline-ms", "300")
    dead = one.connect()
    next_data_set(dead, 10)
    dead.close()
    files = one.connect()
    eventually(lambda: int(one.statistics(files)["builtin_operations"]) > 100)
    assert int(one.statistics(files)["agent_operations"]) == 0
    data_set = next_data_set(files, 10)
    recommend(files, data_set.generation, 1)
    assert files.read("verdict").decode().split() == [str(data_set.generation), "accepted"]


def test_floods_and_broken_frames_harm_only_their_sender(server):
    one = server("--speed", "20", "--deadline-ms", "1000")
    good = one.connect()
    flood = socket.socket(socket.AF_UNIX)
    flood.connect(str(one.socket))
    flood.setblocking(False)
    frame = b"\x02\x0erecommendation9999999 0"
    message = struct.pack("<I", len(frame)) + frame
    for frames in (struct.pack("<I", 1 << 31), b"\x02\x00\x00\x00\x01\xff", b"\x03\x00\x00\x00\x09\x00\x00"):
        with socket.socket(socket.AF_UNIX) as broken:
            broken.connect(str(one.socket))
            broken.sendall(frames)
    for _ in range(30):
        try:
            while True:
                flood.send(message * 100)
        except BlockingIOError:
            pass
        data_set = next_data_set(good, 10)
        recommend(good, data_set.generation, 1)
    assert int(one.statistics(good)["agent_operations"]) > 0
    flood.close()
    assert one.process.poll() is None


def test_a_restarted_server_takes_the_place_of_a_killed_one(server):
    one = server("--speed", "0")
    one.connect().close()
    one.kill()
    assert one.socket.exists()
    one.start()
    assert one.connect().read("state") == b"running\n"
    second = server("--speed", "0")
    assert second.process.wait(timeout=30) == 2
    assert "a server is listening there already" in second.process.stderr.read()
