"""The tutorial's commands, as they stand in the page, but for their length."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "tutorial.md").read_text()


def command(line, *further):
    """A command of the page, to be run from another folder."""
    _, script, *words = shlex.split(line)
    return [sys.executable, script if script == "-m" else str(ROOT / script), *words, *further]


def run(line, folder, *further):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    return subprocess.run(
        command(line, *further), cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.slow
def test_the_subsystem_of_the_page_is_trained_judged_and_served(tutorial_module, server, tmp_path):
    (tmp_path / "readahead.py").write_text(Path(tutorial_module.__file__).read_text())
    lines = re.findall(r"^python .*$", PAGE, flags=re.MULTILINE)
    train, judge, serve, agent = lines
    printed = run(train.replace("20000", "1024"), tmp_path, "--eval-freq", "0", "--eval-episodes", "4", "--n-envs", "4")
    assert re.search(r"The agent \(ppo\) .* the built-in algorithm", printed)
    folder = tmp_path / "logs/ppo/readahead:tutorial-Readahead-v0_1"
    assert list((folder / "tensorboard").glob("events*")) and (folder / "best_model.zip").is_file()
    printed = run(judge, tmp_path, "--quiet", "--n-seeds", "3")
    assert "mean over 3 seeds" in printed and "random-action" in printed
    one = server("--speed", "0", "--mode", "auto")
    files = one.connect()
    assert files.read("options/mode") == b"auto\n"
    assert "--socket" in serve and "-m agents serve" in agent
