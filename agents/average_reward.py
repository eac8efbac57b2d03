"""Rewards that do not depend on how many decisions an agent cuts its time into.

Discounting counts decisions, and a cleaner that works in small parts takes more of them for the same user writes: where
every step costs something, it learns to put costs off by useless decisions; where every step earns something, to take
as few as it can. Measured against what the same instance has paid on average for as much progress lately, a decision
that changes nothing earns nothing (average reward in continuous time: Schwartz 1993; Das, Gosavi, Mahadevan and
Marchalleck 1999).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn, VecEnvWrapper

from agents.vector_env import NativeVecEnv

MEMORY = 0.2
"""Progress over which the average forgets, as a share of an episode."""

_FIRST = 1.0 / 16.0  # of that: weight of the other instances' average at the beginning of an episode


class AverageReward(VecEnvWrapper):
    """Adds to each reward what its progress cost on average; the monitor's returns stay those of the environment."""

    def __init__(self, venv: NativeVecEnv) -> None:
        """Wrap environments that count progress, with rewards that are costs: `efficiency: none`."""
        super().__init__(venv)
        self._native = venv
        self._memory = MEMORY * float(venv.proxies[0].options.episode_progress)
        self._before = np.zeros(venv.num_envs, np.int64)
        self._rewards = np.zeros(venv.num_envs)
        self._progress = np.zeros(venv.num_envs)

    def reset(self) -> VecEnvObs:
        """Begin an episode in every row, and forget."""
        observations = self.venv.reset()
        self._before = self._now()
        self._rewards[:] = 0.0
        self._progress[:] = 0.0
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and measure the rewards against the average."""
        observations, rewards, dones, infos = self.venv.step_wait()
        now = self._now()
        passed = np.where(dones, 0, now - self._before).astype(np.float64)
        self._before = now
        kept = np.exp(-passed / self._memory)
        self._rewards = kept * self._rewards + rewards
        self._progress = kept * self._progress + passed
        total = self._progress.sum()
        others = self._rewards.sum() / total if total > 0 else 0.0
        weight = _FIRST * self._memory
        average = (self._rewards + weight * others) / (self._progress + weight)
        self._rewards[dones] = 0.0
        self._progress[dones] = 0.0
        return observations, (rewards - average * passed).astype(np.float32), dones, infos

    def _now(self) -> npt.NDArray[np.int64]:
        counts: list[Any] = [proxy.subsystem.progress() for proxy in self._native.proxies]
        return np.concatenate(counts).astype(np.int64)
