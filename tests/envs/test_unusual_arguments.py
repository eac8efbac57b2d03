"""Legal settings that are unusual keep to the spaces, and those that make no sense are refused in one line."""

import gymnasium
import numpy as np
import pytest

import kml_envs  # noqa: F401 - registers the environments
from kml_envs.errors import UserError
from kml_envs.lfs.volume import SegmentState

SMALL = {"segments": 128, "blocks_per_segment": 16, "warm_volumes": 0.5, "workloads": "uniform", "efficiency": "none"}


def make(name, **arguments):
    return gymnasium.make(f"kml/{name}-v0", disable_env_checker=True, **arguments).unwrapped


@pytest.mark.parametrize("blocks, utilisation", [(64, 0.3), (512, 0.1), (512, 0.6)])
def test_victims_that_are_cleaned_in_parts_stay_within_the_space(blocks, utilisation):
    env = make("LfsPacing", workloads="uniform", segments=40, blocks_per_segment=blocks, utilisation=utilisation)
    observation, _ = env.reset(seed=1)
    for _ in range(400):
        assert env.observation_space.contains(observation)
        observation, *_ = env.step(4 if env.action_masks()[4] else 1)


def test_shares_of_many_segments_do_not_exceed_one():
    env = make("LfsTune", **{**SMALL, "segments": 512, "blocks_per_segment": 512, "interval_volumes": 0.003})
    observation, _ = env.reset(seed=1)
    for _ in range(100):
        assert env.observation_space.contains(observation)
        observation, *_ = env.step(np.zeros(env.action_space.shape, np.float32))


@pytest.mark.parametrize("builtin", ["greedy", "d-choices", "cat", "random"])
def test_the_segment_with_the_fewest_valid_blocks_is_always_a_candidate(builtin):
    env = make("LfsVictim", **{**SMALL, "workloads": "zipf-0.9"}, builtin=builtin)
    env.reset(seed=1)
    subsystem = env.proxy.subsystem
    for _ in range(100):
        offered, valid = subsystem.candidates[0][subsystem.candidates[0] >= 0], subsystem.state.section_valid[0]
        assert valid[offered].min() == valid[subsystem.state.section_states[0] == SegmentState.DIRTY].min()
        env.step(0)


def test_what_is_protected_is_not_offered():
    env = make("LfsVictim", **SMALL, protection_volumes=1.0)
    env.reset(seed=1)
    for _ in range(50):
        mask = env.action_masks()
        for candidate in np.flatnonzero(mask[1:]) + 1:
            assert env.proxy.subsystem.check(np.array([candidate]))[0] == 0
        env.step(0)


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("LfsTune", {"interval_volumes": 1e308}, "interval_volumes 1e.308: must be at most"),
        ("LfsVictim", {"warm_volumes": 1e308}, "warm_volumes 1e.308: must be at most"),
        ("LfsPacing", {"latency_limit_ms": 1e15}, "latency_limit_ms .*: must be at most 1e.09"),
        ("LfsPacing", {"arrivals": "xyz"}, "xyz"),
        ("DamonMonitor", {"episode_s": 1e308}, "episode_s 1e.308: must be at most"),
        ("DamonMonitor", {"interval_s": 1e15}, "must be at most 2..53 us"),
        ("LfsTune", {"interval_volumes": float("inf")}, "interval_volumes inf: must be a finite number"),
        ("LfsTune", {"latency_us": float("nan")}, "latency_us nan: must be a finite number"),
        ("DamonMonitor", {"cpu_price": float("inf")}, "cpu_price inf: must be a finite number"),
        ("DamonReclaim", {"episode_s": 1e15}, "episode_progress"),
        ("DamonReclaim", {"memory_share": 0.3}, "memory_share 0.3: must lie above 0.370"),
        ("DamonTier", {"aggr_us": 400_000, "sample_us": 200_000}, "at least 5 times sample_us"),
        ("LfsTune", {"domains": 3}, "domains 3"),
        ("LfsTune", {"info_decisions": "yes"}, "info_decisions 'yes': must be true or false"),
        ("LfsVictim", {"mode": "learning", "share": 1e-6}, "share 1e-06: must be 0 or at least"),
    ],
)
def test_what_makes_no_sense_is_refused(name, arguments, reason):
    with pytest.raises(UserError, match=reason):
        make(name, **arguments)


def test_a_vector_environment_says_that_it_takes_a_mask_too():
    env = gymnasium.make_vec("kml/LfsTune-v0", 2, vectorization_mode="vector_entry_point", **SMALL)
    with pytest.raises(UserError, match=r"\['oops'\]: accepted are 'mode', 'workload', 'reset_mask'$"):
        env.reset(seed=1, options={"oops": 1})


def test_reset_takes_all_of_its_options_or_none():
    env = make("LfsTune", **{**SMALL, "workloads": ["uniform", "zipf-0.9"]})
    with pytest.raises(UserError, match=r"unknown reset options \['oops'\]: accepted are 'mode', 'workload'$"):
        env.reset(seed=1, options={"workload": "zipf-0.9", "oops": 1})
    assert env.proxy.subsystem.warm.only is None
    for options, reason in (
        ({"mode": None}, "unknown mode 'None'"),
        ({"workload": 0}, "unknown workload '0'"),
        ({"workload": "zipf-0.9", "mode": "good"}, "unknown mode 'good'"),
    ):
        with pytest.raises(UserError, match=reason):
            env.reset(seed=1, options=options)
        assert env.proxy.subsystem.warm.only is None


def test_times_in_a_wrong_unit_are_refused_where_time_counts(tmp_path):
    """Eight weeks without a write: the cleaner would wake a million times before the next one."""
    trace = tmp_path / "weeks.csv"
    rows = [f"{second},W,{4096 * (second % 500)},4096" for second in range(2000)]
    rows += [f"{day * 86_400},R,0,4096" for day in range(1, 56)]  # what is only read does not shorten the gap
    trace.write_text("time,op,offset,size\n" + "\n".join([*rows, f"{8 * 7 * 86_400},W,0,4096"]) + "\n")
    with pytest.raises(UserError, match=r"weeks': nothing is written for 56 days: at most 7 .* '@slowed-FACTOR'"):
        make("LfsPacing", workloads=f"trace:{trace}")
    make("LfsVictim", **{**SMALL, "workloads": f"trace:{trace}"}).close()
    make("LfsPacing", **{**SMALL, "workloads": f"trace:{trace}@slowed-0.001"}).reset(seed=1)
