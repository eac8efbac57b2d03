"""The table of deployments under mode `auto`."""

import numpy as np
import pytest

from agents.baselines import named_contender
from agents.deployment import deploy

SMALL = {"segments": 64, "blocks_per_segment": 16, "utilisation": 0.75, "warm_volumes": 1.0}


class CostBenefit:
    """Picks the candidate with the best cost-benefit, by its feature."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False, action_masks=None):
        features = observation[:, 29:].reshape(len(observation), 32, 8)
        return np.where(action_masks, features[:, :, 6], -1.0).argmax(axis=1), state


def test_a_random_policy_is_not_trusted():
    judged = named_contender("random-action", "kml/LfsTune-v0", SMALL)
    report = deploy(judged, ["hot-cold-0.9-0.1"], [1, 2], 20.0)
    assert "The proxy would have trusted it in 0 of 2 runs." in report
    assert "hot-cold-0.9-0.1" in report and "0/2" in report


@pytest.mark.slow
def test_a_better_policy_is_trusted_and_the_table_says_when():
    from dataclasses import replace

    judged = named_contender("random-action", "kml/LfsVictim-v0", {**SMALL, "share": 0.3})
    better = replace(judged, name="agent", make_policy=lambda space: CostBenefit())
    report = deploy(better, ["hot-cold-0.95-0.05"], [1, 2, 3], 120.0)
    assert "trusted it in 0 of" not in report
