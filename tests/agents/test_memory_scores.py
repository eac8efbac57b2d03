"""Comparisons on DAMON's environments."""

import json

import numpy as np
import pytest

from agents.baselines import ConstantPolicy, Contender, builtin_contender, compared_builtins, names_of, suite_of
from agents.damon_environments import COMMON_METRICS, DAMON_ENVIRONMENTS, MONITOR, RECLAIM, TIER
from agents.deployment import Deployments, deploy
from agents.evaluation import compare, report
from agents.exports import write_json
from agents.playing import play
from agents.plots import write_plot
from kml_envs.errors import UserError

SMALL = {"episode_s": 20.0, "warm_s": 2.0, "max_nr_regions": 100}
IDLE = (1.0, 1.0, 0.0, 0.5, 1.0, 0.0)
BRISK = (-0.5, -0.5, 0.5, -1.0, 0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def comparison():
    judged = Contender("agent (idle)", RECLAIM, SMALL, lambda space: ConstantPolicy(space, IDLE))
    return compare(judged, ("sort-rows", "bursts-2-1"), (1, 2))


def test_an_agent_that_does_nothing_scores_like_an_idle_builtin_algorithm(comparison):
    results = comparison.results
    np.testing.assert_allclose(results.of("agent (idle)", "score"), results.of("damon_reclaim", "score"), atol=1e-12)
    assert (results.of("clairvoyant", "score") >= results.of("prcl", "score")).all()


def test_the_report_says_who_won(comparison):
    text = report(comparison)
    assert "the best single built-in algorithm (" in text
    assert "sort-rows" in text and "clairvoyant" in text
    assert "loses 0." in text


def test_tiering_is_compared_by_its_slowdown_and_with_two_oracles():
    judged = Contender("agent (brisk)", TIER, SMALL, lambda space: ConstantPolicy(space, BRISK))
    compared = compare(judged, ("sqlite-queries", "zigzag"), (1, 2))
    results = compared.results
    assert results.policies[-2:] == ("best static", "clairvoyant")
    assert (results.of("best static", "score") <= results.of("clairvoyant", "score")).all()
    assert (results.of("clairvoyant", "score") >= results.of("agent (brisk)", "score")).all()
    text = report(compared)
    less = 1.0 - results.of("agent (brisk)", "slowdown").mean() / results.of("mem_tier", "slowdown").mean()
    assert f"its slowdown is {abs(100 * less):.0f} % {'smaller' if less >= 0 else 'larger'}." in text
    assert names_of(TIER, suite_of(TIER, "held-out"))[0] == "bursts-4-21"


def test_results_are_written(comparison, tmp_path):
    write_json(tmp_path / "scores.json", comparison, {"env": RECLAIM})
    content = json.loads((tmp_path / "scores.json").read_text())
    assert "write_amplification" not in content
    assert np.shape(content["metrics"]["score"]) == (7, 2, 2)
    write_plot(tmp_path / "scores.png", comparison)
    assert (tmp_path / "scores.png").stat().st_size > 5000


def test_names_of_memory_workloads(tmp_path):
    assert {"bursts-2-1", "sort-rows"} < set(names_of(RECLAIM, suite_of(RECLAIM, "train")))
    assert names_of(RECLAIM, "memory-real-train") == ("sqlite-queries", "sort-rows", "gcc-compile")
    with pytest.raises(UserError, match=r"memory workload 'zipf-1\.1'"):
        names_of(RECLAIM, ["zipf-1.1"])
    with pytest.raises(UserError, match=r"nothing\.csv"):
        names_of(RECLAIM, [f"trace:{tmp_path}/nothing.csv"])


def test_builtin_algorithms_play_in_the_agents_place():
    names = [contender.name for contender in compared_builtins(RECLAIM, {"share": 0.5})]
    assert names == ["damon_reclaim", "prcl", "prcl_auto", "pdarc", "senpai"]


@pytest.mark.parametrize("env_id", DAMON_ENVIRONMENTS)
def test_every_environment_tells_what_its_entry_names(env_id):
    known = DAMON_ENVIRONMENTS[env_id]
    found = play(builtin_contender(known.builtins[0], env_id, SMALL), "bursts-2-1", (1,))
    # What the proxy charges is the whole cost, of which the score is another view: of reclaim, saving counts from half.
    whole = 0.5 if env_id == RECLAIM else 0.0
    assert found["charged_cost"] == pytest.approx(1000.0 * SMALL["episode_s"] * (whole - found["score"]), rel=1e-6)
    assert {*COMMON_METRICS, *known.metrics, "operations"} <= set(found)
    with pytest.raises(UserError, match="policy 'nothing'"):
        builtin_contender("nothing", env_id, SMALL)


def test_a_monitor_is_judged_by_its_picture_and_its_overhead():
    explained = DAMON_ENVIRONMENTS[MONITOR].explain(
        {"access_error": 0.3, "monitor_cpu_share": 0.002}, {"access_error": 0.4, "monitor_cpu_share": 0.004}, "autotune"
    )
    assert "25.0 % lower than under autotune" in explained
    assert "0.50 times the overhead (0.200 against 0.400 % of a processor)" in explained
    judged = Contender("agent (still)", MONITOR, SMALL, lambda space: ConstantPolicy(space, (-0.2, 0.0, 0.5, 1.0)))
    compared = compare(judged, ("bursts-2-1",), (1, 2))
    assert compared.results.policies == ("autotune", "defaults", "hmsdk", "agent (still)")  # there is no oracle
    text = report(compared)
    assert text.startswith("Score on each workload (minus (access error + ")
    assert "than under autotune (" in text


def test_deployment_counts_in_time():
    judged = Contender("agent (idle)", RECLAIM, SMALL, lambda space: ConstantPolicy(space, IDLE))
    text = deploy(judged, Deployments(RECLAIM, SMALL, ("bursts-2-1",) * 2, (1, 2), 10.0)).text
    assert "for 10 half minutes of the program" in text
    assert "The proxy would have trusted it in 0 of 2 runs." in text
