"""Same episodes for every policy, and what the report says about them."""

import numpy as np
import pytest

from agents.baselines import (
    PACING,
    TUNE,
    VICTIM,
    WITH_USER_SPLITS,
    BuiltinPolicy,
    Contender,
    builtin_contender,
    compared_builtins,
    listed_builtins,
    named_contender,
    shipped_builtins,
)
from agents.evaluation import closing_report, compare
from agents.playing import episode_seeds, evaluate, evaluate_oracle, make_environment
from agents.results import Comparison, Evaluation, join
from agents.tables import describe, format_table, verdict
from agents.vector_env import make_native_env
from kml_envs.envs.lfs import BUILTIN_POLICIES
from kml_envs.envs.lfs_pacing import BACKGROUNDS
from kml_envs.errors import UserError
from kml_envs.lfs.oracle import OracleKind

SEEDS = (3, 1, 7)
METRICS = ("moved_blocks", "user_blocks", "write_amplification")


@pytest.fixture(params=[TUNE, VICTIM])
def env_id(request):
    """Each environment of the log-structured file system."""
    return request.param


def test_builtin_acts_alike_by_recommendation_and_in_emergency_mode(env_id, small):
    asked = evaluate(Contender("asked", env_id, small, BuiltinPolicy), ["zipf-0.9"], SEEDS)
    alone = evaluate(builtin_contender("greedy", env_id, small), ["zipf-0.9"], SEEDS)
    for name in asked.metrics:
        assert np.array_equal(asked.metrics[name], alone.metrics[name]), name


def test_savings_against_the_builtin_row_are_the_shadow_efficiency(env_id, small):
    policy = named_contender("random-action:4", env_id, small)
    seeds = list(SEEDS)
    moved = evaluate(policy, ["zipf-0.9"], seeds).of("random-action:4")[0]
    builtin = evaluate(builtin_contender("greedy", env_id, small), ["zipf-0.9"], seeds).of("greedy")[0]
    shadowed = make_native_env(
        env_id, len(seeds), {**small, "workloads": ["zipf-0.9"], "efficiency": "shadow", "autoreset_mode": "disabled"}
    )
    observations, _ = shadowed.reset(seed=seeds)
    acting = policy.make_policy(shadowed.single_action_space)
    finished = np.zeros(len(seeds), bool)
    while not finished.all():
        masks = shadowed.unwrapped.action_masks() if env_id == VICTIM else None
        observations, _, _, finished, infos = shadowed.step(acting.predict(observations, action_masks=masks)[0])
    shadowed.close()
    assert infos["efficiency"] == pytest.approx(builtin - moved)


@pytest.mark.parametrize("mode", ["emergency", "learning", "auto"])
def test_what_is_charged_is_what_the_whole_episode_costs(mode, env_id, small):
    """Also where the built-in algorithm has acted before the agent is first asked, or alone."""
    kwargs = {**small, "mode": mode, "window_volumes": 2.0, "episode_volumes": 4.0}
    played = evaluate(named_contender("random-action:4", env_id, kwargs), ["zipf-0.9"], range(12))
    assert np.array_equal(played.metrics["charged_cost"], played.metrics["moved_blocks"])
    assert (played.metrics["moved_blocks"] > 0).all()


def test_a_seed_names_the_same_episode_under_every_mode(small):
    """With two windows and a share of an eighth, most episodes have no unit of the agent's at all."""
    kwargs = {**small, "mode": "learning", "window_volumes": 2.0, "episode_volumes": 4.0}
    shared = evaluate(Contender("shared", TUNE, kwargs, BuiltinPolicy), ["zipf-0.9"], range(12))
    alone = evaluate(Contender("alone", TUNE, {**kwargs, "mode": "emergency"}), ["zipf-0.9"], range(12))
    assert np.array_equal(shared.metrics["moved_blocks"], alone.metrics["moved_blocks"])


def test_every_policy_plays_the_same_user_writes_and_results_repeat(small):
    judged = named_contender("constant:0.1", TUNE, small)
    first, second = (compare(judged, ["uniform", "shifting-mixture"], SEEDS) for _ in range(2))
    user = first.results.metrics["user_blocks"]
    assert (user == user[0, 0, 0]).all()
    for name, values in first.results.metrics.items():
        assert np.array_equal(values, second.results.metrics[name], equal_nan=True)


def test_rows_do_not_depend_on_which_seeds_play_beside_them(env_id, small):
    contender = builtin_contender("cost-benefit", env_id, small)
    together = evaluate(contender, ["zipf-0.9"], SEEDS)
    alone = evaluate(contender, ["zipf-0.9"], SEEDS[1:2])
    for name in METRICS:
        assert alone.metrics[name][0, 0, 0] == together.metrics[name][0, 0, 1]


def test_episode_seeds_are_what_the_environment_draws(small):
    environment = make_environment(TUNE, small, "uniform", len(SEEDS))
    environment.reset(seed=list(SEEDS))
    drawn = environment.unwrapped.proxy.subsystem.state.volumes["random"]
    assert np.array_equal(drawn, episode_seeds(SEEDS))
    environment.close()


def test_other_placements_keep_the_same_sections_free(small):
    split = next(one for one in compared_builtins(TUNE, small) if one.name == "greedy/user-gc-split")
    triggers = []
    for env_id, kwargs in ((split.env_id, split.env_kwargs), (TUNE, small)):
        environment = make_environment(env_id, kwargs, "uniform", 1)
        triggers.append(environment.unwrapped.proxy.subsystem.warm.config.trigger_sections)
        environment.close()
    assert triggers[0] == triggers[1]


def test_all_shipped_builtins_are_compared_in_suites():
    policies = set(BUILTIN_POLICIES) - {"random"}
    names = [one.name for one in shipped_builtins(TUNE, {})]
    splits = {"temperature", "dac", "sepbit", "update-interval"}
    assert set(names) == {
        *policies,
        *(f"{name}/user-gc-split" for name in policies),
        *(f"{name}/{split}" for name in WITH_USER_SPLITS for split in splits),
    }
    assert len(names) == len(set(names)) == 40 and names[0] == "greedy"
    assert set(listed_builtins(TUNE, {})) < set(names) and set(listed_builtins(VICTIM, {})) < policies
    assert {one.name for one in shipped_builtins(VICTIM, {})} == policies
    assert shipped_builtins(VICTIM, {"builtin": "cat"})[0].name == "cat"
    assert shipped_builtins(PACING, {"builtin": "ssdfs"})[0].name == "ssdfs"
    assert len(shipped_builtins(PACING, {})) == len(BACKGROUNDS) and listed_builtins(PACING, {}) == ()


@pytest.mark.parametrize("name", ["cat/update-interval", "windowed-greedy/user-gc-split", "cost-benefit-envy"])
def test_every_shipped_builtin_plays(name, small):
    assert (evaluate(builtin_contender(name, TUNE, small), ["uniform"], SEEDS).write_amplification > 1.0).all()


def test_informed_oracle_does_not_play_traces(small, tmp_path):
    trace = tmp_path / "mine.csv"
    trace.write_text("time,op,offset,size\n" + "".join(f"{i},W,{4096 * (i * 37 % 500)},4096\n" for i in range(2000)))
    workload = f"trace:{trace}"
    clairvoyant, informed = (evaluate_oracle(kind, TUNE, small, [workload], SEEDS) for kind in OracleKind)
    assert (clairvoyant.metrics["write_amplification"] >= 1.0).all()
    assert np.isnan(informed.metrics["write_amplification"]).all()


def test_unknown_names_are_told():
    with pytest.raises(UserError, match=r"unknown policy 'greddy'.*Did you mean 'greedy'"):
        named_contender("greddy", TUNE, {})
    with pytest.raises(UserError, match="unknown placement"):
        named_contender("greedy/nowhere", TUNE, {})
    with pytest.raises(UserError, match="numbers separated by commas"):
        named_contender("constant:a", TUNE, {})
    with pytest.raises(UserError, match="unknown environment"):
        compared_builtins("kml/Nothing-v0", {})
    with pytest.raises(UserError, match="actions are numbers"):
        evaluate(named_contender("constant:0", VICTIM, {"segments": 64, "utilisation": 0.6}), ["uniform"], [1])


def made_up(agent):
    """A comparison of made-up numbers: two built-in algorithms that are each best on one of two workloads."""
    amplification = np.array([[2.0, 8.0], [4.0, 2.0], agent, [1.5, 1.5], [np.nan, 1.8]])[:, :, None]
    names = ("greedy", "cost-benefit", "agent (ppo)", "clairvoyant oracle", "informed oracle")
    metrics = {"moved_blocks": 100 * (amplification - 1), "user_blocks": np.full((5, 2, 1), 100.0)}
    results = Evaluation(names, ("one", "two"), (1,), metrics | {"write_amplification": amplification})
    return Comparison(results, "agent (ppo)", "greedy", names[:2], TUNE)


def test_report_says_who_won_and_by_how_much():
    better, worse, equal = (made_up(agent) for agent in ([2.0, 2.0], [4.0, 4.0], [4.0, 2.0]))
    assert better.results.best_single(better.builtins) == "cost-benefit"
    assert better.results.best_per_workload(better.builtins).tolist() == [2.0, 2.0]
    assert verdict(better).startswith(
        "The agent (ppo) beats the best single built-in algorithm (cost-benefit) by 29.3 %"
    )
    assert "does not beat" in verdict(worse) and "41.4 % worse" in verdict(worse)
    assert "equals the best single built-in algorithm" in verdict(equal)
    text = describe(better)
    assert "*2.000" in text and "geometric mean" in text and "-\n" in text.replace(" ", "")
    assert "with hindsight (2.000)" in text
    # Scores: (8 - 2) / (8 - 1.5) on the second workload, 0 / 0.5 on the first.
    assert better.scores().ravel() == pytest.approx([0.0, 6 / 6.5])


def test_closing_report_has_all_rows_and_columns(env_id, small):
    environment = make_environment(env_id, small, "uniform", 1)
    policy = BuiltinPolicy(environment.single_action_space)
    environment.close()
    text = closing_report(env_id, small, policy, workloads=["uniform", "zipf-0.9"], seeds=SEEDS, algo="ppo")
    for word in (
        "uniform",
        "zipf-0.9",
        "geometric mean",
        "greedy",
        "atgc",
        "agent",
        "(ppo)",
        "clairvoyant",
        "informed",
    ):
        assert word in text
    assert "The agent (ppo)" in text and "best single built-in algorithm" in text
    assert "Normalized score 0.000 [0.000, 0.000]" in text


def test_results_of_different_episodes_are_not_joined(small):
    parts = [evaluate(builtin_contender("greedy", TUNE, small), ["uniform"], seeds) for seeds in ((1,), (2,))]
    with pytest.raises(ValueError, match="same workloads and seeds"):
        join(parts)


def test_table_is_aligned():
    text = format_table(["workload", "cost-benefit/user-gc-split", "agent (ppo)"], [["a", "1.0", "-"]])
    assert text.splitlines()[-1].split() == ["a", "1.0", "-"]
    assert len(text.splitlines()) == 6


def test_what_an_oracle_does_not_tell_is_unknown():
    played = Evaluation(("greedy",), ("uniform",), (1, 2), {name: np.ones((1, 1, 2)) for name in ("moved_blocks", "x")})
    oracle = Evaluation(("oracle",), ("uniform",), (1, 2), {"moved_blocks": np.zeros((1, 1, 2))})
    joined = join([played, oracle])
    assert joined.of("oracle").tolist() == [[0.0, 0.0]]
    assert np.isnan(joined.of("oracle", "x")).all() and joined.of("greedy", "x").tolist() == [[1.0, 1.0]]
