"""Greedy and cost-benefit on hot and cold blocks, against runs of an independent simulator (± 1 %).

Age in the cost-benefit formulas is time since the last block was added to the segment (MtimeRule.LAST_WRITE): the
runs that are reproduced here cannot tell it from the weighted mean that F2FS keeps, except under the square root,
where the weighted mean is 2-3 % off.
"""

import pytest
from steady_volumes import on_demand, steady_amplification

from kml_envs.lfs.config import CleaningPolicy, Geometry, LfsConfig, Placement
from kml_envs.workloads.synthetic import hot_cold

WITHIN = 0.03
SPLIT = Placement.USER_GC_SPLIT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hot_writes", "spare", "greedy_mixed", "greedy", "cost_benefit", "square_root"),
    [(0.8, 0.10, 5.19, 5.16, 4.41, 4.50), (0.9, 0.10, 5.90, 5.54, 3.18, 3.48), (0.9, 0.20, 3.48, 3.10, 1.89, 2.09)],
)
def test_policies_write_as_much_as_measured_elsewhere(
    hot_writes, spare, greedy_mixed, greedy, cost_benefit, square_root
):
    workload = hot_cold(hot_writes, 1 - hot_writes)

    def simulated(policy, placement=SPLIT):
        return steady_amplification(on_demand(spare, policy, placement=placement), workload, 10, 4)

    assert simulated(CleaningPolicy.GREEDY, Placement.ONE_LOG) == pytest.approx(greedy_mixed, rel=WITHIN)
    assert simulated(CleaningPolicy.GREEDY) == pytest.approx(greedy, rel=WITHIN)
    assert simulated(CleaningPolicy.COST_BENEFIT) == pytest.approx(cost_benefit, rel=WITHIN)
    assert simulated(CleaningPolicy.COST_BENEFIT_SQRT) == pytest.approx(square_root, rel=WITHIN)


@pytest.mark.slow
def test_cost_benefit_moves_a_quarter_of_what_greedy_moves_when_writes_are_very_skewed():
    moved = {
        policy: steady_amplification(on_a_large_volume(policy), hot_cold(0.95, 0.05), 10, 5) - 1
        for policy in (CleaningPolicy.GREEDY, CleaningPolicy.COST_BENEFIT)
    }
    assert moved[CleaningPolicy.GREEDY] == pytest.approx(3.2, abs=0.15)
    assert moved[CleaningPolicy.COST_BENEFIT] == pytest.approx(0.7, abs=0.05)


def on_a_large_volume(policy):
    config = on_demand(0.15, policy, placement=SPLIT)
    return LfsConfig(
        Geometry(segments=2048, blocks_per_segment=64, utilisation=0.85), config.placement, config.cleaning
    )
