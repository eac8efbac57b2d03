"""Comparisons and trainings of `kml/LfsPacing-v0`: the right suite, the right measure, and the cleaner to beat."""

import dataclasses

import numpy as np
import pytest

from agents import q_learning_cleaner
from agents.baselines import PACING, Contender, builtin_contender, compared_builtins, named_contender, suite_of
from agents.benchmark_results import SuiteResult
from agents.benchmark_suites import RIVAL, START, SUITES, play_agent, play_deployment, play_references
from agents.benchmark_tables import describe_suite
from agents.callbacks import score
from agents.evaluation import compare, report
from agents.exports import write_csv, write_json
from agents.pace_search import RulePolicy
from agents.pacing_tables import TAILS, verdict
from agents.playing import evaluate, evaluate_together, play
from agents.q_learning_cleaner import QLearningCleaner
from agents.results import Evaluation
from agents.shipped import load_agent
from kml_envs.envs.lfs_pacing import BACKGROUNDS, SHIPPED_COSTS
from kml_envs.errors import UserError

SMALL = {"segments": 64, "blocks_per_segment": 16, "utilisation": 0.75, "warm_volumes": 1.0, "episode_volumes": 1.0}
WORKLOADS = ("zipf-0.99@bursts-100-2000-20", "uniform")


@pytest.fixture(scope="module")
def comparison():
    return compare(named_contender("random-action", PACING, SMALL), WORKLOADS, (1, 2))


def test_the_report_shows_tails_stalls_and_write_amplification(comparison):
    text = report(comparison)
    for word in ("p99.9", "p99.99", "stall", "amplification", *BACKGROUNDS, *WORKLOADS):
        assert word in text
    assert comparison.reference == "f2fs" and comparison.builtins == tuple(BACKGROUNDS)
    assert verdict(comparison).startswith("random-action ")


def test_every_builtin_is_measured_by_the_same_objective():
    costs = [contender.env_kwargs["move_price_us"] for contender in compared_builtins(PACING, {"builtin": "ssdfs"})]
    assert set(costs) == {SHIPPED_COSTS["ssdfs"].move_price_us}
    with pytest.raises(UserError, match="f2fs"):
        named_contender("greedy", PACING, {})


def test_the_rule_that_training_begins_with_plays():
    result = compare(named_contender("rule", PACING, SMALL), WORKLOADS, (1,))
    assert result.reference == "f2fs" and "rule" not in result.builtins
    assert (result.results.of("rule", "cost_ms") < result.results.of("foreground", "cost_ms")).all()


def test_what_is_charged_is_the_cost_that_the_environment_tells(comparison):
    metrics = comparison.results.metrics
    assert metrics["charged_cost"] == pytest.approx(1e6 * metrics["cost_ms"])


def test_results_are_written_without_oracles(comparison, tmp_path):
    write_json(tmp_path / "all.json", comparison, {})
    write_csv(tmp_path / "all.csv", comparison)
    assert "latency_p999_ms" in (tmp_path / "all.json").read_text()
    assert (tmp_path / "all.csv").read_text().splitlines()[0].endswith("background_operations,charged_cost")


def test_suites_are_those_with_arrival_times():
    assert suite_of(PACING, "held-out") == "paced-held-out" and suite_of("kml/LfsTune-v0", "train") == "train"


def test_a_suite_of_latencies_shows_all_measures():
    def achieved(policies, scale):
        values = np.repeat(np.array(scale, float)[:, None, None], 2, axis=2)
        metrics = {name: 10.0 * values for name in (*TAILS.values(), "stalls", "write_amplification")}
        metrics |= {"stall_ms": 1500.0 * values, "moved_blocks": 100.0 * values, "user_blocks": 0.0 * values + 100.0}
        return Evaluation(policies, ("uniform",), (1, 2), metrics)

    references = achieved(("f2fs", "ssdfs"), (2.0, 1.0))
    runs = {seed: achieved(("agent",), (scale,)) for seed, scale in enumerate((0.25, 0.5, 0.75))}
    text = describe_suite(SuiteResult(SUITES["lfs-pacing"], references, runs, {}, {}))
    rows = {row.split()[0]: row for row in text.splitlines() if row.startswith(("f2fs  ", "agent  "))}
    assert rows["f2fs"].split() == ["f2fs", "20.00", "20.00", "20.00", "40", "6.0", "3.000"]
    assert "5.00 [2.50, 7.50]" in rows["agent"] and "1.5 [0.8, 2.2]" in rows["agent"]
    assert "1.500 [1.250, 1.750]" in rows["agent"]
    assert "latency_p999_ms: saved against the environment's own built-in algorithm: at least 40 %" in text


def test_the_shipped_agent_keeps_writes_from_waiting(one_thread):
    kwargs, workload, seeds = {"episode_volumes": 0.5}, "hot-cold-0.8-0.2@bursts-400-1500-30", (1001, 1002)
    model = load_agent("lfs-pacing").model
    agent = play(Contender("agent", PACING, kwargs, lambda space: model), workload, seeds)
    builtin = play(builtin_contender("f2fs", PACING, kwargs), workload, seeds)
    assert (agent["latency_p999_ms"] < 0.6 * builtin["latency_p999_ms"]).all()
    assert agent["stall_ms"].sum() < 0.3 * builtin["stall_ms"].sum()
    assert agent["moved_blocks"].sum() < builtin["moved_blocks"].sum()


def test_workloads_side_by_side_play_as_each_alone():
    contender = named_contender("rule", PACING, SMALL)
    together = evaluate(contender, WORKLOADS, (1, 2))
    for row, workload in enumerate(WORKLOADS):
        for name, values in play(contender, workload, (1, 2)).items():
            assert np.array_equal(together.metrics[name][0, row], values), name


def test_all_episodes_in_one_environment_are_those_of_one_workload_alone():
    contender = named_contender("rule", PACING, SMALL)
    one, alone = (each(contender, WORKLOADS[:1], (1, 2)) for each in (evaluate_together, evaluate))
    assert one.metrics.keys() == alone.metrics.keys()
    for name, values in one.metrics.items():
        assert np.array_equal(values, alone.metrics[name]), name
    both = evaluate_together(contender, WORKLOADS, (1, 2))
    assert both.write_amplification.shape == (1, 2) and both.seeds == (1, 2)
    assert not np.array_equal(both.metrics["stall_ms"][0, 0], both.metrics["stall_ms"][0, 1])


def test_the_suite_trains_and_plays_the_q_learning_cleaner(monkeypatch):
    asked = []
    monkeypatch.setattr(q_learning_cleaner, "trained_cleaner", lambda steps: asked.append(steps) or QLearningCleaner())
    suite = dataclasses.replace(
        SUITES["lfs-pacing"], workloads=WORKLOADS[:1], env_kwargs=SMALL, episode_seeds=(1,), deployment={}
    )
    references = play_references(suite)
    assert asked == [q_learning_cleaner.TIMESTEPS]
    result = SuiteResult(suite, references, {0: play_agent(suite, RulePolicy())}, {}, {})
    assert result.builtins == tuple(BACKGROUNDS) and result.others == (RIVAL, START)
    text = describe_suite(result)
    assert "Against the tabular Q-learning cleaner of Kang et al. (TECS 2017): " in text
    assert "Against the linear rule that its training begins with: 0.0 % lower in geometric mean." in text
    rows = {line.split("  ")[0] for line in text.splitlines()}
    assert {"f2fs", RIVAL, START, "agent"} <= rows
    assert play_references(dataclasses.replace(suite, rival_steps=0)).policies == (*BACKGROUNDS, START)


def test_deployment_charges_what_latencies_and_moved_blocks_cost():
    kwargs = {**SMALL, "window_volumes": 2.0}
    suite = dataclasses.replace(
        SUITES["lfs-pacing"], workloads=WORKLOADS, env_kwargs=kwargs, deployment={"episode_volumes": 40.0}
    )
    deployed = play_deployment(suite, RulePolicy())
    assert deployed.policies == ("agent", "built-in") and deployed.seeds == suite.episode_seeds[:1]
    assert (deployed.metrics["user_blocks"][0] == deployed.metrics["user_blocks"][1]).all()
    assert deployed.metrics["charged_cost"] == pytest.approx(1e6 * deployed.metrics["cost_ms"])
    assert not np.array_equal(*deployed.metrics["charged_cost"])  # it has acted somewhere


def test_score_is_the_log_of_what_the_builtin_paid_over_what_the_agent_paid():
    episode = {"moved_blocks": 1, "user_blocks": 1, "cost_ms": 60.0, "user_ms": 40.0, "efficiency": 100e6}
    assert score(episode) == pytest.approx(np.log(2))
