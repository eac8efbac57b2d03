"""Training frames per second end to end, beside Stable-Baselines3's PPO on CartPole in the same run.

    python benchmarks/training.py

Prints a table. LfsVictim has the algorithm, network and environments that `train.py` takes from its hyperparameter
file, CartPole those of Stable-Baselines3, both one torch thread. What a run has around them is left out: no callback
evaluates, saves or logs, and rewards are not normalized. Every figure is the best of several interleaved rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from agents.algorithms import find_algorithm, make_model
from agents.allocator import keep_freed_memory
from agents.hyperparameter_files import constructor_arguments, read_entry, run_settings
from agents.vector_env import make_native_vec_env

VICTIM = "kml/LfsVictim-v0"
ROUNDS = 3
CARTPOLE = "PPO, CartPole-v1, 16 dummy environments, batch 256"


def main() -> None:
    """Measure, and print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    measurements: dict[str, Callable[[], float]] = {
        CARTPOLE: cartpole(),
        "MaskablePPO, LfsVictim, candidate policy, 256 native": victim(),
    }
    best = dict.fromkeys(measurements, 0.0)
    for _ in range(ROUNDS):
        for name, measure in measurements.items():
            best[name] = max(best[name], measure())
    print(f"{'training':55} {'frames/s':>9} {'ratio':>6}")
    for name, rate in best.items():
        print(f"{name:55} {rate:9,.0f} {rate / best[CARTPOLE]:6.2f}")


def cartpole() -> Callable[[], float]:
    """Frames per second of the anchor: rollouts of 2,048 frames, ten epochs, as Stable-Baselines3 ships it."""
    env = make_vec_env("CartPole-v1", n_envs=16, seed=0)
    model = PPO("MlpPolicy", env, n_steps=128, batch_size=256, seed=0, device="cpu")
    return lambda: frames_per_second(lambda: model.learn(16_384, reset_num_timesteps=False), 16_384)


def victim() -> Callable[[], float]:
    """Frames per second of the shipped hyperparameters of LfsVictim."""
    env = make_native_vec_env(VICTIM, 256)
    algorithm = find_algorithm("ppo_mask", env.action_space, VICTIM)
    arguments = constructor_arguments(run_settings(read_entry("ppo_mask", VICTIM)).model)
    model = make_model(algorithm, env, arguments, seed=0, device="cpu")
    frames = 2 * model.n_steps * 256
    model.learn(frames)  # warm volumes are made once
    return lambda: frames_per_second(lambda: model.learn(frames, reset_num_timesteps=False), frames)


def frames_per_second(learn: Callable[[], object], frames: int) -> float:
    """Time one call of learn."""
    begin = time.perf_counter()
    learn()
    return frames / (time.perf_counter() - begin)


if __name__ == "__main__":
    main()
