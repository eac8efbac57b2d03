"""What every registered id promises, under Gymnasium's and Stable-Baselines3's own checkers and ours."""

import json
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from small_environments import DAMON_SECONDS, IDS, make, make_vector, sample, small

from kml_envs.proxy import Mode, Verdict

pytestmark = pytest.mark.gymnasium_interface


def cost(env_id, subsystem, info):
    """What an episode cost, from its closing information: blocks moved, nanoseconds of LfsPacing, ms of DAMON's."""
    if "Damon" in env_id:
        least = 0.5 if "Reclaim" in env_id else 0.0
        return (least - info["score"]) * 4.0 * DAMON_SECONDS * 1000
    if "Pacing" in env_id:
        return round(info["excess_ms"] * 1e6) + subsystem.move_price_ns * info["moved_blocks"]
    return info["moved_blocks"]


def run_episode(env, seed, rng, **reset):
    observations, rewards = [env.reset(seed=seed, **reset)[0]], []
    while True:
        observation, reward, terminated, truncated, info = env.step(sample(env, rng))
        observations.append(observation)
        rewards.append(reward)
        assert terminated is False
        if truncated:
            return np.array(observations), np.array(rewards), info


@pytest.mark.parametrize("env_id", IDS)
def test_checkers_are_silent(env_id):
    from stable_baselines3.common.env_checker import check_env as check_env_sb3

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(env_id).unwrapped)
        check_env_sb3(make(env_id).unwrapped)
        # The passive checker of `make` sees a whole episode.
        run_episode(make(env_id), 3, np.random.default_rng(0))


@pytest.mark.parametrize("env_id", IDS)
def test_spec_round_trips(env_id):
    spec = make(env_id).spec
    copied = gymnasium.make(type(spec).from_json(spec.to_json()))
    first, _ = make(env_id).reset(seed=5)
    second, _ = copied.reset(seed=5)
    assert np.array_equal(first, second)


@pytest.fixture(scope="module")
def digests():
    """What an episode of every environment looks like in two processes."""
    script = (
        "import gymnasium, hashlib, json, sys, numpy as np\n"
        "found = {}\n"
        "for env_id, arguments in json.loads(sys.argv[1]).items():\n"
        "    env = gymnasium.make('kml_envs:' + env_id, **arguments)\n"
        "    env.action_space.seed(1)\n"
        "    observation, _ = env.reset(seed=7)\n"
        "    digest = hashlib.sha256(observation.tobytes())\n"
        "    truncated = False\n"
        "    while not truncated:\n"
        "        observation, reward, _, truncated, _ = env.step(env.action_space.sample())\n"
        "        digest.update(observation.tobytes() + np.float64(reward).tobytes())\n"
        "    found[env_id] = digest.hexdigest()\n"
        "print(json.dumps(found))\n"
    )
    arguments = json.dumps({env_id: small(env_id) for env_id in IDS})
    command = [sys.executable, "-c", script, arguments]
    return [json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(2)]


@pytest.mark.parametrize("env_id", IDS)
def test_deterministic_across_processes(digests, env_id):
    assert digests[0][env_id] == digests[1][env_id]


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("mode", ["recommendation", "collaboration"])
def test_vector_rows_equal_single_environments(env_id, mode):
    """Step for step within the first episode, and after autoreset from each row's own generator."""
    count = 3
    arguments = {"mode": mode, "episode_volumes": 4.5 if mode == "collaboration" else 0.75}
    vector = make_vector(env_id, count, **arguments)
    singles = [make(env_id, **arguments) for _ in range(count)]
    seen, _ = vector.reset(seed=11)
    for row, env in enumerate(singles):
        assert np.array_equal(seen[row], env.reset(seed=11 + row)[0])
    rng = np.random.default_rng(2)
    resets = 0
    for _ in range(2000):
        actions = [sample(env, rng) for env in singles]
        seen, rewards, _, truncated, infos = vector.step(np.array(actions))
        for row, env in enumerate(singles):
            observation, reward, _, ended, info = env.step(actions[row])
            assert reward == rewards[row]
            assert ended == truncated[row]
            if ended:
                resets += 1
                assert np.array_equal(observation, infos["final_obs"][row])
                cost_of = "score" if "Damon" in env_id else "moved_blocks"
                assert info[cost_of] == infos["final_info"][cost_of][row]
                observation, _ = env.reset()
            assert np.array_equal(observation, seen[row])
        if resets >= 2 * count:
            break
    assert resets >= count


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("mode", ["learning", "collaboration", "recommendation", "emergency"])
def test_reward_is_exactly_the_cost_saved(env_id, mode):
    """Σ reward · scale = cost(shadow) − cost(agent): the shadow is run here by hand, as an emergency."""
    arguments = {"mode": mode, "episode_volumes": 4.0, "workloads": ["zipf-1.1"]}
    env = make(env_id, **arguments)
    _, rewards, info = run_episode(env, 3, np.random.default_rng(1))
    _, _, builtin = run_episode(make(env_id, **{**arguments, "mode": "emergency"}), 3, np.random.default_rng(1))
    subsystem = env.unwrapped.proxy.subsystem
    assert info["efficiency"] == pytest.approx(rewards.sum() * subsystem.reward_scale, rel=1e-12)
    if mode in ("recommendation", "emergency"):  # the other modes may skip episodes without a unit of the agent's
        assert info.get("user_blocks") == builtin.get("user_blocks")
        saved = cost(env_id, subsystem, builtin) - cost(env_id, subsystem, info)
        assert saved == pytest.approx(info["efficiency"], rel=1e-9 if "Damon" in env_id else 0, abs=1e-6)


@pytest.mark.parametrize("env_id", IDS)
def test_episode_ends_after_user_writes_not_steps(env_id):
    env = make(env_id, episode_volumes=1.5)
    _, _, info = run_episode(env, 0, np.random.default_rng(0))
    if "Damon" in env_id:
        assert env.unwrapped.proxy.subsystem.elapsed_us()[0] == 1.5 * DAMON_SECONDS * 1e6
    else:
        assert info["user_blocks"] == round(1.5 * int(64 * 16 * 0.75))


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("render_mode", ["rgb_array", "ansi"])
def test_rendering(env_id, render_mode):
    env = make(env_id, render_mode=render_mode)
    run_episode(env, 0, np.random.default_rng(0))
    frame = env.render()
    if render_mode == "ansi":
        if "Damon" in env_id:
            assert [line[11:].count("|") for line in frame.splitlines()] == [1, 1, 1, 0]
            return
        assert "write amplification" in frame
        assert len("".join(line for line in frame.splitlines() if " " not in line)) == 64
    else:
        assert frame.dtype == np.uint8
        assert frame.shape[2] == 3
        assert len(np.unique(frame.reshape(-1, 3), axis=0)) > 10


def test_workload_can_be_fixed_at_reset():
    env = make("kml/LfsTune-v0")
    for seed in range(4):
        _, _, info = run_episode(env, seed, np.random.default_rng(0), options={"workload": "zipf-1.1"})
        assert info["workload"] == 1


def test_observations_stay_within_bounds():
    for env_id in IDS:
        env = make(env_id, workloads=["hot-cold-0.97-0.03"])
        observations, _, _ = run_episode(env, 0, np.random.default_rng(0))
        assert all(env.observation_space.contains(observation) for observation in observations)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"workloads": "zipf-"}, "workload"),
        ({"builtin": "gredy"}, "Did you mean 'greedy'"),
        ({"utilisation": 0.99}, "no room to clean"),
        ({"blocks_per_segment": 48}, "power of two"),
        ({"episode_volumes": 0}, "episode_volumes"),
        ({"mode": "colaboration"}, "Did you mean 'collaboration'"),
        ({"window_volumes": 1}, "window_volumes"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, said):
    from kml_envs.errors import UserError

    with pytest.raises(UserError, match=said) as caught:
        make("kml/LfsTune-v0", **arguments)
    assert "\n" not in str(caught.value)


def test_first_choice_is_the_builtin_algorithm():
    """Choosing candidate 0 throughout saves exactly nothing."""
    env = make("kml/LfsVictim-v0")
    env.reset(seed=0)
    truncated, rewards = False, []
    while not truncated:
        _, reward, _, truncated, _ = env.step(0)
        rewards.append(reward)
    assert sum(rewards) == 0.0
    # Several cleanings at one user write are paid at once, and by the shadow when the next block is written.
    assert min(rewards) < 0.0 < max(rewards)


def test_the_zero_action_of_tuning_is_accepted_and_cleans_greedily():
    from kml_envs.lfs.config import CleaningPolicy
    from kml_envs.lfs.policies import select_victim

    env = make("kml/LfsTune-v0").unwrapped
    env.reset(seed=0)
    volume = env.proxy.subsystem.state.volumes[0]
    truncated, steps = False, 0
    while not truncated:
        *_, truncated, info = env.step(np.zeros(env.action_space.shape, np.float32))
        assert info["verdict"] == Verdict.ACCEPTED
        victims = [select_victim(volume, np.int64(policy)) for policy in (CleaningPolicy.SCORE, CleaningPolicy.GREEDY)]
        valid = env.proxy.subsystem.state.section_valid[0][victims]
        assert min(victims) >= 0 and valid[0] == valid[1]
        steps += 1
    assert steps == 4 and info["operations"] == steps


def test_bad_candidates_are_rejected_and_the_builtin_acts():
    from kml_envs.proxy import Verdict

    env = make("kml/LfsVictim-v0").unwrapped
    env.reset(seed=0)
    masked = int(np.flatnonzero(~env.action_masks())[0])
    for action, verdict in ((masked, Verdict.NO_SUCH_CANDIDATE), (99, Verdict.OUT_OF_RANGE), ("x", Verdict.WRONG_TYPE)):
        cleaned = env.proxy.subsystem.metrics()["operations"][0]
        _, _, _, _, info = env.step(action)
        assert info["verdict"] == verdict
        assert not info["acted_by_agent"]
        assert env.proxy.subsystem.metrics()["operations"][0] == cleaned + 1


def test_kernel_side_refuses_segments_that_may_not_be_cleaned():
    from kml_envs.lfs import victim
    from kml_envs.lfs.volume import SegmentState

    env = make("kml/LfsVictim-v0").unwrapped
    env.reset(seed=0)
    subsystem = env.proxy.subsystem
    states = subsystem.state.section_states[0]
    expected = {
        SegmentState.FREE: victim.FREE,
        SegmentState.CURRENT: victim.CURRENT,
        SegmentState.DIRTY: victim.ACCEPTED,
        SegmentState.FULL: victim.FULLY_VALID,
        SegmentState.CLEANING: victim.UNDER_CLEANING,
    }
    # One section is set to each state in turn, as a faulty candidate list would present it.
    section = int(subsystem.candidates[0, 0])
    for state, code in expected.items():
        states[section] = state
        assert subsystem.check_codes(np.zeros(1, np.int64))[0] == code
    states[section] = SegmentState.DIRTY
    subsystem.state.volumes["settings"]["protection"] = 2**40
    assert subsystem.check_codes(np.zeros(1, np.int64))[0] == victim.PROTECTED


def refused_segment(subsystem, verdict):
    """A segment for which the kernel side has this verdict, which a faulty list of candidates could present."""
    from kml_envs.lfs.sections import leave_index
    from kml_envs.lfs.volume import SegmentState

    volume, states = subsystem.state.volumes[0], subsystem.state.section_states[0]
    dirty = np.flatnonzero(states == SegmentState.DIRTY)
    if verdict == Verdict.SEGMENT_PROTECTED:
        return int(dirty[np.argmax(subsystem.state.sealed_at[0][dirty])])
    if verdict == Verdict.SEGMENT_UNDER_CLEANING:
        section = int(dirty[dirty != subsystem.candidates[0, 0]][0])
        leave_index(volume, section)
        states[section] = SegmentState.CLEANING
        return section
    wanted = {
        Verdict.SEGMENT_FREE: SegmentState.FREE,
        Verdict.SEGMENT_CURRENT: SegmentState.CURRENT,
        Verdict.SEGMENT_FULLY_VALID: SegmentState.FULL,
    }[verdict]
    return int(np.flatnonzero(states == wanted)[0])


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict.SEGMENT_FREE,
        Verdict.SEGMENT_CURRENT,
        Verdict.SEGMENT_UNDER_CLEANING,
        Verdict.SEGMENT_FULLY_VALID,
        Verdict.SEGMENT_PROTECTED,
    ],
    ids=lambda verdict: verdict.name.lower(),
)
def test_refused_segments_are_counted_and_the_builtin_acts(verdict):
    protection = 0.1 if verdict == Verdict.SEGMENT_PROTECTED else 0.0
    env = make("kml/LfsVictim-v0", protection_volumes=protection, workloads=["hot-cold-0.97-0.03"]).unwrapped
    env.reset(seed=0)
    subsystem, name = env.proxy.subsystem, f"verdict/{verdict.name.lower()}"
    builtin = int(subsystem.candidates[0, 0])
    subsystem.candidates[0, 1] = section = refused_segment(subsystem, verdict)
    assert section != builtin
    erases, before = subsystem.state.sections["erases"][0].copy(), env.proxy.table()
    _, _, _, _, info = env.step(1)
    after, erased = env.proxy.table(), subsystem.state.sections["erases"][0] - erases
    assert info["verdict"] == verdict and not info["acted_by_agent"]
    assert after[name][0] == before[name][0] + 1
    assert after["agent_operations"][0] == before["agent_operations"][0]
    assert after["builtin_operations"][0] == before["builtin_operations"][0] + 1
    assert erased[builtin] == 1 and erased[section] == 0


def test_an_agent_is_not_asked_where_the_builtin_finds_everything_protected():
    """The user writes on instead, down to the reserve; a question without an answer would be asked for ever."""
    env = make("kml/LfsVictim-v0", builtin="fifo", protection_volumes=50.0)
    env.reset(seed=0)
    truncated, steps = False, 0
    while not truncated:
        _, _, _, truncated, info = env.step(0)
        steps += 1
        assert steps < 10
    assert info["user_blocks"] == 768 and info["moved_blocks"] > 0


def test_a_negative_protection_is_told():
    from kml_envs.errors import UserError

    with pytest.raises(UserError, match="protection_volumes -1"):
        make("kml/LfsVictim-v0", protection_volumes=-1)


@pytest.mark.parametrize("env_id", IDS)
def test_operations_are_what_is_decided(env_id):
    """So that in mode recommendation most are the agent's: what the built-in algorithm does at the reserve is not."""
    env, rng = make(env_id).unwrapped, np.random.default_rng(0)
    env.reset(seed=4)
    for _ in range(3):
        env.step(sample(env, rng))
    table = env.proxy.table()
    assert table["agent_operations"][0] > 0
    assert 0 <= table["builtin_operations"][0] <= table["agent_operations"][0]


@pytest.mark.parametrize("env_id", IDS)
def test_mode_auto_begins_in_learning_keeps_its_budget_and_tells_its_evidence(env_id):
    """Whatever the agent does: here, anything that is not refused."""
    env, rng = make(env_id, mode="auto", episode_volumes=12.0).unwrapped, np.random.default_rng(3)
    env.reset(seed=3)
    assert env.proxy.controller.mode().tolist() == [Mode.LEARNING]
    truncated = False
    while not truncated:
        _, _, _, truncated, info = env.step(sample(env, rng))
    assert info["mode"] in list(Mode)
    for name in ("share", "evidence_better", "evidence_not_worse", "budget_left", "degradations"):
        assert np.isfinite(info[name])
    budget = env.proxy.controller.budget
    assert 0.0 <= budget.spent[0] <= env.proxy.options.tolerance * budget.builtin[0]


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize(("latency_us", "deadline_us", "late"), [(450, 100, True), (450, None, False)])
def test_agents_take_time_and_may_be_late(env_id, latency_us, deadline_us, late):
    env = make(env_id, latency_us=latency_us, deadline_us=deadline_us, episode_volumes=4.0).unwrapped
    rng = np.random.default_rng(1)
    env.reset(seed=1)
    verdicts, truncated = [], False
    while not truncated and len(verdicts) < 20:  # long, since of settings drawn at random most may be refused
        *_, truncated, info = env.step(sample(env, rng))
        verdicts.append(info["verdict"])
        assert info["acted_by_agent"] == (info["verdict"] == Verdict.ACCEPTED)
    assert (Verdict.DEADLINE_MISSED in verdicts) == late
    assert (Verdict.ACCEPTED in verdicts) == (not late)
