"""The tutorial's commands and claims, as they stand in the page, but for their length."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kml_envs.proxy import Mode
from kml_envs.serve.client import connect, next_data_set, recommend

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "tutorial.md").read_text()


def command(line, *further):
    """A command of the page, to be run from another folder."""
    _, script, *words = shlex.split(line)
    return [sys.executable, script if script == "-m" else str(ROOT / script), *words, *further]


def surroundings(folder):
    return {"cwd": folder, "env": {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}}


def run(line, folder, *further):
    return subprocess.run(
        command(line, *further), **surroundings(folder), capture_output=True, text=True, check=True
    ).stdout


def costs(printed):
    """Cost and what is saved by policy, from the closing table."""
    rows = re.findall(
        r"^(built-in algorithm|agent \(ppo\)|random-action) +([\d.]+)(?: +([+-][\d.]+) %)?$", printed, re.M
    )
    return {name: (float(cost), float(saved or 0.0)) for name, cost, saved in rows}


def read_further(features):
    """Twice as far as the built-in algorithm after a jump, and at once as far as can be in a long run."""
    run_length = round(features[0] * 64)
    return 1 if run_length == 0 else 3 if run_length <= 2 else 5


@pytest.mark.slow
def test_the_subsystem_of_the_page_is_trained_judged_and_served(tutorial_module, tmp_path, eventually):
    (tmp_path / "readahead.py").write_text(Path(tutorial_module.__file__).read_text())
    lines = re.findall(r"^python .*$", PAGE, flags=re.MULTILINE)
    train, judge, serve, agent = lines

    short = ("--eval-freq", "512", "--eval-episodes", "4", "--eval-deployment", "8", "--n-envs", "4")
    printed = run(train.replace("20000", "1024"), tmp_path, *short)
    assert re.search(r"The agent \(ppo\) .* the built-in algorithm", printed)
    folder = tmp_path / "logs/ppo/readahead:tutorial-Readahead-v0_1"
    assert (folder / "best_model.zip").is_file()

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= {"rollout/ep_rew_mean", "rollout/ep_len_mean", "eval/mean_reward", "train/value_loss", "time/fps"}
    assert tags >= {"proxy/mode", "proxy/efficiency/agent", "proxy/verdict/accepted", "eval/auto/mode"}
    assert [event.step for event in events.Scalars("eval/mean_reward")] == [0, 512, 1024]
    assert events.Scalars("proxy/mode")[-1].value == Mode.RECOMMENDATION  # fixed while it is trained
    assert events.Scalars("proxy/verdict/accepted")[-1].value > 0

    printed = run(judge, tmp_path, "--quiet", "--n-seeds", "3")
    assert "mean over 3 seeds" in printed and "The proxy would have trusted it in" in printed
    table = costs(printed)
    assert set(table) == {"built-in algorithm", "agent (ppo)", "random-action"}
    for cost, saved in table.values():
        assert saved == pytest.approx(100 * (1 - cost / table["built-in algorithm"][0]), abs=0.1)

    place = str(tmp_path / "socket")
    server_line = command(serve.replace("/tmp/readahead", place).removesuffix(" &"), "--speed", "0")
    with (
        subprocess.Popen(server_line, **surroundings(tmp_path)) as server,
        subprocess.Popen(command(agent.replace("/tmp/readahead", place)), **surroundings(tmp_path)) as daemon,
    ):
        try:
            files = eventually(lambda: connect(socket_path=Path(place)), OSError)
            assert files.read("options/mode") == b"auto\n"
            eventually(lambda: b"\nverdict/accepted 0\n" not in files.read("statistics"))
        finally:
            daemon.terminate()
            server.terminate()
    assert server.returncode == 0


@pytest.mark.parametrize(("agent", "trusted"), [(read_further, True), (lambda features: 5, False)])
def test_mode_auto_finds_out_by_itself_how_far_an_agent_can_be_trusted(tutorial_module, agent, trusted):
    env = gymnasium.make("tutorial/Readahead-v0", mode="auto")
    features, info = env.reset(seed=1)
    modes = {info["mode"]}
    for _ in range(1500):
        features, _, _, truncated, info = env.step(agent(features))
        modes.add(info["mode"])
        if truncated:
            features, _ = env.reset()
    if trusted:
        assert modes >= {Mode.LEARNING, Mode.COLLABORATION, Mode.RECOMMENDATION}
        assert info["mode"] == Mode.RECOMMENDATION
    else:
        assert modes == {Mode.LEARNING, Mode.EMERGENCY}  # the loss budget


@pytest.mark.slow
def test_the_served_subsystem_comes_to_trust_an_agent_in_another_process(server, eventually):
    files = server("--speed", "0", "--mode", "auto", "--deadline-ms", "5000").connect()
    assert files.read("mode") == b"learning\n"

    def trusted():
        for _ in range(100):
            if (data_set := next_data_set(files, 10)) is not None:
                recommend(files, data_set.generation, read_further(data_set.features))
        return files.read("mode") == b"recommendation\n"

    eventually(trusted, seconds=300)
    assert float(files.read("efficiency")) > 0.0
