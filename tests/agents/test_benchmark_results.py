"""Tables of the results: their numbers, their files, and the command that prints them."""

import csv
import dataclasses
import io
import json
import sys

import numpy as np
import pytest

from agents.baselines import TUNE, VICTIM, Contender, RandomPolicy, builtin_contender, named_contender
from agents.benchmark_goals import goal_rows, reached
from agents.benchmark_latencies import stall_table
from agents.benchmark_plots import plot_suite
from agents.benchmark_results import Curve, SuiteResult, performance_profile, read_evaluation, write_evaluation
from agents.benchmark_suites import (
    SKEWED,
    START,
    SUITES,
    BenchmarkSuite,
    play_agent,
    play_deployment,
    start_contender,
    start_text,
)
from agents.benchmark_tables import describe_suite, markdown_suite, write_suite_csv, write_suite_json
from agents.damon_environments import BEST_STATIC
from agents.goals import DEPLOYMENT, Goal, GoalKind
from agents.judging import JudgingOptions, judge
from agents.measures import MEAN_SCORE, WRITE_AMPLIFICATION
from agents.playing import evaluate
from agents.results import CHARGED_COST, METRICS, Evaluation, join
from agents.rule_search import RulePolicy
from agents.statistics import Interval
from agents.suite_report import version_warning
from kml_envs.errors import UserError
from kml_envs.lfs.oracle import OracleKind
from kml_envs.suites import SUITE_VERSION

USER_BLOCKS = 1000.0
CLAIRVOYANT = OracleKind.CLAIRVOYANT.value


def evaluation(costs):
    """Policies by name with their write amplification on two workloads, the same in both episodes."""
    amplification = np.repeat(np.array(list(costs.values()), float)[..., None], 2, axis=2)
    metrics = {name: np.ones_like(amplification) for name in METRICS}
    metrics["write_amplification"] = amplification
    metrics["user_blocks"] = np.full_like(amplification, USER_BLOCKS)
    metrics["moved_blocks"] = metrics[CHARGED_COST] = (amplification - 1.0) * USER_BLOCKS
    return Evaluation(tuple(costs), ("skewed", "uniform"), (1, 2), metrics)


@pytest.fixture
def result():
    """Two built-in algorithms, an oracle, and three training seeds."""
    references = evaluation({"greedy": (4.0, 3.0), "cost-benefit": (2.0, 4.0), CLAIRVOYANT: (1.0, 1.0)})
    runs = {seed: evaluation({"agent": costs}) for seed, costs in enumerate(((1.0, 3.0), (1.5, 3.0), (1.6, 3.3)))}
    deployments = {seed: evaluation({"agent": (3.0, 3.0), "built-in": (4.0, 3.0)}) for seed in runs}
    curves = {seed: Curve(np.array([0.0, 100.0]), np.array([0.0, 0.1 * seed])) for seed in runs}
    goals = (
        Goal(GoalKind.BEST_OF_EACH, 0.1),
        Goal(GoalKind.WORST_WORKLOAD, -0.02),
        Goal(GoalKind.NORMALIZED_SCORE, 0.5, CLAIRVOYANT),
    )
    suite = BenchmarkSuite("try-out", TUNE, "ppo", goals=goals, deployment={"episode_volumes": 60.0})
    return SuiteResult(suite, references, runs, deployments, curves)


@pytest.fixture
def scored():
    """A score of which more is better, on the same two workloads, of a suite without deployment."""

    def scores(values):
        array = np.repeat(np.array(list(values.values()), float)[..., None], 2, axis=2)
        return Evaluation(tuple(values), ("skewed", "uniform"), (1, 2), {"score": array})

    references = scores({"prcl": (0.0, 0.2), "senpai": (-0.1, 0.4), "clairvoyant": (0.5, 0.5)})
    runs = {seed: scores({"agent": values}) for seed, values in enumerate(((0.1, 0.3), (0.2, 0.3), (0.3, 0.4)))}
    suite = dataclasses.replace(SUITES["damon-reclaim"], name="try-out")
    return SuiteResult(suite, references, runs, {}, {})


def test_gains_are_over_the_best_builtin_of_each_workload(result):
    names, costs = result.best_builtin()
    assert (names, costs.tolist()) == (["cost-benefit", "greedy"], [2.0, 3.0])
    assert result.best_single() == "cost-benefit"  # 8 against 12 in product
    assert result.gains() == pytest.approx(np.array([[0.5, 0.0], [0.25, 0.0], [0.2, -0.1]]))
    saving = result.gain(costs)
    expected = 1.0 - np.sqrt(np.array([3.0, 4.5, 1.6 * 3.3]) / 6.0)
    assert saving.estimate == pytest.approx(expected.mean())
    assert (saving.low, saving.high) == pytest.approx((expected.min(), expected.max()))
    assert result.deployed_gain() == pytest.approx(np.array([[0.25, 0.0]] * 3))


def test_a_narrower_list_is_compared_beside_all(result):
    suite = dataclasses.replace(result.suite, env_id=VICTIM)
    references = {"greedy": (4.0, 3.0), "fifo": (5.0, 3.5), "windowed-greedy": (2.0, 2.0), CLAIRVOYANT: (1.0, 1.0)}
    wider = dataclasses.replace(result, suite=suite, references=evaluation(references))
    assert wider.listed == ("greedy", "fifo") and result.listed == ()  # there it is greedy/user-gc-split and so on
    assert wider.best_builtin()[0] == ["windowed-greedy"] * 2
    names, costs = wider.best_builtin(wider.listed)
    assert (names, costs.tolist()) == (["greedy", "greedy"], [4.0, 3.0])
    assert wider.notable == ("greedy", "fifo", "windowed-greedy")
    text = describe_suite(wider)
    assert "the best of all 3 built-in algorithms on each workload" in text
    gain = WRITE_AMPLIFICATION.gain_text(wider.gain(costs))
    assert f"beats the best of greedy, cost-benefit, atgc, fifo and d-choices with user/GC split: {gain}." in text


def test_scores_and_probabilities(result):
    score = result.normalized_score(CLAIRVOYANT)
    runs = np.array([[1.0, 0.0], [2.5 / 3, 0.0], [2.4 / 3, -0.15]]).mean(axis=1)
    assert score.estimate == pytest.approx(runs.mean())
    assert np.isnan(result.normalized_score(OracleKind.INFORMED.value).estimate)
    # Against greedy: always better on the first workload; equal, equal and worse on the second.
    assert result.probability_of_improvement("greedy").estimate == pytest.approx((3.0 + 0.5 + 0.5) / 6)
    assert result.probability_of_improvement("cost-benefit").estimate == 1.0
    levels = np.array([-0.2, 0.0, 0.25, 0.6])
    assert performance_profile(result.gains(), levels) == pytest.approx(np.array([1.0, 5 / 6, 2 / 6, 0.0]))


def test_of_a_score_more_is_better_and_differences_count(scored):
    names, values = scored.best_builtin()
    assert (names, values.tolist()) == (["prcl", "senpai"], [0.0, 0.4])
    assert scored.best_single() == "senpai"  # 0.15 against 0.1 in mean
    assert scored.gains() == pytest.approx(np.array([[0.1, -0.1], [0.2, -0.1], [0.3, 0.0]]))
    assert scored.gain(values).estimate == pytest.approx(np.mean([0.0, 0.05, 0.15]))
    assert scored.probability_of_improvement("senpai").estimate == pytest.approx((3.0 + 0.5) / 6)
    means = np.array([0.2, 0.25, 0.35])
    expected = {GoalKind.BEST_SINGLE_SHARE: (means / 0.15 - 1).mean(), GoalKind.SHARE_OF_ORACLE: means.mean() / 0.5}
    got = {goal.kind: reached(goal, scored).estimate for goal in scored.suite.goals if goal is not DEPLOYMENT}
    assert got == pytest.approx(expected)
    text = describe_suite(scored)
    assert "0.0667 [0.0000, 0.1500] higher in mean" in text and "-0.0667" in text
    assert "Its worst workload is uniform: 0.0667 [0.0000, 0.1000] lower than the best built-in." in text
    assert "at least 80 %; the agent has 53.3 % [40.0, 70.0]: not reached" in text


def test_neither_oracles_nor_the_start_are_builtin_algorithms(scored):
    parts = [scored.references]
    for name, value in ((BEST_STATIC, 0.45), (START, 0.2)):
        values = {"score": np.full((1, 2, 2), value)}
        parts.append(Evaluation((name,), scored.references.workloads, scored.references.seeds, values))
    result = dataclasses.replace(scored, references=join(parts))
    assert result.builtins == ("prcl", "senpai")
    assert result.oracles == ("clairvoyant", BEST_STATIC)
    text = describe_suite(result)
    assert "best single built-in algorithm (senpai)" in text
    assert "constant action that its training begins with: 0.0667 [0.0000, 0.1500] higher in mean." in text
    lines = text.splitlines()
    row = next(line.split() for line in lines if line.startswith("skewed"))
    assert row[:5] == ["skewed", "prcl", "0.0000", "-0.1000", "0.2000"]  # the start stands before the agent
    assert row[-2:] == ["0.5000", "0.4500"] and "[" in row[6]


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_compares_with_what_training_begins_with(name):
    start = start_contender(SUITES[name])
    assert (start.name, start.env_id, start.builtin) == (START, SUITES[name].env_id, False)
    rules = ("lfs-victim", "lfs-pacing")
    assert start_text(SUITES[name]) == ("linear rule" if name in rules else "constant action")


def test_nothing_is_compared_where_training_begins_with_nothing():
    nothing = BenchmarkSuite("try-out", TUNE, "a2c")
    assert start_contender(nothing) is None


def test_the_rule_of_choosing_victims_plays(small):
    """By valid share alone it is greedy: the built-in algorithm's own choice is the first candidate."""
    greedy = Contender("rule", VICTIM, small, lambda space: RulePolicy({"valid_share": -1.0}))
    rule, builtin = (
        evaluate(one, ["zipf-0.9"], (1, 2)) for one in (greedy, builtin_contender("greedy", VICTIM, small))
    )
    assert np.array_equal(rule.metrics["moved_blocks"], builtin.metrics["moved_blocks"])
    searched = evaluate(named_contender("rule", VICTIM, small), ["zipf-0.9"], (1, 2))
    assert searched.write_amplification < builtin.write_amplification


def test_a_score_may_count_on_some_workloads_only(result):
    [score] = {result.normalized_score(CLAIRVOYANT, ("skewed", "elsewhere")).estimate}
    assert score == pytest.approx(np.mean([1.0, 2.5 / 3, 2.4 / 3]))
    assert np.isnan(result.normalized_score(CLAIRVOYANT, ("elsewhere",)).estimate)
    goal = Goal(GoalKind.NORMALIZED_SCORE, 0.5, CLAIRVOYANT, ("skewed",))
    [(what, *_, verdict)] = goal_rows(
        dataclasses.replace(result, suite=dataclasses.replace(result.suite, goals=(goal,)))
    )
    assert what == "normalized score against the clairvoyant oracle on skewed" and verdict == "reached"
    assert SKEWED == ("zipf-0.99", "hot-cold-0.8-0.2", "hot-cold-0.95-0.05", "shifting-mixture")


def test_gains_and_losses_in_words():
    assert WRITE_AMPLIFICATION.gain_text(Interval(0.054, 0.046, 0.058)) == "5.4 % [4.6, 5.8] lower in geometric mean"
    assert WRITE_AMPLIFICATION.gain_text(Interval(-0.05, -0.06, 0.01)) == "5.0 % [-1.0, 6.0] higher in geometric mean"
    assert MEAN_SCORE.gain_text(Interval(-0.25, -0.25, -0.25)) == "0.2500 lower in mean"


def test_no_number_is_minus_zero():
    assert WRITE_AMPLIFICATION.change_text(-0.0004) == "+0.0 %"
    assert (MEAN_SCORE.change_text(-0.00001), MEAN_SCORE.value_text(-0.00001)) == ("+0.0000", "0.0000")
    assert (MEAN_SCORE.change_text(-0.0001), MEAN_SCORE.value_text(-0.0001)) == ("-0.0001", "-0.0001")


def test_stalls_are_told_for_each_workload():
    def tails(**seconds):
        metrics = {name: np.ones((len(seconds), 2, 2)) for name in METRICS}
        stalls = np.array(list(seconds.values()), float)[..., None] * 1000.0
        metrics["stall_ms"] = np.repeat(stalls, 2, axis=2)
        return Evaluation(tuple(seconds), ("skewed", "uniform"), (1, 2), metrics)

    references = tails(f2fs=(50.0, 1000.0), cleanerd=(7.5, 2.0))
    runs = {seed: tails(agent=(1.0 + seed, 0.05)) for seed in range(3)}
    suite = dataclasses.replace(SUITES["lfs-pacing"], name="try-out", deployment={})
    header, body = stall_table(SuiteResult(suite, references, runs, {}, {}))
    assert header == ["stall s on each workload", "f2fs", "cleanerd", "agent"]
    assert body == [["skewed", "100.0", "15.0", "4.0"], ["uniform", "2,000.0", "4.0", "0.1"]]


def test_the_worst_workload_is_that_of_the_interquartile_means(result):
    """One run of five is far off on one workload: the mean would name that workload, the table does not show it."""
    costs = [(2.0, 3.09)] * 4 + [(3.0, 3.09)]
    runs = {seed: evaluation({"agent": values}) for seed, values in enumerate(costs)}
    off = dataclasses.replace(result, runs=runs)
    assert off.gains().mean(axis=0) == pytest.approx([-0.1, -0.03])
    workload, worst = off.worst_gain(off.best_builtin()[1])
    assert workload == "uniform" and worst.estimate == pytest.approx(-0.03)
    assert worst.high == pytest.approx(-0.03) and worst.low < -0.03  # draws with the run that is off several times
    goal = Goal(GoalKind.WORST_WORKLOAD, -0.02)
    assert reached(goal, off) == worst
    [*_, row] = goal_rows(dataclasses.replace(off, suite=dataclasses.replace(off.suite, goals=(goal,))))
    assert row[2].startswith("-3.0 % [-") and row[2].endswith(", -3.0]") and row[3] == "not reached"
    alone = dataclasses.replace(off, runs={0: runs[0]})
    assert alone.worst_gain(off.best_builtin()[1])[1].low == pytest.approx(-0.03)


def test_the_dearest_deployment_is_named_and_judged(result):
    def deployed(costs):
        """Charged under auto in two episodes on two workloads; the built-in algorithm alone pays 100 and 50."""
        played = evaluation({"agent": (3.0, 3.0), "built-in": (4.0, 3.0)})
        charged = np.array([costs, [[100.0, 100.0], [50.0, 50.0]]])
        return dataclasses.replace(played, metrics={**played.metrics, CHARGED_COST: charged})

    runs = {0: [[90.0, 101.0], [50.0, 50.0]], 3: [[106.0, 96.0], [50.5, 52.0]], 7: [[100.0, 101.0], [50.0, 50.0]]}
    suite = dataclasses.replace(result.suite, goals=(DEPLOYMENT,))
    made = dataclasses.replace(result, suite=suite, deployments={seed: deployed(costs) for seed, costs in runs.items()})
    assert made.extra_cost() == pytest.approx(np.array([[-0.045, 0.0], [0.01, 0.025], [0.005, 0.0]]))
    dearest = made.dearest()
    assert (dearest.training_seed, dearest.workload, dearest.episode_seed) == (3, "uniform", None)
    assert dearest.share == pytest.approx(0.025)
    single = made.dearest(single=True)
    assert (single.training_seed, single.workload, single.episode_seed) == (3, "skewed", 1)
    assert single.share == pytest.approx(0.06)
    [(_, wanted, got, verdict)] = goal_rows(made)
    assert (wanted, got, verdict) == ("at most 3 %", "2.5 % (training seed 3, uniform)", "reached")
    text = describe_suite(made)
    assert "at most +2.50 % of what the built-in algorithm alone costs (greedy): training seed 3, uniform." in text
    assert "In a single episode it is at most +6.00 %: training seed 3, skewed, episode 1." in text
    row = next(line for line in text.splitlines() if line.startswith("skewed"))
    assert row.endswith("+1.0 %")  # the largest over the seeds, not their interquartile mean
    dear = dataclasses.replace(made, deployments={0: deployed([[104.0, 104.0], [50.0, 50.0]])})
    assert goal_rows(dear)[0][3] == "not reached"
    assert goal_rows(dataclasses.replace(made, deployments={})) == []


def test_deployment_that_costs_nothing_has_no_extra_cost(result):
    played = evaluation({"agent": (3.0, 3.0), "built-in": (4.0, 3.0)})
    charged = np.array([[[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    free = dataclasses.replace(played, metrics={**played.metrics, CHARGED_COST: charged})
    assert dataclasses.replace(result, deployments={0: free}).extra_cost().tolist() == [[0.0, np.inf]]


def test_goals_say_what_was_reached(result, tmp_path):
    rows = goal_rows(result)
    assert [(row[1], row[3]) for row in rows] == [
        ("at least 10 %", "reached"),
        ("at least -2 %", "not reached"),
        ("at least 0.50", "not reached"),
    ]
    own = Goal(GoalKind.OWN_BUILTIN, 0.2, "write_amplification")  # 7 of the built-in algorithm, 4, 4.5 and 4.9
    assert reached(own, result).estimate == pytest.approx(1 - (4 + 4.5 + 4.9) / 21)


def test_files_and_texts_say_the_same(result, tmp_path):
    for text in (describe_suite(result), markdown_suite(result)):
        assert "The agent beats the best single built-in algorithm (cost-benefit)" in text
        assert f"suite version {SUITE_VERSION}" in text and "3 training seeds" in text
        assert "Its worst workload is uniform: 3.3 % [0.0, 10.0] higher than the best built-in." in text
    assert all(
        line.count("|") == markdown_suite(result).splitlines()[2].count("|")
        for line in markdown_suite(result).splitlines()[2:7]
    )
    write_suite_json(tmp_path / "out.json", result)
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["suite_version"] == SUITE_VERSION and content["agent"] == [[1.0, 3.0], [1.5, 3.0], [1.6, 3.3]]
    assert content["gain_over_best_of_each"]["estimate"] == result.gain(result.best_builtin()[1]).estimate
    write_suite_csv(tmp_path / "out.csv", result)
    with (tmp_path / "out.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == (3 + 3) * 2 * 2 and {row["training_seed"] for row in rows} == {"", "0", "1", "2"}
    pictures = plot_suite(tmp_path, result)
    assert len(pictures) == 4 and all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_evaluations_come_back_from_their_files(result, tmp_path):
    write_evaluation(tmp_path / "played.npz", result.references)
    again = read_evaluation(tmp_path / "played.npz")
    assert dataclasses.replace(again, metrics={}) == dataclasses.replace(result.references, metrics={})
    assert all(np.array_equal(again.metrics[name], values) for name, values in result.references.metrics.items())


def test_agents_play_alone_and_under_mode_auto(small):
    suite = BenchmarkSuite(
        "try-out",
        TUNE,
        "ppo",
        deployment={"episode_volumes": 6.0},
        env_kwargs=without_workloads(small),
        workloads=("uniform",),
        episode_seeds=(1, 2),
    )
    policy = RandomPolicy(box())
    assert play_agent(suite, policy).write_amplification.shape == (1, 1)
    deployed = play_deployment(suite, policy)
    assert deployed.policies == ("agent", "built-in") and (deployed.write_amplification > 1.0).all()
    assert play_deployment(dataclasses.replace(suite, deployment={}), policy) is None


def test_the_command_plays_a_suite(small, monkeypatch):
    suite = dataclasses.replace(SUITES["lfs-tune"], workloads=("uniform",), deployment={})
    monkeypatch.setitem(SUITES, "lfs-tune", suite)
    arguments = {"workloads": ("lfs-tune",), "n_seeds": 1, "env_kwargs": without_workloads(small)}
    told = io.StringIO()
    assert "lfs-tune: write amplification" in judge(JudgingOptions(quiet=True, **arguments), told)
    assert told.getvalue() == ""
    monkeypatch.setattr("agents.suite_report.SUITE_VERSION", SUITE_VERSION + 1)
    warning = (
        f"lfs-tune:1 was trained on version {SUITE_VERSION} of the suites, and plays version {SUITE_VERSION + 1} here"
    )
    assert version_warning("lfs-tune:1") == f"warning: {warning}"
    for changes, reason in (
        ({"policy": "greedy"}, "do not go with it"),
        ({"mode": "learning"}, "do not go with it"),
        ({"workloads": ("lfs-victim",), "agent": "lfs-tune"}, "was trained on kml/LfsTune-v0"),
        ({"workloads": ("lfs-tuna",), "agent": "lfs-tune"}, "unknown workload"),
    ):
        with pytest.raises(UserError, match=reason):
            judge(JudgingOptions(**{**arguments, **changes}), sys.stderr)


def without_workloads(small):
    return {key: value for key, value in small.items() if key != "workloads"}


def box():
    import gymnasium

    return gymnasium.spaces.Box(-1.0, 1.0, (12,), np.float32)
