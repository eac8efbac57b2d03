"""The daemon: it answers, survives servers that are killed, is survived by them, and learns on."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import pytest

from agents.algorithms import find_algorithm, make_model
from agents.loading import load_model
from agents.run_folder import RunFolder
from agents.serving import ServingOptions, connect_to, serve_agent
from agents.vector_env import make_native_vec_env
from kml_envs.errors import UserError

ROOT = Path(__file__).parent.parent.parent
ENV = "readahead:tutorial/Readahead-v0"
MODEL = {"policy": "MlpPolicy", "n_steps": 16, "batch_size": 16, "policy_kwargs": {"net_arch": [8]}}


@pytest.fixture
def run(tutorial_module, tmp_path):
    """A run folder with an untrained model of the tutorial's subsystem."""
    env = make_native_vec_env(ENV, 1, {"efficiency": "none"})
    model = make_model(find_algorithm("ppo", env.action_space, ENV), env, MODEL, seed=0, device="cpu")
    folder = RunFolder.create(tmp_path, "ppo", ENV)
    folder.describe({"env": ENV, "algo": "ppo", "env_kwargs": {}}, {"n_timesteps": 100, **MODEL}, 0)
    model.save(folder.best_model)
    return folder


@pytest.fixture
def signals():
    """The daemon runs in this process, and takes over its signals."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def daemon(run):
    """Start the daemon on a server: daemon(server, *arguments) returns its process."""
    processes = []

    def start(one, *arguments):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(one.socket.parent)])}
        command = [sys.executable, "-m", "agents", "serve", str(run.path), "--quiet", *arguments]
        if "--mount" not in arguments:
            command += ["--socket", str(one.socket)]
        processes.append(subprocess.Popen(command, env=environment, cwd=one.socket.parent))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def decided(one, files, side="agent"):
    return int(one.statistics(files)[f"{side}_operations"])


DEADLINE_MS = 100
AUTO = ("--mode", "auto", "--env-kwargs", "share:0.5")
KILLS = 5


def kill_at_any_moment(process, moments):
    """Kill a daemon that is at work, some time below the deadline later: before, in or after a decision."""
    time.sleep(moments.uniform(0.0, DEADLINE_MS / 1e3))
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("mode", [(), AUTO], ids=["recommendation", "auto"])
def test_a_daemon_may_be_killed_at_any_moment_and_come_again(server, daemon, eventually, mode):
    one = server("--speed", "5", "--deadline-ms", str(DEADLINE_MS), *mode)
    files = one.connect()
    moments = random.Random(4)
    for _ in range(KILLS if mode else 2):
        process = daemon(one)
        before = decided(one, files)
        eventually(lambda before=before: decided(one, files) > before)
        kill_at_any_moment(process, moments)
        builtin = decided(one, files, "builtin")
        eventually(lambda builtin=builtin: decided(one, files, "builtin") > builtin + 50)
        assert files.read("state") == b"running\n" and one.process.poll() is None
    if mode:
        eventually(lambda: files.read("mode") == b"emergency\n")
        assert int(one.statistics(files)["emergencies_unhealthy"]) >= KILLS
    assert one.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["socket", "mount"])
def test_a_killed_daemon_means_emergency_until_one_is_back(server, daemon, eventually, request, tmp_path, transport):
    place = {}
    if transport == "mount":
        request.getfixturevalue("needs_fuse")
        place = {"mount": tmp_path / "mount"}
    words = [word for name, path in place.items() for word in (f"--{name}", str(path))]
    one = server("--speed", "2", "--deadline-ms", "200", "--mode", "auto", *words)
    files = one.connect(**place)
    process = daemon(one, *words)
    eventually(lambda: decided(one, files) > 0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    eventually(lambda: files.read("mode") == b"emergency\n", seconds=20)
    before = decided(one, files, "builtin")
    eventually(lambda: decided(one, files, "builtin") > before + 20)
    assert files.read("mode") == b"emergency\n"
    daemon(one, *words)
    eventually(lambda: files.read("mode") == b"learning\n")
    files.close()
    assert one.stop() == 0


@pytest.mark.slow
def test_a_daemon_comes_first_survives_restarts_and_ends_when_told(server, daemon, eventually):
    one = server("--speed", "5", "--deadline-ms", "100")
    one.kill()
    process = daemon(one)
    for _ in range(2):
        one.start()
        files = one.connect()
        eventually(lambda files=files: decided(one, files) > 10)
        files.close()
        one.kill()
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


@pytest.mark.slow
@pytest.mark.parametrize("learn", [(), ("--learn",)])
def test_a_daemon_says_once_what_it_waits_for(run, tutorial_module, tmp_path, learn, eventually):
    (tmp_path / "readahead.py").write_text(Path(tutorial_module.__file__).read_text())
    nowhere = tmp_path / "nowhere"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    command = [sys.executable, "-m", "agents", "serve", str(run.path), "--socket", str(nowhere), *learn]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=said)
    try:
        eventually(lambda: "waiting" in (tmp_path / "said").read_text())
        time.sleep(1.0)  # some more attempts
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert (tmp_path / "said").read_text().count(f"waiting for {nowhere}\n") == 1


@pytest.mark.slow
def test_a_daemon_learns_on_and_saves(server, daemon, eventually, run):
    one = server("--speed", "5", "--deadline-ms", "200")
    files = one.connect()
    process = daemon(one, "--learn", "--save-freq", "40")
    saved = run.path / "served_model.zip"
    eventually(saved.is_file)
    first = saved.read_bytes()
    eventually(lambda: saved.read_bytes() != first)
    assert decided(one, files) > 40
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    assert load_model(saved).num_timesteps >= 80


@pytest.mark.slow
def test_a_daemon_may_be_killed_while_it_learns(server, daemon, eventually, run):
    one = server("--speed", "5", "--deadline-ms", "200")
    files = one.connect()
    process = daemon(one, "--learn", "--save-freq", "5")
    saved = run.path / "served_model.zip"
    eventually(saved.is_file)
    kill_at_any_moment(process, random.Random(5))
    assert load_model(saved).num_timesteps >= 5, "what is saved is whole"
    builtin = decided(one, files, "builtin")
    eventually(lambda: decided(one, files, "builtin") > builtin + 50)
    before = decided(one, files)
    daemon(one)
    eventually(lambda: decided(one, files) > before)
    assert one.stop() == 0


@pytest.mark.slow
def test_a_daemon_serves_a_mount(server, daemon, eventually, needs_fuse, tmp_path):
    mount = tmp_path / "mount"
    one = server("--mount", str(mount), "--speed", "5", "--deadline-ms", "100")
    files = one.connect(mount=mount)
    process = daemon(one, "--mount", str(mount))
    eventually(lambda: decided(one, files) > 10)
    process.kill()
    process.wait()
    files.close()
    assert one.stop() == 0


def test_a_model_for_something_else_is_refused(server, run):
    one = server("--speed", "1")
    one.connect().close()
    options = ServingOptions(run.path, socket=one.socket)
    loaded = load_model(run.path)
    connect_to(options, loaded).close()
    loaded.model.action_space = gymnasium.spaces.Discrete(7)
    with pytest.raises(UserError, match=r"recommends choice 7 .* asks for choice 6 from 3"):
        connect_to(options, loaded)
    for wrong in (
        ServingOptions(run.path),
        ServingOptions(run.path, socket=one.socket, save_freq=0),
        ServingOptions(run.path, socket=one.socket, save=run.path / "model.zip"),  # and nothing is learned
        ServingOptions(run.path, socket=run.path),
    ):
        with pytest.raises(UserError):
            serve_agent(wrong)


def test_a_place_where_nothing_can_be_saved_is_told_before_anything_is_learned(run, tmp_path, signals):
    (tmp_path / "file").touch()
    for place, why in (
        (tmp_path / "file" / "model.zip", "Not a directory"),
        (tmp_path / "nowhere" / "model.zip", "No such file or directory"),
        (tmp_path, "is a folder, a file is needed"),
    ):
        options = ServingOptions(run.path, socket=tmp_path / "socket", learn=True, save=place, quiet=True)
        with pytest.raises(UserError, match=f"--save {place}: {why}"):
            serve_agent(options)


@pytest.mark.parametrize("learn", [False, True])
def test_a_socket_that_can_never_be_there_is_not_waited_for(run, tmp_path, signals, learn):
    place = tmp_path / ("x" * 200)
    with pytest.raises(UserError, match=f"--socket {place}: .*too long"):
        serve_agent(ServingOptions(run.path, socket=place, learn=learn, quiet=True))
