"""Small environments of every registered id, and valid actions for them."""

import gymnasium
import numpy as np

import kml_envs

SMALL = {"segments": 64, "blocks_per_segment": 16, "utilisation": 0.75, "warm_volumes": 1.0, "episode_volumes": 1.0}
WORKLOADS = {"workloads": ["uniform", "zipf-1.1", "shifting-mixture"]}
DAMON_SMALL = {
    "workloads": ["stairs", "sort-rows", "bursts-2-1"],
    "max_nr_regions": 100,
    "warm_s": 1.0,
    "window_s": 10.0,
}
DAMON_SECONDS = 10  # that stand for a volume of user writes
IDS = kml_envs.environment_ids()


def small(env_id, **arguments):
    """Arguments of a small environment; lengths are given in volumes."""
    if "Damon" not in env_id:
        return {**SMALL, **WORKLOADS, **arguments}
    translated = {"zipf-1.1": "sort-rows", "hot-cold-0.97-0.03": "idle-server"}
    if "workloads" in arguments and not isinstance(arguments["workloads"], str):
        arguments["workloads"] = [translated[name] for name in arguments["workloads"]]
    length = {"episode_s": DAMON_SECONDS * arguments.pop("episode_volumes", 1.0)}
    return {**DAMON_SMALL, **length, **arguments}


def make(env_id, **arguments):
    return gymnasium.make(env_id, **small(env_id, **arguments))


def make_vector(env_id, num_envs, **arguments):
    return gymnasium.make_vec(
        env_id,
        num_envs=num_envs,
        vectorization_mode="vector_entry_point",
        **small(env_id, **arguments),
    )


def sample(env, rng):
    """A valid action: any number within the bounds, any candidate that is not masked."""
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        return int(rng.choice(np.flatnonzero(env.unwrapped.action_masks())))
    return rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
