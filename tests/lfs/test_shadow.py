"""The shadow that runs ahead says at any progress what the built-in algorithm had paid there."""

import gymnasium
import numpy as np
import pytest

from kml_envs.envs.lfs_victim import LfsVictimSubsystem
from kml_envs.lfs import shadow
from kml_envs.proxy.efficiency import LockstepShadow

INSTANCES = 3
SIZE = {"segments": 64, "blocks_per_segment": 16, "utilisation": 0.75, "warm_volumes": 1.0}
WORKLOADS = {"workloads": ["hot-cold-0.8-0.2", "uniform"]}
VOLUME = round(64 * 16 * 0.75)
EVERYTHING = np.ones(INSTANCES, np.bool_)


def both(**arguments):
    """The shadow that runs ahead, and one that is run to every progress that is asked for."""
    env = gymnasium.make("kml_envs:kml/LfsVictim-v0", **{**SIZE, **WORKLOADS, **arguments}).unwrapped
    warm = env.proxy.subsystem.warm
    env.close()
    volumes = LfsVictimSubsystem(warm, INSTANCES)
    return shadow.VolumeShadow(warm, INSTANCES), LockstepShadow(volumes), volumes


def reset(shadows, rows, first_seed):
    for one in shadows:
        one.reset(rows, first_seed + np.arange(INSTANCES, dtype=np.uint64))


@pytest.mark.parametrize("segments", [64, 256])
@pytest.mark.parametrize("builtin", ["greedy", "cost-benefit", "d-choices", "random", "fifo"])
def test_ahead_and_in_lockstep_cost_the_same_at_any_progress(builtin, segments):
    ahead, lockstep, volumes = both(builtin=builtin, segments=segments)
    rng = np.random.default_rng(0)
    reset((ahead, lockstep), EVERYTHING, np.uint64(5))
    paid = np.zeros(INSTANCES)
    for round_number in range(400):
        if round_number % 150 == 149:  # episodes end at different times
            reset((ahead, lockstep), np.arange(INSTANCES) == rng.integers(INSTANCES), np.uint64(round_number))
        strides = rng.choice([0, 1, 7, 40, 3 * VOLUME], p=[0.1, 0.3, 0.3, 0.29, 0.01], size=INSTANCES)
        progress = volumes.progress() + strides
        paid = lockstep.cost_at(progress)
        np.testing.assert_array_equal(ahead.cost_at(progress), paid)
    assert (paid > VOLUME / 4).all()


def test_a_full_course_is_followed_by_the_next():
    ahead, lockstep, volumes = both(segments=128, utilisation=0.85)
    reset((ahead, lockstep), EVERYTHING, np.uint64(1))
    progress = volumes.progress() + round(0.5 * shadow.STRIDE * VOLUME)
    ahead.cost_at(progress)
    counts = ahead._courses["count"].copy()
    assert (counts > 10).all() and (ahead._courses["position"] < counts).all()
    progress = progress + 20 * VOLUME  # many courses further
    np.testing.assert_array_equal(ahead.cost_at(progress), lockstep.cost_at(progress))


def test_the_end_of_a_trace_ends_a_course():
    ahead, _, _ = both(workloads=["uniform"])
    reset((ahead,), EVERYTHING, np.uint64(1))
    volumes = ahead._volumes.state.volumes
    ahead.cost_at(volumes["user_writes"] + VOLUME)
    volumes["exhausted"] = 1
    last = ahead.cost_at(volumes["user_writes"] + 5 * VOLUME)
    np.testing.assert_array_equal(last, volumes["moved"])
