"""The table of deployments under mode `auto`."""

import numpy as np
import pytest

from agents.baselines import RandomPolicy, named_contender
from agents.deployment import Deployments, can_deploy, deploy
from kml_envs.proxy import Mode

SMALL = {"segments": 64, "blocks_per_segment": 16, "utilisation": 0.75, "warm_volumes": 1.0}


class CostBenefit:
    """Picks the candidate with the best cost-benefit, by its feature."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False, action_masks=None):
        features = observation[:, 29:].reshape(len(observation), 32, 8)
        return np.where(action_masks, features[:, :, 6], -1.0).argmax(axis=1), state


def test_a_random_policy_is_not_trusted():
    judged = named_contender("random-action", "kml/LfsTune-v0", SMALL)
    report = deploy(judged, Deployments(judged.env_id, judged.env_kwargs, ["hot-cold-0.9-0.1"] * 2, [1, 2], 20.0)).text
    assert "The proxy would have trusted it in 0 of 2 runs." in report
    assert "hot-cold-0.9-0.1" in report and "0/2" in report
    assert "20 volumes of user writes, compared in time: 64 segments < 9 x 256\n" in report


@pytest.mark.slow
def test_a_better_policy_is_trusted_and_the_table_says_when():
    from dataclasses import replace

    judged = named_contender("random-action", "kml/LfsVictim-v0", {**SMALL, "share": 0.3})
    better = replace(judged, name="agent", make_policy=lambda space: CostBenefit())
    report = deploy(
        better, Deployments(better.env_id, better.env_kwargs, ["hot-cold-0.95-0.05"] * 3, [1, 2, 3], 120.0)
    ).text
    assert "trusted it in 0 of" not in report


@pytest.mark.slow
def test_a_large_volume_is_compared_in_space():
    large = {**SMALL, "segments": 9 * 256, "blocks_per_segment": 8, "utilisation": 0.8}
    deployments = Deployments("kml/LfsVictim-v0", large, ["hot-cold-0.95-0.05", "uniform"], [1, 2], 24.0)
    outcome = deployments.play(CostBenefit())
    deployments.close()
    assert deployments.comparison == "compared in space: 9 domains of 256 segments"
    assert outcome.trusted.tolist() == [True, False] and outcome.mode.shape == (2,)
    assert outcome.metrics["user_blocks"].tolist() == [24 * 1638] * 2


def test_what_is_played_again_comes_out_the_same():
    deployments = Deployments("kml/LfsVictim-v0", SMALL, ["zipf-0.9", "hot-cold-0.95-0.05"], [1, 2], 24.0)
    first, again = (deployments.play(CostBenefit()) for _ in range(2))
    other = deployments.play(RandomPolicy(deployments.action_space))
    deployments.close()
    np.testing.assert_array_equal(first.evidence, again.evidence)
    np.testing.assert_array_equal(first.metrics["moved_blocks"], again.metrics["moved_blocks"])
    assert not np.array_equal(first.evidence, other.evidence)
    assert first.metrics["user_blocks"].tolist() == [24 * 768] * 2


def test_what_the_builtin_algorithm_alone_pays_changes_nothing():
    deployments = Deployments("kml/LfsVictim-v0", SMALL, ["zipf-0.9", "hot-cold-0.95-0.05"], [1, 2], 24.0)
    first, alone = deployments.play(CostBenefit()), deployments.play_alone()
    again = deployments.play(CostBenefit())
    np.testing.assert_array_equal(alone, deployments.play_alone())
    deployments.close()
    np.testing.assert_array_equal(first.paid, again.paid)
    np.testing.assert_array_equal(first.evidence, again.evidence)
    assert (alone > 0.0).all() and not np.array_equal(alone, first.paid)


def test_a_deployment_may_end_once_the_policy_is_trusted():
    seeds = [1, 2, 3, 4]
    deployments = Deployments("kml/LfsVictim-v0", SMALL, ["hot-cold-0.95-0.05"] * 4, seeds, 80.0)
    outcome = deployments.play(CostBenefit(), until_trusted=True)
    deployments.close()
    assert outcome.trusted.any()
    assert (outcome.mode[outcome.trusted] == Mode.RECOMMENDATION).all()
    assert (outcome.metrics["user_blocks"][outcome.trusted] < 80 * 768).all()
    assert (outcome.collaboration_after <= outcome.recommendation_after)[outcome.trusted].all()


def test_an_own_subsystem_is_deployed_for_so_many_windows(tutorial_module):
    judged = named_contender("random-action", "readahead:tutorial/Readahead-v0", {})
    report = deploy(judged, Deployments(judged.env_id, judged.env_kwargs, (), [1, 2], 8.0)).text
    assert "under mode auto for 8 windows" in report and "all episodes" in report


def test_a_subsystem_without_a_window_cannot_be_deployed(tutorial_module):
    assert can_deploy("readahead:tutorial/Readahead-v0", {})
    assert not can_deploy("readahead:tutorial/Readahead-v0", {"window": None})
