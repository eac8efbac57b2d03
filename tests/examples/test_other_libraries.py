"""The environments from other people's reinforcement-learning code."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {"segments": 64, "blocks_per_segment": 16, "utilisation": 0.75, "warm_volumes": 1.0, "episode_volumes": 1.0}


@pytest.mark.gymnasium_interface
def test_one_file_ppo_learns():
    """The page's loop runs as printed, and its last iterations are better than its first."""
    finished = subprocess.run(
        [sys.executable, str(ROOT / "docs/examples/ppo.py"), "--total-steps", "3840", "--num-envs", "16"],
        capture_output=True,
        text=True,
        check=True,
    )
    curve = [float(line.split()[-1]) for line in finished.stdout.splitlines()]
    assert len(curve) == 12
    assert sum(curve[-3:]) > sum(curve[:3])


@pytest.mark.slow
@pytest.mark.gymnasium_interface
def test_code_of_the_page_on_own_code(tmp_path):
    """Its blocks run as they stand there."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/using.md").read_text(encoding="utf-8"), re.S)
    finished = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"^(zipf-0.99|uniform)$", finished.stdout, re.M)
    assert (tmp_path / "cleaning.gif").stat().st_size > 0


@pytest.mark.gymnasium_interface
def test_make_vec_env_of_stable_baselines():
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    env = make_vec_env("kml_envs:kml/LfsTune-v0", n_envs=2, seed=0, env_kwargs=SMALL)
    PPO("MlpPolicy", env, n_steps=8, batch_size=16, n_epochs=1, device="cpu").learn(32)


@pytest.mark.gymnasium_interface
@pytest.mark.optional
@pytest.mark.skipif(importlib.util.find_spec("rl_zoo3") is None, reason="rl_zoo3 is not installed")
def test_rl_zoo(tmp_path):
    """RL Zoo's own command line trains by id, with the package named by --gym-packages."""
    settings = tmp_path / "settings.yml"
    settings.write_text(
        "kml/LfsTune-v0:\n  n_envs: 1\n  n_timesteps: 64\n  policy: MlpPolicy\n  n_steps: 32\n  batch_size: 32\n"
        f"  env_kwargs: {json.dumps(SMALL)}\n"
    )
    command = [sys.executable, "-m", "rl_zoo3.train", "--algo", "ppo", "--env", "kml/LfsTune-v0"]
    command += ["--gym-packages", "kml_envs", "--conf-file", str(settings), "-f", str(tmp_path / "logs")]
    command += ["--eval-freq", "-1", "--device", "cpu"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    assert list((tmp_path / "logs/ppo").glob("kml-LfsTune-v0_1/*.zip"))


@pytest.mark.gymnasium_interface
@pytest.mark.optional
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray[rllib] is not installed")
def test_rllib():
    """RLlib makes the environment in its own processes, by id."""
    from ray.rllib.algorithms.ppo import PPOConfig

    config = PPOConfig().environment("kml_envs:kml/LfsTune-v0", env_config=SMALL)
    config = config.env_runners(num_env_runners=1).training(train_batch_size=128, minibatch_size=64, num_epochs=1)
    algorithm = config.build_algo()
    try:
        assert algorithm.train()["env_runners"]["num_env_steps_sampled"] >= 128
    finally:
        algorithm.stop()
