"""The command line of `train.py`: mistakes in one line, and a clean stop."""

import importlib.util
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from kml_envs.errors import run_command
from kml_envs.serve.recording import read_recording

ROOT = Path(__file__).parents[2]
SMALL = ["--env-kwargs", "segments:64", "blocks_per_segment:16", "utilisation:0.6", "warm_volumes:1.0"]
QUICK = [
    *SMALL,
    "--workload",
    "zipf-0.9",
    "--n-envs",
    "4",
    "-params",
    "n_steps:8",
    "batch_size:32",
    "n_epochs:1",
    "imitate:false",
]


def command(*arguments):
    return [sys.executable, str(ROOT / "train.py"), *arguments]


def run(tmp_path, *arguments):
    return subprocess.run(
        command("-f", str(tmp_path / "logs"), *arguments), capture_output=True, text=True, cwd=ROOT, timeout=300
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    (
        (["--env", "kml/LfsTuna-v0"], "Did you mean 'kml/LfsTune-v0'"),
        (["--algo", "pppo"], "Did you mean 'ppo'"),
        (["--algo", "dqn"], "choose one of"),
        (["--no-such-flag"], "--no-such-flag"),
        (["-n", "0"], "positive"),
        (["-n", "many"], "invalid int"),
        (["--env-kwargs", "segments"], "KEY:VALUE"),
        (["--env-kwargs", "segmants:3"], "segmants"),
        (
            ["--env-kwargs", "segments:96"],
            "cost-benefit/sepbit, which is compared too: utilisation 0.85 leaves no room",
        ),
        (["-params", "gama:0.9"], "gama"),
        (["-params", "learning_rate:fast"], "lin_X"),
        (["--mode", "autopilot"], "autopilot"),
        (["--workload", "no-such"], "no-such"),
        (["--trace", "no-such-file.csv"], "no-such-file.csv"),
        (["-i", "no-such-model.zip"], "no-such-model.zip"),
        (["--eval-freq", "-1"], "--eval-freq"),
        (["--eval-deployment", "-1"], "--eval-deployment"),
        (["--device", "toaster"], "toaster"),
        (["--device", "xpu"], "accepted are auto, cpu, cuda"),
        (["--num-threads", "0"], "--num-threads 0"),
        (["-params", "gamma:abc"], "gamma 'abc'"),
        (["-params", "gamma:1.5"], "gamma 1.5"),
        (["-params", "policy_kwargs:abc"], "policy_kwargs 'abc'"),
        (["-params", "normalize:abc"], "normalize 'abc'"),
        (["-params", "normalize:{norm_obs: false, clip_reward: abc}"], "clip_reward 'abc'"),
        (["-params", "imitate:abc"], "imitate 'abc'"),
        (["-params", "average_reward:3"], "average_reward 3"),
        (["--env-kwargs", "segments:abc"], "segments 'abc': must be a whole number"),
        (["--tensorboard-log", "/proc/events"], "--tensorboard-log /proc/events"),
        (["--tensorboard-log", __file__], "File exists"),
    ),
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line_and_leave_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    # In this process, because starting one that imports torch takes seconds.
    monkeypatch.setattr(sys, "argv", ["train.py", "-f", str(tmp_path / "logs"), *arguments])
    with pytest.raises(SystemExit) as exited:
        run_command(train_command().main)
    assert exited.value.code == 2
    told = capsys.readouterr().err
    assert message in told and told.startswith("error: ")
    assert len(told.strip().splitlines()) == 1, told
    assert not (tmp_path / "logs").exists()


def test_a_device_that_is_not_there_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    test_mistakes_are_one_line_and_leave_nothing(["--device", "cuda"], "no such device", tmp_path, monkeypatch, capsys)


def test_a_run_goes_on_in_its_own_environment_only(tmp_path, monkeypatch, capsys):
    run_folder = tmp_path / "earlier"
    settings = run_folder / "kml-LfsTune-v0"
    settings.mkdir(parents=True)
    (settings / "args.yml").write_text("env: kml/LfsTune-v0\nalgo: ppo\n")
    (settings / "config.yml").write_text("n_timesteps: 64\n")
    with zipfile.ZipFile(run_folder / "kml-LfsTune-v0.zip", "w") as model:
        model.writestr("data", '{"num_timesteps": 64}')
    arguments = ["-i", str(run_folder), "--env", "kml/LfsVictim-v0"]
    test_mistakes_are_one_line_and_leave_nothing(
        arguments, "was trained on kml/LfsTune-v0", tmp_path, monkeypatch, capsys
    )


def train_command():
    """The module `train.py`, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("train_command", ROOT / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), ((signal.SIGINT, 130), (signal.SIGTERM, 143)))
def test_an_interrupted_training_leaves_a_checkpoint_that_can_be_continued(number, status, tmp_path):
    logs = tmp_path / "logs"
    flags = ["--no-progress", "--no-closing", "--eval-episodes", "1", "--eval-freq", "0", "--eval-deployment", "0"]
    process = subprocess.Popen(
        command("-f", str(logs), "-n", "1000000", *flags, *QUICK), stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    run_folder = logs / "ppo" / "kml-LfsTune-v0_1"
    until = time.monotonic() + 240
    while not (run_folder / "0.monitor.csv").exists() and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == status, output
    [checkpoint] = run_folder.glob("rl_model_*_steps.zip")
    assert f"-i {checkpoint}" in output
    steps = int(checkpoint.name.split("_")[2])
    again = run(tmp_path, "-i", str(checkpoint), "-n", "32", *flags)
    assert again.returncode == 0, again.stderr
    arguments = yaml.safe_load((logs / "ppo" / "kml-LfsTune-v0_2" / "kml-LfsTune-v0" / "args.yml").read_text())
    assert arguments["env_kwargs"]["segments"] == 64
    config = yaml.safe_load((logs / "ppo" / "kml-LfsTune-v0_2" / "kml-LfsTune-v0" / "config.yml").read_text())
    assert config["n_timesteps"] == steps + 32


@pytest.mark.slow
def test_what_a_training_records_another_one_begins_with(tmp_path):
    victim = [*QUICK, "--env", "kml/LfsVictim-v0", "--algo", "ppo_mask", "--no-progress", "--no-closing"]
    flags = [*victim, "--eval-freq", "0", "--eval-episodes", "1", "--eval-deployment", "0", "-n", "640"]
    decisions = tmp_path / "decisions"
    recorded = run(tmp_path, *flags, "--record", str(decisions))
    assert recorded.returncode == 0, recorded.stderr
    columns = read_recording(decisions).columns
    assert len(columns["reward"]) == 640 and {*columns["row"].tolist()} == {0, 1, 2, 3}
    begun = run(tmp_path, *flags, "--offline", str(decisions))
    assert begun.returncode == 0, begun.stderr
    [told] = [line for line in begun.stdout.splitlines() if line.startswith("imitated the built-in algorithm of")]
    assert str(decisions) in told and float(told.rsplit(" ", 1)[1]) > 0.5


def test_recordings_are_neither_overwritten_nor_invented(tmp_path, monkeypatch, capsys):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    for flag, name, message in (("--record", "taken", "is not empty"), ("--offline", "nothing", "no recording")):
        arguments = [*QUICK, "--env", "kml/LfsVictim-v0", "--algo", "ppo_mask", flag, str(tmp_path / name)]
        test_mistakes_are_one_line_and_leave_nothing(arguments, message, tmp_path, monkeypatch, capsys)
