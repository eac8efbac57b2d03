"""The price of a processor in `kml/DamonMonitor-v0` is what the command measures."""

import pytest

from kml_envs.damon.monitor_tuning import CPU_PRICE
from tools.monitor_price import measure, price


def test_the_shipped_price_is_what_the_command_prints_and_makes_both_terms_equal():
    error, share = measure()
    assert price(error, share) == CPU_PRICE
    assert error == pytest.approx(CPU_PRICE * share, rel=0.005)
