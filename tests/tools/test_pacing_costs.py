"""The objective's constants of `kml/LfsPacing-v0` are what the command measures."""

import pytest

from kml_envs.envs.lfs_pacing import SHIPPED_COSTS
from tools.pacing_costs import measure, play


@pytest.mark.parametrize("builtin", SHIPPED_COSTS)
def test_shipped_costs_are_what_the_command_prints(builtin):
    assert measure(builtin) == SHIPPED_COSTS[builtin]


def test_both_terms_are_equal_for_the_builtin():
    cost = SHIPPED_COSTS["f2fs"]
    _, excess_ns, moved = play("f2fs", cost.latency_limit_ms)
    assert moved * cost.move_price_us * 1000 == pytest.approx(excess_ns, rel=0.001)
