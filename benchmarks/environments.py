"""Steps per second of the environments, each as a ratio to something measured in the same run.

    python benchmarks/environments.py

Prints a table. Every figure is the best of several interleaved rounds, resets included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

VICTIM, TUNE = "kml_envs:kml/LfsVictim-v0", "kml_envs:kml/LfsTune-v0"
ROUNDS = 5
SECONDS = 1.5  # of one measurement


def main() -> None:
    """Measure, and print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    measurements: dict[str, Callable[[], float]] = {
        "CartPole-v1, gymnasium.make": single("CartPole-v1"),
        "LfsVictim, gymnasium.make": single(VICTIM),
        "LfsTune, gymnasium.make": single(TUNE),
        "LfsVictim, native vector of 256, no shadow": vector(VICTIM, 256, efficiency="none"),
        "LfsVictim, native vector of 256, shadow": vector(VICTIM, 256),
        "LfsTune, native vector of 32, shadow": vector(TUNE, 32),
    }
    best = dict.fromkeys(measurements, 0.0)
    for _ in range(ROUNDS):
        for name, measure in measurements.items():
            best[name] = max(best[name], measure())
    anchor = best["CartPole-v1, gymnasium.make"]
    print(f"{'environment':45} {'steps/s':>10} {'of CartPole':>12}")
    for name, rate in best.items():
        print(f"{name:45} {rate:10,.0f} {rate / anchor:12.2f}")
    print(f"proxy's own share of a vector step (256, shadow): {proxy_share():.1%}")


def single(env_id: str) -> Callable[[], float]:
    """Steps per second of a single environment; actions are drawn beforehand."""
    env = gymnasium.make(env_id)
    env.reset(seed=0)
    env.action_space.seed(0)
    choice = isinstance(env.action_space, gymnasium.spaces.Discrete)
    actions = [int(action) if choice else action for action in (env.action_space.sample() for _ in range(1024))]
    if env_id == VICTIM:
        actions = [action % 12 for action in actions]

    def measure() -> float:
        steps, end = 0, time.perf_counter() + SECONDS
        begin = time.perf_counter()
        while time.perf_counter() < end:
            for action in actions[:256]:
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()
            steps += 256
        return steps / (time.perf_counter() - begin)

    return measure


def vector(env_id: str, count: int, **arguments: object) -> Callable[[], float]:
    """Steps per second, over all instances, of a native vector environment."""
    env = gymnasium.make_vec(env_id, num_envs=count, vectorization_mode="vector_entry_point", **arguments)
    env.reset(seed=0)
    actions = some_actions(env, count)

    def measure() -> float:
        steps, begin = 0, time.perf_counter()
        while time.perf_counter() < begin + SECONDS:
            for action in actions:
                env.step(action)
            steps += len(actions) * count
        return steps / (time.perf_counter() - begin)

    return measure


def proxy_share() -> float:
    """Share of a vector step that is neither the subsystem's nor the shadow's time."""
    env = gymnasium.make_vec(VICTIM, num_envs=256, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    subsystem, spent = env.unwrapped.proxy.subsystem, [0.0]
    shadow = env.unwrapped.proxy.efficiency._shadow
    verbs = ("snapshot", "builtin_decision", "check", "execute", "pending", "critical", "progress", "cost")
    for owner, watched in ((subsystem, (*verbs, "reset", "metrics")), (shadow, ("reset", "cost_at"))):
        for verb in watched:
            setattr(owner, verb, timed(getattr(owner, verb), spent))
    actions = some_actions(env, 256)
    begin, rounds = time.perf_counter(), 0
    while rounds < 20:
        for action in actions:
            env.step(action)
        rounds += 1
    return 1.0 - spent[0] / (time.perf_counter() - begin)


def timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """The same function, adding its time to `spent`."""

    def call(*arguments: object) -> object:
        begin = time.perf_counter()
        result = function(*arguments)
        spent[0] += time.perf_counter() - begin
        return result

    return call


def some_actions(env: gymnasium.vector.VectorEnv, count: int) -> list[Any]:
    """A few batches of actions: one of the twelve first candidates, or any parameters near zero."""
    rng = np.random.default_rng(0)
    space = env.single_action_space
    if isinstance(space, gymnasium.spaces.Discrete):
        return [rng.integers(12, size=count) for _ in range(16)]
    return [rng.uniform(-0.2, 0.2, (count, *space.shape)).astype(np.float32) for _ in range(4)]


if __name__ == "__main__":
    main()
